/**
 * The loop around the pure core: takes its ready() and writes, sends and applies, in the order the
 * core relies on. A message that promises durability leaves only once the write it follows is
 * synced; others leave at once, but for those that may wait (holdback.ts). A snapshot being
 * installed holds up the writes reported after it. Knows no time and answers no callers: node.ts
 * does.
 */

import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { encodeMessage } from './codec.ts';
import { decodeConfChange } from './core/confCodec.ts';
import { ConfChangeError } from './core/confchange.ts';
import type { MemoryLog } from './core/memoryLog.ts';
import type { Raft } from './core/raft.ts';
import { RawNode, type Ready } from './core/rawnode.ts';
import {
  APPEND_THREAD,
  APPLY_THREAD,
  type Entry,
  type Message,
  type SnapshotMeta,
  type SoftState,
} from './core/types.ts';
import type { RaftDisk } from './disk/disk.ts';
import { Holdback } from './holdback.ts';
import * as limits from './limits.ts';
import { isSettlement, type MemberTable, SETTLEMENT } from './memberTable.ts';
import { restoreMachine } from './startup.ts';
import type { AppliedEntry, RaftTransport, StateMachine } from './types.ts';

export interface EngineHost {
  readonly id: number;
  readonly log: Log;
  readonly random: Random;
  readonly clock: Pick<Clock, 'defer' | 'afterIdle'>;
  readonly disk: RaftDisk;
  readonly memory: MemoryLog;
  readonly table: MemberTable;
  readonly transport: RaftTransport;
  readonly stateMachine: StateMachine;
  /** Before ready() is looked at: the place to start reads. */
  beforePump(): void;
  onSoftState(state: SoftState): void;
  onReadState(context: Uint8Array, index: number): void;
  /** These entries are applied, or (`refusal`) skipped on every member. */
  onSettled(settled: readonly Settled[]): void;
  onMembersChanged(): void;
  /** Members that the last change took out are not needed again: they may be told. */
  onLetGo(): void;
  sendSnapshot(message: Message): void;
  /** A snapshot from the leader is in place. */
  onInstalled(): void;
  address(id: number): string | undefined;
  /** The state machine is in doubt: the process has to end. */
  onFatal(error: Error): void;
}

export interface Settled {
  readonly index: number;
  readonly term: number;
  readonly refusal: SwarmError | undefined;
}

export class Engine {
  readonly raw: RawNode;
  readonly #host: EngineHost;
  readonly #holdback: Holdback;
  /** Term of the last entry applied. */
  appliedTerm: number;
  #queued = false;
  #stopped = false;
  /** Writes that are durable and not taken in yet, in order. */
  #durable: (() => void | Promise<void>)[] = [];
  #installing = false;
  /** Changes of members that are applied and not settled: nobody is answered yet. */
  #unsettled: Settled[] = [];

