/** /tasks: list, inspect, logs. */

import { SwarmError } from '../../../base/errors.ts';
import type { View } from '../../../manager/store/types.ts';
import { taskName } from '../../../model/taskName.ts';
import { TaskState, taskStateName } from '../../../model/taskState.ts';
import type { Task } from '../../../model/types.ts';
import { isUpToDate } from '../docker/service.ts';
import { taskToDocker } from '../docker/task.ts';
import { Filters } from '../filters.ts';
import { controlOf, find, findOptional } from '../find.ts';
import { json, type Router } from '../http.ts';
import { sendTaskLogs } from '../logs.ts';
import type { ApiParts } from '../parts.ts';

const FILTERS = [
  'id',
  'label',
  'name',
  'node',
  'service',
  'desired-state',
  'runtime',
  '_up-to-date',
];

export function addTaskRoutes(router: Router, parts: ApiParts): void {
  router.get('/tasks', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const store = await controlOf(parts.node).read();
    const out = [];
    for (const task of selected(store, filters)) out.push(taskToDocker(task, store));
    return json(out);
  });
  router.get('/tasks/{id}', async (request) => {
    const store = await controlOf(parts.node).read();
    return json(taskToDocker(findTask(store, request.params.id), store));
  });
  router.get('/tasks/{id}/logs', async (request) => {
    const store = await controlOf(parts.node).read();
    const task = findTask(store, request.params.id);
    return sendTaskLogs(request, parts, task);
  });
}

/** By id or prefix, or by name ('web.1.<id>'). */
function findTask(store: View, key: string): Task {
  const [, , id] = key.split('.');
  return find(store, 'task', id ?? key);
}

/** Names of desired states that a request may ask for; Docker knows these three. */
const DESIRED: Readonly<Record<string, TaskState>> = {
  running: TaskState.RUNNING,
  shutdown: TaskState.SHUTDOWN,
  accepted: TaskState.ACCEPTED,
};

function* selected(store: View, filters: Filters): Generator<Task> {
  for (const wanted of filters.values('desired-state')) {
    if (!Object.hasOwn(DESIRED, wanted)) {
      throw new SwarmError(
        'invalid',
        `invalid filter 'desired-state=${wanted}': use running, shutdown or accepted`,
      );
    }
  }
  const services = resolved(store, 'service', filters);
  const nodes = resolved(store, 'node', filters);
  for (const task of candidates(store, services, nodes)) {
    // A place on a network, for a container that is no task's.
    if (task.serviceId === '') continue;
    if (services !== undefined && !services.has(task.serviceId)) continue;
    if (nodes !== undefined && !nodes.has(task.nodeId)) continue;
    if (!filters.startsWith('id', task.id)) continue;
    if (!filters.startsWith('name', taskName(task))) continue;
    if (!filters.is('desired-state', taskStateName(task.desiredState))) continue;
    if (!filters.is('runtime', 'container')) continue;
    if (!filters.labels('label', task.serviceLabels)) continue;
    if (filters.flag('_up-to-date') === true) {
      const service = store.get('service', task.serviceId);
      if (service === undefined || !isUpToDate(service, task)) continue;
    }
    yield task;
  }
}

/** Ids that a filter by id or name means; undefined when there is no such filter. */
function resolved(
  store: View,
  table: 'service' | 'node',
  filters: Filters,
): ReadonlySet<string> | undefined {
  if (!filters.has(table)) return undefined;
  const ids = filters.values(table).map((key) => findOptional(store, table, key)?.id ?? key);
  return new Set(ids);
}

/** The smallest index that covers the request. */
function* candidates(
  store: View,
  services: ReadonlySet<string> | undefined,
  nodes: ReadonlySet<string> | undefined,
): Generator<Task> {
  if (services !== undefined) for (const id of services) yield* store.tasksOfService(id);
  else if (nodes !== undefined) for (const id of nodes) yield* store.tasksOfNode(id);
  else yield* store.all('task');
}
