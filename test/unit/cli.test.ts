/** The tsswarm command as users run it: a process, against a scripted node behind the API. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { LiveMessage } from '../../model/live.ts';
import { TaskState } from '../../model/taskState.ts';
import { run, serveNode } from '../support/servedNode.ts';
import { until } from '../support/until.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const served = await serveNode();
const { node } = served;
after(() => served.close());

/** Runs tsswarm and wants it to succeed; its standard output. */
async function tsswarm(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await served.tsswarm(...args);
  assert.equal(code, 0, `tsswarm ${args.join(' ')}: ${stderr}`);
  return stdout;
}

test('node ls prints Docker’s columns and marks this host', async () => {
  const [header, ...rows] = (await tsswarm('node', 'ls')).trimEnd().split('\n');
  assert.match(header, /^ID +HOSTNAME +STATUS +AVAILABILITY +MANAGER STATUS +ENGINE VERSION$/);
  assert.match(rows[0], /^[0-9a-z]{25} \* +h1 +Ready +Active +Leader +0\.1\.0$/);
  assert.match(rows[2], /^[0-9a-z]{25} +h3 +Ready +Active +Reachable +0\.1\.0$/);
});

test('lists obey --format, --filter, -q and --json', async () => {
  const format = ['--format', '{{.Hostname}}={{.Status | upper}}'];
  assert.equal(await tsswarm('node', 'ls', ...format), 'h1=READY\nh2=READY\nh3=READY\n');
  const table = await tsswarm('node', 'ls', '--format', 'table {{.Hostname}}\t{{.Status}}');
  assert.equal(table.split('\n')[0], 'HOSTNAME   STATUS');
  assert.equal((await tsswarm('node', 'ls', '-q', '--filter', 'name=h2')).trim().length, 25);
  const raw = JSON.parse(await tsswarm('node', 'ls', '--json'));
  assert.equal(raw[0].Description.Hostname, 'h1');
  const row = JSON.parse(await tsswarm('node', 'ls', '-f', 'name=h1', '--format', 'json'));
  assert.equal(row.ManagerStatus, 'Leader');
  const inspected = await tsswarm('node', 'inspect', '--json', '--pretty', 'h1');
  assert.equal(JSON.parse(inspected)[0].Description.Hostname, 'h1');
});

test('service create waits, shows progress as lines in a pipe, and pins the digest', async () => {
  await tsswarm('network', 'create', '--subnet', '10.7.0.0/24', '--label', 'a=b', 'front');
  const out = await tsswarm(
    ...['service', 'create', '--name', 'web', '--replicas', '3', '-p', '8080:80', '-e', 'A=1'],
    ...['--network', 'name=front,alias=www', '--limit-cpu', '0.5', '--limit-memory', '64m'],
    ...['--mount', 'type=tmpfs,target=/tmp,tmpfs-size=1m', '--constraint', 'node.role==manager'],
    ...['--restart-delay', '0s', '--update-order', 'start-first', '--host', 'db:10.0.0.9'],
    ...['--log-opt', 'max-size=1m', '--read-only=true', 'web', 'serve', '--port', '80'],
  );
  assert.match(out, /^[0-9a-z]{25}\noverall progress: 3 out of 3 tasks\nservice web converged\n$/);
  const { spec } = node.store.serviceByName('web')!;
  const { container } = spec.task;
  assert.equal(container.image, `web:latest@sha256:${'b'.repeat(64)}`);
  assert.deepEqual(container.args, ['serve', '--port', '80']);
  assert.deepEqual(container.env, ['A=1']);
  assert.deepEqual(container.hosts, ['10.0.0.9 db']);
  assert.equal(container.readOnlyRoot, true);
  assert.equal(container.mounts[0].tmpfsSizeBytes, 1024 * 1024);
  assert.equal(spec.task.limits.nanoCpus, 500_000_000);
  assert.equal(spec.task.restart.delayMs, 0);
  assert.equal(spec.task.restart.condition, 'any');
  assert.equal(spec.update.order, 'start-first');
  assert.deepEqual(spec.task.networks[0].aliases, ['www']);
  assert.deepEqual(spec.task.logOptions, { 'max-size': '1m' });
  assert.match(
    await tsswarm('service', 'ls'),
    /^[0-9a-z]{12} +web +replicated +3\/3 +web:latest +\*:8080->80\/tcp$/m,
  );
  assert.match(await tsswarm('service', 'ps', 'web'), /web\.2 +web:latest +h2 +Running +Running/);
});

