/**
 * The writes behind the API, as the leader carries them out: check the request, resolve names,
 * make one atomic transaction, say what came of it. Followers send theirs here (control.ts). It
 * schedules and allocates nothing; loops do, once the change is applied.
 */

import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import { parseRange, rangesOverlap } from '../../base/ipRange.ts';
import { Serial } from '../../base/queue.ts';
import type { Random } from '../../base/random.ts';
import { SEAL_KEY_BYTES } from '../../base/seal.ts';
import { DEFAULT_CLUSTER_SPEC, NODE_LOCAL_NETWORKS } from '../../model/defaults.ts';
import { sameValue } from '../../model/equal.ts';
import { isJob } from '../../model/job.ts';
import { subnet6Of } from '../../model/subnet6.ts';
import { isTerminal, isWantedState } from '../../model/taskState.ts';
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
  validateClusterSpec,
  validateNetworkSpec,
  validateNodeSpec,
  validateServiceSpec,
} from '../../model/validate.ts';
import { NetworkAllocator } from '../allocator/networks.ts';
import { nextRotation } from '../ca/newRoot.ts';
import { newJoinSecret } from '../ca/tokens.ts';
import type { Change, Proposer, StoreReader } from '../store/types.ts';
import { retried, transact } from '../transact.ts';
import { newData, relabelled, resolveReferences } from './dataWrites.ts';
import { checkCanHave } from './portChecks.ts';
import type { Rotations } from './types.ts';

/** An object as of `version`, the Raft index of the write. */
export interface Written<T extends AnyObject> {
  readonly object: T;
  readonly version: number;
}

export interface WritesOptions {
  readonly clock: Clock;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  readonly ids: Ids;
  readonly random: Random;
  /** Why this manager cannot be taken out of Raft now; '' when it can. */
  readonly cannotDemote: (raftId: number) => Promise<string>;
}

/** More managers than any cluster has. */
const DEMOTIONS_WAITING = 64;

/** Less than a forwarded call waits; a stop with Docker's grace of 10 s fits in. */
const RELEASE_WAIT_MS = 12_000;
const RELEASE_POLL_MS = 100;

/** Of so many removals within a certificate's life the latest are remembered. */
const REMOVED_NODES_MAX = 1000;
/** What else changes an object comes in bursts of a few, and its spec may be the same after. */
const WRITE_TRIES = 5;

const FRESH = { version: 0, createdAtMs: 0, updatedAtMs: 0 } as const;

export class Writes {
  readonly #options: WritesOptions;
  readonly #demotions = new Serial(DEMOTIONS_WAITING);

  constructor(options: WritesOptions) {
    this.#options = options;
  }

  // ---- services --------------------------------------------------------------------------------

