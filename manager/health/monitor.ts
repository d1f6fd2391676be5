/**
 * The failure detector's hands: ticks it, carries out its probes, writes what it says of nodes into
 * the store. Active on the leader only. It decides nothing about who is gone.
 */
import type { Clock, Timer } from '../../base/clock.ts';
import { hasCode, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import type { Node } from '../../model/types.ts';
import type { RpcChannel } from '../../proto/rpc.ts';
import { heartbeatMs } from '../heartbeat.ts';
import type { Proposer, StoreEvent, StoreReader, StoreWatch } from '../store/types.ts';
import { type Action, FailureDetector, type ProbeResult } from './detector.ts';
import { type ProbeHelper, probeRound } from './probe.ts';

const TICK_MS = 50;
const HELPERS = 2;
const WRITE_ATTEMPTS = 5;
const WRITE_RETRY_MS = 500;

export interface MonitorOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  /** A kept connection to a node's own listener. */
  readonly channelTo: (node: Node) => RpcChannel;
  /** Tests bring their own; default: TCP and the helpers' agents. */
  readonly probe?: (node: Node, helpers: readonly ProbeHelper[]) => Promise<ProbeResult>;
  readonly detector?: FailureDetector;
}

export class HealthMonitor {
  readonly #options: MonitorOptions;
  #detector: FailureDetector;
  #timer: Timer | undefined;
  #watch: StoreWatch | undefined;
  /** Writes of one node, in order. */
  readonly #writes = new Map<string, Promise<void>>();

  constructor(options: MonitorOptions) {
    this.#options = options;
    this.#detector = options.detector ?? new FailureDetector();
  }

  /** `formerLeader`: node id of the leader before, '' when there was none or it handed over. */
  start(formerLeader: string): void {
    if (this.#timer !== undefined) return;
    const { clock, store } = this.#options;
    this.#detector = this.#options.detector ?? new FailureDetector();
    const nowMs = clock.nowMs();
    for (const node of store.all('node')) {
      if (node.state === 'down') this.#detector.watch(node.id, 'down', nowMs);
      else if (node.id === formerLeader) this.#detector.watch(node.id, 'suspected', nowMs);
      else this.#await(node.id);
    }
    this.#follow();
    this.#tick();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#watch?.close();
    this.#watch = undefined;
  }

  opened(nodeId: string, beatMs: number): void {
    this.#detector.opened(nodeId, this.#options.clock.nowMs(), beatMs);
  }

  heard(nodeId: string, beatMs: number): void {
    this.#detector.heard(nodeId, this.#options.clock.nowMs(), beatMs);
  }

  broken(nodeId: string, reason: string): void {
    this.#detector.broken(nodeId, reason, this.#options.clock.nowMs());
  }

  /** Its host says that it has left the swarm. */
  left(nodeId: string): void {
    this.#detector.left(nodeId, this.#options.clock.nowMs());
  }

  /** Nodes come and go: a joined one is awaited, a removed one forgotten. */
  #follow(): void {
    const { store } = this.#options;
    const watch = store.watch();
    this.#watch = watch;
    watch.onEvents(() => {
      try {
        for (let events = watch.take(1000); events.length > 0; events = watch.take(1000)) {
          for (const event of events) {
            if (event.table !== 'node') continue;
            if (event.kind === 'remove' || hasRejoined(event)) this.#detector.forget(event.id);
            if (event.kind === 'create' || hasRejoined(event)) {
              this.#await(event.id);
            }
          }
        }
      } catch (error) {
        if (!hasCode(error, 'exhausted')) throw error;
        // Fallen out of the ring: compare with the store as it is and watch anew.
        watch.close();
        for (const node of store.all('node')) this.#await(node.id);
        this.#follow();
      }
    });
  }

