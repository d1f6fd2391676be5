/**
 * Makes managers of nodes that should be managers and workers of those that should not, at the
 * leader: answers Raft.Join and Raft.Leave, promotes learners that have caught up, takes demoted
 * managers out of Raft, and writes what came of it. One step at a time; safe to repeat after any
 * crash. Which node should be what is spec.role, which the user sets through control.
 *
 * | node | Raft | step |
 * |---|---|---|
 * | should be a manager, none yet | - | its daemon gets a certificate and calls Join -> learner |
 * | should be a manager | learner | promoted when caught up -> voter, role = manager |
 * | should be a worker, is a manager | member | removed; a leader hands over first; while another |
 * | | | is on its way to be a manager, in the one step that makes it a voter |
 * | should be a worker | none | role = worker |
 * | unknown, or another's id | learner for long | removed: a join that was never finished |
 */

import type { Clock, Timer } from '../base/clock.ts';
import { hasCode, messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Serial } from '../base/queue.ts';
import type { Cluster, ManagerStatus, Node } from '../model/types.ts';
import { fromU64, need, toU64 } from '../proto/convert.ts';
import type { CallContext, Handlers } from '../proto/rpc.ts';
import type { Raft, RaftJoinResponse } from '../proto/services.ts';
import { ELECTION_MS, PROMOTE_LAG_ENTRIES, TICK_MS } from './raft/limits.ts';
import { removedNode } from './removedNode.ts';
import { freeRaftId } from './soleManager.ts';
import type { Change, Proposer, StoreReader } from './store/types.ts';
import { retried, transact } from './transact.ts';

const RECONCILE_MS = 1000;
/** Whoever asked for the demotion is answered before the one who answers leads no more. */
const HAND_OVER_DELAY_MS = 300;
const MAX_WAITING = 16;
const WRITE_ATTEMPTS = 5;
/** A join takes seconds; one that does not come to its end holds up no demotion for longer. */
const SUCCESSOR_WAIT_MS = 20_000;
/** A learner that belongs to no node for this long is a join that broke off. */
const STRAY_LEARNER_MS = 60_000;

export interface MemberNow {
  readonly id: number;
  readonly address: string;
  readonly learner: boolean;
  readonly movedTo: string | undefined;
  readonly reachable: boolean | undefined;
  readonly lag: number | undefined;
}

/** What the roles need of Raft; RaftNode has it. */
export interface RaftMembers {
  readonly id: number;
  readonly isLeader: boolean;
  members(): readonly MemberNow[];
  addMember(member: { id: number; address: string; learner: boolean }): Promise<void>;
  promoteMember(id: number): Promise<void>;
  replaceMember(id: number, leaving: number): Promise<void>;
  updateAddress(id: number, address: string): Promise<void>;
  removeMember(id: number): Promise<void>;
  transferLeadership(to?: number): Promise<void>;
}

export interface RolesOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  readonly raft: RaftMembers;
  readonly notLeader: () => SwarmError;
}

export class Roles {
  readonly #options: RolesOptions;
  readonly #work = new Serial(MAX_WAITING);
  readonly #strays = new Map<number, number>();
  /** Managers that are to become workers, and since when this leader knows. */
  readonly #outgoing = new Map<string, number>();
  #timer: Timer | undefined;
  #active = false;
  #busy = false;
  /** Poked while a pass is under way: another follows it at once. */
  #again = false;
  #isSoon = false;

  constructor(options: RolesOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#active) return;
    this.#active = true;
    this.#strays.clear();
    this.#outgoing.clear();
    this.#schedule(0);
  }

