/**
 * Proposals under way at the leader, by log index: resolved once applied, refused when another
 * entry took their place, given up (outcome unknown) when leadership is lost or time is up. Holds
 * callbacks only and does not know the core: the driver says what happened, and what time it is.
 */
import { SwarmError } from '../../base/errors.ts';
import type { RaftFigures } from './figures.ts';

interface Waiting {
  readonly term: number;
  readonly startedMs: number;
  readonly deadlineMs: number;
  readonly resolve: (at: { index: number; term: number }) => void;
  readonly reject: (error: SwarmError) => void;
}

export class Proposals {
  /** Insertion order is index order, hence deadline order. */
  readonly #waiting = new Map<number, Waiting>();
  readonly #figures: RaftFigures;
  readonly #nowMs: () => number;

  constructor(figures: RaftFigures, nowMs: () => number) {
    this.#figures = figures;
    this.#nowMs = nowMs;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** `begin` throws where nothing is begun. */
  attempt<T>(begin: () => Promise<T>): Promise<T> {
    try {
      return begin();
    } catch (error) {
      this.#figures.refused();
      throw error;
    }
  }

  add(index: number, term: number, timeoutMs: number): Promise<{ index: number; term: number }> {
    const startedMs = this.#nowMs();
    const deadlineMs = startedMs + timeoutMs;
    return new Promise((resolve, reject) => {
      this.#waiting.set(index, { term, startedMs, deadlineMs, resolve, reject });
    });
  }

  /** The entry at `index` has been applied, or was found not to be (`refusal`). */
  applied(index: number, term: number, refusal?: SwarmError): void {
    const waiting = this.#waiting.get(index);
    if (waiting === undefined) return;
    this.#waiting.delete(index);
    if (waiting.term !== term) {
      this.#fail(
        waiting,
        new SwarmError('unavailable', 'the change was not made: another leader took over; retry'),
      );
    } else if (refusal !== undefined) {
      this.#fail(waiting, refusal);
    } else {
      this.#figures.accepted(this.#nowMs() - waiting.startedMs);
      waiting.resolve({ index, term });
    }
  }

  #fail(waiting: Waiting, error: SwarmError): void {
    this.#figures.failed();
    waiting.reject(error);
  }

  expire(error: () => SwarmError): void {
    const nowMs = this.#nowMs();
    for (const [index, waiting] of this.#waiting) {
      if (waiting.deadlineMs > nowMs) return;
      this.#waiting.delete(index);
      this.#fail(waiting, error());
    }
  }

  failAll(error: SwarmError): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) this.#fail(waiting, error);
  }
}
