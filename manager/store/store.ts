/**
 * The replicated state of one manager: tables that only apply() changes, one log entry at a time,
 * with the same outcome on every replica; consistent views by pin, and one ring of changes to
 * watch. It knows no Raft, no clock and no bytes: version and time come with each entry.
 *
 * Invariants: version and atMs never go back; a record handed out never changes; an atomic
 * transaction leaves either all of its changes or none; every replica rejects the same changes.
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import type { TaskState } from '../../model/taskState.ts';
import type { AnyObject, Service, TableName, Tables, Task } from '../../model/types.ts';
import { checkChange } from './check.ts';
import { Contents, TABLES } from './contents.ts';
import { finish, restored, type Stamp } from './finish.ts';
import { hashText, RecordsHash } from './hash.ts';
import { HashHistory } from './hashHistory.ts';
import { Ring } from './ring.ts';
import type {
  ApplyResult,
  Change,
  RejectedChange,
  StoreEvent,
  StoreState,
  StoreWatch,
  Transaction,
} from './types.ts';
import { isNamed } from './unique.ts';
import { BaseView, Pin } from './views.ts';

/** Events kept for watchers: minutes of a busy cluster, tens of megabytes at most. */
export const RING_EVENTS = 16_384;

export interface StoredRecord {
  readonly table: TableName;
  readonly object: AnyObject;
}

/** What is to take a store's place, record by record in a snapshot's order. */
export class RestoredContents {
  readonly contents = new Contents();
  readonly hash = new RecordsHash();

  add({ table, object }: StoredRecord): void {
    const record = restored(this.contents, table, object);
    this.contents.load(table, object.id, record);
    this.hash.add(table, record);
  }
}

export class Store extends BaseView implements StoreState {
  readonly #ring: Ring;
  readonly #pins = new Set<Pin>();
  readonly #hashes = new HashHistory();
  #contents = new Contents();
  #hash = new RecordsHash();
  #version = 0;
  #atMs = 0;

  constructor(options: { readonly ringEvents?: number } = {}) {
    super();
    this.#ring = new Ring(options.ringEvents ?? RING_EVENTS);
  }

  get version(): number {
    return this.#version;
  }

  /** Stamp of the newest entry, Unix ms. */
  get atMs(): number {
    return this.#atMs;
  }

  // ---- writing ---------------------------------------------------------------------------------

