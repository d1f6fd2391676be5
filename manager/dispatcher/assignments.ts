/**
 * What each node must hold, from a view: its tasks, the overlay networks those are on, the
 * published ports; and the difference to what it was told last. Pure: no clock, no promise, no
 * connection.
 *
 * | what | who gets it | what is in it |
 * |---|---|---|
 * | task | its node, from ASSIGNED until the task is removed | the task |
 * | network | nodes with a task on it that has not ended | every endpoint on it, VIPs, names |
 * | secret, config | nodes with a task that names it and has not ended | its data |
 * | ingress | every node | published ports and the tasks that serve them now |
 *
 * A task serves (is a backend, has a name) while it runs, is healthy, is wanted running, and its
 * node is not down.
 */

import { MIB } from '../../base/bytes.ts';
import type {
  AssignmentItem,
  IngressAssignment,
  NetworkAssignment,
  NetworkPeer,
} from '../../model/assignment.ts';
import { sameValue } from '../../model/equal.ts';
import { subnet6Of } from '../../model/subnet6.ts';
import { taskName } from '../../model/taskName.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { DataTable, Network, Node, Service, Task } from '../../model/types.ts';
import type { StoreEvent, View } from '../store/types.ts';

/** Docker's name for it; absent = derived from the underlay (0). */
const MTU_OPTION = 'com.docker.network.driver.mtu';

export type AssignmentSet = ReadonlyMap<string, AssignmentItem>;

/** Whether a change can alter what some node is told beyond the one task's own item. */
export function changesShared(event: StoreEvent): boolean {
  if (['cluster', 'secret', 'config'].includes(event.table)) return false;
  if (event.table === 'network') return true;
  if (event.table === 'service') {
    return [event.before, event.after].some(
      (service) => service !== undefined && isReachable(service as Service),
    );
  }
  if (event.before === undefined || event.after === undefined) {
    const object = event.before ?? event.after;
    return event.table !== 'task' || (object as Task).nodeId !== '';
  }
  if (event.table === 'node') {
    const [before, after] = [event.before as Node, event.after as Node];
    return (
      before.address !== after.address ||
      before.hostIndex !== after.hostIndex ||
      (before.state === 'down') !== (after.state === 'down')
    );
  }
  const [before, after] = [event.before as Task, event.after as Task];
  return (
    serves(before) !== serves(after) ||
    isTerminal(before.status.state) !== isTerminal(after.status.state) ||
    before.nodeId !== after.nodeId ||
    before.status.gatewayAddress !== after.status.gatewayAddress ||
    !sameValue(before.networks, after.networks)
  );
}

/** It has a port, or stands on a network. */
function isReachable({ ports, virtualAddresses, spec }: Service): boolean {
  const given = ports.length + virtualAddresses.length;
  return given + spec.ports.length + spec.task.networks.length > 0;
}

/** A running task with an error has turned unhealthy and is being stopped. */
function serves(task: Task): boolean {
  const { state, error } = task.status;
  return state === TaskState.RUNNING && error === '' && isWantedState(task.desiredState);
}

/** Sent to its node at all: placed, and once there also after it ended (its logs and history). */
function isAssigned(task: Task): boolean {
  return task.status.state >= TaskState.ASSIGNED;
}

/** Whether a node that holds `sent` needs to be told `now`: its own reports do not come back. */
function sameForNode(sent: Task, now: Task): boolean {
  if (sent === now) return true;
  return (
    sent.desiredState === now.desiredState &&
    sent.notBeforeMs === now.notBeforeMs &&
    sent.nodeId === now.nodeId &&
    (now.status.state === TaskState.ORPHANED) === (sent.status.state === TaskState.ORPHANED) &&
    sameValue(sent.spec, now.spec) &&
    sameValue(sent.networks, now.networks) &&
    sameValue(sent.ports, now.ports) &&
    sameValue(sent.serviceLabels, now.serviceLabels)
  );
}

