/**
 * Containers, volumes and networks of one host by the real docker client, against one daemon in no
 * swarm. Programs are the probe's (test/support/probe.c); what a command changed is looked for on
 * the host: processes, control groups, files, addresses, ports.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Outcome, outcome, until, WEB_IMAGE, WEB_TAR } from '../support/lab.ts';
import { buildLayer } from '../support/rootfs.ts';
import { type Standalone, startStandalone } from '../support/standalone.ts';
import { clientOf, scriptArguments } from '../support/terminal.ts';

const SOON_MS = 10_000;
const PROBE = 'probe:1';

let host: Standalone;
let work = '';

before(async () => {
  host = await startStandalone();
  work = join(host.directory, 'work');
  const layer = join(work, 'layer');
  mkdirSync(layer, { recursive: true });
  buildLayer(layer);
  mkdirSync(join(layer, 'seed'));
  writeFileSync(join(layer, 'seed', 'first'), 'from the image\n');
  execFileSync('tar', ['-C', layer, '-cf', join(work, 'layer.tar'), '.']);
  const change = ['--change', 'ENTRYPOINT ["/bin/probe"]', '--change', 'CMD ["echo","default"]'];
  await host.docker('import', ...change, join(work, 'layer.tar'), PROBE);
  await host.docker('load', '-i', WEB_TAR);
});

after(() => host.stop());

/** The docker client with something to read, to its end. */
function dockerWith(input: string, ...args: string[]): Promise<Outcome> {
  const child = clientOf(spawn('docker', ['-H', `unix://${host.socket}`, ...args]));
  child.type(input);
  child.endInput();
  return child.ended;
}

/** A file as processes of the daemon's pid namespace see it. */
async function see(path: string): Promise<string> {
  const enter = ['-t', String(host.pid), '-p', '-m', '-n'];
  const { code, stdout } = await outcome('nsenter', [...enter, 'cat', path]);
  return code === 0 ? stdout : '';
}

