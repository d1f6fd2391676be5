/**
 * What becomes of containers when something around them dies: the daemon, the shim, the host.
 * Containers outlive the daemon; nothing outlives its shim unnoticed; nothing is left behind.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SystemClock } from '../../base/clock.ts';
import { shortId } from '../../base/id.ts';
import {
  holdDescriptors,
  releaseDescriptors,
  takeDescriptors,
} from '../../runtime/container/heldDescriptors.ts';
import type { ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { processesNaming } from '../support/leftovers.ts';
import { isAlive, isCaught, parentOf } from '../support/processes.ts';
import { logText, makeTestHost, runToEnd } from '../support/rootfs.ts';
import type { TableChildRequest } from '../support/tableChild.ts';
import { until } from '../support/until.ts';

const CHILD = fileURLToPath(new URL('../support/tableChild.js', import.meta.url));
const host = makeTestHost('crash');
/** How much earlier than the clock a file's time may be: the kernel stamps with its last tick. */
const FILE_TIME_MS = 1000;
const open = new Set<ContainerTable>();

async function openTable(): Promise<ContainerTable> {
  const table = await host.open();
  open.add(table);
  return table;
}

after(async () => {
  for (const table of open) await table.close();
  await host.end(await host.open());
});

function startDaemon(configs: readonly ContainerConfig[]): ChildProcess {
  const request: TableChildRequest = {
    dataRoot: host.options.dataRoot,
    execRoot: host.options.execRoot,
    cgroupParent: host.cgroupParent,
    configs,
  };
  return spawn(process.execPath, [CHILD, JSON.stringify(request)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** Starts `configs` in a daemon of their own and kills it with SIGKILL. */
async function startAndKillDaemon(configs: readonly ContainerConfig[]): Promise<void> {
  const daemon = startDaemon(configs);
  const [line] = (await once(daemon.stdout!, 'data')) as [Buffer];
  assert.equal(line.toString(), 'running\n');
  daemon.kill('SIGKILL');
  await once(daemon, 'exit');
}

function groupDirs(id: string): string[] {
  return host.cgroups.hierarchies
    .map((hierarchy) => join(hierarchy.path, host.cgroupParent, id))
    .filter((dir) => existsSync(dir));
}

/** The system's time, with all that is waited for a hundred times shorter. */
class HastyClock extends SystemClock {
  override after(delayMs: number, callback: () => void) {
    return super.after(delayMs / 100, callback);
  }
}

test("a hanging shim holds up neither a daemon that starts nor its container's removal", async () => {
  const config = host.config(['/bin/probe', 'ticks', '0']);
  await startAndKillDaemon([config]);
  const found = await host.open();
  const { pid } = found.get(config.id) ?? {};
  assert(pid !== undefined && pid > 0);
  const shim = parentOf(pid);
  await found.close();
  process.kill(shim, 'SIGSTOP');
  try {
    const table = await host.open({ clock: new HastyClock() });
    open.add(table);
    const container = table.get(config.id);
    assert.equal(container?.state, 'exited');
    assert.equal(container.exit?.error, 'supervisor does not answer');
    assert(!isAlive(pid));
    await container.remove();
  } finally {
    process.kill(shim, 'SIGCONT');
  }
  await until('the shim to end', 5000, () => !isAlive(shim));

  const table = await host.open({ clock: new HastyClock() });
  open.add(table);
  const second = await table.create(host.config(['/bin/probe', 'ticks', '0']));
  await second.start();
  const other = parentOf(second.pid);
  process.kill(other, 'SIGSTOP');
  try {
    assert.equal((await second.stop(100_000)).error, 'supervisor does not answer');
    await second.remove();
  } finally {
    process.kill(other, 'SIGCONT');
  }
  await until('the other shim to end', 5000, () => !isAlive(other));
});

test('kill -9 of the daemon leaves its containers alone, and the next manages them', async () => {
  const config = host.config(['/bin/probe', 'ticks', '0']);
  const quiet = host.config(['/bin/probe', 'signal', '15']);
  await startAndKillDaemon([config, quiet]);
  const table = await openTable();
  const container = table.get(config.id);
  assert(container !== undefined);
  assert.equal(container.state, 'running');
  assert.deepEqual(container.config, { ...config, userNamespace: 'host' });
  assert(container.startedAtMs > 0 && isAlive(container.pid));
  const seen = (await logText(container)).split('\n').length;
  await until(
    'more output',
    5000,
    async () => (await logText(container)).split('\n').length > seen + 5,
  );
  const ticks = (await logText(container)).trimEnd().split('\n');
  assert.deepEqual(
    ticks,
    ticks.map((_, index) => `tick ${index}`),
    'no line was lost',
  );
  const other = table.get(quiet.id);
  assert(other !== undefined);
  await until('the handler', 5000, () => isCaught(other.pid, 15));
  assert.equal((await other.stop(5000)).exitCode, 42);
  await container.kill('KILL');
  assert.equal((await container.wait()).exitCode, 137);
});

test('closing the table and opening it again changes nothing for a running container', async () => {
  const first = await openTable();
  const made = await first.create(host.config(['/bin/probe', 'sleep', '60']));
  await made.start();
  const { pid, startedAtMs } = made;
  await first.close();
  const table = await openTable();
  const found = table.get(made.config.id);
  assert.deepEqual([found?.state, found?.pid, found?.startedAtMs], ['running', pid, startedAtMs]);
  await found?.remove();
});

test('a container that ended while no daemon ran has its record and its log', async () => {
  const config = host.config(['/bin/probe', 'signal', '15']);
  await startAndKillDaemon([config]);
  const file = join(host.options.execRoot, 'containers', config.id, 'pid');
  const pid = Number(readFileSync(file, 'utf8').split(' ')[0]);
  await until('the handler', 5000, () => isCaught(pid, 15));
  process.kill(pid, 'SIGTERM');
  await until('the container to end', 5000, () => !isAlive(pid));
  const table = await openTable();
  const container = table.get(config.id);
  assert.equal(container?.state, 'exited');
  assert.equal(container?.exit?.exitCode, 42);
  assert.equal(container?.exit?.error, undefined);
  assert.equal(await logText(container!), 'ready\nsignal 15\n');
});

test('a created container stays created over a restart and can then be started', async () => {
  const first = await openTable();
  const made = await first.create(host.config(['/bin/probe', 'echo', 'late']));
  await first.close();
  const table = await openTable();
  const found = table.get(made.config.id);
  assert(found !== undefined);
  assert.equal(found.state, 'created');
  await found.start();
  assert.equal((await found.wait()).exitCode, 0);
  assert.equal(await logText(found), 'late\n');
});

test('kill -9 of the shim ends its container, which says "supervisor lost"', async () => {
  const ended: string[] = [];
  const table = await host.open({ onExit: (container) => ended.push(container.config.id) });
  open.add(table);
  const container = await table.create(host.config(['/bin/probe', 'forks', '3']));
  const sleeper = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  await container.start();
  await sleeper.start();
  const { pid } = sleeper;
  process.kill(parentOf(pid), 'SIGKILL');
  const record = await sleeper.wait();
  assert.deepEqual([record.exitCode, record.error], [137, 'supervisor lost']);
  assert.equal(record.startedAtMs, sleeper.startedAtMs);
  assert(!isAlive(pid));
  assert.deepEqual(groupDirs(sleeper.config.id), []);
  assert(ended.includes(sleeper.config.id));
});

test('a shim killed while no daemon ran is noticed by the next one', async () => {
  const config = host.config(['/bin/probe', 'sleep', '60']);
  await startAndKillDaemon([config]);
  const file = join(host.options.execRoot, 'containers', config.id, 'pid');
  const pid = Number(readFileSync(file, 'utf8').split(' ')[0]);
  process.kill(parentOf(pid), 'SIGKILL');
  assert(isAlive(pid));
  const table = await openTable();
  const record = table.get(config.id)?.exit;
  assert.deepEqual([record?.exitCode, record?.error], [137, 'supervisor lost']);
  assert(record!.startedAtMs > 0);
  assert(!isAlive(pid));
});

test('after a reboot of the host, containers that ran are exited and say so', async () => {
  const beganMs = Date.now() - FILE_TIME_MS;
  const config = host.config(['/bin/probe', 'sleep', '60']);
  await startAndKillDaemon([config]);
  const ended = host.config(['/bin/probe', 'exit', '5']);
  const before = await openTable();
  await (await before.create(ended)).start();
  await before.get(ended.id)?.wait();
  const waiting = await before.create(host.config(['/bin/probe', 'exit', '6']));
  await before.close();
  // As a reboot does: no process and an empty exec root.
  host.cgroups.kill(config.id);
  await until('the processes to be gone', 5000, () => host.cgroups.remove(config.id));
  rmSync(host.options.execRoot, { recursive: true });
  mkdirSync(host.options.execRoot);
  const table = await openTable();
  const lost = table.get(config.id);
  assert.equal(lost?.exit?.error, 'host rebooted');
  for (const ms of [lost.createdAtMs, lost.startedAtMs, lost.exit.finishedAtMs]) {
    assert.ok(ms >= beganMs && ms <= Date.now(), `${ms} is not of this test`);
  }
  assert.equal(table.get(ended.id)?.exit?.exitCode, 5, 'a record known before is kept');
  assert.equal(table.get(ended.id)?.exit?.error, undefined);
  const created = table.get(waiting.config.id);
  assert.equal(created?.state, 'created');
  await created?.start();
  assert.equal((await created?.wait())?.exitCode, 6);
  await table.get(config.id)?.start();
  assert.equal(table.get(config.id)?.state, 'running');
});

test('a damaged configuration stops the daemon, unless a reboot can have damaged it', async () => {
  const table = await openTable();
  const container = await table.create(host.config(['/bin/probe', 'echo']));
  await table.close();
  const { id } = container.config;
  const file = join(host.options.dataRoot, 'containers', id, 'config.json');
  writeFileSync(file, '');
  await assert.rejects(host.open(), new RegExp(`${id}/config.json is damaged: remove`));
  rmSync(join(host.options.execRoot, 'containers', id), { recursive: true });
  const next = await openTable();
  assert.equal(next.get(id), undefined);
  assert(!existsSync(file));
});

test('removing leaves no process, group, file or mount, running or not', async () => {
  const table = await openTable();
  const container = await table.create(host.config(['/bin/probe', 'forks', '5']));
  await container.start();
  const running = await table.create(host.config(['/bin/probe', 'stubborn']));
  await running.start();
  const created = await table.create(host.config(['/bin/probe', 'echo']));
  const { pid } = running;
  const shim = parentOf(pid);
  await Promise.all([running.remove(), running.remove(), created.remove(), container.remove()]);
  await running.remove();
  await until('the shim to be gone', 5000, () => !isAlive(shim));
  assert(!isAlive(pid));
  for (const { config } of [container, running, created]) {
    assert.deepEqual(groupDirs(config.id), []);
    for (const root of [host.options.dataRoot, host.options.execRoot]) {
      const names = readdirSync(join(root, 'containers'));
      assert(!names.some((name) => name.includes(config.id)));
    }
    assert(!readFileSync('/proc/self/mountinfo', 'utf8').includes(config.id));
    assert.equal(table.get(config.id), undefined);
  }
  await assert.rejects(running.start(), /is running already/);
});

test('what a crash left half made or half removed is cleared away', async () => {
  const table = await openTable();
  const config = host.config(['/bin/probe', 'sleep', '60']);
  const container = await table.create(config);
  await container.start();
  const { pid } = container;
  await table.close();
  const { dataRoot } = host.options;
  rmSync(join(dataRoot, 'containers', config.id, 'config.json'));
  mkdirSync(join(dataRoot, 'containers', '.removed-x', 'upper'), { recursive: true });
  const next = await openTable();
  assert.equal(next.get(config.id), undefined);
  await until('the nameless container to be killed', 5000, () => !isAlive(pid));
  assert.deepEqual(groupDirs(config.id), []);
  assert(!existsSync(join(dataRoot, 'containers', '.removed-x')));
  assert(!existsSync(join(dataRoot, 'containers', config.id)));
});

test('whenever the daemon is killed, each container is then in one definite state', async () => {
  const configs = Array.from({ length: 6 }, () => host.config(['/bin/probe', 'sleep', '60']));
  for (let round = 0; round < 8; round += 1) {
    const daemon = startDaemon(configs);
    const dir = join(host.options.execRoot, 'containers');
    // Somewhere between the first container's directory and the last one's start.
    await until('the daemon to begin', 10_000, () => existsSync(join(dir, configs[round % 6].id)));
    daemon.kill('SIGKILL');
    await once(daemon, 'exit');
    const table = await host.open();
    for (const container of table.list()) {
      if (container.state === 'running') assert(isAlive(container.pid));
      if (container.state === 'exited') assert(container.exit !== undefined);
      await container.remove();
      assert.deepEqual(groupDirs(container.config.id), []);
    }
    await table.close();
    for (const { id } of configs) assert.deepEqual(groupDirs(id), []);
  }
});

test('many containers are started and ended together', async () => {
  const table = await openTable();
  const runs = Array.from({ length: 40 }, (_, index) =>
    runToEnd(table, host.config(['/bin/probe', 'echo', String(index)])),
  );
  const outputs = (await Promise.all(runs)).map((run) => run.output);
  assert.deepEqual(
    outputs,
    outputs.map((_, index) => `${index}\n`),
  );
});

test('waiting for a container that is removed unstarted ends', async () => {
  const table = await openTable();
  const container = await table.create(host.config(['/bin/probe', 'echo']));
  const waiting = container.wait();
  await container.remove();
  assert.match((await waiting).error ?? '', /removed before it was started/);
});

test('output held open from outside delays the record only for a bounded time', async () => {
  const table = await openTable();
  const container = await table.create(host.config(['/bin/probe', 'signal', '15']));
  await container.start();
  await until('the handler', 5000, async () => (await logText(container)) === 'ready\n');
  const held = openSync(`/proc/${container.pid}/fd/1`, 'w');
  try {
    await container.kill('TERM');
    const record = await container.wait();
    assert.equal(record.exitCode, 42);
    assert.equal(await logText(container), 'ready\nsignal 15\n');
  } finally {
    closeSync(held);
  }
});

test('a removal while it starts leaves nothing', async () => {
  const table = await openTable();
  for (let round = 0; round < 10; round += 1) {
    const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
    const starting = container.start().catch(() => 'failed');
    // From before the first step of the start to after its last but the shim's.
    for (let turn = 0; turn < round; turn += 1) await Promise.resolve();
    await container.remove();
    await starting;
    assert.deepEqual(groupDirs(container.config.id), []);
    assert.equal(container.state, 'exited');
    const shim = `tsswarm-shim ${shortId(container.config.id)}`;
    await until('its shim to be gone', 5000, () => {
      return processesNaming((args) => args.startsWith(shim)).length === 0;
    });
    assert.deepEqual(groupDirs(container.config.id), []);
  }
});

test('a container that is being removed is not started', async () => {
  const table = await openTable();
  const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  const starting = container.start();
  const removal = container.remove();
  await assert.rejects(starting, /is marked for removal and cannot be started/);
  await removal;
});

test('a shim holds descriptors for the daemon and gives them back after its restart', async () => {
  const { execRoot, clock } = host.options;
  const table = await openTable();
  const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  await container.start();
  const { id } = container.config;
  assert.deepEqual(await takeDescriptors(execRoot, id, 'dns', clock), []);
  const path = join(host.dir, 'held');
  writeFileSync(path, 'still open');
  const file = openSync(path, 'r');
  const other = openSync('/dev/null', 'r');
  await holdDescriptors(execRoot, id, 'dns', [file, other], clock);
  closeSync(file);
  closeSync(other);
  rmSync(path);
  await table.close();
  await openTable();
  const taken = await takeDescriptors(execRoot, id, 'dns', clock);
  assert.equal(taken.length, 2);
  assert.equal(readFileSync(taken[0], 'utf8'), 'still open');
  for (const fd of taken) closeSync(fd);
  await releaseDescriptors(execRoot, id, 'dns', clock);
  assert.deepEqual(await takeDescriptors(execRoot, id, 'dns', clock), []);
  await assert.rejects(takeDescriptors(execRoot, 'x', 'dns', clock), /has no shim/);
});

test('an exec root that somebody emptied is made again by the next container', async () => {
  const table = await openTable();
  rmSync(host.options.execRoot, { recursive: true });
  const { container, output } = await runToEnd(table, host.config(['/bin/probe', 'echo', 'x']));
  assert.equal(output, 'x\n');
  await container.remove();
});

test('what cannot be removed of a container keeps no daemon from starting', async () => {
  const table = await openTable();
  const left = join(host.options.dataRoot, 'containers', '.removed-before');
  const busy = join(left, 'busy');
  mkdirSync(busy, { recursive: true });
  execFileSync('mount', ['-t', 'tmpfs', 'none', busy]);
  try {
    await table.close();
    const next = await openTable();
    const { exitCode } = await runToEnd(next, host.config(['/bin/probe', 'exit', '3']));
    assert.equal(exitCode, 3);
    await next.close();
  } finally {
    execFileSync('umount', [busy]);
  }
  assert(existsSync(busy));
  await (await openTable()).close();
  assert(!existsSync(left));
});
