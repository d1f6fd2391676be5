/**
 * One task's state in a sentence: what it waits for, until when, or what ended it. Pure; asks the
 * same filters and the same allocator that decide, and reads the rest from the records.
 */
import { formatDuration } from '../../base/duration.ts';
import type { Steps } from '../../base/slices.ts';
import { shownSlot } from '../../model/taskName.ts';
import {
  isFailure,
  isTerminal,
  isWantedState,
  TaskState,
  taskStateName,
} from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { Pass } from '../allocator/pass.ts';
import { slotKey } from '../placement/slot.ts';
import type { View } from '../store/types.ts';
import { lookAtPlacement, type Nodes, namesText, type Refusal, refusalText } from './placement.ts';

export type ReasonKind =
  | 'allocation'
  | 'placement'
  | 'node'
  | 'image'
  | 'preparing'
  | 'restart'
  | 'predecessor'
  | 'health'
  | 'failure'
  | 'update'
  | 'ended'
  | 'quorum';

export interface Reason {
  readonly kind: ReasonKind;
  /** '' when it is about the service. */
  readonly taskId: string;
  /** 'web.3'; the service's name when it is about the service. */
  readonly subject: string;
  /** A whole sentence without its full stop. */
  readonly text: string;
  /** kind 'placement': what each filter said. */
  readonly refusals?: readonly Refusal[];
  /** Until when it waits, where that is known; Unix ms. */
  readonly untilMs?: number;
}

export function taskLabel(view: View, task: Task): string {
  const slot = shownSlot(task);
  if (slot !== undefined) return `${task.serviceName}.${slot}`;
  return `${task.serviceName} on ${hostnameOf(view, task.nodeId)}`;
}

export function hostnameOf(view: View, nodeId: string): string {
  if (nodeId === '') return 'no node';
  return view.get('node', nodeId)?.description.hostname || nodeId;
}

/** Why the task does not run; undefined when it does and is to. */
export function* whyTask(
  view: View,
  task: Task,
  nowMs: number,
  nodes: Nodes,
): Steps<Reason | undefined> {
  const about = { taskId: task.id, subject: taskLabel(view, task) };
  const { state } = task.status;
  if (isTerminal(state)) return { ...about, ...ended(view, task) };
  if (!isWantedState(task.desiredState)) {
    const text = `is being stopped on ${hostnameOf(view, task.nodeId)}${because(task)}`;
    return { ...about, kind: 'ended', text };
  }
  if (state === TaskState.RUNNING) return undefined;
  return { ...about, ...(yield* pending(view, task, nowMs, nodes)) };
}

type Said = Omit<Reason, 'taskId' | 'subject'>;

function* pending(view: View, task: Task, nowMs: number, nodes: Nodes): Steps<Said> {
  const { state } = task.status;
  if (state === TaskState.NEW) return yield* unallocated(view, task, nowMs);
  if (state === TaskState.PENDING) return yield* unplaced(view, task, nodes);
  const waits = heldBack(view, task, nowMs);
  if (state === TaskState.READY && waits !== undefined) return waits;
  const host = hostnameOf(view, task.nodeId);
  const since = `for ${formatDuration(Math.max(0, nowMs - task.status.atMs))}`;
  const node = view.get('node', task.nodeId);
  if (node?.state !== 'ready') {
    const told = node === undefined ? 'which is gone' : `which is ${node.state}`;
    const more = node === undefined || node.stateMessage === '' ? '' : ` (${node.stateMessage})`;
    return { kind: 'node', text: `is ${taskStateName(state)} on ${host}, ${told}${more}` };
  }
  switch (state) {
    case TaskState.ASSIGNED:
      return { kind: 'node', text: `was given to ${host}, which has not taken it yet, ${since}` };
    case TaskState.STARTING:
      return {
        kind: 'health',
        text: `has been starting on ${host} ${since}: its health check has not passed yet`,
      };
    case TaskState.READY:
      return { kind: 'preparing', text: `is ready on ${host} and about to start` };
    default: {
      const told = task.status.error || task.status.message;
      const text = `is being prepared on ${host} ${since}${told === '' ? '' : `: ${told}`}`;
      return { kind: isAboutImage(told) ? 'image' : 'preparing', text };
    }
  }
}

