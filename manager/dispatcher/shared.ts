/**
 * The parts of assignments that nodes share: networks with their endpoints, ingress, data. Made
 * once for all nodes, and again when a change of the store was about them: note() marks what a
 * change concerns, refresh() makes that anew. Parts that come out the same keep their identity.
 */
import type { Steps } from '../../base/slices.ts';
import type { AssignmentItem } from '../../model/assignment.ts';
import { sameValue } from '../../model/equal.ts';
import { isTerminal } from '../../model/taskState.ts';
import type { DataTable, Network, Node, Service, Task } from '../../model/types.ts';
import type { StoreEvent, View } from '../store/types.ts';
import {
  AssignmentSet,
  type IngressPorts,
  ingressOf,
  ingressPorts,
  isAssigned,
  networkAssignment,
  serves,
  tasksOn,
} from './assignments.ts';

/** What a refresh found to be different. */
export interface Refreshed {
  /** Nodes that are on a network that has changed. */
  readonly nodes: ReadonlySet<string>;
  /** Nodes that are on one that was not there before. */
  readonly joined: ReadonlySet<string>;
  /** Told to every node. */
  readonly ingress: boolean;
}

export class SharedAssignments {
  readonly #networks = new Map<string, AssignmentItem>();
  /** Network id -> the nodes on it. */
  readonly #nodes = new Map<string, readonly string[]>();
  /** The same record's item stays the same: its bytes are never compared. */
  readonly #data = new Map<string, AssignmentItem>();
  /** Of services that publish any. */
  readonly #ports = new Map<string, IngressPorts>();
  #ingress: AssignmentItem = { kind: 'ingress', ingress: { peers: [], ports: [] } };
  #dirtyNetworks = new Set<string>();
  #dirtyServices = new Set<string>();
  /** Something of ingress that is no service's. */
  #dirtyPeers = true;
  #dirtyAll = true;

  get isDirty(): boolean {
    if (this.#dirtyAll || this.#dirtyPeers) return true;
    return this.#dirtyNetworks.size > 0 || this.#dirtyServices.size > 0;
  }

  /** Nothing is known of what changed. */
  noteAll(): void {
    this.#dirtyAll = true;
  }

  note(view: View, { table, id, before, after }: StoreEvent): void {
    if (table === 'network') this.#dirtyNetworks.add(id);
    else if (table === 'service') {
      for (const service of [before, after]) this.#noteService(service as Service | undefined);
    } else if (table === 'node') {
      this.#noteNode(view, id, before as Node | undefined, after as Node | undefined);
    } else if (table === 'task') {
      this.#noteTask(before as Task | undefined, after as Task | undefined);
    }
  }

  #noteService(service: Service | undefined): void {
    if (service === undefined) return;
    for (const { target } of service.spec.task.networks) this.#dirtyNetworks.add(target);
    for (const { networkId } of service.virtualAddresses) this.#dirtyNetworks.add(networkId);
    if (service.ports.length > 0) this.#dirtyServices.add(service.id);
  }

