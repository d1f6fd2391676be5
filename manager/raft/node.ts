/**
 * One manager's Raft member: drives the pure core with a clock, a disk and a transport. Ticks (one a
 * wake-up, however late), delivers messages, writes what the core wants durable, applies what is
 * committed, answers callers. Decides nothing about consensus. Order: a message that promises
 * durability leaves only after the write before it is synced; others leave at once.
 */
import { assert } from '../../base/assert.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { Signal, withDeadline } from '../../base/queue.ts';
import type { Random } from '../../base/random.ts';
import { decodeMessage, encodeMessage } from './codec.ts';
import { decodeConfChange, encodeConfChange } from './core/confCodec.ts';
import { ConfChangeError } from './core/confchange.ts';
import { MemoryLog } from './core/memoryLog.ts';
import { RawNode, type Ready } from './core/rawnode.ts';
import type { ConfChange, Entry, Message, SnapshotMeta, SoftState } from './core/types.ts';
import { APPEND_THREAD, APPLY_THREAD, NONE } from './core/types.ts';
import { DiskStore, type RaftDisk } from './disk/disk.ts';
import * as limits from './limits.ts';
import { Membership } from './membership.ts';
import { encodeAddresses, MemberTable } from './memberTable.ts';
import { Proposals } from './proposals.ts';
import { Reads } from './reads.ts';
import { Snapshots } from './snapshots.ts';
import type {
  AppliedEntry,
  Leadership,
  Member,
  MemberAddress,
  MemberStatus,
  RaftStatus,
  RaftTransport,
  StateMachine,
} from './types.ts';

export interface RaftNodeOptions {
  /** A positive safe integer, new for every member that ever joins. */
  readonly id: number;
  /** The member's state: `<dir>/wal` and `<dir>/snap`. */
  readonly dir: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly transport: RaftTransport;
  readonly stateMachine: StateMachine;
  /** First start of a new group: the same voters, in the same order, on each of them. */
  readonly bootstrap?: { readonly voters: readonly MemberAddress[] };
  /** First start of a member that a leader adds to its group. */
  readonly join?: boolean;
  /** The log may not have been written: the process has to end. */
  readonly onFatal: (error: Error) => void;
  /** Tests and the simulator bring their own; default: a DiskStore on `dir`. */
  readonly disk?: RaftDisk;
  /** Entries between snapshots; default 10,000. */
  readonly snapshotEntries?: number;
}

const NOTHING = { entries: [], hardState: undefined, snapshot: undefined, installs: false };

export class RaftNode {
  readonly id: number;
  readonly #options: RaftNodeOptions;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #disk: RaftDisk;
  readonly #memory: MemoryLog;
  readonly #table: MemberTable;
  readonly #raw: RawNode;
  readonly #proposals = new Proposals();
  readonly #reads: Reads;
  readonly #snapshots: Snapshots;
  readonly #membership: Membership;
  readonly #leadershipChanged = new Signal<Leadership>();
  #leadership: Leadership;
  /** Applied an entry of the present term: as leader it may act. */
  #ownTermApplied = false;
  readonly #heardAtMs = new Map<number, number>();
  readonly #learnedAddresses = new Map<number, string>();
  #appliedTerm = 0;
  #pausedMs = 0;
  #tickDueMs = 0;
  #tickTimer: Timer | undefined = undefined;
  #pumpQueued = false;
  /** Writes that are durable, in order, while one of them installs a snapshot. */
  #durable: (() => void | Promise<void>)[] = [];
  #installing = false;
  #handedOverAtMs = Number.NEGATIVE_INFINITY;
  #stopped = false;

