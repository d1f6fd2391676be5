/**
 * Resource limits (ulimits) by the names users write, as the kernel's numbers. What this host may
 * not raise, the shim cuts when it sets them.
 */
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
const UNLIMITED = 2n ** 64n - 1n;

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
