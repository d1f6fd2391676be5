/**
 * Several streams of records that are in order by time, made one: a record is handed on when every
 * open stream has one to compare with, or when it has waited for long enough. Streams that are
 * ahead are held back. It knows nothing of what the records are.
 */
import type { Clock } from '../base/clock.ts';

/** Records of one stream that wait for the reader. */
const WAITING_MAX = 128;

interface Timed {
  readonly timeNs: bigint;
}

export interface MergedStream<T> {
  /** Resolves when the next one may come. */
  push(record: T): Promise<void>;
  end(): void;
}

class Source<T extends Timed> implements MergedStream<T> {
  readonly records: { readonly record: T; readonly atMs: number }[] = [];
  isOpen = true;
  readonly #clock: Clock;
  readonly #changed: () => void;
  #resume: (() => void) | undefined;

  constructor(clock: Clock, changed: () => void) {
    this.#clock = clock;
    this.#changed = changed;
  }

  push(record: T): Promise<void> {
    this.records.push({ record, atMs: this.#clock.nowMs() });
    if (this.records.length === 1) this.#changed();
    if (this.records.length < WAITING_MAX) return Promise.resolve();
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  end(): void {
    this.isOpen = false;
    this.#changed();
  }

  take(): T | undefined {
    const first = this.records.shift();
    if (this.records.length === 0) this.letGo();
    return first?.record;
  }

  letGo(): void {
    const resume = this.#resume;
    this.#resume = undefined;
    resume?.();
  }
}

export class Merge<T extends Timed> {
  readonly #clock: Clock;
  readonly #holdMs: number;
  readonly #sources = new Set<Source<T>>();
  #keptOpen = 0;
  #wake = (): void => {};

  /** `holdMs`: how long a record waits for streams that say nothing. */
  constructor(clock: Clock, holdMs: number) {
    this.#clock = clock;
    this.#holdMs = holdMs;
  }

  /** Streams that have not ended, or still have records. */
  get size(): number {
    return this.#sources.size;
  }

  open(): MergedStream<T> {
    const source = new Source<T>(this.#clock, () => this.#wake());
    this.#sources.add(source);
    this.#wake();
    return source;
  }

  /** The whole does not end before this does: streams may still be added. */
  keepOpen(): { end(): void } {
    this.#keptOpen += 1;
    return {
      end: () => {
        this.#keptOpen -= 1;
        this.#wake();
      },
    };
  }

  /** Lets go of whoever waits. */
  close(): void {
    for (const source of this.#sources) source.letGo();
    this.#sources.clear();
  }

  /** Until all streams have ended, or `signal` says so. */
  async *read(signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    const onAbort = (): void => this.#wake();
    signal.addEventListener('abort', onAbort);
    try {
      while (!signal.aborted) {
        const next = this.#next();
        if (next === 'end') return;
        if (typeof next === 'number') await this.#changed(next);
        else yield next.record;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** The oldest record, when it may go; else for how long at most to wait for a change. */
  #next(): { readonly record: T } | number | 'end' {
    let oldest: Source<T> | undefined;
    let silent = false;
    for (const source of this.#sources) {
      const [head] = source.records;
      if (head === undefined) {
        if (source.isOpen) silent = true;
        else this.#sources.delete(source);
        continue;
      }
      const best = oldest?.records[0].record;
      if (best === undefined || head.record.timeNs < best.timeNs) oldest = source;
    }
    if (oldest === undefined) {
      return this.#sources.size === 0 && this.#keptOpen === 0 ? 'end' : Number.POSITIVE_INFINITY;
    }
    const leftMs = silent ? oldest.records[0].atMs + this.#holdMs - this.#clock.nowMs() : 0;
    if (leftMs > 0) return leftMs;
    const record = oldest.take();
    return record === undefined ? 'end' : { record };
  }

  #changed(limitMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(limitMs) ? this.#clock.after(limitMs, resolve) : undefined;
      this.#wake = () => {
        timer?.cancel();
        this.#wake = () => {};
        resolve();
      };
    });
  }
}
