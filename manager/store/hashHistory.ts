/**
 * The hashes of the last versions of a store, so that two replicas that are not at the same version
 * at the same moment can still compare. Keeps the newest; never asks what they mean.
 */

/** Seconds of a busy cluster; a replica that asks later asks again for a newer one. */
const KEPT = 4096;

/** The two halves of a hash. */
export interface HashWords {
  readonly high: number;
  readonly low: number;
}

export class HashHistory {
  readonly #versions: number[] = [0];
  /** Both halves of each: made a text only for who asks. */
  readonly #words = new Int32Array(2 * KEPT);
  /** Where the next one goes; the oldest is there once all places are taken. */
  #next = 1;

  /** `version` is above all before it. */
  add(version: number, { high, low }: HashWords): void {
    this.#versions[this.#next] = version;
    this.#words[2 * this.#next] = high;
    this.#words[2 * this.#next + 1] = low;
    this.#next = (this.#next + 1) % KEPT;
  }

  /** What was before is of another history. */
  restart(version: number, hash: HashWords): void {
    this.#versions.length = 0;
    this.#next = 0;
    this.add(version, hash);
  }

  /** Of the newest that is not above `version`; undefined when all kept ones are. */
  at(version: number): HashWords | undefined {
    const count = this.#versions.length;
    const oldest = count < KEPT ? 0 : this.#next;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#versions[(oldest + middle) % count] <= version) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    const place = 2 * ((oldest + low - 1) % count);
    return { high: this.#words[place], low: this.#words[place + 1] };
  }
}
