/**
 * OCI resources as the files of cgroup v1 and v2: a table of conversions, the order of writes
 * against a model of the kernel's checks, what a host has not, and groups made for a path.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { Cgroups } from '../../runtime/sys/cgroup.ts';
import { blockWeight, cpuWeight, type GroupView } from '../../runtime/sys/cgroupLimits.ts';
import { resourceWrites } from '../../runtime/sys/cgroupWrites.ts';
import type { Resources } from '../../runtime/sys/resources.ts';

const V1 = ['cpu', 'cpuset', 'memory', 'pids', 'blkio', 'hugetlb', 'net_cls', 'net_prio', 'rdma'];
const V2 = ['cpu', 'cpuset', 'memory', 'pids', 'io', 'hugetlb', 'rdma'];

const readFile = (path: string): string => readFileSync(path, 'utf8').trim();

type Files = Readonly<Record<string, string>>;

function withDirectory(body: (root: string) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'cgroup-limits-'));
  try {
    body(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** 'file value' of each write; `now`: what the group has, `lacks`: files the kernel has not. */
function written(
  version: 1 | 2,
  resources: Resources,
  { now = {}, lacks = [] }: { now?: Files; lacks?: readonly string[] } = {},
): { readonly writes: readonly string[]; readonly notes: readonly string[] } {
  const notes: string[] = [];
  const view: GroupView = {
    has: (file) => !lacks.includes(file),
    read: (file) => now[file],
    inherited: (file) => `parent's ${file}`,
  };
  const controllers = version === 1 ? V1.filter((name) => name !== 'cpuset') : V2;
  const writes = resourceWrites({ version, path: '/', controllers }, resources, view, {
    refuse: (what, why) => notes.push(`${what}: ${why}`),
    note: (text) => notes.push(text),
  });
  return { writes: writes.map(({ file, value }) => `${file} ${value}`), notes };
}

test('cpu shares become weights as runc and crun convert them, block weights likewise', () => {
  const known: [number, number][] = [
    [0, 1],
    [2, 1],
    [512, 59],
    [1024, 100],
    [2048, 174],
    [262_144, 10_000],
    [1_000_000, 10_000],
  ];
  for (const [shares, weight] of known) assert.equal(cpuWeight(shares), weight, `${shares}`);
  for (const [from, to] of [
    [10, 1],
    [750, 7475],
    [1000, 10_000],
  ]) {
    assert.equal(blockWeight(from), to);
  }
});

