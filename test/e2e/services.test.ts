/**
 * Services whole, in a lab, through the unchanged docker client: what tasks are given is looked up
 * on the hosts (processes, limits, mounts, rules, answers on the network). The tests share one lab
 * of two hosts and run in order.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import {
  containerPid,
  get,
  lab,
  loadImage,
  raise,
  running,
  tasks,
  until,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { docker, layoutOf, within } from '../support/labHosts.ts';

const WAIT_MS = 20_000;
const BUSYBOX = '/bin/busybox';
const skip = await skipWithoutDocker();
const state = mkdtempSync(join(tmpdir(), 'services-state-'));

/** A file as the host sees it: its processes are in a namespace of their own. */
async function read(host: string, path: string): Promise<string> {
  const { code, stdout, stderr } = await within(host, 'cat', path);
  assert.equal(code, 0, stderr);
  return stdout;
}

/** Creates a service without waiting for it. */
function create(name: string, ...args: string[]): Promise<string> {
  return docker('h1', 'service', 'create', '-d', '-q', '--name', name, ...args);
}

before(async () => {
  if (skip !== false) return;
  await raise(2, 1);
  await loadImage('h1', 'h2');
});

after(async () => {
  if (skip === false) await lab('down');
  rmSync(state, { recursive: true, force: true });
});

test('a task is in the balance only while it is healthy, and is replaced', { skip }, async () => {
  mkdirSync(join(state, 'health'));
  const ok = join(state, 'health', 'ok');
  const spec = {
    Name: 'sick',
    TaskTemplate: {
      ContainerSpec: {
        Image: WEB_IMAGE,
        StopGracePeriod: 1e9,
        Mounts: [{ Type: 'bind', Source: join(state, 'health'), Target: '/health' }],
        Healthcheck: {
          Test: ['CMD', '/web', 'cat', '/health/ok'],
          Interval: 2e8,
          Retries: 2,
          StartPeriod: 6e10,
          StartInterval: 1e8,
        },
      },
      RestartPolicy: { Condition: 'any', Delay: 2e8 },
    },
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 8081 }] },
  };
  await post('/services/create', spec);
  const starting = await until('it starts', WAIT_MS, async () => {
    const [task] = await tasks('h1', 'sick');
    return task?.state === 'Starting' ? task : undefined;
  });
  assert.notEqual((await within('h2', 'wget', ...QUICK, 'http://127.0.0.1:8081/')).code, 0);
  writeFileSync(ok, '');
  await untilRunning('h1', 'sick', 1);
  await until('it answers', WAIT_MS, () => get('h2', 'http://127.0.0.1:8081/'));
  rmSync(ok);
  await until('it is replaced', WAIT_MS, async () => {
    const [task] = await tasks('h1', 'sick');
    return task !== undefined && task.id !== starting.id ? task : undefined;
  });
  const history = await docker('h1', 'service', 'ps', '--no-trunc', 'sick');
  assert.match(history, /Failed .*unhealthy container: 2 health checks failed in a row/);
  await docker('h1', 'service', 'rm', 'sick');
});

const QUICK = ['-q', '-O', '-', '-T', '1', '-t', '1'];

async function post(path: string, body: object): Promise<void> {
  const request = `const r = require('node:http').request({ method: 'POST',
    socketPath: process.env.TSSWARM_HOST.slice(7), path: process.argv[1],
    headers: { 'content-type': 'application/json' } }, (a) => {
      a.pipe(process.stdout); process.exitCode = a.statusCode < 300 ? 0 : 1; });
    r.end(process.argv[2]);`;
  const { code, stdout } = await within('h1', 'node', '-e', request, path, JSON.stringify(body));
  assert.equal(code, 0, stdout);
}

test('a task runs under the seccomp profile of its service', { skip }, async () => {
  const calls = [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 100 }];
  const profile = JSON.stringify({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: calls });
  const script = 'busybox mkdir /made 2>/said; : >/done; exec busybox sleep 1000';
  await post('/services/create', {
    Name: 'judged',
    TaskTemplate: {
      ContainerSpec: {
        Image: WEB_IMAGE,
        Command: ['/bin/busybox', 'sh', '-c', script],
        Mounts: [{ Type: 'bind', Source: BUSYBOX, Target: BUSYBOX, ReadOnly: true }],
        Privileges: {
          NoNewPrivileges: true,
          Seccomp: { Mode: 'custom', Profile: Buffer.from(profile).toString('base64') },
          AppArmor: { Mode: 'disabled' },
        },
      },
    },
  });
  const [task] = await untilRunning('h1', 'judged', 1);
  const pid = await containerPid('h1', task.id);
  await until('it has tried', WAIT_MS, () =>
    within(task.node, 'test', '-e', `/proc/${pid}/root/done`).then(
      ({ code }) => code === 0 || undefined,
    ),
  );
  assert.match(await read(task.node, `/proc/${pid}/root/said`), /Network is down/);
  assert.match(await read(task.node, `/proc/${pid}/status`), /^NoNewPrivs:\s1$/m);
  const shown = await docker('h1', 'service', 'inspect', 'judged', '--format', '{{json .}}');
  const { Privileges } = JSON.parse(shown).Spec.TaskTemplate.ContainerSpec;
  assert.equal(Buffer.from(Privileges.Seccomp.Profile, 'base64').toString(), profile);
  assert.deepEqual(Privileges.AppArmor, { Mode: 'disabled' });
  await docker('h1', 'service', 'rm', 'judged');
});

