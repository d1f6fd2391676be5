/**
 * What a program's process is besides its files and namespaces: scheduling, places, labels,
 * capabilities, limits, its seccomp listener, and its root where pivot_root cannot be.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { TAG } from '../../runtime/container/encode.ts';
import { FLAG, NAMESPACE } from '../../runtime/container/specRecords.ts';
import type { ContainerConfig, ExitRecord } from '../../runtime/container/types.ts';
import {
  AF_UNIX,
  bind,
  check,
  close,
  define,
  listen,
  makePipe,
  receiveWithDescriptors,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socket,
  unixAddress,
} from '../../runtime/sys/libc.ts';
import {
  DETACHED,
  type Extra,
  launcherHost,
  numeric,
  statusOf,
  type Told,
} from '../support/launcher.ts';
import { parentOf } from '../support/processes.ts';
import { until } from '../support/until.ts';

const { host, launcher } = launcherHost('process');

async function start(
  args: readonly string[],
  extra: readonly Extra[],
  flags = 0,
  fds: readonly number[] = [],
): Promise<Told> {
  const joins = extra.some(([tag, kind]) => tag === TAG.namespace && kind === NAMESPACE.pid);
  const config = host.config(['/bin/probe', ...args], { pidNamespace: joins ? 'host' : 'new' });
  return await launcher.start(launcher.spec(config, DETACHED | flags, [numeric, ...extra]), fds);
}

async function sleeping(extra: readonly Extra[], flags = 0): Promise<number> {
  const told = await start(['sleep', '60'], extra, flags);
  assert.equal(told.failure, undefined);
  return told.pid;
}

const shell = (file: string, ...args: string[]): string =>
  execFileSync(file, args, { encoding: 'utf8' }).trim();

test("policy, I/O priority, memory nodes, processors and personality are the kernel's", async () => {
  const pid = await sleeping([
    [TAG.scheduler, 3, 0n, 7, 0, 0n, 0n, 0n], // SCHED_BATCH, nice 7
    [TAG.ioPriority, (2 << 13) | 5], // best effort, 5
    [TAG.memoryPolicy, 2, 0, '0'], // bind
    [TAG.cpuAffinity, 1, '0'],
    [TAG.personality, 0x0008n], // PER_LINUX32
  ]);
  assert.match(shell('chrt', '-p', String(pid)), /SCHED_BATCH/);
  assert.equal(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')[16], '7');
  assert.equal(shell('ionice', '-p', String(pid)), 'best-effort: prio 5');
  assert.match(readFileSync(`/proc/${pid}/numa_maps`, 'utf8'), / bind:0 /);
  assert.equal(statusOf(pid, 'Cpus_allowed_list'), '0');
  assert.equal(readFileSync(`/proc/${pid}/personality`, 'utf8').trim(), '00000008');
});

test('what the kernel does not have fails the start by name', async () => {
  for (const [extra, error] of [
    [[TAG.scheduler, 99, 0n, 0, 0, 0n, 0n, 0n], /^cannot set the scheduling policy 99: /],
    [[TAG.ioPriority, 7 << 13], /^cannot set the I\/O priority 57344: /],
    [[TAG.memoryPolicy, 2, 0, '1023'], /^cannot set the memory policy 2 of nodes "1023": /],
    [[TAG.cpuAffinity, 1, '8000'], /^cannot run on the processors 8000: /],
    [[TAG.cpuAffinity, 1, '3-1'], /^a list of processors is malformed$/],
  ] as [Extra, RegExp][]) {
    assert.match((await start(['exit', '0'], [extra])).failure?.error ?? 'none', error);
  }
});

test('an initial affinity is where an exec begins, a final one where its program runs', async () => {
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const first = await launcher.start(launcher.spec(config, DETACHED, [numeric]));
  const spec = launcher.execSpec(
    config,
    first.pid,
    ['sleep', '60'],
    FLAG.noSupervisor | FLAG.numericUser,
    [numeric, [TAG.cpuAffinity, 0, '0']],
  );
  const told = await launcher.start(spec, [], ['exec']);
  assert.equal(told.failure, undefined);
  assert.equal(statusOf(told.pid, 'Cpus_allowed_list'), '0');
});

const hasAppArmor = (): boolean => {
  try {
    return readFileSync('/sys/module/apparmor/parameters/enabled', 'utf8').startsWith('Y');
  } catch {
    return false; // no such module
  }
};

test('a label that this kernel has no module for is refused by name', {
  skip: hasAppArmor() && 'this kernel has AppArmor',
}, async () => {
  const profile = await start(['exit', '0'], [[TAG.label, 1, 'docker-default']]);
  assert.deepEqual(profile.failure, {
    exitCode: 128,
    error:
      'cannot apply the AppArmor profile "docker-default": this host\'s kernel has no AppArmor',
  });
  const label = await start(['exit', '0'], [[TAG.label, 2, 'system_u:system_r:x:s0']]);
  assert.match(label.failure?.error ?? '', /^cannot apply the SELinux label .* has no SELinux$/);
});

test('each set of capabilities is its own, and ambient ones survive another user', async () => {
  const [chown, kill, net] = [1n << 0n, 1n << 5n, 1n << 10n];
  const pid = await sleeping([
    [TAG.user, '1000:1000'],
    [TAG.capabilities, chown | kill | net, kill | net, kill | net, kill, kill],
  ]);
  const set = (name: string): bigint => BigInt(`0x${statusOf(pid, `Cap${name}`)}`);
  assert.equal(set('Bnd'), chown | kill | net);
  assert.equal(set('Inh'), kill);
  assert.equal(set('Amb'), kill);
  // Executed by another user than root: what is left is what is ambient.
  assert.deepEqual([set('Prm'), set('Eff')], [kill, kill]);
});

test('a limit that may not be raised is cut, and that is told', async () => {
  const NOFILE = 7;
  const most = BigInt(
    /Max open files\s+\d+\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? '0',
  );
  const pipe = makePipe();
  const wanted = most * 2n;
  const told = await start(['limit', '7'], [[TAG.rlimit, NOFILE, wanted, wanted]], 0, [
    0,
    pipe.write,
    pipe.write,
  ]);
  closeSync(pipe.write);
  const [soft, hard] = readFileSync(pipe.read, 'utf8').trim().split(' ').map(BigInt);
  closeSync(pipe.read);
  if (hard === wanted) {
    assert.deepEqual([soft, told.notes], [wanted, []]); // with CAP_SYS_RESOURCE
    return;
  }
  assert.deepEqual([soft, hard], [most, most]);
  assert.deepEqual(told.notes, [
    `RLIMIT_NOFILE is cut to ${most}:${most}: this host may not raise it further`,
  ]);
});

test('an OOM score that may not be lowered is left out, and that is told', async () => {
  const own = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const spec = launcher.spec(config, DETACHED, [numeric, [TAG.oomScore, own - 1]]);
  const { pid, notes } = await launcher.start(spec);
  const its = Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
  if (its === own - 1) return; // with CAP_SYS_RESOURCE
  assert.deepEqual(notes, [`OOM score ${own - 1} is left out: this host may not lower its own`]);
});

test('a limit of few files hampers the program only, not how it is made', async () => {
  const NOFILE = 7;
  const pid = await sleeping([[TAG.rlimit, NOFILE, 4n, 4n]]);
  assert.match(readFileSync(`/proc/${pid}/limits`, 'utf8'), /Max open files\s+4\s+4 /);
});

test("where pivot_root cannot be, the root is moved, and the host's kernel files are gone", async () => {
  const pid = await sleeping([], FLAG.noPivot);
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n');
  const points = mounts.map((line) => line.split(' ')[4]);
  assert(points.includes('/proc') && points.includes('/dev/shm'), points.join(' '));
  assert.equal(points.filter((point) => point === '/proc').length, 1);
  assert.equal(readlinkSync(`/proc/${pid}/root`), '/');
  assert.equal(
    readFileSync(`/proc/${pid}/root/etc/passwd`, 'utf8'),
    readFileSync(join(host.layer, 'etc/passwd'), 'utf8'),
  );
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const first = await launcher.start(launcher.spec(config, DETACHED | FLAG.noPivot, [numeric]));
  const pipe = makePipe();
  const spec = launcher.execSpec(
    config,
    first.pid,
    ['cat', '/etc/passwd'],
    FLAG.noSupervisor | FLAG.numericUser,
    [numeric],
  );
  const told = await launcher.start(spec, [0, pipe.write, pipe.write], ['exec']);
  closeSync(pipe.write);
  assert.equal(told.failure, undefined);
  assert.match(readFileSync(pipe.read, 'utf8'), /^joe:/m);
  closeSync(pipe.read);
});

// ---- The seccomp listener

const SECCOMP_RET_USER_NOTIF = 0x7fc00000;
const SECCOMP_RET_ALLOW = 0x7fff0000;
const NR_GETUID = process.arch === 'arm64' ? 174 : 102;
const ANSWER_UID = 4711n;

/** getuid asks the listener, everything else is allowed. */
function notifyingProgram(number: number): Uint8Array {
  const program = Buffer.alloc(4 * 8);
  const put = (at: number, code: number, yes: number, no: number, k: number): void => {
    program.writeUInt16LE(code, at * 8);
    program.writeUInt8(yes, at * 8 + 2);
    program.writeUInt8(no, at * 8 + 3);
    program.writeUInt32LE(k, at * 8 + 4);
  };
  put(0, 0x20, 0, 0, 0); // load the number
  put(1, 0x15, 0, 1, number);
  put(2, 0x06, 0, 0, SECCOMP_RET_USER_NOTIF);
  put(3, 0x06, 0, 0, SECCOMP_RET_ALLOW);
  return program;
}

