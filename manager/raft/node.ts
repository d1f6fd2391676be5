/**
 * One manager's Raft member, as the rest of the manager knows it: proposals, linearizable reads,
 * members, leadership. Gives the engine ticks (one a wake-up, however late) and messages; answers
 * callers from what it reports. Decides nothing about consensus, does no I/O.
 */
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { announce } from './announcement.ts';
import { decodeMessage } from './codec.ts';
import { type ConfChange, type Message, NONE, type SoftState } from './core/types.ts';
import { diskFull } from './disk/files.ts';
import { Engine, type Settled } from './engine.ts';
import { LeadershipWatch } from './leadership.ts';
import * as limits from './limits.ts';
import { Membership } from './membership.ts';
import { Presence } from './presence.ts';
import { Proposals } from './proposals.ts';
import { Reads } from './reads.ts';
import { membersOf, statusOf } from './report.ts';
import { Snapshots } from './snapshots.ts';
import { type OpenState, openState } from './startup.ts';
import { Succession } from './succession.ts';
import { Ticker } from './ticker.ts';
import type {
  Leadership,
  Member,
  MemberAddress,
  MemberStatus,
  RaftNodeOptions,
  RaftStatus,
} from './types.ts';
import { Vacancy } from './vacancy.ts';
import { Whereabouts } from './whereabouts.ts';

export class RaftNode {
  readonly id: number;
  readonly #options: RaftNodeOptions;
  readonly #log: Log;
  readonly #state: OpenState;
  readonly #engine: Engine;
  readonly #proposals: Proposals;
  readonly #reads: Reads;
  readonly #snapshots: Snapshots;
  readonly #membership: Membership;
  readonly #succession: Succession;
  readonly #vacancy: Vacancy;
  readonly #ticker: Ticker;
  readonly #presence: Presence;
  readonly #leadership: LeadershipWatch;
  readonly #whereabouts: Whereabouts;
  /** Once it has ended. */
  #over = new SwarmError('unavailable', 'this manager is stopping');
  #stopped = false;
  #stopping: Promise<void> | undefined = undefined;

  /**
   * Opens the member's state and joins in. SwarmError corrupt when stored state fails its checks,
   * not_found when there is none and neither `bootstrap` nor `join` is given.
   */
  static async open(options: RaftNodeOptions): Promise<RaftNode> {
    let node: RaftNode | undefined;
    const onFatal = (error: Error): void => {
      if (node === undefined) options.onFatal(error);
      else node.#fatal(error);
    };
    node = new RaftNode(options, await openState(options, onFatal));
    node.#start();
    return node;
  }