test('service update adds, replaces and removes; rollback and scale work', async () => {
  const out = await tsswarm(
    ...['service', 'update', '--env-add', 'A=2', '--env-add', 'B=3', '--publish-add', '9000:90'],
    ...['--publish-rm', '80', '--mount-rm', '/tmp', '--network-rm', 'front', '--label-add', 'x=y'],
    ...['--env-rm', 'NOPE', '--publish-rm', '7', '--label-rm', 'nope'],
    ...['--args', "run 'a b'", '--read-only=false', '--image', 'web:2', '--force', 'web'],
  );
  assert.match(out, /^web\noverall progress: \d out of 3 tasks\n/);
  const { spec } = node.store.serviceByName('web')!;
  assert.deepEqual(spec.task.container.env, ['A=2', 'B=3']);
  assert.deepEqual(spec.task.container.args, ['run', 'a b']);
  assert.equal(spec.task.container.readOnlyRoot, false);
  assert.equal(spec.task.container.image, 'web:2');
  assert.deepEqual(spec.task.container.mounts, []);
  assert.deepEqual(spec.task.networks, []);
  assert.deepEqual(
    spec.ports.map((port) => [port.publishedPort, port.targetPort]),
    [[9000, 90]],
  );
  assert.deepEqual(spec.labels, { x: 'y' });
  assert.equal(spec.task.forceUpdate, 1);
  await tsswarm('service', 'rollback', '-d', 'web');
  assert.deepEqual(node.store.serviceByName('web')!.spec.task.container.env, ['A=1']);
  assert.match(await tsswarm('service', 'scale', 'web=5'), /5 out of 5 tasks/);
  const shown = ['service', 'inspect', '-f', '{{.Spec.Name}} {{.Spec.Mode.Replicated.Replicas}}'];
  assert.equal(await tsswarm(...shown, 'web'), 'web 5\n');
});

test('service logs name the task and the host of each line', async () => {
  node.logLines = [{ stream: 'stdout', text: 'hello' }];
  const logs = await tsswarm('service', 'logs', '--tail', '3', 'web');
  assert.match(logs, /^web\.1\.[0-9a-z]{12}@h1 {4}\| hello$/m);
  const raw = await tsswarm('service', 'logs', '--raw', '-t', 'web');
  assert.match(raw, /^2023-11-14T22:13:20\.123456789Z hello$/m);
});

test('service rm and network rm remove, and report each that is not there', async () => {
  const { code, stdout, stderr } = await served.tsswarm('service', 'rm', 'nope', 'web');
  assert.equal(code, 1);
  assert.equal(stdout, 'web\n');
  assert.equal(stderr, 'tsswarm: service nope not found\n');
  assert.equal(await tsswarm('network', 'rm', 'front'), 'front\n');
});

