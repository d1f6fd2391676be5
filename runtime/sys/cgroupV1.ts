/**
 * Resources as the files of cgroup v1's controllers (kernel Documentation/admin-guide/cgroup-v1).
 * A hierarchy carries one controller or some, and only their part is worked out.
 */
import { given, isShareLess, type Task, THROTTLE_FILES } from './cgroupLimits.ts';
import { THROTTLES } from './resources.ts';

const MEMORY = 'memory.limit_in_bytes';
const SWAP = 'memory.memsw.limit_in_bytes';

export function v1Writes(task: Task): void {
  if (task.has('memory')) memoryWrites(task);
  if (task.has('cpu')) cpuWrites(task);
  if (task.has('cpuset')) cpusetWrites(task);
  if (task.has('pids')) {
    const { limit } = task.resources.pids ?? {};
    task.write('pids.max', limit === -1 ? 'max' : limit);
  }
  if (task.has('blkio')) blockWrites(task);
  if (task.has('hugetlb')) hugetlbWrites(task);
  if (task.has('net_cls')) task.write('net_cls.classid', given(task.resources.network?.classID));
  if (task.has('net_prio')) {
    for (const { name, priority } of task.resources.network?.priorities ?? []) {
      task.write('net_prio.ifpriomap', `${name} ${priority}`);
    }
  }
  if (task.has('rdma')) rdmaWrites(task);
}

function memoryWrites({ resources, view, write, refuse, note }: Task): void {
  const memory = resources.memory ?? {};
  const limit = given(memory.limit);
  const hasSwap = view.has(SWAP);
  // Unlimited memory within limited memory and swap would be none.
  let swap = given(memory.swap) ?? (limit === -1 && hasSwap ? -1 : undefined);
  if (swap !== undefined && !hasSwap) {
    if (swap !== -1) refuse('the swap limit', 'its kernel does not account for swap');
    swap = undefined;
  }
  // Memory may never be above memory+swap, not even between two writes.
  const swapNow = unlimitedAs(view.read(SWAP));
  if (limit !== undefined && swapNow >= (limit === -1 ? Infinity : limit)) {
    write(MEMORY, limit);
    write(SWAP, swap);
  } else {
    write(SWAP, swap);
    write(MEMORY, limit);
  }
  write('memory.soft_limit_in_bytes', given(memory.reservation));
  write('memory.swappiness', memory.swappiness);
  if (memory.disableOOMKiller !== undefined) {
    const isNew = view.read('memory.oom_control') === undefined;
    if (memory.disableOOMKiller || !isNew) {
      write('memory.oom_control', memory.disableOOMKiller ? 1 : 0);
    }
  }
  if ((memory.kernel ?? 0) > 0 || (memory.kernelTCP ?? 0) > 0) {
    note('the limit of kernel memory has no effect: kernels have dropped it');
  }
}

/** v1 has no word for "no limit": -1, or a number near 2^63. */
function unlimitedAs(text: string | undefined): number {
  const value = Number(text ?? -1);
  return value < 0 ? Infinity : value;
}

function cpuWrites(task: Task): void {
  const { resources, view, write, refuse } = task;
  const cpu = resources.cpu ?? {};
  if (cpu.idle !== undefined && view.has('cpu.idle')) write('cpu.idle', cpu.idle);
  else if (cpu.idle === 1) refuse('cpu idle', 'its kernel is older than Linux 5.15');
  // An idle group has no other weight.
  if (cpu.idle !== 1) write('cpu.shares', given(cpu.shares));

  const quota = given(cpu.quota);
  const isBurstFirst =
    cpu.burst !== undefined && cpu.burst <= unlimitedAs(view.read('cpu.cfs_quota_us'));
  const addBurst = (): void => {
    if (cpu.burst === undefined) return;
    if (view.has('cpu.cfs_burst_us')) write('cpu.cfs_burst_us', cpu.burst);
    else if (cpu.burst > 0) refuse('the cpu burst', 'its kernel is older than Linux 5.14');
  };
  if (isBurstFirst && quota !== undefined) addBurst();
  pairWrites(task, {
    amount: ['cpu.cfs_quota_us', quota !== undefined && quota < 0 ? -1 : quota],
    period: ['cpu.cfs_period_us', given(cpu.period)],
  });
  if (!isBurstFirst || quota === undefined) addBurst();

  const runtime = given(cpu.realtimeRuntime);
  const period = given(cpu.realtimePeriod);
  if (runtime === undefined && period === undefined) return;
  if (!view.has('cpu.rt_runtime_us')) {
    refuse('real-time cpu', 'its kernel was built without CONFIG_RT_GROUP_SCHED');
    return;
  }
  pairWrites(task, {
    amount: ['cpu.rt_runtime_us', runtime],
    period: ['cpu.rt_period_us', period],
  });
}

