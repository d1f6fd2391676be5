/**
 * The store's words: a change of one object, a transaction, a view to decide from, and the proposer
 * that makes a transaction happen on every manager. The store knows nothing of Raft: `version` is
 * whatever number the proposer's log gives, growing by entry.
 */

import type { Steps } from '../../base/slices.ts';
import type { Change } from '../../model/change.ts';
import type { TaskState } from '../../model/taskState.ts';
import type { AnyObject, Service, TableName, Tables, Task } from '../../model/types.ts';

export type { Change };

export interface Transaction {
  /** true: all or nothing. false (loops): a stale or refused change is dropped alone. */
  readonly atomic: boolean;
  readonly changes: readonly Change[];
}

export interface RejectedChange {
  readonly index: number;
  readonly code: 'out_of_sequence' | 'conflict' | 'not_found' | 'invalid';
  readonly message: string;
}

export interface ApplyResult {
  readonly version: number;
  readonly rejected: readonly RejectedChange[];
}

/** A consistent read. Records handed out never change. */
export interface View {
  readonly version: number;
  get<T extends TableName>(table: T, id: string): Tables[T] | undefined;
  all<T extends TableName>(table: T): Iterable<Tables[T]>;
  count(table: TableName): number;
  tasksOfService(serviceId: string): Iterable<Task>;
  tasksOfNode(nodeId: string): Iterable<Task>;
  /** Those that name the network, also when they have ended. */
  tasksOfNetwork(networkId: string): Iterable<Task>;
  /** Ids of the services that tasks name; those of tasks that are just gone may be among them. */
  serviceIdsOfTasks(): Iterable<string>;
  serviceByName(name: string): Service | undefined;
  /** By exact name; node by hostname or spec.name when exactly one matches. */
  byName<T extends TableName>(table: T, name: string): Tables[T] | undefined;
  /** The single cluster object; undefined before init. */
  cluster(): Tables['cluster'] | undefined;
}

/** One applied change, as watchers and loops see it. */
export interface StoreEvent {
  readonly version: number;
  readonly atMs: number;
  readonly kind: 'create' | 'update' | 'remove';
  readonly table: TableName;
  readonly id: string;
  readonly before: AnyObject | undefined;
  readonly after: AnyObject | undefined;
}

/** A cursor into the ring of changes; never waited for. */
export interface StoreWatch {
  /**
   * Events after the cursor in order, at most `limit`; [] when up to date.
   * SwarmError 'exhausted' when the ring has moved past the cursor: start again from a view.
   */
  take(limit: number): readonly StoreEvent[];
  /** Calls `wake` (synchronously, at apply) whenever there is something new; returns the stop. */
  onEvents(wake: () => void): () => void;
  close(): void;
}

export interface StoreReader extends View {
  /** A view that stays as it is now until released. */
  pin(): View & { release(): void };
  /** From now, or from just after `version` (SwarmError 'exhausted' if too old). */
  watch(afterVersion?: number): StoreWatch;
}

/** A store as its owner watches over it. */
export interface StoreState extends StoreReader {
  /** See Store. */
  hash(): string;
  hashAt(version: number): string | undefined;
  readonly taskStates: ReadonlyMap<TaskState, number>;
  /** Times that a watcher was told that it fell out of the ring. */
  readonly watchFalls: number;
  readonly watchers: number;
  readonly pins: number;
}

/** What makes a transaction happen. Implemented by manager/replica over Raft. */
export interface Proposer {
  /**
   * Resolves after the transaction has been applied here, with what apply said.
   * SwarmError: not_leader, no_quorum, unavailable (outcome unknown), exhausted (too large, full).
   */
  propose(transaction: Transaction): Promise<ApplyResult>;
  /** Resolves when everything acknowledged anywhere before the call has been applied here. */
  barrier(): Promise<void>;
  readonly isLeader: boolean;
}

/** Ids that changed since a loop's last pass. `everything`: first pass after an election. */
export interface DirtySet {
  readonly everything: boolean;
  readonly ids: { readonly [T in TableName]: ReadonlySet<string> };
  /** Services of the tasks in `ids.task`, also of those that are gone. */
  readonly taskServices?: ReadonlySet<string>;
  /** Their nodes, also those they have left; '' for tasks without one. */
  readonly taskNodes?: ReadonlySet<string>;
}

export interface PlanResult {
  readonly changes: readonly Change[];
  /** Unix ms (the leader's wall clock) at which to plan again even if nothing changes. */
  readonly wakeAtMs?: number;
}

/**
 * A loop: decides changes from a view. Pure: no clock, promise, callback or I/O. It pauses often
 * enough that no stretch takes milliseconds; what it has read may change at a pause, and is decided
 * again when it did: the change is refused by its version, or makes the object dirty.
 */
export interface Loop {
  readonly name: string;
  /** Tables whose changes make it dirty. */
  readonly tables: readonly TableName[];
  plan(view: View, dirty: DirtySet, nowMs: number): Steps<PlanResult>;
}
