/**
 * The process that shims are forked from: one for a daemon, where the shims are and not where the
 * daemon is; containers depend on it only while they are started.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import type { Container, ContainerTable } from '../../runtime/container/types.ts';
import { isAlive, parentOf } from '../support/processes.ts';
import { makeTestHost, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const WAIT_MS = 10_000;
const host = makeTestHost('nursery');
const tables = new Set<ContainerTable>();

after(async () => {
  for (const table of tables) await table.close();
  await host.end(await host.open());
});

/** The system's time; while it is hasty, all that is waited for is a hundred times shorter. */
class HastyClock extends SystemClock {
  isHasty = false;

  override after(delayMs: number, callback: () => void) {
    return super.after(this.isHasty ? delayMs / 100 : delayMs, callback);
  }
}

async function open(extra: Parameters<typeof host.open>[0] = {}): Promise<ContainerTable> {
  const table = await host.open(extra);
  tables.add(table);
  return table;
}

function sleeper(table: ContainerTable): Promise<Container> {
  return started(table, host.config(['/bin/probe', 'sleep', '60']));
}

function nurseryOf(container: Container): number {
  return parentOf(parentOf(container.pid));
}

test('shims have one parent, which is in their groups and ends with its daemon', async () => {
  const table = await open();
  const containers = [await sleeper(table), await sleeper(table)];
  const [nursery, other] = containers.map(nurseryOf);
  assert.equal(nursery, other);
  assert.equal(readFileSync(`/proc/${nursery}/cmdline`, 'utf8'), 'tsswarm-shims\0of-a-daemon\0');
  assert.deepEqual(readdirSync(`/proc/${nursery}/fd`), ['0', '1', '2', '3', '4']);
  for (const { dir } of host.cgroups.shims) {
    const pids = readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').map(Number);
    assert(pids.includes(nursery), dir);
    for (const { pid } of containers) assert(pids.includes(parentOf(pid)), dir);
  }
  await table.close();
  await until('the nursery to end', WAIT_MS, () => !isAlive(nursery));
  for (const { pid } of containers) assert(isAlive(pid));
  const next = await open();
  for (const { config } of containers) await next.get(config.id)?.remove();
});

test('one that is killed takes no container along, and the next start has another', async () => {
  const table = await open();
  const before = await sleeper(table);
  const nursery = nurseryOf(before);
  process.kill(nursery, 'SIGKILL');
  await until('the nursery to end', WAIT_MS, () => !isAlive(nursery));
  const behind = await sleeper(table);
  assert.notEqual(nurseryOf(behind), nursery);
  assert.equal(before.state, 'running');
  await before.kill('SIGKILL');
  assert.equal((await before.wait()).exitCode, 137);
  await Promise.all([before.remove(), behind.remove()]);
});

test('where no shim can be made, the start says why', async () => {
  const table = await open();
  const running = await sleeper(table);
  const limit = host.cgroups.shims
    .map(({ dir }) => join(dir, 'pids.max'))
    .find((file) => existsSync(file));
  assert(limit !== undefined);
  const late = await table.create(host.config(['/bin/probe', 'exit', '3']));
  writeFileSync(limit, '1');
  await assert.rejects(late.start(), /cannot start a supervisor: Resource temporarily unavailable/);
  assert.equal(late.exit?.exitCode, 128);
  writeFileSync(limit, 'max');
  await late.start();
  assert.equal((await late.wait()).exitCode, 3);
  await Promise.all([running.remove(), late.remove()]);
});

test('one that hangs is given up, and what it makes late starts nothing', async () => {
  const clock = new HastyClock();
  const table = await open({ clock });
  const running = await sleeper(table);
  const nursery = nurseryOf(running);
  const late = await table.create(host.config(['/bin/probe', 'sleep', '60']));
  process.kill(nursery, 'SIGSTOP');
  try {
    clock.isHasty = true; // only what is to fail
    await assert.rejects(late.start(), (error) => hasCode(error, 'timeout'));
    clock.isHasty = false;
    assert.equal(late.state, 'exited');
    const behind = await sleeper(table);
    assert.notEqual(nurseryOf(behind), nursery);
    await behind.remove();
  } finally {
    process.kill(nursery, 'SIGCONT');
  }
  await until('the nursery to end', WAIT_MS, () => !isAlive(nursery));
  const shimGroup = join(host.cgroups.shims[0].dir, 'cgroup.procs');
  await until('the late shim to end', WAIT_MS, () => {
    const pids = readFileSync(shimGroup, 'utf8').split('\n').filter(Boolean).map(Number);
    return pids.filter((pid) => isShimOf(pid, late)).length === 0;
  });
  assert.deepEqual(host.cgroups.pids(late.config.id), []);
  await Promise.all([running.remove(), late.remove()]);
});

function isShimOf(pid: number, { config }: Container): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(config.id.slice(0, 12));
  } catch {
    return false; // it has ended meanwhile
  }
}
