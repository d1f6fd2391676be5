/**
 * Resources as the files of cgroup v2 (kernel Documentation/admin-guide/cgroup-v2.rst). What v2
 * has no file for is refused by its name.
 */
import { SwarmError } from '../../base/errors.ts';
import {
  blockWeight,
  cpuWeight,
  given,
  type Task,
  THROTTLE_FILES,
  wholeText,
} from './cgroupLimits.ts';
import { rdmaWrites } from './cgroupV1.ts';
import { THROTTLES } from './resources.ts';

const CPU_PERIOD_US = 100_000;
const NO_FILE = 'cgroup v2 has no such setting';
/** Of cgroup itself, in every group. */
const CORE = 'cgroup';

export function v2Writes(task: Task): void {
  if (task.has('memory')) memoryWrites(task);
  if (task.has('cpu')) cpuWrites(task);
  if (task.has('cpuset')) {
    const { cpus = '', mems = '' } = task.resources.cpu ?? {};
    if (cpus !== '') task.write('cpuset.cpus', cpus);
    if (mems !== '') task.write('cpuset.mems', mems);
  }
  if (task.has('pids')) {
    const { limit } = task.resources.pids ?? {};
    // The first process is made in the group and counts; with 1, it can make no other.
    task.write('pids.max', limit === -1 ? 'max' : limit === 0 ? 1 : limit);
  }
  if (task.has('io')) blockWrites(task);
  if (task.has('hugetlb')) hugetlbWrites(task);
  if (task.has('rdma')) rdmaWrites(task);
  unifiedWrites(task);
}

function orMax(value: number | undefined): number | string | undefined {
  return value === -1 ? 'max' : given(value);
}

function memoryWrites({ resources, view, write, refuse, note }: Task): void {
  const memory = resources.memory ?? {};
  const limit = given(memory.limit);
  const used = Number(view.read('memory.current') ?? 0);
  if (memory.checkBeforeUpdate === true && limit !== undefined && limit > 0 && used > limit) {
    throw new SwarmError(
      'invalid',
      `the memory limit of ${limit} bytes is below the ${used} bytes in use`,
    );
  }
  const swap = swapMax(memory.limit, memory.swap, view.read('memory.max'));
  if (swap !== undefined) {
    if (view.has('memory.swap.max')) write('memory.swap.max', swap);
    else if (swap !== 'max' && swap !== '0') {
      refuse('the swap limit', 'its kernel does not account for swap');
    }
  }
  write('memory.max', orMax(memory.limit));
  write('memory.low', orMax(memory.reservation));
  if (memory.swappiness !== undefined) refuse('memory swappiness', NO_FILE);
  if (memory.disableOOMKiller === true) refuse('disabling the OOM killer', NO_FILE);
  if ((memory.kernel ?? 0) > 0 || (memory.kernelTCP ?? 0) > 0) {
    note('the limit of kernel memory has no effect: kernels have dropped it');
  }
}

/** OCI's limit is of memory and swap together, v2's of swap alone. */
function swapMax(
  limitGiven: number | undefined,
  swapGiven: number | undefined,
  limitNow: string | undefined,
): string | undefined {
  const [limit, swap] = [given(limitGiven), given(swapGiven)];
  if (swap === undefined) return limit === -1 ? 'max' : undefined;
  if (swap < 0) return 'max';
  const memory = limit ?? Number(limitNow);
  if (!(memory > 0 && memory < Infinity)) {
    throw new SwarmError('invalid', 'a swap limit needs a memory limit: set both');
  }
  if (swap < memory) {
    throw new SwarmError(
      'invalid',
      `memory+swap of ${swap} bytes is below the memory limit of ${memory}`,
    );
  }
  return wholeText(swap - memory);
}