function* unallocated(view: View, task: Task, nowMs: number): Steps<Said> {
  const service = view.get('service', task.serviceId);
  const pass = new Pass(view, nowMs);
  yield* pass.prepare(task);
  const outcome =
    service === undefined || service.allocatedVersion === service.specVersion
      ? pass.task(task)
      : pass.service(service);
  const error = outcome !== undefined && 'error' in outcome ? outcome.error : task.status.error;
  if (error === '') return { kind: 'allocation', text: 'is about to get its addresses' };
  return { kind: 'allocation', text: `has no addresses yet: ${error}` };
}

function* unplaced(view: View, task: Task, nodes: Nodes): Steps<Said> {
  const { refusals, suitable } = yield* lookAtPlacement(view, task, nodes);
  if (suitable.length > 0) {
    const text = `is about to be placed: it fits on ${namesText(suitable)}`;
    return { kind: 'placement', text, refusals };
  }
  const where = task.nodeId === '' ? 'on no node' : `not on ${hostnameOf(view, task.nodeId)}`;
  const why = refusals.map(refusalText).join('; ') || 'the swarm has no nodes';
  return { kind: 'placement', text: `fits ${where}: ${why}`, refusals };
}

/** Ready, and kept from starting: by the restart delay, or by the task it follows. */
function heldBack(view: View, task: Task, nowMs: number): Said | undefined {
  const before = predecessor(view, task);
  if (task.notBeforeMs > nowMs) {
    const left = formatDuration(task.notBeforeMs - nowMs);
    const delay = formatDuration(task.spec.restart.delayMs);
    const after = before === undefined ? '' : `; the one before it ${endText(before)}`;
    return {
      kind: 'restart',
      text: `waits ${left} more to be started again (restart delay ${delay})${after}`,
      untilMs: task.notBeforeMs,
    };
  }
  if (task.desiredState >= TaskState.RUNNING || before === undefined) return undefined;
  if (isTerminal(before.status.state)) return undefined;
  const host = hostnameOf(view, before.nodeId);
  return {
    kind: 'predecessor',
    text: `waits for the task before it (${before.id} on ${host}) to stop`,
  };
}

/** The task that the slot had before. */
function predecessor(view: View, task: Task): Task | undefined {
  let found: Task | undefined;
  for (const other of view.tasksOfService(task.serviceId)) {
    if (slotKey(other) !== slotKey(task) || other.generation >= task.generation) continue;
    if (found === undefined || other.generation > found.generation) found = other;
  }
  return found;
}

function ended(view: View, task: Task): Said {
  const host = task.nodeId === '' ? '' : ` on ${hostnameOf(view, task.nodeId)}`;
  const { state } = task.status;
  const told = task.status.error || task.status.message;
  const kind = !isFailure(state) ? 'ended' : isAboutImage(told) ? 'image' : 'failure';
  return { kind, text: `${endText(task)}${host}` };
}

/** 'failed (exit code 1): task: non-zero exit (1)'. */
export function endText(task: Task): string {
  const { status } = task;
  const code = status.oomKilled
    ? ' (out of memory: raise its limit)'
    : status.state === TaskState.FAILED || status.state === TaskState.COMPLETE
      ? ` (exit code ${status.exitCode})`
      : '';
  const error = status.error === '' ? '' : `: ${status.error}`;
  switch (status.state) {
    case TaskState.FAILED:
      return `failed${code}${error}`;
    case TaskState.REJECTED:
      return `was rejected${error}`;
    case TaskState.COMPLETE:
      return `ended by itself${code}`;
    case TaskState.ORPHANED:
      return 'was lost with its node';
    default:
      return `was stopped${because(task)}`;
  }
}

function because(task: Task): string {
  const { message } = task.status;
  return /constraint|drain|node/.test(message) ? `: ${message}` : '';
}

export function isAboutImage(text: string): boolean {
  return /\b(image|pull|manifest|registry|layer|digest)/i.test(text);
}
