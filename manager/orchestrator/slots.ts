/**
 * A service's tasks by slot (a number; for global services the node), and what each slot is now.
 * Computed from a view alone; nothing is decided here.
 *
 * | a slot is | when | what is to be done |
 * |---|---|---|
 * | live | a task is wanted and can run | nothing, or its update |
 * | finished | its newest task has ended and is not to be started again | nothing, or its update |
 * | empty | neither | a new task, after `delayMs` |
 */
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { bySlot } from '../placement/slot.ts';
import type { View } from '../store/types.ts';
import { mayRestart } from './restart.ts';

export interface Slot {
  /** Slot number as text, or node id. */
  readonly key: string;
  /** All tasks, oldest generation first; at least one. */
  readonly tasks: readonly Task[];
  readonly newest: Task;
  /** Wanted (desired READY or RUNNING), not ended, on a node that can run it; oldest first. */
  readonly live: readonly Task[];
  /** Wanted, but ended or on a node that is down, drained or gone: to be let go. */
  readonly fallen: readonly Task[];
  /** Running on a drained node, where the service is start-first: until a successor runs. */
  readonly leaving: readonly Task[];
  readonly state: 'live' | 'finished' | 'empty';
  /** For an empty slot: how long its next task waits before it starts. */
  readonly delayMs: number;
}

/** `startFirst`: a task on a drained node runs on until its successor does. */
export function* groupSlots(
  view: View,
  serviceId: string,
  startFirst = false,
): Steps<Map<string, Slot>> {
  const slots = new Map<string, Slot>();
  for (const [key, tasks] of bySlot(view.tasksOfService(serviceId))) {
    slots.set(key, assess(view, key, tasks, startFirst));
    if (slots.size % ITEMS_PER_STEP === 0) yield;
  }
  return slots;
}

function assess(view: View, key: string, tasks: readonly Task[], startFirst: boolean): Slot {
  const newest = tasks[tasks.length - 1];
  const live: Task[] = [];
  const fallen: Task[] = [];
  const leaving: Task[] = [];
  for (const task of tasks) {
    if (!isWanted(task)) continue;
    const runs = !isTerminal(task.status.state) && hasNode(view, task);
    if (runs) live.push(task);
    else if (startFirst && isOnDrained(view, task)) leaving.push(task);
    else fallen.push(task);
  }
  const base = { key, tasks, newest, live, fallen, leaving };
  if (live.length > 0) return { ...base, state: 'live', delayMs: 0 };
  if (!mayRestart(tasks)) {
    // No successor will come.
    return { ...base, fallen: [...fallen, ...leaving], leaving: [], state: 'finished', delayMs: 0 };
  }
  const delayMs = endedByItself(newest) ? newest.spec.restart.delayMs : 0;
  return { ...base, state: 'empty', delayMs };
}

export function isWanted(task: Task): boolean {
  return isWantedState(task.desiredState);
}

/** Ended, and not because it was told to. */
export function endedByItself(task: Task): boolean {
  const { state } = task.status;
  return state === TaskState.COMPLETE || state === TaskState.FAILED || state === TaskState.REJECTED;
}

/** Between tasks that could not even be prepared; Docker's first pause of a restarted container. */
const LEAST_APART_MS = 100;

/**
 * Before when no other task of the same specification follows. A task is prepared at once, though
 * it may start only after its delay; one that could not be prepared (no such image) must not be
 * followed sooner, nor at once where there is no delay, or nothing would hold the attempts apart.
 */
export function followsAtMs(newest: Task, { specVersion }: Service): number {
  if (newest.specVersion !== specVersion || !endedByItself(newest)) return 0;
  if (newest.status.state !== TaskState.REJECTED) return newest.notBeforeMs;
  const { delayMs } = newest.spec.restart;
  return delayMs < LEAST_APART_MS ? newest.createdAtMs + LEAST_APART_MS : newest.notBeforeMs;
}

/** Its node is there and is to run tasks; a task without a node has no reason to fall. */
export function hasNode(view: View, task: Task): boolean {
  if (task.nodeId === '') return true;
  const node = view.get('node', task.nodeId);
  if (node === undefined || node.state === 'down') return false;
  return node.spec.availability !== 'drain';
}

/** Runs on a node that is drained but answers. */
function isOnDrained(view: View, task: Task): boolean {
  if (task.status.state !== TaskState.RUNNING) return false;
  const node = view.get('node', task.nodeId);
  return node !== undefined && node.state !== 'down' && node.spec.availability === 'drain';
}
