/**
 * The two ways to read the tables: as they are now (LiveView) and as they were when pinned (Pin).
 * A pin keeps the old value of every record that changed since, so it costs what changed, not what
 * is stored; the store calls capture() before each change. Neither ever writes.
 */
import { taskName } from '../../model/taskName.ts';
import type { AnyObject, Service, TableName, Tables, Task } from '../../model/types.ts';
import { type Contents, recordsByTable } from './contents.ts';
import type { View } from './types.ts';

export abstract class BaseView {
  abstract get<T extends TableName>(table: T, id: string): Tables[T] | undefined;
  abstract all<T extends TableName>(table: T): Iterable<Tables[T]>;

  byName<T extends TableName>(table: T, name: string): Tables[T] | undefined {
    if (table === 'task') return this.#taskByName(name) as Tables[T] | undefined;
    let found: Tables[T] | undefined;
    for (const object of this.all(table)) {
      if (!names(table, object).includes(name)) continue;
      if (found !== undefined) return undefined;
      found = object;
    }
    return found;
  }

  /** 'web.1.<id>' or 'agent.<node>.<id>': the id is its last part. */
  #taskByName(name: string): Task | undefined {
    const task = this.get('task', name.slice(name.lastIndexOf('.') + 1));
    return task !== undefined && taskName(task) === name ? task : undefined;
  }

  cluster(): Tables['cluster'] | undefined {
    for (const cluster of this.all('cluster')) return cluster;
    return undefined;
  }
}

function names(table: TableName, object: AnyObject): readonly string[] {
  if (table === 'node') {
    const node = object as Tables['node'];
    return [node.description.hostname, node.spec.name].filter((name) => name !== '');
  }
  return [(object as Service).spec.name];
}

/** Of a moment that has passed: stays as it was until released. */
export class Pin extends BaseView implements View {
  readonly version: number;
  readonly #contents: Contents;
  readonly #released: (pin: Pin) => void;
  readonly #old = recordsByTable<AnyObject | undefined>();

  constructor(contents: Contents, version: number, released: (pin: Pin) => void) {
    super();
    this.#contents = contents;
    this.version = version;
    this.#released = released;
  }

  /** Told by the store before it changes `id`; `before` is what is there now. */
  capture(table: TableName, id: string, before: AnyObject | undefined): void {
    const old = this.#old[table];
    if (!old.has(id)) old.set(id, before);
  }

  release(): void {
    this.#released(this);
  }

  get<T extends TableName>(table: T, id: string): Tables[T] | undefined {
    const old = this.#old[table];
    if (old.has(id)) return old.get(id) as Tables[T] | undefined;
    return this.#contents.get(table, id);
  }

  /** A reader may pause between records while the store moves on. */
  *all<T extends TableName>(table: T): Iterable<Tables[T]> {
    for (const [at, live] of this.#contents.table(table).parts.entries()) {
      const old = this.#old[table].parts[at];
      // Listed when its turn comes: what is removed from here on is among the old ones.
      const ids = [...live.keys()];
      for (const id of old.keys()) if (!live.has(id)) ids.push(id);
      for (const id of ids) {
        const object = this.get(table, id);
        if (object !== undefined) yield object;
      }
    }
  }

  count(table: TableName): number {
    let count = this.#contents.table(table).size;
    for (const part of this.#old[table].parts) {
      for (const [id, old] of part) {
        const isNow = this.#contents.get(table, id) !== undefined;
        if (isNow && old === undefined) count -= 1;
        if (!isNow && old !== undefined) count += 1;
      }
    }
    return count;
  }

  tasksOfService(serviceId: string): Iterable<Task> {
    const ids = this.#contents.taskIdsOfService(serviceId);
    return this.#tasks(ids, (task) => task.serviceId === serviceId);
  }

  tasksOfNode(nodeId: string): Iterable<Task> {
    return this.#tasks(this.#contents.taskIdsOfNode(nodeId), (task) => task.nodeId === nodeId);
  }

  tasksOfNetwork(networkId: string): Iterable<Task> {
    return this.#tasks(this.#contents.taskIdsOfNetwork(networkId), ({ networks }) =>
      networks.some((network) => network.networkId === networkId),
    );
  }

  serviceIdsOfTasks(): Iterable<string> {
    const ids = new Set(this.#contents.serviceIdsOfTasks());
    for (const old of this.#old.task.values()) ids.add((old as Task | undefined)?.serviceId ?? '');
    ids.delete('');
    return ids;
  }

  *#tasks(live: Iterable<string>, isOne: (task: Task) => boolean): Iterable<Task> {
    const ids = new Set(live);
    for (const part of this.#old.task.parts) for (const id of part.keys()) ids.add(id);
    for (const id of ids) {
      const task = this.get('task', id);
      if (task !== undefined && isOne(task)) yield task;
    }
  }

  serviceByName(name: string): Service | undefined {
    return this.byName('service', name);
  }
}
