/**
 * Why something does not run: of a service or a task, in sentences, from one view. Pure: it decides
 * nothing, changes nothing, and asks nobody; the loops' own filters and allocator are asked what
 * they would say now.
 */
import { formatAge, formatDuration } from '../../base/duration.ts';
import type { Steps } from '../../base/slices.ts';
import { isFailure, isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { Pass } from '../allocator/pass.ts';
import { bySlot } from '../placement/slot.ts';
import type { View } from '../store/types.ts';
import { Nodes } from './placement.ts';
import { endText, hostnameOf, isAboutImage, type Reason, taskLabel, whyTask } from './task.ts';

/** Reasons told of one service; the summary counts the rest. */
const REASONS_MAX = 50;

export interface Why {
  readonly kind: 'service' | 'task';
  readonly id: string;
  readonly name: string;
  /** 'all 3 tasks run'; '2 of 5 tasks run'. */
  readonly summary: string;
  readonly reasons: readonly Reason[];
}

export function* whyOfTask(view: View, task: Task, nowMs: number): Steps<Why> {
  const reason = yield* whyTask(view, task, nowMs, new Nodes(view, nowMs));
  const name = taskLabel(view, task);
  const host = hostnameOf(view, task.nodeId);
  const age = formatAge(Math.max(0, nowMs - task.status.atMs));
  const summary =
    reason === undefined ? `runs on ${host} for ${age.toLowerCase()}` : 'does not run';
  const reasons = reason === undefined ? [] : [reason];
  const service = view.get('service', task.serviceId);
  if (reason !== undefined && service !== undefined) reasons.push(...updateReasons(view, service));
  return { kind: 'task', id: task.id, name, summary, reasons };
}

export function* whyOfService(view: View, service: Service, nowMs: number): Steps<Why> {
  const nodes = new Nodes(view, nowMs);
  const slots = slotsOf(view, service);
  const reasons: Reason[] = [...serviceReasons(view, service, nowMs)];
  const isJob = service.job !== undefined;
  let running = 0;
  let complete = 0;
  for (const tasks of slots.values()) {
    yield;
    if (isJob && tasks.some(({ status }) => status.state === TaskState.COMPLETE)) {
      complete += 1;
      continue;
    }
    const wanted = tasks.filter(isWanted);
    if (wanted.some(({ status }) => status.state === TaskState.RUNNING)) running += 1;
    reasons.push(...(yield* slotReasons(view, tasks, wanted, nowMs, nodes)));
  }
  const all = allOf(service, slots.size);
  const done = `${complete} of ${all} tasks are complete, ${running} run`;
  const more = reasons.length - REASONS_MAX;
  return {
    kind: 'service',
    id: service.id,
    name: service.spec.name,
    summary:
      (isJob ? done : running === all ? allText(all) : `${running} of ${all} tasks run`) +
      (more > 0 ? `; ${more} more reasons are left out` : ''),
    reasons: reasons.slice(0, REASONS_MAX),
  };
}

/** How many tasks are to run, or to complete. */
function allOf({ spec: { mode } }: Service, slots: number): number {
  if (mode.kind === 'replicated') return mode.replicas;
  return mode.kind === 'replicated-job' ? mode.totalCompletions : slots;
}

function allText(count: number): string {
  if (count === 0) return 'no task is wanted';
  return count === 1 ? 'its task runs' : `all ${count} tasks run`;
}

function isWanted(task: Task): boolean {
  return isWantedState(task.desiredState) && !isTerminal(task.status.state);
}

/** Oldest generation first. */
function slotsOf(view: View, service: Service): ReadonlyMap<string, Task[]> {
  const { job } = service;
  const tasks = [...view.tasksOfService(service.id)].filter(
    (task) =>
      task.desiredState !== TaskState.REMOVE &&
      // What a job ran before it was asked to run anew is the past.
      (job === undefined || task.jobIteration === job.iteration),
  );
  return new Map([...bySlot(tasks)].sort(([, [left]], [, [right]]) => left.slot - right.slot));
}

function* slotReasons(
  view: View,
  tasks: readonly Task[],
  wanted: readonly Task[],
  nowMs: number,
  nodes: Nodes,
): Steps<readonly Reason[]> {
  const newest = tasks[tasks.length - 1];
  const told: Reason[] = [];
  for (const task of wanted) {
    const reason = yield* whyTask(view, task, nowMs, nodes);
    if (reason !== undefined) told.push(reason);
  }
  const failures = tasks.filter(({ status }) => isFailure(status.state));
  const last = failures.at(-1);
  const isRestarted = last !== undefined && (told.length > 0 || wanted.length === 0);
  const reasons: Reason[] = [...told];
  if (wanted.length === 0) {
    const about = { taskId: newest.id, subject: taskLabel(view, newest) };
    if (!isTerminal(newest.status.state)) {
      const text = `is being stopped on ${hostnameOf(view, newest.nodeId)}`;
      return [{ ...about, kind: 'ended', text }];
    }
    reasons.push({ ...about, ...endOf(newest, nowMs) });
  }
  if (isRestarted && failures.length > (wanted.length === 0 ? 1 : 0)) {
    const count = failures.length === 1 ? 'once' : `${failures.length} times`;
    const error = last.status.error || last.status.message;
    reasons.push({
      kind: isAboutImage(error) ? 'image' : 'failure',
      taskId: last.id,
      subject: taskLabel(view, last),
      text: `failed ${count} lately; the last on ${hostnameOf(view, last.nodeId)} ${endText(last)}`,
    });
  }
  return reasons;
}

/** Of a slot's last task, while no other is wanted. */
function endOf(task: Task, nowMs: number): Pick<Reason, 'kind' | 'text' | 'untilMs'> {
  const { spec, notBeforeMs: untilMs } = task;
  const { condition, maxAttempts, delayMs } = spec.restart;
  if (untilMs > nowMs) {
    // It could not be prepared, and the delay that it was given is not over yet.
    const [left, delay] = [untilMs - nowMs, delayMs].map(formatDuration);
    const text = `${endText(task)}; another follows in ${left} (restart delay ${delay})`;
    return { kind: 'restart', text, untilMs };
  }
  const limit = condition !== 'none' && maxAttempts > 0 ? `, ${maxAttempts} attempts` : '';
  const text = `${endText(task)}; its restart policy (${condition}${limit}) starts no other`;
  return { kind: 'ended', text };
}

function serviceReasons(view: View, service: Service, nowMs: number): readonly Reason[] {
  const about = { taskId: '', subject: service.spec.name };
  const reasons: Reason[] = [...updateReasons(view, service)];
  if (service.allocatedVersion !== service.specVersion) {
    const outcome = new Pass(view, nowMs).service(service);
    const text =
      'error' in outcome ? `cannot have what it needs: ${outcome.error}` : 'is being allocated';
    reasons.push({ ...about, kind: 'allocation', text });
  }
  for (const { target } of service.spec.task.networks) {
    const network = view.get('network', target);
    if (network === undefined || network.error === '') continue;
    const text = `its network "${network.spec.name}" cannot be used: ${network.error}`;
    reasons.push({ ...about, kind: 'allocation', text });
  }
  return reasons;
}

function updateReasons(view: View, service: Service): readonly Reason[] {
  const { update } = service;
  if (update === undefined || update.completedAtMs !== 0) return [];
  const about = { kind: 'update', taskId: '', subject: service.spec.name } as const;
  switch (update.state) {
    case 'paused':
    case 'rollback_paused': {
      const why = `${update.message}${blamed(view, update.message)}`;
      return [{ ...about, text: `is not updated further: ${why}; update it to go on` }];
    }
    case 'updating':
      return [{ ...about, text: 'is being updated' }];
    case 'rollback_started':
      return [{ ...about, text: `is being rolled back: ${update.message}` }];
    default:
      return [];
  }
}

/** How the task that an update's message names came to its end. */
function blamed(view: View, message: string): string {
  const id = /\btask (\w+)$/.exec(message)?.[1];
  const task = id === undefined ? undefined : view.get('task', id);
  if (task === undefined || !isFailure(task.status.state)) return '';
  return ` (${taskLabel(view, task)} on ${hostnameOf(view, task.nodeId)} ${endText(task)})`;
}
