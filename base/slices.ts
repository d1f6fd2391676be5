/**
 * Long computations in slices, so that nobody else waits for the thread for longer than one of
 * them. A computation is a generator that yields where it may pause; several take turns, a slice
 * each. What they read may have changed after a pause: that is theirs to know.
 */
import type { Clock } from './clock.ts';

/** A computation that may pause wherever it yields. */
export type Steps<T> = Generator<undefined, T>;

/** A slice ends at the first pause after this. */
export const SLICE_MS = 2;
/** Between slices the thread is everybody's for as many times as long as the last one took. */
const REST_PER_SLICE = 1;

/** To its end, without a pause. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Cheap items that a loop looks at between two pauses. */
export const ITEMS_PER_STEP = 64;

/** What a computation took of the thread: in all, and its longest slice. */
export interface Spent {
  readonly totalMs: number;
  readonly longestMs: number;
}

export class Slices {
  readonly #clock: Pick<Clock, 'nowMs' | 'after'>;
  /** Each does one slice and says whether it is done. */
  readonly #waiting: (() => boolean)[] = [];
  /** One is under way, or the rest after it. */
  #isBusy = false;

  constructor(clock: Pick<Clock, 'nowMs' | 'after'>) {
    this.#clock = clock;
  }

  /**
   * Calls `done` with the outcome, or `failed`: before it returns when one slice is enough and
   * nobody else's computation is under way. Returns what gives it up.
   */
  start<T>(
    steps: Steps<T>,
    done: (value: T, spent: Spent) => void,
    failed: (error: unknown) => void,
  ): () => void {
    let isGivenUp = false;
    let totalMs = 0;
    let longestMs = 0;
    this.#waiting.push(() => {
      if (isGivenUp) return true;
      const startMs = this.#clock.nowMs();
      let step: IteratorResult<undefined, T>;
      try {
        do step = steps.next();
        while (step.done !== true && this.#clock.nowMs() - startMs < SLICE_MS);
      } catch (error) {
        failed(error);
        return true;
      }
      const sliceMs = this.#clock.nowMs() - startMs;
      totalMs += sliceMs;
      longestMs = Math.max(longestMs, sliceMs);
      if (step.done === true) done(step.value, { totalMs, longestMs });
      return step.done === true;
    });
    if (!this.#isBusy) this.#turn();
    return () => {
      isGivenUp = true;
    };
  }

  run<T>(steps: Steps<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.start(steps, resolve, reject);
    });
  }

  #turn(): void {
    const slice = this.#waiting.shift();
    if (slice === undefined) return;
    const startMs = this.#clock.nowMs();
    this.#isBusy = true;
    try {
      if (!slice()) this.#waiting.push(slice);
    } finally {
      // Also when who was told of the outcome threw: the others go on.
      this.#isBusy = this.#waiting.length > 0;
      if (this.#isBusy) this.#rest(REST_PER_SLICE * (this.#clock.nowMs() - startMs));
    }
  }

  #rest(restMs: number): void {
    this.#clock.after(restMs, () => {
      this.#isBusy = false;
      this.#turn();
    });
  }
}
