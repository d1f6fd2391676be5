/**
 * What a member has handed to its disk, as the simulation sees it: the log as written and the log
 * as acknowledged by the disk, kept apart, so that what the member promises to others, and what it
 * finds after a crash, can be held against it. Checks only; it changes nothing of the member.
 */
import type { Entry, EntryId, HardState } from '../../manager/raft/core/types.ts';
import type { Recovered } from '../../manager/raft/disk/disk.ts';
import type { WalAppend } from '../../manager/raft/disk/wal.ts';
import { check } from './violation.ts';

const NO_STATE: HardState = { term: 0, vote: 0, commit: 0 };

/** A log from `base` on. */
export class MirrorLog {
  base: EntryId = { index: 0, term: 0 };
  entries: Entry[] = [];
  hardState: HardState = NO_STATE;
  snapshot = 0;

  get lastIndex(): number {
    return this.base.index + this.entries.length;
  }

  get last(): EntryId {
    return this.entries[this.entries.length - 1] ?? this.base;
  }

  entry(index: number): Entry | undefined {
    return this.entries[index - this.base.index - 1];
  }

  /** undefined: not held, or below what is known of it. */
  term(index: number): number | undefined {
    return index === this.base.index ? this.base.term : this.entry(index)?.term;
  }

  /** Whether it has the entry, or a snapshot that covers it. */
  holds({ index, term }: EntryId): boolean {
    return index <= this.base.index || this.entry(index)?.term === term;
  }

  apply({ hardState, snapshot, installs, entries }: WalAppend): void {
    if (hardState !== undefined) this.hardState = hardState;
    if (snapshot !== undefined && snapshot.index > this.snapshot) {
      this.snapshot = snapshot.index;
      if (installs) {
        this.base = { index: snapshot.index, term: snapshot.term };
        this.entries = [];
      }
    }
    for (const entry of entries) {
      const at = entry.index - this.base.index - 1;
      if (at < 0) continue;
      check(at <= this.entries.length, 'gap', `entry ${entry.index} follows ${this.lastIndex}`);
      this.entries.length = at;
      this.entries.push(entry);
    }
  }
}

function copyOf({ base, entries, hardState, snapshot }: MirrorLog): MirrorLog {
  const log = new MirrorLog();
  log.base = base;
  log.entries = [...entries];
  log.hardState = hardState;
  log.snapshot = snapshot;
  return log;
}

export class Mirror {
  readonly id: number;
  written = new MirrorLog();
  durable = new MirrorLog();
  /** Handed over and not acknowledged yet. */
  #pending: WalAppend[] = [];
  /** The commit index alone may lag: it is durable with the next write that has to be. */
  #durableCommit = 0;
  /** By term: whom this member votes for, as its disk has it. */
  readonly durableVotes = new Map<number, number>();

  constructor(id: number) {
    this.id = id;
  }

  /** As it is now, whatever comes. */
  copy(): Mirror {
    const copy = new Mirror(this.id);
    copy.written = copyOf(this.written);
    copy.durable = copyOf(this.durable);
    copy.#durableCommit = this.#durableCommit;
    for (const [term, vote] of this.durableVotes) copy.durableVotes.set(term, vote);
    return copy;
  }

  /** Up to here it knows what is committed whatever happens to it. */
  get sureCommit(): number {
    return Math.max(this.#durableCommit, this.durable.snapshot);
  }

  handed(append: WalAppend): void {
    const { hardState } = append;
    if (hardState !== undefined) {
      const { term, vote, commit } = this.written.hardState;
      const back = hardState.term < term || hardState.commit < commit;
      const revoted = hardState.term === term && vote !== 0 && hardState.vote !== vote;
      check(!back && !revoted, 'hard state', () => this.#say(hardState, this.written.hardState));
    }
    this.written.apply(append);
    this.#pending.push(append);
  }

  acknowledged(append: WalAppend): void {
    check(this.#pending[0] === append, 'order', `disk of ${this.id}: acknowledged out of order`);
    this.#pending.shift();
    this.durable.apply(append);
    const { term, vote } = this.durable.hardState;
    if (!append.sync) return;
    this.durableVotes.set(term, vote);
    this.#durableCommit = this.durable.hardState.commit;
  }

  /** What a start found must hold all that was acknowledged, and nothing that never was written. */
  recovered(found: Recovered, known: (entry: Entry) => boolean): void {
    const { durable } = this;
    const { hardState, base, entries } = found;
    const states = [durable.hardState];
    let cut = Number.POSITIVE_INFINITY;
    for (const append of this.#pending) {
      if (append.hardState !== undefined) states.push(append.hardState);
      if (append.entries.length > 0) cut = Math.min(cut, append.entries[0].index);
      if (append.installs) cut = 0;
    }
    const { term, vote } = hardState;
    const expected = states.some((state) => state.term === term && state.vote === vote);
    check(expected, 'durable vote', () => this.#say(hardState, durable.hardState));
    check(hardState.commit >= this.#durableCommit, 'durable commit', () =>
      this.#say(hardState, durable.hardState),
    );
    check(base.index <= (found.snapshot?.index ?? 0), 'purged', `of ${this.id} past its snapshot`);
    check((found.snapshot?.index ?? 0) >= durable.snapshot, 'durable snapshot', `of ${this.id}`);
    for (const entry of durable.entries) {
      if (entry.index >= cut || entry.index <= base.index) continue;
      const there = entries[entry.index - base.index - 1];
      check(there?.term === entry.term, 'durable log', () =>
        [`member ${this.id} lost entry ${entry.index} of term ${entry.term}`, found.base].join(' '),
      );
    }
    this.#checkEnd(entries[entries.length - 1] ?? base);
    for (const entry of entries) {
      check(known(entry), 'phantom', () => `member ${this.id} found ${entry.index}/${entry.term}`);
    }
    this.#pending = [];
    this.#durableCommit = hardState.commit;
    this.durableVotes.set(term, vote);
    this.written = logOf(found);
    this.durable = logOf(found);
  }

  /** It ends where it ended once what was under way was written, or a first part of that. */
  #checkEnd(last: EntryId): void {
    const ends: EntryId[] = [this.durable.last];
    for (const { snapshot, installs, entries } of this.#pending) {
      if (installs && snapshot !== undefined) ends.push(snapshot);
      ends.push(...entries);
    }
    const expected = ends.some(({ index, term }) => index === last.index && term === last.term);
    check(expected, 'end of the log', () =>
      [`member ${this.id} finds ${brief(last)}, not`, ...ends.map(brief)].join(' '),
    );
  }

  #say(now: HardState, before: HardState): string {
    return `member ${this.id}: ${JSON.stringify(now)} after ${JSON.stringify(before)}`;
  }
}

function brief({ index, term }: EntryId): string {
  return `${index}/${term}`;
}

function logOf({ hardState, base, entries, snapshot }: Recovered): MirrorLog {
  const log = new MirrorLog();
  log.base = base;
  log.entries = [...entries];
  log.hardState = hardState;
  log.snapshot = snapshot?.index ?? 0;
  return log;
}