const ioctl = define<(fd: number, request: number, data: Uint8Array) => number>(
  '',
  'int ioctl(int fd, unsigned long request, void *data)',
);
const poll = define<(entry: Uint8Array, count: number, timeoutMs: number) => number>(
  '',
  'int poll(void *entry, unsigned long count, int timeout)',
);
const NOTIF_RECV = 0xc0502100;
const NOTIF_SEND = 0xc0182101;
const POLLIN = 1;

function isReadable(fd: number): boolean {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd, 0);
  entry.writeInt16LE(POLLIN, 4);
  return poll(entry, 1, 0) === 1 && (entry.readInt16LE(6) & POLLIN) !== 0;
}

/** Answers one call with `value`; the number of the call. */
async function answer(listener: number, value: bigint): Promise<number> {
  await until('a call to be told', 10_000, () => isReadable(listener));
  const asked = Buffer.alloc(80);
  check(ioctl(listener, NOTIF_RECV, asked), 'cannot receive a notification');
  const reply = Buffer.alloc(24);
  asked.copy(reply, 0, 0, 8);
  reply.writeBigInt64LE(value, 8);
  check(ioctl(listener, NOTIF_SEND, reply), 'cannot answer a notification');
  return asked.readInt32LE(16);
}

const accept4 = define<(fd: number, address: null, length: null, flags: number) => number>(
  '',
  'int accept4(int fd, void *address, void *length, int flags)',
);

