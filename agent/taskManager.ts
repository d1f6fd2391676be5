/**
 * Drives one task: asks `step` what to do, has the controller do it, and tells every new status.
 * One action is under way at a time, but for a 'wait', which a 'shutdown' replaces. It decides
 * nothing itself and never moves a task backwards.
 */
import { AssertionError, assert } from '../base/assert.ts';
import type { Clock, Timer } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { isTerminal, TaskState, taskStateName } from '../model/taskState.ts';
import type { Task, TaskStatus } from '../model/types.ts';
import type { Controller } from './controller.ts';
import { type Action, FRESH_MEMORY, type Outcome, type StepMemory, step } from './step.ts';

export interface TaskManagerOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly task: Task;
  /** Where the task stands as far as this host knows. */
  readonly status: TaskStatus;
  readonly controller: Controller;
  /** Monotonic ms since when no manager can be reached; undefined while one can. */
  readonly aloneSinceMs: () => number | undefined;
  readonly onStatus: (taskId: string, status: TaskStatus) => void;
  /** Everything of a forgotten task is gone. */
  readonly onGone: (taskId: string) => void;
}

const REMOVE_RETRY_FIRST_MS = 200;
const REMOVE_RETRY_MAX_MS = 30_000;

export class TaskManager {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #controller: Controller;
  readonly #aloneSinceMs: () => number | undefined;
  readonly #onStatus: (taskId: string, status: TaskStatus) => void;
  readonly #onGone: (taskId: string) => void;
  #task: Task;
  #desired: TaskState;
  #status: TaskStatus;
  #memory: StepMemory = FRESH_MEMORY;
  #doing: Action | undefined;
  /** Outcomes of actions that were replaced are not heard. */
  #turn = 0;
  #acting: Promise<void> = Promise.resolve();
  #abort = new AbortController();
  #timer: Timer | undefined;
  #stopHealth: (() => void) | undefined;
  #forgotten = false;
  #removing = false;
  #removeFailures = 0;
  #closed = false;

  constructor(options: TaskManagerOptions) {
    this.#clock = options.clock;
    this.#log = options.log.with({ task: options.task.id });
    this.#controller = options.controller;
    this.#aloneSinceMs = options.aloneSinceMs;
    this.#onStatus = options.onStatus;
    this.#onGone = options.onGone;
    this.#task = options.task;
    this.#status = options.status;
    this.#desired = this.#wantedBy(options.task);
  }

  get task(): Task {
    return this.#task;
  }

  get status(): TaskStatus {
    return this.#status;
  }

  /** Begins, or looks again because something outside changed. */
  poke(): void {
    this.#advance(undefined);
  }

