/**
 * How evenly tasks lie on the nodes, as the rebalancer counts it, and what a move would change.
 * Counted are tasks as they will be once the moves under way are done. Made from a view, kept in
 * step with the moves of one plan, forgotten after it; it decides nothing.
 */
import { nodeValue } from '../../model/constraint.ts';
import type { Service, Task } from '../../model/types.ts';
import { type Check, checksFor, refusal } from '../placement/filters.ts';
import type { NodeInfo } from '../placement/nodeSet.ts';

/** A node as a source or target of moves. */
export interface Place {
  readonly info: NodeInfo;
  /** Tasks of all services. */
  tasks: number;
  /** Tasks made before this may come here: when they were placed, it could not take them. */
  readonly cutoffMs: number;
}

/** Negative = evener, position by position: each spread preference, the service, all tasks. */
export type Delta = readonly number[];

export class ServiceBalance {
  readonly service: Service;
  /** One running task of each slot that may be moved now. */
  readonly movable: Set<Task>;
  readonly #places: ReadonlyMap<string, Place>;
  readonly #counts = new Map<string, number>();
  /** Per spread preference: branch of the tree (values joined) -> tasks in it. */
  readonly #branches: readonly Map<string, number>[];
  readonly #checks: readonly Check[];
  /** Nodes where a move of this service failed lately. */
  readonly #avoided: ReadonlySet<string>;

  constructor(
    service: Service,
    current: readonly Task[],
    movable: Iterable<Task>,
    avoided: ReadonlySet<string>,
    places: ReadonlyMap<string, Place>,
  ) {
    this.service = service;
    this.movable = new Set(movable);
    this.#places = places;
    this.#branches = service.spec.task.placement.spreadOver.map(() => new Map<string, number>());
    this.#avoided = avoided;
    for (const task of current) this.#count(task.nodeId, 1);
    this.#checks = current.length === 0 ? [] : checksFor(asWanted(service, current[0]));
  }

  count(nodeId: string): number {
    return this.#counts.get(nodeId) ?? 0;
  }

  /** Whether the scheduler would let a task of the service onto the node. */
  fits({ info }: Place): boolean {
    return !this.#avoided.has(info.node.id) && refusal(this.#checks, info) === undefined;
  }

  delta(from: Place, to: Place): Delta {
    const [source, target] = [from.info.node.id, to.info.node.id];
    const parts: number[] = [];
    this.#branches.forEach((counts, level) => {
      const [left, reached] = [this.#branch(source, level), this.#branch(target, level)];
      parts.push(left === reached ? 0 : change(counts.get(left) ?? 0, counts.get(reached) ?? 0));
    });
    parts.push(change(this.count(source), this.count(target)), change(from.tasks, to.tasks));
    return parts;
  }

  /** As the scheduler ranks nodes for the service: smaller is emptier. */
  rank(place: Place): readonly number[] {
    const { id } = place.info.node;
    const levels = this.#branches.map((counts, at) => counts.get(this.#branch(id, at)) ?? 0);
    return [...levels, this.count(id), place.tasks];
  }

  /** For a person: what the move makes evener. */
  why(from: Place, to: Place, delta: Delta): string {
    const [source, target] = [from.info.node, to.info.node];
    const [left, reached] = [source.description.hostname, target.description.hostname];
    const level = delta.findIndex((part) => part < 0);
    const key = this.service.spec.task.placement.spreadOver.at(level);
    const counts = this.#branches.at(level);
    if (level < this.#branches.length && key !== undefined && counts !== undefined) {
      const has = (nodeId: string): number => counts.get(this.#branch(nodeId, level)) ?? 0;
      return (
        `${key}=${nodeValue(key, source)} has ${has(source.id)} tasks of the service, ` +
        `${key}=${nodeValue(key, target)} has ${has(target.id)}`
      );
    }
    if (level === this.#branches.length) {
      const [most, least] = [this.count(source.id), this.count(target.id)];
      return `${left} has ${most} tasks of the service, ${reached} has ${least}`;
    }
    return `${left} has ${from.tasks} tasks, ${reached} has ${to.tasks}`;
  }

  moved(task: Task, from: Place, to: Place, nowMs: number): void {
    this.movable.delete(task);
    this.#count(from.info.node.id, -1);
    this.#count(to.info.node.id, 1);
    from.tasks -= 1;
    to.tasks += 1;
    // What it holds on the node it leaves is not counted as free: there it runs until the end.
    to.info.add(asWanted(this.service, { ...task, nodeId: to.info.node.id }), nowMs);
  }

  #count(nodeId: string, tasks: number): void {
    this.#counts.set(nodeId, this.count(nodeId) + tasks);
    this.#branches.forEach((counts, level) => {
      const branch = this.#branch(nodeId, level);
      counts.set(branch, (counts.get(branch) ?? 0) + tasks);
    });
  }

  #branch(nodeId: string, level: number): string {
    const node = this.#places.get(nodeId)?.info.node;
    const keys = this.service.spec.task.placement.spreadOver.slice(0, level + 1);
    return keys.map((key) => `/${node === undefined ? '' : nodeValue(key, node)}`).join('');
  }
}

/** The task as a new one would be: a changed placement holds for it, though not for the old. */
function asWanted(service: Service, task: Task): Task {
  return { ...task, spec: service.spec.task };
}

/** Of the sum of squares, when one task goes from a place with `source` to one with `target`. */
function change(source: number, target: number): number {
  return 2 * (target - source + 1);
}

/** -1 when `left` is lexicographically smaller. */
export function compare(left: readonly number[], right: readonly number[]): number {
  for (let at = 0; at < left.length; at += 1) {
    if (left[at] !== right[at]) return left[at] < right[at] ? -1 : 1;
  }
  return 0;
}
