/**
 * The simulation's time: a queue of events in the order of their time, then of their making. Each
 * event belongs to a process (or to the world); a dead process's never run, a paused one's run in
 * their order once it goes on. Between events everything that promises set in motion runs to its
 * end. Never looks at the real time.
 */
import { SeededRandom } from '../../base/random.ts';

/** What events belong to. */
export interface Owner {
  readonly alive: boolean;
  /** Simulated time until which it stands still. */
  readonly pausedUntilMs: number;
}

export interface Event {
  atMs: number;
  readonly order: number;
  readonly owner: Owner | undefined;
  readonly run: () => void;
  cancelled: boolean;
}

export class Schedule {
  #nowMs = 0;
  #order = 0;
  readonly #heap: Event[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, owner: Owner | undefined, run: () => void): Event {
    return this.at(this.#nowMs + Math.max(0, delayMs), owner, run);
  }

  at(atMs: number, owner: Owner | undefined, run: () => void): Event {
    const event = { atMs, order: this.#order, owner, run, cancelled: false };
    this.#order += 1;
    this.#push(event);
    return event;
  }

  /** The next event that may run, with the time moved to it; undefined at the end of all. */
  next(): Event | undefined {
    for (;;) {
      const event = this.#pop();
      if (event === undefined) return undefined;
      const { owner } = event;
      if (event.cancelled || owner?.alive === false) continue;
      if (owner !== undefined && owner.pausedUntilMs > event.atMs) {
        event.atMs = owner.pausedUntilMs;
        this.#push(event);
        continue;
      }
      this.#nowMs = event.atMs;
      return event;
    }
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!before(event, heap[above])) break;
      heap[at] = heap[above];
      at = above;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first ?? last;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child += 1;
      if (!before(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function before(left: Event, right: Event): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}

/** Until nothing but the queue can set anything in motion. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Seeded dice with the few throws that the simulation needs. */
export class Dice extends SeededRandom {
  chance(rate: number): boolean {
    return this.float() < rate;
  }

  between(low: number, high: number): number {
    return low + this.float() * (high - low);
  }

  /** Whole, from `low` to `high`, both included. */
  whole(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items.length === 0 ? undefined : items[this.below(items.length)];
  }
}