  constructor(host: EngineHost) {
    this.#host = host;
    this.#holdback = new Holdback({
      clock: host.clock,
      send: (message) => this.#sendNow(message),
      quorum: () => this.#quorum(),
    });
    const snapshot = host.memory.snapshot();
    this.appliedTerm = snapshot?.term ?? 0;
    this.raw = new RawNode({
      id: host.id,
      electionTicks: limits.ELECTION_TICKS,
      heartbeatTicks: limits.HEARTBEAT_TICKS,
      storage: host.memory,
      applied: snapshot?.index ?? 0,
      random: host.random,
      asyncStorageWrites: true,
      maxSizePerMessageBytes: limits.MAX_MESSAGE_BYTES,
      maxApplyingBytes: limits.MAX_APPLYING_BYTES,
      maxUncommittedBytes: limits.MAX_UNCOMMITTED_BYTES,
      maxInflightMessages: limits.MAX_INFLIGHT_MESSAGES,
      maxInflightBytes: limits.MAX_INFLIGHT_BYTES,
      checkQuorum: true,
      preVote: true,
      disableProposalForwarding: true,
      stepDownOnRemoval: true,
    });
  }

  get raft(): Raft {
    return this.raw.raft;
  }

  get installing(): boolean {
    return this.#installing;
  }

  stop(): void {
    this.#stopped = true;
    this.#holdback.stop();
  }

  /**
   * Runs the loop once all that has arrived by now is taken in, so that what comes together goes
   * together: a batch costs little more than one write.
   */
  schedule(): void {
    if (this.#queued || this.#stopped) return;
    this.#queued = true;
    this.#host.clock.defer(() => {
      this.#queued = false;
      this.pump();
    });
  }

  pump(): void {
    if (this.#stopped) return;
    this.#host.beforePump();
    this.#settle();
    while (!this.#stopped && this.raw.hasReady()) {
      this.#handle(this.raw.ready());
      this.#settle();
    }
  }

  /**
   * A leader lets each change of members be followed by a settlement, also those of leaders before
   * it. Where it is refused (the lead is handed over, too much is under way) it is tried again.
   */
  #settle(): void {
    const { table, disk } = this.#host;
    if (table.isSettled || this.raft.role !== 'leader' || disk.full) return;
    const { log, tracker, pendingConfIndex } = this.raft;
    if (pendingConfIndex > log.applied || tracker.config.voters[1].size > 0) return;
    this.raw.proposeConfChange(SETTLEMENT);
  }

  #handle(ready: Ready): void {
    if (ready.softState !== undefined) {
      if (ready.softState.role !== 'leader') this.#holdback.stop();
      this.#host.onSoftState(ready.softState);
    }
    for (const message of ready.messages) {
      if (message.to !== APPEND_THREAD && message.to !== APPLY_THREAD) this.#send(message);
    }
    const write = ready.messages.find((message) => message.to === APPEND_THREAD);
    if (write !== undefined) {
      // First to the others: their disks work while this one does.
      this.#host.transport.flush();
      this.#write(ready, write);
    }
    for (const { context, index } of ready.readStates) this.#host.onReadState(context, index);
    const apply = ready.messages.find((message) => message.to === APPLY_THREAD);
    if (apply !== undefined) this.#apply(apply);
    else if (ready.readStates.length > 0) this.#host.onSettled([]);
  }

  #send(message: Message): void {
    if (message.type === 'snapshot') {
      this.#host.sendSnapshot(message);
      return;
    }
    if (!this.#holdback.takes(message)) this.#sendNow(message);
  }

  #sendNow(message: Message): void {
    const address = this.#host.address(message.to);
    if (address === undefined) return;
    this.#host.transport.send(message.to, address, encodeMessage(message));
  }

  #write(ready: Ready, message: Message): void {
    const { snapshot, hardState, entries } = ready;
    this.#host.disk.append({
      entries,
      hardState,
      snapshot,
      installs: snapshot !== undefined,
      sync: ready.mustSync || snapshot !== undefined,
      done: () => {
        this.#durable.push(() => this.#written(ready, message.responses));
        if (!this.#installing) this.#drainDurable();
      },
    });
  }

  /** In order; one that installs a snapshot holds up those after it. */
  #drainDurable(): void {
    for (let next = this.#durable.shift(); next !== undefined; next = this.#durable.shift()) {
      if (this.#stopped) return;
      const wait = next();
      if (wait === undefined) continue;
      this.#installing = true;
      void wait.then(() => {
        this.#installing = false;
        this.#drainDurable();
      });
      return;
    }
    this.schedule();
  }

  #written(ready: Ready, responses: readonly Message[]): undefined | Promise<void> {
    const { memory } = this.#host;
    if (ready.hardState !== undefined) memory.setHardState(ready.hardState);
    if (ready.snapshot !== undefined) {
      return this.#install(ready.snapshot, ready.entries, responses);
    }
    memory.append(ready.entries);
    this.#respond(responses);
    return undefined;
  }

  #respond(responses: readonly Message[]): void {
    for (const response of responses) {
      if (response.to === this.#host.id) this.raw.step(response);
      else this.#send(response);
    }
  }

  /** Never rejects: what goes wrong here is fatal. */
  async #install(
    snapshot: SnapshotMeta,
    entries: readonly Entry[],
    responses: readonly Message[],
  ): Promise<void> {
    const { memory, disk, stateMachine, table, log } = this.#host;
    memory.installSnapshot(snapshot);
    memory.append(entries);
    try {
      await restoreMachine(disk, stateMachine, snapshot);
      if (this.#stopped) return;
      table.restore(snapshot.data, snapshot.confState);
    } catch (error) {
      this.#host.onFatal(error instanceof Error ? error : new Error(messageOf(error)));
      return;
    }
    this.appliedTerm = snapshot.term;
    this.#unsettled = [];
    log.info('raft: snapshot installed', { index: snapshot.index });
    this.#host.onMembersChanged();
    this.#host.onInstalled();
    this.#respond(responses);
    this.#host.onSettled([]);
  }

  #apply(message: Message): void {
    const { stateMachine } = this.#host;
    let batch: AppliedEntry[] = [];
    const settled: Settled[] = [];
    const flush = (): void => {
      if (batch.length > 0) stateMachine.apply(batch);
      batch = [];
    };
    for (const entry of message.entries) {
      const { index, term } = entry;
      this.appliedTerm = term;
      if (entry.type === 'confChange') {
        flush();
        settled.push(...this.#applyConfChange(entry));
        continue;
      }
      if (entry.data.length > 0) batch.push({ index, term, data: entry.data });
      settled.push({ index, term, refusal: undefined });
    }
    flush();
    this.#respond(message.responses);
    this.#host.onSettled(settled);
  }

  /**
   * Every member decides the same about a change that cannot be made: it is skipped. Returns what
   * can be answered now: a change that is made can be once it is settled.
   */
  #applyConfChange(entry: Entry): readonly Settled[] {
    const { table, log } = this.#host;
    const { index, term } = entry;
    const change = table.admissible(decodeConfChange(entry.data));
    try {
      const confState = this.raw.applyConfChange(change);
      // Until they hear of it, the others would ask those for votes who may be gone by then.
      this.#holdback.tellAll();
      table.applied(change, confState);
    } catch (error) {
      if (!(error instanceof ConfChangeError)) throw error;
      log.warn('raft: change of members skipped', { why: error.message });
      const why = `the managers could not be changed: ${error.message}`;
      return [{ index, term, refusal: new SwarmError('conflict', why) }];
    }
    if (!isSettlement(change)) {
      this.#unsettled.push({ index, term, refusal: undefined });
      this.#host.onMembersChanged();
      return [];
    }
    const settled = this.#unsettled;
    this.#unsettled = [];
    this.#host.onLetGo();
    return settled;
  }

  /** While members change every answer counts; who needs more than the next entries is no help. */
  #quorum(): { able: readonly number[]; needed: number } {
    const { config, progress } = this.raft.tracker;
    const [voters, outgoing] = config.voters;
    if (outgoing.size > 0) return { able: [], needed: 0 };
    const able: number[] = [];
    for (const id of voters) {
      if (id !== this.#host.id && progress.get(id)?.state === 'replicate') able.push(id);
    }
    const others = Math.floor(voters.size / 2);
    return { able, needed: voters.has(this.#host.id) ? others : others + 1 };
  }

  /** Of another member. */
  receive(message: Message): void {
    this.#holdback.heard(message.from);
    // Who has a committed change of members to apply yet does not stand, and is not asked again.
    if (message.type === 'timeoutNow') this.pump();
    this.raw.step(message);
  }

  /** This member waits to hear how far the log is committed. */
  tell(id: number): void {
    this.#holdback.tell(id);
  }

  /** What a snapshot taken now is of. */
  describeSnapshot(): SnapshotMeta {
    const { table } = this.#host;
    return {
      index: this.raft.log.applied,
      term: this.appliedTerm,
      confState: table.confState,
      data: table.encode(),
    };
  }
}
