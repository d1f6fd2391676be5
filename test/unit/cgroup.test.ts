/** What limits mean in each kind of cgroup hierarchy, and what is written where, on a fake root. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { toDeviceList, toResources } from '../../runtime/container/resources.ts';
import type { ContainerResources } from '../../runtime/container/types.ts';
import { Cgroups, findHierarchies } from '../../runtime/sys/cgroup.ts';
import { ANY } from '../../runtime/sys/deviceRules.ts';
import type { MountEntry } from '../../runtime/sys/mount.ts';

const MIB = 1024 * 1024;
const devices = [{ type: 'char', major: 1, minor: ANY, access: 'rwm' }] as const;

function withRoot(body: (root: string) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'cgroup-unit-'));
  try {
    body(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

function v2(root: string): Cgroups {
  const controllers = ['cpuset', 'cpu', 'io', 'memory', 'pids'];
  return new Cgroups([{ version: 2, path: root, controllers }], 'lab/h1');
}

/** What Docker's limits come to. */
function planOf(
  cgroups: Cgroups,
  limits: ContainerResources,
): ReturnType<Cgroups['plan']> & { readonly changed: readonly string[] } {
  const changed: string[] = [];
  const resources = toResources(limits, (note) => changed.push(note));
  return { ...cgroups.plan('id', { ...resources, devices: toDeviceList(devices) }), changed };
}

function writes(cgroups: Cgroups, limits: ContainerResources): Record<string, string> {
  const [group] = planOf(cgroups, limits).groups;
  return Object.fromEntries(group.writes.map(({ file, value }) => [file, value]));
}

function mount(type: string, path: string, ...options: string[]): MountEntry {
  return { type, mountPoint: path, source: type, options: ['rw', ...options] };
}

test('pure v2, v1 and hybrid hosts are told apart by what is mounted', () => {
  const controllers = (path: string): string[] => (path === '/full' ? ['cpu', 'memory'] : []);
  const pure = findHierarchies([mount('cgroup2', '/full')], controllers);
  assert.equal(new Cgroups(pure, 'p').mode, 'v2');
  const v1Mounts = [
    mount('cgroup', '/cpu', 'cpu', 'cpuacct'),
    mount('cgroup', '/freezer', 'freezer'),
    mount('cgroup', '/net', 'net_cls'),
    mount('cgroup', '/systemd', 'name=systemd'),
    mount('tmpfs', '/x'),
  ];
  const old = findHierarchies(v1Mounts, controllers);
  assert.equal(new Cgroups(old, 'p').mode, 'v1');
  assert.deepEqual(
    old.map((hierarchy) => [hierarchy.path, hierarchy.controllers.join()]),
    [
      ['/cpu', 'cpu,cpuacct'],
      ['/freezer', 'freezer'],
      ['/net', 'net_cls'],
      ['/systemd', 'name=systemd'],
    ],
  );
  const hybrid = findHierarchies([...v1Mounts, mount('cgroup2', '/unified')], controllers);
  assert.equal(new Cgroups(hybrid, 'p').mode, 'hybrid');
  assert.deepEqual(
    hybrid.map((hierarchy) => hierarchy.path),
    ['/unified', '/cpu', '/net', '/systemd'],
    'v2 comes first, and takes the place of the freezer',
  );
  const kept = findHierarchies([...v1Mounts, mount('cgroup2', '/unified')], controllers, true);
  assert(kept.some((hierarchy) => hierarchy.path === '/freezer'));
  assert.throws(() => new Cgroups([], 'p'), /no cgroup file system/);
});

test("Docker's limits on v2", () => {
  withRoot((root) => {
    const host = v2(root);
    mkdirSync(join(root, 'lab/h1'), { recursive: true });
    writeFileSync(join(root, 'lab/h1/memory.swap.max'), '');
    assert.deepEqual(writes(host, {}), {});
    assert.deepEqual(
      writes(host, {
        memoryBytes: 64 * MIB,
        nanoCpus: 1_500_000_000,
        cpuShares: 1024,
        cpusetCpus: '0-1',
        pids: 100,
      }),
      {
        'memory.max': String(64 * MIB),
        'memory.swap.max': String(64 * MIB),
        'cpu.weight': '100',
        'cpu.max': '150000 100000',
        'cpuset.cpus': '0-1',
        'pids.max': '100',
      },
    );
    assert.deepEqual(writes(host, { pids: -1 }), { 'pids.max': 'max' });
    const swap = (memorySwapBytes: number): string =>
      writes(host, { memoryBytes: 64 * MIB, memorySwapBytes })['memory.swap.max'];
    assert.equal(swap(-1), 'max');
    assert.equal(swap(64 * MIB), '0');
    assert.equal(swap(100 * MIB), String(36 * MIB));
    assert.throws(() => swap(10), /below the memory limit/);
    const [group] = planOf(host, {}).groups;
    assert.equal(group.dir, join(root, 'lab/h1/id'));
    assert(group.deviceProgram !== undefined && group.memory);
  });
});

