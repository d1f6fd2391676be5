/** Figures of a running container in Docker's JSON, one sample with the one before it. */
import { totalmem } from 'node:os';
import type { DetailedStats } from '../../../runtime/container/types.ts';
import { timeOf } from './common.ts';

export function statsToDocker(
  id: string,
  name: string,
  now: DetailedStats,
  before: DetailedStats | undefined,
): object {
  return {
    name: `/${name}`,
    id,
    read: timeOf(now.readAtMs),
    preread: timeOf(before?.readAtMs ?? 0),
    num_procs: 0,
    pids_stats: {
      current: now.pids,
      ...(now.pidsLimit > 0 ? { limit: now.pidsLimit } : {}),
    },
    cpu_stats: cpu(now),
    precpu_stats: before === undefined ? EMPTY_CPU : cpu(before),
    memory_stats: {
      usage: now.memoryBytes,
      limit: now.memoryLimitBytes || totalmem(),
      stats: { inactive_file: now.memoryInactiveFileBytes },
    },
    blkio_stats: {
      io_service_bytes_recursive: [
        { major: 0, minor: 0, op: 'read', value: now.blockReadBytes },
        { major: 0, minor: 0, op: 'write', value: now.blockWriteBytes },
      ],
      io_serviced_recursive: null,
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    storage_stats: {},
    networks: Object.fromEntries(
      Object.entries(now.networks).map(([link, figures]) => [
        link,
        {
          rx_bytes: figures.rxBytes,
          rx_packets: figures.rxPackets,
          rx_errors: figures.rxErrors,
          rx_dropped: figures.rxDropped,
          tx_bytes: figures.txBytes,
          tx_packets: figures.txPackets,
          tx_errors: figures.txErrors,
          tx_dropped: figures.txDropped,
        },
      ]),
    ),
  };
}

const EMPTY_CPU = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
};

function cpu(stats: DetailedStats): object {
  return {
    cpu_usage: {
      total_usage: stats.cpuNs,
      usage_in_kernelmode: stats.kernelCpuNs,
      usage_in_usermode: stats.userCpuNs,
    },
    system_cpu_usage: stats.systemCpuNs,
    online_cpus: stats.onlineCpus,
    throttling_data: {
      periods: stats.periods,
      throttled_periods: stats.throttledPeriods,
      throttled_time: stats.throttledNs,
    },
  };
}

/** Of a container that does not run, as Docker answers a single question about one. */
export function emptyStats(id: string, name: string): object {
  return {
    name: `/${name}`,
    id,
    read: timeOf(0),
    preread: timeOf(0),
    pids_stats: {},
    cpu_stats: EMPTY_CPU,
    precpu_stats: EMPTY_CPU,
    memory_stats: {},
    blkio_stats: {},
    storage_stats: {},
  };
}
