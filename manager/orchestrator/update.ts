/**
 * Rolling updates, from the tasks as they are: which outdated slots are replaced now, and what the
 * service's update status becomes. Nothing is remembered but that status, so a new leader goes on
 * where the old one was. Never touches tasks: it names slots, servicePlan replaces them.
 *
 * | status | what is true | left by |
 * |---|---|---|
 * | none | no outdated slot, or not looked at yet | begin |
 * | updating, rollback_started | slots are replaced, at most `parallelism` at a time | progress |
 * | paused, rollback_paused | too many failures; only a new specification goes on | apply (store) |
 * | completed, rollback_completed | all replaced and watched for the monitor period | begin |
 */
import { formatDuration } from '../../base/duration.ts';
import { TaskState, taskStateName } from '../../model/taskState.ts';
import type {
  Service,
  ServiceSpec,
  Task,
  UpdateConfig,
  UpdateState,
  UpdateStatus,
} from '../../model/types.ts';
import { activeConfig, isRollingBack } from '../placement/order.ts';
import type { View } from '../store/types.ts';
import { isDirty } from './dirty.ts';
import { obstacleTo } from './obstacle.ts';
import { endedByItself, followsAtMs, type Slot } from './slots.ts';

export interface UpdatePlan {
  /** Outdated slots whose turn has come. */
  readonly replace: readonly Slot[];
  /** The service with its new status (and specification, on rollback); undefined = unchanged. */
  readonly service: Service | undefined;
  readonly wakeAtMs: number | undefined;
}

const NOTHING: UpdatePlan = { replace: [], service: undefined, wakeAtMs: undefined };

/** `slots`: those that are to stay (not the ones being scaled away). */
export function planUpdate(
  view: View,
  service: Service,
  slots: readonly Slot[],
  nowMs: number,
): UpdatePlan {
  const state = service.update?.state;
  if (state === 'paused' || state === 'rollback_paused') return NOTHING;
  const late = slots.filter(
    (slot) =>
      slot.state !== 'empty' && isOutdated(view, service, slot) && !isTriedForGood(service, slot),
  );
  const active = state === 'updating' || state === 'rollback_started';
  if (!active && late.length === 0) return NOTHING;
  const started = active ? service : withStatus(service, begin(nowMs));
  const progress = new Progress(view, started, slots, late, nowMs);
  const stopped = progress.stoppedByFailures();
  if (stopped !== undefined) return { ...NOTHING, service: stopped };
  if (late.length === 0) {
    const done = progress.isComplete();
    const completed = done ? withStatus(started, finished(started, nowMs)) : undefined;
    return { replace: [], service: completed, wakeAtMs: done ? undefined : progress.wakeAtMs };
  }
  return {
    replace: progress.next(),
    service: active ? undefined : started,
    wakeAtMs: progress.wakeAtMs,
  };
}

/**
 * The task that a slot is about: of the wanted ones the newest that is as the service wants it, or
 * the newest; in a slot without any, the one that ended for good.
 */
export function currentTask(view: View, service: Service, slot: Slot): Task {
  const fitting = slot.live.findLast((task) => !outdated(view, service, task));
  return fitting ?? slot.live.at(-1) ?? slot.newest;
}

function isOutdated(view: View, service: Service, slot: Slot): boolean {
  return outdated(view, service, currentTask(view, service, slot));
}

function outdated(view: View, service: Service, task: Task): boolean {
  return isDirty(service, task, view.get('node', task.nodeId));
}

/**
 * A start-first replacement failed here in this update and its restart policy allows no other: what
 * ran before runs on, and the update does not wait for it.
 */
function isTriedForGood(service: Service, slot: Slot): boolean {
  const { update, specVersion } = service;
  if (slot.state === 'finished' || update === undefined) return false;
  if (slot.newest.specVersion !== specVersion) return false;
  const { maxAttempts, condition } = slot.newest.spec.restart;
  const failures = slot.tasks.filter(
    (task) =>
      task.specVersion === specVersion &&
      task.updatedAtMs >= update.startedAtMs &&
      endedByItself(task),
  ).length;
  return failures > 0 && (condition === 'none' || (maxAttempts > 0 && failures > maxAttempts));
}

