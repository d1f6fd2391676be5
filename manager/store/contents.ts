/**
 * The tables as they are now, with their indexes: id -> record, tasks by service and by node, and
 * the unique keys with their owners. put() is the only way in and keeps all of it in step. Records
 * are replaced and never changed. It checks nothing but its own invariants (check.ts decides).
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import { SharedTexts } from '../../model/packedStatus.ts';
import { isTerminal, type TaskState } from '../../model/taskState.ts';
import type {
  AnyObject,
  Service,
  TableName,
  Tables,
  Task,
  TaskNetwork,
  TaskSpec,
} from '../../model/types.ts';
import { Records } from './records.ts';
import { type NamedTable, nameKey, type Place, placeOf, uniqueKeys } from './unique.ts';

/** In the order in which records are saved and restored: what is referred to comes first. */
export const TABLES: readonly TableName[] = [
  'cluster',
  'node',
  'network',
  'secret',
  'config',
  'service',
  'task',
];

/** Something of each table. */
export type ByTable<T> = Readonly<Record<TableName, T>>;

export function byTable<T>(make: (table: TableName) => T): ByTable<T> {
  return {
    cluster: make('cluster'),
    node: make('node'),
    network: make('network'),
    secret: make('secret'),
    config: make('config'),
    service: make('service'),
    task: make('task'),
  };
}

/** Room for records of each table; there may be a million tasks. */
export function recordsByTable<V>(): ByTable<Records<V>> {
  return byTable((table) => new Records<V>(table === 'task'));
}

export type Owner = { readonly table: TableName; readonly id: string };

const NO_IDS: readonly string[] = [];
const NO_KEYS: readonly string[] = [];
const NO_NETWORKS: readonly TaskNetwork[] = [];
const NO_PLACES: ReadonlyMap<Place, string> = new Map();

/** Listed until one is taken out: most nodes only get more, and a set costs more to make. */
type Ids = string[] | Set<string>;

export class Contents {
  readonly #tables = recordsByTable<AnyObject>();
  /** Whom each place of a service belongs to: at most one task, which has one place. */
  readonly #tasksByService = new Map<string, Map<Place, string>>();
  readonly #tasksByNode = new Map<string, Ids>();
  /** Those that name the network, also when they have ended. */
  readonly #tasksByNetwork = new Map<string, Ids>();
  /** How many that have not ended are on each. */
  readonly #tasksOnNetwork = new Map<string, number>();
  /** As many as tasks have addresses. */
  readonly #owners = new Records<Owner>(true);
  /** What records of tasks share; it holds nothing of its own. */
  readonly texts = new SharedTexts();
  /** Specifications that came with tasks -> the equal one that is kept. */
  readonly equalSpecs = new WeakMap<TaskSpec, TaskSpec>();
  readonly #taskStates = new Map<TaskState, number>();

  get<T extends TableName>(table: T, id: string): Tables[T] | undefined {
    return this.#tables[table].get(id) as Tables[T] | undefined;
  }

  table<T extends TableName>(table: T): Records<Tables[T]> {
    return this.#tables[table] as unknown as Records<Tables[T]>;
  }