test('what a task is given is there on its host', { skip }, async () => {
  await create(
    'whole',
    ...['--constraint', 'node.hostname==h2', '--ulimit', 'nofile=512:1024', '--init'],
    ...['--sysctl', 'net.core.somaxconn=77', '--cap-add', 'NET_ADMIN', '--cap-drop', 'CHOWN'],
    ...['--user', '1000', '--group', '29', '--read-only', '--host', 'foo:192.0.2.7'],
    ...['--dns-search', 'example.org', '--log-driver', 'json-file', '--log-opt', 'max-size=1m'],
    ...['--mount', 'type=tmpfs,target=/scratch,tmpfs-size=1m', '--oom-score-adj', '500'],
    ...['--mount', 'type=volume,source=v-{{.Service.Name}}-{{.Task.Slot}},target=/data'],
    ...['--hostname', 'h-{{.Task.Slot}}-{{.Node.Hostname}}', '--env', 'NODE={{.Node.Hostname}}'],
    ...['--limit-memory', '32m', '--limit-pids', '20'],
    WEB_IMAGE,
    ...['sleep', '1000'],
  );
  const [task] = await untilRunning('h1', 'whole', 1);
  const pid = await containerPid('h1', task.id);
  const proc = (name: string): Promise<string> => read('h2', `/proc/${pid}/${name}`);
  assert.match(await proc('limits'), /^Max open files +512 +1024 /m);
  assert.equal((await proc('oom_score_adj')).trim(), '500');
  const program = (await proc(`task/${pid}/children`)).trim().split(' ')[0];
  const status = await read('h2', `/proc/${program}/status`);
  assert.match(status, /^Uid:\s+1000\s/m);
  assert.match(status, /^Groups:.*\b29\b/m);
  const bounding = BigInt(`0x${/^CapBnd:\s+(\w+)$/m.exec(status)?.[1]}`);
  assert.equal((bounding >> 12n) & 1n, 1n, 'NET_ADMIN');
  assert.equal(bounding & 1n, 0n, 'CHOWN');
  const mounts = await read('h2', `/proc/${program}/mounts`);
  assert.match(mounts, /^\S+ \/ overlay ro,/m);
  assert.match(mounts, /^tmpfs \/scratch tmpfs rw,.*size=1024k/m);
  assert.match(mounts, /^\S+ \/data \S+ rw,/m);
  const root = `/proc/${program}/root`;
  assert.match(await read('h2', `${root}/etc/hosts`), /^192\.0\.2\.7\sfoo$/m);
  assert.match(await read('h2', `${root}/etc/hostname`), /^h-1-h2$/m);
  assert.match(await read('h2', `${root}/etc/resolv.conf`), /^search example\.org$/m);
  const environ = (await read('h2', `/proc/${program}/environ`)).split('\0');
  assert.ok(environ.includes('NODE=h2'));
  const somaxconn = await within(
    ...(['h2', 'nsenter', '-t', program, '-n', 'cat', '/proc/sys/net/core/somaxconn'] as const),
  );
  assert.equal(somaxconn.stdout.trim(), '77');
  const { dataRoot } = layoutOf('h2');
  assert.ok(readdirSync(join(dataRoot, 'volumes')).includes('v-whole-1'));
  await docker('h1', 'service', 'rm', 'whole');
});

test('a volume outlives the tasks that use it', { skip }, async () => {
  await create(
    'store',
    ...['--constraint', 'node.hostname==h1', '--mount', 'type=volume,source=kept,target=/data'],
    WEB_IMAGE,
    ...['sleep', '1000'],
  );
  await untilRunning('h1', 'store', 1);
  const data = join(layoutOf('h1').dataRoot, 'volumes', 'kept', '_data');
  writeFileSync(join(data, 'note'), 'still here');
  await docker('h1', 'service', 'update', '-q', '--force', 'store');
  const [task] = await untilRunning('h1', 'store', 1);
  const pid = await containerPid('h1', task.id);
  assert.equal(await read('h1', `/proc/${pid}/root/data/note`), 'still here');
  await docker('h1', 'service', 'rm', 'store');
  await until('the volume is free', WAIT_MS, async () => {
    const { code } = await within('h1', 'docker', 'volume', 'rm', 'kept');
    return code === 0 ? true : undefined;
  });
});

