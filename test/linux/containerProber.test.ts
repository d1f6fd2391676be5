/**
 * A hostile program in a container with Docker's default profile (test/support/prober.c): what it
 * may call, open, write and see, and what programs put in beside it give away. Nothing leads out.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { KILLED_EXIT_CODE } from '../../runtime/container/exitRecord.ts';
import { maskedPaths, READ_ONLY_PATHS } from '../../runtime/container/profile.ts';
import type { Container, ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { exec } from '../support/probeExec.ts';
import { parentOf } from '../support/processes.ts';
import { buildProbe, logText, makeTestHost, outputOf, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const SOON_MS = 10_000;
const HUNT_MS = 2500;
const host = makeTestHost('prober');
let table: ContainerTable;

before(async () => {
  buildProbe(join(host.layer, 'bin/prober'), 'prober');
  writeFileSync(join(host.layer, 'bin/self'), '#!/proc/self/exe\n', { mode: 0o755 });
  table = await host.open();
});

after(() => host.end(table));

function prober(args: readonly string[], more: Partial<ContainerConfig> = {}): Promise<string> {
  return outputOf(table, host.config(['/bin/prober', ...args], more));
}

/** What an exec of the prober in `container` writes to its standard output. */
async function within(container: Container, args: readonly string[], more = {}): Promise<string> {
  const ran = await container.exec({ ...exec([]), args: ['/bin/prober', ...args], ...more });
  let text = '';
  for await (const chunk of ran.streams.stdout ?? []) text += String(chunk);
  await ran.wait();
  return text;
}

/** Everything is refused with EPERM but for these. */
const OTHERWISE: Readonly<Record<string, string>> = {
  clone3: 'ENOSYS', // so that the C library falls back to clone, whose flags can be looked at
  'socket(PACKET)': 'allowed', // CAP_NET_RAW is among Docker's; it sees its own network only
  'number 900': 'ENOSYS',
};

function checkCalls(output: string): void {
  const lines = output.trim().split('\n');
  assert.ok(lines.length > 40, output);
  for (const line of lines) {
    const at = line.lastIndexOf(' ');
    const [name, answer] = [line.slice(0, at), line.slice(at + 1)];
    assert.equal(answer, OTHERWISE[name] ?? 'EPERM', name);
  }
}

test('the default profile refuses every call that leads out, to init, exec and users', async () => {
  checkCalls(await prober(['calls']));
  checkCalls(await prober(['calls'], { noNewPrivileges: true }));
  const container = await started(table, host.config(['/bin/probe', 'stubborn']));
  checkCalls(await within(container, ['calls']));
  const asUser = await prober(['calls'], { user: 'joe' });
  assert.doesNotMatch(asUser, /\) allowed|^(bpf|keyctl|mount\S*|userfaultfd|io_\w+) allowed/m);
  await container.remove();
});

test('a program has its three descriptors and no more, with a terminal, an input, an exec', async () => {
  const three = /^0 \/dev\/null\n1 pipe:\n2 pipe:$/;
  assert.match(await prober(['descriptors']), three);
  assert.match(await prober(['descriptors'], { openStdin: true }), /^0 pipe:\n1 pipe:\n2 pipe:$/);
  assert.match(await prober(['descriptors'], { init: true }), three);
  const terminal = /^0 \/dev\/(pts\/0|console)\s+1 \S+\s+2 \S+$/;
  assert.match(await prober(['descriptors'], { tty: true }), terminal);
  const container = await started(table, host.config(['/bin/probe', 'stubborn'], { tty: true }));
  assert.match((await within(container, ['descriptors'])).trim(), three);
  const typed = await within(container, ['descriptors'], { stdin: true });
  assert.match(typed.trim(), /^0 pipe:\n1 pipe:\n2 pipe:$/);
  assert.match(
    (await within(container, ['descriptors'], { tty: true })).trim(),
    /^0 \/dev\/pts\/\d+\s+1 \S+\s+2 \S+$/,
  );
  await container.remove();
});

const KERNEL_FILES = [
  ...['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sysrq-trigger'],
  ...['/proc/sys/kernel/hostname', '/proc/sys/vm/panic_on_oom', '/proc/sys/fs/file-max'],
  ...['/proc/sys/net/ipv4/ip_forward', '/proc/irq/default_smp_affinity'],
  ...['/sys/kernel/uevent_helper', '/sys/power/state', '/sys/kernel/mm/ksm/run'],
  ...['/sys/fs/cgroup/release_agent', '/sys/fs/cgroup/memory/release_agent'],
  ...['/sys/fs/cgroup/memory/notify_on_release', '/sys/fs/cgroup/memory/cgroup.procs'],
  ...['/sys/fs/cgroup/devices/devices.allow', '/sys/fs/cgroup/pids/pids.max'],
  ...['/sys/fs/cgroup/unified/cgroup.procs', '/sys/fs/cgroup/cgroup.subtree_control'],
];

