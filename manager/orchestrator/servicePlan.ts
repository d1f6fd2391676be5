/**
 * What is done to one service's slots, whatever its mode: let fallen tasks go, raise prepared ones
 * when it is their time, retire the old after the new, replace outdated ones, fill empty slots. A
 * mode (replicated, global) says which slots there are to be; this builds the changes. A task gets
 * at most one change, and its desired state only ever moves forward.
 */

import { MINUTE_MS, SECOND_MS } from '../../base/duration.ts';
import type { Ids } from '../../base/id.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { activeConfig } from '../placement/order.ts';
import { isStopped } from '../placement/slot.ts';
import { createTask, setDesired } from '../placement/task.ts';
import type { Change, View } from '../store/types.ts';
import { endedByItself, followsAtMs, isWanted, type Slot } from './slots.ts';
import { currentTask, planUpdate } from './update.ts';

/** A new task waits for its predecessor to stop, but no longer than its grace and this. */
const PREDECESSOR_WAIT_MS = 60 * SECOND_MS;

/** A drained node is to be empty at last, whether or not its tasks' successors run. */
const DRAIN_WAIT_MS = 5 * MINUTE_MS;

/** Where a task belongs: slot number, or 0 and a node. */
export interface Place {
  readonly slot: number;
  readonly nodeId: string;
}

export class ServicePlan {
  readonly #view: View;
  readonly #service: Service;
  readonly #ids: Ids;
  readonly #nowMs: number;
  readonly #desired = new Map<string, { task: Task; state: TaskState }>();
  readonly #creates: Change[] = [];
  #updated: Service | undefined;
  wakeAtMs: number | undefined;

  constructor(view: View, service: Service, ids: Ids, nowMs: number) {
    this.#view = view;
    this.#service = service;
    this.#ids = ids;
    this.#nowMs = nowMs;
  }

  get #startFirst(): boolean {
    return activeConfig(this.#service).order === 'start-first';
  }