test('ports of the hosts stay with their service through an update in place', {
  skip,
}, async () => {
  await create(
    'edge',
    ...['--mode', 'global', '--publish', 'mode=host,published=8090,target=80', WEB_IMAGE],
  );
  await untilRunning('h1', 'edge', 2);
  for (const address of ['10.99.0.11', '10.99.0.12']) {
    assert.match(await get('client', `http://${address}:8090/`), /client=10\.99\.0\.100:/);
  }
  const { stderr } = await within(
    ...(['h1', 'docker', 'service', 'create', '--name', 'rival', '-p', '8090:80'] as const),
    WEB_IMAGE,
  );
  assert.match(stderr, /port 8090\/tcp is already published by service "edge"/);
  const before = await running('h1', 'edge');
  await docker('h1', 'service', 'update', '-q', '--force', '--update-monitor', '1s', 'edge');
  const after = await untilRunning('h1', 'edge', 2);
  assert.ok(after.every(({ id }) => before.every((task) => task.id !== id)));
  for (const address of ['10.99.0.11', '10.99.0.12']) {
    assert.match(await get('client', `http://${address}:8090/`), /client=10\.99\.0\.100:/);
  }
  await docker('h1', 'service', 'rm', 'edge');
});

test('an image that cannot be had stops nothing that runs', { skip }, async () => {
  await create('steady', '--replicas', '2', '--restart-delay', '100ms', WEB_IMAGE);
  const before = await untilRunning('h1', 'steady', 2);
  await docker('h1', 'service', 'update', '-d', '-q', '--image', 'localhost:1/none:1', 'steady');
  await until('the update is paused', WAIT_MS, async () => {
    const status = await docker('h1', 'service', 'inspect', '-f', '{{json .}}', 'steady');
    return (JSON.parse(status) as { UpdateStatus?: { State: string } }).UpdateStatus?.State ===
      'paused'
      ? true
      : undefined;
  });
  const after = await running('h1', 'steady');
  assert.deepEqual(after.map(({ id }) => id).sort(), before.map(({ id }) => id).sort());
  await docker('h1', 'service', 'rollback', '-q', 'steady');
  await untilRunning('h1', 'steady', 2);
  await docker('h1', 'service', 'rm', 'steady');
});

test('a service on the host’s network is on it', { skip }, async () => {
  await create('near', '--network', 'host', '--constraint', 'node.hostname==h2', WEB_IMAGE);
  await untilRunning('h1', 'near', 1);
  await until('it answers', WAIT_MS, () => get('client', 'http://10.99.0.12:80/'));
  await docker('h1', 'service', 'rm', 'near');
});

test('the docker client sees jobs to their end', { skip }, async () => {
  const args = ['--mode', 'replicated-job', '--replicas', '4', '--max-concurrent', '2'];
  const said = await docker(
    ...(['h1', 'service', 'create', '--name', 'job', ...args, WEB_IMAGE, 'echo', 'done'] as const),
  );
  assert.match(said, /job complete/);
  const list = await docker('h1', 'service', 'ls', '--filter', 'name=job');
  assert.match(list, /replicated job +0\/2 \(4\/4 completed\)/);
  const tasks = await docker('h1', 'service', 'ps', 'job', '--format', '{{.Node}} {{.Name}}');
  for (const line of tasks.split('\n').filter((each) => /job\.[1-3]$/.test(each))) {
    const [host, name] = line.split(' ');
    const list = await docker(host as 'h1', 'ps', '-a', '--format', '{{.Names}}');
    assert.match(list, new RegExp(`^${name}\\.`, 'm'), 'its container has the task’s name');
  }
  assert.match(await docker('h1', 'service', 'update', '--force', 'job'), /job complete/);
  const logs = await docker('h1', 'service', 'logs', 'job');
  assert.equal(logs.match(/\| done$/gm)?.length, 8);
  await docker('h1', 'service', 'rm', 'job');
  const all = ['--name', 'each', '--mode', 'global-job'];
  assert.match(
    await docker(...(['h1', 'service', 'create', ...all, WEB_IMAGE, 'echo', 'x'] as const)),
    /job complete/,
  );
  await docker('h1', 'service', 'rm', 'each');
});

test('slots have the addresses that they ask for', { skip }, async () => {
  const subnet = ['--subnet', '10.77.0.0/24'];
  await docker('h1', 'network', 'create', '-d', 'overlay', ...subnet, 'own');
  const network = 'name=own,"driver-opt=tsswarm.address=10.77.0.20,10.77.0.21"';
  await create('placed', '--replicas', '2', '--network', network, WEB_IMAGE);
  for (const task of await untilRunning('h1', 'placed', 2)) {
    const pid = await containerPid('h1', task.id);
    const inside = ['nsenter', '-t', String(pid), '-n', 'ip', '-4', 'addr'];
    const { stdout } = await within(task.node, ...inside);
    const wanted = task.name === 'placed.1' ? /inet 10\.77\.0\.20\/24/ : /inet 10\.77\.0\.21\/24/;
    assert.match(stdout, wanted);
  }
  await docker('h1', 'service', 'rm', 'placed');
  await until('the network is free', WAIT_MS, async () => {
    const { code } = await within('h1', 'docker', 'network', 'rm', 'own');
    return code === 0 ? true : undefined;
  });
});
