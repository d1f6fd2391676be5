/**
 * What limits mean in each kind of hierarchy: which file takes which value. Works the values out
 * and writes them to a group that is there already; a new group's are written by the shim.
 */
import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy } from './cgroup.ts';
import { readText } from './cgroupFiles.ts';
import { splitDevice } from './deviceRules.ts';

/** What can be limited. */
export interface CgroupLimits {
  readonly memoryBytes?: number;
  /** Memory + swap, as Docker's; -1 unlimited. */
  readonly memorySwapBytes?: number;
  /** Billionths of a core: 1.5 cores = 1_500_000_000. */
  readonly nanoCpus?: number;
  /** In which nanoCpus are given out; default 100 ms. */
  readonly cpuPeriodUs?: number;
  /** Relative weight, default 1024. */
  readonly cpuShares?: number;
  /** e.g. '0-1,3'. */
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  readonly pids?: number;
  /** Soft limit. */
  readonly memoryReservationBytes?: number;
  /** 0-100; v1 only, left out elsewhere. */
  readonly memorySwappiness?: number;
  /** 10-1000. */
  readonly blkioWeight?: number;
  readonly deviceRates?: readonly DeviceRate[];
}

/** How much of a block device may be read or written a second. */
export interface DeviceRate {
  readonly way: 'read' | 'write';
  readonly unit: 'bytes' | 'operations';
  /** Its path on the host. */
  readonly device: string;
  readonly perSecond: number;
}

export interface CgroupWrite {
  readonly file: string;
  readonly value: string;
  /** Left out silently where the kernel has no such file (swap accounting off). */
  readonly optional: boolean;
}

const CPU_PERIOD_US = 100_000;
/** The kernel's least quota. */
const CPU_QUOTA_MIN_US = 1000;
const SHARES_MIN = 2;
const SHARES_MAX = 262_144;
const WEIGHT_MAX = 10_000;
const NANO = 1_000_000_000;
const BLKIO_MIN = 10;
const BLKIO_MAX = 1000;

/** cpu.shares -> cpu.weight, as runc and crun convert (opencontainers/cgroups, utils.go). */
export function cpuWeight(shares: number): number {
  if (shares <= SHARES_MIN) return 1;
  if (shares >= SHARES_MAX) return WEIGHT_MAX;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

/** Docker's defaults joined; what is out of range is brought into it and noted. */
export function normalise(limits: CgroupLimits, notes: string[]): CgroupLimits {
  const wanted: { -readonly [K in keyof CgroupLimits]: CgroupLimits[K] } = { ...limits };
  if (wanted.memoryBytes !== undefined && wanted.memorySwapBytes === undefined) {
    wanted.memorySwapBytes = wanted.memoryBytes * 2; // Docker's default
  }
  const { memoryBytes, memorySwapBytes } = wanted;
  const isBelow = memorySwapBytes !== undefined && memorySwapBytes >= 0;
  if (memoryBytes !== undefined && isBelow && memorySwapBytes < memoryBytes) {
    throw new SwarmError(
      'invalid',
      `memory+swap of ${memorySwapBytes} bytes is below the memory limit of ${memoryBytes}`,
    );
  }
  if (wanted.cpuShares !== undefined) {
    const shares = Math.min(SHARES_MAX, Math.max(SHARES_MIN, wanted.cpuShares));
    if (shares !== wanted.cpuShares) {
      notes.push(`cpu shares ${wanted.cpuShares} is out of range, ${shares} is used`);
    }
    wanted.cpuShares = shares;
  }
  const least = (CPU_QUOTA_MIN_US * NANO) / CPU_PERIOD_US;
  if (wanted.nanoCpus !== undefined && wanted.nanoCpus > 0 && wanted.nanoCpus < least) {
    notes.push(`cpu limit ${wanted.nanoCpus / NANO} is below the least of ${least / NANO} cores`);
    wanted.nanoCpus = least;
  }
  return wanted;
}

/** Notes what this host cannot limit. */
export function noteMissing(
  limits: CgroupLimits,
  has: (controller: string) => boolean,
  notes: string[],
): void {
  const needs: [keyof CgroupLimits, string, string][] = [
    ['memoryBytes', 'memory', 'the memory limit'],
    ['nanoCpus', 'cpu', 'the cpu limit'],
    ['cpuShares', 'cpu', 'cpu shares'],
    ['cpusetCpus', 'cpuset', 'the cpu set'],
    ['cpusetMems', 'cpuset', 'the set of memory nodes'],
    ['pids', 'pids', 'the limit of processes'],
    ['memoryReservationBytes', 'memory', 'the memory reservation'],
    ['deviceRates', has('io') ? 'io' : 'blkio', 'the rate of a device'],
  ];
  for (const [field, controller, what] of needs) {
    if (limits[field] !== undefined && !has(controller)) {
      notes.push(`${what} has no effect: this host has no ${controller} cgroup controller`);
    }
  }
}

/** Microseconds of a period; undefined = nothing was asked for, `none` = as many as it wants. */
function quotaUs<None>(
  { nanoCpus }: CgroupLimits,
  periodUs: number,
  none: None,
): number | None | undefined {
  if (nanoCpus === undefined) return undefined;
  return nanoCpus === 0 ? none : Math.round((nanoCpus * periodUs) / NANO);
}

/** `parentDir`: of our groups in this hierarchy, whose sets a v1 cpuset group starts from. */
export function limitWrites(
  hierarchy: CgroupHierarchy,
  parentDir: string,
  limits: CgroupLimits,
): readonly CgroupWrite[] {
  return hierarchy.version === 1
    ? v1Writes(hierarchy.controllers, parentDir, limits)
    : v2Writes(hierarchy.controllers, limits);
}

function v1Writes(
  controllers: readonly string[],
  parentDir: string,
  limits: CgroupLimits,
): readonly CgroupWrite[] {
  const writes: CgroupWrite[] = [];
  const has = (controller: string): boolean => controllers.includes(controller);
  const write = (file: string, value: string | number | undefined, optional = false): void => {
    if (value !== undefined) writes.push({ file, value: String(value), optional });
  };
  if (has('memory')) {
    // A new group is unlimited, so this order keeps memory+swap at or above memory.
    write('memory.limit_in_bytes', limits.memoryBytes);
    if (limits.memoryBytes !== undefined) {
      write('memory.memsw.limit_in_bytes', limits.memorySwapBytes ?? -1, true);
    }
    write('memory.soft_limit_in_bytes', limits.memoryReservationBytes);
    write('memory.swappiness', limits.memorySwappiness);
  }
  if (has('cpu')) {
    write('cpu.shares', limits.cpuShares);
    if (limits.nanoCpus !== undefined || limits.cpuPeriodUs !== undefined) {
      const periodUs = limits.cpuPeriodUs ?? CPU_PERIOD_US;
      write('cpu.cfs_period_us', periodUs);
      write('cpu.cfs_quota_us', quotaUs(limits, periodUs, -1));
    }
  }
  if (has('cpuset')) {
    write('cpuset.cpus', limits.cpusetCpus ?? readText(join(parentDir, 'cpuset.cpus')));
    write('cpuset.mems', limits.cpusetMems ?? readText(join(parentDir, 'cpuset.mems')));
  }
  if (has('pids')) write('pids.max', pidsMax(limits.pids));
  if (has('blkio')) {
    write('blkio.weight', limits.blkioWeight, true);
    write('blkio.bfq.weight', limits.blkioWeight, true);
    for (const { way, unit, device, perSecond } of limits.deviceRates ?? []) {
      const file = `blkio.throttle.${way}_${unit === 'bytes' ? 'bps' : 'iops'}_device`;
      write(file, `${deviceNumber(device)} ${perSecond}`);
    }
  }
  return writes;
}

/** 'major:minor', looked up at each start: numbers of a path may change with a boot. */
function deviceNumber(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true) {
    throw new SwarmError('invalid', `cannot limit the rate of "${path}": no block device`);
  }
  const { major, minor } = splitDevice(stat.rdev);
  return `${major}:${minor}`;
}

