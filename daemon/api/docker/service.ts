/** A service as Docker's JSON, with its counts of tasks when they are asked for. */
import { isDeepStrictEqual } from 'node:util';
import type { View } from '../../../manager/store/types.ts';
import { isTerminal, isWantedState, TaskState } from '../../../model/taskState.ts';
import type { Service, Task } from '../../../model/types.ts';
import { metaOf, timeOf } from './common.ts';
import { portToDocker, serviceSpecToDocker } from './serviceSpec.ts';

export interface ServiceCounts {
  readonly RunningTasks: number;
  readonly DesiredTasks: number;
  readonly CompletedTasks: number;
}

/** With `defaults` also what its request said nothing of. */
export function serviceToDocker(
  service: Service,
  counts?: ServiceCounts,
  defaults = false,
): object {
  const { update, spec } = service;
  const ports = service.ports.map(portToDocker);
  return {
    ...metaOf(service),
    Spec: serviceSpecToDocker(spec, defaults),
    ...(service.previousSpec === undefined
      ? {}
      : { PreviousSpec: serviceSpecToDocker(service.previousSpec, defaults) }),
    Endpoint: {
      Spec: {
        Mode: spec.endpointMode,
        ...(spec.ports.length === 0 ? {} : { Ports: spec.ports.map(portToDocker) }),
      },
      ...(ports.length === 0 ? {} : { Ports: ports }),
      ...(service.virtualAddresses.length === 0
        ? {}
        : {
            VirtualIPs: service.virtualAddresses.map((item) => ({
              NetworkID: item.networkId,
              Addr: item.address,
            })),
          }),
    },
    ...(update === undefined
      ? {}
      : {
          UpdateStatus: {
            State: update.state,
            StartedAt: timeOf(update.startedAtMs),
            ...(update.completedAtMs === 0 ? {} : { CompletedAt: timeOf(update.completedAtMs) }),
            Message: update.message,
          },
        }),
    ...(service.job === undefined
      ? {}
      : {
          JobStatus: {
            JobIteration: { Index: service.job.iteration },
            LastExecution: timeOf(service.job.lastExecutionMs),
          },
        }),
    ...(counts === undefined ? {} : { ServiceStatus: counts }),
  };
}

/**
 * Running: on a node not down. Desired: replicas; for global, the tasks that should run. A job's
 * are those of its current iteration.
 */
export function countTasks(view: View, service: Service): ServiceCounts {
  let running = 0;
  let wanted = 0;
  let completed = 0;
  for (const task of view.tasksOfService(service.id)) {
    if (task.jobIteration !== service.job?.iteration) continue;
    if (task.status.state === TaskState.COMPLETE) completed += 1;
    if (!isWantedState(task.desiredState)) continue;
    if (service.job === undefined || !isTerminal(task.status.state)) wanted += 1;
    if (task.status.state !== TaskState.RUNNING) continue;
    if (view.get('node', task.nodeId)?.state !== 'down') running += 1;
  }
  return {
    RunningTasks: running,
    DesiredTasks: desiredTasks(service, wanted),
    CompletedTasks: completed,
  };
}

function desiredTasks({ spec }: Service, wanted: number): number {
  switch (spec.mode.kind) {
    case 'replicated':
      return spec.mode.replicas;
    case 'replicated-job':
      return Math.min(spec.mode.maxConcurrent, spec.mode.totalCompletions);
    default:
      return wanted;
  }
}

/**
 * The task is what its service now asks for: made from the same specification, or from one that
 * differs only in where tasks may be placed.
 */
export function isUpToDate(service: Service, task: Task): boolean {
  if (task.specVersion === service.specVersion) return true;
  if (service.job !== undefined) return task.jobIteration === service.job.iteration;
  const { placement } = service.spec.task;
  return isDeepStrictEqual({ ...task.spec, placement }, service.spec.task);
}
