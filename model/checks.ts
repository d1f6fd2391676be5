/**
 * Small checks that validate.ts and validateTask.ts share: each returns quietly or throws
 * SwarmError invalid with one line that says what is wrong and what to write instead.
 */
import { SwarmError } from '../base/errors.ts';
import type { Labels } from './types.ts';

export function invalid(message: string): SwarmError {
  return new SwarmError('invalid', message);
}

export function checkLabels(of: string, labels: Labels): void {
  for (const key of Object.keys(labels)) {
    if (key.trim() === '') throw invalid(`a ${of} label has no name: write it as KEY=VALUE`);
  }
}

export function isWhole(value: number): boolean {
  return Number.isSafeInteger(value);
}

export function checkWhole(what: string, value: number, least: number, most: number): void {
  if (isWhole(value) && value >= least && value <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `from ${least}` : `from ${least} to ${most}`;
  throw invalid(`invalid ${what} ${value}: use a whole number ${range}`);
}

export function checkDuration(what: string, ms: number): void {
  if (isWhole(ms) && ms >= 0) return;
  throw invalid(`invalid ${what} ${ms}ms: use a duration in whole milliseconds, 0 or more`);
}

/**
 * Down to nanoseconds, as Docker's API has them; 104 days at most, where a number is still exact.
 */
export function checkFineDuration(what: string, ms: number): void {
  const nanoseconds = Math.round(ms * 1e6);
  if (ms >= 0 && isWhole(nanoseconds)) return;
  throw invalid(`invalid ${what} ${ms}ms: use a duration from 0 to 104 days`);
}

export function checkWord(what: string, word: string, words: readonly string[]): void {
  if (words.includes(word)) return;
  const last = words[words.length - 1];
  const list = words.length === 1 ? last : `${words.slice(0, -1).join(', ')} or ${last}`;
  throw invalid(`invalid ${what} "${word}": use ${list}`);
}
