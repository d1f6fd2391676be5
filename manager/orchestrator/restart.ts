/**
 * Whether a slot's next task may be started, by its restart policy. Attempts are counted
 * from the tasks themselves (the reaper keeps as many as a policy needs), so nothing is lost with a
 * leader. A task lost with its node is not an attempt, and is always replaced unless the condition
 * is 'none'.
 */
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';

/** `tasks`: all of the slot, oldest first, none of them running; at least one. */
export function mayRestart(tasks: readonly Task[]): boolean {
  const newest = tasks[tasks.length - 1];
  if (newest.desiredState === TaskState.REMOVE) return true;
  const policy = newest.spec.restart;
  if (policy.condition === 'none') return false;
  const { state } = newest.status;
  const isDone = policy.condition === 'on-failure' || newest.jobIteration !== undefined;
  if (state === TaskState.COMPLETE && isDone) return false;
  const failedOrDone =
    state === TaskState.COMPLETE || state === TaskState.FAILED || state === TaskState.REJECTED;
  if (!failedOrDone || policy.maxAttempts === 0) return true;
  return attempts(tasks, policy.windowMs) < policy.maxAttempts;
}

/**
 * Restarts of the newest specification: successors of tasks that ended by themselves, within the
 * window before the newest ended. Not before now: what was given up once stays so.
 */
function attempts(tasks: readonly Task[], windowMs: number): number {
  const newest = tasks[tasks.length - 1];
  const sinceMs = windowMs > 0 ? newest.updatedAtMs - windowMs : Number.NEGATIVE_INFINITY;
  let count = 0;
  for (let at = 1; at < tasks.length; at += 1) {
    const [before, after] = [tasks[at - 1], tasks[at]];
    if (after.specVersion !== newest.specVersion) continue;
    if (before.specVersion !== newest.specVersion) continue;
    const { state } = before.status;
    if (state !== TaskState.COMPLETE && state !== TaskState.FAILED) {
      if (state !== TaskState.REJECTED) continue;
    }
    if (after.createdAtMs <= sinceMs) continue;
    count += 1;
  }
  return count;
}