test('no file of the kernel can be written, nor what is masked read', async () => {
  const container = await started(table, host.config(['/bin/probe', 'stubborn']));
  const masked = [...maskedPaths(), '/proc/timer_list', '/sys/firmware'];
  const written = await within(container, ['write', ...KERNEL_FILES]);
  for (const line of written.trim().split('\n')) {
    assert.match(line, / (EROFS|ENOENT|EACCES|EPERM)$/, line);
  }
  const read = await within(container, ['read', ...masked, ...READ_ONLY_PATHS]);
  const told = new Map(
    read
      .trim()
      .split('\n')
      .map((line) => [line.split(' ')[0], line]),
  );
  for (const path of masked) {
    assert.match(told.get(path) ?? '', / (ENOENT|EACCES|empty|0 entries)$/, path);
  }
  const tried = await within(container, ['write', ...masked, ...READ_ONLY_PATHS]);
  for (const line of tried.trim().split('\n')) {
    // What is masked with /dev/null takes any write, and keeps none.
    const isNull = maskedPaths().includes(line.split(' ')[0]) && line.endsWith(' allowed');
    assert.ok(isNull || / (EROFS|ENOENT|EACCES|EISDIR|EPERM)$/.test(line), line);
  }
  await container.remove();
});

test('devices of the host can be made, and not one of them opened', async () => {
  const names = ['c1:1', 'c1:2', 'c1:4', 'c1:11', 'c4:0', 'c5:3', 'c7:0', 'c10:200', 'c10:237'];
  names.push('c10:229', 'c10:232', 'c13:64', 'c29:0', 'c108:0', 'c116:0', 'c195:0', 'c226:0');
  names.push('b1:0', 'b7:0', 'b8:0', 'b8:1', 'b253:0', 'b254:0', 'b259:0', 'b179:0');
  for (const more of [{}, { capabilityAdd: ['SYS_ADMIN', 'SYS_RAWIO'] }]) {
    const output = await prober(['devices', ...names], more);
    assert.deepEqual(
      output.split('\n'),
      names.map((name) => `${name} EPERM EPERM`),
    );
  }
});

/** Puts a program in beside the hunter; whether that was still there. */
type Bait = (hunter: Container, count: number) => Promise<boolean>;

/** What a hunter in a container reaches of the programs that are put in beside it. */
async function hunted(
  ways: readonly string[],
  bait: Bait,
  more: Partial<ContainerConfig> = {},
): Promise<string> {
  const hunt = ['/bin/prober', 'hunt', String(HUNT_MS), ...ways];
  const container = await started(table, host.config(hunt, more));
  await until('the hunt', SOON_MS, async () => (await logText(container)).includes('ready'));
  for (let count = 0, isThere = true; isThere; count += 1) {
    isThere = await bait(container, count).catch((error: unknown) => {
      assert.ok(count > 0, String(error));
      return false; // the hunter has ended
    });
  }
  await container.wait();
  const output = await logText(container);
  await container.remove();
  return output;
}

/** Each of these is the shim for a moment, in the container's pid namespace. */
const execOf =
  (program: string): Bait =>
  async (hunter, count) => {
    const more = { user: count % 2 === 0 ? '' : '1000', workingDir: '/tmp' };
    const ran = await hunter.exec({ ...exec([]), args: [program, 'where'], ...more });
    return (await ran.wait()) !== KILLED_EXIT_CODE;
  };

/** A container of its own, whose first process is born there. */
const birthOf =
  (more: Partial<ContainerConfig>): Bait =>
  async (hunter, count) => {
    const beside = await table.create(
      host.config(['/bin/prober', 'where'], {
        pidNamespace: { container: hunter.config.id },
        user: count % 2 === 0 ? '' : '1000',
        ...more,
      }),
    );
    try {
      await beside.start();
      return (await beside.wait()).exitCode !== KILLED_EXIT_CODE;
    } finally {
      await beside.remove();
    }
  };

test('programs put into a container show it neither their executable nor their files', async () => {
  const ways = ['exe', 'mem', 'root', 'cwd', 'fd/3', 'fd/4', 'fd/5', 'ns/mnt', 'environ'];
  const output = await hunted(ways, execOf('/bin/prober'));
  assert.doesNotMatch(output, /reached/);
  assert.doesNotMatch(output, /^0 foreign/m, 'the hunter saw none');
  // A script of itself is the shim's program once more, as the container's own: it may be looked
  // at, and not written.
  assert.doesNotMatch(await hunted(['+exe'], execOf('/bin/self')), /reached/);
});

/** Ways to the host's root through what a process has open. */
function waysToHost(): string[] {
  const marker = join(host.dir, 'marker');
  writeFileSync(marker, 'of the host');
  const up = '/..'.repeat(20);
  // Up from a directory of the host's, also from one of its control groups, is its root.
  const fds = Array.from({ length: 20 }, (_, at) => `!fd/${at + 3}${up}${marker}`);
  return [`!root${marker}`, `!cwd${up}${marker}`, ...fds];
}

test('no program in a container is a way to the host, for who may trace it either', async () => {
  const bait = execOf('/bin/prober');
  const output = await hunted(waysToHost(), bait, { capabilityAdd: ['SYS_PTRACE'] });
  assert.doesNotMatch(output, /reached/);
  assert.doesNotMatch(output, /^0 foreign/m, 'the hunter saw none');
});