test("Docker's limits on v1 are written so that memory+swap is never below memory", () => {
  withRoot((root) => {
    mkdirSync(join(root, 'memory/p'), { recursive: true });
    writeFileSync(join(root, 'memory/p/memory.memsw.limit_in_bytes'), '');
    const host = new Cgroups(
      [
        { version: 1, path: join(root, 'memory'), controllers: ['memory'] },
        { version: 1, path: join(root, 'cpu'), controllers: ['cpu', 'cpuacct'] },
        { version: 1, path: join(root, 'cpuset'), controllers: ['cpuset'] },
        { version: 1, path: join(root, 'devices'), controllers: ['devices'] },
      ],
      'p',
    );
    const limits = { memoryBytes: MIB, nanoCpus: 250_000_000, cpuShares: 7, pids: 5 };
    const plan = planOf(host, limits);
    assert.deepEqual(
      plan.groups.flatMap(({ writes }) =>
        writes.map(({ file, value, isInherited }) => `${file} ${isInherited ? 'as above' : value}`),
      ),
      [
        `memory.limit_in_bytes ${MIB}`,
        `memory.memsw.limit_in_bytes ${2 * MIB}`,
        'cpu.shares 7',
        'cpu.cfs_period_us 100000',
        'cpu.cfs_quota_us 25000',
        'cpuset.cpus as above',
        'cpuset.mems as above',
        'devices.deny a',
        'devices.allow c 1:* rwm',
      ],
    );
    assert.deepEqual(plan.notes, [
      'the limit of processes has no effect: this host has no pids cgroup controller',
    ]);
  });
});

test('what is out of range is clamped and said', () => {
  const plan = planOf(v2('/fake'), { cpuShares: 1, nanoCpus: 1000 });
  assert.match(plan.notes.join(), /^cpu shares 1 is out of range, 2 is used$/);
  assert.match(plan.changed.join(), /below the least of 0.01 cores/);
  assert.equal(plan.groups[0].writes.at(-1)?.value, '1000 100000');
});

test('controllers are passed down the whole way to the containers on v2', () => {
  withRoot((root) => {
    for (const dir of ['', 'lab', 'lab/h1']) {
      mkdirSync(join(root, dir), { recursive: true });
      writeFileSync(join(root, dir, 'cgroup.subtree_control'), 'cpuset cpu io memory');
    }
    v2(root).prepare();
    for (const dir of ['', 'lab', 'lab/h1']) {
      assert.equal(readFileSync(join(root, dir, 'cgroup.subtree_control'), 'utf8'), '+pids');
    }
    assert(existsSync(join(root, 'lab/h1/shims')));
    assert(!existsSync(join(root, 'lab/h1/shims/cgroup.subtree_control')));
  });
});

test('groups below a parent that users name are made, listed and told from the parent', () => {
  withRoot((root) => {
    const host = v2(root);
    const [inside, outside] = ['a'.repeat(64), 'b'.repeat(64)];
    const path = `parents/shop.slice/till/${inside}`;
    for (const dir of ['', 'lab', 'lab/h1']) {
      mkdirSync(join(root, dir), { recursive: true });
      writeFileSync(join(root, dir, 'cgroup.subtree_control'), 'cpuset cpu io memory pids');
    }
    host.makeAbove(path);
    const till = join(root, 'lab/h1/parents/shop.slice/till');
    assert(existsSync(join(till, 'cgroup.subtree_control')));
    assert(!existsSync(join(till, inside)));
    for (const dir of [join(till, inside, 'own'), join(root, 'lab/h1', outside)]) {
      mkdirSync(dir, { recursive: true });
    }
    assert.deepEqual(host.list(), [outside, path]);
  });
});

test('usage is read in the units of the contract', () => {
  withRoot((root) => {
    const host = v2(root);
    const dir = join(root, 'lab/h1/id');
    mkdirSync(dir, { recursive: true });
    const files = {
      'memory.current': '5000\n',
      'memory.stat': 'anon 1\ninactive_file 1000\n',
      'cpu.stat': 'usage_usec 42\nuser_usec 1\n',
      'pids.current': '3\n',
    };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
    assert.deepEqual(host.stats('id'), { memoryBytes: 4000, cpuNs: 42_000, pids: 3 });
    assert.throws(() => host.stats('other'), /not running/);
    assert.deepEqual(host.list(), ['id']);
  });
});
