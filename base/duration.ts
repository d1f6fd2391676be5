/** Durations as Docker writes them ('1h30m', '10s', '250ms'), in milliseconds inside. */
import { SwarmError } from './errors.ts';

export const SECOND_MS = 1000;
export const MINUTE_MS = 60 * SECOND_MS;
export const HOUR_MS = 60 * MINUTE_MS;
export const DAY_MS = 24 * HOUR_MS;
const NANOSECONDS_PER_MS = 1_000_000;

const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: SECOND_MS,
  m: MINUTE_MS,
  h: HOUR_MS,
};

/** '1h30m' -> 5400000. '0' is allowed; any other bare number is not. Throws SwarmError invalid. */
export function parseDuration(text: string): number {
  if (text === '0') return 0;
  const part = /(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/gy;
  let totalMs = 0;
  let end = 0;
  for (let match = part.exec(text); match !== null; match = part.exec(text)) {
    totalMs += Number(match[1]) * UNITS_MS[match[2]];
    end = part.lastIndex;
  }
  if (end === 0 || end !== text.length) {
    throw new SwarmError(
      'invalid',
      `invalid duration "${text}": write it like 10s, 1m30s or 250ms`,
    );
  }
  return totalMs;
}

/** 5400000 -> '1h30m0s', as Go prints it; below a second '250ms'. */
export function formatDuration(ms: number): string {
  if (ms < SECOND_MS) return `${Math.round(ms)}ms`;
  const hours = Math.floor(ms / HOUR_MS);
  const minutes = Math.floor((ms % HOUR_MS) / MINUTE_MS);
  const seconds = Math.floor((ms % MINUTE_MS) / SECOND_MS);
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`;
  if (minutes > 0) return `${minutes}m${seconds}s`;
  return `${seconds}s`;
}

/** How long ago, in Docker's words: 'Less than a second', '5 seconds', 'About an hour'. */
export function formatAge(ms: number): string {
  const seconds = Math.floor(ms / SECOND_MS);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.floor(minutes / 60 + 0.5);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (hours < 24 * 7 * 2) return `${Math.floor(hours / 24)} days`;
  if (hours < 24 * 30 * 2) return `${Math.floor(hours / 24 / 7)} weeks`;
  if (hours < 24 * 365 * 2) return `${Math.floor(hours / 24 / 30)} months`;
  return `${Math.floor(hours / 24 / 365)} years`;
}

export function msToNanoseconds(ms: number): number {
  return Math.round(ms * NANOSECONDS_PER_MS);
}

export function nanosecondsToMs(nanoseconds: number): number {
  return nanoseconds / NANOSECONDS_PER_MS;
}
