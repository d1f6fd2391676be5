/**
 * Control groups of this host's kernel without a container: OCI resources in the files they belong
 * in, changed and refused while a process runs there, frozen, killed and removed with what was made
 * for a path.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Cgroups, findHierarchies } from '../../runtime/sys/cgroup.ts';
import { readMounts } from '../../runtime/sys/mount.ts';
import type { Resources } from '../../runtime/sys/resources.ts';
import { until } from '../support/until.ts';

const MIB = 1024 * 1024;
const NAME = `tsswarm-cgroups-${process.pid}`;
const cgroups = new Cgroups(findHierarchies(readMounts(), undefined, true), NAME);
const made: string[] = [];
const has = (controller: string): boolean =>
  cgroups.hierarchies.some(({ controllers }) => controllers.includes(controller));
const NO_V1 = cgroups.mode === 'v2' && 'this host has no cgroup v1 hierarchies';

const unified = cgroups.hierarchies.find(({ version }) => version === 2)?.path;
const passedOn = (): string =>
  unified === undefined ? '' : readFileSync(join(unified, 'cgroup.subtree_control'), 'utf8');
const before = passedOn();

after(() => {
  cgroups.removeMade(made);
  // The host's own group passes on what it did.
  if (unified === undefined || before.includes('hugetlb') || !passedOn().includes('hugetlb'))
    return;
  writeFileSync(join(unified, 'cgroup.subtree_control'), '-hugetlb');
});

function make(path: string, resources: Resources = {}): string {
  made.push(...cgroups.make(path, resources).made);
  return path;
}

/** A file of the group at `path` in the v1 hierarchy of a controller. */
function fileOf(controller: string, path: string, file: string): string {
  const found = cgroups.hierarchies.find(({ controllers }) => controllers.includes(controller));
  assert(found !== undefined, controller);
  return join(found.path, path, file);
}

const read = (controller: string, path: string, file: string): string =>
  readFileSync(fileOf(controller, path, file), 'utf8').trim();

/** A process in every group of `path`. */
async function runIn(path: string): Promise<ChildProcess> {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  await once(child, 'spawn');
  for (const { path: mount } of cgroups.hierarchies) {
    writeFileSync(join(mount, path, 'cgroup.procs'), `${child.pid}`);
  }
  return child;
}

async function end(path: string, child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  cgroups.kill(path);
  await ended;
  await until('the group to be empty', 5000, () => cgroups.remove(path));
}

test('limits of a group in use change up and down, together and alone', {
  skip: NO_V1,
}, async () => {
  const path = make(`/${NAME}/pod/limits`);
  const child = await runIn(path);
  const memory = (): string[] =>
    ['memory.limit_in_bytes', 'memory.memsw.limit_in_bytes'].map((file) =>
      read('memory', path, file),
    );
  const steps: [Resources['memory'], number, number][] = [
    [{ limit: 32 * MIB, swap: 64 * MIB }, 32, 64],
    [{ limit: 128 * MIB, swap: 256 * MIB }, 128, 256],
    [{ limit: 30 * MIB, swap: 50 * MIB }, 30, 50],
    [{ swap: 60 * MIB }, 30, 60],
    [{ limit: 40 * MIB }, 40, 60],
  ];
  for (const [change, limit, swap] of steps) {
    cgroups.update(path, { memory: change }, true);
    assert.deepEqual(memory(), [`${limit * MIB}`, `${swap * MIB}`], JSON.stringify(change));
  }
  cgroups.update(path, { memory: { limit: -1 } }, true);
  assert.deepEqual(new Set(memory()).size, 1);
  cgroups.update(
    path,
    {
      memory: { reservation: 24 * MIB, swappiness: 33, disableOOMKiller: true },
      cpu: { shares: 100, quota: 500_000, period: 1_000_000, burst: 1000, cpus: '0' },
      pids: { limit: 20 },
    },
    true,
  );
  const files: [string, string, string][] = [
    ['memory', 'memory.soft_limit_in_bytes', `${24 * MIB}`],
    ['memory', 'memory.swappiness', '33'],
    ['cpu', 'cpu.shares', '100'],
    ['cpu', 'cpu.cfs_quota_us', '500000'],
    ['cpu', 'cpu.cfs_period_us', '1000000'],
    ['cpu', 'cpu.cfs_burst_us', '1000'],
    ['cpuset', 'cpuset.cpus', '0'],
    ['pids', 'pids.max', '20'],
  ];
  for (const [controller, file, value] of files) assert.equal(read(controller, path, file), value);
  assert.match(read('memory', path, 'memory.oom_control'), /oom_kill_disable 1/);
  cgroups.update(path, { memory: { disableOOMKiller: false }, cpu: { idle: 1, shares: 9 } }, true);
  assert.match(read('memory', path, 'memory.oom_control'), /oom_kill_disable 0/);
  assert.equal(read('cpu', path, 'cpu.idle'), '1');
  cgroups.update(path, { cpu: { idle: 0, shares: 200 } }, true);
  assert.equal(read('cpu', path, 'cpu.shares'), '200');
  await end(path, child);
});

