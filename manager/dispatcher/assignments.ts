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
import type { Network, Node, Service, Task } from '../../model/types.ts';
import type { View } from '../store/types.ts';

/** Docker's name for it; absent = derived from the underlay (0). */
const MTU_OPTION = 'com.docker.network.driver.mtu';

type Items = ReadonlyMap<string, AssignmentItem>;

/**
 * Keyed as in model/assignment. In two parts, as there are many tasks and few else: a set made from
 * another one shares with it the part that is the same.
 */
export class AssignmentSet {
  /** Data, networks, ingress. */
  readonly shared: Items;
  readonly tasks: Items;

  constructor(shared: Items, tasks: Items) {
    this.shared = shared;
    this.tasks = tasks;
  }

  get(key: string): AssignmentItem | undefined {
    return this.shared.get(key) ?? this.tasks.get(key);
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  keys(): readonly string[] {
    return [...this.shared.keys(), ...this.tasks.keys()];
  }
}

/** A running task with an error has turned unhealthy and is being stopped. */
export function serves(task: Task): boolean {
  const { state, error } = task.status;
  return state === TaskState.RUNNING && error === '' && isWantedState(task.desiredState);
}

/** Sent to its node at all: placed, and once there also after it ended (its logs and history). */
export function isAssigned(task: Task): boolean {
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
  const remove: string[] = [];
  for (const part of ['shared', 'tasks'] as const) {
    if (sent[part] === now[part]) continue;
    for (const [key, item] of now[part]) {
      const before = sent[part].get(key);
      if (before === undefined || !sameItem(before, item)) update.push(item);
    }
    for (const key of sent[part].keys()) if (!now[part].has(key)) remove.push(key);
  }
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
export function sameNetworks({ shared: sent }: AssignmentSet, { shared: now }: AssignmentSet) {
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

/** Tasks that have an address on the network and are to be reached there, in a fixed order. */
export function tasksOn(view: View, network: Network): readonly Task[] {
  const tasks: Task[] = [];
  for (const task of view.tasksOfNetwork(network.id)) {
    if (task.nodeId === '' || isTerminal(task.status.state) || !isAssigned(task)) continue;
    if (addressOn(task, network.id) !== '') tasks.push(task);
  }
  return tasks.sort((left, right) => compare(left.id, right.id));
}

/** `tasks`: see tasksOn(). */
export function networkAssignment(
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

export type IngressPorts = IngressAssignment['ports'];

/** Of one service. */
export function ingressPorts(view: View, service: Service): IngressPorts {
  const published = service.ports.filter(
    ({ publishMode, publishedPort }) => publishMode === 'ingress' && publishedPort !== 0,
  );
  return published.map((port) => ({
    protocol: port.protocol,
    publishedPort: port.publishedPort,
    hostAddress: port.hostAddress,
    serviceId: service.id,
    serviceName: service.spec.name,
    backends: ingressBackends(view, service.id, port.targetPort),
  }));
}

/** `ports`: of all services. */
export function ingressOf(view: View, ports: Iterable<IngressPorts>): IngressAssignment {
  const peers: NetworkPeer[] = [];
  for (const node of view.all('node')) if (node.hostIndex > 0) peers.push(peerOf(node));
  const all = [...ports].flat();
  all.sort(
    (left, right) =>
      left.publishedPort - right.publishedPort || compare(left.protocol, right.protocol),
  );
  return { peers: peers.sort(byHostIndex), ports: all };
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
