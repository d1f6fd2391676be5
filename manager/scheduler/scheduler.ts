/**
 * Chooses nodes: PENDING tasks become ASSIGNED, in groups of one service version (group.ts); those
 * that fit nowhere say why in status.error and are tried again when anything changes. A task with a
 * node already (global) is only checked. Placed tasks are never moved.
 */
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { TableName, Task } from '../../model/types.ts';
import { type NodeInfo, nodeInfo } from '../placement/nodeSet.ts';
import { activeConfig } from '../placement/order.ts';
import { bySlot, slotKey } from '../placement/slot.ts';
import { putInOrder, tasksOf } from '../placement/task.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';
import { Group } from './group.ts';

/**
 * Work of one pass, counted in nodes looked at: about 30 ms. What is left waits for the next.
 */
const WORK_PER_PASS = 250_000;
/** What a placement costs besides, in the same measure. */
const WORK_PER_TASK = 25;
/** Work between two pauses. */
const WORK_PER_STEP = 5_000;

export class Scheduler implements Loop {
  readonly name = 'scheduler';
  readonly tables: readonly TableName[] = ['task', 'node'];
  /** Tasks that fitted nowhere when last looked at; a memo, made anew by a leader's first pass. */
  #waiting = new Set<string>();
  /** Tasks that a pass had no time for: looked at in the next, though nothing changes. */
  #left = new Set<string>();
  /** What is on each node, as it was when the node or a task there last changed. */
  readonly #nodes = new Map<string, NodeInfo>();
  /** Nodes that have changed since, or where a pass has put a task that may not have come. */
  readonly #stale = new Set<string>();

  *plan(view: View, dirty: DirtySet, nowMs: number): Steps<PlanResult> {
    this.#noteStale(view, dirty);
    const groups = yield* this.#candidates(view, dirty);
    if (groups.size === 0) return { changes: [] };
    yield* this.#refresh(view, nowMs);
    const changes: Change[] = [];
    let work = 0;
    let pauseAt = WORK_PER_STEP;
    for (const tasks of groups.values()) {
      if (work >= WORK_PER_PASS) {
        for (const task of tasks) this.#left.add(task.id);
        continue;
      }
      work += this.#nodes.size;
      const group = new Group(tasks[0], this.#nodes, nowMs);
      const leaving = leavingOf(view, tasks);
      for (const task of tasks) {
        if (work >= pauseAt) {
          pauseAt = work + WORK_PER_STEP;
          yield;
        }
        if (work >= WORK_PER_PASS) {
          this.#left.add(task.id);
          continue;
        }
        work += WORK_PER_TASK;
        const placed = group.place(task, leaving(task));
        if (placed.status.state < TaskState.ASSIGNED) this.#waiting.add(task.id);
        else this.#stale.add(placed.nodeId);
        if (placed !== task) changes.push({ kind: 'update', table: 'task', object: placed });
      }
    }
    return this.#left.size > 0 ? { changes, wakeAtMs: nowMs } : { changes };
  }

  #noteStale(view: View, dirty: DirtySet): void {
    if (dirty.everything) {
      this.#nodes.clear();
      for (const { id } of view.all('node')) this.#stale.add(id);
    }
    for (const id of dirty.ids.node) this.#stale.add(id);
    for (const id of dirty.taskNodes ?? []) this.#stale.add(id);
  }

  *#refresh(view: View, nowMs: number): Steps<void> {
    for (const id of this.#stale) {
      this.#stale.delete(id);
      const node = view.get('node', id);
      if (node === undefined) this.#nodes.delete(id);
      else this.#nodes.set(id, nodeInfo(view, node, nowMs));
      yield;
    }
  }

  /** Those left first: they have waited longest. What fitted nowhere will not without a change. */
  #due(view: View, dirty: DirtySet): Iterable<Task> {
    const waiting = this.#waiting;
    if (dirty.everything) {
      this.#waiting = new Set();
      return view.all('task');
    }
    if (dirty.ids.task.size === 0 && dirty.ids.node.size === 0) return tasksOf(view, this.#left);
    this.#waiting = new Set();
    return tasksOf(view, new Set([...this.#left, ...waiting, ...dirty.ids.task]));
  }

  /** Tasks to place, by service version, in the order in which they were made. */
  *#candidates(view: View, dirty: DirtySet): Steps<Map<string, Task[]>> {
    const due = this.#due(view, dirty);
    this.#left = new Set();
    const pending: Task[] = [];
    let looked = 0;
    for (const task of due) {
      looked += 1;
      if (looked % ITEMS_PER_STEP === 0) yield;
      if (task.status.state !== TaskState.PENDING) continue;
      if (isWantedState(task.desiredState)) pending.push(task);
    }
    if (dirty.everything) putInOrder(view, pending);
    const groups = new Map<string, Task[]>();
    for (const task of pending) {
      const key = `${task.serviceId}/${task.specVersion}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [task]);
      else group.push(task);
    }
    return groups;
  }
}

const NONE: readonly Task[] = [];

/**
 * Which placed tasks will have stopped before a task starts: with stop-first, those that hold its
 * slot until it is READY.
 */
function leavingOf(view: View, tasks: readonly Task[]): (task: Task) => readonly Task[] {
  const [{ serviceId }] = tasks;
  const service = view.get('service', serviceId);
  if (service === undefined || service.job !== undefined) return () => NONE;
  if (activeConfig(service).order !== 'stop-first') return () => NONE;
  if (tasks.every((task) => task.desiredState !== TaskState.READY)) return () => NONE;
  const placed = [...view.tasksOfService(serviceId)].filter(
    ({ status: { state }, desiredState }) =>
      state >= TaskState.ASSIGNED && !isTerminal(state) && desiredState !== TaskState.REMOVE,
  );
  const slots = bySlot(placed);
  return (task) =>
    task.desiredState === TaskState.READY ? (slots.get(slotKey(task)) ?? NONE) : NONE;
}
