/**
 * What the two kinds of hierarchy share in working out what resources mean there (cgroupV1.ts,
 * cgroupV2.ts): conversions between their units, what is wrong on any host, and what a host without
 * some controller cannot limit. Pure.
 */
import { SwarmError } from '../../base/errors.ts';
import type { Resources, ThrottleKind } from './resources.ts';

/** What a hierarchy's groups have. */
export interface GroupView {
  /** Whether the kernel has this file in a group. */
  has(file: string): boolean;
  /** What the group has in it now; undefined for one that is new. */
  read(file: string): string | undefined;
  /** What the group above has in it. */
  inherited(file: string): string;
}

/** Told of a limit this host cannot set: notes it, or throws. */
export type Refuse = (what: string, why: string) => void;

/** What is being worked out for one hierarchy. */
export interface Task {
  readonly resources: Resources;
  readonly view: GroupView;
  readonly has: (controller: string) => boolean;
  readonly write: (file: string, value: string | number | undefined) => void;
  /** Of a new group: the value that the group above has by then. */
  readonly inherit: (file: string) => void;
  readonly refuse: Refuse;
  readonly note: (text: string) => void;
}

const SHARES_MIN = 2;
const SHARES_MAX = 262_144;
const WEIGHT_MAX = 10_000;
const BLOCK_MIN = 10;
const BLOCK_MAX = 1000;

/** Without an exponent, which the kernel does not read. */
export function wholeText(value: number): string {
  return BigInt(Math.trunc(value)).toString();
}

/** 0 says "as it is" wherever the specification has no other meaning for it. */
export function given(value: number | undefined): number | undefined {
  return value === 0 ? undefined : value;
}

