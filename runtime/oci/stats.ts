/**
 * What the kernel counts of a container, in the shape in which `runc events` prints it: its readers
 * know these names (runc, types/events.go).
 */
import { type Amount, type BlockCount, readStatistics } from '../sys/cgroupStatistics.ts';
import type { OciCgroups } from './cgroups.ts';

function amount({ usage, max, failures, limit }: Amount): Readonly<Record<string, number>> {
  return { limit: limit ?? 0, usage, max, failcnt: failures };
}

function blocks(counts: readonly BlockCount[]): readonly Readonly<Record<string, unknown>>[] {
  return counts.map(({ major, minor, operation, value }) => ({
    major,
    minor,
    op: operation,
    value,
  }));
}

export function readStats(cgroups: OciCgroups): Readonly<Record<string, unknown>> {
  const { usage, cpu, memory, block, hugePages } = readStatistics(cgroups.dirs());
  return {
    cpu: {
      usage: {
        total: usage.cpuNs,
        percpu: cpu.perCpuNs,
        percpu_kernel: cpu.perCpuKernelNs,
        percpu_user: cpu.perCpuUserNs,
        kernel: usage.kernelCpuNs,
        user: usage.userCpuNs,
      },
      throttling: {
        periods: usage.periods,
        throttledPeriods: usage.throttledPeriods,
        throttledTime: usage.throttledNs,
      },
    },
    cpuset: { cpus: cpu.cpus, mems: cpu.memoryNodes },
    memory: {
      cache: memory.cacheBytes,
      usage: amount(memory.memory),
      swap: amount(memory.swap),
      kernel: amount(memory.kernel),
      kernelTCP: amount(memory.kernelTcp),
      raw: Object.fromEntries(memory.raw),
    },
    pids: { current: usage.pids, limit: usage.pidsLimit },
    blkio: {
      ioServiceBytesRecursive: blocks(block.bytes),
      ioServicedRecursive: blocks(block.count),
    },
    hugetlb: Object.fromEntries([...hugePages].map(([size, value]) => [size, amount(value)])),
    intel_rdt: {},
  };
}