const WAYS_TO_BE_BORN: readonly (readonly [string, Partial<ContainerConfig>])[] = [
  ['as it is', {}],
  ['with no_new_privs and a reaper', { noNewPrivileges: true, init: true }],
  ['with a terminal and another root', { tty: true, readOnlyRoot: true, workingDir: '/tmp' }],
];

for (const [how, more] of WAYS_TO_BE_BORN) {
  test(`a container born ${how} into another's pid namespace gives who may trace it nothing`, async () => {
    const output = await hunted(['caps', ...waysToHost()], birthOf(more), {
      capabilityAdd: ['SYS_PTRACE'],
    });
    assert.doesNotMatch(output, /reached/);
    assert.doesNotMatch(output, /^0 foreign/m, 'the hunter saw none');
  });
}

test("the shim's executable is sealed: who reaches it changes nothing", async () => {
  const container = await started(table, host.config(['/bin/probe', 'stubborn']));
  const path = `/proc/${parentOf(container.pid)}/exe`;
  const digest = (): string => createHash('sha256').update(readFileSync(path)).digest('hex');
  const own = createHash('sha256').update(readFileSync('dist/runtime/shim/tsswarm-shim'));
  assert.equal(digest(), own.digest('hex'));
  for (const flags of ['r+', 'a', 'w'] as const) {
    assert.throws(() => openSync(path, flags), /EPERM|ETXTBSY|EACCES/, flags);
  }
  // The kernel reads "#!/proc/self/exe" before the program is another: it must not be the shim's.
  await assert.rejects(
    container.exec({ ...exec([]), args: ['/bin/self'] }).then(async (ran) => {
      const code = await ran.wait();
      if (code !== 0) throw new Error(`exit ${code}`);
    }),
  );
  await container.remove();
});

test('a working directory, an account file or a name that plays tricks leads nowhere', async () => {
  const tricks = join(host.dir, 'tricks');
  mkdirSync(join(tricks, 'etc'), { recursive: true });
  symlinkSync('/proc/self/fd/3', join(tricks, 'etc/passwd'));
  symlinkSync('/proc/1/root/etc/group', join(tricks, 'etc/group'));
  symlinkSync('/proc/self/cwd/..', join(tricks, 'up'));
  symlinkSync('/proc/self/root/..', join(tricks, 'root'));
  const layers = [host.layer, tricks];
  const container = await started(table, host.config(['/bin/probe', 'stubborn'], { layers }));
  for (const workingDir of ['/proc/self/cwd', '/up', '/root', '/proc/self/fd/5/../../..', '/..']) {
    const output = await within(container, ['where'], { workingDir }).catch(() => '/');
    assert.match(output.trim(), /^\/(root|up|proc\/\d+\/\w+|tmp|)$/, workingDir);
  }
  await assert.rejects(
    container.exec({ ...exec(['whoami']), user: 'joe' }).then((ran) => ran.wait()),
    /unable to find user joe/,
  );
  const numbers = await container.exec({ ...exec(['whoami']), user: '1234:5' });
  assert.equal(await numbers.wait(), 0);
  await container.remove();
});

test('links in an image at /dev, /dev/console, /dev/pts and /proc change nothing outside', async () => {
  const outside = join(host.dir, 'outside-dev');
  mkdirSync(outside);
  writeFileSync(join(outside, 'console'), 'of the host');
  const out = `${'/..'.repeat(20)}${outside}`;
  const images: readonly (readonly [string, string])[] = [
    ['dev', out],
    ['dev/console', `${out}/console`],
    ['dev/pts', out],
    ['dev/shm', out],
    ['proc', out],
    ['sys', out],
    ['sys/fs/cgroup', out],
    ['etc', out],
  ];
  for (const [at, [name, target]] of images.entries()) {
    const upper = join(host.dir, `dev-${at}`);
    mkdirSync(join(upper, name, '..'), { recursive: true });
    symlinkSync(target, join(upper, name));
    for (const tty of [true, false]) {
      const layers = [host.layer, upper];
      const container = await table.create(host.config(['/bin/probe', 'tty'], { layers, tty }));
      await container.start().then(
        () => container.wait(),
        () => {}, // refused is as good
      );
      await container.remove();
      assert.equal(readFileSync(join(outside, 'console'), 'utf8'), 'of the host', name);
    }
  }
});

test('a sysctl by any path but its own is refused before anything is made', async () => {
  const names = ['net/../kernel/core_pattern', 'net.ipv4/../../kernel/core_pattern'];
  names.push('kernel.core_pattern', 'net..core', '../kernel/modprobe', 'net/./core/somaxconn');
  names.push('kernel/core_pattern', 'vm.overcommit_memory', 'fs.mqueue/../file-max', '/net/x', '');
  for (const name of names) {
    const attempt = async (): Promise<void> => {
      const config = host.config(['/bin/probe', 'echo'], { sysctls: { [name]: '|/bin/false' } });
      const container = await table.create(config);
      await container.start().finally(() => container.remove());
    };
    await assert.rejects(attempt(), /sysctl|no such file/i, name);
  }
});
