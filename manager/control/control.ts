/**
 * Control as one manager offers it: writes run here when it leads and at the leader otherwise, and
 * are answered once this manager's own store holds them; reads come from the local store after a
 * barrier. A write whose fate is unknown is never sent twice, but for a removal: what is not found
 * then has been removed.
 *
 * | a write meets | then |
 * |---|---|
 * | this manager leads | done here; what is refused, only once its store is known to be current |
 * | another leads | forwarded; 'not_leader' back, or nobody reached, means untouched: asked again |
 * | nobody leads | waits a few seconds for a leader, then no_quorum |
 * | the connection breaks, or nothing is answered | 'unavailable': its fate is not known |
 */
import type { Clock } from '../../base/clock.ts';
import { hasCode, messageOf, SwarmError } from '../../base/errors.ts';
import type {
  AnyObject,
  Cluster,
  ClusterSpec,
  DataSpec,
  DataTable,
  Network,
  NetworkSpec,
  Node,
  NodeSpec,
  Service,
  ServiceSpec,
  TableName,
  Tables,
} from '../../model/types.ts';
import {
  clusterSpecToWire,
  dataSpecToWire,
  fromU64,
  need,
  networkSpecToWire,
  nodeSpecToWire,
  objectFromWire,
  serviceSpecToWire,
  toU64,
} from '../../proto/convert.ts';
import { type CallOptions, type Client, client, type RpcChannel } from '../../proto/rpc.ts';
import { Control as ControlService, type ObjectResponse } from '../../proto/services.ts';
import { joinTokens } from '../ca/tokens.ts';
import type { ManagersPicture } from '../managers.ts';
import type { Proposer, StoreReader } from '../store/types.ts';
import { confirmed } from '../transact.ts';
import type { Control, JoinTokens, RaftSummary, Rotations } from './types.ts';
import type { Writes, Written } from './writes.ts';

/** How long a write waits for somebody to lead. */
const LEADER_WAIT_MS = 5000;
const LEADER_POLL_MS = 50;
/** A forwarded write, the leader's own proposal deadline included. */
const FORWARD_TIMEOUT_MS = 15_000;
/** Until the local store holds what the leader has acknowledged. */
const APPLY_TIMEOUT_MS = 10_000;

export interface ControlOptions {
  readonly clock: Clock;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  readonly writes: Writes;
  /** Address of the leader, '' while none is known. */
  readonly leaderAddress: () => string;
  /** SwarmError no_quorum that names the managers that are missing. */
  readonly noQuorum: () => SwarmError;
  /** A kept connection to another manager. */
  readonly channelTo: (address: string) => RpcChannel;
  readonly raftStatus: () => RaftSummary;
  readonly managers: () => Promise<ManagersPicture>;
  readonly warnings: () => readonly string[];
  /** Calls `listener` whenever who leads changes; returns the stop. */
  readonly onLeadership: (listener: () => void) => () => void;
}

/** Nothing was done: the leader of a moment ago leads no more, or was not reached at all. */
function isUntouched(error: unknown): boolean {
  if (hasCode(error, 'not_leader')) return true;
  return hasCode(error, 'unavailable') && error.detail['unsent'] === 'true';
}

/** The leader may have got it: the connection broke, or no answer came in time. */
function isLost(error: unknown): boolean {
  if (hasCode(error, 'timeout')) return true;
  return hasCode(error, 'unavailable') && error.detail['reason'] === 'broken';
}

type Remote = Client<typeof ControlService>;
type Ask = (remote: Remote, options: CallOptions) => Promise<ObjectResponse>;

export class ManagerControl implements Control {
  readonly #options: ControlOptions;

  constructor(options: ControlOptions) {
    this.#options = options;
  }

  get store(): StoreReader {
    return this.#options.store;
  }

  async read(): Promise<StoreReader> {
    try {
      await this.#options.proposer.barrier();
    } catch (error) {
      throw hasCode(error, 'no_quorum') ? this.#options.noQuorum() : error;
    }
    return this.#options.store;
  }