type Setting = readonly [file: string, value: number | undefined];

function pairWrites(
  { view, write }: Task,
  { amount, period }: { readonly amount: Setting; readonly period: Setting },
): void {
  const [amountNow, periodNow] = [view.read(amount[0]), view.read(period[0])].map(Number);
  // A new group has no quota, or no real-time at all: nothing stands in the period's way.
  const isPeriodFirst =
    Number.isNaN(amountNow) ||
    amountNow < 0 ||
    ((amount[1] ?? -1) >= 0 && isShareLess(amountNow, period[1] ?? 0, amount[1] ?? 0, periodNow));
  const ordered = isPeriodFirst ? [period, amount] : [amount, period];
  for (const [file, value] of ordered) write(file, value);
}

function cpusetWrites({ resources, view, write, inherit }: Task): void {
  const { cpus = '', mems = '' } = resources.cpu ?? {};
  for (const [file, value] of [
    ['cpuset.cpus', cpus],
    ['cpuset.mems', mems],
  ]) {
    // A group without takes no process.
    const now = view.read(file);
    if (value !== '') write(file, value);
    else if (now === undefined) inherit(file);
    else if (now === '') write(file, view.inherited(file));
  }
}

function blockWrites({ resources, view, write, refuse }: Task): void {
  const { weight, leafWeight, weightDevice = [], throttles = {} } = resources.blockIO ?? {};
  const scheduler = 'no block device here has a scheduler with weights (bfq)';
  const isWeighed = given(weight) !== undefined || weightDevice.length > 0;
  const files = isWeighed ? ['blkio.weight', 'blkio.bfq.weight'] : [];
  const weights = files.find((file) => view.has(file));
  if (given(weight) !== undefined) {
    if (weights === undefined) refuse('the block I/O weight', scheduler);
    else write(weights, weight);
  }
  const leaf = (what: string): void => refuse(what, 'its kernel has dropped leaf weights');
  if (given(leafWeight) !== undefined) {
    if (view.has('blkio.leaf_weight')) write('blkio.leaf_weight', leafWeight);
    else leaf('the block I/O leaf weight');
  }
  const byDevice = weights === undefined ? '' : `${weights}_device`;
  for (const device of weightDevice) {
    const number = `${device.major}:${device.minor}`;
    if (given(device.weight) !== undefined) {
      if (byDevice === '' || !view.has(byDevice)) refuse('the weight of a device', scheduler);
      else write(byDevice, `${number} ${device.weight}`);
    }
    if (given(device.leafWeight) !== undefined) {
      if (!view.has('blkio.leaf_weight_device')) leaf('the leaf weight of a device');
      else write('blkio.leaf_weight_device', `${number} ${device.leafWeight}`);
    }
  }
  for (const kind of THROTTLES) {
    for (const { major, minor, rate } of throttles[kind] ?? []) {
      write(THROTTLE_FILES[kind].v1, `${major}:${minor} ${rate}`);
    }
  }
}

function hugetlbWrites({ resources, view, write, refuse }: Task): void {
  for (const { pageSize, limit } of resources.hugepageLimits ?? []) {
    const file = `hugetlb.${pageSize}.limit_in_bytes`;
    if (!view.has(file)) {
      refuse('the limit of huge pages', `it has no huge pages of ${pageSize}`);
      continue;
    }
    write(file, limit);
    const reserved = `hugetlb.${pageSize}.rsvd.limit_in_bytes`;
    if (view.has(reserved)) write(reserved, limit);
  }
}

/** The same file in both versions. */
export function rdmaWrites({ resources, write }: Task): void {
  for (const [device, { hcaHandles, hcaObjects }] of resources.rdma ?? []) {
    const parts = [
      ...(hcaHandles === undefined ? [] : [`hca_handle=${hcaHandles}`]),
      ...(hcaObjects === undefined ? [] : [`hca_object=${hcaObjects}`]),
    ];
    write('rdma.max', [device, ...parts].join(' '));
  }
}
