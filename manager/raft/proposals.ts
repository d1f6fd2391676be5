/**
 * Proposals under way at the leader, by log index: resolved once applied, refused when another
 * entry took their place, given up (outcome unknown) when leadership is lost or time is up. Holds
 * callbacks only; knows neither the core nor a clock: the driver says what happened and what time
 * it is.
 */
import { SwarmError } from '../../base/errors.ts';

interface Waiting {
  readonly term: number;
  readonly deadlineMs: number;
  readonly resolve: (at: { index: number; term: number }) => void;
  readonly reject: (error: SwarmError) => void;
}

export class Proposals {
  /** Insertion order is index order, hence deadline order. */
  readonly #waiting = new Map<number, Waiting>();

  get size(): number {
    return this.#waiting.size;
  }

  add(index: number, term: number, deadlineMs: number): Promise<{ index: number; term: number }> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(index, { term, deadlineMs, resolve, reject });
    });
  }

  /** The entry at `index` has been applied, or was found not to be (`refusal`). */
  applied(index: number, term: number, refusal?: SwarmError): void {
    const waiting = this.#waiting.get(index);
    if (waiting === undefined) return;
    this.#waiting.delete(index);
    if (waiting.term !== term) {
      waiting.reject(
        new SwarmError('unavailable', 'the change was not made: another leader took over; retry'),
      );
    } else if (refusal !== undefined) {
      waiting.reject(refusal);
    } else {
      waiting.resolve({ index, term });
    }
  }

  expire(nowMs: number, error: () => SwarmError): void {
    for (const [index, waiting] of this.#waiting) {
      if (waiting.deadlineMs > nowMs) return;
      this.#waiting.delete(index);
      waiting.reject(error());
    }
  }

  failAll(error: SwarmError): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) waiting.reject(error);
  }
}
