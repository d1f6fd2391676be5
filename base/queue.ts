/**
 * Waiting in order: Serial runs asynchronous work one piece at a time, Signal wakes those who wait
 * for a condition, withDeadline bounds a promise. No piece of work waits without a bound.
 */
import type { Clock } from './clock.ts';
import { SwarmError } from './errors.ts';

/** Runs functions one after another in the order given, up to `limit` waiting. */
export class Serial {
  readonly #limit: number;
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Resolves or rejects with `work`'s outcome. SwarmError exhausted when `limit` already wait. */
  run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#waiting >= this.#limit) {
      return Promise.reject(
        new SwarmError('exhausted', `more than ${this.#limit} operations are waiting; try later`),
      );
    }
    this.#waiting += 1;
    const result = this.#tail.then(work);
    const settle = (): void => {
      this.#waiting -= 1;
    };
    this.#tail = result.then(settle, settle);
    return result;
  }
}

/** Listeners told synchronously, in the order they came; a listener may remove itself. */
export class Signal<T = void> {
  readonly #listeners = new Set<(value: T) => void>();

  /** Returns the function that stops listening. */
  listen(listener: (value: T) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(value: T): void {
    for (const listener of [...this.#listeners]) listener(value);
  }

  get size(): number {
    return this.#listeners.size;
  }

  /** The next emitted value for which `accept` holds; SwarmError timeout after `timeoutMs`. */
  next(clock: Clock, timeoutMs: number, accept: (value: T) => boolean = () => true): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = this.listen((value) => {
        if (!accept(value)) return;
        stop();
        timer.cancel();
        resolve(value);
      });
      const timer = clock.after(timeoutMs, () => {
        stop();
        reject(new SwarmError('timeout', `nothing happened within ${timeoutMs} ms`));
      });
    });
  }
}

/** `promise`, or SwarmError timeout naming `what` after `timeoutMs`. The work itself goes on. */
export function withDeadline<T>(
  clock: Clock,
  timeoutMs: number,
  what: string,
  promise: Promise<T>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(timeoutMs, () =>
      reject(new SwarmError('timeout', `${what} took longer than ${timeoutMs} ms`)),
    );
    promise.then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error);
      },
    );
  });
}