const TABLE: readonly [Resources, readonly string[], readonly string[]][] = [
  [{ cpu: { shares: 512 } }, ['cpu.shares 512'], ['cpu.weight 59']],
  [
    { cpu: { quota: 50_000, period: 200_000 } },
    ['cpu.cfs_period_us 200000', 'cpu.cfs_quota_us 50000'],
    ['cpu.max 50000 200000'],
  ],
  [{ cpu: { quota: 5000 } }, ['cpu.cfs_quota_us 5000'], ['cpu.max 5000 100000']],
  [{ cpu: { period: 1_000_000 } }, ['cpu.cfs_period_us 1000000'], ['cpu.max max 1000000']],
  [{ cpu: { quota: -1 } }, ['cpu.cfs_quota_us -1'], ['cpu.max max 100000']],
  [
    { cpu: { quota: 50_000, burst: 20_000 } },
    ['cpu.cfs_burst_us 20000', 'cpu.cfs_quota_us 50000'],
    ['cpu.max.burst 20000', 'cpu.max 50000 100000'],
  ],
  [{ cpu: { idle: 1, shares: 1024 } }, ['cpu.idle 1'], ['cpu.idle 1']],
  [
    { cpu: { idle: 0, shares: 1024 } },
    ['cpu.idle 0', 'cpu.shares 1024'],
    ['cpu.idle 0', 'cpu.weight 100'],
  ],
  [
    { memory: { limit: 100, swap: 300, reservation: 50 } },
    [
      'memory.limit_in_bytes 100',
      'memory.memsw.limit_in_bytes 300',
      'memory.soft_limit_in_bytes 50',
    ],
    ['memory.swap.max 200', 'memory.max 100', 'memory.low 50'],
  ],
  [
    { memory: { limit: 100, swap: 100 } },
    ['memory.limit_in_bytes 100', 'memory.memsw.limit_in_bytes 100'],
    ['memory.swap.max 0', 'memory.max 100'],
  ],
  [
    { memory: { limit: -1 } },
    ['memory.limit_in_bytes -1', 'memory.memsw.limit_in_bytes -1'],
    ['memory.swap.max max', 'memory.max max'],
  ],
  [
    { memory: { limit: 100, swap: -1, reservation: -1 } },
    [
      'memory.limit_in_bytes 100',
      'memory.memsw.limit_in_bytes -1',
      'memory.soft_limit_in_bytes -1',
    ],
    ['memory.swap.max max', 'memory.max 100', 'memory.low max'],
  ],
  [{ memory: { limit: 0, swap: 0, reservation: 0 } }, [], []],
  [
    { memory: { limit: 9_223_372_036_854_775_000 } },
    ['memory.limit_in_bytes 9223372036854774784'],
    ['memory.max 9223372036854774784'],
  ],
  [{ pids: { limit: 20 } }, ['pids.max 20'], ['pids.max 20']],
  [{ pids: { limit: -1 } }, ['pids.max max'], ['pids.max max']],
  [{ pids: { limit: 0 } }, ['pids.max 0'], ['pids.max 1']],
  [
    {
      blockIO: {
        weight: 750,
        weightDevice: [{ major: 8, minor: 16, weight: 10 }],
        throttles: {
          throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 600 }],
          throttleWriteIOPSDevice: [{ major: 8, minor: 0, rate: 0 }],
        },
      },
    },
    [
      'blkio.weight 750',
      'blkio.weight_device 8:16 10',
      'blkio.throttle.read_bps_device 8:0 600',
      'blkio.throttle.write_iops_device 8:0 0',
    ],
    ['io.bfq.weight 750', 'io.bfq.weight 8:16 10', 'io.max 8:0 rbps=600', 'io.max 8:0 wiops=max'],
  ],
  [
    { hugepageLimits: [{ pageSize: '2MB', limit: 4096 }] },
    ['hugetlb.2MB.limit_in_bytes 4096', 'hugetlb.2MB.rsvd.limit_in_bytes 4096'],
    ['hugetlb.2MB.max 4096', 'hugetlb.2MB.rsvd.max 4096'],
  ],
  [
    { rdma: new Map([['mlx5_1', { hcaHandles: 3, hcaObjects: 10_000 }]]) },
    ['rdma.max mlx5_1 hca_handle=3 hca_object=10000'],
    ['rdma.max mlx5_1 hca_handle=3 hca_object=10000'],
  ],
];

test('each resource becomes the files of v1 and of v2 that mean it', () => {
  for (const [resources, v1, v2] of TABLE) {
    const given = JSON.stringify(resources);
    assert.deepEqual(written(1, resources), { writes: v1, notes: [] }, given);
    assert.deepEqual(written(2, resources), { writes: v2, notes: [] }, given);
  }
});

test('what only one version has, the other refuses by its name', () => {
  const resources: Resources = {
    memory: { swappiness: 60, disableOOMKiller: true },
    cpu: { realtimeRuntime: 500, realtimePeriod: 1000 },
    network: { classID: 7, priorities: [{ name: 'eth0', priority: 5 }] },
  };
  assert.deepEqual(written(1, resources).writes, [
    'memory.swappiness 60',
    'memory.oom_control 1',
    'cpu.rt_period_us 1000',
    'cpu.rt_runtime_us 500',
    'net_cls.classid 7',
    'net_prio.ifpriomap eth0 5',
  ]);
  assert.deepEqual(written(2, resources), {
    writes: [],
    notes: [
      'memory swappiness: cgroup v2 has no such setting',
      'disabling the OOM killer: cgroup v2 has no such setting',
      'real-time cpu: cgroup v2 has no such setting',
    ],
  });
  const host = new Cgroups([{ version: 2, path: '/none', controllers: V2 }], 'p');
  assert.throws(
    () => host.plan('id', { network: { classID: 7 } }, { isStrict: true }),
    /cannot set the network class: this host has no net_cls cgroup controller/,
  );
  const old = new Cgroups([{ version: 1, path: '/none', controllers: ['pids'] }], 'p');
  const unified = { 'memory.min': '131072' };
  assert.throws(() => old.plan('id', { unified }), /invalid configuration: .*needs cgroup v2/);
  assert.deepEqual(old.plan('id', { cpu: { shares: 3, quota: 5000 } }).notes, [
    'the cpu limit has no effect: this host has no cpu cgroup controller',
    'cpu shares has no effect: this host has no cpu cgroup controller',
  ]);
});

