/**
 * The checks every conversion shares: whole numbers that fit, words from a fixed list, parts that
 * must be there. What fails them is SwarmError invalid naming the field; nothing is guessed.
 */
import { SwarmError } from '../../base/errors.ts';

/** A non-negative whole number as the wire's uint64. */
export function toU64(value: number, field: string): bigint {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new SwarmError('invalid', `${field}: ${value} is not a whole number of 0 to 2^53-1`);
  }
  return BigInt(value);
}

export function fromU64(value: bigint, field: string): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < 0n) {
    throw new SwarmError('invalid', `${field}: ${value} is out of range`);
  }
  return Number(value);
}

const MAX_U32 = 0xffff_ffff;

export function toU32(value: number, field: string): number {
  if (!Number.isInteger(value) || value < 0 || value > MAX_U32) {
    throw new SwarmError('invalid', `${field}: ${value} is not a whole number of 0 to 2^32-1`);
  }
  return value;
}

const MAX_I32 = 0x7fff_ffff;

export function toI32(value: number, field: string): number {
  if (!Number.isInteger(value) || value < -MAX_I32 || value > MAX_I32) {
    throw new SwarmError('invalid', `${field}: ${value} is not a whole number of 32 bits`);
  }
  return value;
}

/** A whole number, negative ones included, as the wire's int64. */
export function toI64(value: number, field: string): bigint {
  if (!Number.isSafeInteger(value)) {
    throw new SwarmError('invalid', `${field}: ${value} is not a whole number below 2^53`);
  }
  return BigInt(value);
}

export function fromI64(value: bigint, field: string): number {
  if (!Number.isSafeInteger(Number(value))) {
    throw new SwarmError('invalid', `${field}: ${value} is out of range`);
  }
  return Number(value);
}

/** One of `words`; anything else is refused by name. */
export function word<const W extends string>(value: string, words: readonly W[], field: string): W {
  const found = words.find((candidate) => candidate === value);
  if (found === undefined) {
    throw new SwarmError('invalid', `${field}: "${value}" is not one of ${words.join(', ')}`);
  }
  return found;
}

export function need<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw new SwarmError('invalid', `${field} is missing`);
  return value;
}

/** A duration of whole nanoseconds, in ms: its whole milliseconds... */
export function wholeMs(ms: number, field: string): bigint {
  return toU64(Math.floor(ms + HALF_NANOSECOND_MS), field);
}

/** ...and the nanoseconds beyond them. */
export function restNs(ms: number): number {
  return Number.isInteger(ms) ? 0 : Math.round(ms * NANOSECONDS_PER_MS) % NANOSECONDS_PER_MS;
}

export function joinMs(ms: bigint, ns: number, field: string): number {
  const whole = fromU64(ms, field);
  return ns === 0 ? whole : (whole * NANOSECONDS_PER_MS + ns) / NANOSECONDS_PER_MS;
}

const NANOSECONDS_PER_MS = 1_000_000;
const HALF_NANOSECOND_MS = 0.5e-6;
