/**
 * What all members together have promised, and the checks of Raft's own invariants, made as things
 * happen so that each costs little: election safety, one vote a term, log matching, append-only
 * leaders, leader completeness, commits on a quorum that holds them durably, one committed sequence
 * that never changes, and nothing said to others before the disk has said it.
 */
import { decodeConfChange } from '../../manager/raft/core/confCodec.ts';
import type { ConfChange, Entry, Message } from '../../manager/raft/core/types.ts';
import type { Recovered } from '../../manager/raft/disk/disk.ts';
import type { WalAppend } from '../../manager/raft/disk/wal.ts';
import type { RaftStatus } from '../../manager/raft/types.ts';
import {
  type Configuration,
  changed,
  hasQuorum,
  membersOf,
  NO_CONFIGURATION,
} from './configuration.ts';
import { Mirror } from './mirror.ts';
import { check } from './violation.ts';

/** Ids of members are given out upwards; a group that goes on from one takes out such a one. */
const GENERATION_IDS = 1_048_576;
/** Terms stay far below it, so (index, term) is one number. */
const TERMS = 1_048_576;

interface Known {
  readonly entry: Entry;
  readonly previousTerm: number;
}

interface InForce {
  /** From the application of the entry at this index on. */
  readonly index: number;
  readonly conf: Configuration;
  /** It changes nothing: with it the change before it is known to a quorum for good. */
  readonly settles: boolean;
}

/** The status last seen of one process. */
export interface Seen {
  status: RaftStatus;
}

export class Ledger {
  /** By index; 0 holds none. */
  readonly committed: (Entry | undefined)[] = [undefined];
  readonly configurations: InForce[] = [{ index: 0, conf: NO_CONFIGURATION, settles: true }];
  readonly #known = new Map<number, Known>();
  readonly #mirrors = new Map<number, Mirror>();
  readonly #leaders = new Map<number, number>();
  readonly #votes = new Map<string, number>();
  /** Those that are out for good, by the index of the entry that took them out. */
  readonly #removed = new Map<number, number>();
  /** By index: the term in which it was seen to be committed. */
  readonly #commitTerms: number[] = [0];
  readonly #onCommitted: (entry: Entry) => void;
  /** Entries of later terms come from leaders of this group. */
  #beganAfter = Number.POSITIVE_INFINITY;
  /** Terms of what was written by members that were not open. */
  readonly #alone = new Set<number>();
  elections = 0;

  /** `onCommitted` is told of each entry once, in order, before any member applies it. */
  constructor(onCommitted: (entry: Entry) => void) {
    this.#onCommitted = onCommitted;
  }

  get lastCommitted(): number {
    return this.committed.length - 1;
  }

  /** Of the newest committed change. */
  get configuration(): Configuration {
    return this.configurations[this.configurations.length - 1].conf;
  }

  /** Index of the newest committed change. */
  get lastChange(): number {
    return this.configurations[this.configurations.length - 1].index;
  }

  /** Whether the newest change, of those up to `index`, is settled: no crash can undo it. */
  isSettled(index = this.lastCommitted): boolean {
    const before = this.configurations.filter((change) => change.index <= index);
    return before[before.length - 1].settles;
  }

  /** Whether `id` holds a change that is not committed; it may be yet, or be replaced. */
  hasOpenChange(id: number): boolean {
    return this.mirror(id).written.entries.some(
      (entry) =>
        entry.type === 'confChange' &&
        this.committed[entry.index]?.term !== entry.term &&
        !settles(decodeConfChange(entry.data)),
    );
  }

  /** As the entries up to `applied` have it. */
  configurationAt(applied: number): Configuration {
    const inForce = this.#inForce(applied);
    return inForce[inForce.length - 1];
  }

  /** Also one of before that nobody here ever heard of. */
  wasRemoved(id: number): boolean {
    return this.#removedAt(id) !== undefined;
  }

  /** Whose id lies below it, and who is no member, belongs to the group as it was. */
  get generation(): number {
    const begun = [...this.#removed.keys()].filter((id) => id % GENERATION_IDS === 0);
    return Math.max(0, ...begun);
  }

  #removedAt(id: number): number | undefined {
    const index = this.#removed.get(id);
    const { generation } = this;
    if (index !== undefined || id > generation) return index;
    const isMember = membersOf(this.configuration).includes(id);
    return isMember ? undefined : this.#removed.get(generation);
  }

