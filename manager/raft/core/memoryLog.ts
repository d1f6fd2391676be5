/**
 * The durable log's copy in memory, which the core reads: entries after a compaction point, the
 * hard state and the newest snapshot's metadata. Whoever changes it has made the same change
 * durable before (the WAL), or plays disk (tests). Does no I/O.
 */
import { assert } from '../../../base/assert.ts';
import {
  type ConfState,
  EMPTY_CONF_STATE,
  type Entry,
  type EntryId,
  entryBytes,
  type HardState,
  type LogReadError,
  type LogStorage,
  limitEntries,
  type SnapshotMeta,
} from './types.ts';

export class MemoryLog implements LogStorage {
  #hardState: HardState = { term: 0, vote: 0, commit: 0 };
  #snapshot: SnapshotMeta | undefined = undefined;
  /** The entry before the first: compacted away, its term still known. */
  #base: EntryId = { term: 0, index: 0 };
  #entries: Entry[] = [];
  #bytes = 0;

  initialState(): { hardState: HardState; confState: ConfState } {
    return {
      hardState: this.#hardState,
      confState: this.#snapshot?.confState ?? EMPTY_CONF_STATE,
    };
  }

  /** Bytes of the entries held, as they count for limits. */
  get bytes(): number {
    return this.#bytes;
  }

  get hardState(): HardState {
    return this.#hardState;
  }

  setHardState(hardState: HardState): void {
    this.#hardState = hardState;
  }

  /** Starts after `base`, before anything is appended. */
  setBase(base: EntryId): void {
    assert(this.#entries.length === 0, 'raft: base set on a log with entries');
    this.#base = base;
  }

  firstIndex(): number {
    return this.#base.index + 1;
  }

  lastIndex(): number {
    return this.#base.index + this.#entries.length;
  }

  term(index: number): number | LogReadError {
    if (index < this.#base.index) return 'compacted';
    if (index === this.#base.index) return this.#base.term;
    return this.#entries[index - this.#base.index - 1]?.term ?? 'unavailable';
  }

  entries(from: number, until: number, maxBytes: number): readonly Entry[] | LogReadError {
    if (from <= this.#base.index) return 'compacted';
    assert(until <= this.lastIndex() + 1, 'raft: entries past the stored log', { from, until });
    if (this.#entries.length === 0) return 'unavailable';
    const first = this.#base.index + 1;
    return limitEntries(this.#entries.slice(from - first, until - first), maxBytes);
  }

  snapshot(): SnapshotMeta | undefined {
    return this.#snapshot;
  }

  /** Replaces what is there from the first of `entries` on; ignores what is compacted already. */
  append(entries: readonly Entry[]): void {
    const fresh = entries.filter((entry) => entry.index > this.#base.index);
    if (fresh.length === 0) return;
    const keep = fresh[0].index - this.#base.index - 1;
    assert(keep <= this.#entries.length, 'raft: gap in the log', {
      last: this.lastIndex(),
      next: fresh[0].index,
    });
    for (let at = keep; at < this.#entries.length; at += 1) {
      this.#bytes -= entryBytes(this.#entries[at]);
    }
    this.#entries.length = keep;
    for (const entry of fresh) {
      this.#entries.push(entry);
      this.#bytes += entryBytes(entry);
    }
  }

  /** A snapshot taken here: the log stays until `compact`. Older ones are ignored. */
  noteSnapshot(snapshot: SnapshotMeta): void {
    if (this.#snapshot !== undefined && this.#snapshot.index >= snapshot.index) return;
    this.#snapshot = snapshot;
  }

  /** A snapshot from a leader: replaces the log. Older ones are ignored. */
  installSnapshot(snapshot: SnapshotMeta): void {
    if (this.#snapshot !== undefined && this.#snapshot.index >= snapshot.index) return;
    this.#snapshot = snapshot;
    this.#base = { term: snapshot.term, index: snapshot.index };
    this.#entries = [];
    this.#bytes = 0;
  }

  /** Forgets entries up to and including `index`. */
  compact(index: number): void {
    if (index <= this.#base.index) return;
    assert(index <= this.lastIndex(), 'raft: compaction past the log', { index });
    const term = this.term(index);
    assert(typeof term === 'number', 'raft: compaction of an unknown entry', { index });
    const count = index - this.#base.index;
    for (let at = 0; at < count; at += 1) this.#bytes -= entryBytes(this.#entries[at]);
    this.#entries = this.#entries.slice(count);
    this.#base = { term, index };
  }
}
