/**
 * The core's outside: input by tick, step, propose and the like; output by ready(), which says what
 * to write, send and apply. With asyncStorageWrites the write and the apply are messages to
 * APPEND_THREAD and APPLY_THREAD, whose `responses` the driver delivers (own ones by step) once
 * done, in order; else advance() must follow each ready(). Does no I/O. etcd-io/raft rawnode.go.
 */
import { assert } from '../../../base/assert.ts';
import { encodeConfChange } from './confCodec.ts';
import { Raft } from './raft.ts';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  type ConfChange,
  type ConfState,
  type Entry,
  type EntryType,
  entriesBytes,
  type HardState,
  type Message,
  type MessageType,
  makeMessage,
  NONE,
  type RaftConfig,
  type ReadState,
  type SnapshotMeta,
  type SoftState,
  type StepError,
} from './types.ts';

export interface Ready {
  /** Set when the leader or the own role changed. */
  readonly softState: SoftState | undefined;
  /** Set when it changed; durable before `messages` (sync) or the write's responses (async). */
  readonly hardState: HardState | undefined;
  readonly entries: readonly Entry[];
  readonly snapshot: SnapshotMeta | undefined;
  readonly committedEntries: readonly Entry[];
  readonly messages: readonly Message[];
  readonly readStates: readonly ReadState[];
  /** False when only the commit index changed: that write needs no sync. */
  readonly mustSync: boolean;
}

const LOCAL: ReadonlySet<MessageType> = new Set<MessageType>([
  'hup',
  'beat',
  'unreachable',
  'snapshotStatus',
  'checkQuorum',
  'storageAppend',
  'storageAppendResp',
  'storageApply',
  'storageApplyResp',
]);

const RESPONSES: ReadonlySet<MessageType> = new Set<MessageType>([
  'appendResp',
  'voteResp',
  'heartbeatResp',
  'unreachable',
  'readIndexResp',
  'preVoteResp',
  'storageAppendResp',
  'storageApplyResp',
]);

export class RawNode {
  readonly raft: Raft;
  readonly #async: boolean;
  #previousSoft: SoftState;
  #previousHard: HardState;
  #stepsOnAdvance: Message[] = [];

  constructor(config: RaftConfig) {
    this.raft = new Raft(config);
    this.#async = config.asyncStorageWrites;
    this.#previousSoft = this.raft.softState;
    this.#previousHard = this.raft.hardState;
  }

  tick(): void {
    this.raft.tick();
  }

  campaign(): void {
    this.raft.step(makeMessage('hup', NONE, {}));
  }

  /** A leader appends it at lastIndex + 1 in its term; a follower forwards it, if allowed. */
  propose(data: Uint8Array): StepError | undefined {
    return this.#propose('normal', [data]);
  }

  /** All of them, in this order, or none. */
  proposeAll(data: readonly Uint8Array[]): StepError | undefined {
    return this.#propose('normal', data);
  }

  /** A change that may not be made now is replaced by an empty entry, as it is in etcd. */
  proposeConfChange(change: ConfChange): StepError | undefined {
    return this.#propose('confChange', [encodeConfChange(change)]);
  }