/** One look at an update under way. */
class Progress {
  readonly #view: View;
  readonly #service: Service;
  readonly #config: UpdateConfig;
  readonly #slots: readonly Slot[];
  readonly #outdated: readonly Slot[];
  readonly #nowMs: number;
  /** Slot -> the task of the new specification that ended too early there. */
  readonly #failed = new Map<string, Task>();
  /** Those of them that failed by not coming to run in time. */
  readonly #stuck = new Map<string, Task>();
  wakeAtMs: number | undefined;

  constructor(
    view: View,
    service: Service,
    slots: readonly Slot[],
    outdated: readonly Slot[],
    nowMs: number,
  ) {
    this.#view = view;
    this.#service = service;
    this.#config = activeConfig(service);
    this.#slots = slots;
    this.#outdated = outdated;
    this.#nowMs = nowMs;
    for (const slot of slots) {
      const failed = slot.tasks.find((task) => this.#failedNow(task));
      if (failed !== undefined) this.#failed.set(slot.key, failed);
    }
    this.#standStill();
  }

  /** Slots whose new task has not come to run for too long count as failed, with the reason. */
  #standStill(): void {
    const { progressDeadlineMs, delayMs } = this.#config;
    if (progressDeadlineMs === 0) return;
    const waiting: { slot: Slot; task: Task }[] = [];
    let sinceMs = this.#service.update?.startedAtMs ?? this.#nowMs;
    for (const slot of this.#slots) {
      const task = this.#current(slot);
      if (task === undefined || !this.#isNew(task) || task.generation === 1) continue;
      if (task.status.state < TaskState.RUNNING) waiting.push({ slot, task });
      else sinceMs = Math.max(sinceMs, task.updatedAtMs + delayMs);
    }
    if (waiting.length === 0) return;
    const dueMs = sinceMs + progressDeadlineMs;
    if (this.#nowMs < dueMs) {
      this.wakeAtMs = Math.min(this.wakeAtMs ?? dueMs, dueMs);
      return;
    }
    for (const { slot, task } of waiting) {
      if (this.#failed.has(slot.key)) continue;
      this.#failed.set(slot.key, task);
      this.#stuck.set(slot.key, task);
    }
  }

  #current(slot: Slot): Task | undefined {
    return slot.live.length > 0 ? currentTask(this.#view, this.#service, slot) : undefined;
  }

  #isNew(task: Task): boolean {
    return task.specVersion === this.#service.specVersion;
  }

  /** In this update, not before it was paused and asked for once more. */
  #failedNow(task: Task): boolean {
    const startedAtMs = this.#service.update?.startedAtMs ?? 0;
    return this.#isNew(task) && task.updatedAtMs >= startedAtMs && this.#endedEarly(task);
  }