  /** Applies one entry; `version` is above all before it. Never throws for a bad change. */
  apply(version: number, atMs: number, transaction: Transaction): ApplyResult {
    assert(version > this.#version, 'an entry is applied out of order', {
      version,
      applied: this.#version,
    });
    const stamp = { version, atMs: Math.max(atMs, this.#atMs) };
    const events: StoreEvent[] = [];
    const rejected: RejectedChange[] = [];
    for (const [index, change] of transaction.changes.entries()) {
      const rejection = checkChange(this.#contents, change);
      if (rejection === undefined) {
        events.push(this.#applyChange(change, stamp));
        continue;
      }
      rejected.push({ index, ...rejection });
      if (transaction.atomic) break;
    }
    if (transaction.atomic && rejected.length > 0) {
      for (const { table, id, before } of events.reverse()) this.#contents.put(table, id, before);
      events.length = 0;
    }
    this.#version = version;
    this.#atMs = stamp.atMs;
    for (const { table, before, after } of events) {
      if (before !== undefined) this.#hash.drop(table, before);
      if (after !== undefined) this.#hash.add(table, after);
    }
    if (events.length > 0) this.#hashes.add(version, this.#hash.words);
    this.#ring.push(events);
    return { version, rejected };
  }

  /** Watchers see what `work` applies when it is done: a batch of entries wakes them once. */
  together(work: () => void): void {
    this.#ring.together(work);
  }

  /** An entry without changes (a new leader's first, a change of membership). */
  advance(version: number): void {
    this.apply(version, this.#atMs, { atomic: false, changes: [] });
  }

  #applyChange(change: Change, stamp: Stamp): StoreEvent {
    const { table } = change;
    const id = change.kind === 'remove' ? change.id : change.object.id;
    const before = this.#contents.get(table, id) as AnyObject | undefined;
    const after =
      change.kind === 'remove'
        ? undefined
        : finish(this.#contents, table, before, change.object, stamp);
    for (const pin of this.#pins) pin.capture(table, id, before);
    this.#contents.put(table, id, after);
    return { ...stamp, kind: change.kind, table, id, before, after };
  }

  // ---- reading ---------------------------------------------------------------------------------

  get<T extends TableName>(table: T, id: string): Tables[T] | undefined {
    return this.#contents.get(table, id);
  }

  all<T extends TableName>(table: T): Iterable<Tables[T]> {
    return this.#contents.table(table).values();
  }

  count(table: TableName): number {
    return this.#contents.table(table).size;
  }

  tasksOfService(serviceId: string): Iterable<Task> {
    return this.#tasks(this.#contents.taskIdsOfService(serviceId));
  }

  tasksOfNode(nodeId: string): Iterable<Task> {
    return this.#tasks(this.#contents.taskIdsOfNode(nodeId));
  }

  serviceIdsOfTasks(): Iterable<string> {
    return this.#contents.serviceIdsOfTasks();
  }

  tasksOfNetwork(networkId: string): Iterable<Task> {
    return this.#tasks(this.#contents.taskIdsOfNetwork(networkId));
  }

  *#tasks(ids: Iterable<string>): Iterable<Task> {
    for (const id of ids) {
      const task = this.#contents.get('task', id);
      assert(task !== undefined, 'an index names a task that is not there', { id });
      yield task;
    }
  }

  serviceByName(name: string): Service | undefined {
    const service = this.#contents.serviceByName(name);
    return service?.spec.name === name ? service : undefined;
  }

  override byName<T extends TableName>(table: T, name: string): Tables[T] | undefined {
    if (!isNamed(table)) return super.byName(table, name);
    const found = this.#contents.named(table, name);
    return (found?.spec.name === name ? found : undefined) as Tables[T] | undefined;
  }

  get taskStates(): ReadonlyMap<TaskState, number> {
    return this.#contents.taskStates;
  }

  get watchFalls(): number {
    return this.#ring.falls;
  }

  get watchers(): number {
    return this.#ring.watchers;
  }

  get pins(): number {
    return this.#pins.size;
  }

  pin(): Pin {
    const pin = new Pin(this.#contents, this.#version, (released) => this.#pins.delete(released));
    this.#pins.add(pin);
    return pin;
  }

  watch(afterVersion?: number): StoreWatch {
    return this.#ring.watch(afterVersion);
  }

  /** Digest of all records (hash.ts), 16 hex digits; equal on replicas at the same version. */
  hash(): string {
    return this.#hash.text;
  }

  /**
   * The hash as it was when `version`, which must have been reached, was the newest; undefined when
   * that is too long ago.
   */
  hashAt(version: number): string | undefined {
    const words = this.#hashes.at(version);
    return words === undefined ? undefined : hashText(words);
  }

  // ---- snapshots -------------------------------------------------------------------------------

  /**
   * Every record as of the call, in an order that restore accepts. Pinned at once; released when
   * the iteration ends or is given up, or by release() when it never began.
   */
  snapshot(): {
    readonly version: number;
    readonly atMs: number;
    readonly hash: string;
    readonly records: Iterable<StoredRecord>;
    release(): void;
  } {
    const pin = this.pin();
    return {
      version: this.#version,
      atMs: this.#atMs,
      hash: this.hash(),
      records: recordsOf(pin),
      release: () => pin.release(),
    };
  }

  /** replace() by `records`. */
  async restore(
    version: number,
    atMs: number,
    records: AsyncIterable<StoredRecord> | Iterable<StoredRecord>,
    expected = '',
  ): Promise<void> {
    const restored = new RestoredContents();
    for await (const record of records) restored.add(record);
    this.replace(version, atMs, restored, expected);
  }

  /**
   * Replaces everything. Views pinned before stay as they were; watchers fall out of the ring.
   * SwarmError corrupt, and nothing is replaced, when the records have another hash than `expected`
   * ('' = not known).
   */
  replace(
    version: number,
    atMs: number,
    { contents, hash }: RestoredContents,
    expected: string,
  ): void {
    if (expected !== '' && hash.text !== expected) throw anotherHash(version, hash.text, expected);
    this.#contents = contents;
    this.#hash = hash;
    this.#hashes.restart(version, hash.words);
    this.#pins.clear();
    this.#version = version;
    this.#atMs = Math.max(atMs, this.#atMs);
    this.#ring.reset(version);
  }
}

function anotherHash(version: number, hash: string, expected: string): SwarmError {
  return new SwarmError(
    'corrupt',
    `the snapshot of version ${version} holds another state than it says (store hash ${hash}, ` +
      `written as ${expected}): demote this manager on another one and promote it again, or ` +
      'restore a backup',
  );
}

function* recordsOf(pin: Pin): Iterable<StoredRecord> {
  try {
    for (const table of TABLES) {
      for (const object of pin.all(table)) yield { table, object };
    }
  } finally {
    pin.release();
  }
}