  /** Creates first: should a plan be cut in two, a successor exists before the old is let go. */
  changes(): readonly Change[] {
    const changes = [...this.#creates];
    for (const { task, state } of this.#desired.values()) changes.push(setDesired(task, state));
    if (this.#updated !== undefined) {
      changes.push({ kind: 'update', table: 'service', object: this.#updated });
    }
    return changes;
  }

  /** Looks after what is in the slot already. */
  tend(slot: Slot): void {
    for (const task of slot.fallen) this.#desire(task, TaskState.SHUTDOWN);
    const isReplaced = slot.live.some((task) => task.status.state === TaskState.RUNNING);
    for (const task of slot.leaving) {
      if (isReplaced || this.#hasWaited(slot, task)) this.#desire(task, TaskState.SHUTDOWN);
    }
    if (slot.live.length === 0) return;
    const current = currentTask(this.#view, this.#service, slot);
    this.#retireOthers(slot, current);
    if (current.desiredState === TaskState.READY) this.#raise(slot, current);
  }

  /** Whether a task on a drained node has run on for long enough without a successor. */
  #hasWaited(slot: Slot, task: Task): boolean {
    const next = slot.tasks.find((other) => other.generation > task.generation);
    if (next === undefined) return false;
    const untilMs = next.createdAtMs + DRAIN_WAIT_MS;
    if (this.#nowMs < untilMs) this.#wake(untilMs);
    return this.#nowMs >= untilMs;
  }

  /** All of its tasks go, its history too, and are forgotten once they have stopped. */
  remove(slot: Slot): void {
    for (const task of slot.tasks) this.#desire(task, TaskState.REMOVE);
  }

  /** All of its wanted tasks stop; they stay as history. */
  shutDown(slot: Slot): void {
    for (const task of [...slot.live, ...slot.fallen]) this.#desire(task, TaskState.SHUTDOWN);
  }

  fill(place: Place, slot: Slot | undefined): void {
    const atMs = slot === undefined ? 0 : followsAtMs(slot.newest, this.#service);
    if (this.#nowMs < atMs) this.#wake(atMs);
    else this.#create(place, slot, slot?.delayMs ?? 0);
  }

  /** Moves a rolling update on; `slots` are those that are to stay. */
  update(slots: readonly Slot[]): void {
    const plan = planUpdate(this.#view, this.#service, slots, this.#nowMs);
    this.#updated = plan.service;
    this.#wake(plan.wakeAtMs);
    for (const slot of plan.replace) {
      const { newest } = slot;
      const failedHere = newest.specVersion === this.#service.specVersion && endedByItself(newest);
      this.#create(newest, slot, failedHere ? newest.spec.restart.delayMs : 0);
      const stays = this.#mayOverlap(newest) ? runningOf(slot.live) : undefined;
      for (const task of slot.live) if (task !== stays) this.#desire(task, TaskState.SHUTDOWN);
    }
  }

  #desire(task: Task, state: TaskState): void {
    if (task.desiredState >= state) return;
    const planned = this.#desired.get(task.id);
    if (planned === undefined || planned.state < state) this.#desired.set(task.id, { task, state });
  }

  #create(place: Place, slot: Slot | undefined, delayMs: number): void {
    const waits = slot?.tasks.some((task) => this.#isAwaited(slot, task)) ?? false;
    const notBeforeMs = delayMs > 0 ? this.#nowMs + Math.round(delayMs) : 0;
    const wanted = {
      slot: place.slot,
      nodeId: place.slot > 0 ? '' : place.nodeId,
      generation: (slot?.newest.generation ?? 0) + 1,
      desiredState: waits || notBeforeMs > 0 ? TaskState.READY : TaskState.RUNNING,
      notBeforeMs,
    };
    this.#creates.push(createTask(this.#ids, this.#service, wanted, this.#nowMs));
    if (notBeforeMs > 0) this.#wake(notBeforeMs);
  }

  /** Whether a successor must wait for `task` to stop. */
  #isAwaited(slot: Slot, task: Task): boolean {
    if (task.desiredState === TaskState.REMOVE || isStopped(this.#view, task)) return false;
    if (slot.leaving.includes(task)) return false;
    return !(this.#startFirst && slot.live.includes(task));
  }

  #raise(slot: Slot, task: Task): void {
    if (this.#nowMs < task.notBeforeMs) {
      this.#wake(task.notBeforeMs);
      return;
    }
    const awaited = slot.tasks.filter(
      (other) => other.generation < task.generation && this.#isAwaited(slot, other),
    );
    for (const other of awaited) {
      // One that has not been told to stop runs until its successor is ready.
      if (isWanted(other) && slot.live.includes(other)) return;
      const graceMs = other.spec.container.stopGraceMs + PREDECESSOR_WAIT_MS;
      const untilMs = Math.max(task.createdAtMs, other.updatedAtMs) + graceMs;
      if (this.#nowMs >= untilMs) continue;
      this.#wake(untilMs);
      return;
    }
    this.#desire(task, TaskState.RUNNING);
  }

  /**
   * One task runs in a slot until its successor is ready to start, and may; with start-first, which
   * a move to another node always is, until that runs.
   */
  #retireOthers(slot: Slot, current: Task): void {
    const others = slot.live.filter((task) => task !== current);
    const startFirst = this.#startFirst || current.movedFrom !== '';
    const until = startFirst ? TaskState.RUNNING : TaskState.READY;
    const isEarly = current.status.state < until || this.#nowMs < current.notBeforeMs;
    const waits = isEarly && this.#mayOverlap(current);
    const stays = waits ? runningOf(others) : undefined;
    for (const task of others) if (task !== stays) this.#desire(task, TaskState.SHUTDOWN);
  }

  /** An address of a slot's own is its old task's until that has stopped. */
  #mayOverlap({ slot }: Task): boolean {
    const { networks } = this.#service.spec.task;
    return networks.every(({ addresses }) => addresses[slot - 1] === undefined);
  }

  #wake(atMs: number | undefined): void {
    if (atMs === undefined) return;
    this.wakeAtMs = Math.min(this.wakeAtMs ?? atMs, atMs);
  }
}

/** The one that runs on while its successor is made ready. */
function runningOf(tasks: readonly Task[]): Task | undefined {
  return tasks.findLast((task) => task.status.state === TaskState.RUNNING);
}
