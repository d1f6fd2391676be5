/** Containers without a supervisor, as an OCI runtime makes them, and programs that enter one. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { TAG } from '../../runtime/container/encode.ts';
import { FLAG } from '../../runtime/container/specRecords.ts';
import type { ContainerConfig } from '../../runtime/container/types.ts';
import { makePipe, makeSocketPair, receiveWithDescriptors } from '../../runtime/sys/libc.ts';
import {
  DETACHED,
  type Extra,
  ended,
  launcherHost,
  numeric,
  PHASE,
  startTicks,
  statusOf,
  type Told,
} from '../support/launcher.ts';

const { host, launcher } = launcherHost('launcher');

/** Runs the probe in a container and gives back what it wrote, once it has ended. */
async function output(
  args: readonly string[],
  flags = 0,
  extra: readonly Extra[] = [],
): Promise<{ readonly text: string; readonly code: number; readonly told: Told }> {
  const pipe = makePipe();
  const config = host.config(['/bin/probe', ...args]);
  const spec = launcher.spec(config, DETACHED | flags, [numeric, ...extra]);
  const told = await launcher.start(spec, [0, pipe.write, pipe.write]);
  closeSync(pipe.write);
  assert.equal(told.failure, undefined);
  const text = readToEnd(pipe.read);
  return { text, code: await launcher.end(told.pid), told };
}

function readToEnd(fd: number): string {
  const text = readFileSync(fd, 'utf8');
  closeSync(fd);
  return text;
}

function makeFifo(name: string): string {
  const path = join(host.dir, name);
  execFileSync('mkfifo', ['-m', '600', path]);
  return path;
}

test('a container without a supervisor belongs to its caller, with the streams it was given', async () => {
  const { text, code, told } = await output(['whoami']);
  assert.match(text, /^uid=0 gid=0 cwd=\/ host=testhost pid=1 groups=\n$/);
  assert.deepEqual([code, told.phase, told.exitCode], [0, PHASE.running, 0]);
  const pipe = makePipe();
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const spec = launcher.spec(config, DETACHED, [numeric]);
  const sleeper = await launcher.start(spec, [0, pipe.write, pipe.write]);
  closeSync(pipe.write);
  assert.equal(statusOf(sleeper.pid, 'PPid'), String(process.pid));
  assert.deepEqual(host.cgroups.pids(config.id), [sleeper.pid]);
  process.kill(sleeper.pid, 'SIGKILL');
  assert.equal(await launcher.end(sleeper.pid), 137);
  assert.equal(readToEnd(pipe.read), '');
});

test('what cannot be made is told in one line and leaves no group', async () => {
  for (const [args, user, exitCode, error] of [
    [['/bin/absent'], '0:0', 127, /^cannot run "\/bin\/absent": No such file/],
    [['/bin/plain'], '0:0', 126, /^cannot run "\/bin\/plain": Permission denied/],
    [['/bin/probe', 'sleep', '1'], 'joe', 128, /^the user is not two numbers$/],
  ] as const) {
    const config = host.config(args);
    const told = await launcher.start(launcher.spec(config, DETACHED, [[TAG.user, user]]));
    assert.deepEqual([told.failure?.exitCode, told.exitCode, told.phase], [exitCode, 1, undefined]);
    assert.match(told.failure?.error ?? '', error);
    assert.deepEqual(
      host.cgroups.list().filter((id) => id === config.id),
      [],
    );
  }
});

test('a launcher that is not executed from a sealed memory file makes nothing', async () => {
  const config = host.config(['/bin/probe', 'exit', '0']);
  const spec = launcher.spec(config, DETACHED, [numeric]);
  const { pid, told } = launcher.begin(
    spec,
    [],
    ['test'],
    resolve('dist/runtime/shim/tsswarm-shim'),
  );
  assert.equal(
    (await told).failure?.error,
    'the launcher must be executed from a sealed memory file',
  );
  assert.equal(await ended(pid), 1);
});

test('a made container waits at its gate until somebody reads there', async () => {
  const gate = makeFifo('gate');
  const pipe = makePipe();
  const config = host.config(['/bin/probe', 'echo', 'started']);
  const spec = launcher.spec(config, DETACHED, [numeric, [TAG.gate, gate]]);
  const told = await launcher.start(spec, [0, pipe.write, pipe.write]);
  closeSync(pipe.write);
  assert.deepEqual([told.phase, told.exitCode], [PHASE.created, 0]);
  assert.equal(statusOf(told.pid, 'Name'), 'tsswarm-shim');
  assert.match(readFileSync(gate, 'latin1'), /^0+$/);
  assert.equal(readToEnd(pipe.read), 'started\n');
  assert.equal(await launcher.end(told.pid), 0);
  // Nobody waits there any more, which shows at once.
  const fd = openSync(gate, constants.O_RDONLY | constants.O_NONBLOCK);
  assert.equal(readSync(fd, Buffer.alloc(16)), 0);
  closeSync(fd);
});