  /**
   * Opens the member's state and joins in. SwarmError corrupt when stored state fails its checks,
   * invalid when there is none and neither `bootstrap` nor `join` is given.
   */
  static async open(options: RaftNodeOptions): Promise<RaftNode> {
    let node: RaftNode | undefined;
    const onFatal = (error: Error): void => {
      if (node !== undefined)
        node.#halt(new SwarmError('unavailable', 'this manager is stopping: its disk failed'));
      options.onFatal(error);
    };
    const disk =
      options.disk ??
      (await DiskStore.open({
        directory: options.dir,
        nodeId: options.id,
        clock: options.clock,
        log: options.log,
        onFatal,
      }));
    try {
      const memory = new MemoryLog();
      await loadState(options, disk, memory);
      const table = new MemberTable();
      const snapshot = memory.snapshot();
      if (snapshot !== undefined) {
        table.restore(snapshot.data, snapshot.confState);
        await restoreFrom(disk, options.stateMachine, snapshot);
        options.stateMachine.membersChanged(table.members());
      }
      node = new RaftNode(options, disk, memory, table);
    } catch (error) {
      await disk.close();
      throw error;
    }
    node.#start();
    return node;
  }

  private constructor(
    options: RaftNodeOptions,
    disk: RaftDisk,
    memory: MemoryLog,
    table: MemberTable,
  ) {
    this.id = options.id;
    this.#options = options;
    this.#clock = options.clock;
    this.#log = options.log.with({ raftId: options.id });
    this.#disk = disk;
    this.#memory = memory;
    this.#table = table;
    const snapshot = memory.snapshot();
    this.#appliedTerm = snapshot?.term ?? 0;
    this.#raw = new RawNode({
      id: options.id,
      electionTicks: limits.ELECTION_TICKS,
      heartbeatTicks: limits.HEARTBEAT_TICKS,
      storage: memory,
      applied: snapshot?.index ?? 0,
      random: options.random,
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
    this.#leadership = { isLeader: false, leaderId: undefined, term: this.#raw.raft.term };
    this.#reads = new Reads(options.random.bytes(8));
    this.#snapshots = new Snapshots(
      {
        clock: options.clock,
        log: this.#log,
        disk,
        memory,
        transport: options.transport,
        stateMachine: options.stateMachine,
        describe: () => this.#describeSnapshot(),
        address: (id) => this.#addressOf(id),
        reportSnapshot: (id, ok) => {
          this.#raw.reportSnapshot(id, ok);
          this.#schedule();
        },
      },
      options.snapshotEntries,
    );
    this.#membership = new Membership({
      table,
      id: options.id,
      requireLeader: () => this.#requireReadyLeader(),
      members: () => this.members(),
      proposeConfChange: (change) => this.#proposeConfChange(change),
      sleep: (ms) => options.clock.sleep(ms),
      activeMs: () => this.#activeMs(),
    });
  }

  #start(): void {
    const { transport } = this.#options;
    transport.start({
      onMessage: (from, bytes) => this.#onMessage(from, bytes),
      onSnapshot: (from, bytes, chunks) => this.#onSnapshot(from, bytes, chunks),
      onUnreachable: (id) => {
        if (this.#stopped) return;
        this.#raw.reportUnreachable(id);
        this.#schedule();
      },
    });
    transport.setPeers(this.#peers());
    this.#disk.spaceChanged.listen((full) => this.#onSpace(full));
    this.#pump();
    // Alone there is nobody to wait for.
    if (this.#raw.raft.tracker.isSingleton()) this.#raw.campaign();
    this.#pump();
    this.#tickDueMs = this.#clock.nowMs() + limits.TICK_MS;
    this.#tickTimer = this.#clock.after(limits.TICK_MS, () => this.#tick());
  }

  // ---- time ----

  /** Monotonic milliseconds without this process's own pauses; deadlines count in it. */
  #activeMs(): number {
    return this.#clock.nowMs() - this.#pausedMs;
  }

  #tick(): void {
    const nowMs = this.#clock.nowMs();
    const lateMs = nowMs - this.#tickDueMs;
    if (lateMs > limits.PAUSE_MS) {
      this.#pausedMs += lateMs;
      this.#log.warn('raft: this process paused', { pausedMs: Math.round(lateMs) });
    }
    // One tick a wake-up: time that was slept through is no silence of the leader's.
    this.#raw.tick();
    this.#expire();
    this.#pump();
    if (this.#stopped) return;
    const dueMs = this.#tickDueMs + limits.TICK_MS;
    this.#tickDueMs = dueMs > nowMs ? dueMs : nowMs + limits.TICK_MS;
    this.#tickTimer = this.#clock.after(this.#tickDueMs - nowMs, () => this.#tick());
  }

  #expire(): void {
    const nowMs = this.#activeMs();
    this.#proposals.expire(
      nowMs,
      () =>
        new SwarmError(
          'no_quorum',
          `the managers did not agree within ${limits.PROPOSAL_TIMEOUT_MS} ms, and whether the ` +
            `change is made is not known yet: ${this.#describeSilence()}`,
        ),
    );
    this.#reads.expire(nowMs, () => this.#noQuorum());
  }

  #noQuorum(): SwarmError {
    return new SwarmError('no_quorum', `the managers have no quorum: ${this.#describeSilence()}`);
  }

  /** Which voters are silent, as far as this member can tell. */
  #describeSilence(): string {
    const voters = this.members().filter((member) => !member.learner);
    const silent = voters.filter((voter) => !this.#heardLately(voter.id));
    const needed = Math.floor(voters.length / 2) + 1;
    const answering = voters.length - silent.length;
    const names = silent.map((voter) => voter.address).join(', ');
    const list = silent.length === 0 ? '' : `; not answering: ${names}`;
    return `${answering} of ${voters.length} managers answer, ${needed} are needed${list}`;
  }

  #heardLately(id: number): boolean {
    if (id === this.id) return true;
    const heardMs = this.#heardAtMs.get(id);
    return heardMs !== undefined && this.#activeMs() - heardMs <= limits.REACHABLE_MS;
  }

  // ---- messages in ----

  #onMessage(from: MemberAddress, bytes: Uint8Array): void {
    if (this.#stopped) return;
    let message: Message;
    try {
      message = decodeMessage(bytes);
    } catch (error) {
      this.#log.warn('raft: unreadable message dropped', {
        from: from.id,
        error: messageOf(error),
      });
      return;
    }
    this.#deliver(from, message);
  }

  #deliver(from: MemberAddress, message: Message): void {
    if (message.from !== from.id || message.to !== this.id) return;
    if (this.#table.wasRemoved(from.id)) return;
    this.#heardAtMs.set(from.id, this.#activeMs());
    if (this.#table.address(from.id) === undefined) {
      this.#learnedAddresses.set(from.id, from.address);
    }
    // A full disk takes no entries; votes and heartbeats go on, so the leader stays known.
    if (this.#disk.full && message.type === 'append' && message.entries.length > 0) return;
    this.#raw.step(message);
    this.#schedule();
  }

  async #onSnapshot(
    from: MemberAddress,
    bytes: Uint8Array,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const message = decodeMessage(bytes);
    const { snapshot } = message;
    const { raft } = this.#raw;
    if (this.#stopped || snapshot === undefined) return;
    const wanted =
      message.term >= raft.term && snapshot.index > raft.log.committed && !this.#installing;
    if (wanted) await this.#snapshots.receive(snapshot, chunks);
    if (!this.#stopped) this.#deliver(from, message);
  }

  // ---- the loop ----

  /** Runs the loop at the end of this turn, so that what comes together goes together. */
  #schedule(): void {
    if (this.#pumpQueued || this.#stopped) return;
    this.#pumpQueued = true;
    queueMicrotask(() => {
      this.#pumpQueued = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#stopped) return;
    const context = this.#reads.nextContext(this.#activeMs());
    if (context !== undefined) this.#raw.readIndex(context);
    while (!this.#stopped && this.#raw.hasReady()) this.#handle(this.#raw.ready());
  }

  #handle(ready: Ready): void {
    if (ready.softState !== undefined) this.#onSoftState(ready.softState);
    for (const message of ready.messages) {
      if (message.to === APPEND_THREAD) this.#write(ready, message);
      else if (message.to !== APPLY_THREAD) this.#send(message);
    }
    for (const { context, index } of ready.readStates) this.#reads.answered(context, index);
    for (const message of ready.messages) {
      if (message.to === APPLY_THREAD) this.#apply(message);
    }
    this.#reads.applied(this.#raw.raft.log.applied);
  }

  #send(message: Message): void {
    if (message.type === 'snapshot') {
      this.#snapshots.send(message);
      return;
    }
    const address = this.#addressOf(message.to);
    if (address === undefined) return;
    this.#options.transport.send(message.to, address, encodeMessage(message));
  }

  #addressOf(id: number): string | undefined {
    return this.#table.address(id) ?? this.#learnedAddresses.get(id);
  }

  #write(ready: Ready, message: Message): void {
    const { snapshot, hardState, entries } = ready;
    this.#disk.append({
      entries,
      hardState,
      snapshot,
      installs: snapshot !== undefined,
      sync: ready.mustSync || snapshot !== undefined,
      done: () => {
        this.#durable.push(() => this.#written(ready, message.responses));
        if (!this.#installing) void this.#drainDurable();
      },
    });
  }

  /** In order; the one that installs a snapshot holds up those after it. */
  async #drainDurable(): Promise<void> {
    for (let next = this.#durable.shift(); next !== undefined; next = this.#durable.shift()) {
      if (this.#stopped) return;
      const wait = next();
      if (wait === undefined) continue;
      this.#installing = true;
      await wait;
      this.#installing = false;
    }
    this.#schedule();
  }

  #written(ready: Ready, responses: readonly Message[]): void | Promise<void> {
    if (ready.hardState !== undefined) this.#memory.setHardState(ready.hardState);
    if (ready.snapshot === undefined) {
      this.#memory.append(ready.entries);
      this.#respond(responses);
      return undefined;
    }
    return this.#install(ready.snapshot, ready.entries, responses);
  }

  #respond(responses: readonly Message[]): void {
    for (const response of responses) {
      if (response.to === this.id) this.#raw.step(response);
      else this.#send(response);
    }
  }

  async #install(
    snapshot: SnapshotMeta,
    entries: readonly Entry[],
    responses: readonly Message[],
  ): Promise<void> {
    this.#memory.installSnapshot(snapshot);
    this.#memory.append(entries);
    try {
      await restoreFrom(this.#disk, this.#options.stateMachine, snapshot);
    } catch (error) {
      this.#halt(new SwarmError('unavailable', 'this manager is stopping: a snapshot failed'));
      this.#options.onFatal(error instanceof Error ? error : new Error(messageOf(error)));
      return;
    }
    if (this.#stopped) return;
    this.#table.restore(snapshot.data, snapshot.confState);
    this.#appliedTerm = snapshot.term;
    this.#log.info('raft: snapshot installed', { index: snapshot.index });
    this.#membersChanged();
    this.#snapshots.cut();
    this.#respond(responses);
  }

  #apply(message: Message): void {
    const { stateMachine } = this.#options;
    let batch: AppliedEntry[] = [];
    const settled: { entry: Entry; refusal?: SwarmError }[] = [];
    const flush = (): void => {
      if (batch.length > 0) stateMachine.apply(batch);
      batch = [];
    };
    for (const entry of message.entries) {
      this.#appliedTerm = entry.term;
      if (entry.type === 'confChange') {
        flush();
        settled.push({ entry, refusal: this.#applyConfChange(entry) });
      } else {
        if (entry.data.length > 0) batch.push(entry);
        settled.push({ entry });
      }
    }
    flush();
    this.#respond(message.responses);
    for (const { entry, refusal } of settled) {
      this.#proposals.applied(entry.index, entry.term, refusal);
    }
    this.#updateLeadership();
    this.#snapshots.maybeTake(this.#raw.raft.log.applied);
  }

  /** Every member decides the same about a change that cannot be made: it is skipped. */
  #applyConfChange(entry: Entry): SwarmError | undefined {
    const change = this.#table.admissible(decodeConfChange(entry.data));
    try {
      const confState = this.#raw.applyConfChange(change);
      this.#table.applied(change, confState);
    } catch (error) {
      if (!(error instanceof ConfChangeError)) throw error;
      this.#log.warn('raft: change of members skipped', { why: error.message });
      return new SwarmError('conflict', `the managers could not be changed: ${error.message}`);
    }
    this.#membersChanged();
    return undefined;
  }

  #membersChanged(): void {
    const members = this.#table.members();
    this.#log.info('raft: members', { members: members.map((member) => member.id) });
    for (const { id } of members) this.#learnedAddresses.delete(id);
    this.#options.transport.setPeers(this.#peers());
    this.#options.stateMachine.membersChanged(members);
  }

  #peers(): MemberAddress[] {
    return this.#table.members().filter((member) => member.id !== this.id);
  }

  #describeSnapshot(): SnapshotMeta {
    return {
      index: this.#raw.raft.log.applied,
      term: this.#appliedTerm,
      confState: this.#table.confState,
      data: this.#table.encode(),
    };
  }

  // ---- leadership ----

  #onSoftState(state: SoftState): void {
    this.#log.info('raft: role', { ...state, term: this.#raw.raft.term });
    if (state.role !== 'leader') {
      this.#proposals.failAll(
        new SwarmError(
          'unavailable',
          'the leader changed: whether the change was made is not known; look before retrying',
        ),
      );
    }
    this.#reads.askAgain();
    this.#updateLeadership();
    if (this.#disk.full) this.#handOver();
  }

  #updateLeadership(): void {
    const { raft } = this.#raw;
    this.#ownTermApplied = this.#appliedTerm === raft.term;
    const next: Leadership = {
      isLeader: raft.role === 'leader' && this.#ownTermApplied,
      leaderId: raft.leader === NONE ? undefined : raft.leader,
      term: raft.term,
    };
    const old = this.#leadership;
    const same =
      old.isLeader === next.isLeader && old.leaderId === next.leaderId && old.term === next.term;
    if (same) return;
    this.#leadership = next;
    this.#leadershipChanged.emit(next);
  }

  #notLeader(): SwarmError {
    const leaderId = this.#leadership.leaderId;
    const address = leaderId === undefined ? undefined : this.#addressOf(leaderId);
    if (leaderId === undefined || leaderId === this.id || address === undefined) {
      return new SwarmError(
        this.#leadership.leaderId === this.id ? 'unavailable' : 'no_quorum',
        `no manager leads at present: ${this.#describeSilence()}; try again in a moment`,
      );
    }
    return new SwarmError('not_leader', `the leader is ${address}`, {
      detail: { leaderId: String(leaderId), leaderAddress: address },
    });
  }

  #requireReadyLeader(): void {
    this.#requireRunning();
    if (!this.#leadership.isLeader) throw this.#notLeader();
  }

  #requireRunning(): void {
    if (this.#stopped) throw new SwarmError('unavailable', 'this manager is stopping');
  }

  #onSpace(full: boolean): void {
    if (full) this.#log.error('raft: the disk is full: writes are refused, reads go on');
    else this.#log.info('raft: the disk has room again');
    if (full) this.#handOver();
  }

  /** A leader that cannot write lets another one lead. */
  #handOver(): void {
    const nowMs = this.#activeMs();
    if (this.#raw.raft.role !== 'leader') return;
    if (nowMs - this.#handedOverAtMs < limits.HAND_OVER_EVERY_MS) return;
    this.#handedOverAtMs = nowMs;
    const to = this.#bestSuccessor();
    if (to === undefined) return;
    this.#raw.transferLeadership(to);
    this.#schedule();
  }

  #bestSuccessor(): number | undefined {
    const voters = this.members().filter(
      (member) => !member.learner && member.id !== this.id && member.reachable === true,
    );
    voters.sort((left, right) => (right.matchIndex ?? 0) - (left.matchIndex ?? 0));
    return voters[0]?.id;
  }

  // ---- for callers ----

  /**
   * Resolves once `data` is committed and applied here. SwarmError not_leader (detail: leaderId,
   * leaderAddress), exhausted (too large, too much under way, disk full), no_quorum (time is up),
   * unavailable (leadership lost; the outcome is unknown where the message says so).
   */
  async propose(data: Uint8Array): Promise<{ index: number; term: number }> {
    if (data.length > limits.MAX_PROPOSAL_BYTES) {
      throw new SwarmError(
        'exhausted',
        `a change of ${data.length} bytes exceeds the ${limits.MAX_PROPOSAL_BYTES} allowed`,
      );
    }
    assert(data.length > 0, 'raft: empty proposal');
    this.#requireProposable();
    return this.#track(this.#raw.propose(data) === undefined);
  }

  #requireProposable(): void {
    this.#requireRunning();
    if (this.#raw.raft.role !== 'leader') throw this.#notLeader();
    if (this.#disk.full) {
      throw new SwarmError(
        'exhausted',
        `the disk that holds ${this.#options.dir} is full: free space; nothing was changed`,
      );
    }
  }

  #track(accepted: boolean): Promise<{ index: number; term: number }> {
    const { raft } = this.#raw;
    if (!accepted) {
      throw raft.transferee !== NONE
        ? new SwarmError('unavailable', 'another manager is about to lead; try again in a moment')
        : new SwarmError('exhausted', 'too many changes are under way; try again in a moment');
    }
    const deadlineMs = this.#activeMs() + limits.PROPOSAL_TIMEOUT_MS;
    const result = this.#proposals.add(raft.log.lastIndex(), raft.term, deadlineMs);
    this.#schedule();
    return result;
  }

  async #proposeConfChange(change: ConfChange): Promise<void> {
    this.#requireProposable();
    const { raft } = this.#raw;
    if (raft.pendingConfIndex > raft.log.applied || raft.tracker.config.voters[1].size > 0) {
      throw new SwarmError('unavailable', 'another change of managers is under way; try again');
    }
    await this.#track(this.#raw.proposeConfChange(change) === undefined);
  }

  /**
   * Resolves with an index that covers every write acknowledged before the call, once applied here.
   * Works on followers. SwarmError no_quorum when no leader confirms it in time.
   */
  async readIndex(): Promise<number> {
    this.#requireRunning();
    const result = this.#reads.add(this.#activeMs() + limits.READ_TIMEOUT_MS);
    this.#schedule();
    return result;
  }

  /** At the leader. Adds a voter, or with `learner` one that only receives. */
  addMember(member: Member): Promise<void> {
    return this.#membership.add(member);
  }

  /** At the leader. Makes a learner a voter, once it has caught up (waited for, bounded). */
  promoteMember(id: number): Promise<void> {
    return this.#membership.promote(id);
  }

  /** At the leader. The id never comes back. Refused (conflict) where quorum would be lost. */
  removeMember(id: number): Promise<void> {
    return this.#membership.remove(id);
  }

  updateAddress(id: number, address: string): Promise<void> {
    return this.#membership.updateAddress(id, address);
  }

  members(): MemberStatus[] {
    const { raft } = this.#raw;
    const leads = raft.role === 'leader';
    const last = raft.log.lastIndex();
    return this.#table.members().map((member) => {
      const match = leads ? raft.tracker.progress.get(member.id)?.match : undefined;
      // Followers hear from the leader only.
      const knows = leads || member.id === this.id || member.id === raft.leader;
      return {
        ...member,
        isLeader: member.id === raft.leader,
        reachable: knows ? this.#heardLately(member.id) : undefined,
        matchIndex: match,
        lag: match === undefined ? undefined : last - match,
      };
    });
  }

  /** Resolves when another member leads. Default: the most up-to-date one that answers. */
  async transferLeadership(to?: number): Promise<void> {
    this.#requireRunning();
    if (this.#raw.raft.role !== 'leader') throw this.#notLeader();
    const target = to ?? this.#bestSuccessor();
    if (target === this.id) return;
    if (target === undefined || !this.#table.isVoter(target)) {
      throw new SwarmError('conflict', 'no other manager can take over the lead');
    }
    const changed = this.#leadershipChanged.next(
      this.#clock,
      limits.TRANSFER_TIMEOUT_MS,
      (now) => now.leaderId !== undefined && now.leaderId !== this.id,
    );
    this.#raw.transferLeadership(target);
    this.#schedule();
    await changed;
  }

  status(): RaftStatus {
    const { raft } = this.#raw;
    return {
      id: this.id,
      term: raft.term,
      leaderId: raft.leader === NONE ? undefined : raft.leader,
      role: raft.role,
      commit: raft.log.committed,
      applied: raft.log.applied,
      lastIndex: raft.log.lastIndex(),
    };
  }

  get leadership(): Leadership {
    return this.#leadership;
  }

  /** The leader's address, where one is known. */
  leaderAddress(): string | undefined {
    const { leaderId } = this.#leadership;
    return leaderId === undefined ? undefined : this.#addressOf(leaderId);
  }

  /** Told of every change, synchronously; `leadership` holds the present. Returns the stopper. */
  onLeadership(listener: (leadership: Leadership) => void): () => void {
    return this.#leadershipChanged.listen(listener);
  }

  /** Told each time this member starts to lead and may act; at once when it does already. */
  onLeaderReady(listener: (term: number) => void): () => void {
    let readyTerm = 0;
    const tell = (now: Leadership): void => {
      if (!now.isLeader || now.term === readyTerm) return;
      readyTerm = now.term;
      listener(now.term);
    };
    const stop = this.#leadershipChanged.listen(tell);
    tell(this.#leadership);
    return stop;
  }

  /** Ends the member; with `transfer` a leader hands over first (bounded). Idempotent. */
  async stop(options: { readonly transfer: boolean }): Promise<void> {
    if (this.#stopped) return;
    const others = this.#peers().length > 0;
    if (options.transfer && others && this.#raw.raft.role === 'leader') {
      try {
        await this.transferLeadership();
      } catch (error) {
        this.#log.warn('raft: leadership not handed over', { error: messageOf(error) });
      }
    }
    this.#halt(new SwarmError('unavailable', 'this manager is stopping'));
    await withDeadline(
      this.#clock,
      limits.PROPOSAL_TIMEOUT_MS,
      'stopping raft',
      Promise.all([this.#options.transport.stop(), this.#snapshots.stop()]),
    ).catch((error: unknown) => {
      this.#log.warn('raft: stopped with streams open', { error: messageOf(error) });
    });
    await this.#disk.close();
  }

  #halt(error: SwarmError): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#tickTimer?.cancel();
    this.#proposals.failAll(error);
    this.#reads.failAll(error);
    const { term } = this.#leadership;
    this.#leadership = { isLeader: false, leaderId: undefined, term };
    this.#leadershipChanged.emit(this.#leadership);
  }
}

/** Fills `memory` from the disk; a new member's first state is written before it is used. */
async function loadState(
  options: RaftNodeOptions,
  disk: RaftDisk,
  memory: MemoryLog,
): Promise<void> {
  const { recovered } = disk;
  if (!recovered.isNew) {
    memory.setBase(recovered.base);
    memory.append(recovered.entries);
    memory.setHardState(recovered.hardState);
    if (recovered.snapshot !== undefined) memory.noteSnapshot(recovered.snapshot);
    return;
  }
  const { bootstrap } = options;
  if (bootstrap === undefined) {
    if (options.join === true) return;
    throw new SwarmError('invalid', `no raft state in ${options.dir}: initialise or join a swarm`);
  }
  const entries = bootstrap.voters.map((voter, at): Entry => {
    const change: ConfChange = {
      transition: 'auto',
      changes: [{ type: 'addVoter', id: voter.id }],
      context: encodeAddresses([voter]),
    };
    return { term: 1, index: at + 1, type: 'confChange', data: encodeConfChange(change) };
  });
  assert(entries.length > 0, 'raft: bootstrap without voters');
  const hardState = { term: 1, vote: NONE, commit: entries.length };
  await new Promise<void>((done) => {
    disk.append({ ...NOTHING, entries, hardState, sync: true, done });
  });
  memory.append(entries);
  memory.setHardState(hardState);
}

async function restoreFrom(
  disk: RaftDisk,
  stateMachine: StateMachine,
  snapshot: SnapshotMeta,
): Promise<void> {
  const reader = await disk.openSnapshot(snapshot);
  try {
    await stateMachine.restore(snapshot.index, reader.chunks());
  } finally {
    await reader.close();
  }
}