  /** An entry of before, with which a group goes on. */
  adopt(entry: Entry): void {
    this.#known.set(keyOf(entry), { entry, previousTerm: this.committed.at(-1)?.term ?? 0 });
    this.#append(entry, entry.term);
  }

  /** What member `id` has promised holds from now on here; there it stays as it is. */
  takeOver(before: Ledger, id: number): void {
    const mirror = before.mirror(id);
    before.#mirrors.set(id, mirror.copy());
    this.#mirrors.set(id, mirror);
    this.#beganAfter = mirror.written.hardState.term;
  }

  mirror(id: number): Mirror {
    let found = this.#mirrors.get(id);
    if (found === undefined) {
      found = new Mirror(id);
      this.#mirrors.set(id, found);
    }
    return found;
  }

  // ---- what a member writes ----

  recovered(id: number, found: Recovered): void {
    this.mirror(id).recovered(found, (entry) => {
      const known = this.#known.get(keyOf(entry));
      return known !== undefined && sameEntry(known.entry, entry);
    });
  }

  /** Before it is handed to the disk; `status` undefined while the member is opened. */
  handed(id: number, append: WalAppend, status: RaftStatus | undefined): void {
    const mirror = this.mirror(id);
    const { entries } = append;
    const last = mirror.written.lastIndex;
    if (status?.role === 'leader' && entries.length > 0) {
      check(entries[0].index === last + 1, 'append-only leader', () =>
        [`leader ${id} of term ${status.term} rewrites`, entries[0].index, last].join(' '),
      );
      this.#oneChange(id, entries, status);
    }
    const { commit } = mirror.written.hardState;
    // Who goes on alone adds to what it holds; it takes nothing back.
    check(
      status !== undefined || entries.length === 0 || entries[0].index === last + 1,
      'kept',
      () => [`member ${id} writes ${entries[0].index} after ${last} before it is open`].join(' '),
    );
    mirror.handed(append);
    for (const { term } of entries) {
      // Who goes on alone has a term of its own for what makes it so.
      if (status === undefined) this.#alone.add(term);
      const isLed = this.#leaders.has(term) || (status?.role === 'leader' && status.term === term);
      const isOwn = isLed || term <= this.#beganAfter || this.#alone.has(term);
      check(isOwn, 'merged', () => `member ${id} takes an entry of term ${term} from elsewhere`);
    }
    for (const entry of entries) this.#noteEntry(id, entry, mirror.written.term(entry.index - 1));
    // A commit is handed over together with what it covers, and before that is applied.
    if (mirror.written.hardState.commit > commit) this.#commit(id, commit, append, status);
  }

  acknowledged(id: number, append: WalAppend): void {
    this.mirror(id).acknowledged(append);
  }