/** 0 and less are Docker's "unlimited". */
function pidsMax(pids: number | undefined): string | undefined {
  if (pids === undefined) return undefined;
  return pids > 0 ? String(pids) : 'max';
}

function v2Writes(controllers: readonly string[], limits: CgroupLimits): readonly CgroupWrite[] {
  const writes: CgroupWrite[] = [];
  const write = (file: string, value: string | number | undefined, optional = false): void => {
    if (value !== undefined) writes.push({ file, value: String(value), optional });
  };
  const { memoryBytes, memorySwapBytes = -1, blkioWeight } = limits;
  if (controllers.includes('memory')) {
    write('memory.max', memoryBytes);
    if (memoryBytes !== undefined) {
      const swap = memorySwapBytes < 0 ? 'max' : memorySwapBytes - memoryBytes;
      write('memory.swap.max', swap, true);
    }
    write('memory.low', limits.memoryReservationBytes);
  }
  if (controllers.includes('cpu')) {
    if (limits.cpuShares !== undefined) write('cpu.weight', cpuWeight(limits.cpuShares));
    if (limits.nanoCpus !== undefined || limits.cpuPeriodUs !== undefined) {
      const periodUs = limits.cpuPeriodUs ?? CPU_PERIOD_US;
      write('cpu.max', `${quotaUs(limits, periodUs, 'max') ?? 'max'} ${periodUs}`);
    }
  }
  if (controllers.includes('cpuset')) {
    write('cpuset.cpus', limits.cpusetCpus);
    write('cpuset.mems', limits.cpusetMems);
  }
  if (controllers.includes('pids')) write('pids.max', pidsMax(limits.pids));
  if (controllers.includes('io')) {
    for (const { way, unit, device, perSecond } of limits.deviceRates ?? []) {
      const key = `${way === 'read' ? 'r' : 'w'}${unit === 'bytes' ? 'bps' : 'iops'}`;
      write('io.max', `${deviceNumber(device)} ${key}=${perSecond}`);
    }
  }
  if (controllers.includes('io') && blkioWeight !== undefined) {
    write('io.bfq.weight', blkioWeight, true);
    const span = (blkioWeight - BLKIO_MIN) * (WEIGHT_MAX - 1);
    write('io.weight', 1 + Math.round(span / (BLKIO_MAX - BLKIO_MIN)), true);
  }
  return writes;
}

/** Writes to a group in use. v1 refuses memory beyond memory+swap, so those two go either way. */
export function applyWrites(dir: string, writes: readonly CgroupWrite[]): void {
  const ordered = [...writes];
  const [first, second] = ordered;
  if (first?.file === 'memory.limit_in_bytes' && second?.file === 'memory.memsw.limit_in_bytes') {
    if (!tryWrite(dir, first)) ordered.splice(0, 2, second, first);
  }
  for (const { file, value, optional } of ordered) {
    try {
      writeFileSync(join(dir, file), value);
    } catch (error) {
      if (optional) continue;
      throw new SwarmError('invalid', `cannot set ${file} to ${value}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
}

function tryWrite(dir: string, { file, value }: CgroupWrite): boolean {
  try {
    writeFileSync(join(dir, file), value);
    return true;
  } catch {
    return false; // tried again in the other order, where the failure counts
  }
}
