/**
 * Carries task statuses to the manager: the latest per task, kept until acknowledged, one call
 * under way at a time, retried with back-off while a session is up and kept while there is none.
 * It never drops a task's latest status; the bound is one per task on this host.
 */
import type { Clock, Timer } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { TaskStatusUpdate } from '../model/assignment.ts';
import { TaskState } from '../model/taskState.ts';
import type { TaskStatus } from '../model/types.ts';

export type SendStatuses = (updates: readonly TaskStatusUpdate[]) => Promise<void>;

/** As many in one call; more would delay the first. */
export const STATUS_BATCH = 1024;
/** States that are usually left within milliseconds wait so long for what follows. */
export const PASSING_STATE_MS = 15;
const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 4000;

export interface ReporterOptions {
  readonly clock: Clock;
  readonly log: Log;
}

export class Reporter {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #pending = new Map<string, TaskStatus>();
  #send: SendStatuses | undefined;
  #sending = false;
  /** Counts sessions: a call of an earlier one may answer late, and holds up nothing. */
  #session = 0;
  #failures = 0;
  #timer: Timer | undefined;
  #dueMs = Number.POSITIVE_INFINITY;

  constructor(options: ReporterOptions) {
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** Statuses that no manager has acknowledged yet. */
  get pending(): number {
    return this.#pending.size;
  }

  report(taskId: string, status: TaskStatus): void {
    this.#pending.set(taskId, status);
    if (this.#failures === 0) this.#flushAfter(isPassing(status) ? PASSING_STATE_MS : 0);
  }

  /** A session is up: everything not acknowledged goes to it. */
  open(send: SendStatuses): void {
    this.#send = send;
    this.#session += 1;
    this.#sending = false;
    this.#failures = 0;
    if (this.#pending.size > 0) this.#flushAfter(0);
  }

  /** The session is gone; what is under way counts as not acknowledged. */
  close(): void {
    this.#send = undefined;
    this.#unschedule();
  }

  #flushAfter(delayMs: number): void {
    const dueMs = this.#clock.nowMs() + delayMs;
    if (this.#send === undefined || this.#sending || dueMs >= this.#dueMs) return;
    this.#unschedule();
    this.#dueMs = dueMs;
    if (delayMs === 0) {
      // After the current turn, so that what happens together goes together.
      queueMicrotask(() => {
        if (this.#dueMs === dueMs) this.#flush();
      });
      return;
    }
    this.#timer = this.#clock.after(delayMs, () => this.#flush());
  }

  #unschedule(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#dueMs = Number.POSITIVE_INFINITY;
  }

  #flush(): void {
    this.#unschedule();
    const send = this.#send;
    if (send === undefined || this.#sending || this.#pending.size === 0) return;
    const batch = [...this.#pending].slice(0, STATUS_BATCH);
    const session = this.#session;
    this.#sending = true;
    send(batch.map(([taskId, status]) => ({ taskId, status }))).then(
      () => this.#sent(session, batch),
      (error: unknown) => this.#failed(session, error),
    );
  }

  #sent(session: number, batch: readonly (readonly [string, TaskStatus])[]): void {
    for (const [taskId, status] of batch) {
      if (this.#pending.get(taskId) === status) this.#pending.delete(taskId);
    }
    if (session !== this.#session) return;
    this.#sending = false;
    this.#failures = 0;
    if (this.#pending.size === 0) return;
    const passing = [...this.#pending.values()].every(isPassing);
    this.#flushAfter(passing ? PASSING_STATE_MS : 0);
  }

  #failed(session: number, error: unknown): void {
    if (session !== this.#session) return;
    this.#sending = false;
    this.#failures += 1;
    const delayMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(this.#failures - 1, 10));
    this.#log.warn('task statuses are not reported yet', {
      tasks: this.#pending.size,
      error: messageOf(error),
    });
    this.#flushAfter(delayMs);
  }
}

/** READY is not: a task may be held there for long, and someone waits for it. */
function isPassing(status: TaskStatus): boolean {
  return status.state < TaskState.RUNNING && status.state !== TaskState.READY;
}