test("a group within a limited one: the kernel's refusal is told and nothing has changed", {
  skip: NO_V1,
}, async () => {
  const pod = make(`/${NAME}/quota`);
  const path = make(`${pod}/one`);
  cgroups.update(pod, { cpu: { quota: 50_000 } }, true);
  const child = await runIn(path);
  assert.throws(
    () => cgroups.update(path, { cpu: { shares: 300, quota: 60_000 } }, true),
    /cannot set cpu.cfs_quota_us to 60000: /,
  );
  assert.equal(read('cpu', path, 'cpu.shares'), '1024');
  // A smaller share, through a period in which the old quota would have been a larger one.
  cgroups.update(path, { cpu: { quota: 40_000, period: 100_000 } }, true);
  cgroups.update(path, { cpu: { quota: 3000, period: 10_000 } }, true);
  assert.equal(read('cpu', path, 'cpu.cfs_period_us'), '10000');
  cgroups.update(path, { cpu: { quota: 40_000, period: 100_000 } }, true);
  assert.equal(read('cpu', path, 'cpu.cfs_quota_us'), '40000');
  assert.throws(() => cgroups.update(path, { cpu: { cpus: '4095' } }, true), /cannot set cpuset/);
  await end(path, child);
});

test('what this kernel lacks is refused strictly and noted otherwise', { skip: NO_V1 }, () => {
  const path = make(`/${NAME}/lacks`);
  const refused: [string, Resources, RegExp][] = [
    ['net_cls', { network: { classID: 5 } }, /no net_cls cgroup controller/],
    ['rdma', { rdma: new Map([['x', { hcaHandles: 1 }]]) }, /no rdma cgroup controller/],
  ];
  for (const [controller, resources, why] of refused) {
    if (has(controller)) continue;
    assert.throws(() => cgroups.update(path, resources, true), why);
    assert.match(cgroups.update(path, resources).join(), why);
  }
  assert.throws(
    () => cgroups.update(path, { unified: { 'memory.min': '131072' } }),
    /invalid configuration: the requested cgroup controller `memory` is not available/,
  );
  cgroups.remove(path);
});

test('huge pages are limited where the host counts them, also on a hybrid one', {
  skip: !has('hugetlb') && 'this host has no hugetlb controller',
}, () => {
  const resources: Resources = { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] };
  const path = make(`/${NAME}/huge`, resources);
  cgroups.update(path, resources, true);
  assert.equal(cgroups.statistics(path).hugePages.get('2MB')?.limit, 4 * MIB);
  assert.throws(
    () => cgroups.update(path, { hugepageLimits: [{ pageSize: '3MB', limit: 1 }] }, true),
    /no huge pages of 3MB/,
  );
  cgroups.remove(path);
});

test('a process in a group is counted, frozen, thawed and killed with the groups in it', async () => {
  const path = make(`/${NAME}/life`);
  const inner = make(`${path}/inner`);
  const child = await runIn(inner);
  assert.deepEqual(cgroups.pids(path), [child.pid]);
  assert.match(cgroups.make(path).notes.join(), /cgroup is not empty: 1 process/);
  const { usage, memory, cpu } = cgroups.statistics(inner);
  assert.equal(usage.pids, 1);
  assert(memory.memory.usage >= 0 && cpu.cpus.length > 0);
  assert.equal(cgroups.oomKills(inner), 0);
  assert.equal(cgroups.setFrozen(path, true), true);
  await until('all to have stopped', 5000, () => cgroups.isFrozen(path));
  assert.throws(() => cgroups.make(path), /cgroup unexpectedly frozen/);
  assert.equal(cgroups.remove(path), false);
  // Killed as it is, frozen.
  await end(path, child);
  assert(cgroups.hierarchies.every(({ path: mount }) => !existsSync(join(mount, path))));
});

test("a group that somebody froze through v1's freezer is refused", {
  skip: !has('freezer') && 'this host has no freezer hierarchy',
}, () => {
  const path = make(`/${NAME}/frozen`);
  const state = fileOf('freezer', path, 'freezer.state');
  writeFileSync(state, 'FROZEN');
  assert.throws(() => cgroups.make(path), /container's cgroup unexpectedly frozen/);
  writeFileSync(state, 'THAWED');
  cgroups.remove(path);
});