  stop(): void {
    this.#active = false;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** A node's spec or role changed: look soon. */
  poke(): void {
    if (!this.#active) return;
    if (this.#busy) this.#again = true;
    else this.#schedule(0);
  }

  handlers(): Pick<Handlers<typeof Raft>, 'join' | 'leave'> {
    return {
      join: ({ address }, context) => this.#work.run(() => this.#join(address, context)),
      leave: async ({ raftId }, context) => {
        await this.#work.run(() => this.#leave(fromU64(raftId, 'raftId'), context));
        return {};
      },
    };
  }

  /**
   * '' when the member can be taken out now, else why not, in words for a user. A leader just
   * elected has not heard everybody yet: waits a little before it says no.
   */
  async cannotDemote(raftId: number): Promise<string> {
    const { clock } = this.#options;
    const deadlineMs = clock.nowMs() + ELECTION_MS;
    for (;;) {
      const why = this.#cannotDemoteNow(raftId);
      if (why === '' || clock.nowMs() >= deadlineMs) return why;
      await clock.sleep(TICK_MS);
    }
  }

  #cannotDemoteNow(raftId: number): string {
    const members = this.#options.raft.members();
    const voters = members.filter((member) => !member.learner && member.id !== raftId);
    if (members.every((member) => member.id !== raftId)) return '';
    if (voters.length === 0) return 'it is the last manager';
    const reachable = voters.filter((voter) => voter.reachable !== false).length;
    const quorum = Math.floor(voters.length / 2) + 1;
    if (reachable >= quorum) return '';
    const missing = voters.filter((voter) => voter.reachable === false);
    const names = missing.map((voter) => voter.address).join(', ');
    return `the managers left would have no quorum, as ${names} cannot be reached`;
  }

  // ---- join and leave --------------------------------------------------------------------------

  async #join(address: string, context: CallContext): Promise<RaftJoinAnswer> {
    const { raft, store, log } = this.#options;
    this.#assertLeader();
    // It waited its turn here, and the caller has given up and asked again meanwhile.
    if (context.signal.aborted) throw new SwarmError('cancelled', 'the caller has left');
    const { nodeId } = need(context.peer, 'the caller');
    const node = store.get('node', nodeId);
    if (node === undefined) throw removedNode(nodeId);
    // An earlier attempt whose answer was lost: its id may have been used, so it is never again.
    if (node.manager !== undefined) await this.#expel(node, node.manager.raftId);
    const members = [raft.id, ...raft.members().map(({ id }) => id)];
    const raftId = freeRaftId(store, members);
    log.info('manager joins', { nodeId, raftId, address });
    await raft.addMember({ id: raftId, address, learner: true });
    await this.#write(nodeId, (fresh) => ({ ...fresh, manager: { raftId, address } }));
    this.poke();
    return this.#joinAnswer(raftId);
  }

  #joinAnswer(raftId: number): RaftJoinAnswer {
    const nodes = new Map<number, string>();
    for (const node of this.#options.store.all('node')) {
      if (node.manager !== undefined) nodes.set(node.manager.raftId, node.id);
    }
    return {
      raftId: toU64(raftId, 'raftId'),
      members: this.#options.raft.members().map(({ id, address }) => ({
        raftId: toU64(id, 'raftId'),
        nodeId: nodes.get(id) ?? '',
        address,
      })),
    };
  }

  async #leave(raftId: number, context: CallContext): Promise<void> {
    this.#assertLeader();
    const { nodeId } = need(context.peer, 'the caller');
    const node = this.#options.store.get('node', nodeId);
    if (node === undefined) return;
    if (node.manager !== undefined) {
      if (raftId !== 0 && node.manager.raftId !== raftId) {
        throw new SwarmError('forbidden', `Raft member ${raftId} is not node ${nodeId}`);
      }
      const why = await this.cannotDemote(node.manager.raftId);
      if (why !== '') throw new SwarmError('conflict', `this manager cannot leave now: ${why}`);
      await this.#write(nodeId, (fresh) => ({ ...fresh, spec: { ...fresh.spec, role: 'worker' } }));
      await this.#demote(node, node.manager.raftId);
    }
    const atMs = Math.floor(this.#options.clock.wallMs());
    await this.#write(nodeId, (fresh) => ({
      ...fresh,
      state: 'down',
      stateMessage: 'it has left the swarm',
      downSinceMs: atMs,
    }));
  }

  #assertLeader(): void {
    if (!this.#active) throw this.#options.notLeader();
  }

  // ---- the loop --------------------------------------------------------------------------------

  #schedule(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.afterIdle(delayMs, () => void this.#reconcile());
  }

  async #reconcile(): Promise<void> {
    if (!this.#active || this.#busy) return;
    this.#busy = true;
    this.#again = false;
    this.#isSoon = false;
    for (const { id } of [...this.#options.store.all('node')]) {
      await this.#attempt(id, async () => {
        const node = this.#options.store.get('node', id);
        if (node !== undefined) await this.#step(node);
      });
    }
    await this.#attempt('', () => this.#removeStrays());
    this.#busy = false;
    const restMs = this.#isSoon ? RECONCILE_MS / 10 : RECONCILE_MS;
    if (this.#active) this.#schedule(this.#again ? 0 : restMs);
  }

  /** One node's trouble holds up no other's; it is looked at again in a second. */
  async #attempt(nodeId: string, work: () => Promise<void>): Promise<void> {
    try {
      await this.#work.run(async () => {
        if (this.#active) await work();
      });
    } catch (error) {
      // Quorum lost, leadership lost, a member that does not answer.
      this.#options.log.warn('role change not finished yet', { nodeId, error: messageOf(error) });
    }
  }

  async #step(node: Node): Promise<void> {
    const { manager } = node;
    if (node.spec.role === 'worker') {
      if (manager !== undefined && this.#awaitsSuccessor(node)) this.#soon();
      else if (manager !== undefined) await this.#demote(node, manager.raftId);
      else if (node.role !== 'worker') await this.#settle(node.id, 'worker');
      return;
    }
    if (manager === undefined) return;
    const member = this.#options.raft.members().find(({ id }) => id === manager.raftId);
    if (member === undefined) {
      // Removed from Raft, and the leader fell before it could write so.
      await this.#forgetMember(node.id, manager.raftId);
      return;
    }
    await this.#follow(node, manager, member);
    if (member.learner) await this.#promote(node, manager.raftId);
    else if (node.role !== 'manager') await this.#settle(node.id, 'manager');
  }

  async #promote(node: Node, raftId: number): Promise<void> {
    // A learner that is not there yet would hold up the other steps while it is waited for.
    const member = this.#options.raft.members().find(({ id }) => id === raftId);
    const lag = member?.lag ?? Number.POSITIVE_INFINITY;
    if (member?.reachable !== true || lag > PROMOTE_LAG_ENTRIES) {
      this.#soon();
      return;
    }
    const { raft, log } = this.#options;
    const leaving = this.#voterToGo();
    // The last voter can hand over to nobody before there is another.
    const isLast = leaving?.manager.raftId === raft.id && this.#voters().length === 1;
    if (leaving === undefined || isLast) {
      await raft.promoteMember(raftId);
    } else {
      const { id, manager } = leaving;
      if (manager.raftId === raft.id) await this.#handOver(id);
      try {
        await raft.replaceMember(raftId, manager.raftId);
      } catch (error) {
        // Those that stay could not agree without it: first there is one more.
        if (!hasCode(error, 'conflict')) throw error;
        await raft.promoteMember(raftId);
        await this.#settle(node.id, 'manager');
        return;
      }
      await this.#forgetMember(id, manager.raftId);
      await this.#settle(id, 'worker');
      log.info('node is a worker', { nodeId: id, raftId: manager.raftId, replacedBy: node.id });
    }
    await this.#settle(node.id, 'manager');
    log.info('node is a manager', { nodeId: node.id, raftId });
  }

  #voters(): MemberNow[] {
    return this.#options.raft.members().filter(({ learner }) => !learner);
  }

  /** A manager that waits to become a worker until another has taken its place. */
  #voterToGo(): (Node & { readonly manager: ManagerStatus }) | undefined {
    const voters = this.#voters();
    for (const node of this.#options.store.all('node')) {
      const { manager } = node;
      if (manager === undefined || !this.#outgoing.has(node.id)) continue;
      const isVoter = voters.some(({ id }) => id === manager.raftId);
      if (node.spec.role === 'worker' && isVoter) return { ...node, manager };
    }
    return undefined;
  }

  /**
   * Whether a manager that is to go should wait for one that is coming, to go in the step that
   * makes the other a voter.
   */
  #awaitsSuccessor(node: Node): boolean {
    const nodes = [...this.#options.store.all('node')];
    const isComing = nodes.some(
      ({ spec, role, state }) => spec.role === 'manager' && role !== 'manager' && state === 'ready',
    );
    const nowMs = this.#options.clock.nowMs();
    const sinceMs = this.#outgoing.get(node.id) ?? nowMs;
    this.#outgoing.set(node.id, sinceMs);
    return isComing && nowMs - sinceMs < SUCCESSOR_WAIT_MS;
  }

  /** Its host was given another address: all are told, and dial it there from now on. */
  async #follow(node: Node, known: ManagerStatus, member: MemberNow): Promise<void> {
    const { raft, log } = this.#options;
    const { id, movedTo } = member;
    const address = movedTo ?? member.address;
    if (movedTo !== undefined) await raft.updateAddress(id, movedTo);
    if (address === known.address) return;
    await this.#write(node.id, (fresh) => ({ ...fresh, manager: { raftId: id, address } }));
    log.info('manager has moved', { nodeId: node.id, from: known.address, address });
  }

  /** Once more before the next full second: a joining manager is waited for. */
  #soon(): void {
    this.#isSoon = true;
  }

  async #demote(node: Node, raftId: number): Promise<void> {
    const { raft, log } = this.#options;
    if (raftId === raft.id) await this.#handOver(node.id);
    await this.#expel(node, raftId);
    await this.#settle(node.id, 'worker');
    this.#outgoing.delete(node.id);
    log.info('node is a worker', { nodeId: node.id, raftId });
  }

  async #handOver(nodeId: string): Promise<never> {
    const { raft, log, clock, notLeader } = this.#options;
    log.info('handing over the lead: this manager is demoted', { nodeId });
    await clock.sleep(HAND_OVER_DELAY_MS);
    await raft.transferLeadership();
    throw notLeader();
  }

  async #expel(node: Node, raftId: number): Promise<void> {
    const { raft } = this.#options;
    if (raft.members().some(({ id }) => id === raftId)) await raft.removeMember(raftId);
    await this.#forgetMember(node.id, raftId);
  }

  /** The node is no member any more, and its Raft id never comes back. */
  async #forgetMember(nodeId: string, raftId: number): Promise<void> {
    await this.#transact(() => {
      const changes: Change[] = [];
      const node = this.#options.store.get('node', nodeId);
      if (node?.manager?.raftId === raftId) {
        changes.push({ kind: 'update', table: 'node', object: { ...node, manager: undefined } });
      }
      const cluster = this.#options.store.cluster();
      if (cluster !== undefined && !cluster.removedRaftIds.includes(raftId)) {
        const object: Cluster = {
          ...cluster,
          removedRaftIds: [...cluster.removedRaftIds, raftId],
        };
        changes.push({ kind: 'update', table: 'cluster', object });
      }
      return changes;
    });
  }

  async #settle(nodeId: string, role: Node['role']): Promise<void> {
    await this.#write(nodeId, (node) => ({ ...node, role }));
  }

  async #removeStrays(): Promise<void> {
    const { raft, store, clock, log } = this.#options;
    const owned = new Set<number>([raft.id]);
    for (const node of store.all('node')) owned.add(node.manager?.raftId ?? 0);
    const strays = raft.members().filter(({ id, learner }) => learner && !owned.has(id));
    for (const id of this.#strays.keys()) {
      if (strays.every((stray) => stray.id !== id)) this.#strays.delete(id);
    }
    for (const { id } of strays) {
      const sinceMs = this.#strays.get(id) ?? clock.nowMs();
      this.#strays.set(id, sinceMs);
      if (clock.nowMs() - sinceMs < STRAY_LEARNER_MS) continue;
      log.warn('removing a Raft learner that belongs to no node', { raftId: id });
      await raft.removeMember(id);
    }
  }

  // ---- writing ---------------------------------------------------------------------------------

  #write(nodeId: string, change: (node: Node) => Node): Promise<void> {
    return this.#transact(() => {
      const node = this.#options.store.get('node', nodeId);
      if (node === undefined) throw new SwarmError('not_found', `node ${nodeId} was removed`);
      return [{ kind: 'update', table: 'node', object: change(node) }];
    });
  }

  /** `changes` is asked again when what it decided from has changed meanwhile. */
  async #transact(changes: () => readonly Change[]): Promise<void> {
    await retried(WRITE_ATTEMPTS, async () => {
      const decided = changes();
      if (decided.length > 0) await transact(this.#options.proposer, ...decided);
    });
  }
}

type RaftJoinAnswer = Pick<RaftJoinResponse, 'raftId'> & {
  readonly members: { raftId: bigint; nodeId: string; address: string }[];
};