  #oneChange(id: number, entries: readonly Entry[], status: RaftStatus): void {
    const { written } = this.mirror(id);
    for (const [at, entry] of entries.entries()) {
      if (entry.type !== 'confChange' || entry.term !== status.term) continue;
      let others = entries.slice(0, at).filter((earlier) => earlier.type === 'confChange');
      for (let index = status.applied + 1; index < entries[0].index; index += 1) {
        const earlier = written.entry(index);
        if (earlier?.type === 'confChange') others = [...others, earlier];
      }
      check(others.length === 0, 'one change', () => `leader ${id}: two changes under way`);
    }
  }

  #noteEntry(id: number, entry: Entry, previousTerm: number | undefined): void {
    const key = keyOf(entry);
    const known = this.#known.get(key);
    if (known === undefined) {
      this.#known.set(key, { entry, previousTerm: previousTerm ?? 0 });
      return;
    }
    const matches = previousTerm === undefined || known.previousTerm === previousTerm;
    check(matches && sameEntry(known.entry, entry), 'log matching', () =>
      [`member ${id} holds another entry ${entry.index} of term ${entry.term}`].join(' '),
    );
  }

  // ---- what a member says ----

  /** A message as it leaves member `from`. */
  said(from: number, message: Message): void {
    const { type, term, to } = message;
    if (type === 'append' || type === 'heartbeat' || type === 'snapshot' || type === 'timeoutNow') {
      this.#leads(from, term);
      if (type === 'timeoutNow') this.#handsOver(from, message);
    } else if (type === 'voteResp' && !message.reject) {
      const key = `${from}/${term}`;
      const other = this.#votes.get(key);
      check(other === undefined || other === to, 'one vote', () =>
        [`member ${from} voted for ${other} and ${to} in term ${term}`].join(' '),
      );
      this.#votes.set(key, to);
      const mirror = this.mirror(from);
      const durable = mirror.durableVotes.get(term);
      // With a later term durable it cannot vote in this one again, whatever it forgets.
      check(durable === to || mirror.durable.hardState.term > term, 'vote before durable', () =>
        [`member ${from} voted for ${to} in ${term}, its disk has ${durable}`].join(' '),
      );
    } else if (type === 'appendResp' && !message.reject) {
      const { durable } = this.mirror(from);
      // Accepted and replaced by a later leader before anything was written: that leader was chosen
      // by members none of whom had what is acknowledged here, so it cannot be committed any more.
      const isReplaced = durable.hardState.term > term;
      check(isReplaced || durable.lastIndex >= message.index, 'acknowledged before durable', () =>
        [`member ${from} has ${durable.lastIndex} durable, says ${message.index}`].join(' '),
      );
    }
  }

  /** Who is told to lead holds all that its predecessor wrote (Ongaro's thesis, 3.10). */
  #handsOver(from: number, { to, term }: Message): void {
    const { lastIndex, hardState } = this.mirror(to).durable;
    const own = this.mirror(from).written.lastIndex;
    check(lastIndex >= own || hardState.term > term, 'handed over too early', () =>
      [`leader ${from} with ${own} tells ${to} to lead, which has ${lastIndex}`].join(' '),
    );
  }

  #leads(id: number, term: number): void {
    const other = this.#leaders.get(term);
    check(other === undefined || other === id, 'election safety', () =>
      [`members ${other} and ${id} lead term ${term}`].join(' '),
    );
    if (other === undefined) {
      this.elections += 1;
      this.#leaders.set(term, id);
    }
  }

  /** Member `from` tells `to` that it is out, who leaves then: that must not be forgotten. */
  saidRemoved(from: number, to: number): void {
    const index = this.#removedAt(to);
    check(index !== undefined, 'removed', () => `member ${from} tells ${to} that it is out`);
    check(this.#isKnownForGood(index), 'removal told too early', () =>
      [`member ${from} tells ${to} of ${index}, which could be forgotten yet`].join(' '),
    );
  }

  /** Whether enough disks know that the change at `index` is committed, by that or a later one. */
  #isKnownForGood(index: number): boolean {
    const isSure = (voter: number): boolean => this.mirror(voter).sureCommit >= index;
    return this.#inForce(index).some((conf) => hasQuorum(conf, isSure));
  }

  /** Whoever asked member `id` for a change is told that it is made. */
  saidChanged(id: number, { applied }: RaftStatus): void {
    check(this.isSettled(applied), 'changed too early', () =>
      [`member ${id} calls a change made, with ${applied} applied`].join(' '),
    );
  }

  // ---- what a member is ----

  /** To be called whenever something may have changed, and before entries are applied. */
  observe(id: number, seen: Seen, status: RaftStatus): void {
    const before = seen.status;
    seen.status = status;
    const grows =
      status.term >= before.term &&
      status.commit >= before.commit &&
      status.applied >= before.applied;
    check(grows, 'monotonic', () => `member ${id}: ${JSON.stringify([before, status])}`);
    const ordered = status.applied <= status.commit && status.commit <= status.lastIndex;
    check(ordered, 'order', () => `member ${id}: ${JSON.stringify(status)}`);
    if (status.role === 'leader' && (before.role !== 'leader' || before.term !== status.term)) {
      this.#leads(id, status.term);
      this.#elected(id, status);
      this.#complete(id, status.term);
    }
    if (status.role === 'leader') {
      const { voters, outgoing } = this.configurationAt(status.applied);
      check(voters.has(id) || outgoing.has(id), 'leads as no voter', () => `member ${id}`);
    }
  }

  /** Votes that are lost in a crash elect nobody, and each half of a configuration elects. */
  #elected(id: number, { term, applied }: RaftStatus): void {
    const votes = (voter: number): boolean => this.mirror(voter).durableVotes.get(term) === id;
    const quorum = this.#inForce(applied).some((conf) => hasQuorum(conf, votes));
    check(quorum, 'elected without quorum', () => `member ${id} leads term ${term}`);
  }

  #commit(id: number, before: number, append: WalAppend, status: RaftStatus | undefined): void {
    const { written } = this.mirror(id);
    const { commit, term } = written.hardState;
    const fresh = commit > this.lastCommitted;
    for (let index = Math.max(before, written.base.index) + 1; index <= commit; index += 1) {
      const entry = written.entry(index);
      check(entry !== undefined, 'commit', () => `member ${id} commits ${index} without having it`);
      const known = this.committed[index];
      if (known === undefined) {
        check(index === this.committed.length, 'commit', () => `${index} leaves a gap`);
        const { lastChange } = this;
        this.#append(entry, term);
        const isKnown = this.lastChange === lastChange || this.#settlesWell(lastChange);
        check(
          isKnown,
          'settled too early',
          () => `${index} settles ${lastChange} on too few disks`,
        );
      } else {
        check(known.term === entry.term, 'committed entry changed', () =>
          [`member ${id} at ${index}: term ${entry.term}, was ${known.term}`].join(' '),
        );
      }
    }
    if (!fresh) return;
    const newest = this.committed[commit];
    check(newest !== undefined, 'commit', () => `member ${id} committed what nobody has`);
    const isLeader = status?.role === 'leader' && status.term === term;
    check(!isLeader || newest.term === term, 'commit of an older term', () =>
      [`leader ${id} of term ${term} commits ${commit} of term ${newest.term}`].join(' '),
    );
    // A new group's first entries are committed by agreement beforehand.
    if (status === undefined && append.entries.length > 0) return;
    const from = status?.role === 'leader' ? status.applied : 0;
    const quorum = this.#inForce(from).some((conf) =>
      hasQuorum(conf, (voter) => this.mirror(voter).durable.holds(newest)),
    );
    check(quorum, 'commit without quorum', () =>
      [`member ${id} (${status?.role}) commits ${commit} of term ${newest.term}`].join(' '),
    );
  }

  /** What was committed just now settles the change at `index`, if it says so. */
  #settlesWell(index: number): boolean {
    return !this.isSettled() || this.#isKnownForGood(index);
  }

  #append(entry: Entry, term: number): void {
    this.committed.push(entry);
    this.#commitTerms.push(term);
    this.#onCommitted(entry);
    if (entry.type !== 'confChange') return;
    const change = decodeConfChange(entry.data);
    const conf = changed(this.configuration, change, (id) => this.#removed.has(id));
    if (conf === undefined) return;
    const members = new Set(membersOf(conf));
    for (const id of membersOf(this.configuration)) {
      if (!members.has(id)) this.#removed.set(id, entry.index);
    }
    this.configurations.push({ index: entry.index, conf, settles: settles(change) });
  }

  /** The configuration at `applied` and those after it. */
  #inForce(applied: number): Configuration[] {
    const found: Configuration[] = [];
    for (let at = this.configurations.length - 1; at >= 0; at -= 1) {
      const { index, conf } = this.configurations[at];
      found.push(conf);
      if (index <= applied) break;
    }
    return found;
  }

  #complete(id: number, term: number): void {
    const { written } = this.mirror(id);
    for (let index = written.base.index + 1; index < this.committed.length; index += 1) {
      // What a later leader committed, one of an earlier term need not hold.
      if (this.#commitTerms[index] >= term) break;
      check(written.term(index) === this.committed[index]?.term, 'leader completeness', () =>
        [`leader ${id} of term ${term} lacks committed entry ${index}`].join(' '),
      );
    }
  }
}

function settles({ changes }: ConfChange): boolean {
  return changes.length === 1 && changes[0].type === 'update' && changes[0].id === 0;
}

function keyOf(entry: Entry): number {
  return entry.index * TERMS + entry.term;
}

function sameEntry(left: Entry, right: Entry): boolean {
  if (left === right) return true;
  return left.type === right.type && Buffer.compare(left.data, right.data) === 0;
}
