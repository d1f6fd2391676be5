/** The kernel's numbers for the words of config.json; only tables. */
import { SwarmError } from '../../base/errors.ts';

/** time_namespaces(7). */
export const CLOCKS: Readonly<Record<string, number>> = { monotonic: 1, boottime: 7 };

/** linux/personality.h. */
export const PERSONALITIES: Readonly<Record<string, number>> = { LINUX: 0, LINUX32: 8 };

/** linux/sched.h. */
export const SCHEDULERS: Readonly<Record<string, number>> = {
  SCHED_OTHER: 0,
  SCHED_FIFO: 1,
  SCHED_RR: 2,
  SCHED_BATCH: 3,
  SCHED_ISO: 4,
  SCHED_IDLE: 5,
  SCHED_DEADLINE: 6,
};
export const SCHEDULER_FLAGS: Readonly<Record<string, number>> = {
  SCHED_FLAG_RESET_ON_FORK: 0x01,
  SCHED_FLAG_RECLAIM: 0x02,
  SCHED_FLAG_DL_OVERRUN: 0x04,
  SCHED_FLAG_KEEP_POLICY: 0x08,
  SCHED_FLAG_KEEP_PARAMS: 0x10,
  SCHED_FLAG_UTIL_CLAMP_MIN: 0x20,
  SCHED_FLAG_UTIL_CLAMP_MAX: 0x40,
};

/** linux/ioprio.h; the class stands above 13 bits of priority. */
export const IO_CLASSES: Readonly<Record<string, number>> = {
  IOPRIO_CLASS_RT: 1,
  IOPRIO_CLASS_BE: 2,
  IOPRIO_CLASS_IDLE: 3,
};
export const IO_CLASS_SHIFT = 13;

/** linux/mempolicy.h. */
export const MEMORY_MODES: Readonly<Record<string, number>> = {
  MPOL_DEFAULT: 0,
  MPOL_PREFERRED: 1,
  MPOL_BIND: 2,
  MPOL_INTERLEAVE: 3,
  MPOL_LOCAL: 4,
  MPOL_PREFERRED_MANY: 5,
  MPOL_WEIGHTED_INTERLEAVE: 6,
};
export const MEMORY_FLAGS: Readonly<Record<string, number>> = {
  MPOL_F_NUMA_BALANCING: 1 << 13,
  MPOL_F_RELATIVE_NODES: 1 << 14,
  MPOL_F_STATIC_NODES: 1 << 15,
};

/** The number of `word`. SwarmError invalid names the field and what it may be. */
export function numberOf(
  table: Readonly<Record<string, number>>,
  word: string,
  field: string,
): number {
  const value = Object.hasOwn(table, word) ? table[word] : undefined;
  if (value !== undefined) return value;
  throw new SwarmError(
    'invalid',
    `${field}: "${word}" is not one of ${Object.keys(table).join(', ')}`,
  );
}

/** The numbers of `words`, joined bit by bit. */
export function flagsOf(
  table: Readonly<Record<string, number>>,
  words: readonly string[],
  field: string,
): number {
  return words.reduce((sum, word) => sum | numberOf(table, word, field), 0);
}
