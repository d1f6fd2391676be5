/**
 * Where tasks run and how to reach the API of their hosts: from a manager any task, from a worker
 * its own. It looks up and connects; what is asked over the connection is not its business.
 */
import type { Duplex } from 'node:stream';
import { TASK_ID_LABEL } from '../agent/containerPlan.ts';
import type { Clock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import { ITEMS_PER_STEP, Slices, type Steps } from '../base/slices.ts';
import type { View } from '../manager/store/types.ts';
import { hostPort } from '../model/address.ts';
import { taskPlace } from '../model/taskName.ts';
import { isTerminal, isWantedState, TaskState } from '../model/taskState.ts';
import type { Service, Task } from '../model/types.ts';
import type { RpcChannel } from '../proto/rpc.ts';
import type { Container } from '../runtime/container/types.ts';
import { openTunnel } from './tunnel.ts';
import type { TaskHost, TaskHosts } from './types.ts';

/** Shorter prefixes of ids are not looked for on other hosts. */
const PREFIX_MIN = 3;

export interface TaskHostsOptions {
  readonly containers: () => readonly Container[];
  readonly ownNodeId: () => string;
  /** undefined on a worker. */
  readonly view: () => View | undefined;
  readonly channelTo: (address: string) => RpcChannel;
  readonly clock: Clock;
}

export class NodeTaskHosts implements TaskHosts {
  readonly #options: TaskHostsOptions;
  readonly #slices: Slices;

  constructor(options: TaskHostsOptions) {
    this.#options = options;
    this.#slices = new Slices(options.clock);
  }

  async find(key: string): Promise<TaskHost> {
    const view = this.#options.view();
    if (view === undefined) return this.#ownByKey(key);
    const task = await this.#slices.run(findTask(view, key, this.#options.ownNodeId()));
    const found = hostOf(view, task);
    if (found.containerId !== '') return found;
    throw new SwarmError(
      'conflict',
      `task ${nameOf(task)} has no container: "tsswarm why ${task.id}" tells why`,
    );
  }

  async elsewhere(containerKey: string): Promise<TaskHost | undefined> {
    const view = this.#options.view();
    if (view === undefined || this.#own(containerKey) !== undefined) return undefined;
    const named = view.byName('task', containerKey);
    if (named !== undefined) return this.#ifElsewhere(view, named);
    if (containerKey.length < PREFIX_MIN || !/^[0-9a-f]+$/.test(containerKey)) return undefined;
    const found = await this.#slices.run(taskOfContainer(view, containerKey));
    return found === undefined ? undefined : this.#ifElsewhere(view, found);
  }

  isOwn(host: TaskHost): boolean {
    return host.nodeId === this.#options.ownNodeId();
  }

  isTask(containerKey: string): boolean {
    return this.#own(containerKey)?.config.labels[TASK_ID_LABEL] !== undefined;
  }

  connect(host: TaskHost): Duplex {
    return openTunnel(this.#options.channelTo(host.address), host.hostname);
  }

  #ifElsewhere(view: View, task: Task): TaskHost | undefined {
    const host = hostOf(view, task);
    return this.isOwn(host) || host.containerId === '' ? undefined : host;
  }

  #own(key: string): Container | undefined {
    const containers = this.#options.containers();
    const exact = containers.find(({ config }) => config.id === key || config.name === key);
    if (exact !== undefined || key === '') return exact;
    const fitting = containers.filter(({ config }) => config.id.startsWith(key));
    return fitting.length === 1 ? fitting[0] : undefined;
  }

  /** On a worker: by what the containers here say of their tasks. */
  #ownByKey(key: string): TaskHost {
    const fits = ({ config }: Container): boolean => {
      const taskId = config.labels[TASK_ID_LABEL];
      if (taskId === undefined) return false;
      return taskId.startsWith(key) || config.name === key || config.name.startsWith(`${key}.`);
    };
    const fitting = this.#options.containers().filter(fits);
    const found = fitting.find(({ state }) => state === 'running') ?? fitting[0];
    if (found === undefined) {
      throw new SwarmError(
        'not_found',
        `no task ${key} runs on this host: it is a worker, and knows no other; ask a manager`,
      );
    }
    const taskId = found.config.labels[TASK_ID_LABEL];
    const nodeId = this.#options.ownNodeId();
    return { nodeId, hostname: '', address: '', containerId: found.config.id, taskId };
  }
}