async function field(name: string, format: string): Promise<string> {
  return (await host.docker('inspect', '--format', format, name)).trim();
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

test('docker run gives output and exit code, and 125, 126, 127, 137 where Docker does', async () => {
  const run = (...args: string[]): Promise<Outcome> =>
    host.tryDocker('run', '--rm', '--network', 'none', ...args);
  assert.equal((await run(PROBE)).stdout, 'default\n');
  const failed = await run(PROBE, 'stderr', 'bad');
  assert.deepEqual([failed.code, failed.stdout, failed.stderr], [0, '', 'bad\n']);
  assert.equal((await run(PROBE, 'exit', '7')).code, 7);
  assert.equal((await run('--entrypoint', '/nosuch', PROBE)).code, 127);
  assert.equal((await run('--entrypoint', 'nosuch', PROBE)).code, 127);
  assert.equal((await run('--entrypoint', '/bin/plain', PROBE)).code, 126);
  const lost = await host.tryDocker('run', '--rm', '--network', 'nosuch', PROBE);
  assert.equal(lost.code, 125);
  assert.match(lost.stderr, /network nosuch not found/);
  const greedy = ['--name', 'greedy', '-m', '16m', '--memory-swap', '16m'];
  const killed = await host.tryDocker('run', ...greedy, PROBE, 'allocate', '64');
  assert.equal(killed.code, 137);
  assert.equal(await field('greedy', '{{.State.OOMKilled}} {{.State.ExitCode}}'), 'true 137');
  await host.docker('rm', 'greedy');
  assert.equal(await host.docker('ps', '-aq'), '', 'what was run with --rm is gone');
  assert.deepEqual(readdirSync(join(host.dataRoot, 'containers')), []);
});

test('what is typed goes to the program, and so does the end of it', async () => {
  const { code, stdout } = await dockerWith('abc\n', 'run', '--rm', '-i', PROBE, 'copy', '4');
  assert.deepEqual([code, stdout], [4, 'abc\nend of input\n']);
  await host.docker('create', '-i', '--name', 'again', PROBE, 'copy');
  const first = await dockerWith('one\n', 'start', '-ai', 'again');
  const second = await dockerWith('two\n', 'start', '-ai', 'again');
  assert.equal(`${first.stdout}${second.stdout}`, 'one\nend of input\ntwo\nend of input\n');
  assert.equal(await host.docker('logs', 'again'), `${first.stdout}${second.stdout}`);
  await host.docker('rm', 'again');
});

test('a terminal is one, has the client size, and detaching leaves the program', async () => {
  const client = `docker -H unix://${host.socket}`;
  const size = { rows: 33, columns: 99 };
  const script = (command: string): Promise<Outcome> =>
    outcome('script', scriptArguments(command, { size }));
  const tty = await script(`${client} run --rm -it ${PROBE} tty`);
  assert.match(tty.stdout, /terminal \/dev\/(pts\/0|console)/);
  const sized = `timeout 20 ${client} run --rm -it ${PROBE} size 1`;
  assert.match((await script(sized)).stdout, /33 rows 99 columns/);
  await host.docker('run', '-dit', '--name', 'term', PROBE, 'copy');
  const terminal = clientOf(spawn('script', scriptArguments(`timeout 60 ${client} attach term`)));
  terminal.type('hello\n');
  // Typed by the echo of the container's terminal, and again by the program.
  await until('the program has said it', SOON_MS, async () =>
    /hello\s+hello/.test(await host.docker('logs', 'term')) ? true : undefined,
  );
  terminal.type('\x10\x11');
  await terminal.ended;
  assert.match(terminal.said(), /hello[\s\S]*read escape sequence/);
  assert.equal(await field('term', '{{.State.Running}}'), 'true');
  await host.docker('rm', '-f', 'term');
});

test('a container in the background is a process of the host, and every view tells of it', async () => {
  const labels = ['--label', 'kind=long', '--env', 'A=1', '--hostname', 'inner'];
  const id = (await host.docker('run', '-d', '--name', 'long', ...labels, PROBE, 'ticks')).trim();
  const pid = await field('long', '{{.State.Pid}}');
  assert.equal(await see(`/proc/${pid}/cmdline`), '/bin/probe\0ticks\0');
  assert.match(await see(`/proc/${pid}/environ`), /\0?A=1\0/);
  const row = await host.docker('ps', '--no-trunc', '--format', '{{.ID}} {{.Names}} {{.Status}}');
  assert.match(row, new RegExp(`^${id} long Up `));
  assert.equal((await host.docker('ps', '-q', '--filter', 'label=kind=other')).trim(), '');
  assert.match(
    await host.docker('top', 'long', '-o', 'pid,args'),
    new RegExp(`${pid} +/bin/probe`),
  );
  const two = lines(await host.docker('logs', '--tail', '2', 'long'));
  assert.equal(two.length, 2);
  assert.match(await host.docker('logs', '-t', '--tail', '1', 'long'), /^\d{4}-.*Z tick \d+/);
  const stats = await host.docker(
    'stats',
    '--no-stream',
    '--format',
    '{{.Name}} {{.PIDs}}',
    'long',
  );
  assert.equal(stats.trim(), 'long 1');
  assert.equal((await host.tryDocker('rm', 'long')).code, 1);
  await host.docker('rename', 'long', 'longer');
  await host.docker('rm', '-f', 'longer');
  assert.equal(await see(`/proc/${pid}/cmdline`), '');
});

test('docker exec runs beside, as whom and where it is told, and gives the exit code', async () => {
  await host.docker('run', '-d', '--name', 'beside', PROBE, 'sleep', '60');
  const exec = (...args: string[]): Promise<Outcome> => host.tryDocker('exec', ...args);
  const who = await exec('-u', 'joe', '-w', '/tmp', '-e', 'B=2', 'beside', '/bin/probe', 'whoami');
  assert.match(who.stdout, /^uid=1000 gid=1001 cwd=\/tmp /);
  assert.match((await exec('-e', 'B=2', 'beside', '/bin/probe', 'env')).stdout, /^B=2$/m);
  assert.equal((await exec('beside', '/bin/probe', 'exit', '9')).code, 9);
  assert.equal((await exec('beside', '/nosuch')).code, 127);
  const typed = await dockerWith('x\n', 'exec', '-i', 'beside', '/bin/probe', 'copy', '3');
  assert.deepEqual([typed.code, typed.stdout], [3, 'x\nend of input\n']);
  await host.docker('exec', '-d', 'beside', '/bin/probe', 'write', '/tmp/mark', 'done');
  await until('the detached program has written', SOON_MS, async () => {
    const { stdout } = await exec('beside', '/bin/probe', 'cat', '/tmp/mark');
    return stdout.includes('done') ? true : undefined;
  });
  await host.docker('rm', '-f', 'beside');
  assert.equal((await exec('beside', '/bin/probe')).code, 1);
});

test('pause stops every process, stop asks first, kill sends what it is told', async () => {
  await host.docker('run', '-d', '--init', '--name', 'held', PROBE, 'ticks');
  await host.docker('pause', 'held');
  assert.equal(await field('held', '{{.State.Status}}'), 'paused');
  const before = lines(await host.docker('logs', 'held')).length;
  assert.equal((await host.tryDocker('exec', 'held', '/bin/probe')).code, 1);
  assert.equal(lines(await host.docker('logs', 'held')).length, before, 'it wrote while paused');
  await host.docker('unpause', 'held');
  await host.docker('stop', '-t', '5', 'held');
  assert.equal(await field('held', '{{.State.Status}} {{.State.ExitCode}}'), 'exited 143');
  await host.docker('start', 'held');
  await host.docker('kill', '-s', 'INT', 'held');
  assert.equal((await host.docker('wait', 'held')).trim(), '130');
  await host.docker('rm', 'held');
  await host.docker('run', '-d', '--name', 'deaf', PROBE, 'stubborn');
  await host.docker('restart', '-t', '0', 'deaf');
  await host.docker('stop', '-t', '0', 'deaf');
  assert.equal(await field('deaf', '{{.State.ExitCode}}'), '137');
  await host.docker('rm', 'deaf');
});

test('limits are in the control group, and an update changes them while it runs', async () => {
  const limits = ['-m', '64m', '--cpus', '0.5', '--pids-limit', '40'];
  await host.docker('run', '-d', '--name', 'small', ...limits, PROBE, 'sleep', '60');
  const pid = await field('small', '{{.State.Pid}}');
  const memory = async (): Promise<number> => {
    const groups = await see(`/proc/${pid}/cgroup`);
    const path = /:memory:(.*)$/m.exec(groups)?.[1] ?? /^0::(.*)$/m.exec(groups)?.[1] ?? '';
    const v1 = `/sys/fs/cgroup/memory${path}/memory.limit_in_bytes`;
    return Number(
      existsSync(v1) ? readFileSync(v1) : readFileSync(`/sys/fs/cgroup${path}/memory.max`),
    );
  };
  assert.equal(await memory(), 64 * 1024 * 1024);
  await host.docker('update', '-m', '96m', '--memory-swap', '96m', 'small');
  assert.equal(await memory(), 96 * 1024 * 1024);
  assert.equal(await field('small', '{{.HostConfig.Memory}}'), String(96 * 1024 * 1024));
  await host.docker('rm', '-f', 'small');
});

test('docker cp both ways, diff, and export', async () => {
  await host.docker('run', '-d', '--name', 'files', PROBE, 'sleep', '60');
  writeFileSync(join(work, 'in.txt'), 'carried in\n');
  await host.docker('cp', join(work, 'in.txt'), 'files:/tmp/');
  const read = await host.docker('exec', 'files', '/bin/probe', 'cat', '/tmp/in.txt');
  assert.match(read, /carried in/);
  await host.docker('cp', 'files:/tmp/in.txt', join(work, 'out.txt'));
  assert.equal(readFileSync(join(work, 'out.txt'), 'utf8'), 'carried in\n');
  await host.docker('cp', 'files:/seed', join(work, 'seed'));
  assert.equal(readFileSync(join(work, 'seed', 'first'), 'utf8'), 'from the image\n');
  assert.deepEqual(lines(await host.docker('diff', 'files')), ['C /tmp', 'A /tmp/in.txt']);
  const missing = await host.tryDocker('cp', 'files:/nosuch', work);
  assert.match(missing.stderr, /Could not find the file \/nosuch/);
  await host.docker('export', '-o', join(work, 'root.tar'), 'files');
  const listed = execFileSync('tar', ['-tf', join(work, 'root.tar')], { encoding: 'utf8' });
  assert.match(listed, /^tmp\/in\.txt$/m);
  await host.docker('rm', '-f', 'files');
});

test('a volume is filled from the image, outlives its containers, and is not removed in use', async () => {
  const data = (name: string): string => join(host.dataRoot, 'volumes', name, '_data');
  await host.docker('volume', 'create', '--label', 'a=b', 'kept');
  const mount = ['-v', 'kept:/seed'];
  await host.docker('run', '--name', 'user', ...mount, PROBE, 'write', '/seed/second', 'mine');
  assert.deepEqual(readdirSync(data('kept')).sort(), ['first', 'second']);
  const inUse = await host.tryDocker('volume', 'rm', 'kept');
  assert.match(inUse.stderr, /volume is in use - \[[0-9a-f]{64}\]/);
  await host.docker('rm', 'user');
  const readOnly = ['--mount', 'type=volume,source=kept,target=/x,readonly'];
  const refused = await host.tryDocker('run', '--rm', ...readOnly, PROBE, 'write', '/x/no', 'no');
  assert.match(`${refused.stdout}${refused.stderr}`, /Read-only file system/);
  assert.equal((await host.docker('volume', 'ls', '-q', '--filter', 'label=a=b')).trim(), 'kept');
  await host.docker('volume', 'rm', 'kept');
  assert.ok(!existsSync(data('kept')));
  await host.docker('run', '--rm', '-v', '/anonymous', PROBE);
  assert.equal((await host.docker('volume', 'ls', '-q')).trim(), '', 'it goes with --rm');
  const bound = join(work, 'bound');
  await host.docker('run', '--rm', '-v', `${bound}:/b`, PROBE, 'write', '/b/file', 'text');
  assert.match(readFileSync(join(bound, 'file'), 'utf8'), /text/);
  const absent = ['--mount', `type=bind,source=${work}/absent,target=/b`];
  const missing = await host.tryDocker('run', '--rm', ...absent, PROBE);
  assert.match(missing.stderr, /bind source path does not exist/);
});

test('published ports answer on the host, name who has them, and go with the container', async () => {
  const url = 'http://127.0.0.1:8080/';
  await host.docker('run', '-d', '--name', 'web', '-p', '8080:80', WEB_IMAGE);
  const fetched = await host.inside('curl', '-sf', '--max-time', '5', url);
  assert.equal(fetched.code, 0, fetched.stderr);
  const mapped = lines(await host.docker('port', 'web'));
  assert.deepEqual(mapped, ['80/tcp -> 0.0.0.0:8080', '80/tcp -> [::]:8080']);
  const taken = await host.tryDocker('run', '--rm', '-p', '8080:80', WEB_IMAGE);
  assert.equal(taken.code, 125);
  assert.match(taken.stderr, /8080\/tcp is already taken by container web/);
  await host.docker('stop', '-t', '1', 'web');
  assert.notEqual((await host.inside('curl', '-s', '--max-time', '2', url)).code, 0);
  await host.docker('start', 'web');
  assert.equal((await host.inside('curl', '-sf', '--max-time', '5', url)).code, 0);
  await host.docker('rm', '-f', 'web');
});

test('containers of a user network find each other by name; others do not reach them', async () => {
  await host.docker('network', 'create', '--subnet', '10.66.0.0/24', 'front');
  const fixed = ['--network', 'front', '--ip', '10.66.0.9', '--network-alias', 'shop'];
  await host.docker('run', '-d', '--name', 'named', ...fixed, WEB_IMAGE);
  assert.equal(await field('named', '{{.NetworkSettings.Networks.front.IPAddress}}'), '10.66.0.9');
  const get = (network: string, name: string): Promise<Outcome> =>
    host.tryDocker('run', '--rm', '--network', network, WEB_IMAGE, 'get', `http://${name}/`);
  assert.equal((await get('front', 'named')).code, 0);
  assert.equal((await get('front', 'shop')).code, 0);
  assert.notEqual((await get('bridge', '10.66.0.9')).code, 0);
  const busy = await host.tryDocker('network', 'rm', 'front');
  assert.match(busy.stderr, /has active endpoints \(name:"named"/);
  await host.docker('network', 'create', 'back');
  await host.docker('network', 'connect', 'back', 'named');
  assert.equal((await get('back', 'named')).code, 0);
  await host.docker('network', 'disconnect', 'back', 'named');
  await host.docker('rename', 'named', 'renamed');
  assert.equal((await get('front', 'renamed')).code, 0);
  assert.notEqual((await get('front', 'named')).code, 0);
  await host.docker('rename', 'renamed', 'named');
  assert.equal(await field('named', '{{len .NetworkSettings.Networks}}'), '1');
  const addresses = await see(`/proc/${await field('named', '{{.State.Pid}}')}/net/dev`);
  assert.ok(addresses.includes('eth0') && !addresses.includes('eth1'), addresses);
  await host.docker('rm', '-f', 'named');
  assert.match(await host.docker('network', 'prune', '-f'), /front/);
  const names = lines(await host.docker('network', 'ls', '--format', '{{.Name}}'));
  assert.deepEqual(names, ['bridge', 'host', 'none']);
});

test('restart policies bring a container back, and a restarted daemon finds all as it was', async () => {
  const policy = ['--restart', 'on-failure:2', '--network', 'none'];
  await host.docker('run', '-d', '--name', 'failing', ...policy, PROBE, 'exit', '5');
  await until('it was tried three times', SOON_MS, async () => {
    const state = '{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}';
    return (await field('failing', state)) === '2 exited 5' ? true : undefined;
  });
  await host.docker('run', '-d', '--name', 'always', '--restart', 'always', PROBE, 'sleep', '60');
  await host.docker('run', '-d', '--name', 'plain', '-p', '8081:80', WEB_IMAGE);
  const first = await field('always', '{{.State.Pid}}');
  await host.restart();
  assert.equal(await field('always', '{{.State.Pid}}'), first, 'it ran on');
  assert.equal((await host.inside('curl', '-sf', 'http://127.0.0.1:8081/')).code, 0);
  assert.match(await host.docker('port', 'plain'), /8081/);
  await outcome('nsenter', ['-t', String(host.pid), '-p', '-m', 'kill', '-9', first]);
  await until('it is back', SOON_MS, async () => {
    const [pid, count] = (await field('always', '{{.State.Pid}} {{.RestartCount}}')).split(' ');
    return pid !== first && pid !== '0' && count === '1' ? true : undefined;
  });
  await host.docker('stop', '-t', '0', 'always');
  assert.equal(await field('always', '{{.State.Running}}'), 'false');
  await host.docker('rm', '-f', 'failing', 'always', 'plain');
});

test('a health check is run in the container and told', async () => {
  const check = ['--health-cmd', 'unused', '--health-interval', '100ms', '--health-retries', '1'];
  const refused = await host.docker('run', '-d', '--name', 'sick', ...check, PROBE, 'sleep', '60');
  assert.match(refused, /^[0-9a-f]{64}/);
  const status = (name: string): Promise<string> => field(name, '{{.State.Health.Status}}');
  await until('it is unhealthy', SOON_MS, async () =>
    (await status('sick')) === 'unhealthy' ? true : undefined,
  );
  assert.match(await host.docker('ps', '--filter', 'health=unhealthy'), /sick/);
  await host.docker('rm', '-f', 'sick');
});

test('events tell what happened, disk usage what is there, prune takes what is unused', async () => {
  const since = Date.now() / 1000;
  await host.docker('run', '--name', 'told', '-v', 'box:/v', PROBE);
  const until = String(Date.now() / 1000 + 0.5);
  const format = ['--format', '{{.Type}} {{.Action}}'];
  const span = ['--since', String(since), '--until', until];
  const seen = lines(await host.docker('events', ...span, ...format));
  for (const event of ['container create', 'container start', 'container die', 'volume create']) {
    assert.ok(seen.includes(event), `${event} in ${seen.join(', ')}`);
  }
  const dead = ['--filter', 'event=die', '--filter', 'container=told', '--format'];
  const attributes = '{{.Actor.Attributes.exitCode}}';
  assert.equal((await host.docker('events', ...span, ...dead, attributes)).trim(), '0');
  const usage = await host.docker('system', 'df', '--format', '{{.Type}} {{.TotalCount}}');
  assert.match(usage, /^Containers 1$/m);
  assert.match(usage, /^Local Volumes 1$/m);
  assert.match(await host.docker('container', 'prune', '-f'), /[0-9a-f]{64}/);
  assert.match(await host.docker('volume', 'prune', '-af'), /box/);
  assert.equal(await host.docker('volume', 'ls', '-q'), '');
});

test("addresses kept for others, the host's name, device rules and options of an endpoint", async () => {
  const kept = ['--aux-address', 'router=10.77.0.2', '--aux-address', 'nas=10.77.0.4'];
  await host.docker('network', 'create', '--subnet', '10.77.0.0/29', ...kept, 'kept');
  const pools = await host.docker('network', 'inspect', 'kept', '-f', '{{json .IPAM.Config}}');
  const [{ AuxiliaryAddresses: shown }] = JSON.parse(pools);
  assert.deepEqual(shown, { router: '10.77.0.2', nas: '10.77.0.4' });
  const on = ['run', '-d', '--network', 'name=kept,driver-opt=mine=1'];
  for (const name of ['one', 'two']) await host.docker(...on, '--name', name, PROBE, 'ticks');
  const addressOf = '{{.NetworkSettings.Networks.kept.IPAddress}}';
  assert.equal(await field('one', addressOf), '10.77.0.3');
  assert.equal(await field('two', addressOf), '10.77.0.5');
  const options = '{{json .NetworkSettings.Networks.kept.DriverOpts}}';
  assert.deepEqual(JSON.parse(await field('one', options)), { mine: '1' });
  const taken = await host.tryDocker('run', '--network', 'kept', '--ip', '10.77.0.4', PROBE);
  assert.match(taken.stderr, /Address already in use: 10\.77\.0\.4/);
  await host.docker('rm', '-f', 'one', 'two');
  await host.docker('container', 'prune', '-f');
  await host.docker('network', 'rm', 'kept');

  const rule = ['--device-cgroup-rule', 'c 7:128 rwm'];
  await host.docker('run', '-d', '--name', 'own', '--uts', 'host', ...rule, PROBE, 'ticks');
  const pid = await field('own', '{{.State.Pid}}');
  const utsOf = async (of: string): Promise<string> => {
    const enter = ['-t', String(host.pid), '-p', '-m'];
    return (await outcome('nsenter', [...enter, 'readlink', `/proc/${of}/ns/uts`])).stdout;
  };
  assert.equal(await utsOf(pid), await utsOf('1'));
  const groups = await see(`/proc/${pid}/cgroup`);
  const devices = /^\d+:devices:(.*)$/m.exec(groups)?.[1];
  if (devices !== undefined) {
    const allowed = readFileSync(`/sys/fs/cgroup/devices${devices}/devices.list`, 'utf8');
    assert.match(allowed, /^c 7:128 rwm$/m);
  }
  await host.docker('rm', '-f', 'own');
});

test('a client of before API 1.42 that prunes volumes means those with names too', async () => {
  await host.docker('volume', 'create', 'named');
  const prune = async (version: string): Promise<unknown> => {
    const url = `http://docker/v${version}/volumes/prune`;
    const call = ['-s', '--unix-socket', host.socket, '-X', 'POST', url];
    return JSON.parse((await outcome('curl', call)).stdout).VolumesDeleted;
  };
  assert.deepEqual(await prune('1.42'), []);
  assert.deepEqual(await prune('1.41'), ['named']);
});

test('a link follows its container to another address', async () => {
  await host.docker('network', 'create', '--subnet', '10.87.0.0/24', 'shops');
  await host.docker('network', 'create', 'apart');
  const start = async (name: string, ...flags: string[]): Promise<void> => {
    const where = ['--network', 'shops', ...flags];
    await host.docker('run', '-d', '--name', name, ...where, PROBE, 'sleep', '1000');
  };
  const addressOf = (name: string): Promise<string> => {
    return field(name, '{{.NetworkSettings.Networks.shops.IPAddress}}');
  };
  /** The addresses that `mate` has for a name, in the order of the lines. */
  const found = async (name: string): Promise<string[]> => {
    const hosts = await host.docker('exec', 'mate', '/bin/probe', 'cat', '/etc/hosts');
    const entries = lines(hosts).map((line) => line.split('\t'));
    return entries.filter(([, each]) => each === name).map(([address = '']) => address);
  };
  await start('giver');
  const before = await addressOf('giver');
  await start('mate', '--add-host', 'giver:10.9.8.7', '--link', 'giver:friend');
  assert.deepEqual([await found('friend'), await found('giver')], [[before], ['10.9.8.7', before]]);
  await host.docker('stop', '-t', '0', 'giver');
  await start('other', '--ip', before);
  await host.docker('start', 'giver');
  const now = await addressOf('giver');
  assert.notEqual(now, before);
  assert.deepEqual([await found('friend'), await found('giver')], [[now], ['10.9.8.7', now]]);
  // It is still so when the file is written again for another reason.
  await host.docker('network', 'connect', 'apart', 'mate');
  assert.deepEqual(await found('friend'), [now]);
  await host.docker('rm', '-f', 'giver', 'mate', 'other');
  await host.docker('network', 'rm', 'shops', 'apart');
});

test('what is not there is refused by its path, with what to do instead', async () => {
  const cases: readonly (readonly [RegExp, ...string[]])[] = [
    [/No such container: other/, '--link', 'other', PROBE],
    [/HostConfig\.DeviceRequests/, '--gpus', 'all', PROBE],
    [/HostConfig\.LogConfig\.Type/, '--log-driver', 'syslog', PROBE],
    [/HostConfig\.CgroupParent: .* is no path of a group/, '--cgroup-parent', '../x', PROBE],
    [/Conflict\. The container name "\/twin" is already in use/, '--name', 'twin', PROBE],
  ];
  await host.docker('create', '--name', 'twin', PROBE);
  for (const [message, ...args] of cases) {
    const { code, stderr } = await host.tryDocker('run', '--rm', ...args);
    assert.equal(code, 125, args.join(' '));
    assert.match(stderr, message);
  }
  await host.docker('rm', 'twin');
  writeFileSync(join(work, 'Dockerfile'), `FROM ${PROBE}\n`);
  assert.match((await host.tryDocker('build', work)).stderr, /building images is not supported/);
});
