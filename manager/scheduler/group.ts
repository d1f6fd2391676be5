/**
 * Places the tasks of one service version, one after another. What suits one suits all, so nodes
 * are checked once and kept in heaps, best first, one heap for each branch of the tree that the
 * spread preferences make; a placement changes one node, which is checked again and put back. The
 * rank of a node: tasks of the service in its branch at each level, recent failures, tasks of the
 * service, all tasks; then the order of the nodes. Decides nothing beyond one pass.
 */
import { assert } from '../../base/assert.ts';
import { nodeValue } from '../../model/constraint.ts';
import { isWantedState, TaskState } from '../../model/taskState.ts';
import type { GenericResource, Task } from '../../model/types.ts';
import { type Check, checksFor, explain, refusal } from '../placement/filters.ts';
import type { NodeInfo } from '../placement/nodeSet.ts';
import { Heap } from './heap.ts';

/** A suitable node as it was when it was put into its heap; stale once the node has changed. */
interface Entry {
  readonly place: Place;
  readonly revision: number;
  readonly failures: number;
  readonly own: number;
  readonly all: number;
}

interface Place {
  readonly info: NodeInfo;
  readonly order: number;
  readonly leaf: Branch;
  revision: number;
}

/** A value of a spread preference below those of its parents; a leaf holds nodes. */
class Branch {
  readonly parent: Branch | undefined;
  readonly children = new Map<string, Branch>();
  readonly nodes = new Heap<Entry>(compareEntries);
  /** Tasks of the service below it. */
  tasks = 0;

  constructor(parent: Branch | undefined) {
    this.parent = parent;
  }

  child(value: string): Branch {
    let child = this.children.get(value);
    if (child === undefined) {
      child = new Branch(this);
      this.children.set(value, child);
    }
    return child;
  }
}

export class Group {
  readonly #sample: Task;
  readonly #checks: readonly Check[];
  readonly #nowMs: number;
  readonly #places = new Map<string, Place>();
  readonly #root = new Branch(undefined);
  readonly #levels: readonly string[];
  /** Why the last one fitted nowhere: within a pass no node gets emptier, so no other will fit. */
  #refused = '';

