/**
 * Makes this host hold what it was assigned: applies assignment messages (a complete one, then
 * changes chained by version), networks before the tasks on them, and forgets what is taken back.
 * While no manager is there it keeps its last view. It never chooses what runs.
 */
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { withDeadline } from '../base/queue.ts';
import {
  type AssignmentItem,
  type AssignmentMessage,
  assignmentKey,
  type IngressAssignment,
  type TaskStatusUpdate,
} from '../model/assignment.ts';
import { isTerminal } from '../model/taskState.ts';
import type { Task, TaskStatus } from '../model/types.ts';
import type { Executor } from './controller.ts';
import type { Journal } from './journal.ts';
import type { Networks } from './networks.ts';
import type { Secrets } from './secrets.ts';
import { TaskManager } from './taskManager.ts';

export interface WorkerOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly executor: Executor;
  readonly networks: Networks;
  readonly secrets: Secrets;
  readonly journal: Journal;
  /** Called with every new status, for the reporter. */
  readonly report: (taskId: string, status: TaskStatus) => void;
}

/** A stop of the daemon waits no longer for images and containers under way. */
const CLOSE_MS = 5000;
const NO_INGRESS: IngressAssignment = { peers: [], ports: [] };
const TASK_PREFIX = 'task/';
const NETWORK_PREFIX = 'network/';
const DATA_PREFIXES = ['secret/', 'config/'];

export class Worker {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #executor: Executor;
  readonly #networks: Networks;
  readonly #secrets: Secrets;
  readonly #journal: Journal;
  readonly #report: (taskId: string, status: TaskStatus) => void;
  readonly #managers = new Map<string, TaskManager>();
  readonly #keys = new Set<string>();
  #sequence = 0;
  #aloneSinceMs: number | undefined;

  constructor(options: WorkerOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
    this.#executor = options.executor;
    this.#networks = options.networks;
    this.#secrets = options.secrets;
    this.#journal = options.journal;
    this.#report = options.report;
    this.#aloneSinceMs = options.clock.nowMs();
  }

  /** Takes up what an earlier process held. */
  resume(items: readonly AssignmentItem[], statuses: ReadonlyMap<string, TaskStatus>): void {
    for (const item of items) this.#keys.add(assignmentKey(item));
    this.#applyNetworks(items);
    for (const item of items) {
      if (item.kind !== 'task') continue;
      this.#manage(item.task, statuses.get(item.task.id) ?? item.task.status);
    }
  }

  /** False: the message does not build on what is held; a new stream must be opened. */
  apply(message: AssignmentMessage): boolean {
    if (message.type === 'incremental' && message.appliesTo !== this.#sequence) {
      this.#log.warn('assignments do not build on each other', {
        held: this.#sequence,
        appliesTo: message.appliesTo,
      });
      return false;
    }
    this.#sequence = message.resultsIn;
    const gone = message.type === 'complete' ? this.#missingFrom(message) : message.remove;
    for (const item of message.update) {
      this.#keys.add(assignmentKey(item));
      if (item.kind === 'secret' || item.kind === 'config') this.#secrets.apply(item);
      else this.#journal.put(item);
    }
    if (message.type === 'complete') this.#secrets.complete();
    this.#applyNetworks(message.update);
    for (const key of gone) this.#forget(key);
    for (const item of message.update) if (item.kind === 'task') this.#assign(item.task);
    if (message.type === 'complete') this.#removeStrays();
    return true;
  }

  sessionUp(): void {
    this.#aloneSinceMs = undefined;
    for (const manager of this.#managers.values()) manager.poke();
  }

  sessionLost(): void {
    this.#aloneSinceMs ??= this.#clock.nowMs();
  }

  /** Every task here with its latest status. */
  statuses(): readonly TaskStatusUpdate[] {
    return [...this.#managers].map(([taskId, manager]) => ({ taskId, status: manager.status }));
  }

  /** As this host holds it; undefined when it was not assigned here. */
  find(taskId: string): { readonly task: Task; readonly status: TaskStatus } | undefined {
    return this.#managers.get(taskId);
  }

  /** All that are assigned here and not forgotten yet. */
  tasks(): readonly Task[] {
    return [...this.#managers.values()].map(({ task }) => task);
  }

  /** Lets go of everything as it is; containers run on. */
  async close(): Promise<void> {
    const closing = Promise.all([...this.#managers.values()].map((manager) => manager.close()));
    this.#managers.clear();
    const what = 'finishing what was being made for tasks';
    await withDeadline(this.#clock, CLOSE_MS, what, closing).catch((error: unknown) => {
      this.#log.warn('agent stops in the middle of something', { error: messageOf(error) });
    });
  }

  #missingFrom(message: AssignmentMessage): readonly string[] {
    const kept = new Set(message.update.map(assignmentKey));
    return [...this.#keys].filter((key) => !kept.has(key));
  }

  #applyNetworks(items: readonly AssignmentItem[]): void {
    for (const item of items) {
      if (item.kind === 'network') this.#networks.apply(item.network);
      else if (item.kind === 'ingress') this.#networks.applyIngress(item.ingress);
    }
  }

  #forget(key: string): void {
    this.#keys.delete(key);
    if (key.startsWith(TASK_PREFIX)) {
      const taskId = key.slice(TASK_PREFIX.length);
      const manager = this.#managers.get(taskId);
      if (manager === undefined) this.#journal.remove(key);
      else manager.forget();
      return;
    }
    if (DATA_PREFIXES.some((prefix) => key.startsWith(prefix))) {
      this.#secrets.forget(key);
      return;
    }
    this.#journal.remove(key);
    if (key.startsWith(NETWORK_PREFIX)) this.#networks.forget(key.slice(NETWORK_PREFIX.length));
    else this.#networks.applyIngress(NO_INGRESS);
  }

  #assign(task: Task): void {
    const manager = this.#managers.get(task.id);
    if (manager === undefined) {
      this.#manage(task, task.status);
      return;
    }
    manager.update(task);
    if (manager.status.state > task.status.state) this.#report(task.id, manager.status);
  }

  #manage(task: Task, known: TaskStatus): void {
    // Of two ends the manager's counts; what runs here is not ended by being called so.
    const ended = isTerminal(task.status.state) && !isTerminal(known.state);
    const status = ended || known.state >= task.status.state ? known : task.status;
    const manager = new TaskManager({
      clock: this.#clock,
      log: this.#log,
      task,
      status,
      controller: this.#executor.controller(task),
      aloneSinceMs: () => this.#aloneSinceMs,
      onStatus: (taskId, latest) => {
        this.#journal.setStatus(taskId, latest);
        this.#report(taskId, latest);
      },
      onGone: (taskId) => {
        this.#managers.delete(taskId);
        this.#journal.remove(`${TASK_PREFIX}${taskId}`);
      },
    });
    this.#managers.set(task.id, manager);
    manager.poke();
  }

  /** After a complete message everything assigned is known: the rest on this host is left over. */
  #removeStrays(): void {
    for (const taskId of this.#executor.present()) {
      if (this.#managers.has(taskId)) continue;
      this.#executor.removeStray(taskId).catch((error: unknown) => {
        this.#log.warn('left over container is not removed yet', {
          task: taskId,
          error: messageOf(error),
        });
      });
    }
  }
}
