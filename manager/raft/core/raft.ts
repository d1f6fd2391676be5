/**
 * One member of a Raft group: its state, the moves between roles, and what it sends. Roles:
 *   follower      -> preCandidate/candidate on an election tick (campaign)
 *   preCandidate  -> candidate when a majority would vote; follower when it would not
 *   candidate     -> leader on a majority; follower on a refusal, a leader or a higher term
 *   leader        -> follower on a higher term, a lost quorum, or removal
 * What each role does with a message is in step.ts, leader.ts and follower.ts. No clock, socket,
 * disk or promise: time is tick(), output is `messages` and `afterAppend` (sent once durable).
 */
import { assert } from '../../../base/assert.ts';
import { applyChange, changerOf, restoreConf } from './confchange.ts';
import { RaftLog } from './log.ts';
import { Progress } from './progress.ts';
import { jointIds } from './quorum.ts';
import { ReadOnly } from './readonly.ts';
import { step } from './step.ts';
import { Tracker, toConfState } from './tracker.ts';
import {
  type ConfChange,
  type ConfState,
  EMPTY_BYTES,
  type Entry,
  type EntryType,
  type HardState,
  type Message,
  makeMessage,
  NO_LIMIT,
  NONE,
  payloadBytes,
  type RaftConfig,
  type ReadState,
  type Role,
  type SnapshotMeta,
  type SoftState,
  type StepError,
} from './types.ts';

export type CampaignKind = 'preElection' | 'election' | 'transfer';

/** Context of the vote requests of a transfer: they override the vote lease. */
const TRANSFER_CONTEXT: Uint8Array = Uint8Array.from('transfer', (char) => char.charCodeAt(0));

export function isTransferContext(context: Uint8Array): boolean {
  return (
    context.length === TRANSFER_CONTEXT.length &&
    context.every((byte, at) => byte === TRANSFER_CONTEXT[at])
  );
}

export class Raft {
  readonly id: number;
  readonly config: RaftConfig;
  readonly log: RaftLog;
  readonly tracker: Tracker;
  term = 0;
  vote = NONE;
  role: Role = 'follower';
  leader = NONE;
  isLearner = false;
  /** Who is to lead next; proposals are refused meanwhile. */
  transferee = NONE;
  /** A configuration change may be proposed once this index is applied. */
  pendingConfIndex = 0;
  uncommittedBytes = 0;
  electionElapsed = 0;
  heartbeatElapsed = 0;
  randomizedElectionTicks = 0;
  readOnly = new ReadOnly();
  /** Reads that came before this leader committed an entry of its own term. */
  pendingReads: Message[] = [];
  readStates: ReadState[] = [];
  messages: Message[] = [];
  /** Messages that promise durability: they go, or are taken in, after the append they follow. */
  afterAppend: Message[] = [];

  constructor(config: RaftConfig) {
    assert(config.id > 0 && Number.isSafeInteger(config.id), 'raft: id', { id: config.id });
    assert(config.heartbeatTicks > 0, 'raft: heartbeatTicks must be positive');
    assert(config.electionTicks > config.heartbeatTicks, 'raft: electionTicks too small');
    assert(config.maxInflightMessages > 0, 'raft: maxInflightMessages must be positive');
    const maxInflightBytes = config.maxInflightBytes ?? NO_LIMIT;
    assert(maxInflightBytes >= config.maxSizePerMessageBytes, 'raft: maxInflightBytes too small');
    this.id = config.id;
    this.config = config;
    this.log = new RaftLog(
      config.storage,
      config.maxApplyingBytes ?? config.maxSizePerMessageBytes,
    );
    this.tracker = new Tracker(config.maxInflightMessages, maxInflightBytes);
    const { hardState, confState } = config.storage.initialState();
    this.#restoreConfig(confState);
    if (hardState.term !== 0 || hardState.vote !== NONE || hardState.commit !== 0) {
      assert(
        hardState.commit >= this.log.committed && hardState.commit <= this.log.lastIndex(),
        'raft: stored commit index is outside the stored log',
        { commit: hardState.commit, first: this.log.committed, last: this.log.lastIndex() },
      );
      this.log.committed = hardState.commit;
      this.term = hardState.term;
      this.vote = hardState.vote;
    }
    if (config.applied > 0) this.log.appliedTo(config.applied, 0);
    this.becomeFollower(this.term, NONE);
  }

