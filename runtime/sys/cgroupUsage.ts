/**
 * What the kernel counts of one container, the same figures from v1, hybrid and v2 groups. Zeros
 * for what this host does not count; changes nothing.
 */
import { join } from 'node:path';
import type { CgroupHierarchy } from './cgroup.ts';
import { readKeys, readLimit, readNumber, textOrEmpty } from './cgroupFiles.ts';

export interface CgroupUsage {
  /** With page cache. */
  memoryBytes: number;
  memoryInactiveFileBytes: number;
  /** 0 = unlimited. */
  memoryLimitBytes: number;
  cpuNs: number;
  userCpuNs: number;
  kernelCpuNs: number;
  periods: number;
  throttledPeriods: number;
  throttledNs: number;
  pids: number;
  /** 0 = unlimited. */
  pidsLimit: number;
  blockReadBytes: number;
  blockWriteBytes: number;
}

/** cpuacct.stat counts in hundredths of a second on every architecture (USER_HZ). */
const TICK_NS = 10_000_000;
const NS_PER_US = 1000;

/** `dirs`: the container's group in every hierarchy. */
export function readUsage(
  dirs: readonly { readonly hierarchy: CgroupHierarchy; readonly dir: string }[],
): CgroupUsage {
  const usage: CgroupUsage = {
    memoryBytes: 0,
    memoryInactiveFileBytes: 0,
    memoryLimitBytes: 0,
    cpuNs: 0,
    userCpuNs: 0,
    kernelCpuNs: 0,
    periods: 0,
    throttledPeriods: 0,
    throttledNs: 0,
    pids: 0,
    pidsLimit: 0,
    blockReadBytes: 0,
    blockWriteBytes: 0,
  };
  for (const { hierarchy, dir } of dirs) {
    const has = (controller: string): boolean => hierarchy.controllers.includes(controller);
    const v1 = hierarchy.version === 1;
    if (has('memory')) addMemory(usage, dir, v1);
    if (v1 && has('cpuacct')) addV1Cpu(usage, dir);
    if (has('cpu')) addCpu(usage, dir, v1);
    if (has('pids')) {
      usage.pids = readNumber(join(dir, 'pids.current'));
      usage.pidsLimit = readNumber(join(dir, 'pids.max'));
    }
    if (v1 && has('blkio')) addV1Blocks(usage, dir);
    if (!v1 && has('io')) addV2Blocks(usage, dir);
  }
  return usage;
}

function addMemory(usage: CgroupUsage, dir: string, v1: boolean): void {
  usage.memoryBytes = readNumber(join(dir, v1 ? 'memory.usage_in_bytes' : 'memory.current'));
  usage.memoryLimitBytes = readLimit(join(dir, v1 ? 'memory.limit_in_bytes' : 'memory.max')) ?? 0;
  const stat = readKeys(join(dir, 'memory.stat'));
  usage.memoryInactiveFileBytes = stat.get(v1 ? 'total_inactive_file' : 'inactive_file') ?? 0;
}

function addV1Cpu(usage: CgroupUsage, dir: string): void {
  usage.cpuNs = readNumber(join(dir, 'cpuacct.usage'));
  const stat = readKeys(join(dir, 'cpuacct.stat'));
  usage.userCpuNs = (stat.get('user') ?? 0) * TICK_NS;
  usage.kernelCpuNs = (stat.get('system') ?? 0) * TICK_NS;
}

function addCpu(usage: CgroupUsage, dir: string, v1: boolean): void {
  const stat = readKeys(join(dir, 'cpu.stat'));
  const us = (key: string): number => (stat.get(key) ?? 0) * NS_PER_US;
  if (!v1) {
    usage.cpuNs = us('usage_usec');
    usage.userCpuNs = us('user_usec');
    usage.kernelCpuNs = us('system_usec');
  }
  usage.periods = stat.get('nr_periods') ?? 0;
  usage.throttledPeriods = stat.get('nr_throttled') ?? 0;
  usage.throttledNs = v1 ? (stat.get('throttled_time') ?? 0) : us('throttled_usec');
}

/** Lines of "major:minor Read bytes". */
function addV1Blocks(usage: CgroupUsage, dir: string): void {
  for (const line of textOrEmpty(join(dir, 'blkio.throttle.io_service_bytes')).split('\n')) {
    const [, operation, bytes] = line.split(' ');
    if (operation === 'Read') usage.blockReadBytes += Number(bytes);
    if (operation === 'Write') usage.blockWriteBytes += Number(bytes);
  }
}

/** Lines of "major:minor rbytes=n wbytes=n ...". */
function addV2Blocks(usage: CgroupUsage, dir: string): void {
  for (const [, kind, bytes] of textOrEmpty(join(dir, 'io.stat')).matchAll(
    /\b([rw])bytes=(\d+)/g,
  )) {
    if (kind === 'r') usage.blockReadBytes += Number(bytes);
    else usage.blockWriteBytes += Number(bytes);
  }
}
