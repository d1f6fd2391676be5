/**
 * Forgets tasks, and gives up on those whose node has been down for a day (ORPHANED: nobody can say
 * what became of them, and their addresses are free). Forgotten are those
 * of a slot beyond the history that is kept, those to be removed once they have stopped, all of a
 * service that is gone; never the newest task of a slot that stays (it says what the slot is), and
 * never one whose container may still run on a node that answers.
 */
import { DAY_MS } from '../../base/duration.ts';
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { DEFAULT_CLUSTER_SPEC } from '../../model/defaults.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Service, TableName, Task } from '../../model/types.ts';
import { bySlot } from '../placement/slot.ts';
import { setDesired } from '../placement/task.ts';
import type { Change, View } from '../store/types.ts';
import { ServiceLoop, type ServiceResult } from './serviceLoop.ts';
import { isWanted } from './slots.ts';

/** Docker Swarm's: a node that is down for this long is not expected to report its tasks. */
const ORPHAN_MS = DAY_MS;

export class Reaper extends ServiceLoop {
  readonly name = 'reaper';
  readonly tables: readonly TableName[] = ['task', 'service', 'node', 'cluster'];

  /** Those that are there, and those that only their tasks still name. */
  protected everyService(view: View): Iterable<string> {
    return view.serviceIdsOfTasks();
  }

  protected *planService(view: View, serviceId: string, nowMs: number): Steps<ServiceResult> {
    const service = view.get('service', serviceId);
    const tasks = [...view.tasksOfService(serviceId)];
    if (service === undefined) return { changes: removeAll(view, tasks) };
    const keep = historyLimit(view, service);
    const changes: Change[] = [];
    let looked = 0;
    for (const slot of bySlot(tasks).values()) {
      changes.push(...reapSlot(view, service, slot, keep));
      looked += 1;
      if (looked % ITEMS_PER_STEP === 0) yield;
    }
    return {
      changes: [...changes, ...orphan(view, tasks, nowMs)],
      wakeAtMs: nextOrphan(view, tasks, nowMs),
    };
  }
}

/** A policy with a bound on attempts needs as many tasks to count them. */
function historyLimit(view: View, service: Service): number {
  const { maxAttempts } = service.spec.task.restart;
  if (maxAttempts > 0) return maxAttempts + 1;
  const { taskHistoryLimit } = view.cluster()?.spec ?? DEFAULT_CLUSTER_SPEC;
  return taskHistoryLimit;
}

function removeAll(view: View, tasks: readonly Task[]): readonly Change[] {
  return tasks.flatMap((task) => {
    if (isGone(task) || isLost(view, task)) return [remove(task)];
    if (task.desiredState === TaskState.REMOVE) return [];
    return [setDesired(task, TaskState.REMOVE)];
  });
}

function reapSlot(
  view: View,
  service: Service,
  tasks: readonly Task[],
  keep: number,
): readonly Change[] {
  const newest = tasks[tasks.length - 1];
  const abandoned =
    newest.desiredState === TaskState.REMOVE ||
    isNodeGone(view, service, newest) ||
    isBeyondJob(service, newest);
  const isUpdating = service.update?.completedAtMs === 0;
  let excess = abandoned ? tasks.length : tasks.length - Math.max(keep, isUpdating ? 2 : 1);
  const changes: Change[] = [];
  for (const task of tasks) {
    if (isWanted(task)) continue;
    const forgotten = mustForget(view, task);
    const old = excess > 0 && (task !== newest || abandoned) && isGone(task);
    if (!forgotten && !old) continue;
    changes.push(remove(task));
    excess -= 1;
  }
  return changes;
}

/** Not history: never ran anywhere, was to be removed, or its node was. */
function mustForget(view: View, task: Task): boolean {
  if (task.status.state < TaskState.ASSIGNED) return true;
  if (view.get('node', task.nodeId) === undefined && !isTerminal(task.status.state)) return true;
  if (task.desiredState !== TaskState.REMOVE) return false;
  return isGone(task) || isLost(view, task);
}

/** When a task that was let go is given up; undefined = its node may yet say what became of it. */
function orphanAtMs(view: View, task: Task): number | undefined {
  if (isWanted(task) || isGone(task)) return undefined;
  const node = view.get('node', task.nodeId);
  if (node?.state !== 'down' || node.downSinceMs === 0) return undefined;
  return node.downSinceMs + ORPHAN_MS;
}

function orphan(view: View, tasks: readonly Task[], nowMs: number): readonly Change[] {
  return tasks.flatMap((task): Change[] => {
    const atMs = orphanAtMs(view, task);
    if (atMs === undefined || atMs > nowMs || mustForget(view, task)) return [];
    const status: Task['status'] = {
      ...task.status,
      state: TaskState.ORPHANED,
      atMs: nowMs,
      message: 'its node has been down for a day: nobody can say what became of it',
    };
    return [{ kind: 'update', table: 'task', object: { ...task, status } }];
  });
}

function nextOrphan(view: View, tasks: readonly Task[], nowMs: number): number | undefined {
  let next: number | undefined;
  for (const task of tasks) {
    const atMs = orphanAtMs(view, task);
    if (atMs !== undefined && atMs > nowMs) next = Math.min(next ?? atMs, atMs);
  }
  return next;
}

/** The slot of a global service whose node was removed from the cluster. */
function isNodeGone(view: View, service: Service, newest: Task): boolean {
  const { kind } = service.spec.mode;
  const isGlobal = kind === 'global' || kind === 'global-job';
  return isGlobal && view.get('node', newest.nodeId) === undefined;
}

/** A job that is to complete fewer times than it did has no such slot any more. */
function isBeyondJob(service: Service, newest: Task): boolean {
  const { mode } = service.spec;
  return mode.kind === 'replicated-job' && newest.slot > mode.totalCompletions;
}

/** No container is left: it has ended, or no node ever had it. */
function isGone(task: Task): boolean {
  return isTerminal(task.status.state) || task.status.state < TaskState.ASSIGNED;
}

/** Its node cannot be asked. Should it come back, it finds the task gone and stops it. */
function isLost(view: View, task: Task): boolean {
  const node = view.get('node', task.nodeId);
  return node === undefined || node.state === 'down';
}

function remove(task: Task): Change {
  return { kind: 'remove', table: 'task', id: task.id, version: task.version };
}
