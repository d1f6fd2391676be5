/**
 * The leader's edge to the agents: one session per node, its heartbeats, what the node must hold
 * (difference by difference, chained), and the statuses it reports. Active on the leader only;
 * what to send is decided in assignments.ts, how statuses are stored in statuses.ts, and whether a
 * silent node is gone in manager/health.
 *
 * | a session is | what is true | left by |
 * |---|---|---|
 * | registering | the node is being marked ready in the store | #register |
 * | open | messages out, heartbeats in | caller gone, replaced, node removed, stop -> ended |
 * | ended | both streams end with the reason | - |
 */

import type { Clock, Timer } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import type { Log } from '../../base/log.ts';
import { Slices } from '../../base/slices.ts';
import type { SessionMessage } from '../../model/assignment.ts';
import { sameValue } from '../../model/equal.ts';
import type { Node, Task } from '../../model/types.ts';
import {
  assignmentToWire,
  descriptionFromWire,
  need,
  sessionToWire,
  statusUpdateFromWire,
  toU64,
} from '../../proto/convert.ts';
import type { CallContext, Handlers, Send } from '../../proto/rpc.ts';
import type {
  Dispatcher as DispatcherService,
  SessionRequest,
  UpdateTaskStatusRequest,
} from '../../proto/services.ts';
import { roleNow } from '../ca/server.ts';
import { trustOf } from '../ca/trust.ts';
import { heartbeatMs } from '../heartbeat.ts';
import { hostAddress } from '../hostAddress.ts';
import { checkDescription } from '../hostDescription.ts';
import { removedNode } from '../removedNode.ts';
import type { Proposer, StoreEvent, StoreReader, StoreWatch } from '../store/types.ts';
import { retried, transact } from '../transact.ts';
import { type AssignmentSet, difference, inBatches, sameNetworks } from './assignments.ts';
import { Leaving } from './leaving.ts';
import { Pulse } from './pulse.ts';
import { NOTHING, Session } from './session.ts';
import { type Refreshed, SharedAssignments } from './shared.ts';
import { StatusBatcher } from './statuses.ts';

/** Changes of the store are gathered for so long before nodes are told. */
const DEBOUNCE_MS = 5;
const EVENTS_AT_ONCE = 1000;
const MAX_UPDATES_PER_CALL = 10_000;
const REGISTER_ATTEMPTS = 5;
/** A session heard from within so many beats is alive: another host with its node is a copy. */
const ALIVE_BEATS = 3;

/** What the failure detector is told. `beatMs`: how soon the next heartbeat was asked for. */
export interface SessionEvents {
  opened(nodeId: string, beatMs: number): void;
  heard(nodeId: string, beatMs: number): void;
  broken(nodeId: string, reason: string): void;
  left(nodeId: string): void;
}

export interface ManagerInfo {
  readonly nodeId: string;
  readonly address: string;
  readonly isLeader: boolean;
}

export interface DispatcherOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly ids: Ids;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  readonly notLeader: () => SwarmError;
  /** Managers as agents should know them, leader first. */
  readonly managers: () => readonly ManagerInfo[];
  readonly sessions: SessionEvents;
}

