/**
 * A clock that moves only when told, for tests of code that takes a Clock. Between timers it lets
 * everything that is ready run, so that a chain of promises settles at the time it belongs to.
 */
import type { Clock, Timer } from '../../base/clock.ts';

interface Waiting {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

const START_WALL_MS = 1_700_000_000_000;
const SETTLE_TURNS = 4;

/** Lets what is ready run. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < SETTLE_TURNS; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export class ManualClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #steppedMs = 0;
  readonly #waiting = new Set<Waiting>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return START_WALL_MS + Math.floor(this.#nowMs) + this.#steppedMs;
  }

  /** Sets the wall clock forward or back; time itself goes on. */
  stepWall(ms: number): void {
    this.#steppedMs += ms;
  }

  after(delayMs: number, callback: () => void): Timer {
    this.#order += 1;
    const waiting = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, callback };
    this.#waiting.add(waiting);
    return { cancel: () => this.#waiting.delete(waiting) };
  }

  afterIdle(delayMs: number, callback: () => void): Timer {
    return this.after(delayMs, callback);
  }

  defer(callback: () => void): void {
    setImmediate(callback);
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  /** Timers waiting now. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Moves time by `ms`, running each timer at its time. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    await settle();
    for (;;) {
      const next = [...this.#waiting]
        .filter((one) => one.atMs <= endMs)
        .sort((left, right) => left.atMs - right.atMs || left.order - right.order)[0];
      if (next === undefined) break;
      this.#waiting.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
      await settle();
    }
    this.#nowMs = endMs;
  }
}