/** cpu.shares -> cpu.weight, as runc and crun convert (opencontainers/cgroups, utils.go). */
export function cpuWeight(shares: number): number {
  if (shares <= SHARES_MIN) return 1;
  if (shares >= SHARES_MAX) return WEIGHT_MAX;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** blkio.weight -> io.weight: 10..1000 spread over 1..10000. */
export function blockWeight(weight: number): number {
  const span = (weight - BLOCK_MIN) * (WEIGHT_MAX - 1);
  return 1 + Math.floor(span / (BLOCK_MAX - BLOCK_MIN));
}

export const THROTTLE_FILES: Readonly<
  Record<ThrottleKind, { readonly v1: string; readonly v2: string }>
> = {
  throttleReadBpsDevice: { v1: 'blkio.throttle.read_bps_device', v2: 'rbps' },
  throttleWriteBpsDevice: { v1: 'blkio.throttle.write_bps_device', v2: 'wbps' },
  throttleReadIOPSDevice: { v1: 'blkio.throttle.read_iops_device', v2: 'riops' },
  throttleWriteIOPSDevice: { v1: 'blkio.throttle.write_iops_device', v2: 'wiops' },
};

/**
 * Whether the first of two limits can be written before the second: both orders end the same, but
 * on the way the kernel sees one new and one old, and takes no share (first / second) above what
 * the group above it has. Of the two ways the one with the smaller share on the way always works.
 */
export function isShareLess(first: number, ofSecond: number, other: number, of: number): boolean {
  return first * of <= other * ofSecond;
}

/** Checks what is wrong on any host. SwarmError invalid names the field. */
export function checkResources({
  memory,
  cpu,
  pids,
  blockIO,
  hugepageLimits = [],
}: Resources): void {
  const limit = given(memory?.limit) ?? -1;
  const swap = given(memory?.swap) ?? -1;
  if (limit > 0 && swap > 0 && swap < limit) {
    throw invalid(`memory+swap of ${swap} bytes is below the memory limit of ${limit}`);
  }
  const { swappiness } = memory ?? {};
  if (swappiness !== undefined && (swappiness < 0 || swappiness > 100)) {
    throw invalid(`memory swappiness ${swappiness} is out of range: 0 to 100`);
  }
  const { quota = 0, burst = 0, idle = 0 } = cpu ?? {};
  if (quota > 0 && burst > quota) {
    throw invalid(`the cpu burst of ${burst} us is above the quota of ${quota} us`);
  }
  if (idle !== 0 && idle !== 1) throw invalid(`cpu idle ${idle} is neither 0 nor 1`);
  if ((pids?.limit ?? 0) < -1) throw invalid(`pids limit ${pids?.limit} is below -1`);
  for (const weight of blockWeights(blockIO)) {
    if (weight >= BLOCK_MIN && weight <= BLOCK_MAX) continue;
    throw invalid(`blkio weight ${weight} is out of range: ${BLOCK_MIN} to ${BLOCK_MAX}`);
  }
  for (const { pageSize } of hugepageLimits) {
    if (!/^[1-9]\d*[KMG]B$/.test(pageSize)) {
      throw invalid(`huge page size "${pageSize}" has not the form 64KB, 2MB or 1GB`);
    }
  }
}

function blockWeights(block: Resources['blockIO']): readonly number[] {
  const all = [block?.weight, block?.leafWeight];
  for (const { weight, leafWeight } of block?.weightDevice ?? []) all.push(weight, leafWeight);
  return all.filter((weight) => given(weight) !== undefined) as number[];
}

function invalid(message: string): SwarmError {
  return new SwarmError('invalid', message);
}

/** Brings cpu shares into the kernel's range. */
export function normalise(resources: Resources, note: (text: string) => void): Resources {
  const asked = given(resources.cpu?.shares);
  if (asked === undefined) return resources;
  const shares = Math.min(SHARES_MAX, Math.max(SHARES_MIN, asked));
  if (shares === asked) return resources;
  note(`cpu shares ${asked} is out of range, ${shares} is used`);
  return { ...resources, cpu: { ...resources.cpu, shares } };
}

/** [what is limited, the controllers of which one is needed]. */
type Need = readonly [what: string, ...controllers: string[]];

/** Refuses what no hierarchy of this host can limit. */
export function refuseMissing(
  resources: Resources,
  has: (controller: string) => boolean,
  refuse: Refuse,
): void {
  for (const [what, ...controllers] of needs(resources)) {
    if (controllers.some(has)) continue;
    refuse(what, `this host has no ${controllers[0]} cgroup controller`);
  }
}

function needs(resources: Resources): readonly Need[] {
  const { memory = {}, cpu = {}, pids, blockIO = {}, network = {}, rdma } = resources;
  const all: [boolean, Need][] = [
    [given(memory.limit) !== undefined, ['the memory limit', 'memory']],
    [given(memory.swap) !== undefined, ['the swap limit', 'memory']],
    [given(memory.reservation) !== undefined, ['the memory reservation', 'memory']],
    [memory.swappiness !== undefined, ['memory swappiness', 'memory']],
    [memory.disableOOMKiller === true, ['disabling the OOM killer', 'memory']],
    [given(cpu.quota) !== undefined, ['the cpu limit', 'cpu']],
    [given(cpu.period) !== undefined, ['the cpu period', 'cpu']],
    [given(cpu.shares) !== undefined, ['cpu shares', 'cpu']],
    [cpu.idle === 1, ['cpu idle', 'cpu']],
    [(cpu.cpus ?? '') !== '', ['the cpu set', 'cpuset']],
    [(cpu.mems ?? '') !== '', ['the set of memory nodes', 'cpuset']],
    [pids?.limit !== undefined, ['the limit of processes', 'pids']],
    [given(blockIO.weight) !== undefined, ['the block I/O weight', 'blkio', 'io']],
    [(blockIO.weightDevice ?? []).length > 0, ['the weight of a device', 'blkio', 'io']],
    [hasThrottles(blockIO), ['the rate of a device', 'blkio', 'io']],
    [(resources.hugepageLimits ?? []).length > 0, ['the limit of huge pages', 'hugetlb']],
    [given(network.classID) !== undefined, ['the network class', 'net_cls']],
    [(network.priorities ?? []).length > 0, ['network priorities', 'net_prio']],
    [(rdma?.size ?? 0) > 0, ['the rdma limit', 'rdma']],
  ];
  return all.filter(([isAsked]) => isAsked).map(([, need]) => need);
}

function hasThrottles({ throttles = {} }: NonNullable<Resources['blockIO']>): boolean {
  return Object.values(throttles).some((list) => list.length > 0);
}