  async createService(request: ServiceSpec): Promise<Written<Service>> {
    const spec = this.#checked('', request);
    const object: Service = {
      ...FRESH,
      id: this.#options.ids.object(),
      spec,
      previousSpec: undefined,
      specVersion: 0,
      update: undefined,
      virtualAddresses: [],
      ports: [],
      allocatedVersion: 0,
      job: isJob(spec.mode)
        ? { iteration: 0, lastExecutionMs: this.#options.clock.wallMs() }
        : undefined,
    };
    return this.#put({ kind: 'create', table: 'service', object });
  }

  updateService(id: string, version: number, request: ServiceSpec): Promise<Written<Service>> {
    return retried(WRITE_TRIES, () => this.#updateService(id, version, request));
  }

  async #updateService(
    id: string,
    version: number,
    request: ServiceSpec,
  ): Promise<Written<Service>> {
    const service = this.#at('service', id, version);
    const spec = this.#checked(id, request);
    if (spec.name !== service.spec.name) {
      throw new SwarmError('unsupported', 'a service cannot be renamed: create it anew');
    }
    if (spec.mode.kind !== service.spec.mode.kind) {
      throw new SwarmError(
        'unsupported',
        'the mode of a service cannot be changed: remove it and create it anew',
      );
    }
    const object: Service = {
      ...service,
      spec,
      previousSpec: service.spec,
      update: undefined,
      job: this.#nextJob(service, spec),
    };
    return this.#put({ kind: 'update', table: 'service', object });
  }

  rollbackService(id: string, version: number): Promise<Written<Service>> {
    return retried(WRITE_TRIES, () => this.#rollbackService(id, version));
  }

  async #rollbackService(id: string, version: number): Promise<Written<Service>> {
    const service = this.#at('service', id, version);
    if (service.previousSpec === undefined) {
      throw new SwarmError('invalid', `service ${service.spec.name} has no previous spec`);
    }
    const object: Service = {
      ...service,
      spec: this.#checked(id, service.previousSpec),
      previousSpec: service.spec,
      job: this.#nextJob(service, service.previousSpec),
      update: {
        state: 'rollback_started',
        startedAtMs: this.#options.clock.wallMs(),
        completedAtMs: 0,
        message: 'manually requested rollback',
      },
    };
    return this.#put({ kind: 'update', table: 'service', object });
  }

  /** A job runs once more when its tasks, or how many are to complete, are asked for anew. */
  #nextJob({ job, spec: before }: Service, spec: ServiceSpec): Service['job'] {
    if (job === undefined) return undefined;
    if (sameValue(before.task, spec.task) && sameValue(before.mode, spec.mode)) return job;
    return { iteration: job.iteration + 1, lastExecutionMs: this.#options.clock.wallMs() };
  }

  async removeService(id: string): Promise<Written<Service>> {
    return this.#remove('service', this.#find('service', id));
  }

  /** The spec, valid, with its networks, secrets and configs by id. */
  #checked(id: string, spec: ServiceSpec): ServiceSpec {
    validateServiceSpec(spec);
    const seen = new Set<string>();
    const networks = spec.task.networks.map((attachment) => {
      const target = this.#networkId(attachment.target);
      if (seen.has(target)) {
        throw new SwarmError(
          'invalid',
          `network ${attachment.target} is named twice: once will do`,
        );
      }
      seen.add(target);
      return { ...attachment, target };
    });
    const container = resolveReferences(this.#options.store, spec.task.container);
    const resolved = { ...spec, task: { ...spec.task, container, networks } };
    checkCanHave(this.#options.store, id, resolved);
    return resolved;
  }

  #networkId(nameOrId: string): string {
    const { store } = this.#options;
    const found = store.get('network', nameOrId) ?? store.byName('network', nameOrId);
    if (found !== undefined) return found.id;
    if (NODE_LOCAL_NETWORKS.includes(nameOrId)) return nameOrId;
    throw new SwarmError(
      'not_found',
      `network ${nameOrId} not found: create it with "tsswarm network create ${nameOrId}"`,
    );
  }

  // ---- networks --------------------------------------------------------------------------------

  async createNetwork(spec: NetworkSpec): Promise<Written<Network>> {
    validateNetworkSpec(spec);
    if (NODE_LOCAL_NETWORKS.includes(spec.name)) {
      throw new SwarmError('conflict', `network ${spec.name} is there on every host already`);
    }
    const object: Network = {
      ...FRESH,
      id: this.#options.ids.object(),
      spec,
      vni: 0,
      subnet: '',
      gateway: '',
      error: '',
    };
    this.#checkSubnet6(object);
    // What the allocator would say a moment later, while there is somebody to hear it.
    const { error } = new NetworkAllocator(this.#options.store).allocate(object);
    if (error !== '') throw new SwarmError('conflict', error);
    return this.#put({ kind: 'create', table: 'network', object });
  }

  /** IPv6 subnets are not allocated: what would overlap another network is refused here. */
  #checkSubnet6(network: Network): void {
    const subnet6 = subnet6Of(network);
    if (subnet6 === '') return;
    for (const other of this.#options.store.all('network')) {
      const taken = subnet6Of(other);
      if (taken === '' || !rangesOverlap(parseRange(subnet6), parseRange(taken))) continue;
      throw new SwarmError(
        'conflict',
        `subnet ${subnet6} overlaps network "${other.spec.name}" (${taken}): choose another one`,
      );
    }
  }

  async removeNetwork(id: string): Promise<Written<Network>> {
    const network = this.#find('network', id);
    await this.#untilReleased(network.id);
    return this.#remove('network', network);
  }

  /** Tasks that were told to stop still hold their network: waits for those, and for no others. */
  async #untilReleased(networkId: string): Promise<void> {
    const { clock, store } = this.#options;
    const uses = (service: Service): boolean =>
      service.spec.task.networks.some(({ target }) => target === networkId);
    if ([...store.all('service')].some(uses)) return;
    const untilMs = clock.nowMs() + RELEASE_WAIT_MS;
    while (clock.nowMs() < untilMs) {
      const holders = [...store.tasksOfNetwork(networkId)].filter(
        ({ status }) => !isTerminal(status.state),
      );
      // A task of a removed service is as good as told: its orchestrator is just behind.
      const stopping = holders.filter(
        (task) =>
          !isWantedState(task.desiredState) || store.get('service', task.serviceId) === undefined,
      );
      if (stopping.length === 0 || stopping.length < holders.length) return;
      await clock.sleep(RELEASE_POLL_MS);
    }
  }