function sameItem(sent: AssignmentItem, now: AssignmentItem): boolean {
  if (sent === now) return true;
  if (sent.kind === 'task' && now.kind === 'task') return sameForNode(sent.task, now.task);
  return sameValue(sent, now);
}

export interface Difference {
  readonly update: readonly AssignmentItem[];
  readonly remove: readonly string[];
}

/** What turns `sent` into `now`; data and networks come before the tasks that need them. */
export function difference(sent: AssignmentSet, now: AssignmentSet): Difference {
  const update: AssignmentItem[] = [];
  for (const [key, item] of now) {
    const before = sent.get(key);
    if (before === undefined || !sameItem(before, item)) update.push(item);
  }
  const remove: string[] = [];
  for (const key of sent.keys()) if (!now.has(key)) remove.push(key);
  return { update, remove };
}

/** Data in one message; a message must stay well below what gRPC takes. */
const BATCH_DATA_BYTES = 8 * MIB;

/**
 * The difference in messages that are not too large. All but data is in the first: a complete one
 * takes back what it leaves out, while tasks wait for data that comes later.
 */
export function* inBatches({ update, remove }: Difference): Generator<Difference> {
  const isData = ({ kind }: AssignmentItem): boolean => kind === 'secret' || kind === 'config';
  const rest = update.filter((item) => !isData(item));
  let batch: AssignmentItem[] = [];
  let bytes = 0;
  let first = true;
  const take = (): Difference => {
    const items = first ? [...batch, ...rest] : batch;
    const taken = { update: items, remove: first ? remove : [] };
    [batch, bytes, first] = [[], 0, false];
    return taken;
  };
  for (const item of update) {
    if (item.kind !== 'secret' && item.kind !== 'config') continue;
    const { length } = item.data.data;
    if (bytes > 0 && bytes + length > BATCH_DATA_BYTES) yield take();
    batch.push(item);
    bytes += length;
  }
  if (first || batch.length > 0) yield take();
}

/** Whether what is not a task is the same: shared parts keep their identity while unchanged. */
export function sameNetworks(sent: AssignmentSet, now: AssignmentSet): boolean {
  let count = 0;
  for (const [key, item] of now) {
    if (item.kind !== 'network' && item.kind !== 'ingress') continue;
    count += 1;
    if (sent.get(key) !== item) return false;
  }
  for (const item of sent.values())
    if (item.kind === 'network' || item.kind === 'ingress') count -= 1;
  return count === 0;
}

/** The parts that nodes share, made once for all of them; unchanged ones keep their identity. */
export class SharedAssignments {
  #networks = new Map<string, AssignmentItem>();
  /** The same record's item stays the same: its bytes are never compared. */
  readonly #data = new Map<string, AssignmentItem>();
  #ingress: AssignmentItem = { kind: 'ingress', ingress: { peers: [], ports: [] } };