  constructor(sample: Task, nodes: ReadonlyMap<string, NodeInfo>, nowMs: number) {
    this.#sample = sample;
    this.#checks = checksFor(sample);
    this.#nowMs = nowMs;
    this.#levels = sample.spec.placement.spreadOver;
    for (const info of nodes.values()) {
      let leaf = this.#root;
      for (const key of this.#levels) leaf = leaf.child(nodeValue(key, info.node));
      const place = { info, order: this.#places.size, leaf, revision: 0 };
      this.#places.set(info.node.id, place);
      if (this.#levels.length > 0) count(leaf, info.tasksOf(sample.serviceId));
      this.#offer(place);
    }
  }

  /**
   * The task ASSIGNED, or with a new reason why not, or as it was. `leaving` will have stopped
   * before the task starts (stop-first): what it holds is free for the task.
   */
  place(task: Task, leaving: readonly Task[]): Task {
    for (const other of leaving) this.#takeOut(other);
    const found = task.nodeId === '' ? this.#find(leaving) : this.#preassigned(task);
    const placed =
      typeof found === 'string' ? this.#refuse(task, found) : this.#assign(task, found);
    for (const other of leaving) this.#putBack(other);
    return placed;
  }

  #find(leaving: readonly Task[]): Place | string {
    if (this.#refused !== '' && leaving.length === 0) return this.#refused;
    const best = top(this.#root);
    if (best !== undefined) return best.place;
    const why = explain(
      [...this.#places.values()].flatMap(({ info }) => refusal(this.#checks, info) ?? []),
    );
    if (leaving.length === 0) this.#refused = why;
    return why;
  }

  #preassigned(task: Task): Place | string {
    const place = this.#places.get(task.nodeId);
    if (place === undefined) return explain([]);
    const reason = refusal(this.#checks, place.info);
    return reason === undefined ? place : explain([reason]);
  }

  #refuse(task: Task, reason: string): Task {
    if (task.status.error === reason) return task;
    const message = 'pending task scheduling';
    return { ...task, status: { ...task.status, message, error: reason } };
  }

  #assign(task: Task, place: Place): Task {
    const placed: Task = {
      ...task,
      nodeId: place.info.node.id,
      genericResources: given(task, place.info),
      status: {
        ...task.status,
        state: TaskState.ASSIGNED,
        atMs: this.#nowMs,
        message: 'scheduler assigned task to node',
        error: '',
        phases: { ...task.status.phases, [TaskState.ASSIGNED]: this.#nowMs },
      },
    };
    place.info.add(placed, this.#nowMs);
    count(place.leaf, 1);
    this.#offer(place);
    return placed;
  }

  #takeOut(task: Task): void {
    const place = this.#places.get(task.nodeId);
    if (place === undefined) return;
    place.info.takeOut(task);
    if (isWantedState(task.desiredState)) count(place.leaf, -1);
    this.#offer(place);
  }

  #putBack(task: Task): void {
    const place = this.#places.get(task.nodeId);
    if (place === undefined) return;
    place.info.add(task, this.#nowMs);
    if (isWantedState(task.desiredState)) count(place.leaf, 1);
    this.#offer(place);
  }

  /** Into its heap as it is now; what was said of it before counts no more. */
  #offer(place: Place): void {
    place.revision += 1;
    const { info, revision } = place;
    if (refusal(this.#checks, info) !== undefined) return;
    place.leaf.nodes.push({
      place,
      revision,
      failures: info.failuresOf(this.#sample, this.#nowMs),
      own: info.tasksOf(this.#sample.serviceId),
      all: info.tasks,
    });
  }
}

function given(task: Task, info: NodeInfo): readonly GenericResource[] {
  const given = info.genericsFor(task.spec.genericResources);
  assert(typeof given !== 'string', 'a task was placed where a resource is missing', { given });
  return given;
}

function count(leaf: Branch, tasks: number): void {
  for (let at: Branch | undefined = leaf; at !== undefined; at = at.parent) at.tasks += tasks;
}

/** The best node below; undefined when none is suitable. */
function top(branch: Branch): Entry | undefined {
  if (branch.children.size === 0) return topOf(branch.nodes);
  let best: Entry | undefined;
  let fewest: Branch | undefined;
  for (const child of branch.children.values()) {
    if (fewest !== undefined && child.tasks > fewest.tasks) continue;
    const entry = top(child);
    if (entry === undefined) continue;
    const isBetter =
      best === undefined ||
      fewest === undefined ||
      child.tasks < fewest.tasks ||
      compareBelow(child, entry, fewest, best) < 0;
    if (isBetter) [best, fewest] = [entry, child];
  }
  return best;
}

function topOf(heap: Heap<Entry>): Entry | undefined {
  for (let entry = heap.peek(); entry !== undefined; entry = heap.peek()) {
    if (entry.revision === entry.place.revision) return entry;
    heap.pop();
  }
  return undefined;
}

/** Two branches with equally many tasks: by the levels below, then by the nodes. */
function compareBelow(left: Branch, leftBest: Entry, right: Branch, rightBest: Entry): number {
  const [lefts, rights] = [counts(left, leftBest), counts(right, rightBest)];
  for (let at = 0; at < lefts.length; at += 1) {
    if (lefts[at] !== rights[at]) return lefts[at] - rights[at];
  }
  return compareEntries(leftBest, rightBest);
}

/** Tasks in each branch between `below` and the node, outermost first. */
function counts(below: Branch, { place }: Entry): readonly number[] {
  const found: number[] = [];
  for (let at = place.leaf; at !== below && at.parent !== undefined; at = at.parent) {
    found.unshift(at.tasks);
  }
  return found;
}

function compareEntries(left: Entry, right: Entry): number {
  return (
    left.failures - right.failures ||
    left.own - right.own ||
    left.all - right.all ||
    left.place.order - right.place.order
  );
}
