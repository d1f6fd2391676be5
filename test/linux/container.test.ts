/** What a container is given and denied: its process, file system, privileges, limits. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { ShimClient } from '../../runtime/container/shimClient.ts';
import type { Container, ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { parentOf, writtenBytes } from '../support/processes.ts';
import { logText, makeTestHost, outputOf, runToEnd } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const host = makeTestHost('basic');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

const output = (args: readonly string[], extra?: Partial<ContainerConfig>): Promise<string> =>
  outputOf(table, host.config(['/bin/probe', ...args], extra));

async function startError(args: readonly string[]): Promise<[string, string]> {
  const container = await table.create(host.config(args));
  try {
    await container.start();
  } catch (error) {
    assert(hasCode(error, 'invalid'));
    assert.equal(container.state, 'exited');
    assert.equal(String(container.exit?.exitCode), error.detail['exitCode']);
    assert.equal(container.exit?.error, error.message);
    await container.remove();
    return [error.detail['exitCode'], error.message];
  }
  throw new Error(`${args.join(' ')} was executed`);
}

test('a container runs its program with its arguments and leaves a record', async () => {
  const { container, output } = await runToEnd(
    table,
    host.config(['/bin/probe', 'echo', 'one', 'two  three', '']),
  );
  assert.equal(output, 'one two  three \n');
  assert.equal(container.state, 'exited');
  assert.equal(container.pid, 0);
  const exit = container.exit;
  assert(exit !== undefined && exit.startedAtMs > 0 && exit.finishedAtMs >= exit.startedAtMs);
  assert.deepEqual([exit.exitCode, exit.signal, exit.oomKilled], [0, 0, false]);
  assert.equal(container.startedAtMs, exit.startedAtMs);
  await container.remove();
  assert.equal(table.get(container.config.id), undefined);
});

test('when it was made is known of one that is being removed, too', async () => {
  const container = await table.create(host.config(['/bin/probe', 'exit', '0']));
  await container.remove();
  assert(container.createdAtMs > 0);
});

test("the exit code is the program's", async () => {
  const run = await runToEnd(table, host.config(['/bin/probe', 'exit', '77']));
  assert.equal(run.exitCode, 77);
});

test('a program that is not there gives 127, one that cannot be executed 126', async () => {
  assert.deepEqual(await startError(['nothing']), [
    '127',
    'cannot run "nothing": not found in the image\'s PATH',
  ]);
  assert.equal((await startError(['/bin/nothing']))[0], '127');
  assert.equal((await startError(['/bin/probe/x']))[0], '127');
  assert.equal((await startError(['/bin/plain']))[0], '126');
  assert.equal((await startError(['/bin/garbage']))[0], '126');
  const [code, message] = await startError(['/bin']);
  assert.equal(code, '126');
  assert.match(message, /Is a directory/);
});

test("a program without a slash is looked for in the container's PATH", async () => {
  const run = await runToEnd(
    table,
    host.config(['probe', 'echo', 'found'], { env: ['PATH=/nowhere:/bin'] }),
  );
  assert.equal(run.output, 'found\n');
});

test('the environment is the given one plus PATH, HOSTNAME and HOME', async () => {
  assert.deepEqual((await output(['env'], { env: ['A=1', 'B=two words'] })).split('\n').sort(), [
    'A=1',
    'B=two words',
    'HOME=/root',
    'HOSTNAME=testhost',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  ]);
  const own = await output(['env'], { env: ['PATH=/x', 'HOME=/y', 'HOSTNAME=z'] });
  assert.deepEqual(own.split('\n').sort(), ['HOME=/y', 'HOSTNAME=z', 'PATH=/x']);
});

test('users and groups are resolved in the image, by name and by number', async () => {
  const cases: [string, string][] = [
    ['', 'uid=0 gid=0 cwd=/ host=testhost pid=1 groups=0'],
    ['joe', 'uid=1000 gid=1001 cwd=/ host=testhost pid=1 groups=50,1001'],
    ['1000', 'uid=1000 gid=1001 cwd=/ host=testhost pid=1 groups=50,1001'],
    ['4711', 'uid=4711 gid=0 cwd=/ host=testhost pid=1 groups=0'],
    ['joe:audio', 'uid=1000 gid=63 cwd=/ host=testhost pid=1 groups=63'],
    ['4711:4712', 'uid=4711 gid=4712 cwd=/ host=testhost pid=1 groups=4712'],
  ];
  for (const [user, expected] of cases) assert.equal(await output(['whoami'], { user }), expected);
  assert.match(
    await output(['whoami'], { user: 'joe', additionalGroups: ['audio', '99'] }),
    /groups=50,63,99,1001$/,
  );
  for (const user of ['nobody', 'joe:nobody']) {
    const container = await table.create(host.config(['/bin/probe', 'whoami'], { user }));
    await assert.rejects(container.start(), /unable to find (user|group) nobody/);
  }
});

test('the working directory is made when it is missing', async () => {
  assert.match(await output(['whoami'], { workingDir: '/srv/app/data' }), / cwd=\/srv\/app\/data /);
});

test('it sees only itself: processes, host name, network, descriptors, cgroups', async () => {
  assert.match(await output(['whoami'], { hostname: 'web-1' }), / host=web-1 pid=1 /);
  const devices = await output(['cat', '/proc/net/dev']);
  assert.deepEqual(
    devices
      .split('\n')
      .slice(2)
      .map((line) => line.trim().split(':')[0]),
    ['lo'],
  );
  assert.equal(await output(['descriptors']), '0 1 2');
  const groups = await output(['cat', '/proc/self/cgroup']);
  assert(groups.split('\n').every((line) => line.endsWith(':/') || line.includes('freezer')));
});

test("it has Docker's fourteen capabilities, or those asked for", async () => {
  const capabilities = async (extra: Partial<ContainerConfig>): Promise<string[]> => {
    const status = await output(['cat', '/proc/self/status'], extra);
    return ['CapPrm', 'CapEff', 'CapBnd', 'CapInh', 'CapAmb'].map(
      (name) => new RegExp(`${name}:\\s+(\\w+)`).exec(status)?.[1] ?? '',
    );
  };
  const none = '0000000000000000';
  const docker = '00000000a80425fb';
  assert.deepEqual(await capabilities({}), [docker, docker, docker, none, none]);
  assert.deepEqual(await capabilities({ user: 'joe' }), [none, none, docker, none, none]);
  const few = '0000000000001001';
  assert.deepEqual(
    await capabilities({ capabilityDrop: ['ALL'], capabilityAdd: ['NET_ADMIN', 'CAP_CHOWN'] }),
    [few, few, few, none, none],
  );
  const all = (await capabilities({ capabilityAdd: ['ALL'] }))[2];
  const bounding = /CapBnd:\s+(\w+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  assert.equal(all, bounding);
});

test('seccomp refuses what Docker refuses, and calls younger than it are unknown', async () => {
  const calls = ['keyctl', 'mount', 'unshare', 'clone3', 'young', 'alg', 'inet'];
  assert.deepEqual((await output(['call', ...calls])).split('\n'), [
    'keyctl: Operation not permitted',
    'mount: Operation not permitted',
    'unshare: Operation not permitted',
    'clone3: Function not implemented',
    'young: Function not implemented',
    'alg: Operation not permitted',
    'inet: allowed',
  ]);
});

test("it has Docker's devices and may use no others", async () => {
  const paths = ['null', 'zero', 'full', 'random', 'urandom'].map((name) => `/dev/${name}`);
  assert.deepEqual((await output(['device', ...paths])).split('\n'), [
    '/dev/null char 1:3 666 opens',
    '/dev/zero char 1:5 666 opens',
    '/dev/full char 1:7 666 opens',
    '/dev/random char 1:8 666 opens',
    '/dev/urandom char 1:9 666 opens',
  ]);
  assert.equal(await output(['mknod', '1', '3']), 'mknod done open done');
  assert.equal(await output(['mknod', '1', '1']), 'mknod done open Operation not permitted');
  assert.equal(await output(['mknod', '10', '229']), 'mknod done open Operation not permitted');
});

test('kernel interfaces are masked or read-only', async () => {
  const mounts = await output(['cat', '/proc/mounts']);
  for (const path of [
    '/proc/bus',
    '/proc/fs',
    '/proc/irq',
    '/proc/sys',
    '/sys',
    '/sys/fs/cgroup',
  ]) {
    assert.match(mounts, new RegExp(` ${path} \\w+ ro,`), path);
  }
  assert.equal(await output(['cat', '/proc/timer_list', '/proc/interrupts']), '');
  const run = await runToEnd(
    table,
    host.config(['/bin/probe', 'write', '/proc/sys/kernel/hostname', 'x']),
  );
  assert.match(run.output, /Read-only file system/);
});

test('its root is a layer of its own over the image, and can be read-only', async () => {
  const write = ['/bin/probe', 'write', '/tmp/file', 'text'];
  assert.equal((await runToEnd(table, host.config(write))).exitCode, 0);
  assert(!existsSync(join(host.layer, 'tmp/file')));
  const readOnly = await runToEnd(table, host.config(write, { readOnlyRoot: true }));
  assert.equal(readOnly.exitCode, 1);
  assert.match(readOnly.output, /Read-only file system/);
});

test('layers lie over each other in order', async () => {
  const upper = join(host.dir, 'second-layer');
  mkdirSync(join(upper, 'etc'), { recursive: true });
  writeFileSync(join(upper, 'etc/group'), 'other\n');
  const layers = [host.layer, upper];
  assert.equal(await output(['cat', '/etc/group'], { layers }), 'other');
});

test('binds and tmpfs are mounted where and how asked, parents before children', async () => {
  const source = join(host.dir, 'shared');
  mkdirSync(source);
  writeFileSync(join(source, 'in'), 'from the host');
  const mounts = [
    { type: 'bind', source, target: '/a/b/inside', readOnly: true },
    { type: 'tmpfs', target: '/a', sizeBytes: 1 << 20, mode: 0o700 },
    { type: 'bind', source, target: '/rw' },
    { type: 'bind', source: join(source, 'in'), target: '/etc/one-file' },
  ] as const;
  assert.equal(
    await output(['cat', '/a/b/inside/in', '/etc/one-file'], { mounts }),
    'from the hostfrom the host',
  );
  const listed = await output(['cat', '/proc/mounts'], { mounts });
  assert.match(listed, /^tmpfs \/a tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=700/m);
  assert.match(listed, / \/a\/b\/inside \w+ ro,/);
  await output(['write', '/rw/out', 'from inside'], { mounts });
  assert.equal(readFileSync(join(source, 'out'), 'utf8'), 'from inside');
  const refused = await output(['write', '/a/b/inside/out', 'x'], { mounts });
  assert.match(refused, /Read-only file system/);
});

test('a mount target that leads through a link of the image stays inside it', async () => {
  const evil = join(host.dir, 'evil-layer');
  mkdirSync(evil);
  symlinkSync('/../../../../tmp', join(evil, 'way-out'));
  const mounts = [{ type: 'tmpfs', target: '/way-out/made-by-test' }] as const;
  await output(['echo'], { mounts, layers: [host.layer, evil] });
  assert(!existsSync('/tmp/made-by-test'));
  const covered = await table.create(
    host.config(['/bin/probe', 'echo'], { mounts: [{ type: 'tmpfs', target: '/proc/sys' }] }),
  );
  await assert.rejects(covered.start(), /nothing may cover \/proc/);
});

test("hosts, hostname and resolv.conf come from the host's files", async () => {
  const names = ['hosts', 'hostname', 'resolv.conf'];
  for (const name of names) writeFileSync(join(host.dir, name), `${name} of the test\n`);
  const text = await output(['cat', ...names.map((name) => `/etc/${name}`)], {
    hostsFile: join(host.dir, 'hosts'),
    hostnameFile: join(host.dir, 'hostname'),
    resolvConfFile: join(host.dir, 'resolv.conf'),
  });
  assert.equal(text, 'hosts of the test\nhostname of the test\nresolv.conf of the test');
});

test('sysctls of its own namespaces are set, others refused', async () => {
  const somaxconn = '/proc/sys/net/core/somaxconn';
  const sysctls = { 'net.core.somaxconn': '321' };
  assert.equal(await output(['cat', somaxconn], { sysctls }), '321');
  const start = '/proc/sys/net/ipv4/ip_unprivileged_port_start';
  assert.equal(await output(['cat', start]), '0');
  await assert.rejects(
    table.create(host.config(['x'], { sysctls: { 'kernel.hostname': 'x' } })),
    /not kept apart by container/,
  );
});

test('a terminal takes the place of the pipes', async () => {
  const text = await output(['tty'], { tty: true });
  assert.equal(text.trim(), 'terminal /dev/pts/0');
});

test('a configuration that cannot be is refused in one line and leaves nothing', async () => {
  const before = table.list().length;
  const cases: [Partial<ContainerConfig>, RegExp][] = [
    [{ args: [] }, /no command specified/],
    [{ layers: [] }, /no image layers/],
    [{ workingDir: 'relative' }, /not an absolute path/],
    [{ mounts: [{ type: 'bind', source: 'x', target: '/y' }] }, /not an absolute path/],
    [{ stopSignal: 'SIGNOTHING' }, /unknown signal/],
    [{ capabilityAdd: ['FLYING'] }, /unknown capability "FLYING"/],
    [{ env: ['A=\0'] }, /NUL byte/],
    [{ resources: { memoryBytes: 1000, memorySwapBytes: 10 } }, /below the memory limit/],
  ];
  for (const [extra, expected] of cases) {
    await assert.rejects(table.create(host.config(['x'], extra)), expected);
  }
  assert.equal(table.list().length, before);
});

test('a bind whose source is missing fails the start and says which', async () => {
  const mounts = [{ type: 'bind', source: '/not/there', target: '/x' }] as const;
  const container = await table.create(host.config(['/bin/probe', 'echo'], { mounts }));
  await assert.rejects(container.start(), /cannot mount \/not\/there on \/x: No such file/);
  assert.equal(container.exit?.exitCode, 128);
});

test('it is killed when it takes more memory than its limit, and that is told apart', async () => {
  const resources = { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 };
  const { container } = await runToEnd(
    table,
    host.config(['/bin/probe', 'allocate', '64'], { resources }),
  );
  assert.deepEqual(
    [container.exit?.exitCode, container.exit?.signal, container.exit?.oomKilled],
    [137, 9, true],
  );
  assert.equal(await output(['allocate', '4'], { resources }), 'allocated 4 MiB');
});

test('no more processes than its limit can be made', async () => {
  assert.match(await output(['forks', '100'], { resources: { pids: 10 } }), /^9 of 100 /);
});

test('cpu quota, shares and set are in force, and usage is counted', async () => {
  const container = await table.create(
    host.config(['/bin/probe', 'cat', '/proc/self/status'], {
      resources: { nanoCpus: 500_000_000, cpuShares: 512, cpusetCpus: '0', memoryBytes: 32 << 20 },
    }),
  );
  await container.start();
  await container.wait();
  assert.match(await logText(container), /Cpus_allowed_list:\t0\n/);
  const sleeper = await table.create(
    host.config(['/bin/probe', 'sleep', '60'], {
      resources: { nanoCpus: 1_500_000_000, cpuShares: 512, memoryBytes: 32 << 20 },
    }),
  );
  await sleeper.start();
  const value = (controller: string, file: string): string => {
    const hierarchy = host.cgroups.hierarchies.find((h) => h.controllers.includes(controller));
    const dir = join(hierarchy?.path ?? '', host.cgroupParent, sleeper.config.id);
    return readFileSync(join(dir, file), 'utf8').trim();
  };
  if (host.cgroups.mode === 'v2') {
    assert.equal(value('cpu', 'cpu.max'), '150000 100000');
    assert.equal(value('memory', 'memory.max'), String(32 << 20));
  } else {
    assert.equal(value('cpu', 'cpu.cfs_quota_us'), '150000');
    assert.equal(value('cpu', 'cpu.shares'), '512');
    assert.equal(value('memory', 'memory.limit_in_bytes'), String(32 << 20));
  }
  const stats = await sleeper.stats();
  assert.equal(stats.pids, 1);
  assert(stats.cpuNs > 0);
  await sleeper.remove();
  await assert.rejects(sleeper.stats(), /not running/);
});

test('the stop signal ends it, and after the grace SIGKILL does', async () => {
  const polite = await table.create(
    host.config(['/bin/probe', 'signal', '10'], { stopSignal: 'SIGUSR1' }),
  );
  await polite.start();
  await until('the handler', 5000, async () => (await logText(polite)) === 'ready\n');
  assert.equal((await polite.stop(10_000)).exitCode, 42);
  assert.equal(await logText(polite), 'ready\nsignal 10\n');

  const stubborn = await table.create(host.config(['/bin/probe', 'stubborn']));
  await stubborn.start();
  await until('the handler', 5000, async () => (await logText(stubborn)) === 'ready\n');
  const record = await stubborn.stop(50);
  assert.deepEqual([record.exitCode, record.signal, record.oomKilled], [137, 9, false]);
  await assert.rejects(stubborn.kill('TERM'), /not running/);
});

test('it can be killed by any signal it does not handle', async () => {
  const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  await container.start();
  assert(container.pid > 0);
  await container.kill('SIGKILL');
  assert.equal((await container.wait()).exitCode, 137);
});

test('when the first process ends, all others of the container end with it', async () => {
  const { output } = await runToEnd(table, host.config(['/bin/probe', 'orphan']));
  assert.equal(output, 'parent ends\n');
});

test('a network namespace made by somebody else is joined', async () => {
  const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  await container.start();
  const path = `/proc/${container.pid}/ns/net`;
  const joined = await table.create(
    host.config(['/bin/probe', 'sleep', '60'], { networkNamespace: { path } }),
  );
  await joined.start();
  const { readlinkSync } = await import('node:fs');
  assert.equal(readlinkSync(`/proc/${joined.pid}/ns/net`), readlinkSync(path));
  const onHost = await table.create(
    host.config(['/bin/probe', 'sleep', '60'], { networkNamespace: 'host' }),
  );
  await onHost.start();
  assert.equal(readlinkSync(`/proc/${onHost.pid}/ns/net`), readlinkSync('/proc/self/ns/net'));
});

test('the shim is found under its name in ps and takes little memory', async () => {
  const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  await container.start();
  const shim = parentOf(container.pid);
  const title = readFileSync(`/proc/${shim}/cmdline`, 'utf8');
  assert.equal(title, `tsswarm-shim\0${container.config.id.slice(0, 12)}\0`);
  const pss = /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${shim}/smaps_rollup`, 'utf8'))?.[1];
  assert(Number(pss) <= 100, `PSS ${pss} kB`);
});

test('the control socket freezes, thaws and sizes, and refuses what cannot be', async () => {
  const start = async (args: readonly string[], tty: boolean): Promise<Container> => {
    const container = await table.create(host.config(['/bin/probe', ...args], { tty }));
    await container.start();
    return container;
  };
  const client = (container: Container): ShimClient =>
    ShimClient.connect(
      join(host.options.execRoot, 'containers', container.config.id),
      host.options.clock,
      { state: () => {}, exited: () => {}, closed: () => {} },
    );
  const ticking = await start(['ticks', '0'], false);
  const shim = client(ticking);
  await shim.freeze(true);
  const frozenAt = writtenBytes(ticking.pid);
  const other = await start(['ticks', '10'], false);
  await other.wait();
  assert.equal(writtenBytes(ticking.pid), frozenAt, 'it went on while another ticked ten times');
  await shim.freeze(false);
  await until('ticks', 5000, () => writtenBytes(ticking.pid) > frozenAt + 30);
  await shim.freeze(true);
  assert.equal((await ticking.stop(10)).exitCode, 137);
  shim.close();
  const terminal = await start(['sleep', '60'], true);
  const terminalShim = client(terminal);
  await terminalShim.resize(40, 120);
  terminalShim.close();
  const piped = await start(['sleep', '60'], false);
  const pipedShim = client(piped);
  await assert.rejects(pipedShim.resize(40, 120), /cannot resize/);
  pipedShim.close();
});
