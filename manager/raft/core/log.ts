/**
 * The log as the core sees it: durable entries in storage, the rest in Unstable, and the cursors
 *   applied <= applying <= committed <= lastIndex.
 * `applying` is what has been handed out; it runs ahead of `applied` up to a byte bound.
 * Semantics: etcd-io/raft log.go. An impossible request is an assertion, never an error.
 */
import { assert } from '../../../base/assert.ts';
import {
  type Entry,
  type EntryId,
  entriesBytes,
  type LogReadError,
  type LogStorage,
  limitEntries,
  NO_LIMIT,
  type SnapshotMeta,
} from './types.ts';
import { Unstable } from './unstable.ts';

export class RaftLog {
  readonly #storage: LogStorage;
  readonly #maxApplyingBytes: number;
  readonly unstable: Unstable;
  committed: number;
  applying: number;
  applied: number;
  #applyingBytes = 0;
  #applyingPaused = false;

  constructor(storage: LogStorage, maxApplyingBytes: number) {
    this.#storage = storage;
    this.#maxApplyingBytes = maxApplyingBytes;
    this.unstable = new Unstable(storage.lastIndex() + 1);
    this.committed = storage.firstIndex() - 1;
    this.applying = this.committed;
    this.applied = this.committed;
  }

  /**
   * Appends what a leader sent after `prev`, if the log holds `prev`. Returns the index of the last
   * of `entries`, or undefined when `prev` does not match.
   */
  maybeAppend(prev: EntryId, entries: readonly Entry[], committed: number): number | undefined {
    if (!this.matchTerm(prev)) return undefined;
    const lastNew = prev.index + entries.length;
    const conflict = this.#findConflict(entries);
    if (conflict !== 0) {
      assert(conflict > this.committed, 'raft: entry conflicts with a committed one', {
        conflict,
        committed: this.committed,
      });
      this.append(entries.slice(conflict - prev.index - 1));
    }
    this.commitTo(Math.min(committed, lastNew));
    return lastNew;
  }

  append(entries: readonly Entry[]): number {
    if (entries.length === 0) return this.lastIndex();
    const after = entries[0].index - 1;
    assert(after >= this.committed, 'raft: append before the committed index', {
      after,
      committed: this.committed,
    });
    this.unstable.truncateAndAppend(entries);
    return this.lastIndex();
  }