function agentAt(path: string): number {
  const fd = check(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), 'socket');
  const address = unixAddress(path);
  check(bind(fd, address, address.length), 'bind');
  check(listen(fd, 4), 'listen');
  return fd;
}

for (const [what, flags] of [
  ['with no_new_privs', FLAG.noNewPrivileges],
  ['without no_new_privs', 0],
] as const) {
  test(`a seccomp agent gets the listener and the state, ${what}`, async () => {
    const path = join(host.dir, `agent-${flags}.sock`);
    const server = agentAt(path);
    const pipe = makePipe();
    const listener: Extra = [
      TAG.seccompListener,
      0,
      path,
      '{"fds":["seccompFd"],"pid":',
      ',"metadata":"m","state":{"status":"creating","pid":',
      '}}',
    ];
    const program: Extra = [TAG.seccomp, notifyingProgram(NR_GETUID)];
    const told = await start(['whoami'], [program, listener], flags, [0, pipe.write, pipe.write]);
    closeSync(pipe.write);
    assert.equal(told.failure, undefined);
    const connection = check(accept4(server, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC), 'accept');
    const data = Buffer.alloc(4096);
    const { bytes, fds } = receiveWithDescriptors(connection, data);
    assert.deepEqual(JSON.parse(data.toString('utf8', 0, bytes)), {
      fds: ['seccompFd'],
      pid: told.pid,
      metadata: 'm',
      state: { status: 'creating', pid: told.pid },
    });
    assert.match(readlinkSync(`/proc/self/fd/${fds[0]}`), /seccomp notify/);
    assert.equal(await answer(fds[0], ANSWER_UID), NR_GETUID);
    assert.match(readFileSync(pipe.read, 'utf8'), /^uid=4711 gid=0 /);
    for (const fd of [pipe.read, connection, server, fds[0]]) closeSync(fd);
    assert.equal(await launcher.end(told.pid), 0);
  });
}

