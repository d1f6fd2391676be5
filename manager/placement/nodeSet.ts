/**
 * The nodes as the scheduler sees them in one pass: what is reserved on each, which tasks of which
 * service run there, what failed there lately. Made from a view and kept in step with the
 * placements of the same pass; forgotten after it.
 */
import { MINUTE_MS } from '../../base/duration.ts';
import { isFailure, isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { Node, Task } from '../../model/types.ts';
import type { View } from '../store/types.ts';

/** Failures of a service version on a node within this time count against the node... */
const FAILURE_WINDOW_MS = 5 * MINUTE_MS;
/** ...once there are this many. */
const FAILURES_THAT_COUNT = 5;

export class NodeInfo {
  readonly node: Node;
  readonly #tasksByService = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  freeNanoCpus: number;
  freeMemoryBytes: number;
  tasks = 0;

  constructor(node: Node) {
    this.node = node;
    this.freeNanoCpus = node.description.nanoCpus;
    this.freeMemoryBytes = node.description.memoryBytes;
  }

  /** A task that is there already, or has just been placed. */
  add(task: Task, nowMs: number): void {
    const { state } = task.status;
    if (isTerminal(state)) {
      if (isFailure(state) && task.updatedAtMs > nowMs - FAILURE_WINDOW_MS) {
        const key = failureKey(task);
        this.#failures.set(key, (this.#failures.get(key) ?? 0) + 1);
      }
      return;
    }
    this.freeNanoCpus -= task.spec.reservations.nanoCpus;
    this.freeMemoryBytes -= task.spec.reservations.memoryBytes;
    if (!isWantedState(task.desiredState)) return;
    this.tasks += 1;
    this.#tasksByService.set(task.serviceId, this.tasksOf(task.serviceId) + 1);
  }

  tasksOf(serviceId: string): number {
    return this.#tasksByService.get(serviceId) ?? 0;
  }

  /** 0 unless the service version has failed here often and lately. */
  failuresOf(task: Task): number {
    const count = this.#failures.get(failureKey(task)) ?? 0;
    return count >= FAILURES_THAT_COUNT ? count : 0;
  }
}

function failureKey(task: Task): string {
  return `${task.serviceId}/${task.specVersion}`;
}

export function nodeInfos(view: View, nowMs: number): Map<string, NodeInfo> {
  const infos = new Map<string, NodeInfo>();
  for (const node of view.all('node')) {
    const info = new NodeInfo(node);
    for (const task of view.tasksOfNode(node.id)) {
      if (task.status.state >= TaskState.ASSIGNED) info.add(task, nowMs);
    }
    infos.set(node.id, info);
  }
  return infos;
}
