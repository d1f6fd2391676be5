/**
 * The nodes as the scheduler sees them: what is reserved on each, which tasks of which service run
 * there, which of its own ports are taken, what failed there lately. Made from a view and kept in
 * step with the placements of one pass; after it those of nodes that have changed, or were to, are
 * made anew.
 */
import { MINUTE_MS } from '../../base/duration.ts';
import type { Steps } from '../../base/slices.ts';
import { isFailure, isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { GenericResource, Node, PortConfig, Task } from '../../model/types.ts';
import type { View } from '../store/types.ts';

/** Failures of a service version on a node within this time count against the node... */
const FAILURE_WINDOW_MS = 5 * MINUTE_MS;
/** ...once there are this many. */
const FAILURES_THAT_COUNT = 5;
const NO_RESOURCES: readonly GenericResource[] = [];

export class NodeInfo {
  readonly node: Node;
  readonly #tasksByService = new Map<string, number>();
  /** When tasks of a service version failed here. */
  readonly #failures = new Map<string, number[]>();
  /** Published in mode host by tasks here; made when there is one. */
  #hostPorts: PortConfig[] | undefined;
  /** Given to tasks here; made when there is one. */
  #given: GenericResource[] | undefined;
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
        const failures = this.#failures.get(key) ?? [];
        failures.push(task.updatedAtMs);
        this.#failures.set(key, failures);
      }
      return;
    }
    this.#hold(task, 1);
  }

  /** A task that was added and has not ended, as if it were not there. */
  takeOut(task: Task): void {
    this.#hold(task, -1);
  }

  #hold(task: Task, sign: 1 | -1): void {
    this.freeNanoCpus -= sign * task.spec.reservations.nanoCpus;
    this.freeMemoryBytes -= sign * task.spec.reservations.memoryBytes;
    const ports = hostPorts(task);
    if (ports.length > 0) this.#hostPorts = changed(this.#hostPorts, ports, sign);
    if (task.genericResources.length > 0) {
      this.#given = changed(this.#given, task.genericResources, sign);
    }
    // A place on a network is no work.
    if (!isWantedState(task.desiredState) || task.serviceId === '') return;
    this.tasks += sign;
    this.#tasksByService.set(task.serviceId, this.tasksOf(task.serviceId) + sign);
  }

  tasksOf(serviceId: string): number {
    return this.#tasksByService.get(serviceId) ?? 0;
  }

  /** 0 unless the service version has failed here often and lately. */
  failuresOf(task: Task, nowMs: number): number {
    const failures = this.#failures.size === 0 ? undefined : this.#failures.get(failureKey(task));
    if (failures === undefined) return 0;
    const count = failures.filter((atMs) => atMs > nowMs - FAILURE_WINDOW_MS).length;
    return count >= FAILURES_THAT_COUNT ? count : 0;
  }

  /** Whether a task here, or about to be, listens where `port` wants to. */
  isPortTaken(port: PortConfig): boolean {
    return this.#hostPorts?.some((other) => collide(port, other)) ?? false;
  }

  /**
   * What a task that wants all of `wanted` would get: the named units it asks for, else named ones
   * that nobody has, else an amount. The kind of which the node has not enough, otherwise.
   */
  genericsFor(wanted: readonly GenericResource[]): readonly GenericResource[] | string {
    const got: GenericResource[] = [];
    // Named ones first, so that none is given away as one of an amount.
    for (const item of [...wanted].sort(
      (left, right) => Number(left.name === '') - Number(right.name === ''),
    )) {
      const found = this.#genericFor(item, got);
      if (found === undefined) return item.kind;
      got.push(...found);
    }
    return got;
  }

  #genericFor(
    { kind, name, amount }: GenericResource,
    got: readonly GenericResource[],
  ): readonly GenericResource[] | undefined {
    const offered = this.node.description.genericResources.filter((item) => item.kind === kind);
    const given = [...(this.#given ?? NO_RESOURCES), ...got].filter((item) => item.kind === kind);
    const free = offered.filter(
      (item) => item.name !== '' && !given.some((other) => other.name === item.name),
    );
    if (name !== '')
      return free.some((item) => item.name === name) ? [{ kind, name, amount: 1 }] : undefined;
    if (free.length >= amount) return free.slice(0, amount);
    const sum = (items: readonly GenericResource[]): number =>
      items.reduce((total, item) => total + (item.name === '' ? item.amount : 0), 0);
    return sum(offered) - sum(given) >= amount ? [{ kind, name: '', amount }] : undefined;
  }
}

export function hostPorts(task: Task): readonly PortConfig[] {
  return task.ports.filter((port) => port.publishMode === 'host' && port.publishedPort !== 0);
}

/** On one host; '' is every address. */
export function collide(left: PortConfig, right: PortConfig): boolean {
  return (
    left.publishedPort === right.publishedPort &&
    left.protocol === right.protocol &&
    (left.hostAddress === '' || right.hostAddress === '' || left.hostAddress === right.hostAddress)
  );
}

function changed<T>(list: readonly T[] | undefined, items: readonly T[], sign: 1 | -1): T[] {
  if (sign === 1) return [...(list ?? []), ...items];
  const left = [...(list ?? [])];
  for (const item of items) {
    const at = left.indexOf(item);
    if (at >= 0) left.splice(at, 1);
  }
  return left;
}

function failureKey(task: Task): string {
  return `${task.serviceId}/${task.specVersion}`;
}

export function nodeInfo(view: View, node: Node, nowMs: number): NodeInfo {
  const info = new NodeInfo(node);
  for (const task of view.tasksOfNode(node.id)) {
    if (task.status.state >= TaskState.ASSIGNED) info.add(task, nowMs);
  }
  return info;
}

export function* nodeInfos(view: View, nowMs: number): Steps<Map<string, NodeInfo>> {
  const infos = new Map<string, NodeInfo>();
  for (const node of view.all('node')) {
    infos.set(node.id, nodeInfo(view, node, nowMs));
    yield;
  }
  return infos;
}
