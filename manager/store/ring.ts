/**
 * The one ring of applied changes that all watchers share, and a watcher: a cursor into it. A
 * watcher that falls behind by more than the ring holds is told so when it next asks; it is never
 * waited for. Bound: `capacity` events, with the records before and after each.
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import { Signal } from '../../base/queue.ts';
import type { StoreEvent, StoreWatch } from './types.ts';

export class Ring {
  readonly #capacity: number;
  readonly #slots: StoreEvent[] = [];
  readonly #wake = new Signal();
  /** Sequence numbers: the oldest event still held, and the one the next event will get. */
  #first = 0;
  #next = 0;
  /** Every event of a version above this one is still held. */
  #lostVersion = 0;
  #isHeld = false;
  /** Something was added while held. */
  #isDue = false;
  /** Times that a watcher was told that it fell out. */
  #falls = 0;

  constructor(capacity: number) {
    assert(capacity > 0, 'a ring without room', { capacity });
    this.#capacity = capacity;
  }

  /** Adds events of one entry and wakes the watchers. */
  push(events: readonly StoreEvent[]): void {
    if (events.length === 0) return;
    for (const event of events) {
      const at = this.#next % this.#capacity;
      if (this.#next - this.#first === this.#capacity) {
        this.#lostVersion = this.#slots[at].version;
        this.#first += 1;
      }
      this.#slots[at] = event;
      this.#next += 1;
    }
    if (this.#isHeld) this.#isDue = true;
    else this.#wake.emit();
  }

  /** Watchers are woken once, after `work`, however many entries it adds. */
  together(work: () => void): void {
    this.#isHeld = true;
    try {
      work();
    } finally {
      this.#isHeld = false;
    }
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#wake.emit();
  }

  /** Everything before `version` is gone: all cursors have fallen out. */
  reset(version: number): void {
    this.#next += 1;
    this.#first = this.#next;
    this.#slots.length = 0;
    // Slots are addressed by sequence modulo capacity; holes before `#first` are never read.
    this.#lostVersion = version;
    this.#wake.emit();
  }

  watch(afterVersion: number | undefined): StoreWatch {
    return new Watch(this, afterVersion === undefined ? this.#next : this.#after(afterVersion));
  }

  get falls(): number {
    return this.#falls;
  }

  /** Those who wait to be woken. */
  get watchers(): number {
    return this.#wake.size;
  }

  take(cursor: number, limit: number): readonly StoreEvent[] {
    if (cursor < this.#first) throw this.#fall();
    const events: StoreEvent[] = [];
    const end = Math.min(this.#next, cursor + limit);
    for (let at = cursor; at < end; at += 1) events.push(this.#slots[at % this.#capacity]);
    return events;
  }

  listen(wake: () => void): () => void {
    return this.#wake.listen(wake);
  }

  /** Sequence of the first event whose version is above `version`. */
  #after(version: number): number {
    if (version < this.#lostVersion) throw this.#fall();
    let low = this.#first;
    let high = this.#next;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#slots[middle % this.#capacity].version <= version) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #fall(): SwarmError {
    this.#falls += 1;
    return new SwarmError(
      'exhausted',
      'the changes asked for are no longer kept (compacted): read everything again and watch ' +
        'from there',
    );
  }
}

class Watch implements StoreWatch {
  readonly #ring: Ring;
  readonly #stops = new Set<() => void>();
  #cursor: number;
  #closed = false;

  constructor(ring: Ring, cursor: number) {
    this.#ring = ring;
    this.#cursor = cursor;
  }

  take(limit: number): readonly StoreEvent[] {
    if (this.#closed) return [];
    const events = this.#ring.take(this.#cursor, limit);
    this.#cursor += events.length;
    return events;
  }

  onEvents(wake: () => void): () => void {
    const stop = this.#ring.listen(wake);
    this.#stops.add(stop);
    return () => {
      this.#stops.delete(stop);
      stop();
    };
  }

  close(): void {
    this.#closed = true;
    for (const stop of this.#stops) stop();
    this.#stops.clear();
  }
}