  /** Both times are its agent's, so that clocks that differ do no harm. */
  #endedEarly(task: Task): boolean {
    if (!endedByItself(task)) return false;
    const runningAtMs = task.status.phases[TaskState.RUNNING];
    return runningAtMs === undefined || task.status.atMs - runningAtMs < this.#config.monitorMs;
  }

  /** The service paused or rolled back, when too large a part of the new tasks failed. */
  stoppedByFailures(): Service | undefined {
    if (this.#failed.size === 0 || this.#config.failureAction === 'continue') return undefined;
    const updated = this.#slots.filter((slot) => slot.tasks.some((task) => this.#isNew(task)));
    const total = new Set([...updated, ...this.#outdated]).size;
    if (this.#failed.size / total <= this.#config.maxFailureRatio) return undefined;
    const [task] = this.#failed.values();
    const [stuck] = this.#stuck.values();
    const why =
      stuck === undefined
        ? `due to failure or early termination of task ${task.id}`
        : stuckText(stuck, this.#config.progressDeadlineMs);
    const back = isRollingBack(this.#service);
    const { previousSpec } = this.#service;
    let obstacle = '';
    if (this.#config.failureAction === 'rollback' && !back && previousSpec !== undefined) {
      obstacle = obstacleTo(this.#view, this.#service, previousSpec);
      if (obstacle === '') return this.#rolledBack(previousSpec, why);
      obstacle = `; it cannot be rolled back: ${obstacle}`;
    }
    const state: UpdateState = back ? 'rollback_paused' : 'paused';
    const message = `${back ? 'rollback' : 'update'} paused ${why}${obstacle}`;
    return withStatus(this.#service, { ...statusOf(this.#service), state, message });
  }

  #rolledBack(spec: ServiceSpec, why: string): Service {
    return {
      ...withStatus(this.#service, {
        state: 'rollback_started',
        startedAtMs: this.#nowMs,
        completedAtMs: 0,
        message: `update rolled back ${why}`,
      }),
      spec,
      previousSpec: undefined,
    };
  }

  /**
   * Outdated slots to replace now: those without a running task first, then by number. Where it
   * was tried in vain it is tried again after all others, or they would never have their turn.
   */
  next(): readonly Slot[] {
    const { parallelism } = this.#config;
    const room = parallelism === 0 ? Number.POSITIVE_INFINITY : parallelism - this.#underWay();
    if (room <= 0) return [];
    const tried = ({ key }: Slot): number => (this.#failed.has(key) ? 1 : 0);
    return this.#outdated
      .filter((slot) => this.#mayFollow(slot))
      .sort((left, right) => tried(left) - tried(right) || compareTurn(left, right))
      .slice(0, room);
  }

  #mayFollow({ newest }: Slot): boolean {
    const atMs = followsAtMs(newest, this.#service);
    if (atMs <= this.#nowMs) return true;
    this.wakeAtMs = Math.min(this.wakeAtMs ?? atMs, atMs);
    return false;
  }

  /** Replaced slots whose new task does not run yet, or not for long enough (delay). */
  #underWay(): number {
    let count = 0;
    for (const slot of this.#slots) {
      const task = this.#current(slot);
      if (task === undefined || !this.#isNew(task) || task.generation === 1) continue;
      if (this.#failed.has(slot.key) && !this.#costsAsBefore(slot)) continue;
      if (task.status.state < TaskState.RUNNING || this.#within(task, this.#config.delayMs)) {
        count += 1;
      }
    }
    return count;
  }

  /** Whether the old task ran on in a slot until now, so that a new try is as the first one was. */
  #costsAsBefore(slot: Slot): boolean {
    if (this.#stuck.has(slot.key)) return false;
    if (slot.live.some((task) => !this.#isNew(task))) return true;
    const failures = slot.tasks.filter((task) => this.#failedNow(task));
    return failures.every(({ status }) => status.state === TaskState.REJECTED);
  }

  /** All run, and the last replaced have been watched for the monitor period. */
  isComplete(): boolean {
    let complete = true;
    for (const slot of this.#slots) {
      if (this.#failed.has(slot.key) || slot.state === 'finished') continue;
      const task = this.#current(slot);
      if (task === undefined) complete = false;
      else if (!this.#isNew(task) || task.generation === 1) continue;
      else if (task.status.state < TaskState.RUNNING) complete = false;
      else if (this.#within(task, this.#config.monitorMs)) complete = false;
    }
    return complete;
  }

  /** Whether it has run for less than `periodMs` by the leader's clock; notes when that ends. */
  #within(task: Task, periodMs: number): boolean {
    const endMs = task.updatedAtMs + periodMs;
    if (endMs <= this.#nowMs) return false;
    this.wakeAtMs = Math.min(this.wakeAtMs ?? endMs, endMs);
    return true;
  }
}

/** 'because nothing came to run for 10m0s: task x is preparing: pulling' */
function stuckText({ id, status }: Task, deadlineMs: number): string {
  const { state, error, message } = status;
  const said = error || message;
  return (
    `because nothing came to run for ${formatDuration(deadlineMs)}: task ${id} is ` +
    `${taskStateName(state)}${said === '' ? '' : `: ${said}`}`
  );
}

function compareTurn(left: Slot, right: Slot): number {
  const running = (slot: Slot): number =>
    slot.live.some((task) => task.status.state === TaskState.RUNNING) ? 1 : 0;
  const byState = running(left) - running(right);
  if (byState !== 0) return byState;
  return left.newest.slot - right.newest.slot || (left.key < right.key ? -1 : 1);
}

function begin(nowMs: number): UpdateStatus {
  return {
    state: 'updating',
    startedAtMs: nowMs,
    completedAtMs: 0,
    message: 'update in progress',
  };
}

function finished(service: Service, nowMs: number): UpdateStatus {
  const back = isRollingBack(service);
  return {
    ...statusOf(service),
    state: back ? 'rollback_completed' : 'completed',
    completedAtMs: nowMs,
    message: back ? 'rollback completed' : 'update completed',
  };
}

function statusOf(service: Service): UpdateStatus {
  return service.update ?? begin(0);
}

function withStatus(service: Service, update: UpdateStatus): Service {
  return { ...service, update };
}