  get softState(): SoftState {
    return { leader: this.leader, role: this.role };
  }

  get hardState(): HardState {
    return { term: this.term, vote: this.vote, commit: this.log.committed };
  }

  step(message: Message): StepError | undefined {
    return step(this, message);
  }

  tick(): void {
    if (this.role === 'leader') this.#tickHeartbeat();
    else this.#tickElection();
  }

  #tickElection(): void {
    this.electionElapsed += 1;
    if (!this.promotable() || this.electionElapsed < this.randomizedElectionTicks) return;
    this.electionElapsed = 0;
    this.step(makeMessage('hup', NONE, { from: this.id }));
  }

  #tickHeartbeat(): void {
    this.heartbeatElapsed += 1;
    this.electionElapsed += 1;
    if (this.electionElapsed >= this.config.electionTicks) {
      this.electionElapsed = 0;
      if (this.config.checkQuorum) this.step(makeMessage('checkQuorum', NONE, { from: this.id }));
      // A transfer gets one election timeout; then this leader serves on.
      if (this.role === 'leader') this.transferee = NONE;
    }
    if (this.role !== 'leader') return;
    if (this.heartbeatElapsed >= this.config.heartbeatTicks) {
      this.heartbeatElapsed = 0;
      this.step(makeMessage('beat', NONE, { from: this.id }));
    }
  }

  // ---- roles ----

  #reset(term: number): void {
    assert(Number.isSafeInteger(term) && term >= this.term, 'raft: term goes back', {
      term,
      current: this.term,
    });
    if (this.term !== term) {
      this.term = term;
      this.vote = NONE;
    }
    this.leader = NONE;
    this.electionElapsed = 0;
    this.heartbeatElapsed = 0;
    this.resetElectionTimeout();
    this.transferee = NONE;
    this.tracker.resetVotes();
    const last = this.log.lastIndex();
    for (const [id, old] of this.tracker.progress) {
      const fresh = Progress.fresh(
        last + 1,
        old.isLearner,
        this.tracker.maxInflightMessages,
        this.tracker.maxInflightBytes,
      );
      if (id === this.id) fresh.match = last;
      this.tracker.progress.set(id, fresh);
    }
    this.pendingConfIndex = 0;
    this.uncommittedBytes = 0;
    this.readOnly = new ReadOnly();
  }

  resetElectionTimeout(): void {
    const ticks = this.config.electionTicks;
    this.randomizedElectionTicks = ticks + this.config.random.below(ticks);
  }

  becomeFollower(term: number, leader: number): void {
    this.#reset(term);
    this.leader = leader;
    this.#setRole('follower');
  }

  becomePreCandidate(): void {
    assert(this.role !== 'leader', 'raft: leader -> preCandidate');
    // Neither term nor vote changes: asking costs nothing.
    this.tracker.resetVotes();
    this.leader = NONE;
    this.#setRole('preCandidate');
  }

  becomeCandidate(): void {
    assert(this.role !== 'leader', 'raft: leader -> candidate');
    this.#reset(this.term + 1);
    this.vote = this.id;
    this.#setRole('candidate');
  }

  becomeLeader(): void {
    assert(this.role !== 'follower', 'raft: follower -> leader');
    this.#reset(this.term);
    this.leader = this.id;
    this.#setRole('leader');
    const own = this.tracker.progress.get(this.id);
    assert(own !== undefined, 'raft: a leader outside its configuration');
    own.becomeReplicate();
    own.recentActive = true;
    // Entries inherited from earlier terms may hold a configuration change: wait for them all.
    this.pendingConfIndex = this.log.lastIndex();
    const accepted = this.appendEntries([{ type: 'normal', data: EMPTY_BYTES }]);
    assert(accepted, 'raft: the empty entry of a new leader was refused');
  }

  #setRole(role: Role): void {
    this.role = role;
    this.config.trace?.({ kind: 'role', role, term: this.term, leader: this.leader });
  }

  /** A voter of the configuration in force that is not in the middle of installing a snapshot. */
  promotable(): boolean {
    const own = this.tracker.progress.get(this.id);
    return own !== undefined && !own.isLearner && this.log.unstable.snapshot === undefined;
  }

  campaign(kind: CampaignKind): void {
    const pre = kind === 'preElection';
    if (pre) this.becomePreCandidate();
    else this.becomeCandidate();
    const type = pre ? 'preVote' : 'vote';
    const term = pre ? this.term + 1 : this.term;
    const last = this.log.lastEntryId();
    const context = kind === 'transfer' ? TRANSFER_CONTEXT : EMPTY_BYTES;
    for (const id of jointIds(this.tracker.config.voters)) {
      if (id === this.id) {
        // The own vote counts once it is durable, like any other.
        this.send(makeMessage(pre ? 'preVoteResp' : 'voteResp', id, { term }));
      } else {
        this.send(makeMessage(type, id, { term, index: last.index, logTerm: last.term, context }));
      }
    }
  }

  // ---- sending ----

  send(message: Message): void {
    const { type } = message;
    const isVote =
      type === 'vote' || type === 'voteResp' || type === 'preVote' || type === 'preVoteResp';
    assert(isVote === (message.term !== 0), 'raft: term of a message to send', { type });
    // A forwarded proposal or read belongs to whatever term its receiver is in.
    const term = isVote ? message.term : type === 'propose' || type === 'readIndex' ? 0 : this.term;
    const from = message.from === NONE ? this.id : message.from;
    const complete: Message = { ...message, from, term };
    if (type === 'appendResp' || type === 'voteResp' || type === 'preVoteResp') {
      this.afterAppend.push(complete);
    } else {
      assert(message.to !== this.id, 'raft: message to oneself', { type });
      this.messages.push(complete);
    }
  }

  sendAppend(to: number): void {
    this.maybeSendAppend(to, true);
  }

  /** Sends what `to` lacks, as far as flow control allows; true when something went out. */
  maybeSendAppend(to: number, evenIfEmpty: boolean): boolean {
    const progress = this.tracker.progress.get(to);
    assert(progress !== undefined, 'raft: append to a stranger', { to });
    if (progress.isPaused()) return false;
    const prevIndex = progress.next - 1;
    const prevTerm = this.log.term(prevIndex);
    if (typeof prevTerm !== 'number') return this.#maybeSendSnapshot(to, progress);
    let entries: readonly Entry[] = [];
    // A full window still lets an empty append through: it carries the commit index.
    if (progress.state !== 'replicate' || !progress.inflights.full()) {
      const read = this.log.entries(progress.next, this.config.maxSizePerMessageBytes);
      if (typeof read === 'string') {
        return evenIfEmpty ? this.#maybeSendSnapshot(to, progress) : false;
      }
      entries = read;
    }
    if (entries.length === 0 && !evenIfEmpty) return false;
    const commit = this.log.committed;
    this.send(makeMessage('append', to, { index: prevIndex, logTerm: prevTerm, entries, commit }));
    progress.sentEntries(entries.length, payloadBytes(entries));
    progress.sentCommit = commit;
    return true;
  }

  #maybeSendSnapshot(to: number, progress: Progress): boolean {
    if (!progress.recentActive) return false;
    const snapshot = this.log.snapshot();
    if (snapshot === undefined) return false;
    assert(snapshot.index > 0, 'raft: empty snapshot');
    progress.becomeSnapshot(snapshot.index);
    this.send(makeMessage('snapshot', to, { snapshot }));
    return true;
  }

  #sendHeartbeat(to: number, progress: Progress, context: Uint8Array): void {
    // Not past what it holds: a follower must never commit an entry it does not have.
    const commit = Math.min(progress.match, this.log.committed);
    this.send(makeMessage('heartbeat', to, { commit, context }));
    progress.sentCommit = commit;
  }

  broadcastAppend(): void {
    this.tracker.visit((id) => {
      if (id !== this.id) this.sendAppend(id);
    });
  }

  broadcastHeartbeat(): void {
    const context = this.readOnly.heartbeatContext();
    this.tracker.visit((id, progress) => {
      if (id !== this.id) this.#sendHeartbeat(id, progress, context);
    });
  }

  // ---- log ----

  /** Appends own-term entries at the leader; false = refused by the uncommitted-bytes bound. */
  appendEntries(proposed: readonly { type: EntryType; data: Uint8Array }[]): boolean {
    const first = this.log.lastIndex() + 1;
    const entries = proposed.map(
      (entry, at): Entry => ({
        term: this.term,
        index: first + at,
        type: entry.type,
        data: entry.data,
      }),
    );
    const bytes = payloadBytes(entries);
    const limit = this.config.maxUncommittedBytes ?? NO_LIMIT;
    // One proposal of any size always goes when nothing else waits; empty ones always go.
    if (this.uncommittedBytes > 0 && bytes > 0 && this.uncommittedBytes + bytes > limit) {
      return false;
    }
    this.uncommittedBytes += bytes;
    const last = this.log.append(entries);
    this.send(makeMessage('appendResp', this.id, { index: last }));
    return true;
  }

  maybeCommit(): boolean {
    const index = this.tracker.committed();
    return this.log.maybeCommit({ term: this.term, index });
  }

  committedInOwnTerm(): boolean {
    return this.log.termOrZero(this.log.committed) === this.term;
  }

  reduceUncommitted(entries: readonly Entry[]): void {
    this.uncommittedBytes = Math.max(0, this.uncommittedBytes - payloadBytes(entries));
  }

  appliedTo(index: number, bytes: number): void {
    const applied = Math.max(index, this.log.applied);
    this.log.appliedTo(applied, bytes);
    const leave = this.tracker.config.autoLeave && applied >= this.pendingConfIndex;
    if (leave && this.role === 'leader') {
      // The leader itself leaves a joint configuration; refused (back-pressure, transfer), it
      // tries again after the next applied entry.
      const entries: Entry[] = [{ term: 0, index: 0, type: 'confChange', data: EMPTY_BYTES }];
      this.step(makeMessage('propose', NONE, { from: this.id, entries }));
    }
  }

  appliedSnapshot(snapshot: SnapshotMeta): void {
    this.log.unstable.stableSnapshotTo(snapshot.index);
    this.appliedTo(snapshot.index, 0);
  }

  // ---- configuration ----

  /** To be called for each committed change, in order. Throws ConfChangeError. */
  applyConfChange(change: ConfChange): ConfState {
    const changer = changerOf(this.tracker, this.log.lastIndex());
    const result = applyChange(changer, change);
    return this.#switchTo(result);
  }

  restoreSnapshotConfig(confState: ConfState): void {
    this.#restoreConfig(confState);
  }

  #restoreConfig(confState: ConfState): void {
    const last = this.log.lastEntryId().index;
    const result = restoreConf(changerOf(this.tracker, last), confState);
    const restored = this.#switchTo(result);
    assert(JSON.stringify(restored) === JSON.stringify(sorted(confState)), 'raft: conf state', {
      restored,
      confState,
    });
  }

  #switchTo(result: ReturnType<typeof applyChange>): ConfState {
    this.tracker.config = result.config;
    this.tracker.progress = result.progress;
    const confState = toConfState(result.config);
    this.config.trace?.({ kind: 'config', confState });
    const own = result.progress.get(this.id);
    this.isLearner = own?.isLearner === true;
    if ((own === undefined || this.isLearner) && this.role === 'leader') {
      if (this.config.stepDownOnRemoval === true) this.becomeFollower(this.term, NONE);
      return confState;
    }
    if (this.role !== 'leader' || confState.voters.length === 0) return confState;
    if (this.maybeCommit()) {
      // A smaller quorum may have committed more.
      this.broadcastAppend();
    } else {
      this.tracker.visit((id) => {
        if (id !== this.id) this.maybeSendAppend(id, false);
      });
    }
    const voters = result.config.voters;
    const stays = voters[0].has(this.transferee) || voters[1].has(this.transferee);
    if (!stays) this.transferee = NONE;
    return confState;
  }
}

function sorted(state: ConfState): ConfState {
  const sort = (ids: readonly number[]): number[] => [...ids].sort((a, b) => a - b);
  return {
    voters: sort(state.voters),
    votersOutgoing: sort(state.votersOutgoing),
    learners: sort(state.learners),
    learnersNext: sort(state.learnersNext),
    autoLeave: state.autoLeave,
  };
}
