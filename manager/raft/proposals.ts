/**
 * Proposals at the leader: queued until the end of the turn, so that what comes together goes as
 * one message to each member, then under way, by log index: resolved once applied, refused when
 * another entry took their place, given up (outcome unknown) when leadership is lost or time is up.
 * Holds callbacks only and does not know the core: the driver says what happened, and what time it
 * is.
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import type { RaftFigures } from './figures.ts';
import { MAX_PROPOSAL_BYTES } from './limits.ts';

interface Waiting {
  readonly term: number;
  readonly startedMs: number;
  readonly deadlineMs: number;
  readonly resolve: (at: { index: number; term: number }) => void;
  readonly reject: (error: SwarmError) => void;
}

interface Queued {
  readonly data: Uint8Array;
  readonly resolve: (at: Promise<{ index: number; term: number }>) => void;
  readonly reject: (error: SwarmError) => void;
}

export class Proposals {
  #queued: Queued[] = [];
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

  /** Until the next begin(). SwarmError exhausted when it is too large. */
  queue(data: Uint8Array): Promise<{ index: number; term: number }> {
    if (data.length > MAX_PROPOSAL_BYTES) {
      throw new SwarmError(
        'exhausted',
        `a change of ${data.length} bytes exceeds the ${MAX_PROPOSAL_BYTES} allowed`,
      );
    }
    assert(data.length > 0, 'raft: empty proposal');
    return new Promise((resolve, reject) => this.#queued.push({ data, resolve, reject }));
  }

  /**
   * Proposes what is queued: `propose` takes all it is given, and says where in the log the first
   * of it stands, or throws where it takes none.
   */
  begin(
    timeoutMs: number,
    propose: (all: readonly Uint8Array[]) => { index: number; term: number },
  ): void {
    const all = this.#queued;
    if (all.length === 0) return;
    this.#queued = [];
    // Too much at once may still go in part.
    if (this.#begin(all, timeoutMs, propose)) return;
    for (const each of all) this.#begin([each], timeoutMs, propose);
  }

  /** False: several were refused together, and none was told. */
  #begin(
    some: readonly Queued[],
    timeoutMs: number,
    propose: (all: readonly Uint8Array[]) => { index: number; term: number },
  ): boolean {
    try {
      const { index, term } = propose(some.map(({ data }) => data));
      for (const [at, each] of some.entries()) each.resolve(this.add(index + at, term, timeoutMs));
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      if (some.length > 1) return false;
      this.#figures.refused();
      some[0].reject(error);
    }
    return true;
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

  /** Also what is queued. */
  abandon(error: SwarmError): void {
    this.begin(0, () => {
      throw error;
    });
    this.failAll(error);
  }

  failAll(error: SwarmError): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const waiting of all) this.#fail(waiting, error);
  }
}
