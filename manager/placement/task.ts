/**
 * Making a task of a service, moving a task's desired state, and those tasks of some that are there
 * still: for the loops that decide which tasks there are to be. Decides nothing itself.
 */
import type { Ids } from '../../base/id.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, Task, TaskStatus } from '../../model/types.ts';
import type { Change, View } from '../store/types.ts';

export interface NewTask {
  /** Slot number, or 0 with a node for a global service. */
  readonly slot: number;
  readonly nodeId: string;
  readonly generation: number;
  /** READY: prepared, but started only when raised to RUNNING, or to a job's COMPLETE. */
  readonly desiredState:
    | typeof TaskState.READY
    | typeof TaskState.RUNNING
    | typeof TaskState.COMPLETE;
  readonly notBeforeMs: number;
  /** The node it is to take its slot over from (start-first); absent unless it is moved. */
  readonly movedFrom?: string;
}

export function statusOfNew(nowMs: number): TaskStatus {
  return {
    state: TaskState.NEW,
    atMs: nowMs,
    message: 'created',
    error: '',
    containerId: '',
    pid: 0,
    exitCode: 0,
    oomKilled: false,
    gatewayAddress: '',
    phases: { [TaskState.NEW]: nowMs },
  };
}

export function createTask(ids: Ids, service: Service, wanted: NewTask, nowMs: number): Change {
  const task: Task = {
    id: ids.object(),
    version: 0,
    createdAtMs: 0,
    updatedAtMs: 0,
    serviceId: service.id,
    serviceName: service.spec.name,
    slot: wanted.slot,
    generation: wanted.generation,
    nodeId: wanted.nodeId,
    spec: service.spec.task,
    serviceLabels: service.spec.labels,
    specVersion: service.specVersion,
    desiredState: wanted.desiredState,
    status: statusOfNew(nowMs),
    networks: service.spec.task.networks.map(({ target, aliases }) => ({
      networkId: target,
      address: '',
      aliases,
    })),
    ports: [],
    notBeforeMs: wanted.notBeforeMs,
    movedFrom: wanted.movedFrom ?? '',
    jobIteration: service.job?.iteration,
    genericResources: [],
  };
  return { kind: 'create', table: 'task', object: task };
}

export function setDesired(task: Task, desiredState: TaskState): Change {
  return { kind: 'update', table: 'task', object: { ...task, desiredState } };
}

/** Those that are still there. */
export function* tasksOf(view: View, ids: Iterable<string>): Generator<Task> {
  for (const id of ids) {
    const task = view.get('task', id);
    if (task !== undefined) yield task;
  }
}

/** As they were made; those of one moment by service, and by slot. */
export function putInOrder(view: View, tasks: Task[]): void {
  if (tasks.length === 0) return;
  const ranks = new Map<string, number>();
  for (const { id } of view.all('service')) ranks.set(id, ranks.size);
  const rank = ({ serviceId }: Task): number => ranks.get(serviceId) ?? 0;
  tasks.sort(
    (left, right) =>
      left.createdAtMs - right.createdAtMs || rank(left) - rank(right) || left.slot - right.slot,
  );
}