  // ---- secrets and configs ---------------------------------------------------------------------

  async createData<T extends DataTable>(table: T, spec: DataSpec): Promise<Written<Tables[T]>> {
    const { store, ids } = this.#options;
    const object = newData(store, table, ids.object(), spec) as Tables[T];
    return this.#put({ kind: 'create', table, object });
  }

  /** Labels only. */
  async updateData<T extends DataTable>(
    table: T,
    id: string,
    version: number,
    spec: DataSpec,
  ): Promise<Written<Tables[T]>> {
    const object = relabelled(table, this.#at(table, id, version), spec) as Tables[T];
    return this.#put({ kind: 'update', table, object });
  }

  async removeData<T extends DataTable>(table: T, id: string): Promise<Written<Tables[T]>> {
    return this.#remove(table, this.#find(table, id));
  }

  // ---- nodes -----------------------------------------------------------------------------------

  async updateNode(
    id: string,
    version: number,
    spec: NodeSpec,
    replaces = '',
  ): Promise<Written<Node>> {
    if (replaces !== '') return this.#replaceManager(id, version, spec, replaces);
    const update = async (): Promise<Written<Node>> => {
      const node = this.#at('node', id, version);
      validateNodeSpec(spec);
      if (node.spec.role === 'manager' && spec.role === 'worker') await this.#checkDemotion(node);
      return this.#put({ kind: 'update', table: 'node', object: { ...node, spec } });
    };
    // One after another: two last managers demoted at once would each count on the other.
    const demotes =
      spec.role === 'worker' && this.#options.store.get('node', id)?.spec.role === 'manager';
    const write = (): Promise<Written<Node>> => retried(WRITE_TRIES, update);
    return demotes ? this.#demotions.run(write) : write();
  }

  /** Both at once: the one that is to go does so when the other takes its place. */
  async #replaceManager(
    id: string,
    version: number,
    spec: NodeSpec,
    replaces: string,
  ): Promise<Written<Node>> {
    const node = this.#at('node', id, version);
    const old = this.#find('node', replaces);
    validateNodeSpec(spec);
    const name = node.description.hostname || id;
    if (spec.role !== 'manager' || node.spec.role === 'manager') {
      throw new SwarmError('conflict', `node ${name} is a manager already: it replaces nobody`);
    }
    if (old.spec.role !== 'manager') {
      throw new SwarmError('conflict', `node ${old.description.hostname} is no manager`);
    }
    if (node.state !== 'ready') {
      throw new SwarmError('conflict', `node ${name} is ${node.state}: it cannot be a manager now`);
    }
    const leaves = { ...old, spec: { ...old.spec, role: 'worker' as const } };
    const object = { ...node, spec };
    const came = { kind: 'update', table: 'node', object } as const;
    const went = { kind: 'update', table: 'node', object: leaves } as const;
    return { object, version: await this.#propose(came, went) };
  }

  async #checkDemotion(node: Node): Promise<void> {
    const others = [...this.#options.store.all('node')].filter(
      (other) => other.id !== node.id && other.spec.role === 'manager',
    );
    if (others.length === 0) {
      throw new SwarmError(
        'conflict',
        'this is the last manager and cannot be demoted: promote another node first',
      );
    }
    const { manager } = node;
    const why = manager === undefined ? '' : await this.#options.cannotDemote(manager.raftId);
    if (why !== '') throw new SwarmError('conflict', `cannot demote this manager: ${why}`);
  }

  async removeNode(id: string, force: boolean): Promise<Written<Node>> {
    const node = this.#find('node', id);
    const name = node.description.hostname || node.id;
    if (node.spec.role === 'manager' || node.manager !== undefined) {
      throw new SwarmError(
        'conflict',
        `node ${name} is a cluster manager and is a member of the raft cluster: ` +
          `demote it first ("tsswarm node demote ${name}")`,
      );
    }
    if (node.state !== 'down' && !force) {
      throw new SwarmError(
        'conflict',
        `node ${name} is not down and cannot be removed: run "tsswarm leave" on it, or use --force`,
      );
    }
    return this.#removeForGood(node);
  }

  /** Its certificates stay valid until they expire: that it was removed is remembered so long. */
  async #removeForGood(node: Node): Promise<Written<Node>> {
    const { clock, store } = this.#options;
    return retried(WRITE_TRIES, async () => {
      const changes: Change[] = [{ kind: 'remove', table: 'node', id: node.id }];
      const cluster = store.cluster();
      if (cluster !== undefined) {
        const nowMs = Math.floor(clock.wallMs());
        const object = { ...cluster, removedNodes: withRemoved(cluster, node.id, nowMs) };
        changes.push({ kind: 'update', table: 'cluster', object });
      }
      return { object: node, version: await this.#propose(...changes) };
    });
  }

