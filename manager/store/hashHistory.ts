/**
 * The hashes of the last versions of a store, so that two replicas that are not at the same version
 * at the same moment can still compare. Keeps the newest; never asks what they mean.
 */

/** Seconds of a busy cluster; a replica that asks later asks again for a newer one. */
const KEPT = 4096;

export class HashHistory {
  readonly #versions: number[] = [0];
  readonly #hashes: string[] = ['0'.repeat(16)];
  /** Where the next one goes; the oldest is there once all places are taken. */
  #next = 1;

  /** `version` is above all before it. */
  add(version: number, hash: string): void {
    this.#versions[this.#next] = version;
    this.#hashes[this.#next] = hash;
    this.#next = (this.#next + 1) % KEPT;
  }

  /** What was before is of another history. */
  restart(version: number, hash: string): void {
    this.#versions.length = 0;
    this.#hashes.length = 0;
    this.#next = 0;
    this.add(version, hash);
  }

  /** Of the newest that is not above `version`; undefined when all kept ones are. */
  at(version: number): string | undefined {
    const count = this.#versions.length;
    const oldest = count < KEPT ? 0 : this.#next;
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#versions[(oldest + middle) % count] <= version) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? undefined : this.#hashes[(oldest + low - 1) % count];
  }
}