  #await(nodeId: string): void {
    const { clock, store } = this.#options;
    this.#detector.watch(nodeId, 'awaited', clock.nowMs(), heartbeatMs(store.cluster()));
  }

  #tick(): void {
    const { clock } = this.#options;
    for (const action of this.#detector.tick(clock.nowMs())) this.#act(action);
    this.#timer = clock.afterIdle(TICK_MS, () => this.#tick());
  }

  #act(action: Action): void {
    const { clock, log, store } = this.#options;
    const node = store.get('node', action.nodeId);
    if (node === undefined) {
      this.#detector.forget(action.nodeId);
      return;
    }
    if (action.kind === 'probe') {
      const { nodeId, round } = action;
      const detector = this.#detector;
      void this.#probe(node).then((result) => {
        log.debug('probed', { nodeId, round, result });
        detector.probed(nodeId, round, result, clock.nowMs());
      });
      return;
    }
    log.warn('node state', { nodeId: node.id, state: action.state, reason: action.message });
    const before = this.#writes.get(node.id) ?? Promise.resolve();
    const write = before.then(() => this.#write(action));
    this.#writes.set(node.id, write);
    void write.then(() => {
      if (this.#writes.get(node.id) === write) this.#writes.delete(node.id);
    });
  }

  #probe(node: Node): Promise<ProbeResult> {
    const helpers = this.#helpers(node.id);
    const { probe, clock } = this.#options;
    if (probe !== undefined) return probe(node, helpers);
    return probeRound(clock, { nodeId: node.id, address: node.address, port: node.port }, helpers);
  }

  /** Up to two other nodes that are live here, chosen at random. */
  #helpers(nodeId: string): readonly ProbeHelper[] {
    const { store, random, channelTo } = this.#options;
    const live: Node[] = [];
    for (const node of store.all('node')) {
      if (node.id !== nodeId && this.#detector.phaseOf(node.id) === 'live') live.push(node);
    }
    const chosen: ProbeHelper[] = [];
    while (chosen.length < HELPERS && live.length > 0) {
      const [node] = live.splice(random.below(live.length), 1);
      chosen.push({ nodeId: node.id, channel: channelTo(node) });
    }
    return chosen;
  }

  async #write(action: Extract<Action, { kind: 'state' }>): Promise<void> {
    const { store, proposer, clock, log } = this.#options;
    for (let attempt = 1; attempt <= WRITE_ATTEMPTS; attempt += 1) {
      const node = store.get('node', action.nodeId);
      if (node === undefined || !this.#stillHolds(action)) return;
      const object: Node = {
        ...node,
        state: action.state,
        stateMessage: action.message,
        downSinceMs: action.state === 'down' ? Math.floor(clock.wallMs()) : node.downSinceMs,
      };
      try {
        const change = { kind: 'update', table: 'node', object } as const;
        const { rejected } = await proposer.propose({ atomic: true, changes: [change] });
        if (rejected.length === 0) return;
      } catch (error) {
        // A lost leader stops soon and the next one finds out for itself; else it is due again.
        log.warn('node state not written', { nodeId: node.id, error: messageOf(error) });
        await clock.sleep(WRITE_RETRY_MS);
        this.#detector.unwritten(action.nodeId);
        return;
      }
    }
    log.warn('node state not written: the node changes too fast', { nodeId: action.nodeId });
    await clock.sleep(WRITE_RETRY_MS);
    this.#detector.unwritten(action.nodeId);
  }

  /** A node that came back while the write waited is not written off. */
  #stillHolds(action: Extract<Action, { kind: 'state' }>): boolean {
    const phase = this.#detector.phaseOf(action.nodeId);
    return action.state === 'ready' ? phase === 'live' : phase !== 'live' && phase !== undefined;
  }
}

/** A node that was down has a new certificate: its session is awaited as a new node's is. */
function hasRejoined({ kind, before, after }: StoreEvent): boolean {
  if (kind !== 'update') return false;
  return (before as Node).state === 'down' && (after as Node).state === 'unknown';
}
