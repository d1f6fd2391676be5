/**
 * What tasks are called wherever users see them: 'web.3', 'web.<node>' of a global service. Slots
 * are 1..n in the store (0 is a global task); Docker counts those of a job from 0, and so do users.
 * Pure; every name of a task is made here, so that ps, exec, logs, why and DNS agree.
 */
import type { Task } from './types.ts';

type Named = Pick<Task, 'id' | 'serviceName' | 'slot' | 'nodeId' | 'jobIteration'>;

/** undefined for a task of a global service, which has none. */
export function shownSlot({ slot, jobIteration }: Named): number | undefined {
  if (slot === 0) return undefined;
  return jobIteration === undefined ? slot : slot - 1;
}

/** '3', or the node's id for a global service. */
export function taskPlace(task: Named): string {
  return String(shownSlot(task) ?? task.nodeId);
}

/** '<service>.<slot or node id>.<task id>', as Docker names tasks and their containers. */
export function taskName(task: Named): string {
  return `${task.serviceName}.${taskPlace(task)}.${task.id}`;
}
