/**
 * Waiting for a condition with a bound, for tests and what supports them. A test that waits for
 * anything does it through this; it never waits for time to pass in the hope that something has
 * happened by then.
 */
import { SystemClock } from '../../base/clock.ts';

const clock = new SystemClock();
const EVERY_MS = 10;
/**
 * No wait is given up before: how long a thing takes says how busy the machine is. A test that is
 * about time itself measures it.
 */
const LEAST_MS = 60_000;

/**
 * Resolves with the first answer of `ask` that is neither undefined nor false; fails naming `what`
 * after `timeoutMs`, or LEAST_MS where that is more. An error of `ask` ends the wait.
 */
export async function until<T>(
  what: string | (() => string),
  timeoutMs: number,
  ask: () => T | undefined | false | Promise<T | undefined | false>,
  everyMs = EVERY_MS,
): Promise<T> {
  const boundMs = Math.max(timeoutMs, LEAST_MS);
  const endMs = clock.nowMs() + boundMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (clock.nowMs() > endMs) {
      throw new Error(`${typeof what === 'string' ? what : what()}: not within ${boundMs} ms`);
    }
    await clock.sleep(everyMs);
  }
}
