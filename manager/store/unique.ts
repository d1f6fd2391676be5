/**
 * What must be unique in the store, as keys: an object holds the keys below, and a change that
 * would make two objects hold one key is refused when applied, on every replica alike. A task
 * holds its addresses until it has ended, its place (slot or node, and generation) in its service
 * until removed: places are a key in an index of their own, as there are so many.
 * Never decides what to do about a conflict; it only says it in words.
 */
import { isTerminal } from '../../model/taskState.ts';
import type {
  AnyObject,
  Config,
  Network,
  Node,
  Secret,
  Service,
  TableName,
  Task,
} from '../../model/types.ts';

const NO_KEYS: readonly string[] = [];
const CLUSTER_KEYS: readonly string[] = ['cluster'];

/** Tables whose objects have a name that no other of the table has. */
export type NamedTable = 'service' | 'network' | 'secret' | 'config';

export function isNamed(table: TableName): table is NamedTable {
  return ['service', 'network', 'secret', 'config'].includes(table);
}

export function nameKey(table: NamedTable, name: string): string {
  return `name/${table}/${name.toLowerCase()}`;
}

/** '10.0.1.2/24' or '10.0.1.2' on a network, as one key. */
export function addressKey(networkId: string, address: string): string {
  const slash = address.indexOf('/');
  return `address/${networkId}/${slash < 0 ? address : address.slice(0, slash)}`;
}

export function uniqueKeys(table: TableName, object: AnyObject): readonly string[] {
  switch (table) {
    case 'cluster':
      return CLUSTER_KEYS;
    case 'node':
      return nodeKeys(object as Node);
    case 'service':
      return serviceKeys(object as Service);
    case 'network':
      return networkKeys(object as Network);
    case 'secret':
    case 'config':
      return [nameKey(table, (object as Secret | Config).spec.name)];
    case 'task':
      return taskKeys(object as Task);
  }
}

function nodeKeys(node: Node): readonly string[] {
  const keys: string[] = [];
  if (node.hostIndex > 0) keys.push(`host-index/${node.hostIndex}`);
  if (node.manager !== undefined) keys.push(`raft-id/${node.manager.raftId}`);
  return keys;
}

function serviceKeys(service: Service): readonly string[] {
  const keys = new Set([nameKey('service', service.spec.name)]);
  for (const ports of [service.spec.ports, service.ports]) {
    for (const port of ports) {
      if (port.publishMode !== 'ingress' || port.publishedPort === 0) continue;
      keys.add(`port/${port.protocol}/${port.publishedPort}`);
    }
  }
  for (const virtual of service.virtualAddresses) {
    keys.add(addressKey(virtual.networkId, virtual.address));
  }
  return [...keys];
}

function networkKeys(network: Network): readonly string[] {
  const keys = [nameKey('network', network.spec.name)];
  if (network.vni !== 0) keys.push(`vni/${network.vni}`);
  if (network.gateway !== '') keys.push(addressKey(network.id, network.gateway));
  return keys;
}

function taskKeys(task: Task): readonly string[] {
  if (task.networks.length === 0 || isTerminal(task.status.state)) return NO_KEYS;
  const keys: string[] = [];
  for (const network of task.networks) {
    if (network.address !== '') keys.push(addressKey(network.networkId, network.address));
  }
  return keys;
}

/** Places of tasks that fit one small whole number are one. */
const SLOT_LIMIT = 2 ** 20;
const GENERATION_LIMIT = 2 ** 10;

export type Place = number | string;

/** A task's place in its service. */
export function placeOf({ slot, generation, nodeId }: Task): Place {
  if (slot === 0) return `${nodeId}/${generation}`;
  const isSmall = slot < SLOT_LIMIT && generation < GENERATION_LIMIT;
  return isSmall ? generation * SLOT_LIMIT + slot : `slot-${slot}/${generation}`;
}

/** One line for a person; `owner` is what holds the key now. */
export function conflictMessage(key: string, owner: string): string {
  const [kind, first, second] = key.split('/');
  switch (kind) {
    case 'cluster':
      return 'the cluster exists already';
    case 'name':
      return `a ${first} named "${second}" exists already: choose another name or change that one`;
    case 'port':
      return `port ${second}/${first} is already published by ${owner}: choose another one`;
    case 'address':
      return `address ${second} of network ${first} is already held by ${owner}`;
    case 'host-index':
      return `host index ${first} is already held by ${owner}`;
    case 'raft-id':
      return `Raft id ${first} is already held by ${owner}`;
    case 'vni':
      return `VXLAN id ${first} is already held by ${owner}`;
    default:
      return `${key} is already held by ${owner}`;
  }
}
