/**
 * What the kernel counts of a container, in the shape in which `runc events` prints it (the
 * field names are what its readers know). Zeros for what this host does not count.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readUsage } from '../sys/cgroupUsage.ts';
import type { OciCgroups } from './cgroups.ts';

function number(dir: string | undefined, file: string): number {
  const value = Number(text(dir, file).trim());
  return Number.isFinite(value) ? value : 0;
}

function text(dir: string | undefined, file: string): string {
  if (dir === undefined) return '';
  try {
    return readFileSync(join(dir, file), 'utf8');
  } catch {
    return ''; // not counted here
  }
}

function keys(dir: string | undefined, file: string): Readonly<Record<string, number>> {
  const entries = text(dir, file)
    .split('\n')
    .map((line) => line.split(' '))
    .filter((words) => words.length === 2);
  return Object.fromEntries(entries.map(([key, value]) => [key ?? '', Number(value)]));
}

export function readStats(cgroups: OciCgroups): Readonly<Record<string, unknown>> {
  const usage = readUsage(cgroups.dirs());
  const memory = cgroups.dirOf('memory');
  return {
    cpu: {
      usage: {
        total: usage.cpuNs,
        kernel: usage.kernelCpuNs,
        user: usage.userCpuNs,
      },
      throttling: {
        periods: usage.periods,
        throttledPeriods: usage.throttledPeriods,
        throttledTime: usage.throttledNs,
      },
    },
    cpuset: {
      cpus: text(cgroups.dirOf('cpuset'), 'cpuset.cpus').trim(),
      mems: text(cgroups.dirOf('cpuset'), 'cpuset.mems').trim(),
    },
    memory: {
      cache: keys(memory, 'memory.stat').cache ?? keys(memory, 'memory.stat').file ?? 0,
      usage: {
        limit: usage.memoryLimitBytes,
        usage: usage.memoryBytes,
        max: number(memory, 'memory.max_usage_in_bytes') || number(memory, 'memory.peak'),
        failcnt: number(memory, 'memory.failcnt'),
      },
      swap: {
        limit: number(memory, 'memory.memsw.limit_in_bytes'),
        usage: number(memory, 'memory.memsw.usage_in_bytes'),
        failcnt: number(memory, 'memory.memsw.failcnt'),
      },
      raw: keys(memory, 'memory.stat'),
    },
    pids: { current: usage.pids, limit: usage.pidsLimit },
    blkio: {
      ioServiceBytesRecursive: [
        { op: 'Read', value: usage.blockReadBytes },
        { op: 'Write', value: usage.blockWriteBytes },
      ],
    },
  };
}