test('what the kernel was built without is said, never dropped', () => {
  const notesOf = (version: 1 | 2, resources: Resources, ...lacks: string[]): string =>
    written(version, resources, { lacks }).notes.join('; ');
  const swap: Resources = { memory: { limit: 100, swap: 150 } };
  assert.match(notesOf(1, swap, 'memory.memsw.limit_in_bytes'), /does not account for swap/);
  assert.match(notesOf(2, swap, 'memory.swap.max'), /does not account for swap/);
  // Nothing is lost where there would be no swap, or no limit.
  for (const same of [100, -1]) {
    assert.equal(notesOf(2, { memory: { limit: 100, swap: same } }, 'memory.swap.max'), '');
  }
  assert.match(notesOf(1, { cpu: { realtimeRuntime: 1 } }, 'cpu.rt_runtime_us'), /RT_GROUP_SCHED/);
  assert.match(notesOf(2, { cpu: { burst: 1 } }, 'cpu.max.burst'), /older than Linux 5.14/);
  const huge = { hugepageLimits: [{ pageSize: '3MB', limit: 1 }] };
  assert.match(notesOf(1, huge, 'hugetlb.3MB.limit_in_bytes'), /no huge pages of 3MB/);
  assert.match(notesOf(2, huge, 'hugetlb.3MB.max'), /no huge pages of 3MB/);
  const weight = { blockIO: { weight: 500, weightDevice: [{ major: 8, minor: 0, weight: 20 }] } };
  assert.match(notesOf(1, weight, 'blkio.weight', 'blkio.bfq.weight'), /no block device here/);
  assert.match(notesOf(2, weight, 'io.weight', 'io.bfq.weight'), /no block device here/);
  assert.deepEqual(written(2, weight, { lacks: ['io.bfq.weight'] }).writes, [
    'io.weight 4950',
    'io.weight 8:0 102',
  ]);
  assert.deepEqual(written(1, weight, { lacks: ['blkio.weight'] }).writes, [
    'blkio.bfq.weight 500',
    'blkio.bfq.weight_device 8:0 20',
  ]);
  assert.match(notesOf(1, { memory: { kernel: 5 } }), /kernels have dropped it/);
});

test('what is wrong on any host is refused with its field', () => {
  const host = new Cgroups([{ version: 2, path: '/none', controllers: V2 }], 'p');
  const refused = (resources: Resources, why: RegExp): void => {
    assert.throws(() => host.plan('id', resources), why);
  };
  refused({ memory: { limit: 100, swap: 50 } }, /50 bytes is below the memory limit of 100/);
  refused({ memory: { swap: 50 } }, /a swap limit needs a memory limit/);
  refused({ memory: { swappiness: 101 } }, /0 to 100/);
  refused({ cpu: { quota: 10, burst: 20 } }, /burst of 20 us is above the quota/);
  refused({ cpu: { idle: 2 } }, /neither 0 nor 1/);
  refused({ blockIO: { weight: 5 } }, /10 to 1000/);
  refused({ pids: { limit: -2 } }, /below -1/);
  refused({ hugepageLimits: [{ pageSize: '2mb', limit: 1 }] }, /has not the form 64KB/);
  refused({ unified: { 'foo.bar': 'x' } }, /requested cgroup controller `foo` is not available/);
  refused({ unified: { NOPE: 'x' } }, /has not the form CONTROLLER.VALUE `NOPE`/);
  refused({ unified: { '../cpu.max': 'x' } }, /has not the form CONTROLLER.VALUE/);
});

