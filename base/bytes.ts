/** Byte sizes as people write them (Docker's suffixes, powers of 1024). */
import { SwarmError } from './errors.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

const UNITS: Readonly<Record<string, number>> = { b: 1, k: KIB, m: MIB, g: GIB, t: TIB };

/** '512m', '1.5GiB', '64kb', '1024' -> bytes (whole). Throws SwarmError invalid. */
/** Of a number that a float holds to the byte. */
const DIGITS_MAX = 15;

export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt])?(?:i?b)?$/i.exec(text.trim());
  if (match === null || match[1].length > DIGITS_MAX) {
    throw new SwarmError('invalid', `invalid size "${text}": write a number with b, k, m, g or t`);
  }
  return Math.floor(Number(match[1]) * UNITS[(match[2] ?? 'b').toLowerCase()]);
}

/** 1536 -> '1.5KiB'. */
export function formatBytes(bytes: number): string {
  const scale = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let at = 0;
  while (value >= 1024 && at < scale.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${Number(value.toPrecision(4))}${scale[at]}`;
}
