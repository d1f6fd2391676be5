/**
 * The slots of a service: which of its tasks follow one another in one place. A slot is a number,
 * or of a global service the node. Reads tasks and decides nothing.
 */
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import type { View } from '../store/types.ts';

/** Slot number as text, or node id. */
export function slotKey(task: Task): string {
  return task.slot > 0 ? String(task.slot) : task.nodeId;
}

/** Tasks of one service by slot, each oldest generation first; at least one. */
export function bySlot(tasks: Iterable<Task>): Map<string, Task[]> {
  const slots = new Map<string, Task[]>();
  for (const task of tasks) {
    const key = slotKey(task);
    const slot = slots.get(key);
    if (slot === undefined) slots.set(key, [task]);
    else slot.push(task);
  }
  for (const slot of slots.values()) slot.sort((left, right) => left.generation - right.generation);
  return slots;
}

/** No container of it can be running: it ended, never reached a node, or its node is lost. */
export function isStopped(view: View, task: Task): boolean {
  if (isTerminal(task.status.state) || task.status.state < TaskState.ASSIGNED) return true;
  const node = view.get('node', task.nodeId);
  return node === undefined || node.state === 'down';
}
