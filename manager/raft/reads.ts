/**
 * Linearizable reads at any member: waiting readers share one ReadIndex request at a time; an
 * answer releases those that waited when it was asked, once the index is applied here. Unanswered
 * requests are asked again under a new context (unique per process start). Knows no clock and no
 * core.
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';

/** Readers waiting at one member; more are refused. */
const MAX_READERS = 100_000;
/** An unanswered request is repeated after this long, or at once when the leader changes. */
const RETRY_MS = 300;

interface Reader {
  readonly deadlineMs: number;
  readonly resolve: (index: number) => void;
  readonly reject: (error: SwarmError) => void;
}

export class Reads {
  readonly #start: Uint8Array;
  #counter = 0;
  /** Came after the request under way was sent. */
  #queue: Reader[] = [];
  #asked: { key: string; readers: Reader[]; atMs: number } | undefined = undefined;
  /** Answered, waiting for the state machine; indexes do not go down. */
  #confirmed: { index: number; reader: Reader }[] = [];

  /** `start`: 8 random bytes of this process start. */
  constructor(start: Uint8Array) {
    assert(start.length === 8, 'raft: read context');
    this.#start = start;
  }

  get size(): number {
    return this.#queue.length + (this.#asked?.readers.length ?? 0) + this.#confirmed.length;
  }

  add(deadlineMs: number): Promise<number> {
    if (this.size >= MAX_READERS) {
      return Promise.reject(new SwarmError('exhausted', 'too many reads are waiting; try later'));
    }
    return new Promise((resolve, reject) => this.#queue.push({ deadlineMs, resolve, reject }));
  }

  /** The context to ask with now; undefined when there is nothing to ask. */
  nextContext(nowMs: number): Uint8Array | undefined {
    const overdue = this.#asked !== undefined && nowMs - this.#asked.atMs >= RETRY_MS;
    if (this.#asked !== undefined && !overdue) return undefined;
    const readers = [...(this.#asked?.readers ?? []), ...this.#queue];
    this.#queue = [];
    this.#asked = undefined;
    if (readers.length === 0) return undefined;
    this.#counter += 1;
    const context = new Uint8Array(16);
    context.set(this.#start);
    new DataView(context.buffer).setFloat64(8, this.#counter);
    this.#asked = { key: keyOf(context), readers, atMs: nowMs };
    return context;
  }

  /** The leader changed: what was asked may never be answered. */
  askAgain(): void {
    if (this.#asked !== undefined) this.#asked.atMs = Number.NEGATIVE_INFINITY;
  }

  answered(context: Uint8Array, index: number): void {
    if (this.#asked === undefined || this.#asked.key !== keyOf(context)) return;
    for (const reader of this.#asked.readers) this.#confirmed.push({ index, reader });
    this.#asked = undefined;
  }

  applied(index: number): void {
    if (this.#confirmed.length === 0) return;
    const ready = this.#confirmed.filter((waiting) => waiting.index <= index);
    if (ready.length === 0) return;
    this.#confirmed = this.#confirmed.filter((waiting) => waiting.index > index);
    for (const waiting of ready) waiting.reader.resolve(waiting.index);
  }

  expire(nowMs: number, error: () => SwarmError): void {
    this.#drop((reader) => reader.deadlineMs <= nowMs, error);
  }

  failAll(error: SwarmError): void {
    this.#drop(
      () => true,
      () => error,
    );
  }

  #drop(which: (reader: Reader) => boolean, error: () => SwarmError): void {
    if (this.size === 0) return;
    const dropped: Reader[] = [];
    const keep = (reader: Reader): boolean => {
      if (!which(reader)) return true;
      dropped.push(reader);
      return false;
    };
    this.#queue = this.#queue.filter(keep);
    if (this.#asked !== undefined) this.#asked.readers = this.#asked.readers.filter(keep);
    this.#confirmed = this.#confirmed.filter((waiting) => keep(waiting.reader));
    for (const reader of dropped) reader.reject(error());
  }
}

function keyOf(context: Uint8Array): string {
  return Buffer.from(context.buffer, context.byteOffset, context.byteLength).toString('latin1');
}