  taskIdsOfService(serviceId: string): Iterable<string> {
    return (this.#tasksByService.get(serviceId) ?? NO_PLACES).values();
  }

  serviceIdsOfTasks(): Iterable<string> {
    return this.#tasksByService.keys();
  }

  /** Id of the task that holds the place `task` wants; undefined when it is free. */
  holderOfPlace(task: Task): string | undefined {
    return this.#tasksByService.get(task.serviceId)?.get(placeOf(task));
  }

  taskIdsOfNode(nodeId: string): Iterable<string> {
    return this.#tasksByNode.get(nodeId) ?? NO_IDS;
  }

  /** Of tasks that are or were on the network. */
  taskIdsOfNetwork(networkId: string): Iterable<string> {
    return this.#tasksByNetwork.get(networkId) ?? NO_IDS;
  }

  /** Whether a task that has not ended is on the network. */
  isNetworkUsed(networkId: string): boolean {
    return (this.#tasksOnNetwork.get(networkId) ?? 0) > 0;
  }

  /** How many tasks are in each state; a state that none is in may be missing. */
  get taskStates(): ReadonlyMap<TaskState, number> {
    return this.#taskStates;
  }

  owner(key: string): Owner | undefined {
    return this.#owners.get(key);
  }

  serviceByName(name: string): Service | undefined {
    return this.named('service', name);
  }

  /** Whatever its letters' case; the caller compares the name. */
  named<T extends NamedTable>(table: T, name: string): Tables[T] | undefined {
    const owner = this.#owners.get(nameKey(table, name));
    return owner === undefined ? undefined : this.get(table, owner.id);
  }

  /** Sets the record of `id`, or removes it (undefined). Unique keys must have been checked. */
  put(table: TableName, id: string, after: AnyObject | undefined): void {
    const records = this.#tables[table];
    const before = records.get(id);
    if (after === undefined) records.delete(id);
    else records.set(id, after);
    this.#indexKeys(table, id, before, after);
    if (table === 'task') this.#indexTask(id, before as Task, after as Task);
  }

  /** put() of a record that must be new, as one of very many: it is not looked for first. */
  load(table: TableName, id: string, object: AnyObject): void {
    if (!this.#tables[table].set(id, object)) {
      throw new SwarmError('corrupt', `${table} ${id} is twice in what is to be restored`);
    }
    this.#indexKeys(table, id, undefined, object);
    if (table === 'task') this.#indexTask(id, undefined, object as Task);
  }

  #indexKeys(
    table: TableName,
    id: string,
    before: AnyObject | undefined,
    after: AnyObject | undefined,
  ): void {
    const old = before === undefined ? NO_KEYS : uniqueKeys(table, before);
    const next = after === undefined ? NO_KEYS : uniqueKeys(table, after);
    if (old.length === 0 && next.length === 0) return;
    if (old.length === next.length && old.every((key, at) => key === next[at])) return;
    for (const key of old) this.#owners.delete(key);
    for (const key of next) {
      const owner = this.#owners.get(key);
      assert(owner === undefined, 'a unique key has two owners', { key, owner, table, id });
      this.#owners.set(key, { table, id });
    }
  }

  #indexTask(id: string, before: Task | undefined, after: Task | undefined): void {
    this.#movePlace(before, after);
    move(this.#tasksByNode, id, before?.nodeId, after?.nodeId);
    this.#moveNetworks(id, before?.networks ?? NO_NETWORKS, after?.networks ?? NO_NETWORKS);
    this.#countNetworks(before, after);
    this.#countState(before?.status.state, -1);
    this.#countState(after?.status.state, 1);
  }

  #movePlace(before: Task | undefined, after: Task | undefined): void {
    if (samePlace(before, after)) return;
    if (before !== undefined && before.serviceId !== '') {
      const places = this.#tasksByService.get(before.serviceId);
      places?.delete(placeOf(before));
      if (places?.size === 0) this.#tasksByService.delete(before.serviceId);
    }
    if (after === undefined || after.serviceId === '') return;
    const places = this.#tasksByService.get(after.serviceId) ?? new Map<Place, string>();
    const holder = places.get(placeOf(after));
    assert(holder === undefined, 'a place has two tasks', { holder, id: after.id });
    this.#tasksByService.set(after.serviceId, places.set(placeOf(after), after.id));
  }

  #moveNetworks(id: string, left: readonly TaskNetwork[], taken: readonly TaskNetwork[]): void {
    if (left === taken) return;
    for (const { networkId } of left) {
      if (!isOn(taken, networkId)) move(this.#tasksByNetwork, id, networkId, undefined);
    }
    for (const { networkId } of taken) {
      if (!isOn(left, networkId)) move(this.#tasksByNetwork, id, undefined, networkId);
    }
  }

  #countNetworks(before: Task | undefined, after: Task | undefined): void {
    const left = heldNetworks(before);
    const taken = heldNetworks(after);
    if (left === taken) return;
    for (const { networkId } of left) this.#countNetwork(networkId, -1);
    for (const { networkId } of taken) this.#countNetwork(networkId, 1);
  }

  #countNetwork(networkId: string, by: number): void {
    const count = (this.#tasksOnNetwork.get(networkId) ?? 0) + by;
    if (count === 0) this.#tasksOnNetwork.delete(networkId);
    else this.#tasksOnNetwork.set(networkId, count);
  }

  #countState(state: TaskState | undefined, by: number): void {
    if (state !== undefined) this.#taskStates.set(state, (this.#taskStates.get(state) ?? 0) + by);
  }
}

function heldNetworks(task: Task | undefined): readonly TaskNetwork[] {
  return task === undefined || isTerminal(task.status.state) ? NO_NETWORKS : task.networks;
}

function isOn(networks: readonly TaskNetwork[], networkId: string): boolean {
  return networks.some((network) => network.networkId === networkId);
}

function samePlace(before: Task | undefined, after: Task | undefined): boolean {
  return (
    before !== undefined &&
    before.serviceId === after?.serviceId &&
    before.slot === after.slot &&
    before.generation === after.generation &&
    (before.slot > 0 || before.nodeId === after.nodeId)
  );
}

/** '' is no key: what belongs to nothing is in no index. */
function move(
  index: Map<string, Ids>,
  id: string,
  before: string | undefined,
  after: string | undefined,
): void {
  if (before === after) return;
  if (before !== undefined && before !== '') {
    const ids = index.get(before);
    const set = ids instanceof Set ? ids : new Set(ids);
    set.delete(id);
    if (set.size === 0) index.delete(before);
    else if (set !== ids) index.set(before, set);
  }
  if (after !== undefined && after !== '') {
    const ids = index.get(after);
    if (ids === undefined) index.set(after, [id]);
    else if (ids instanceof Set) ids.add(id);
    else ids.push(id);
  }
}