  #propose(type: EntryType, all: readonly Uint8Array[]): StepError | undefined {
    const entries = all.map((data): Entry => ({ term: 0, index: 0, type, data }));
    return this.raft.step(makeMessage('propose', NONE, { from: this.raft.id, entries }));
  }

  applyConfChange(change: ConfChange): ConfState {
    return this.raft.applyConfChange(change);
  }

  /** A message from another member, or a response from the own disk. */
  step(message: Message): StepError | undefined {
    const fromDisk = message.from === APPEND_THREAD || message.from === APPLY_THREAD;
    if (LOCAL.has(message.type) && !fromDisk) return 'local_message';
    if (RESPONSES.has(message.type) && !fromDisk) {
      if (!this.raft.tracker.progress.has(message.from)) return 'unknown_peer';
    }
    return this.raft.step(message);
  }

  reportUnreachable(id: number): void {
    this.raft.step(makeMessage('unreachable', NONE, { from: id }));
  }

  reportSnapshot(id: number, ok: boolean): void {
    this.raft.step(makeMessage('snapshotStatus', NONE, { from: id, reject: !ok }));
  }

  transferLeadership(to: number): void {
    this.raft.step(makeMessage('transferLeader', NONE, { from: to }));
  }

  forgetLeader(): void {
    this.raft.step(makeMessage('forgetLeader', NONE, {}));
  }

  /** The answer comes as a ReadState with this context; or never: ask again, with a new one. */
  readIndex(context: Uint8Array): void {
    const entries: Entry[] = [{ term: 0, index: 0, type: 'normal', data: context }];
    this.raft.step(makeMessage('readIndex', NONE, { entries }));
  }

  hasReady(): boolean {
    const { raft } = this;
    return (
      !sameSoft(raft.softState, this.#previousSoft) ||
      !sameHard(raft.hardState, this.#previousHard) ||
      raft.log.unstable.nextSnapshot() !== undefined ||
      raft.messages.length > 0 ||
      raft.afterAppend.length > 0 ||
      raft.log.unstable.nextEntries().length > 0 ||
      raft.log.hasNextCommitted(!this.#async) ||
      raft.readStates.length > 0
    );
  }

  ready(): Ready {
    const ready = this.#collect();
    this.#accept(ready);
    return ready;
  }

  #collect(): Ready {
    const { raft } = this;
    const entries = raft.log.unstable.nextEntries();
    const committedEntries = raft.log.nextCommitted(!this.#async);
    const hard = raft.hardState;
    const hardState = sameHard(hard, this.#previousHard) ? undefined : hard;
    const snapshot = raft.log.unstable.nextSnapshot();
    const softState = sameSoft(raft.softState, this.#previousSoft) ? undefined : raft.softState;
    const messages = raft.messages.slice();
    if (this.#async) {
      const write =
        entries.length > 0 ||
        hardState !== undefined ||
        snapshot !== undefined ||
        raft.afterAppend.length > 0;
      if (write) messages.push(this.#appendMessage(entries, hardState, snapshot));
      if (committedEntries.length > 0) messages.push(this.#applyMessage(committedEntries));
    } else {
      messages.push(...raft.afterAppend.filter((message) => message.to !== raft.id));
    }
    return {
      softState,
      hardState,
      entries,
      snapshot,
      committedEntries,
      messages,
      readStates: raft.readStates.slice(),
      mustSync:
        entries.length !== 0 ||
        hard.vote !== this.#previousHard.vote ||
        hard.term !== this.#previousHard.term,
    };
  }

  #appendMessage(
    entries: readonly Entry[],
    hardState: HardState | undefined,
    snapshot: SnapshotMeta | undefined,
  ): Message {
    const { raft } = this;
    const responses = raft.afterAppend.slice();
    if (this.#needsAppendResponse(snapshot)) responses.push(this.#appendResponse(snapshot));
    return makeMessage('storageAppend', APPEND_THREAD, {
      from: raft.id,
      entries,
      term: hardState?.term ?? 0,
      vote: hardState?.vote ?? 0,
      commit: hardState?.commit ?? 0,
      snapshot,
      responses,
    });
  }

  /** Also without new entries: an earlier write may have been voided by a change of term. */
  #needsAppendResponse(snapshot: SnapshotMeta | undefined): boolean {
    return this.raft.log.unstable.entries.length > 0 || snapshot !== undefined;
  }

  #appendResponse(snapshot: SnapshotMeta | undefined): Message {
    const { raft } = this;
    // The term makes it void once another leader may have replaced entries behind its back: with
    // writes under way, an entry of this index and term could otherwise be believed durable (ABA).
    const last =
      raft.log.unstable.entries.length > 0 ? raft.log.lastEntryId() : { index: 0, term: 0 };
    return makeMessage('storageAppendResp', raft.id, {
      from: APPEND_THREAD,
      term: raft.term,
      index: last.index,
      logTerm: last.term,
      snapshot,
    });
  }

  #applyMessage(entries: readonly Entry[]): Message {
    return makeMessage('storageApply', APPLY_THREAD, {
      from: this.raft.id,
      entries,
      responses: [this.#applyResponse(entries)],
    });
  }

  #applyResponse(entries: readonly Entry[]): Message {
    return makeMessage('storageApplyResp', this.raft.id, { from: APPLY_THREAD, entries });
  }

  #accept(ready: Ready): void {
    const { raft } = this;
    if (ready.softState !== undefined) this.#previousSoft = ready.softState;
    if (ready.hardState !== undefined) this.#previousHard = ready.hardState;
    if (!this.#async) {
      assert(this.#stepsOnAdvance.length === 0, 'raft: ready() twice without advance()');
      for (const message of raft.afterAppend) {
        if (message.to === raft.id) this.#stepsOnAdvance.push(message);
      }
      if (this.#needsAppendResponse(ready.snapshot)) {
        this.#stepsOnAdvance.push(this.#appendResponse(ready.snapshot));
      }
      if (ready.committedEntries.length > 0) {
        this.#stepsOnAdvance.push(this.#applyResponse(ready.committedEntries));
      }
    }
    raft.readStates = [];
    raft.messages = [];
    raft.afterAppend = [];
    raft.log.unstable.acceptInProgress();
    const { committedEntries } = ready;
    if (committedEntries.length > 0) {
      const { index } = committedEntries[committedEntries.length - 1];
      raft.log.acceptApplying(index, entriesBytes(committedEntries), !this.#async);
    }
  }

  /** Sync mode only: everything of the last ready() has been written, sent and applied. */
  advance(): void {
    assert(!this.#async, 'raft: advance() with asynchronous storage');
    const steps = this.#stepsOnAdvance;
    this.#stepsOnAdvance = [];
    for (const message of steps) this.raft.step(message);
  }
}

function sameSoft(left: SoftState, right: SoftState): boolean {
  return left.leader === right.leader && left.role === right.role;
}

function sameHard(left: HardState, right: HardState): boolean {
  return left.term === right.term && left.vote === right.vote && left.commit === right.commit;
}
