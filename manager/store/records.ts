/**
 * Records by id. Very many of them are kept as many small maps, by what their ids end in: a map of
 * a million grows, and is listed, at one stroke of 100 ms and more, one of some thousands in a
 * fraction of one. A single part keeps the order in which records came; with several the order is
 * that of the parts. It never looks into a record.
 */

/** A power of two. Of a million records each part has four thousand: listed within 0.1 ms. */
const PARTS = 256;
/** Ids end in letters that are as good as random; two of 36 make more than there are parts. */
const LETTER_FACTOR = 36;

export class Records<V> {
  readonly parts: readonly Map<string, V>[];
  #size = 0;

  constructor(isLarge: boolean) {
    this.parts = Array.from({ length: isLarge ? PARTS : 1 }, () => new Map<string, V>());
  }

  get size(): number {
    return this.#size;
  }

  /** The part that has `id`, if any has. */
  partOf(id: string): number {
    if (this.parts.length === 1) return 0;
    const end = id.length;
    const letters = LETTER_FACTOR * id.charCodeAt(end - 2) + id.charCodeAt(end - 1);
    return letters & (PARTS - 1);
  }

  get(id: string): V | undefined {
    return this.parts[this.partOf(id)].get(id);
  }

  has(id: string): boolean {
    return this.parts[this.partOf(id)].has(id);
  }

  /** Whether it is new. */
  set(id: string, record: V): boolean {
    const part = this.parts[this.partOf(id)];
    const { size } = part;
    part.set(id, record);
    const isNew = part.size > size;
    if (isNew) this.#size += 1;
    return isNew;
  }

  delete(id: string): void {
    if (this.parts[this.partOf(id)].delete(id)) this.#size -= 1;
  }

  /** Whoever pauses between two sees what was there all the time, once. */
  *values(): Generator<V> {
    for (const part of this.parts) yield* part.values();
  }
}