test('a service that cannot be placed ends with status 2 and the reason, and is kept', async () => {
  node.unplaceable = 'no suitable node (constraint not met on 3)';
  try {
    const { code, stdout, stderr } = await served.tsswarm(
      ...['service', 'create', '--name', 'stuck', '--constraint', 'node.labels.a==b', 'web'],
    );
    assert.equal(code, 2);
    assert.match(stdout, /overall progress: 0 out of 1 tasks/);
    assert.match(stderr, /^tsswarm: 0 of 1 tasks of stuck run: no suitable node \(constraint/);
    assert.ok(node.store.serviceByName('stuck') !== undefined);
  } finally {
    node.unplaceable = '';
    await tsswarm('service', 'rm', 'stuck');
  }
});

test('an update that cannot be placed says how many old tasks run and how many wait', async () => {
  await tsswarm('service', 'create', '--name', 'half', '--replicas', '3', 'web');
  const { id } = node.store.serviceByName('half')!;
  const old = [...node.store.tasksOfService(id)];
  node.unplaceable = 'no suitable node (insufficient resources on 3)';
  try {
    const updating = served.tsswarm('service', 'update', '--reserve-memory', '100g', 'half');
    // As the update of one at a time leaves it: two old tasks are not touched yet.
    await until('the new tasks', 10_000, () => [...node.store.tasksOfService(id)].length >= 6);
    for (const task of [...node.store.tasksOfService(id)].filter((item) => item.slot > 1)) {
      const before = old.find((item) => item.id === task.id);
      if (before === undefined) node.write({ kind: 'remove', table: 'task', id: task.id });
      else {
        const id = `${task.id.slice(0, -1)}_`;
        const object = { ...before, id, generation: before.generation + 1000 };
        node.write({ kind: 'create', table: 'task', object });
      }
    }
    const { code, stderr } = await updating;
    assert.equal(code, 2);
    assert.equal(
      stderr,
      'tsswarm: 2 of 3 tasks of half run, none of them updated; 1 waits: no suitable node ' +
        '(insufficient resources on 3) (the service is kept and tried further)\n',
    );
  } finally {
    node.unplaceable = '';
    await tsswarm('service', 'rm', 'half');
  }
});

test('tasks that ended for good are told at once, without promise of more', async () => {
  await tsswarm('service', 'create', '--restart-condition', 'none', '--name', 'once', 'web');
  const [task] = node.store.tasksOfService(node.store.serviceByName('once')!.id);
  const status = { ...task.status, state: TaskState.FAILED, error: 'exit status 3' };
  node.write({ kind: 'update', table: 'task', object: { ...task, status } });
  const { code, stderr } = await served.tsswarm('service', 'update', '--label-add', 'a=b', 'once');
  assert.equal(code, 2);
  assert.equal(
    stderr,
    'tsswarm: 0 of 1 tasks of once run: exit status 3 ' +
      '(the service is kept; ended tasks stay ended)\n',
  );
  await tsswarm('service', 'rm', 'once');
});

test('every wrong input gets one line and status 1, and changes nothing', async () => {
  const before = node.store.version;
  const create = ['service', 'create'];
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['nod', 'ls'], /^tsswarm: unknown command 'nod' \(did you mean node\?\)$/],
    [['unlock'], /^tsswarm: unknown command 'unlock' \(did you mean swarm unlock\?\)$/],
    [['ca', '--rotate'], /^tsswarm: unknown command 'ca' \(did you mean swarm ca\?\)$/],
    [['logs', '--tail', 'x', 'web'], /^tsswarm: option '-n, --tail <lines>' argument 'x' is inv/],
    [['service', 'logs', '--tail', '-1', 'web'], /^tsswarm: option .* whole number$/],
    [['snapshot', 'save', '/nope/x'], /^tsswarm: \/nope\/x: there is no directory \/nope$/],
    [['snapshot', 'restore', '/nope'], /^tsswarm: \/nope: there is no such file$/],
    [['node', 'sl'], /^tsswarm: unknown command 'sl' \(did you mean ls\?\)$/],
    [['nod', '--help'], /^tsswarm: unknown command 'nod' \(did you mean node\?\)$/],
    [['help', 'foo'], /^tsswarm: unknown command 'foo': see "tsswarm --help"$/],
    [['node', 'help', 'sl'], /^tsswarm: unknown command 'sl' \(did you mean ls\?\)$/],
    [
      ['service', 'update', '--env', 'A=1', 'web'],
      /^tsswarm: unknown option '--env' \(did you mean --env-add\?\)$/,
    ],
    [
      ['events', '--since', 'soon'],
      /^tsswarm: --since: "soon" is no time: write how long ago \(10m, 1h30m\), Unix seconds, or/,
    ],
    [['node', 'ps', 'h9'], /^tsswarm: node h9 not found$/],
    [
      ['node', 'ls', '--fromat', 'x'],
      /^tsswarm: unknown option '--fromat' \(did you mean --format/,
    ],
    [['node', 'ls', '--filter', 'x'], /^tsswarm: invalid filter "x": write it like name=web$/],
    [['node', 'ls', '--filter', 'x=y'], /^tsswarm: invalid filter 'x': use one of id, label/],
    [
      ['node', 'ls', '--format', '{{.ID'],
      /^tsswarm: invalid template "\{\{\.ID": an action is not/,
    ],
    [['node', 'inspect', 'h9'], /^tsswarm: node h9 not found$/],
    [['node', 'update', '--availability', 'x', 'h1'], /^tsswarm: Availability: "x" is none of/],
    [[...create], /^tsswarm: missing required argument 'image': write "tsswarm service create /],
    [[...create, '--replicas', '-1', 'web'], /^tsswarm: --replicas: "-1" is not a whole number/],
    [[...create, '-p', '80:70000', 'web'], /"70000" is not in 1-65535$/],
    [[...create, '-p', '127.0.0.1:80:x', 'web'], /"x" is not in 1-65535$/],
    [[...create, '--network', 'nope', 'web'], /^tsswarm: network nope not found$/],
    [[...create, '--constraint', 'node.role>worker', 'web'], /node\.role>worker/],
    [[...create, '--limit-memory', 'lots', 'web'], /^tsswarm: --limit-memory: invalid size "lots"/],
    [[...create, '--restart-delay', '5', 'web'], /^tsswarm: --restart-delay: invalid duration "5"/],
    [[...create, '--mount', 'type=bind,foo=1', 'web'], /"foo" is not supported: use type, source/],
    [[...create, '--mode', 'once', 'web'], /^tsswarm: --mode once is unknown: use one of replic/],
    [[...create, '--credential-spec', 'file://x', 'web'], /of Windows: leave it out$/],
    [[...create, '--mount', 'type=npipe,dst=/x', 'web'], /named pipes are of Windows$/],
    [[...create, '--ulimit', 'nofile', 'web'], /write NAME=SOFT\[:HARD\]/],
    [[...create, '--mode', 'global', '--replicas', '2', 'web'], /only for replicated services/],
    [[...create, '--log-driver', 'syslog', 'web'], /LogDriver\.Name is not supported by tsswarm/],
    [[...create, '--restart-condition', 'x', 'web'], /RestartPolicy\.Condition: "x" is none of/],
    [['service', 'scale', 'web'], /^tsswarm: invalid scale "web": write SERVICE=REPLICAS/],
    [['service', 'update', '--env-rm', 'A', 'nope'], /^tsswarm: service nope not found$/],
    [['network', 'create', '--subnet', '1.2.3', 'a'], /"1\.2\.3" is no subnet: write 10\.5/],
    [['network', 'create', '--config-only', 'a'], /^tsswarm: --config-only is not supported: /],
    [['build', '-t', 'x', '.'], /^tsswarm: build is not supported: images are not built here/],
    [['compose', 'up'], /^tsswarm: compose is not supported: deploy Compose files/],
    [['help', 'service', 'updte'], /^tsswarm: unknown command 'updte' \(did you mean update/],
    [['run', '--gpus', 'all', 'web'], /^tsswarm: --gpus is not supported: name the devices with/],
    [['volume', 'create', '--type', 'block'], /^tsswarm: --type is not supported: cluster vol/],
    [['secret', 'create', 'a', '/nope'], /^tsswarm: \/nope: there is no such file$/],
    [['cp', 'a', 'b'], /^tsswarm: one side is a container and the other is not/],
    [['swarm', 'update'], /^tsswarm: nothing to change was named/],
    [['stack', 'deploy', 'st'], /^tsswarm: name the stack file: -c FILE/],
    [['stack', 'deploy', '-c', '/nope.yml', 'st'], /^tsswarm: \/nope\.yml: there is no such file$/],
    [['stack', 'deploy', '-c', '/nope.yml', 'a b'], /^tsswarm: invalid stack name "a b"/],
    [['network', 'create', '--gateway', '1.2.3.4', 'a'], /needs a --subnet$/],
    [['image', 'load', '-i', '/nope'], /^tsswarm: \/nope: there is no such file$/],
    [['image', 'rm', 'nope'], /^tsswarm: no such image: nope$/],
    [['join', 'h1:2377'], /^tsswarm: --token is missing/],
    [['join-token', 'boss'], /^tsswarm: unknown role "boss": use worker or manager$/],
    [['-H', 'ftp://x', 'node', 'ls'], /^tsswarm: "ftp:\/\/x" is no address of a daemon/],
    [['daemon', '--log-level', 'loud'], /loud/],
    [['daemon', '-H', 'tcp://0.0.0.0:1'], /^tsswarm: API is accessible on tcp:\S+ without encr/],
    [['daemon', '-H', 'fd://'], /^tsswarm: cannot serve on "fd:\/\/"/],
  ];
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await served.tsswarm(...args);
    const line = stderr.trimEnd();
    assert.equal(code, 1, `${args.join(' ')}: ${line}`);
    assert.equal(stdout, '', args.join(' '));
    assert.match(line, message);
    assert.match(line, /^tsswarm: [^\n]+$/);
  }
  assert.equal(node.store.version, before);
});

test('without a daemon it says how to start one', async () => {
  const absent = `unix://${served.directory}/absent.sock`;
  const { code, stderr } = await served.tsswarm('-H', absent, 'node', 'ls');
  assert.equal(code, 1);
  assert.equal(
    stderr,
    `tsswarm: cannot reach the daemon at ${absent}: start it with "systemctl start tsswarm" or ` +
      '"tsswarm daemon"\n',
  );
});

test('TSSWARM_HOST is preferred to DOCKER_HOST', async () => {
  const host = `unix://${served.socketPath}`;
  const both = { ...process.env, TSSWARM_HOST: host, DOCKER_HOST: 'unix:///nope' };
  assert.equal((await run(process.execPath, [MAIN, 'node', 'ls'], both)).code, 0);
});

test('watch prints one line an event in a pipe, and JSON lines with --json', async () => {
  const follow = async (args: string[], until: RegExp): Promise<string> => {
    const child = spawn(process.execPath, [MAIN, 'watch', ...args], {
      env: { ...process.env, TSSWARM_HOST: `unix://${served.socketPath}` },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    let created = false;
    for await (const chunk of child.stdout) {
      text += String(chunk);
      if (!created) {
        created = true;
        void served.call('POST', '/services/create', {
          Name: `seen${args.length}`,
          TaskTemplate: { ContainerSpec: { Image: 'web' } },
        });
      }
      if (until.test(text)) break;
    }
    child.kill('SIGINT');
    const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
    assert.equal(code, 0);
    return text;
  };
  const plain = await follow([], /running/);
  assert.match(plain, /^[\d:.]+ swarm: 3 of 3 nodes ready, leader h1, term 3, 0 tasks$/m);
  assert.match(plain, /^[\d:.]+ service seen0: create$/m);
  assert.match(plain, /^[\d:.]+ task seen0\.1 on h1: running \(placed 3, started 17 ms\)$/m);
  const json = await follow(['--json'], /"type":"task"/);
  const [first] = json.split('\n').map((line) => (line === '' ? undefined : JSON.parse(line)));
  assert.equal((first as LiveMessage).type, 'state');
});

test('images are loaded from a file or standard input, imported, pulled and listed', async () => {
  const tar = join(served.directory, 'i.tar');
  writeFileSync(tar, Buffer.alloc(100_000));
  assert.equal(await tsswarm('image', 'load', '-i', tar), 'Loaded image: web:latest\n');
  assert.deepEqual(node.images.loaded, [100_000]);
  await tsswarm('image', 'import', '-c', 'CMD ["/x"]', '-c', 'ENV A=1', tar, 'mine:2');
  assert.deepEqual(node.images.imported, [
    { reference: 'mine:2', changes: ['CMD ["/x"]', 'ENV A=1'] },
  ]);
  assert.match(await tsswarm('image', 'pull', 'web'), /^c{12}: Pull complete$/m);
  const broken = await served.tsswarm('image', 'pull', 'broken');
  assert.equal(broken.code, 1);
  assert.equal(broken.stderr, 'tsswarm: the registry hung up\n');
  assert.match(await tsswarm('image', 'ls'), /^web +latest +a{12} +.+ago +123kB$/m);
});

test('join-token, info, version, node promote and demote', async () => {
  assert.match(await tsswarm('join-token', '-q', 'worker'), /^SWMTKN-1-d{50}-w{25}\n$/);
  assert.match(
    await tsswarm('join-token', '--rotate', 'manager'),
    /tsswarm join --token SWMTKN-1-d{50}-m{25}r 10\.99\.0\.11:2377\n/,
  );
  assert.match(await tsswarm('info'), /^Managers: +3$/m);
  assert.equal(await tsswarm('info', '-f', '{{.Swarm.Nodes}}'), '3\n');
  assert.match(await tsswarm('version'), /^Daemon: +0\.1\.0$/m);
  assert.equal(await tsswarm('node', 'demote', 'h3'), 'Node h3 demoted to a worker.\n');
  assert.equal(await tsswarm('node', 'demote', 'h3'), 'Node h3 is already a worker.\n');
  assert.equal(await tsswarm('node', 'promote', 'h3'), 'Node h3 promoted to a manager.\n');
  await tsswarm('node', 'update', '--label-add', 'zone=a', 'h2');
  assert.equal(await tsswarm('node', 'inspect', '-f', '{{.Spec.Labels.zone}}', 'h2'), 'a\n');
});

test('completion offers commands, flags and the names of objects', async () => {
  for (const shell of ['bash', 'zsh', 'fish']) {
    assert.match(await tsswarm('completion', shell), /__complete/);
  }
  const complete = async (...words: string[]): Promise<string[]> =>
    (await tsswarm('__complete', '--', ...words)).trimEnd().split('\n');
  assert.deepEqual(await complete('no'), ['node']);
  assert.ok((await complete('service', '')).includes('create'));
  assert.deepEqual(await complete('service', 'create', '--repl'), [
    '--replicas',
    '--replicas-max-per-node',
  ]);
  assert.deepEqual(await complete('node', 'inspect', 'h'), ['h1', 'h2', 'h3']);
});