test('a program that is missing is told when the container is made, one that fails at the gate', async () => {
  const gate = makeFifo('failing');
  const missing = launcher.spec(host.config(['absent']), DETACHED, [numeric, [TAG.gate, gate]]);
  const told = await launcher.start(missing);
  assert.deepEqual([told.failure?.exitCode, told.pid], [127, 0]);
  const config = host.config(['/bin/garbage']);
  const garbage = launcher.spec(config, DETACHED, [numeric, [TAG.gate, gate]]);
  const made = await launcher.start(garbage);
  assert.equal(made.phase, PHASE.created);
  const said = readFileSync(gate);
  const at = said.indexOf('E');
  assert.match(said.toString('latin1', 0, at), /^0+$/);
  assert.equal(said.readInt32LE(at + 1), 126);
  assert.equal(said.toString('utf8', at + 5), 'cannot run "/bin/garbage": Exec format error');
  assert.equal(await launcher.end(made.pid), 126);
});

test('a container at its gate can be killed', async () => {
  const gate = makeFifo('killed');
  const config = host.config(['/bin/probe', 'echo', 'never']);
  const spec = launcher.spec(config, DETACHED, [numeric, [TAG.gate, gate]]);
  const told = await launcher.start(spec);
  process.kill(told.pid, 'SIGKILL');
  assert.equal(await launcher.end(told.pid), 137);
});

test("preserved descriptors are the program's from 3 on, and no others", async () => {
  const { text } = await output(['descriptors']);
  assert.equal(text, '0 1 2 \n');
  const pipe = makePipe();
  const config = host.config(['/bin/probe', 'descriptors']);
  const gate = makeFifo('preserved');
  const extra: Extra[] = [numeric, [TAG.preserved, 5], [TAG.gate, gate]];
  const spec = launcher.spec(config, DETACHED, extra);
  const told = await launcher.start(spec, [
    ...[0, pipe.write, pipe.write],
    ...[0, pipe.write, pipe.write, pipe.write, pipe.write, pipe.write, pipe.write],
  ]);
  closeSync(pipe.write);
  readFileSync(gate);
  assert.equal(readToEnd(pipe.read), '0 1 2 3 4 5 6 7 \n');
  assert.equal(await launcher.end(told.pid), 0);
});

test('the terminal goes to the console socket, not to the launcher', async () => {
  const [ours, theirs] = makeSocketPair();
  const config = host.config(['/bin/probe', 'tty']);
  const spec = launcher.spec(config, DETACHED | FLAG.tty, [
    numeric,
    [TAG.console, 5],
    [TAG.terminal, 33, 77],
  ]);
  const told = await launcher.start(spec, [0, 1, 2, theirs]);
  closeSync(theirs);
  assert.equal(told.failure, undefined);
  const name = Buffer.alloc(64);
  const { bytes, fds } = receiveWithDescriptors(ours, name);
  closeSync(ours);
  assert.equal(name.toString('utf8', 0, bytes), '/dev/ptmx');
  assert.equal(fds.length, 1);
  assert.equal(await launcher.end(told.pid), 0);
  const line = Buffer.alloc(256);
  assert.match(line.toString('utf8', 0, readSync(fds[0], line)), /^terminal \/dev\/pts\/0\r\n/);
  closeSync(fds[0]);
});

test('a mask for new files, groups as numbers, and the session keyring are as they are told', async () => {
  const { text } = await output(['cat', '/proc/self/status', '/proc/keys'], 0, [
    [TAG.umask, 0o77],
    [TAG.user, '1000:1234'],
    [TAG.group, '50'],
    [TAG.group, '4711'],
  ]);
  assert.match(text, /^Umask:\t0077$/m);
  assert.match(text, /^Uid:\t1000\t1000\t1000\t1000$/m);
  assert.match(text, /^Gid:\t1234\t1234\t1234\t1234$/m);
  assert.match(text, /^Groups:\t50 4711 $/m);
  const home = await output(['env'], 0, [[TAG.user, '1000:0']]);
  assert.match(home.text, /^HOME=\/home\/joe$/m);
});

async function sleeping(
  extra: readonly Extra[] = [],
): Promise<{ readonly pid: number; readonly config: ContainerConfig }> {
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const told = await launcher.start(launcher.spec(config, DETACHED, [numeric, ...extra]));
  assert.equal(told.failure, undefined);
  return { pid: told.pid, config };
}

