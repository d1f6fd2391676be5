/**
 * Resource limits (ulimits) by the names users write, as the kernel's numbers. What this host may
 * not raise, the shim cuts when it sets them.
 */
import { readFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import type { ResourceLimit } from './types.ts';

/** Linux's numbers on amd64 and arm64 (asm-generic/resource.h): the index is the number. */
const NAMES = [
  'cpu',
  'fsize',
  'data',
  'stack',
  'core',
  'rss',
  'nproc',
  'nofile',
  'memlock',
  'as',
  'locks',
  'sigpending',
  'msgqueue',
  'nice',
  'rtprio',
  'rttime',
];
/** As /proc/self/limits calls them, in the same order. */
const TITLES = [
  'Max cpu time',
  'Max file size',
  'Max data size',
  'Max stack size',
  'Max core file size',
  'Max resident set',
  'Max processes',
  'Max open files',
  'Max locked memory',
  'Max address space',
  'Max file locks',
  'Max pending signals',
  'Max msgqueue size',
  'Max nice priority',
  'Max realtime priority',
  'Max realtime timeout',
];
const UNLIMITED = 2n ** 64n - 1n;
const CAP_SYS_RESOURCE = 24n;

/** The kernel's number of 'nofile'; undefined for an unknown name. */
export function resourceLimitNumber(name: string): number | undefined {
  const number = NAMES.indexOf(name);
  return number < 0 ? undefined : number;
}

/** SwarmError invalid for an unknown name, a negative number but -1, or soft above hard. */
export function parseResourceLimit(limit: ResourceLimit): {
  readonly resource: number;
  readonly soft: bigint;
  readonly hard: bigint;
} {
  const resource = NAMES.indexOf(limit.name);
  if (resource < 0) {
    throw new SwarmError('invalid', `invalid ulimit type "${limit.name}": one of ${NAMES.join()}`);
  }
  const [soft, hard] = [toKernel(limit.name, limit.soft), toKernel(limit.name, limit.hard)];
  if (soft > hard) {
    throw new SwarmError(
      'invalid',
      `ulimit ${limit.name}: the soft limit ${limit.soft} is above the hard limit ${limit.hard}`,
    );
  }
  return { resource, soft, hard };
}

function toKernel(name: string, value: number): bigint {
  if (value === -1) return UNLIMITED;
  if (Number.isInteger(value) && value >= 0) return BigInt(value);
  throw new SwarmError('invalid', `ulimit ${name}: ${value} is no limit: a whole number, or -1`);
}

/** What this host may not give and the shim therefore cuts, one readable line each. */
export function cutLimits(
  limits: readonly ResourceLimit[],
  oomScoreAdjust: number,
): readonly string[] {
  if (limits.length === 0 && oomScoreAdjust >= 0) return [];
  const status = readFileSync('/proc/self/status', 'utf8');
  const capabilities = BigInt(`0x${/^CapEff:\s+(\w+)/m.exec(status)?.[1] ?? '0'}`);
  if (((capabilities >> CAP_SYS_RESOURCE) & 1n) === 1n) return [];
  const notes: string[] = [];
  const own = readFileSync('/proc/self/limits', 'utf8');
  for (const limit of limits) {
    const { resource, hard } = parseResourceLimit(limit);
    const line = own.split('\n').find((candidate) => candidate.startsWith(TITLES[resource])) ?? '';
    const most = line.slice(TITLES[resource].length).trim().split(/\s+/)[1];
    if (!/^\d+$/.test(most ?? '') || hard <= BigInt(most)) continue;
    notes.push(`ulimit ${limit.name} is cut to ${most}: this host may not raise its own limit`);
  }
  if (oomScoreAdjust < 0) {
    notes.push(`OOM score ${oomScoreAdjust} may be left out: this host may not lower scores`);
  }
  return notes;
}