export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #statuses: StatusBatcher;
  readonly #slices: Slices;
  #shared = new SharedAssignments();
  /** Gives up the refresh of it that is under way. */
  #giveUp: (() => void) | undefined;
  /** By node id. */
  readonly #sessions = new Map<string, Session>();
  readonly #dirtyNodes = new Set<string>();
  readonly #leaving: Leaving;
  #networksAt = 0;
  #watch: StoreWatch | undefined;
  #flushTimer: Timer | undefined;
  #active = false;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    const { clock, store, proposer } = options;
    this.#slices = new Slices(clock);
    this.#statuses = new StatusBatcher({ clock, view: store, proposer });
    const onReleased = (nodeId: string): void => {
      this.#dirtyNodes.add(nodeId);
      this.#flushTimer ??= clock.after(0, () => this.#flush());
    };
    this.#leaving = new Leaving(clock, onReleased, (nodeId) => this.#isAbsent(nodeId));
  }

  /** This manager leads and has applied an entry of its own term. Idempotent. */
  start(): void {
    if (this.#active) return;
    this.#active = true;
    this.#shared = new SharedAssignments();
    this.#openWatch();
  }

  /** Leadership is lost, or the manager stops: agents are sent to look for the leader. */
  stop(): void {
    if (!this.#active) return;
    this.#active = false;
    this.#watch?.close();
    this.#watch = undefined;
    this.#flushTimer?.cancel();
    this.#flushTimer = undefined;
    this.#giveUp?.();
    this.#giveUp = undefined;
    for (const session of this.#sessions.values()) session.end(this.#options.notLeader());
    this.#sessions.clear();
    this.#dirtyNodes.clear();
    this.#leaving.clear();
  }

  /** Milliseconds since each node with a session was heard from. */
  heartbeatAges(): ReadonlyMap<string, number> {
    const nowMs = this.#options.clock.nowMs();
    const ages = new Map<string, number>();
    for (const { nodeId, heardAtMs } of this.#sessions.values()) {
      ages.set(nodeId, Math.max(0, Math.round(nowMs - heardAtMs)));
    }
    return ages;
  }

  /** Something the session messages carry has changed (the managers, the leader). */
  announce(): void {
    for (const session of this.#sessions.values()) session.messages.poke();
  }

  handlers(): Handlers<typeof DispatcherService> {
    return {
      session: (request, send, context) => this.#serveSession(request, send, context),
      heartbeat: async ({ sessionId }, context) => {
        const session = this.#sessionOf(sessionId, context);
        session.beatMs = heartbeatMs(this.#options.store.cluster());
        this.#heard(session);
        return { periodMs: toU64(session.beatMs, 'periodMs') };
      },
      assignments: ({ sessionId }, send, context) =>
        this.#serveAssignments(this.#sessionOf(sessionId, context), send, context),
      applied: async ({ sessionId, sequence }, context) => {
        this.#confirm(this.#sessionOf(sessionId, context), Number(sequence));
        return {};
      },
      updateTaskStatus: (request, context) => this.#updateStatuses(request, context),
      leave: async (_request, context) => {
        const { nodeId } = need(context.peer, 'the caller');
        this.#assertActive();
        this.#sessions.get(nodeId)?.end(new SwarmError('cancelled', 'the node has left'));
        this.#options.sessions.left(nodeId);
        return {};
      },
    };
  }

  // ---- sessions --------------------------------------------------------------------------------

  async #serveSession(
    request: SessionRequest,
    send: Send<ReturnType<typeof sessionToWire>>,
    context: CallContext,
  ): Promise<void> {
    const { nodeId } = need(context.peer, 'the caller');
    this.#assertActive();
    this.#refuseCopy(nodeId, request, context.remoteAddress);
    await this.#register(nodeId, request, context.remoteAddress);
    this.#assertActive();
    const session = this.#open(nodeId, context);
    let told: SessionMessage | undefined;
    try {
      while (session.ended === undefined) {
        const message = this.#messageFor(session);
        if (!sameValue(told, message)) await send(sessionToWire(message));
        told = message;
        await session.messages.wait();
      }
      throw session.ended;
    } finally {
      this.#close(session, 'its session broke');
    }
  }

  #open(nodeId: string, context: CallContext): Session {
    const { clock, ids, log, sessions, store } = this.#options;
    const beatMs = heartbeatMs(store.cluster());
    const id = ids.object();
    const session = new Session(id, nodeId, context.remoteAddress, clock.nowMs(), beatMs);
    this.#sessions
      .get(nodeId)
      ?.end(new SwarmError('cancelled', 'a newer session of this node has taken over'));
    this.#sessions.set(nodeId, session);
    context.signal.addEventListener(
      'abort',
      () => session.end(new SwarmError('cancelled', 'the agent has left the session')),
      { once: true },
    );
    if (context.signal.aborted) session.end(new SwarmError('cancelled', 'the agent has left'));
    log.info('session opened', { nodeId, sessionId: session.id });
    sessions.opened(nodeId, beatMs);
    return session;
  }

  #close(session: Session, reason: string): void {
    session.end(new SwarmError('not_found', 'the session is over; open a new one'));
    if (this.#sessions.get(session.nodeId) !== session) return;
    this.#sessions.delete(session.nodeId);
    if (!this.#active) return;
    this.#options.log.info('session ended', { nodeId: session.nodeId, sessionId: session.id });
    this.#options.sessions.broken(session.nodeId, reason);
  }

  #messageFor(session: Session): SessionMessage {
    const { store, managers } = this.#options;
    const node = store.get('node', session.nodeId);
    const cluster = store.cluster();
    if (node === undefined || cluster === undefined) throw removedNode(session.nodeId);
    return {
      sessionId: session.id,
      nodeId: node.id,
      hostIndex: node.hostIndex,
      role: roleNow(node),
      managers: managers().map(({ nodeId, address, isLeader }) => ({
        nodeId,
        address,
        isLeader,
      })),
      heartbeatMs: session.beatMs,
      vxlanPort: cluster.vxlanPort,
      rootCaCertificate: trustOf(cluster),
      wantedIssuer: node.tls.wantedIssuer,
      certificateExpiryMs: cluster.spec.certificateExpiryMs,
    };
  }

  /** Two hosts with one identity: a data root, or a whole machine, was copied. */
  #refuseCopy(nodeId: string, request: SessionRequest, remoteAddress: string): void {
    const node = this.#options.store.get('node', nodeId);
    if (node === undefined) throw removedNode(nodeId);
    const known = node.description.machineId;
    const claimed = request.description?.machineId ?? '';
    const way = 'run "tsswarm leave --force" on the copy and join it again';
    if (known !== '' && claimed !== '' && known !== claimed) {
      throw new SwarmError(
        'forbidden',
        `the identity of node ${nodeId} was copied from another machine: ${way}`,
      );
    }
    const open = this.#sessions.get(nodeId);
    if (open === undefined || open.remoteAddress === remoteAddress) return;
    if (request.previousSessionId === open.id) return; // it moved to another address
    if (this.#options.clock.nowMs() - open.heardAtMs > ALIVE_BEATS * open.beatMs) return;
    throw new SwarmError(
      'forbidden',
      `node ${nodeId} is already here from ${open.remoteAddress}, ` +
        `so ${remoteAddress} is a copy of it: ${way}`,
    );
  }

  /** The node is ready, and the store says where and what it is. */
  async #register(nodeId: string, request: SessionRequest, remote: string): Promise<void> {
    const { store, proposer } = this.#options;
    const claimed = descriptionFromWire(need(request.description, 'description'));
    const description = checkDescription(claimed);
    await retried(REGISTER_ATTEMPTS, async () => {
      const node = store.get('node', nodeId);
      if (node === undefined) throw removedNode(nodeId);
      const object: Node = {
        ...node,
        description,
        address: hostAddress(request.address, remote),
        port: request.port === 0 ? node.port : request.port,
        state: 'ready',
        stateMessage: '',
        tls: { ...node.tls, issuer: request.issuer, trust: request.trust },
      };
      if (sameValue(node, object)) return;
      await transact(proposer, { kind: 'update', table: 'node', object });
    });
  }

  #assertActive(): void {
    if (!this.#active) throw this.#options.notLeader();
  }

  #sessionOf(sessionId: string, context: CallContext): Session {
    this.#assertActive();
    const session = this.#sessions.get(context.peer?.nodeId ?? '');
    if (session === undefined || session.id !== sessionId) {
      throw new SwarmError('not_found', 'the session is over; open a new one');
    }
    return session;
  }

  #heard(session: Session): void {
    session.heardAtMs = this.#options.clock.nowMs();
    this.#options.sessions.heard(session.nodeId, session.beatMs);
  }

  async #updateStatuses(
    request: UpdateTaskStatusRequest,
    context: CallContext,
  ): Promise<Record<string, never>> {
    const session = this.#sessionOf(request.sessionId, context);
    this.#heard(session);
    if (request.updates.length > MAX_UPDATES_PER_CALL) {
      throw new SwarmError('exhausted', `at most ${MAX_UPDATES_PER_CALL} statuses at once`);
    }
    await this.#statuses.submit(session.nodeId, request.updates.map(statusUpdateFromWire));
    return {};
  }

  // ---- assignments -----------------------------------------------------------------------------

  async #serveAssignments(
    session: Session,
    send: Send<ReturnType<typeof assignmentToWire>>,
    context: CallContext,
  ): Promise<void> {
    const pulse = new Pulse();
    session.streams.add(pulse);
    const closed = (): void => {
      session.streams.delete(pulse);
      pulse.poke();
    };
    context.signal.addEventListener('abort', closed, { once: true });
    this.#dirtyNodes.add(session.nodeId);
    this.#flush();
    let sent: AssignmentSet = NOTHING;
    let sequence = 0;
    let confirmedAt = 0;
    session.unconfirmed = [];
    // The first refresh of a leader takes its time; nothing is known until then.
    while (session.wanted === NOTHING && session.ended === undefined && !context.signal.aborted) {
      await pulse.wait();
    }
    while (session.ended === undefined && !context.signal.aborted) {
      const { wanted, networksAt } = session;
      const changed = difference(sent, wanted);
      if (sequence === 0 || changed.update.length > 0 || changed.remove.length > 0) {
        const batches = [...inBatches(changed)];
        for (const [at, { update, remove }] of batches.entries()) {
          const type = sequence === 0 ? 'complete' : 'incremental';
          const confirm = at === batches.length - 1 && networksAt > confirmedAt;
          const appliesTo = sequence;
          sequence += 1;
          if (confirm) session.toConfirm({ sequence, networksAt });
          const message = {
            type,
            appliesTo,
            resultsIn: sequence,
            update,
            remove,
            confirm,
          } as const;
          await send(assignmentToWire(message));
        }
        confirmedAt = networksAt;
      }
      sent = wanted;
      if (session.wanted === wanted) await pulse.wait();
    }
    if (session.ended !== undefined) throw session.ended;
  }

  /** Its daemon is away, and what it last set up in the kernel still works. */
  #isAbsent(nodeId: string): boolean {
    if (this.#sessions.has(nodeId)) return false;
    const state = this.#options.store.get('node', nodeId)?.state;
    return state === 'ready' || state === 'unknown';
  }

  #confirm(session: Session, sequence: number): void {
    const reached = session.unconfirmed.filter((each) => each.sequence <= sequence);
    session.unconfirmed = session.unconfirmed.slice(reached.length);
    const last = reached.at(-1);
    if (last !== undefined) this.#leaving.confirmed(session.nodeId, last.networksAt);
  }

  #openWatch(): void {
    const watch = this.#options.store.watch();
    watch.onEvents(() => this.#readEvents());
    this.#watch = watch;
  }

  #readEvents(): void {
    const watch = this.#watch;
    if (watch === undefined) return;
    try {
      for (;;) {
        const events = watch.take(EVENTS_AT_ONCE);
        for (const event of events) this.#note(event);
        if (events.length < EVENTS_AT_ONCE) break;
      }
    } catch (error) {
      if (!hasCode(error, 'exhausted')) throw error;
      // Fallen out of the ring: nothing is known of what changed, so everything may have.
      watch.close();
      this.#openWatch();
      this.#shared.noteAll();
      this.announce();
    }
    if (!this.#shared.isDirty && this.#dirtyNodes.size === 0) return;
    this.#flushTimer ??= this.#options.clock.after(DEBOUNCE_MS, () => this.#flush());
  }

  #note(event: StoreEvent): void {
    this.#shared.note(this.#options.store, event);
    if (event.table === 'task') {
      for (const task of [event.before, event.after] as readonly (Task | undefined)[]) {
        if (task !== undefined && task.nodeId !== '') this.#dirtyNodes.add(task.nodeId);
      }
    } else if (event.table === 'node') {
      if (event.kind === 'remove') this.#sessions.get(event.id)?.end(removedNode(event.id));
      const [before, after] = [event.before, event.after] as readonly (Node | undefined)[];
      if (after === undefined || after.state === 'down') this.#leaving.gone(event.id);
      if (!sameValue(before?.manager, after?.manager)) this.announce();
      else this.#sessions.get(event.id)?.messages.poke();
    } else if (event.table === 'cluster') this.announce();
  }

  /**
   * Decides anew what the sessions that may be concerned must hold; all from one moment, that at
   * which the parts they share have been made anew.
   */
  #flush(): void {
    this.#flushTimer?.cancel();
    this.#flushTimer = undefined;
    if (this.#giveUp !== undefined) return;
    let isDone = false;
    const giveUp = this.#slices.start(
      this.#shared.refresh(this.#options.store),
      (refreshed) => {
        isDone = true;
        this.#giveUp = undefined;
        this.#tell(refreshed);
      },
      (error) => {
        this.#giveUp = undefined;
        throw error;
      },
    );
    if (!isDone) this.#giveUp = giveUp;
  }

  #tell({ nodes, joined, ingress }: Refreshed): void {
    const { store } = this.#options;
    const next = new Map<Session, AssignmentSet>();
    const told = new Map<string, number>();
    for (const session of this.#sessions.values()) {
      const { nodeId, wanted } = session;
      const isOwn = wanted === NOTHING || this.#dirtyNodes.has(nodeId) || joined.has(nodeId);
      if (!isOwn && !ingress && !nodes.has(nodeId)) continue;
      const items = isOwn ? this.#shared.itemsOf(store, nodeId) : this.#shared.renewed(wanted);
      next.set(session, items);
      if (session.streams.size === 0 || sameNetworks(wanted, items)) continue;
      this.#networksAt += 1;
      session.networksAt = this.#networksAt;
      told.set(nodeId, session.networksAt);
    }
    if (told.size > 0) {
      for (const node of store.all('node')) {
        if (this.#isAbsent(node.id)) told.set(node.id, this.#networksAt);
      }
    }
    for (const [session, items] of next) {
      const isSame = items.tasks === session.wanted.tasks;
      session.wanted = isSame
        ? items
        : this.#leaving.hold(session.nodeId, session.wanted, items, told);
      session.pokeStreams();
    }
    this.#dirtyNodes.clear();
  }
}