  /** What the manager wants now; only the desired state of a task can change, and only upwards. */
  update(task: Task): void {
    this.#task = task;
    const wanted = this.#wantedBy(task);
    if (wanted > this.#desired) this.#desired = wanted;
    this.#advance(undefined);
  }

  /** A task that its manager has given up (orphaned) while it runs here must not run on. */
  #wantedBy(task: Task): TaskState {
    const givenUp = isTerminal(task.status.state) && !isTerminal(this.#status.state);
    if (givenUp && task.desiredState < TaskState.SHUTDOWN) return TaskState.SHUTDOWN;
    return task.desiredState;
  }

  /** No longer assigned: stopped if needed, then removed from this host. */
  forget(): void {
    this.#forgotten = true;
    this.#desired = TaskState.REMOVE;
    this.#advance(undefined);
  }

  /**
   * Lets go of the task as it is; what runs goes on. Resolves when nothing is being made any more,
   * so that whoever comes next finds all of it.
   */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#abort.abort();
    this.#unwatch();
    if (this.#doing !== 'wait' && this.#doing !== 'shutdown') await this.#acting;
  }

  #advance(outcome: Outcome | undefined): void {
    if (this.#closed) return;
    const before = this.#status;
    const next = step({
      desired: this.#desired,
      status: before,
      memory: this.#memory,
      doing: this.#doing,
      outcome,
      aloneSinceMs: this.#aloneSinceMs(),
      restart: this.#task.spec.restart,
      memoryLimitBytes: this.#task.spec.limits.memoryBytes,
      nowMs: this.#clock.nowMs(),
      wallMs: this.#clock.wallMs(),
    });
    assert(next.status.state >= before.state, 'a task moves forward only', {
      task: this.#task.id,
      from: before.state,
      to: next.status.state,
    });
    this.#status = next.status;
    this.#memory = next.memory;
    this.#timer?.cancel();
    if (next.wakeAtMs !== undefined) this.#wakeAt(next.wakeAtMs);
    if (next.abort) this.#abort.abort();
    if (next.action !== undefined) this.#begin(next.action);
    if (next.action === 'wait') this.#watchHealth();
    else if (next.action !== undefined || isTerminal(this.#status.state)) this.#unwatch();
    if (next.status !== before) this.#tell(before);
    if (isTerminal(this.#status.state)) this.#ended(before);
  }

  #wakeAt(atMs: number): void {
    const delayMs = Math.max(0, atMs - this.#clock.nowMs());
    this.#timer = this.#clock.after(delayMs, () => this.#advance(undefined));
  }

  #tell(before: TaskStatus): void {
    const { state, error } = this.#status;
    if (state !== before.state) {
      this.#log.info(`task ${taskStateName(state)}`, error === '' ? {} : { error });
    }
    this.#onStatus(this.#task.id, this.#status);
  }

  #begin(action: Action): void {
    assert(this.#doing === undefined || this.#doing === 'wait', 'one action at a time', {
      task: this.#task.id,
      doing: this.#doing,
      action,
    });
    this.#turn += 1;
    const turn = this.#turn;
    this.#doing = action;
    if (this.#abort.signal.aborted) this.#abort = new AbortController();
    this.#acting = this.#perform(action)
      .catch((error: unknown) => failureOf(action, error))
      .then((outcome) => {
        if (turn !== this.#turn) return;
        this.#doing = undefined;
        this.#advance(outcome);
      });
  }

  /** While the program is waited for. */
  #watchHealth(): void {
    this.#unwatch();
    // One that was restarted in place has its start period again.
    const isFirst = this.#memory.restartsAtMs.length === 0;
    const wasHealthy = this.#status.state === TaskState.RUNNING && isFirst;
    this.#stopHealth = this.#controller.watchHealth(wasHealthy, (report) => {
      this.#advance({ kind: 'health', report });
    });
  }

  #unwatch(): void {
    this.#stopHealth?.();
    this.#stopHealth = undefined;
  }

  async #perform(action: Action): Promise<Outcome> {
    const controller = this.#controller;
    switch (action) {
      case 'prepare':
        return { kind: 'prepared', prepared: await controller.prepare(this.#abort.signal) };
      case 'start':
        return { kind: 'started', started: await controller.start() };
      case 'wait':
        return { kind: 'exited', exit: await controller.wait() };
      case 'shutdown': {
        const graceMs = this.#task.spec.container.stopGraceMs;
        return { kind: 'stopped', exit: await controller.shutdown(graceMs) };
      }
      case 'restart':
        await controller.remove();
        await controller.prepare(this.#abort.signal);
        return { kind: 'started', started: await controller.start() };
    }
  }

  #ended(before: TaskStatus): void {
    if (this.#forgotten) {
      this.#remove();
      return;
    }
    if (isTerminal(before.state)) return;
    this.#controller.release().catch((error: unknown) => {
      this.#log.warn('network of an ended task is not given back yet', { error: messageOf(error) });
    });
  }

  #remove(): void {
    if (this.#removing) return;
    this.#removing = true;
    this.#controller.remove().then(
      () => this.#onGone(this.#task.id),
      (error: unknown) => {
        this.#removing = false;
        this.#removeFailures += 1;
        const delayMs = REMOVE_RETRY_FIRST_MS * 2 ** Math.min(this.#removeFailures, 10);
        this.#log.warn('task is not removed yet', { error: messageOf(error) });
        if (this.#closed) return;
        const boundedMs = Math.min(delayMs, REMOVE_RETRY_MAX_MS);
        this.#timer = this.#clock.after(boundedMs, () => this.#advance(undefined));
      },
    );
  }
}

/** A failed assertion is no outcome: it ends the process. */
function failureOf(action: Action, error: unknown): Outcome {
  if (error instanceof AssertionError) throw error;
  const exitCode = error instanceof SwarmError ? Number(error.detail.exitCode ?? 0) : 0;
  return { kind: 'failed', action, error: messageOf(error), exitCode };
}
