/**
 * A DaemonNode for tests of the API and the command: the real store, written at once by a control
 * that a script can make fail, and tasks that run as soon as they are made. No Raft, no containers.
 */
import { Readable } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import type { Examined } from '../../daemon/examine.ts';
import type {
  DaemonNode,
  HostInfo,
  InitRequest,
  JoinRequest,
  LocalNode,
  RestoreRequest,
  TaskLogQuery,
  TaskLogRecord,
} from '../../daemon/types.ts';
import { newData, relabelled } from '../../manager/control/dataWrites.ts';
import type { Control } from '../../manager/control/types.ts';
import type { ManagersPicture } from '../../manager/managers.ts';
import { Store } from '../../manager/store/store.ts';
import type { Change } from '../../manager/store/types.ts';
import { TaskState } from '../../model/taskState.ts';
import type {
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
  Tables,
  Task,
} from '../../model/types.ts';
import {
  validateNetworkSpec,
  validateNodeSpec,
  validateServiceSpec,
} from '../../model/validate.ts';
import { cluster, node } from './objects.ts';
import { HOST_INFO, NOTHING_EXAMINED, scriptedHost, scriptedTaskHosts } from './scriptedHost.ts';
import { ScriptedImages } from './scriptedImages.ts';

const BASE = { version: 0, createdAtMs: 0, updatedAtMs: 0 };
const GIB = 1024 ** 3;

export class ScriptedNode implements DaemonNode, Control {
  readonly version = '0.1.0';
  readonly store = new Store();
  readonly images = new ScriptedImages();
  readonly taskHosts = scriptedTaskHosts(this.store, () => this.localNode.nodeId);
  readonly host = scriptedHost(this.images);
  readonly inits: InitRequest[] = [];
  readonly joins: JoinRequest[] = [];
  readonly restored: (RestoreRequest & { readonly bytes: Buffer })[] = [];
  backupBytes = Buffer.from('a backup');
  readonly logQueries: TaskLogQuery[] = [];
  /** Lines that taskLogs gives, for the tasks that are asked for. */
  logLines: { readonly stream: 'stdout' | 'stderr'; readonly text: string }[] = [];
  /** Tasks of new services stay pending for this reason instead of running. */
  unplaceable = '';
  /** What the next write of the cluster throws. */
  failure: SwarmError | undefined;
  localNode: LocalNode;
  readonly #ids = new Ids(new SeededRandom(7));
  #index = 0;
  #generation = 0;