  /** Index of the first entry that differs or is missing here; 0 = none. */
  #findConflict(entries: readonly Entry[]): number {
    for (const entry of entries) if (!this.matchTerm(entry)) return entry.index;
    return 0;
  }

  /**
   * The last entry at or before `index` whose term is at most `term`: where a log that has `term`
   * at `index` can at the latest agree with this one. Term 0 when it lies before this log.
   */
  findConflictByTerm(index: number, term: number): EntryId {
    for (let at = index; at > 0; at -= 1) {
      const ours = this.term(at);
      if (typeof ours !== 'number') return { index: at, term: 0 };
      if (ours <= term) return { index: at, term: ours };
    }
    return { index: 0, term: 0 };
  }

  hasNextCommitted(allowUnstable: boolean): boolean {
    if (this.#applyingPaused || this.unstable.snapshot !== undefined) return false;
    return this.applying < this.#maxAppliable(allowUnstable);
  }

  nextCommitted(allowUnstable: boolean): readonly Entry[] {
    if (!this.hasNextCommitted(allowUnstable)) return [];
    const room = this.#maxApplyingBytes - this.#applyingBytes;
    assert(room > 0, 'raft: applying past its bound', { room });
    const until = this.#maxAppliable(allowUnstable) + 1;
    const entries = this.slice(this.applying + 1, until, room);
    assert(typeof entries !== 'string', 'raft: unapplied entries are not in the log', {
      from: this.applying + 1,
      until,
    });
    return entries;
  }

  #maxAppliable(allowUnstable: boolean): number {
    return allowUnstable ? this.committed : Math.min(this.committed, this.unstable.offset - 1);
  }

  snapshot(): SnapshotMeta | undefined {
    return this.unstable.snapshot ?? this.#storage.snapshot();
  }

  firstIndex(): number {
    return this.unstable.firstIndex() ?? this.#storage.firstIndex();
  }

  lastIndex(): number {
    return this.unstable.lastIndex() ?? this.#storage.lastIndex();
  }

  commitTo(index: number): void {
    if (this.committed >= index) return;
    assert(index <= this.lastIndex(), 'raft: commit past the log; was the log lost or cut?', {
      index,
      lastIndex: this.lastIndex(),
    });
    this.committed = index;
  }

  appliedTo(index: number, bytes: number): void {
    assert(index <= this.committed && index >= this.applied, 'raft: applied out of range', {
      index,
      applied: this.applied,
      committed: this.committed,
    });
    this.applied = index;
    this.applying = Math.max(this.applying, index);
    this.#applyingBytes = Math.max(0, this.#applyingBytes - bytes);
    this.#applyingPaused = this.#applyingBytes >= this.#maxApplyingBytes;
  }

  /** Committed entries up to `index` have been handed out. */
  acceptApplying(index: number, bytes: number, allowUnstable: boolean): void {
    assert(index <= this.committed, 'raft: applying past the committed index', {
      index,
      committed: this.committed,
    });
    this.applying = index;
    this.#applyingBytes += bytes;
    // Less was handed out than there is: the byte bound was met, wait for it to be applied.
    this.#applyingPaused =
      this.#applyingBytes >= this.#maxApplyingBytes || index < this.#maxAppliable(allowUnstable);
  }

  lastEntryId(): EntryId {
    const index = this.lastIndex();
    const term = this.term(index);
    assert(typeof term === 'number', 'raft: the last entry has no term', { index });
    return { term, index };
  }

  term(index: number): number | LogReadError {
    const known = this.unstable.term(index);
    if (known !== undefined) return known;
    // The entry before the first one is known by its term only: it is what appends follow on.
    if (index + 1 < this.firstIndex()) return 'compacted';
    if (index > this.lastIndex()) return 'unavailable';
    return this.#storage.term(index);
  }

  termOrZero(index: number): number {
    const term = this.term(index);
    return typeof term === 'number' ? term : 0;
  }

  entries(from: number, maxBytes: number): readonly Entry[] | LogReadError {
    if (from > this.lastIndex()) return [];
    return this.slice(from, this.lastIndex() + 1, maxBytes);
  }

  /** Everything there is; for tests and inspection. */
  allEntries(): readonly Entry[] {
    const entries = this.entries(this.firstIndex(), NO_LIMIT);
    assert(typeof entries !== 'string', 'raft: log not readable');
    return entries;
  }

  /** A candidate whose log ends with `theirs` may win this node's vote (section 5.4.1). */
  isUpToDate(theirs: EntryId): boolean {
    const ours = this.lastEntryId();
    return theirs.term > ours.term || (theirs.term === ours.term && theirs.index >= ours.index);
  }

  matchTerm(id: EntryId): boolean {
    return this.term(id.index) === id.term;
  }

  /** Commits up to `id` when it is new and of the term given (only own-term entries count). */
  maybeCommit(id: EntryId): boolean {
    if (id.term === 0 || id.index <= this.committed || !this.matchTerm(id)) return false;
    this.commitTo(id.index);
    return true;
  }

  restore(snapshot: SnapshotMeta): void {
    this.committed = snapshot.index;
    this.unstable.restore(snapshot);
  }

  /** Entries [from, until) as far as `maxBytes` allows, at least one; 'compacted' when gone. */
  slice(from: number, until: number, maxBytes: number): readonly Entry[] | LogReadError {
    assert(from <= until, 'raft: slice', { from, until });
    if (from < this.firstIndex()) return 'compacted';
    assert(until <= this.lastIndex() + 1, 'raft: slice past the log', { from, until });
    if (from === until) return [];
    const offset = this.unstable.offset;
    if (from >= offset) return limitEntries(this.unstable.slice(from, until), maxBytes);
    const cut = Math.min(until, offset);
    const stable = this.#storage.entries(from, cut, maxBytes);
    if (stable === 'compacted') return stable;
    assert(stable !== 'unavailable', 'raft: storage lacks entries it should hold', { from, cut });
    if (until <= offset || stable.length < cut - from) return stable;
    const bytes = entriesBytes(stable);
    if (bytes >= maxBytes) return stable;
    const rest = limitEntries(this.unstable.slice(offset, until), maxBytes - bytes);
    if (rest.length === 1 && bytes + entriesBytes(rest) > maxBytes) return stable;
    return [...stable, ...rest];
  }
}