  #noteNode(view: View, id: string, before: Node | undefined, after: Node | undefined): void {
    const isSame =
      before !== undefined &&
      after !== undefined &&
      before.address === after.address &&
      before.hostIndex === after.hostIndex &&
      (before.state === 'down') === (after.state === 'down');
    if (isSame) return;
    this.#dirtyPeers = true;
    for (const task of view.tasksOfNode(id)) this.#noteOf(task);
  }

  #noteTask(before: Task | undefined, after: Task | undefined): void {
    if (before !== undefined && after !== undefined && sameForOthers(before, after)) return;
    for (const task of [before, after]) if (task !== undefined) this.#noteOf(task);
  }

  #noteOf(task: Task): void {
    if (task.nodeId === '') return;
    for (const { networkId } of task.networks) this.#dirtyNetworks.add(networkId);
    if (task.status.gatewayAddress !== '') this.#dirtyServices.add(task.serviceId);
  }

  /** When it ends everything is as in the view at that moment. */
  *refresh(view: View): Steps<Refreshed> {
    const refreshed = { nodes: new Set<string>(), joined: new Set<string>() };
    this.#spreadAll(view);
    // What is marked during a pause is made without another one: there must be an end to it.
    let pauses = this.#dirtyNetworks.size + this.#dirtyServices.size;
    const ingress = this.#ingress;
    while (this.isDirty) {
      this.#spreadAll(view);
      for (const id of this.#dirtyNetworks) {
        this.#dirtyNetworks.delete(id);
        this.#refreshNetwork(view, id, refreshed);
        pauses -= 1;
        if (pauses >= 0) yield;
      }
      for (const id of this.#dirtyServices) {
        this.#dirtyServices.delete(id);
        this.#refreshPorts(view, id);
        pauses -= 1;
        if (pauses >= 0) yield;
      }
      if (this.#dirtyPeers) this.#refreshIngress(view);
    }
    this.#forgetData(view);
    return { ...refreshed, ingress: this.#ingress !== ingress };
  }

  #spreadAll(view: View): void {
    if (!this.#dirtyAll) return;
    this.#dirtyAll = false;
    this.#dirtyPeers = true;
    for (const id of [...this.#networks.keys(), ...ids(view.all('network'))]) {
      this.#dirtyNetworks.add(id);
    }
    for (const id of [...this.#ports.keys(), ...ids(view.all('service'))]) {
      this.#dirtyServices.add(id);
    }
  }

  #refreshNetwork(
    view: View,
    id: string,
    { nodes, joined }: { readonly nodes: Set<string>; readonly joined: Set<string> },
  ): void {
    const network = view.get('network', id);
    const before = this.#networks.get(id);
    if (network === undefined || network.vni === 0) {
      // The allocator has not been here yet, or it is gone.
      this.#networks.delete(id);
      for (const nodeId of this.#nodes.get(id) ?? []) nodes.add(nodeId);
      this.#nodes.delete(id);
      return;
    }
    const tasks = tasksOn(view, network);
    const assignment = networkAssignment(view, network, tasks);
    const item: AssignmentItem = { kind: 'network', network: assignment };
    if (before !== undefined && sameValue(before, item)) return;
    this.#networks.set(id, item);
    const on = [...new Set(tasks.map(({ nodeId }) => nodeId))];
    this.#nodes.set(id, on);
    for (const nodeId of on) (before === undefined ? joined : nodes).add(nodeId);
  }

  #refreshPorts(view: View, serviceId: string): void {
    const service = view.get('service', serviceId);
    const before = this.#ports.get(serviceId) ?? [];
    const ports = service === undefined ? [] : ingressPorts(view, service);
    if (sameValue(before, ports)) return;
    if (ports.length === 0) this.#ports.delete(serviceId);
    else this.#ports.set(serviceId, ports);
    this.#dirtyPeers = true;
  }

  #refreshIngress(view: View): void {
    this.#dirtyPeers = false;
    const item: AssignmentItem = {
      kind: 'ingress',
      ingress: ingressOf(view, this.#ports.values()),
    };
    if (!sameValue(this.#ingress, item)) this.#ingress = item;
  }

  #forgetData(view: View): void {
    for (const key of this.#data.keys()) {
      const [table, id] = key.split('/') as [DataTable, string];
      if (view.get(table, id) === undefined) this.#data.delete(key);
    }
  }

  /** Everything `nodeId` must hold. */
  itemsOf(view: View, nodeId: string): AssignmentSet {
    const networks = new Map<string, AssignmentItem>();
    const data = new Map<string, AssignmentItem>();
    const tasks = new Map<string, AssignmentItem>();
    for (const task of view.tasksOfNode(nodeId)) {
      if (!isAssigned(task)) continue;
      tasks.set(`task/${task.id}`, { kind: 'task', task });
      if (isTerminal(task.status.state)) continue;
      for (const { networkId } of task.networks) {
        const network = this.#networks.get(networkId);
        if (network !== undefined) networks.set(`network/${networkId}`, network);
      }
      const { secrets, configs } = task.spec.container;
      for (const { id } of secrets) this.#addData(view, 'secret', id, data);
      for (const { id } of configs) this.#addData(view, 'config', id, data);
    }
    return new AssignmentSet(new Map([...data, ...networks, ['ingress', this.#ingress]]), tasks);
  }

  /** What a node must hold whose own tasks have not changed since it was to hold `set`. */
  renewed({ shared, tasks }: AssignmentSet): AssignmentSet {
    const items = new Map(shared);
    for (const [key, item] of shared) {
      if (item.kind === 'ingress') items.set(key, this.#ingress);
      if (item.kind !== 'network') continue;
      const network = this.#networks.get(item.network.network.id);
      if (network === undefined) items.delete(key);
      else items.set(key, network);
    }
    return new AssignmentSet(items, tasks);
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

/** A change of a task that is told to no other node. */
function sameForOthers(before: Task, after: Task): boolean {
  return (
    serves(before) === serves(after) &&
    isAssigned(before) === isAssigned(after) &&
    isTerminal(before.status.state) === isTerminal(after.status.state) &&
    before.nodeId === after.nodeId &&
    before.status.gatewayAddress === after.status.gatewayAddress &&
    sameValue(before.networks, after.networks)
  );
}

function ids(objects: Iterable<Network | Service>): readonly string[] {
  return Array.from(objects, ({ id }) => id);
}
