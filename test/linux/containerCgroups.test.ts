/**
 * The kinds of cgroup hosts that this machine's kernel can stand for: v1 alone (freezer included,
 * the shim is not forked into its group) and v2 alone (device rules as a BPF program). The other
 * container tests use the kind that it really is; limits of a pure v2 host are shown in a guest.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { ShimClient } from '../../runtime/container/shimClient.ts';
import { type CgroupHierarchy, Cgroups, findHierarchies } from '../../runtime/sys/cgroup.ts';
import { readMounts } from '../../runtime/sys/mount.ts';
import { exec } from '../support/probeExec.ts';
import { logText, makeTestHost, runToEnd } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const mounts = readMounts();
const v1 = findHierarchies(mounts.filter((mount) => mount.type !== 'cgroup2'));
const v2 = findHierarchies(mounts.filter((mount) => mount.type === 'cgroup2'));
const NONE = 'this host has no such hierarchy';

async function withHost(
  name: string,
  hierarchies: readonly CgroupHierarchy[],
  body: (host: ReturnType<typeof makeTestHost>) => Promise<void>,
): Promise<void> {
  const host = makeTestHost(name);
  await body(host);
  const cgroups = new Cgroups(hierarchies, host.cgroupParent);
  const table = await host.open({ hierarchies });
  await Promise.all(table.list().map((container) => container.remove()));
  await table.close(); // with which the process ends that its shims are forked from
  await until('the groups to be gone', 5000, () => cgroups.removeParent());
  await host.end(table);
}

test('containers run, are limited, killed and adopted on cgroup v1 alone', {
  skip: v1.length === 0 && NONE,
}, async () => {
  await withHost('v1only', v1, async (host) => {
    const table = await host.open({ hierarchies: v1 });
    const oom = await runToEnd(
      table,
      host.config(['/bin/probe', 'allocate', '64'], {
        resources: { memoryBytes: 16 << 20, memorySwapBytes: 16 << 20 },
      }),
    );
    assert.deepEqual([oom.exitCode, oom.container.exit?.oomKilled], [137, true]);
    const running = await table.create(host.config(['/bin/probe', 'stubborn']));
    await running.start();
    const { pid } = running;
    await table.close();
    const next = await host.open({ hierarchies: v1 });
    const found = next.get(running.config.id);
    assert.deepEqual([found?.state, found?.pid], ['running', pid]);
    const one = await found?.exec(exec(['sleep', '60']));
    const groups = (ofPid: number | undefined): string =>
      readFileSync(`/proc/${ofPid}/cgroup`, 'utf8');
    assert.equal(groups(one?.pid), groups(pid));
    await found?.pause();
    assert.equal(found?.paused, true);
    await found?.resume();
    await found?.update({ memoryBytes: 32 << 20, pids: 30 });
    const stats = await found?.detailedStats();
    assert.deepEqual([stats?.memoryLimitBytes, stats?.pidsLimit], [32 << 20, 30]);
    assert.equal((await found?.stop(10))?.exitCode, 137);
    assert.equal(await one?.wait(), 137);
    await next.close();
  });
});

test('a frozen container of a v1 host is killed all the same', {
  skip: !v1.some((hierarchy) => hierarchy.controllers.includes('freezer')) && NONE,
}, async () => {
  await withHost('v1frozen', v1, async (host) => {
    const table = await host.open({ hierarchies: v1 });
    const container = await table.create(host.config(['/bin/probe', 'stubborn']));
    const sleeper = await table.create(host.config(['/bin/probe', 'sleep', '60']));
    await container.start();
    await sleeper.start();
    const freezer = v1.find((hierarchy) => hierarchy.controllers.includes('freezer'));
    const dir = join(freezer?.path ?? '', host.cgroupParent, sleeper.config.id);
    writeFileSync(join(dir, 'freezer.state'), 'FROZEN');
    // By its shim alone, as after the daemon's end.
    const shim = ShimClient.connect(
      join(host.options.execRoot, 'containers', sleeper.config.id),
      new SystemClock(),
      { state: () => {}, exited: () => {}, closed: () => {} },
    );
    await shim.kill(9);
    assert.equal((await sleeper.wait()).exitCode, 137);
    shim.close();
    await sleeper.remove();
    assert(!existsSync(dir));
    const forks = join(freezer?.path ?? '', host.cgroupParent, container.config.id);
    writeFileSync(join(forks, 'freezer.state'), 'FROZEN');
    await container.remove();
    assert(!existsSync(forks));
    await table.close();
  });
});

test('device rules hold on cgroup v2 alone, and nothing of a container is left', {
  skip: v2.length === 0 && NONE,
}, async () => {
  await withHost('v2only', v2, async (host) => {
    const table = await host.open({ hierarchies: v2 });
    const run = async (...args: string[]): Promise<string> =>
      (await runToEnd(table, host.config(['/bin/probe', ...args]))).output;
    assert.equal(await run('device', '/dev/null'), '/dev/null char 1:3 666 opens\n');
    assert.equal(await run('mknod', '1', '3'), 'mknod done open done\n');
    assert.equal(await run('mknod', '1', '1'), 'mknod done open Operation not permitted\n');
    assert.equal(await run('cat', '/proc/self/cgroup').then((text) => /^0::\/$/m.test(text)), true);
    const sleeper = await table.create(host.config(['/bin/probe', 'ticks', '0']));
    await sleeper.start();
    const dir = join(v2[0].path, host.cgroupParent, sleeper.config.id);
    assert(readdirSync(dir).includes('cgroup.kill'));
    await until('output', 5000, async () => (await logText(sleeper)).length > 0);
    await sleeper.remove();
    assert(!existsSync(dir));
    await table.close();
  });
});
