/**
 * Which images a policy takes away: those that no container uses, longest unused first, until what
 * is left fits. One that was used a moment ago stays, as whoever pulled it may be about to use it;
 * so does one that has a name and that no registry is known for, as it could not be had again.
 * Pure: works on the catalog's records and the facts it is given.
 */
import { MINUTE_MS } from '../../base/duration.ts';
import type { ImageRecord } from './catalog.ts';
import type { GarbagePolicy } from './types.ts';

/** From a pull to the container that it is for takes no longer. */
export const REST_MS = 10 * MINUTE_MS;

export interface ImageFacts {
  isHeld(imageId: string): boolean;
  isNamed(imageId: string): boolean;
  usedAtMs(record: ImageRecord): number;
  /** Of an unpacked layer. */
  layerBytes(diffId: string): number;
  blobBytes(digest: string): number;
}

/** In the order in which they go. */
export function garbage(
  records: readonly ImageRecord[],
  policy: GarbagePolicy,
  facts: ImageFacts,
  nowMs: number,
): readonly ImageRecord[] {
  const restMs = policy.restMs ?? REST_MS;
  const idleMs = (record: ImageRecord): number => nowMs - facts.usedAtMs(record);
  const mayGo = (record: ImageRecord): boolean =>
    !record.doomed &&
    !facts.isHeld(record.id) &&
    idleMs(record) >= restMs &&
    (record.pulledAs.length > 0 || !facts.isNamed(record.id));
  const candidates = records
    .filter(mayGo)
    .toSorted((left, right) => idleMs(right) - idleMs(left) || (left.id < right.id ? -1 : 1));
  const { maxUnusedMs = Number.POSITIVE_INFINITY, maxBytes = Number.POSITIVE_INFINITY } = policy;
  const tally = new Tally(records, facts);
  return candidates.filter((record) => {
    if (idleMs(record) < maxUnusedMs && tally.bytes <= maxBytes) return false;
    tally.remove(record);
    return true;
  });
}

/** What is on the disk, by how many images want it. */
class Tally {
  readonly #facts: ImageFacts;
  readonly #users = new Map<string, number>();
  bytes = 0;

  constructor(records: readonly ImageRecord[], facts: ImageFacts) {
    this.#facts = facts;
    for (const record of records) {
      for (const [key, bytes] of this.#parts(record)) {
        const users = this.#users.get(key) ?? 0;
        this.#users.set(key, users + 1);
        if (users === 0) this.bytes += bytes();
      }
    }
  }

  remove(record: ImageRecord): void {
    for (const [key, bytes] of this.#parts(record)) {
      const users = (this.#users.get(key) ?? 0) - 1;
      this.#users.set(key, users);
      if (users === 0) this.bytes -= bytes();
    }
  }

  #parts(record: ImageRecord): ReadonlyMap<string, () => number> {
    const { layerBytes, blobBytes } = this.#facts;
    return new Map([
      ...record.diffIds.map((id) => [`layer ${id}`, () => layerBytes(id)] as const),
      ...record.blobs.map((digest) => [`blob ${digest}`, () => blobBytes(digest)] as const),
    ]);
  }
}