  private constructor(options: RaftNodeOptions, state: OpenState) {
    const { disk, memory, table, figures } = state;
    const { transport, stateMachine, clock, random } = options;
    this.id = options.id;
    this.#options = options;
    this.#log = options.log.with({ raftId: options.id });
    this.#state = state;
    this.#reads = new Reads(random.bytes(8));
    this.#ticker = new Ticker(clock, (pausedMs) => this.#tick(pausedMs));
    const activeMs = (): number => this.#ticker.activeMs();
    this.#presence = new Presence(this.id, table, activeMs);
    this.#proposals = new Proposals(figures, activeMs);
    this.#whereabouts = new Whereabouts(table, options, this.#log, activeMs);
    const shared = { log: this.#log, disk, memory, transport, stateMachine, clock, figures };
    const address = (id: number): string | undefined => this.#whereabouts.address(id);
    this.#engine = new Engine({
      ...shared,
      id: this.id,
      random,
      table,
      address,
      beforePump: () => this.#beforePump(),
      onSoftState: (state) => this.#onSoftState(state),
      onReadState: (context, index) => this.#reads.answered(context, index),
      onSettled: (settled) => this.#onSettled(settled),
      onMembersChanged: () => this.#onMembersChanged(),
      onLetGo: () => this.#options.transport.setPeers(this.#peers()),
      sendSnapshot: (message) => this.#snapshots.send(message),
      onInstalled: () => this.#snapshots.cut(),
      onFatal: (error) => this.#fatal(error),
    });
    this.#vacancy = new Vacancy(clock, random, this.#engine, this.#log);
    this.#snapshots = new Snapshots(
      {
        ...shared,
        address,
        describe: () => this.#engine.describeSnapshot(),
        onSettled: () => options.onSealSettled?.(),
        reportSnapshot: (id, ok) => {
          this.#engine.raw.reportSnapshot(id, ok);
          this.#engine.schedule();
        },
      },
      options.snapshotEntries,
    );
    this.#membership = new Membership({
      id: this.id,
      table,
      transferLeadership: () => this.transferLeadership(),
      requireLeader: () => this.#requireReadyLeader(),
      members: () => this.members(),
      proposeConfChange: (change) => this.#proposeConfChange(change),
      sleep: (ms) => clock.sleep(ms),
      activeMs,
    });
    this.#leadership = new LeadershipWatch(this.#engine.raft.term);
    this.#leadership.changed.listen(({ leaderId }) => figures.leads(leaderId));
    this.#succession = new Succession({
      id: this.id,
      clock,
      table,
      engine: this.#engine,
      leadership: this.#leadership,
      members: () => this.members(),
    });
  }

  #start(): void {
    const { transport } = this.#options;
    transport.start({
      onMessage: (from, bytes) => this.#onMessage(from, bytes),
      onSnapshot: (from, bytes, chunks) => this.#onSnapshot(from, bytes, chunks),
      onHello: (from) => this.#whereabouts.heard(from),
      onUnreachable: (id) => {
        if (this.#stopped) return;
        this.#engine.raw.reportUnreachable(id);
        this.#engine.schedule();
      },
      follows: (id) => this.#vacancy.follows(id),
      onGone: (id) => this.#stopped || this.#vacancy.found(id),
      wasRemoved: (id) => this.#state.table.isGone(id),
      onRemoved: (why) => {
        if (this.#stopped) return;
        this.#over = why;
        this.#options.onRemoved?.(why);
      },
    });
    transport.setPeers(this.#peers());
    this.#state.disk.spaceChanged.listen((full) => this.#onSpace(full));
    this.#engine.pump();
    // Alone there is nobody to wait for.
    const { tracker } = this.#engine.raft;
    if (tracker.isSingleton() && tracker.progress.has(this.id)) this.#engine.raw.campaign();
    this.#engine.pump();
    this.#ticker.start();
    if (this.#state.disk.staleUntil !== undefined) this.#snapshots.supersede();
  }

  #tick(pausedMs: number): void {
    if (pausedMs > 0) {
      this.#log.warn('raft: this process paused', { pausedMs: Math.round(pausedMs) });
    }
    this.#engine.raw.tick();
    announce(this.#engine.raft, this.#options.transport, this.#state.table, this.#whereabouts);
    const within = `did not agree within ${limits.PROPOSAL_TIMEOUT_MS} ms`;
    const notKnown = `${within}, and whether the change is made is not known yet`;
    this.#proposals.expire(() => this.#presence.noQuorum(notKnown));
    this.#reads.expire(this.#ticker.activeMs(), () => {
      if (!this.#state.disk.full) return this.#presence.noQuorum('have no quorum');
      return diskFull(this.#options.dir, 'it cannot follow the others; or ask another manager');
    });
    if (this.#state.disk.full) this.#succession.handOver();
    this.#engine.pump();
  }

  // ---- messages in ----

  #onMessage(from: MemberAddress, bytes: Uint8Array): void {
    if (this.#stopped) return;
    let message: Message;
    try {
      message = decodeMessage(bytes);
    } catch (error) {
      const why = messageOf(error);
      this.#log.warn('raft: unreadable message dropped', { from: from.id, why });
      return;
    }
    this.#deliver(from, message);
  }

  #deliver(from: MemberAddress, message: Message): void {
    if (message.from !== from.id || message.to !== this.id) return;
    if (!this.#whereabouts.heard(from)) return;
    this.#presence.heard(from.id);
    // Votes and heartbeats go on when the disk takes no more entries: the leader stays known.
    if (message.type === 'append' && !this.#state.disk.takes(message.entries)) return;
    try {
      this.#engine.receive(message);
    } catch (error) {
      // A broken invariant must not be lost in whatever carried the message.
      this.#fatal(error instanceof Error ? error : new Error(messageOf(error)));
      return;
    }
    this.#engine.schedule();
  }

  async #onSnapshot(
    from: MemberAddress,
    bytes: Uint8Array,
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    const message = decodeMessage(bytes);
    const { snapshot } = message;
    const { raft, installing } = this.#engine;
    if (this.#stopped || snapshot === undefined) return;
    const news = snapshot.index > raft.log.committed && message.term >= raft.term;
    if (news && !installing) await this.#snapshots.receive(snapshot, chunks);
    else if (news) throw new SwarmError('unavailable', 'another snapshot is being installed');
    if (!this.#stopped) this.#deliver(from, message);
  }

  // ---- what the engine reports ----

  #beforePump(): void {
    this.#proposals.begin(limits.PROPOSAL_TIMEOUT_MS, (all) => this.#proposeAll(all));
    const context = this.#reads.nextContext(this.#ticker.activeMs());
    if (context !== undefined) this.#engine.raw.readIndex(context);
  }

  #onSettled(settled: readonly Settled[]): void {
    for (const { index, term, refusal } of settled) this.#proposals.applied(index, term, refusal);
    const { applied } = this.#engine.raft.log;
    this.#reads.applied(applied);
    this.#updateLeadership();
    this.#snapshots.maybeTake(applied);
  }

  #onMembersChanged(): void {
    const members = this.#state.table.members();
    this.#log.info('raft: members', { members: members.map((member) => member.id) });
    this.#whereabouts.forgetRemoved();
    this.#presence.keepOnly(new Set(members.map((member) => member.id)));
    this.#options.transport.setPeers(this.#peers());
    this.#options.stateMachine.membersChanged(members);
    this.#reads.applied(this.#engine.raft.log.applied);
  }

  #peers(): MemberAddress[] {
    return this.#state.table.members().filter((member) => member.id !== this.id);
  }

  #onSoftState(state: SoftState): void {
    this.#log.info('raft: role', { ...state, term: this.#engine.raft.term });
    if (state.role !== 'leader') {
      this.#proposals.failAll(
        new SwarmError(
          'unavailable',
          'the leader changed: whether the change was made is not known; look before retrying',
        ),
      );
    }
    this.#reads.askAgain();
    this.#engine.schedule();
    this.#updateLeadership();
    if (this.#state.disk.full) this.#succession.handOver();
  }

  #updateLeadership(): void {
    const { raft, appliedTerm } = this.#engine;
    if (this.#stopped) return;
    this.#leadership.update({
      isLeader: raft.role === 'leader' && appliedTerm === raft.term,
      leaderId: raft.leader === NONE ? undefined : raft.leader,
      term: raft.term,
    });
  }

  #notLeader(): SwarmError {
    const { leaderId } = this.#leadership.now;
    const address = leaderId === undefined ? undefined : this.#whereabouts.address(leaderId);
    if (leaderId !== undefined && leaderId !== this.id && address !== undefined) {
      return new SwarmError('not_leader', `this manager does not lead; the leader is ${address}`, {
        detail: { leaderId: String(leaderId), leaderAddress: address },
      });
    }
    return leaderId === undefined
      ? new SwarmError('no_quorum', `no manager leads at present: ${this.#presence.describe()}`)
      : new SwarmError('unavailable', 'a leader is just taking over; try again in a moment');
  }

  #requireReadyLeader(): void {
    this.#requireRunning();
    if (!this.#leadership.now.isLeader) throw this.#notLeader();
  }

  #requireRunning(): void {
    if (this.#stopped) throw this.#over;
  }

  #onSpace(full: boolean): void {
    if (full) this.#log.error('raft: the disk is full: writes are refused, reads go on');
    else this.#log.info('raft: the disk has room again');
    if (full) this.#succession.handOver();
    else this.#succession.hasRoom();
  }

  // ---- for callers ----

  /**
   * Resolves once `data` is committed and applied here. SwarmError not_leader (detail: leaderId,
   * leaderAddress), exhausted (too large, too much under way, disk full), no_quorum (time is up),
   * unavailable (leadership lost; the outcome is unknown where the message says so).
   */
  async propose(data: Uint8Array): Promise<{ index: number; term: number }> {
    return this.#proposals.attempt(() => {
      this.#requireProposable();
      const result = this.#proposals.queue(data);
      this.#engine.schedule();
      return result;
    });
  }

  #requireProposable(): void {
    this.#requireRunning();
    if (this.#engine.raft.role !== 'leader') throw this.#notLeader();
    if (this.#state.disk.full) throw diskFull(this.#options.dir, 'nothing was changed');
  }

  #proposeAll(all: readonly Uint8Array[]): { index: number; term: number } {
    this.#requireProposable();
    const { raft, raw } = this.#engine;
    this.#requireAccepted(raw.proposeAll(all) === undefined);
    return { index: raft.log.lastIndex() - all.length + 1, term: raft.term };
  }

  #requireAccepted(accepted: boolean): void {
    if (accepted) return;
    throw this.#engine.raft.transferee !== NONE
      ? new SwarmError('not_leader', 'another manager is about to lead; try again in a moment')
      : new SwarmError('exhausted', 'too many changes are under way; try again in a moment');
  }

  async #proposeConfChange(change: ConfChange): Promise<void> {
    this.#requireProposable();
    const { raft, raw } = this.#engine;
    if (raft.pendingConfIndex > raft.log.applied || raft.tracker.config.voters[1].size > 0) {
      throw new SwarmError('unavailable', 'another change of managers is under way; try again');
    }
    this.#requireAccepted(raw.proposeConfChange(change) === undefined);
    this.#engine.schedule();
    await this.#proposals.add(raft.log.lastIndex(), raft.term, limits.PROPOSAL_TIMEOUT_MS);
  }

  /**
   * Resolves with an index that covers every write acknowledged before the call, once applied here.
   * Works on followers. SwarmError no_quorum when no leader confirms it in time.
   */
  async readIndex(): Promise<number> {
    this.#requireRunning();
    this.#engine.schedule();
    return this.#reads.add(this.#ticker.activeMs() + limits.READ_TIMEOUT_MS);
  }

  /** At the leader: this member waits to apply what is committed by now, so it is told at once. */
  tellCommitted(id: number): void {
    this.#engine.tell(id);
  }

  /** At the leader. Adds a voter, or with `learner` one that only receives. */
  addMember(member: Member): Promise<void> {
    return this.#membership.add(member);
  }

  /** At the leader. Makes a learner a voter, once it has caught up (waited for, bounded). */
  promoteMember(id: number): Promise<void> {
    return this.#membership.promote(id);
  }

  /** At the leader: a learner takes a voter's place in one step (joint consensus). */
  replaceMember(id: number, leaving: number): Promise<void> {
    return this.#membership.replace(id, leaving);
  }

  /**
   * At the leader; the id never comes back. SwarmError conflict where quorum would be lost;
   * not_leader after handing over, when the leader itself is to go: ask the new one.
   */
  removeMember(id: number): Promise<void> {
    return this.#membership.remove(id);
  }

  updateAddress(id: number, address: string): Promise<void> {
    return this.#membership.updateAddress(id, address);
  }

  members(): MemberStatus[] {
    const { table } = this.#state;
    return membersOf(this.id, this.#engine.raft, table, this.#presence, this.#whereabouts);
  }

  /** Entries between snapshots from now on, and entries kept behind one. */
  keepEntries(between: number, behind: number, oldSnapshots = 0): void {
    this.#snapshots.keep(between, behind, oldSnapshots);
  }

  /**
   * What is written from now on is sealed with `key`, which is kept already; what older ones sealed
   * is replaced by a snapshot, and then onSealSettled is called.
   */
  rotateSealKey(key: Uint8Array): void {
    this.#requireRunning();
    this.#state.disk.rekey(key);
    this.#snapshots.supersede();
  }

  /** Resolves when another member leads. Default: the most up-to-date one that answers. */
  async transferLeadership(to?: number): Promise<void> {
    this.#requireRunning();
    if (this.#engine.raft.role !== 'leader') throw this.#notLeader();
    await this.#succession.transfer(to);
  }

  status(): RaftStatus {
    return statusOf(this.id, this.#engine.raft, this.#state);
  }

  /** Leads, and has applied an entry of its own term. */
  get isLeader(): boolean {
    return this.leadership.isLeader;
  }

  get leadership(): Leadership {
    return this.#leadership.now;
  }

  /** The leader's address, where one is known. */
  leaderAddress(): string | undefined {
    const { leaderId } = this.#leadership.now;
    return leaderId === undefined ? undefined : this.#whereabouts.address(leaderId);
  }

  /** Told of every change, synchronously. Returns the stopper. */
  onLeadership(listener: (leadership: Leadership) => void): () => void {
    return this.#leadership.changed.listen(listener);
  }

  /** Told each time this member starts to lead and may act; at once when it does already. */
  onLeaderReady(listener: (term: number) => void): () => void {
    return this.#leadership.onReady(listener);
  }

  /** Ends the member; with `transfer` a leader hands over first (bounded). Idempotent. */
  stop(options: { readonly transfer: boolean }): Promise<void> {
    this.#stopping ??= this.#stop(options.transfer);
    return this.#stopping;
  }

  async #stop(transfer: boolean): Promise<void> {
    const leads = !this.#stopped && this.#engine.raft.role === 'leader';
    if (transfer && leads && this.#peers().length > 0) {
      await this.transferLeadership().catch((error: unknown) => {
        this.#log.warn('raft: leadership not handed over', { error: messageOf(error) });
      });
    }
    this.#halt();
    await this.#options.transport.stop();
    await this.#snapshots.stop();
    await this.#state.disk.close();
  }

  #fatal(error: Error): void {
    this.#halt();
    this.#options.onFatal(error);
  }

  #halt(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#engine.stop();
    this.#ticker.stop();
    this.#vacancy.stop();
    const unknown = `${this.#over.message}; whether the change was made is not known`;
    this.#proposals.abandon(new SwarmError('unavailable', unknown));
    this.#reads.failAll(this.#over);
    const { term } = this.#leadership.now;
    this.#leadership.update({ isLeader: false, leaderId: undefined, term });
  }
}
