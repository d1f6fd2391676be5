/**
 * The end of the log that is not known to be durable: entries from `offset` on, and perhaps a
 * snapshot being installed. The part below `offsetInProgress` has been handed to the disk already.
 * Arrays are replaced when truncated, as messages may still refer to the old ones.
 */
import { assert } from '../../../base/assert.ts';
import type { Entry, EntryId, SnapshotMeta } from './types.ts';

export class Unstable {
  snapshot: SnapshotMeta | undefined = undefined;
  entries: Entry[] = [];
  offset: number;
  snapshotInProgress = false;
  offsetInProgress: number;

  constructor(offset: number) {
    this.offset = offset;
    this.offsetInProgress = offset;
  }

  firstIndex(): number | undefined {
    return this.snapshot === undefined ? undefined : this.snapshot.index + 1;
  }

  lastIndex(): number | undefined {
    if (this.entries.length > 0) return this.offset + this.entries.length - 1;
    return this.snapshot?.index;
  }

  term(index: number): number | undefined {
    if (index < this.offset) {
      return this.snapshot?.index === index ? this.snapshot.term : undefined;
    }
    return this.entries[index - this.offset]?.term;
  }

  /** Entries not handed to the disk yet. */
  nextEntries(): readonly Entry[] {
    const inProgress = this.offsetInProgress - this.offset;
    if (this.entries.length === inProgress) return [];
    return inProgress === 0 ? this.entries.slice() : this.entries.slice(inProgress);
  }

  nextSnapshot(): SnapshotMeta | undefined {
    return this.snapshotInProgress ? undefined : this.snapshot;
  }

  /** Everything here has been handed to the disk. */
  acceptInProgress(): void {
    if (this.entries.length > 0) this.offsetInProgress = this.offset + this.entries.length;
    if (this.snapshot !== undefined) this.snapshotInProgress = true;
  }

  /**
   * Entries up to `id` are durable. Ignored when the entry was replaced meanwhile (another term at
   * that index), or is known durable already.
   */
  stableTo(id: EntryId): void {
    const term = this.term(id.index);
    if (term === undefined || id.index < this.offset || term !== id.term) return;
    this.entries = this.entries.slice(id.index + 1 - this.offset);
    this.offset = id.index + 1;
    this.offsetInProgress = Math.max(this.offsetInProgress, this.offset);
  }

  stableSnapshotTo(index: number): void {
    if (this.snapshot?.index !== index) return;
    this.snapshot = undefined;
    this.snapshotInProgress = false;
  }

  restore(snapshot: SnapshotMeta): void {
    this.offset = snapshot.index + 1;
    this.offsetInProgress = this.offset;
    this.entries = [];
    this.snapshot = snapshot;
    this.snapshotInProgress = false;
  }

  truncateAndAppend(entries: readonly Entry[]): void {
    const from = entries[0].index;
    if (from === this.offset + this.entries.length) {
      for (const entry of entries) this.entries.push(entry);
    } else if (from <= this.offset) {
      this.entries = entries.slice();
      this.offset = from;
      this.offsetInProgress = from;
    } else {
      this.entries = [...this.slice(this.offset, from), ...entries];
      // What went to the disk past `from` is void: its successor must go there too.
      this.offsetInProgress = Math.min(this.offsetInProgress, from);
    }
  }

  /** Entries [from, until). */
  slice(from: number, until: number): Entry[] {
    const end = this.offset + this.entries.length;
    assert(from <= until && from >= this.offset && until <= end, 'raft: unstable slice', {
      from,
      until,
      offset: this.offset,
      end,
    });
    return this.entries.slice(from - this.offset, until - this.offset);
  }
}
