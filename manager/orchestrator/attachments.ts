/**
 * Forgets attachments (tasks without a service) that are over: told to go and ended, refused by
 * their host, or of a host that is gone or lost. While its host is only silent an attachment that
 * is wanted stays: the container may run on there.
 */
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { TableName, Task } from '../../model/types.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';

export class AttachmentReaper implements Loop {
  readonly name = 'attachments';
  readonly tables: readonly TableName[] = ['task', 'node'];

  *plan(view: View, dirty: DirtySet, _nowMs: number): Steps<PlanResult> {
    const changes: Change[] = [];
    let count = 0;
    for (const task of looked(view, dirty)) {
      count += 1;
      if (count % ITEMS_PER_STEP === 0) yield;
      if (task.serviceId !== '' || !isOver(view, task)) continue;
      changes.push({ kind: 'remove', table: 'task', id: task.id, version: task.version });
    }
    return { changes };
  }
}

function looked(view: View, dirty: DirtySet): Iterable<Task> {
  if (dirty.everything) return view.all('task');
  const tasks = new Map<string, Task>();
  for (const id of dirty.ids.task) {
    const task = view.get('task', id);
    if (task !== undefined) tasks.set(id, task);
  }
  for (const id of dirty.ids.node)
    for (const task of view.tasksOfNode(id)) tasks.set(task.id, task);
  return tasks.values();
}

function isOver(view: View, { status, desiredState, nodeId }: Task): boolean {
  if (isTerminal(status.state)) return true;
  const node = view.get('node', nodeId);
  if (node === undefined) return true;
  if (isWantedState(desiredState)) return false;
  return status.state < TaskState.ASSIGNED || node.state === 'down';
}