test('unified files come last, a line at a time, and so win', () => {
  const unified = { 'io.max': '259:0 rbps=1\n253:0 wiops=2', 'pids.max': '9' };
  assert.deepEqual(written(2, { pids: { limit: 3 }, unified }).writes, [
    'pids.max 3',
    'io.max 259:0 rbps=1',
    'io.max 253:0 wiops=2',
    'pids.max 9',
  ]);
});

test('an update keeps what it does not name', () => {
  assert.deepEqual(
    written(2, { cpu: { period: 50_000 } }, { now: { 'cpu.max': '7000 100000' } }).writes,
    ['cpu.max 7000 50000'],
  );
  assert.deepEqual(written(2, { memory: { swap: 500 } }, { now: { 'memory.max': '200' } }).writes, [
    'memory.swap.max 300',
  ]);
  const check = { memory: { limit: 100, checkBeforeUpdate: true } };
  assert.throws(
    () => written(2, check, { now: { 'memory.current': '101' } }),
    /limit of 100 bytes is below the 101 bytes in use/,
  );
  written(2, check, { now: { 'memory.current': '99' } });
});

/** What mm/memcontrol.c and kernel/sched take, one write after the other. */
class KernelV1 {
  readonly files: Map<string, number>;
  readonly #most: number;

  constructor(files: Readonly<Record<string, number>>, mostShare: number) {
    this.files = new Map(Object.entries(files));
    this.#most = mostShare;
    this.check('the start');
  }

  get(file: string): number {
    const value = this.files.get(file) ?? Number.NaN;
    return value < 0 ? Infinity : value;
  }

  write(line: string): void {
    const [file, value] = line.split(' ');
    this.files.set(file, Number(value));
    this.check(line);
  }

  check(after: string): void {
    const [limit, swap] = [
      this.get('memory.limit_in_bytes'),
      this.get('memory.memsw.limit_in_bytes'),
    ];
    assert(limit <= swap, `${after}: ${limit} above ${swap}`);
    const [quota, burst] = [this.get('cpu.cfs_quota_us'), this.get('cpu.cfs_burst_us')];
    assert(burst <= quota, `${after}: burst ${burst} above ${quota}`);
    if (quota === Infinity) return;
    const share = quota / this.get('cpu.cfs_period_us');
    assert(
      share <= this.#most + 1e-9,
      `${after}: a share of ${share}, the parent has ${this.#most}`,
    );
  }
}

const bytes = fc.integer({ min: 1, max: 6 }).map((value) => value * 4096);
const orNone = (value: fc.Arbitrary<number>): fc.Arbitrary<number> =>
  fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: fc.constant(-1) });

test('limits change from any to any in an order that the kernel takes', () => {
  const memory = fc
    .tuple(orNone(bytes), orNone(bytes))
    .filter(([limit, swap]) => swap < 0 || (limit >= 0 && limit <= swap));
  const cpu = fc
    .tuple(orNone(fc.integer({ min: 1, max: 20 })), fc.integer({ min: 1, max: 20 }))
    .filter(([quota, period]) => quota <= period)
    .chain(([quota, period]) =>
      fc.tuple(
        fc.constant(quota),
        fc.constant(period),
        fc.integer({ min: 0, max: quota < 0 ? 20 : quota }),
      ),
    );
  const state = fc.tuple(memory, cpu);
  fc.assert(
    fc.property(state, state, ([[limit, swap], [quota, period, burst]], [memoryNext, cpuNext]) => {
      const shares = [quota / period, cpuNext[0] / cpuNext[1]].filter((share) => share > 0);
      const kernel = new KernelV1(
        {
          'memory.limit_in_bytes': limit,
          'memory.memsw.limit_in_bytes': swap,
          'cpu.cfs_quota_us': quota,
          'cpu.cfs_period_us': period,
          'cpu.cfs_burst_us': burst,
        },
        Math.max(...shares, 0),
      );
      const now = Object.fromEntries([...kernel.files].map(([file, value]) => [file, `${value}`]));
      const { writes } = written(
        1,
        {
          memory: { limit: memoryNext[0], swap: memoryNext[1] },
          cpu: { quota: cpuNext[0], period: cpuNext[1], burst: cpuNext[2] },
        },
        { now },
      );
      for (const line of writes) kernel.write(line);
      assert.equal(kernel.files.get('memory.memsw.limit_in_bytes'), memoryNext[1]);
      assert.equal(kernel.files.get('cpu.cfs_quota_us'), cpuNext[0]);
      assert.equal(kernel.files.get('cpu.cfs_burst_us'), cpuNext[2]);
    }),
    { seed: 20261121, numRuns: 2000 },
  );
});

