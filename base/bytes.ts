/**
 * Byte sizes as people write them: memory in powers of 1024 (KiB), what lies on a disk or went over
 * a wire in powers of 1000 (kB), as Docker shows them.
 */
import { SwarmError } from './errors.ts';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

const DECIMAL = ['B', 'kB', 'MB', 'GB', 'TB'];
const UNITS: Readonly<Record<string, number>> = { b: 1, k: KIB, m: MIB, g: GIB, t: TIB };

/** Of a number that a float holds to the byte. */
const DIGITS_MAX = 15;

/** '512m', '1.5GiB', '64kb', '1024' -> bytes (whole). Throws SwarmError invalid. */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([bkmgt])?(?:i?b)?$/i.exec(text.trim());
  if (match === null || match[1].length > DIGITS_MAX) {
    throw new SwarmError('invalid', `invalid size "${text}": write a number with b, k, m, g or t`);
  }
  return Math.floor(Number(match[1]) * UNITS[(match[2] ?? 'b').toLowerCase()]);
}

/** 1536 -> '1.5KiB'. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB'], 4);
}

/** 2074179 -> '2.074MB': sizes of images and files. */
export function formatSize(bytes: number): string {
  return scaled(bytes, 1000, DECIMAL, 4);
}

/** 91897 -> '91.9kB': the same in the columns of lists. */
export function formatShortSize(bytes: number): string {
  return scaled(bytes, 1000, DECIMAL, 3);
}

function scaled(bytes: number, base: number, scale: readonly string[], digits: number): string {
  let value = bytes;
  let at = 0;
  while (value >= base && at < scale.length - 1) {
    value /= base;
    at += 1;
  }
  return `${Number(value.toPrecision(digits))}${scale[at]}`;
}