  refresh(view: View): void {
    const ingress: AssignmentItem = { kind: 'ingress', ingress: ingressOf(view) };
    if (!sameValue(this.#ingress, ingress)) this.#ingress = ingress;
    const tasksOn = tasksByNetwork(view);
    const networks = new Map<string, AssignmentItem>();
    for (const network of view.all('network')) {
      if (network.vni === 0) continue; // the allocator has not been here yet
      const assignment = networkAssignment(view, network, tasksOn.get(network.id) ?? []);
      const item: AssignmentItem = { kind: 'network', network: assignment };
      const before = this.#networks.get(network.id);
      networks.set(network.id, before !== undefined && sameValue(before, item) ? before : item);
    }
    this.#networks = networks;
    for (const key of this.#data.keys()) {
      const [table, id] = key.split('/') as [DataTable, string];
      if (view.get(table, id) === undefined) this.#data.delete(key);
    }
  }

  /** Everything `nodeId` must hold, keyed as in model/assignment. */
  itemsOf(view: View, nodeId: string): AssignmentSet {
    const networks = new Map<string, AssignmentItem>();
    const data = new Map<string, AssignmentItem>();
    const tasks: [string, AssignmentItem][] = [];
    for (const task of view.tasksOfNode(nodeId)) {
      if (!isAssigned(task)) continue;
      tasks.push([`task/${task.id}`, { kind: 'task', task }]);
      if (isTerminal(task.status.state)) continue;
      for (const { networkId } of task.networks) {
        const network = this.#networks.get(networkId);
        if (network !== undefined) networks.set(`network/${networkId}`, network);
      }
      const { secrets, configs } = task.spec.container;
      for (const { id } of secrets) this.#addData(view, 'secret', id, data);
      for (const { id } of configs) this.#addData(view, 'config', id, data);
    }
    return new Map([...data, ...networks, ['ingress', this.#ingress], ...tasks]);
  }

  #addData(view: View, table: DataTable, id: string, into: Map<string, AssignmentItem>): void {
    const key = `${table}/${id}`;
    const record = view.get(table, id);
    if (record === undefined) return;
    const { name, data, templating } = record.spec;
    const before = this.#data.get(key);
    const isSame = before !== undefined && 'data' in before && before.data.data === data;
    const item = isSame ? before : { kind: table, data: { id, name, data, templating } };
    this.#data.set(key, item);
    into.set(key, item);
  }
}

function tasksByNetwork(view: View): Map<string, Task[]> {
  const found = new Map<string, Task[]>();
  for (const task of view.all('task')) {
    if (task.nodeId === '' || isTerminal(task.status.state) || !isAssigned(task)) continue;
    for (const { networkId, address } of task.networks) {
      if (address === '') continue;
      const tasks = found.get(networkId);
      if (tasks === undefined) found.set(networkId, [task]);
      else tasks.push(task);
    }
  }
  return found;
}

/** '10.0.1.2/24' -> '10.0.1.2'. */
function bare(address: string): string {
  const slash = address.indexOf('/');
  return slash < 0 ? address : address.slice(0, slash);
}

function addressOn(task: Task, networkId: string): string {
  return bare(task.networks.find((network) => network.networkId === networkId)?.address ?? '');
}

function isServing(view: View, task: Task): boolean {
  return serves(task) && view.get('node', task.nodeId)?.state !== 'down';
}

function byHostIndex(left: NetworkPeer, right: NetworkPeer): number {
  return left.hostIndex - right.hostIndex;
}

function peerOf(node: Node): NetworkPeer {
  return { hostIndex: node.hostIndex, address: node.address };
}

function compare(left: string, right: string): number {
  return left < right ? -1 : Number(left > right);
}

function networkAssignment(
  view: View,
  network: Network,
  tasks: readonly Task[],
): NetworkAssignment {
  const peers = new Map<string, NetworkPeer>();
  const endpoints: { id: string; address: string; hostIndex: number }[] = [];
  const serving: Task[] = [];
  for (const task of tasks) {
    const node = view.get('node', task.nodeId);
    if (node === undefined) continue;
    peers.set(node.id, peerOf(node));
    const address = addressOn(task, network.id);
    endpoints.push({ id: task.id, address, hostIndex: node.hostIndex });
    if (isServing(view, task)) serving.push(task);
  }
  endpoints.sort((left, right) => compare(left.id, right.id));
  serving.sort((left, right) => compare(left.id, right.id));
  const services = servicesOn(view, network.id, serving);
  return {
    network: {
      id: network.id,
      name: network.spec.name,
      vni: network.vni,
      subnet: network.subnet,
      subnet6: subnet6Of(network),
      gateway: network.gateway,
      internal: network.spec.internal,
      mtu: Number(network.spec.options[MTU_OPTION] ?? 0),
    },
    peers: [...peers.values()].sort(byHostIndex),
    endpoints,
    services: services
      .filter(({ virtualAddress }) => virtualAddress !== '')
      .map(({ service, virtualAddress, backends }) => ({
        serviceId: service.id,
        virtualAddress,
        backends,
      })),
    names: namesOn(network.id, services, serving),
  };
}

interface ServiceOnNetwork {
  readonly service: Service;
  /** '' for dnsrr. */
  readonly virtualAddress: string;
  readonly backends: readonly string[];
  readonly aliases: readonly string[];
}

function servicesOn(
  view: View,
  networkId: string,
  serving: readonly Task[],
): readonly ServiceOnNetwork[] {
  const backends = new Map<string, string[]>();
  for (const task of serving) {
    const addresses = backends.get(task.serviceId) ?? [];
    addresses.push(addressOn(task, networkId));
    backends.set(task.serviceId, addresses);
  }
  const found: ServiceOnNetwork[] = [];
  for (const service of view.all('service')) {
    const attachment = service.spec.task.networks.find(({ target }) => target === networkId);
    const virtual = service.virtualAddresses.find((address) => address.networkId === networkId);
    const addresses = backends.get(service.id);
    if (attachment === undefined && virtual === undefined && addresses === undefined) continue;
    found.push({
      service,
      virtualAddress: service.spec.endpointMode === 'vip' ? bare(virtual?.address ?? '') : '',
      backends: addresses ?? [],
      aliases: attachment?.aliases ?? [],
    });
  }
  return found.sort((left, right) => compare(left.service.id, right.service.id));
}

/** Several services may share an alias: its answer is all of them. */
function namesOn(
  networkId: string,
  services: readonly ServiceOnNetwork[],
  serving: readonly Task[],
): NetworkAssignment['names'] {
  const names = new Map<string, Set<string>>();
  const add = (name: string, addresses: readonly string[]): void => {
    const key = name.toLowerCase();
    const known = names.get(key) ?? new Set<string>();
    for (const address of addresses) known.add(address);
    names.set(key, known);
  };
  for (const { service, virtualAddress, backends, aliases } of services) {
    const { name } = service.spec;
    const answer = virtualAddress === '' ? backends : [virtualAddress];
    add(name, answer);
    for (const alias of aliases) {
      add(alias, answer);
      add(`tasks.${alias}`, backends);
    }
    add(`tasks.${name}`, backends);
  }
  for (const task of serving) {
    const address = [addressOn(task, networkId)];
    if (task.serviceId !== '') add(taskName(task), address);
    else for (const alias of task.networks.flatMap(({ aliases }) => aliases)) add(alias, address);
  }
  return [...names]
    .sort(([left], [right]) => compare(left, right))
    .map(([name, addresses]) => ({ name, addresses: [...addresses] }));
}

function ingressOf(view: View): IngressAssignment {
  const peers: NetworkPeer[] = [];
  for (const node of view.all('node')) if (node.hostIndex > 0) peers.push(peerOf(node));
  const ports: IngressAssignment['ports'][number][] = [];
  for (const service of view.all('service')) {
    for (const port of service.ports) {
      if (port.publishMode !== 'ingress' || port.publishedPort === 0) continue;
      ports.push({
        protocol: port.protocol,
        publishedPort: port.publishedPort,
        hostAddress: port.hostAddress,
        serviceId: service.id,
        serviceName: service.spec.name,
        backends: ingressBackends(view, service.id, port.targetPort),
      });
    }
  }
  ports.sort(
    (left, right) =>
      left.publishedPort - right.publishedPort || compare(left.protocol, right.protocol),
  );
  return { peers: peers.sort(byHostIndex), ports };
}

function ingressBackends(view: View, serviceId: string, targetPort: number) {
  const backends: { gatewayAddress: string; targetPort: number; hostIndex: number }[] = [];
  for (const task of view.tasksOfService(serviceId)) {
    const { gatewayAddress } = task.status;
    if (gatewayAddress === '' || !isServing(view, task)) continue;
    const node = view.get('node', task.nodeId);
    if (node !== undefined) {
      backends.push({
        gatewayAddress: bare(gatewayAddress),
        targetPort,
        hostIndex: node.hostIndex,
      });
    }
  }
  return backends.sort(
    (left, right) =>
      left.hostIndex - right.hostIndex || compare(left.gatewayAddress, right.gatewayAddress),
  );
}
