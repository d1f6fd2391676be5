/**
 * Who leads, as told to the rest of the manager: a change is announced once, and this member is the
 * leader only from the moment it has applied an entry of its own term. Announces; decides nothing.
 */
import { Signal } from '../../base/queue.ts';
import type { Leadership } from './types.ts';

export class LeadershipWatch {
  readonly changed = new Signal<Leadership>();
  #now: Leadership;

  constructor(term: number) {
    this.#now = { isLeader: false, leaderId: undefined, term };
  }

  get now(): Leadership {
    return this.#now;
  }

  update(next: Leadership): void {
    const old = this.#now;
    const same =
      old.isLeader === next.isLeader && old.leaderId === next.leaderId && old.term === next.term;
    if (same) return;
    this.#now = next;
    this.changed.emit(next);
  }

  /** `listener` is told the term each time this member starts to lead; at once if it does. */
  onReady(listener: (term: number) => void): () => void {
    let readyTerm = 0;
    const tell = (now: Leadership): void => {
      if (!now.isLeader || now.term === readyTerm) return;
      readyTerm = now.term;
      listener(now.term);
    };
    const stop = this.changed.listen(tell);
    tell(this.#now);
    return stop;
  }
}
