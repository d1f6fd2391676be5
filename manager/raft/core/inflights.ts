/**
 * A sliding window over the append messages under way to one follower, bounded by count and bytes
 * (the last message may exceed the byte bound). A ring that grows on demand up to its bound.
 */
import { assert } from '../../../base/assert.ts';

export class Inflights {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  #start = 0;
  #count = 0;
  #bytes = 0;
  #indexes: number[] = [];
  #sizes: number[] = [];

  constructor(maxMessages: number, maxBytes: number) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  full(): boolean {
    return this.#count === this.#maxMessages || this.#bytes >= this.#maxBytes;
  }

  /** Notes a message whose last entry is `index`; the caller checks full() first. */
  add(index: number, bytes: number): void {
    assert(!this.full(), 'raft: append sent past the inflight bound', { index });
    const at = (this.#start + this.#count) % this.#maxMessages;
    this.#indexes[at] = index;
    this.#sizes[at] = bytes;
    this.#count += 1;
    this.#bytes += bytes;
  }

  /** Frees the messages whose last entry is at or below `index`. */
  freeTo(index: number): void {
    while (this.#count > 0 && this.#indexes[this.#start] <= index) {
      this.#bytes -= this.#sizes[this.#start];
      this.#start = (this.#start + 1) % this.#maxMessages;
      this.#count -= 1;
    }
    if (this.#count === 0) this.#start = 0;
  }

  reset(): void {
    this.#start = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  clone(): Inflights {
    const copy = new Inflights(this.#maxMessages, this.#maxBytes);
    copy.#start = this.#start;
    copy.#count = this.#count;
    copy.#bytes = this.#bytes;
    copy.#indexes = this.#indexes.slice();
    copy.#sizes = this.#sizes.slice();
    return copy;
  }
}