test('an update that the kernel refuses changes nothing', () => {
  withDirectory((root) => {
    const dir = join(root, 'p/id');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'pids.max'), '7\n');
    // A directory cannot be written, as a file of a value that is not taken.
    mkdirSync(join(dir, 'cpuset.mems'));
    writeFileSync(join(dir, 'cpuset.cpus'), '0-1\n');
    const host = new Cgroups([{ version: 2, path: root, controllers: ['cpuset', 'pids'] }], 'p');
    assert.throws(
      () => host.update('id', { cpu: { cpus: '0', mems: '9' } }),
      /cannot set cpuset.mems to 9: /,
    );
    assert.equal(readFile(join(dir, 'cpuset.cpus')), '0-1');
    host.update('id', { pids: { limit: 8 } });
    assert.equal(readFile(join(dir, 'pids.max')), '8');
  });
});

test('groups for a path are made with what they need, and only those made go again', () => {
  withDirectory((root) => {
    for (const dir of ['', 'there']) {
      mkdirSync(join(root, dir), { recursive: true });
      writeFileSync(join(root, dir, 'cgroup.subtree_control'), 'cpuset cpu io memory pids');
    }
    const controllers = ['cpuset', 'cpu', 'io', 'memory', 'pids', 'hugetlb'];
    const host = new Cgroups([{ version: 2, path: root, controllers }], 'p');
    // Making a directory makes its files in the kernel only.
    mkdirSync(join(root, 'there/pod'));
    writeFileSync(join(root, 'there/pod/cgroup.subtree_control'), 'cpuset cpu io memory pids');
    writeFileSync(join(root, 'there/pod/cgroup.procs'), '');
    const { made, notes } = host.make('/there/pod/one');
    assert.deepEqual([made, notes], [[join(root, 'there/pod/one')], []]);
    assert.equal(readFile(join(root, 'there/cgroup.subtree_control')), '+hugetlb');
    assert.equal(readFile(join(root, 'there/pod/cgroup.subtree_control')), '+hugetlb');
    writeFileSync(join(root, 'there/pod/one/cgroup.freeze'), '0');
    writeFileSync(join(root, 'there/pod/one/cgroup.procs'), '12\n');
    assert.match(host.make('/there/pod/one').notes.join(), /cgroup is not empty: 1 process/);
    writeFileSync(join(root, 'there/pod/one/cgroup.freeze'), '1');
    assert.throws(() => host.make('/there/pod/one'), /cgroup unexpectedly frozen/);
    for (const path of ['/', '', 'x/../y', '../up']) {
      assert.throws(() => host.make(path), /is no path of a control group/);
    }
    for (const file of ['cgroup.freeze', 'cgroup.procs']) {
      rmSync(join(root, 'there/pod/one', file));
    }
    assert.equal(host.remove('/there/pod/one'), true);
    host.removeMade(made);
    assert(existsSync(join(root, 'there/pod')));
  });
});

test('a group goes with those that were made in it', () => {
  withDirectory((root) => {
    const host = new Cgroups([{ version: 2, path: root, controllers: [] }], 'p');
    mkdirSync(join(root, 'p/id/a/b'), { recursive: true });
    mkdirSync(join(root, 'p/id/c'));
    assert.equal(host.remove('id'), true);
    assert(!existsSync(join(root, 'p/id')));
  });
});