test('what the launcher itself calls may wait for the agent: it is handed over before', async () => {
  // write, close, munmap, exit_group: whatever the process does next.
  const path = join(host.dir, 'agent-all.sock');
  const server = agentAt(path);
  const listener: Extra = [TAG.seccompListener, 0, path, '{"pid":', '}'];
  const NR_MUNMAP = process.arch === 'arm64' ? 215 : 11;
  const told = start(['exit', '5'], [[TAG.seccomp, notifyingProgram(NR_MUNMAP)], listener]);
  const connection = await until('the launcher to connect', 10_000, () => {
    const fd = accept4(server, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd >= 0 ? fd : undefined;
  });
  const fds = await until('the listener', 10_000, () => {
    const got = receiveWithDescriptors(connection, Buffer.alloc(64));
    return got.fds.length > 0 ? got.fds : undefined;
  });
  assert.equal(await answer(fds[0], 0n), NR_MUNMAP);
  let isOver = false;
  const rest = (async (): Promise<void> => {
    while (!isOver) {
      await until('a call or the end', 10_000, () => isOver || isReadable(fds[0]));
      if (!isOver) await answer(fds[0], 0n);
    }
  })();
  const { pid, failure } = await told;
  assert.equal(failure, undefined);
  assert.equal(await launcher.end(pid), 5);
  isOver = true;
  await rest.catch(() => {
    // the last one asked has ended meanwhile
  });
  for (const fd of [connection, server, fds[0]]) close(fd);
});

function isHelperOf(program: number, pid: string): boolean {
  if (!/^\d+$/.test(pid)) return false;
  try {
    const isHelper = statusOf(Number(pid), 'Name') === 'tsswarm-hooks';
    return isHelper && parentOf(Number(pid)) === parentOf(program);
  } catch {
    return false; // it has ended meanwhile
  }
}

test("in another's pid namespace the listener is of who makes the program's process", async () => {
  const first = await sleeping([]);
  const beside: Extra = [TAG.namespace, NAMESPACE.pid, `/proc/${first}/ns/pid`];
  for (const flags of [0, FLAG.noNewPrivileges]) {
    const path = join(host.dir, `agent-beside-${flags}.sock`);
    const server = agentAt(path);
    const pipe = makePipe();
    const extra: Extra[] = [
      beside,
      [TAG.seccomp, notifyingProgram(NR_GETUID)],
      [TAG.seccompListener, 0, path, '{"pid":', '}'],
    ];
    const told = await start(['whoami'], extra, flags, [0, pipe.write, pipe.write]);
    closeSync(pipe.write);
    assert.equal(told.failure, undefined);
    const connection = check(accept4(server, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC), 'accept');
    const { fds } = receiveWithDescriptors(connection, Buffer.alloc(64));
    assert.equal(await answer(fds[0], ANSWER_UID), NR_GETUID);
    assert.match(readFileSync(pipe.read, 'utf8'), /^uid=4711 gid=0 /);
    for (const fd of [pipe.read, connection, server, fds[0]]) closeSync(fd);
    assert.equal(await launcher.end(told.pid), 0);
  }
  process.kill(first, 'SIGKILL');
  await launcher.end(first);
});

test('a start whose helper is killed ends, supervised or not, instead of waiting for it', async () => {
  const path = join(host.dir, 'agent-slow.sock');
  const server = agentAt(path);
  // More than the agent's socket takes, of which it reads nothing.
  const extra: Extra[] = [
    numeric,
    [TAG.seccomp, notifyingProgram(NR_GETUID)],
    [TAG.seccompListener, 0, path, 'x'.repeat(4 << 20), ''],
  ];
  const killHelper = async ({ id }: ContainerConfig): Promise<void> => {
    const program = await until('the program', 10_000, () => host.cgroups.pids(id)[0]);
    await until('its filter', 10_000, () => statusOf(program, 'Seccomp') === '2');
    const helper = await until('its helper', 10_000, () =>
      readdirSync('/proc').find((pid) => isHelperOf(program, pid)),
    );
    process.kill(Number(helper), 'SIGKILL');
  };
  const lost = 'killed before its program was executed';
  const config = host.config(['/bin/probe', 'exit', '0']);
  const told = launcher.start(launcher.spec(config, DETACHED, extra));
  await killHelper(config);
  assert.equal((await told).failure?.error, lost);
  const supervised = host.config(['/bin/probe', 'exit', '0']);
  let record: ExitRecord | undefined;
  const events = {
    state: () => {},
    exited: (exit: ExitRecord) => {
      record = exit;
    },
    closed: () => {},
  };
  launcher.supervise(supervised, 0, extra, events);
  await killHelper(supervised);
  await until('its end', 10_000, () => record !== undefined);
  assert.equal(record?.error, lost);
  const first = await sleeping([]);
  const beside = host.config(['/bin/probe', 'exit', '0'], { pidNamespace: 'host' });
  const joined: Extra = [TAG.namespace, NAMESPACE.pid, `/proc/${first}/ns/pid`];
  const begun = launcher.start(launcher.spec(beside, DETACHED, [...extra, joined]));
  await killHelper(beside);
  assert.equal((await begun).failure?.error, 'killed before its namespaces were made');
  process.kill(first, 'SIGKILL');
  await launcher.end(first);
  close(server);
});

test('without an agent the start fails by its path, before any filter is loaded', async () => {
  const path = join(host.dir, 'nobody.sock');
  const told = await start(
    ['exit', '0'],
    [
      [TAG.seccomp, notifyingProgram(NR_GETUID)],
      [TAG.seccompListener, 0, path, '{"pid":', '}'],
    ],
  );
  assert.equal(
    told.failure?.error,
    `failed to connect with seccomp agent ${path}: No such file or directory`,
  );
});