  // ---- cluster ---------------------------------------------------------------------------------

  async updateCluster(
    version: number,
    spec: ClusterSpec,
    rotate: Rotations,
  ): Promise<Written<Cluster>> {
    const { store, random } = this.#options;
    const cluster = store.cluster();
    if (cluster === undefined) throw new SwarmError('unavailable', 'the swarm is just starting');
    this.#checkVersion('cluster', cluster, version);
    validateClusterSpec(spec);
    const object: Cluster = {
      ...cluster,
      spec,
      unlockKey: nextUnlockKey(cluster, spec, rotate.unlockKey, random),
      rootRotation: await nextRotation({
        cluster,
        spec,
        signingCaKey: rotate.signingCaKey,
        nowMs: this.#options.clock.wallMs(),
        random,
      }),
      joinSecretWorker: rotate.workerToken ? newJoinSecret(random) : cluster.joinSecretWorker,
      joinSecretManager: rotate.managerToken ? newJoinSecret(random) : cluster.joinSecretManager,
    };
    return this.#put({ kind: 'update', table: 'cluster', object });
  }

  /** The version is not asked for: whatever changed meanwhile does not speak against it. */
  async rebalance(): Promise<Written<Cluster>> {
    const { store, clock } = this.#options;
    const cluster = store.cluster();
    if (cluster === undefined) throw new SwarmError('unavailable', 'the swarm is just starting');
    // Tasks of this very moment are among those that may move.
    const object: Cluster = { ...cluster, rebalanceAtMs: Math.floor(clock.wallMs()) + 1 };
    return this.#put({ kind: 'update', table: 'cluster', object });
  }

  // ---- common ----------------------------------------------------------------------------------

  #find<T extends TableName>(table: T, id: string): Tables[T] {
    const object = this.#options.store.get(table, id);
    if (object === undefined) throw new SwarmError('not_found', `${table} ${id} not found`);
    return object;
  }

  #at<T extends TableName>(table: T, id: string, version: number): Tables[T] {
    const object = this.#find(table, id);
    this.#checkVersion(table, object, version);
    return object;
  }

  /** What else changed since `version` (addresses, states) does not speak against a new spec. */
  #checkVersion(table: TableName, object: AnyObject, version: number): void {
    const least = 'specVersion' in object ? object.specVersion : object.version;
    if (version >= least && version <= object.version) return;
    throw new SwarmError(
      'out_of_sequence',
      `update out of sequence: ${table} ${object.id} has changed meanwhile ` +
        `(it is at version ${object.version}, the request was made from ${version})`,
    );
  }

  async #put<T extends TableName>(change: {
    readonly kind: 'create' | 'update';
    readonly table: T;
    readonly object: Tables[T];
  }): Promise<Written<Tables[T]>> {
    const version = await this.#propose(change as unknown as Change);
    const stored = this.#options.store.get(change.table, change.object.id);
    return { object: stored ?? change.object, version };
  }

  async #remove<T extends TableName>(table: T, object: Tables[T]): Promise<Written<Tables[T]>> {
    const change = { kind: 'remove', table, id: object.id } as unknown as Change;
    return { object, version: await this.#propose(change) };
  }

  #propose(...changes: readonly Change[]): Promise<number> {
    return transact(this.#options.proposer, ...changes);
  }
}

/** A key while managers are to be locked, another one when asked for; '' otherwise. */
function nextUnlockKey(
  { unlockKey }: Cluster,
  { autoLockManagers }: ClusterSpec,
  rotate: boolean,
  random: Random,
): string {
  if (!autoLockManagers) return '';
  if (unlockKey !== '' && !rotate) return unlockKey;
  return Buffer.from(random.bytes(SEAL_KEY_BYTES)).toString('hex');
}

export function withRemoved(
  cluster: Cluster,
  nodeId: string,
  nowMs: number,
): Cluster['removedNodes'] {
  // The lifetime may have been longer when its certificate was issued: at least the default.
  const lifeMs = Math.max(
    cluster.spec.certificateExpiryMs,
    DEFAULT_CLUSTER_SPEC.certificateExpiryMs,
  );
  const known = cluster.removedNodes.filter(({ id, untilMs }) => untilMs > nowMs && id !== nodeId);
  return [...known, { id: nodeId, untilMs: nowMs + lifeMs }].slice(-REMOVED_NODES_MAX);
}
