/**
 * Time as the leader stamps it and its loops count it: the host's wall clock, but never going back
 * and never standing still. A wall clock that was set back (here, or on the leader before) is
 * waited for at three quarters of its pace, so delays under way last a little longer instead of for
 * as long as the clock was ahead. Certificates are not judged by it: they go by the host's own
 * clock.
 */
import type { Clock, Timer } from '../base/clock.ts';

/** Below 1, so that the host's clock catches up; near it, so that delays are still about right. */
const PACE_WHILE_AHEAD = 0.75;

export class ClusterClock implements Clock {
  readonly #clock: Clock;
  /** Stamp of the newest entry, of whatever leader (Unix ms). */
  readonly #stampMs: () => number;
  #lastMs = 0;
  #lastAtMs = 0;

  constructor(clock: Clock, stampMs: () => number) {
    this.#clock = clock;
    this.#stampMs = stampMs;
  }

  wallMs(): number {
    const nowMs = this.#clock.nowMs();
    // Fractions are kept: asked every millisecond, it must not lose the rest each time.
    const onMs = this.#lastMs + (nowMs - this.#lastAtMs) * PACE_WHILE_AHEAD;
    this.#lastMs = Math.max(this.#clock.wallMs(), this.#stampMs(), this.#lastMs === 0 ? 0 : onMs);
    this.#lastAtMs = nowMs;
    return Math.floor(this.#lastMs);
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  after(delayMs: number, callback: () => void): Timer {
    return this.#clock.after(delayMs, callback);
  }

  afterIdle(delayMs: number, callback: () => void): Timer {
    return this.#clock.afterIdle(delayMs, callback);
  }

  defer(callback: () => void): void {
    this.#clock.defer(callback);
  }

  sleep(delayMs: number): Promise<void> {
    return this.#clock.sleep(delayMs);
  }
}