function* taskOfContainer(view: View, key: string): Steps<Task | undefined> {
  let found: Task | undefined;
  let looked = 0;
  for (const task of view.all('task')) {
    looked += 1;
    if (looked % ITEMS_PER_STEP === 0) yield;
    const { containerId } = task.status;
    // Attachments name containers that are no task's.
    if (task.serviceId === '' || !containerId.startsWith(key)) continue;
    if (containerId === key) return task;
    if (found !== undefined) return undefined;
    found = task;
  }
  return found;
}

function hostOf(view: View, task: Task): TaskHost {
  const node = view.get('node', task.nodeId);
  return {
    nodeId: task.nodeId,
    hostname: node?.description.hostname || task.nodeId,
    address: hostPort(node?.address ?? '', node?.port ?? 0),
    containerId: task.status.containerId,
    taskId: task.id,
  };
}

function nameOf(task: Task): string {
  return `${task.serviceName}.${taskPlace(task)}`;
}

/**
 * Exact ids and names first; then a service (any of its running tasks, this host's first), a slot
 * of one, and a prefix of an id that fits no other.
 */
export function* findTask(view: View, key: string, ownNodeId: string): Steps<Task> {
  const exact = view.get('task', key) ?? view.byName('task', key);
  if (exact !== undefined) return exact;
  const service = view.get('service', key) ?? view.serviceByName(key);
  if (service !== undefined) return runningOf(view, service, ownNodeId, () => true);
  const slot = /^(.+)\.([^.]+)$/.exec(key);
  const of = slot === null ? undefined : view.serviceByName(slot[1]);
  if (slot !== null && of !== undefined) {
    const isIn = (task: Task): boolean => slot[2] === taskPlace(task);
    return runningOf(view, of, ownNodeId, isIn);
  }
  const fitting = yield* tasksById(view, key);
  if (fitting.length === 1) return fitting[0];
  if (fitting.length > 1) {
    throw new SwarmError('invalid', `task ${key} is ambiguous: give more of the id`);
  }
  throw new SwarmError('not_found', `task ${key} not found: name a task, or a service`);
}

/** The first two tasks whose ids begin with `prefix`; none for ''. */
export function* tasksById(view: View, prefix: string): Steps<Task[]> {
  const found: Task[] = [];
  if (prefix === '') return found;
  let looked = 0;
  for (const task of view.all('task')) {
    if (task.id.startsWith(prefix)) found.push(task);
    if (found.length > 1) break;
    looked += 1;
    if (looked % ITEMS_PER_STEP === 0) yield;
  }
  return found;
}

function runningOf(
  view: View,
  service: Service,
  ownNodeId: string,
  fits: (task: Task) => boolean,
): Task {
  const tasks = [...view.tasksOfService(service.id)].filter(fits);
  tasks.sort((left, right) => rank(right, ownNodeId) - rank(left, ownNodeId));
  if (tasks.length > 0 && !isTerminal(tasks[0].status.state)) return tasks[0];
  const { name } = service.spec;
  throw new SwarmError(
    'conflict',
    `service ${name} has no such task running: "tsswarm why ${name}" tells why`,
  );
}

/** The task a user most likely means has the highest. */
function rank(task: Task, ownNodeId: string): number {
  const { state } = task.status;
  if (isTerminal(state)) return -1;
  const runs = state === TaskState.RUNNING ? 4 : 0;
  const wanted = isWantedState(task.desiredState) ? 2 : 0;
  return runs + wanted + (task.nodeId === ownNodeId ? 1 : 0);
}