function cpuWrites({ resources, view, write, refuse }: Task): void {
  const cpu = resources.cpu ?? {};
  if (cpu.idle !== undefined && view.has('cpu.idle')) write('cpu.idle', cpu.idle);
  else if (cpu.idle === 1) refuse('cpu idle', 'its kernel is older than Linux 5.15');
  const shares = given(cpu.shares);
  // An idle group has no other weight.
  if (shares !== undefined && cpu.idle !== 1) write('cpu.weight', cpuWeight(shares));

  const [quota, period] = [given(cpu.quota), given(cpu.period)];
  const [quotaNow = 'max', periodNow = CPU_PERIOD_US] = (view.read('cpu.max') ?? '')
    .split(' ')
    .filter(Boolean);
  const isBurstFirst = cpu.burst !== undefined && !(cpu.burst > Number(quotaNow));
  const addBurst = (): void => {
    if (cpu.burst === undefined) return;
    if (view.has('cpu.max.burst')) write('cpu.max.burst', cpu.burst);
    else if (cpu.burst > 0) refuse('the cpu burst', 'its kernel is older than Linux 5.14');
  };
  if (isBurstFirst) addBurst();
  if (quota !== undefined || period !== undefined) {
    const amount = quota === undefined ? quotaNow : quota < 0 ? 'max' : wholeText(quota);
    write('cpu.max', `${amount} ${period ?? periodNow}`);
  }
  if (!isBurstFirst) addBurst();
  if ((given(cpu.realtimeRuntime) ?? given(cpu.realtimePeriod)) !== undefined) {
    refuse('real-time cpu', NO_FILE);
  }
}

function blockWrites({ resources, view, write, refuse }: Task): void {
  const { weight, leafWeight, weightDevice = [], throttles = {} } = resources.blockIO ?? {};
  const isWeighed = given(weight) !== undefined || weightDevice.length > 0;
  const files = isWeighed ? ['io.bfq.weight', 'io.weight'] : [];
  const file = files.find((name) => view.has(name));
  const convert = file === 'io.bfq.weight' ? (value: number) => value : blockWeight;
  const none = 'no block device here has a scheduler with weights (bfq), nor a cost model';
  if (given(weight) !== undefined) {
    if (file === undefined) refuse('the block I/O weight', none);
    else write(file, convert(weight ?? 0));
  }
  for (const device of weightDevice) {
    if (given(device.weight) !== undefined) {
      const value = `${device.major}:${device.minor} ${convert(device.weight ?? 0)}`;
      if (file === undefined) refuse('the weight of a device', none);
      else write(file, value);
    }
    if (given(device.leafWeight) !== undefined) refuse('the leaf weight of a device', NO_FILE);
  }
  if (given(leafWeight) !== undefined) refuse('the block I/O leaf weight', NO_FILE);
  for (const kind of THROTTLES) {
    for (const { major, minor, rate } of throttles[kind] ?? []) {
      const value = rate === 0 ? 'max' : wholeText(rate);
      write('io.max', `${major}:${minor} ${THROTTLE_FILES[kind].v2}=${value}`);
    }
  }
}

function hugetlbWrites({ resources, view, write, refuse }: Task): void {
  for (const { pageSize, limit } of resources.hugepageLimits ?? []) {
    const file = `hugetlb.${pageSize}.max`;
    if (!view.has(file)) {
      refuse('the limit of huge pages', `it has no huge pages of ${pageSize}`);
      continue;
    }
    write(file, limit);
    const reserved = `hugetlb.${pageSize}.rsvd.max`;
    if (view.has(reserved)) write(reserved, limit);
  }
}

/** Last, so that they win over what was worked out of the other fields. */
function unifiedWrites({ resources, has, write }: Task): void {
  for (const [file, value] of Object.entries(resources.unified ?? {})) {
    checkUnified(file, has);
    // One write is one setting.
    for (const line of value.split('\n').filter(Boolean)) write(file, line);
  }
}

/** SwarmError invalid for what is no file of a group, or of a controller this host has not. */
export function checkUnified(file: string, has: (controller: string) => boolean): void {
  const [controller, rest = ''] = file.split(/\.(.*)/s);
  if (file.includes('/') || controller === '' || rest === '') {
    throw new SwarmError(
      'invalid',
      `unified: the specified key has not the form CONTROLLER.VALUE \`${file}\``,
    );
  }
  if (controller !== CORE && !has(controller)) {
    throw new SwarmError(
      'invalid',
      `invalid configuration: the requested cgroup controller \`${controller}\` is not available ` +
        `on this host's cgroup v2 (unified "${file}")`,
    );
  }
}