  createService(spec: ServiceSpec): Promise<Service> {
    return this.#write(
      'service',
      (writes) => writes.createService(spec),
      (remote, options) => remote.createService({ spec: serviceSpecToWire(spec) }, options),
    );
  }

  updateService(id: string, version: number, spec: ServiceSpec): Promise<Service> {
    return this.#write(
      'service',
      (writes) => writes.updateService(id, version, spec),
      (remote, options) => {
        const request = { id, version: toU64(version, 'version'), spec: serviceSpecToWire(spec) };
        return remote.updateService(request, options);
      },
    );
  }

  rollbackService(id: string, version: number): Promise<Service> {
    return this.#write(
      'service',
      (writes) => writes.rollbackService(id, version),
      (remote, options) =>
        remote.rollbackService({ id, version: toU64(version, 'version') }, options),
    );
  }

  async removeService(id: string): Promise<void> {
    await this.#remove(
      'service',
      (writes) => writes.removeService(id),
      (remote, options) => remote.removeService({ id }, options),
    );
  }

  createNetwork(spec: NetworkSpec): Promise<Network> {
    return this.#write(
      'network',
      (writes) => writes.createNetwork(spec),
      (remote, options) => remote.createNetwork({ spec: networkSpecToWire(spec) }, options),
    );
  }

  async removeNetwork(id: string): Promise<void> {
    await this.#remove(
      'network',
      (writes) => writes.removeNetwork(id),
      (remote, options) => remote.removeNetwork({ id }, options),
    );
  }

  createData<T extends DataTable>(table: T, spec: DataSpec): Promise<Tables[T]> {
    return this.#write(
      table,
      (writes) => writes.createData(table, spec),
      (remote, options) => remote.createData({ table, spec: dataSpecToWire(spec) }, options),
    );
  }

  updateData<T extends DataTable>(
    table: T,
    id: string,
    version: number,
    spec: DataSpec,
  ): Promise<Tables[T]> {
    return this.#write(
      table,
      (writes) => writes.updateData(table, id, version, spec),
      (remote, options) => {
        const at = toU64(version, 'version');
        return remote.updateData({ table, id, version: at, spec: dataSpecToWire(spec) }, options);
      },
    );
  }

  async removeData(table: DataTable, id: string): Promise<void> {
    await this.#remove(
      table,
      (writes) => writes.removeData(table, id),
      (remote, options) => remote.removeData({ table, id }, options),
    );
  }

  updateNode(id: string, version: number, spec: NodeSpec, replaces = ''): Promise<Node> {
    return this.#write(
      'node',
      (writes) => writes.updateNode(id, version, spec, replaces),
      (remote, options) => {
        const wire = { spec: nodeSpecToWire(spec), replaces };
        return remote.updateNode({ id, version: toU64(version, 'version'), ...wire }, options);
      },
    );
  }

  async removeNode(id: string, force: boolean): Promise<void> {
    await this.#remove(
      'node',
      (writes) => writes.removeNode(id, force),
      (remote, options) => remote.removeNode({ id, force }, options),
    );
  }

  updateCluster(version: number, spec: ClusterSpec, rotate: Rotations): Promise<Cluster> {
    return this.#write(
      'cluster',
      (writes) => writes.updateCluster(version, spec, rotate),
      (remote, options) => {
        const request = {
          version: toU64(version, 'version'),
          spec: clusterSpecToWire(spec),
          rotateWorkerToken: rotate.workerToken,
          rotateManagerToken: rotate.managerToken,
          signingCaKey: rotate.signingCaKey,
          rotateUnlockKey: rotate.unlockKey,
        };
        return remote.updateCluster(request, options);
      },
    );
  }

  rebalance(): Promise<Cluster> {
    return this.#write(
      'cluster',
      (writes) => writes.rebalance(),
      (remote, options) => remote.rebalance({}, options),
    );
  }

  async joinTokens(): Promise<JoinTokens> {
    const cluster = (await this.read()).cluster();
    if (cluster === undefined) throw new SwarmError('unavailable', 'the swarm is just starting');
    return joinTokens(cluster);
  }

  raftStatus(): RaftSummary {
    return this.#options.raftStatus();
  }

  managers(): Promise<ManagersPicture> {
    return this.#options.managers();
  }

  warnings(): readonly string[] {
    return this.#options.warnings();
  }

  /** Asked once more when its fate is not known: to remove what is gone does no harm. */
  async #remove<T extends TableName>(
    table: T,
    here: (writes: Writes) => Promise<Written<Tables[T]>>,
    there: Ask,
  ): Promise<void> {
    try {
      await this.#write(table, here, there);
      return;
    } catch (error) {
      if (!hasCode(error, 'unavailable')) throw error;
    }
    try {
      await this.#write(table, here, there);
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error;
      await this.read(); // the local store has applied it then
    }
  }

  async #write<T extends TableName>(
    table: T,
    here: (writes: Writes) => Promise<Written<Tables[T]>>,
    there: Ask,
  ): Promise<Tables[T]> {
    const { clock, proposer, store, writes } = this.#options;
    const untilMs = clock.nowMs() + LEADER_WAIT_MS;
    const read = (): Promise<StoreReader> => this.read();
    for (;;) {
      try {
        if (proposer.isLeader) {
          return (await confirmed(store, read, () => here(writes))).object;
        }
        const address = this.#options.leaderAddress();
        if (address !== '') return await this.#forward(table, address, there);
      } catch (error) {
        if (!isUntouched(error)) throw error;
      }
      if (clock.nowMs() >= untilMs) throw this.#options.noQuorum();
      await clock.sleep(LEADER_POLL_MS);
    }
  }

  async #forward<T extends TableName>(table: T, address: string, there: Ask): Promise<Tables[T]> {
    const answer = await this.#ask(address, there);
    const { object } = objectFromWire(need(answer.object, 'object'));
    await this.#applied(fromU64(answer.version, 'version'));
    const stored: AnyObject | undefined = this.#options.store.get(table, object.id);
    return (stored ?? object) as Tables[T];
  }

  /** A leader that leads no more may never answer: what it was asked is given up at once. */
  async #ask(address: string, there: Ask): Promise<ObjectResponse> {
    const { channelTo, leaderAddress, onLeadership } = this.#options;
    const given = new AbortController();
    const stop = onLeadership(() => {
      if (leaderAddress() !== address) given.abort();
    });
    try {
      const options = { timeoutMs: FORWARD_TIMEOUT_MS, signal: given.signal };
      return await there(client(ControlService, channelTo(address)), options);
    } catch (error) {
      if (!given.signal.aborted && !isLost(error)) throw error;
      const why = given.signal.aborted ? `the leader ${address} was lost` : messageOf(error);
      throw new SwarmError(
        'unavailable',
        `${why}: whether the change was made is not known; look, then retry`,
        { cause: error },
      );
    } finally {
      stop();
    }
  }

  /** Resolves once the local store has applied `version`. */
  async #applied(version: number): Promise<void> {
    const { clock, store } = this.#options;
    if (store.version >= version) return;
    const watch = store.watch();
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = clock.after(APPLY_TIMEOUT_MS, () =>
          reject(
            new SwarmError(
              'unavailable',
              'the change was made, but this manager has not received it yet: it lags behind',
            ),
          ),
        );
        watch.onEvents(() => {
          if (store.version < version) return;
          timer.cancel();
          resolve();
        });
      });
    } finally {
      watch.close();
    }
  }
}