  /** Three ready nodes, all managers, the first one leads and is this one. */
  constructor() {
    this.localNode = {
      state: 'active',
      error: '',
      nodeId: '',
      address: '10.99.0.11',
      role: 'manager',
      managers: [],
    };
    const nodes = ['h1', 'h2', 'h3'].map((name, index) =>
      makeNode(this.#ids.object(), name, index),
    );
    this.write({ kind: 'create', table: 'cluster', object: makeCluster(this.#ids.object()) });
    for (const object of nodes) this.write({ kind: 'create', table: 'node', object });
    this.localNode = {
      ...this.localNode,
      nodeId: nodes[0].id,
      managers: nodes.map((node) => ({ nodeId: node.id, address: `${node.address}:2377` })),
    };
  }

  /** Applies changes at the next version; the first refusal is thrown. */
  write(...changes: Change[]): void {
    this.#index += 1;
    const atMs = 1_700_000_000_000 + this.#index;
    const { rejected } = this.store.apply(this.#index, atMs, { atomic: true, changes });
    if (rejected.length > 0) throw new SwarmError(rejected[0].code, rejected[0].message);
  }

  nodes(): Node[] {
    return [...this.store.all('node')];
  }

  // ---- DaemonNode ------------------------------------------------------------------------------

  local(): LocalNode {
    return this.localNode;
  }

  info(): HostInfo {
    return HOST_INFO;
  }

  control(): Control {
    const { state, role } = this.localNode;
    if (state === 'active' && role === 'manager') return this;
    const why = state === 'active' ? "Worker nodes can't be used to view or modify" : 'Use "init"';
    throw new SwarmError('not_manager', `This node is not a swarm manager. ${why}`);
  }

  async examine(): Promise<Examined> {
    return NOTHING_EXAMINED;
  }

  async backup(): Promise<AsyncIterable<Uint8Array>> {
    this.control();
    return Readable.from([this.backupBytes]);
  }

  async restore(file: AsyncIterable<Uint8Array>, request: RestoreRequest): Promise<string> {
    const parts: Uint8Array[] = [];
    for await (const part of file) parts.push(part);
    this.restored.push({ ...request, bytes: Buffer.concat(parts) });
    return this.localNode.nodeId;
  }

  async init(request: InitRequest): Promise<string> {
    if (this.localNode.state === 'active') {
      throw new SwarmError('unavailable', 'This node is already part of a swarm.');
    }
    this.inits.push(request);
    const [first] = this.nodes();
    this.localNode = { ...this.localNode, state: 'active', role: 'manager', nodeId: first.id };
    return first.id;
  }

  async join(request: JoinRequest): Promise<void> {
    this.joins.push(request);
    if (!request.token.startsWith('SWMTKN-1-')) {
      throw new SwarmError('invalid', 'invalid join token');
    }
    this.localNode = { ...this.localNode, state: 'active', role: 'worker' };
  }

  async unlock(): Promise<void> {
    throw new SwarmError('conflict', 'swarm is not locked');
  }

  async leave(force: boolean): Promise<void> {
    if (this.localNode.role === 'manager' && !force) {
      throw new SwarmError('unavailable', 'you are a manager: use --force to leave anyway');
    }
    this.localNode = { ...this.localNode, state: 'inactive', role: undefined, nodeId: '' };
  }

  async *taskLogs(taskIds: readonly string[], query: TaskLogQuery): AsyncGenerator<TaskLogRecord> {
    this.logQueries.push(query);
    for (const taskId of taskIds) {
      const nodeId = this.store.get('task', taskId)?.nodeId ?? '';
      let timeNs = 1_700_000_000_123_456_789n;
      for (const { stream, text } of this.logLines) {
        yield { taskId, nodeId, timeNs, stream, data: Buffer.from(text) };
        timeNs += 1n;
      }
    }
  }

  heartbeatAges(): ReadonlyMap<string, number> {
    return new Map(this.nodes().map((node, index) => [node.id, 100 * (index + 1)]));
  }

  // ---- Control ---------------------------------------------------------------------------------

  async read(): Promise<Store> {
    return this.store;
  }

  #failIfScripted(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  #resolved(spec: ServiceSpec): ServiceSpec {
    validateServiceSpec(spec);
    const networks = spec.task.networks.map((item) => {
      const network =
        this.store.get('network', item.target) ?? this.store.byName('network', item.target);
      if (network === undefined) {
        throw new SwarmError('not_found', `network ${item.target} not found`);
      }
      return { ...item, target: network.id };
    });
    return { ...spec, task: { ...spec.task, networks } };
  }

  async createService(given: ServiceSpec): Promise<Service> {
    this.#failIfScripted();
    const named = given.name === '' ? { ...given, name: `made_up_${this.#index}` } : given;
    const spec = this.#resolved(named);
    if (this.store.serviceByName(spec.name) !== undefined) {
      throw new SwarmError('conflict', `name conflicts with an existing object: ${spec.name}`);
    }
    const service: Service = {
      ...BASE,
      id: this.#ids.object(),
      spec,
      previousSpec: undefined,
      specVersion: this.#index + 1,
      job: undefined,
      update: undefined,
      virtualAddresses: [],
      ports: spec.ports.map((port, at) => ({
        ...port,
        publishedPort: port.publishedPort === 0 ? 30_000 + at : port.publishedPort,
      })),
      allocatedVersion: this.#index + 1,
    };
    this.write({ kind: 'create', table: 'service', object: service });
    this.#reconcile(service.id);
    return this.store.get('service', service.id)!;
  }

  async updateService(id: string, version: number, given: ServiceSpec): Promise<Service> {
    this.#failIfScripted();
    const spec = this.#resolved(given);
    const service = this.store.get('service', id)!;
    if (service.version !== version) {
      throw new SwarmError('out_of_sequence', 'update out of sequence');
    }
    const object = {
      ...service,
      spec,
      previousSpec: service.spec,
      specVersion: this.#index + 1,
      ports: spec.ports,
    };
    this.write({ kind: 'update', table: 'service', object });
    this.#reconcile(id);
    return this.store.get('service', id)!;
  }

  async rollbackService(id: string, version: number): Promise<Service> {
    const { previousSpec } = this.store.get('service', id)!;
    if (previousSpec === undefined) {
      throw new SwarmError('invalid', 'service does not have a previous spec');
    }
    return await this.updateService(id, version, previousSpec);
  }

  async removeService(id: string): Promise<void> {
    this.#failIfScripted();
    for (const task of [...this.store.tasksOfService(id)]) {
      this.write({ kind: 'remove', table: 'task', id: task.id });
    }
    this.write({ kind: 'remove', table: 'service', id });
  }

  async createNetwork(spec: NetworkSpec): Promise<Network> {
    this.#failIfScripted();
    validateNetworkSpec(spec);
    const at = this.store.count('network');
    const object: Network = {
      ...BASE,
      id: this.#ids.object(),
      spec,
      vni: 4096 + at,
      subnet: spec.subnet === '' ? `10.0.${at + 1}.0/24` : spec.subnet,
      gateway: spec.gateway === '' ? `10.0.${at + 1}.1` : spec.gateway,
      error: '',
    };
    this.write({ kind: 'create', table: 'network', object });
    return this.store.get('network', object.id)!;
  }

  async removeNetwork(id: string): Promise<void> {
    const users = [...this.store.all('service')].filter((service) =>
      service.spec.task.networks.some((item) => item.target === id),
    );
    if (users.length > 0) {
      const names = users.map((service) => service.spec.name).join(', ');
      throw new SwarmError('conflict', `network is in use by ${names}: remove them first`);
    }
    this.write({ kind: 'remove', table: 'network', id });
  }

  async createData<T extends DataTable>(table: T, spec: DataSpec): Promise<Tables[T]> {
    this.#failIfScripted();
    const object = newData(this.store, table, this.#ids.object(), spec) as Tables[T];
    this.write({ kind: 'create', table, object } as unknown as Change);
    return this.store.get(table, object.id) ?? object;
  }

  async updateData<T extends DataTable>(
    table: T,
    id: string,
    version: number,
    spec: DataSpec,
  ): Promise<Tables[T]> {
    const now = this.store.get(table, id);
    if (now === undefined) throw new SwarmError('not_found', `${table} ${id} not found`);
    const object = { ...relabelled(table, now, spec), version } as Tables[T];
    this.write({ kind: 'update', table, object } as unknown as Change);
    return this.store.get(table, id) ?? object;
  }

  async removeData(table: DataTable, id: string): Promise<void> {
    this.write({ kind: 'remove', table, id });
  }

  async updateNode(id: string, version: number, spec: NodeSpec): Promise<Node> {
    validateNodeSpec(spec);
    const node = this.store.get('node', id)!;
    const manager =
      spec.role === 'manager'
        ? { raftId: node.hostIndex, address: `${node.address}:2377` }
        : undefined;
    const object = { ...node, version, spec, role: spec.role, manager };
    this.write({ kind: 'update', table: 'node', object });
    return this.store.get('node', id)!;
  }

  async removeNode(id: string, force: boolean): Promise<void> {
    if (this.store.get('node', id)!.state !== 'down' && !force) {
      throw new SwarmError('conflict', `node ${id} is not down and can't be removed`);
    }
    this.write({ kind: 'remove', table: 'node', id });
  }

  async updateCluster(
    version: number,
    spec: ClusterSpec,
    rotate: { readonly workerToken: boolean; readonly managerToken: boolean },
  ): Promise<Cluster> {
    const cluster = this.store.cluster()!;
    const object = {
      ...cluster,
      version,
      spec,
      joinSecretWorker: cluster.joinSecretWorker + (rotate.workerToken ? 'r' : ''),
      joinSecretManager: cluster.joinSecretManager + (rotate.managerToken ? 'r' : ''),
    };
    this.write({ kind: 'update', table: 'cluster', object });
    return this.store.cluster()!;
  }

  async rebalance(): Promise<Cluster> {
    return this.store.cluster()!;
  }
  async joinTokens(): Promise<{ worker: string; manager: string }> {
    const cluster = this.store.cluster()!;
    const digest = 'd'.repeat(50);
    return {
      worker: `SWMTKN-1-${digest}-${cluster.joinSecretWorker}`,
      manager: `SWMTKN-1-${digest}-${cluster.joinSecretManager}`,
    };
  }

  async managers(): Promise<ManagersPicture> {
    return { hasQuorum: true, problems: [], managers: [] };
  }

  warnings(): readonly string[] {
    return [];
  }

  raftStatus(): ReturnType<Control['raftStatus']> {
    const managers = this.nodes().filter((node) => node.manager !== undefined);
    return {
      term: 3,
      leaderNodeId: managers[0]?.id ?? '',
      commit: this.#index,
      applied: this.#index,
      managers: managers.map((node, index) => ({
        raftId: node.manager!.raftId,
        nodeId: node.id,
        address: node.manager!.address,
        isLeader: index === 0,
        reachable: true,
        lag: index === 0 ? 0 : index,
      })),
    };
  }

  // ---- tasks -----------------------------------------------------------------------------------

  /** What the loops and agents would do in the end. */
  #reconcile(serviceId: string): void {
    const service = this.store.get('service', serviceId)!;
    const nodes = this.nodes();
    const global = service.spec.mode.kind === 'global';
    const wanted = global ? nodes.length : (service.spec.mode as { replicas: number }).replicas;
    for (let slot = 1; slot <= wanted; slot += 1) {
      const current = [...this.store.tasksOfService(serviceId)].find(
        (task) =>
          task.desiredState === TaskState.RUNNING &&
          (global ? task.nodeId === nodes[slot - 1].id : task.slot === slot),
      );
      if (current !== undefined && isDeepStrictEqual(current.spec, service.spec.task)) continue;
      if (current !== undefined) this.#stop(current);
      const node = nodes[(slot - 1) % nodes.length];
      this.write({ kind: 'create', table: 'task', object: this.#task(service, slot, node.id) });
    }
    for (const task of [...this.store.tasksOfService(serviceId)]) {
      if (task.slot > wanted && task.desiredState === TaskState.RUNNING) this.#stop(task);
    }
  }

  #stop(task: Task): void {
    const status = { ...task.status, state: TaskState.SHUTDOWN };
    const object = { ...task, desiredState: TaskState.SHUTDOWN, status };
    this.write({ kind: 'update', table: 'task', object });
  }

  #task(service: Service, slot: number, nodeId: string): Task {
    const global = service.spec.mode.kind === 'global';
    const stuck = this.unplaceable !== '';
    this.#generation += 1;
    const atMs = 1_700_000_000_000;
    return {
      ...BASE,
      id: this.#ids.object(),
      serviceId: service.id,
      serviceName: service.spec.name,
      slot: global ? 0 : slot,
      generation: this.#generation,
      nodeId: stuck ? '' : nodeId,
      spec: service.spec.task,
      serviceLabels: service.spec.labels,
      specVersion: service.specVersion,
      desiredState: TaskState.RUNNING,
      status: {
        state: stuck ? TaskState.PENDING : TaskState.RUNNING,
        atMs,
        message: stuck ? 'pending' : 'started',
        error: this.unplaceable,
        containerId: stuck ? '' : this.#ids.container(),
        pid: stuck ? 0 : 4242,
        exitCode: 0,
        oomKilled: false,
        gatewayAddress: '',
        phases: { 64: atMs, 192: atMs + 3, 512: atMs + 20 },
      },
      networks: service.spec.task.networks.map((item) => ({
        networkId: item.target,
        address: `10.0.${1 + (this.#generation >> 7)}.${2 + (this.#generation & 127)}/24`,
        aliases: item.aliases,
      })),
      ports: service.ports,
      notBeforeMs: 0,
      movedFrom: '',
      jobIteration: undefined,
      genericResources: [],
    };
  }
}

function makeNode(id: string, hostname: string, index: number): Node {
  const address = `10.99.0.${11 + index}`;
  return {
    ...node(id, index + 1, {
      spec: { role: 'manager' },
      description: { hostname, nanoCpus: 2_000_000_000, memoryBytes: 4 * GIB },
    }),
    role: 'manager',
    address,
    manager: { raftId: index + 1, address: `${address}:2377` },
  };
}

function makeCluster(id: string): Cluster {
  const secrets = { joinSecretWorker: 'w'.repeat(25), joinSecretManager: 'm'.repeat(25) };
  return { ...cluster({}, secrets), id };
}
