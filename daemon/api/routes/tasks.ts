/** /tasks: list, inspect, logs. */

import { SwarmError } from '../../../base/errors.ts';
import { ITEMS_PER_STEP, type Slices, type Steps } from '../../../base/slices.ts';
import type { View } from '../../../manager/store/types.ts';
import { taskName } from '../../../model/taskName.ts';
import { TaskState, taskStateName } from '../../../model/taskState.ts';
import type { Task } from '../../../model/types.ts';
import { isUpToDate } from '../docker/service.ts';
import { taskToDocker } from '../docker/task.ts';
import { Filters } from '../filters.ts';
import { controlOf, findOptional, findTask } from '../find.ts';
import { type ApiRequest, json, type Reply, type Router, STREAMED } from '../http.ts';
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

/** Tasks whose JSON is made in one go: about a millisecond's. */
const LISTED_AT_ONCE = 64;

export function addTaskRoutes(router: Router, parts: ApiParts, slices: Slices): void {
  router.get('/tasks', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const store = await controlOf(parts.node).read();
    const tasks = await slices.run(selected(store, filters));
    if (tasks.length > LISTED_AT_ONCE) return sendMany(request, parts, store, tasks);
    return json(tasks.map((task) => taskToDocker(task, store)));
  });
  router.get('/tasks/{id}', async (request) => {
    const store = await controlOf(parts.node).read();
    return json(taskToDocker(await slices.run(named(store, request.params.id)), store));
  });
  router.get('/tasks/{id}/logs', async (request) => {
    const store = await controlOf(parts.node).read();
    const task = await slices.run(named(store, request.params.id));
    return sendTaskLogs(request, parts, task);
  });
}

/** By id or prefix, or by name ('web.1.<id>'). */
function named(store: View, key: string): Steps<Task> {
  const [, , id] = key.split('.');
  return findTask(store, id ?? key);
}

/** Names of desired states that a request may ask for; Docker knows these three. */
const DESIRED: Readonly<Record<string, TaskState>> = {
  running: TaskState.RUNNING,
  shutdown: TaskState.SHUTDOWN,
  accepted: TaskState.ACCEPTED,
};

/** One answer of very many, made and sent piece by piece as the caller takes it. */
async function sendMany(
  request: ApiRequest,
  { clock }: ApiParts,
  store: View,
  tasks: readonly Task[],
): Promise<Reply> {
  const out = request.stream('application/json');
  for (let at = 0; at < tasks.length; at += LISTED_AT_ONCE) {
    const piece = tasks.slice(at, at + LISTED_AT_ONCE).map((task) => taskToDocker(task, store));
    await out.write(`${at === 0 ? '[' : ','}${JSON.stringify(piece).slice(1, -1)}`);
    await new Promise<void>((resolve) => clock.defer(resolve));
  }
  await out.write(']\n');
  out.end();
  return STREAMED;
}

function* selected(store: View, filters: Filters): Steps<Task[]> {
  const found: Task[] = [];
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
  let looked = 0;
  for (const task of candidates(store, services, nodes)) {
    looked += 1;
    if (looked % ITEMS_PER_STEP === 0) yield;
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
    found.push(task);
  }
  return found;
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