test('a further program enters a container by pid and start, and belongs to the caller', async () => {
  const { pid, config } = await sleeping();
  const told = await launcher.start(
    launcher.execSpec(config, pid, ['sleep', '60'], FLAG.noSupervisor),
    [],
    ['exec'],
  );
  assert.deepEqual([told.phase, told.exitCode, told.failure], [PHASE.running, 0, undefined]);
  assert.equal(statusOf(told.pid, 'PPid'), String(process.pid));
  const groups = (one: number): string => readFileSync(`/proc/${one}/cgroup`, 'utf8');
  assert.equal(groups(told.pid), groups(pid));
  for (const kind of ['mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup']) {
    const space = (one: number): string => readlinkSync(`/proc/${one}/ns/${kind}`);
    assert.equal(space(told.pid), space(pid), kind);
  }
  process.kill(told.pid, 'SIGTERM');
  assert.equal(await launcher.end(told.pid), 143);
  const late = launcher.execSpec(config, pid, ['sleep', '1'], FLAG.noSupervisor);
  process.kill(pid, 'SIGKILL');
  assert.equal(await launcher.end(pid), 137);
  const gone = await launcher.start(late, [], ['exec']);
  assert.match(gone.failure?.error ?? '', /^the container's process \d+ has ended$/);
});

test('an exec has a terminal, descriptors and a user of its own', async () => {
  const { pid, config } = await sleeping();
  const [ours, theirs] = makeSocketPair();
  const spec = launcher.execSpec(
    config,
    pid,
    ['tty'],
    FLAG.noSupervisor | FLAG.tty | FLAG.numericUser,
    [
      [TAG.console, 5],
      [TAG.user, '1000:1000'],
    ],
  );
  const told = await launcher.start(spec, [0, 1, 2, theirs], ['exec']);
  closeSync(theirs);
  assert.equal(told.failure, undefined);
  const { fds } = receiveWithDescriptors(ours, Buffer.alloc(64));
  closeSync(ours);
  assert.equal(await launcher.end(told.pid), 0);
  const line = Buffer.alloc(256);
  assert.match(line.toString('utf8', 0, readSync(fds[0], line)), /^terminal \/dev\/pts\/\d+\r\n/);
  closeSync(fds[0]);
  const pipe = makePipe();
  const flags = FLAG.noSupervisor | FLAG.numericUser;
  const open = await launcher.start(
    launcher.execSpec(config, pid, ['descriptors'], flags, [
      [TAG.preserved, 2],
      [TAG.user, '1000:1000'],
    ]),
    [0, pipe.write, pipe.write, 0, pipe.write, pipe.write],
    ['exec'],
  );
  closeSync(pipe.write);
  assert.equal(open.failure, undefined);
  assert.equal(readToEnd(pipe.read), '0 1 2 3 4 \n');
  assert.equal(await launcher.end(open.pid), 0);
});

test('without a supervisor nobody copies: pipes and terminals of its own are refused', async () => {
  const config = host.config(['/bin/probe', 'exit', '0']);
  for (const [flags, error] of [
    [FLAG.noSupervisor, /streams can only be the caller's own$/],
    [DETACHED | FLAG.tty, /a terminal needs a console socket$/],
  ] as const) {
    const own = { ...config, id: host.config([]).id };
    const told = await launcher.start(launcher.spec(own, flags, [numeric]));
    assert.match(told.failure?.error ?? '', error);
  }
});

test('another process that has the pid now is not entered', async () => {
  const { pid, config } = await sleeping();
  const spec = launcher.execSpec(config, pid, ['exit', '0'], FLAG.noSupervisor, [
    [TAG.execTarget, pid, startTicks(pid) - 1n],
  ]);
  const told = await launcher.start(spec, [], ['exec']);
  assert.match(told.failure?.error ?? '', /has ended$/);
  assert.equal(told.exitCode, 1);
});

test('an exec in the foreground hands signals on and ends as its program does', async () => {
  const { pid, config } = await sleeping();
  const pipe = makePipe();
  const { pid: own, told } = launcher.begin(
    launcher.execSpec(config, pid, ['signal', '10'], 0),
    [0, pipe.write, pipe.write],
    ['exec'],
  );
  closeSync(pipe.write);
  const { pid: program } = await told;
  assert.equal(statusOf(program, 'PPid'), String(own));
  const line = Buffer.alloc(64);
  assert.equal(line.toString('utf8', 0, readSync(pipe.read, line)), 'ready\n');
  process.kill(own, 'SIGUSR1');
  assert.equal(await ended(own), 42);
  assert.equal(readToEnd(pipe.read), 'signal 10\n');
});
