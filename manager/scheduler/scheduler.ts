/**
 * Chooses nodes: PENDING tasks become ASSIGNED, in groups of one service version; those that fit
 * nowhere say why in status.error and are tried again when anything changes. Among suitable nodes:
 * even spread over the preferred labels, then few recent failures, few tasks of the service, few
 * tasks. A task with a node already (global) is only checked. Placed tasks are never moved.
 */
import { nodeValue } from '../../model/constraint.ts';
import { isWantedState, TaskState } from '../../model/taskState.ts';
import type { TableName, Task } from '../../model/types.ts';
import { type Check, checksFor, explain, refusal } from '../placement/filters.ts';
import { type NodeInfo, nodeInfos } from '../placement/nodeSet.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';

/** Nodes looked at for tasks placed in one pass: about 30 ms. What is left waits for the next. */
const CHECKS_PER_PASS = 250_000;

export class Scheduler implements Loop {
  readonly name = 'scheduler';
  readonly tables: readonly TableName[] = ['task', 'node'];
  /** Tasks that fitted nowhere when last looked at; a memo, made anew by a leader's first pass. */
  #waiting = new Set<string>();

  plan(view: View, dirty: DirtySet, nowMs: number): PlanResult {
    const groups = this.#candidates(view, dirty);
    if (groups.size === 0) return { changes: [] };
    const nodes = nodeInfos(view, nowMs);
    const changes: Change[] = [];
    const placesMax = Math.max(1, Math.floor(CHECKS_PER_PASS / Math.max(1, nodes.size)));
    const refused: string[] = [];
    for (const tasks of groups.values()) {
      const group = new Group(tasks[0], nodes, nowMs);
      for (const task of tasks) {
        if (changes.length >= placesMax) {
          this.#waiting.add(task.id);
          continue;
        }
        const placed = group.place(task);
        if (placed.status.state < TaskState.ASSIGNED) refused.push(task.id);
        if (placed !== task) changes.push({ kind: 'update', table: 'task', object: placed });
      }
    }
    const isCut = this.#waiting.size > 0;
    for (const id of refused) this.#waiting.add(id);
    return isCut ? { changes, wakeAtMs: nowMs } : { changes };
  }

  /** Tasks to place, by service version, in the order in which they were made. */
  #candidates(view: View, dirty: DirtySet): Map<string, Task[]> {
    const ids = dirty.everything
      ? Array.from(view.all('task'), (task) => task.id)
      : new Set([...this.#waiting, ...dirty.ids.task]);
    this.#waiting = new Set();
    const groups = new Map<string, Task[]>();
    for (const id of ids) {
      const task = view.get('task', id);
      if (task?.status.state !== TaskState.PENDING) continue;
      if (!isWantedState(task.desiredState)) continue;
      const key = `${task.serviceId}/${task.specVersion}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [task]);
      else group.push(task);
    }
    return groups;
  }
}

/** Tasks with one specification: what suits one suits all. */
class Group {
  readonly #nodes: ReadonlyMap<string, NodeInfo>;
  readonly #checks: readonly Check[];
  readonly #nowMs: number;
  /** Why the last one fitted nowhere: within a pass no node gets emptier, so no other will fit. */
  #refused = '';
  /** Branch of the preference tree (values joined) -> tasks of the service in it. */
  readonly #spread: readonly { readonly key: string; readonly counts: Map<string, number> }[];

  constructor(sample: Task, nodes: ReadonlyMap<string, NodeInfo>, nowMs: number) {
    this.#nodes = nodes;
    this.#checks = checksFor(sample);
    this.#nowMs = nowMs;
    this.#spread = sample.spec.placement.spreadOver.map((key) => ({ key, counts: new Map() }));
    for (const info of nodes.values()) this.#count(info, info.tasksOf(sample.serviceId));
  }

  /** The task ASSIGNED, or with a new reason why not, or as it was. */
  place(task: Task): Task {
    const info = task.nodeId === '' ? this.#refused || this.#best(task) : this.#preassigned(task);
    if (typeof info === 'string' && task.nodeId === '') this.#refused = info;
    if (typeof info === 'string') {
      if (task.status.error === info) return task;
      const message = 'pending task scheduling';
      return { ...task, status: { ...task.status, message, error: info } };
    }
    const phases = { ...task.status.phases, [TaskState.ASSIGNED]: this.#nowMs };
    const placed: Task = {
      ...task,
      nodeId: info.node.id,
      status: {
        ...task.status,
        state: TaskState.ASSIGNED,
        atMs: this.#nowMs,
        message: 'scheduler assigned task to node',
        error: '',
        phases,
      },
    };
    info.add(placed, this.#nowMs);
    this.#count(info, 1);
    return placed;
  }

  #preassigned(task: Task): NodeInfo | string {
    const info = this.#nodes.get(task.nodeId);
    if (info === undefined) return explain([]);
    const reason = refusal(this.#checks, info);
    return reason === undefined ? info : explain([reason]);
  }

  #best(task: Task): NodeInfo | string {
    let best: NodeInfo | undefined;
    let bestRank: readonly number[] = [];
    const reasons: string[] = [];
    for (const info of this.#nodes.values()) {
      const reason = refusal(this.#checks, info);
      if (reason !== undefined) {
        reasons.push(reason);
        continue;
      }
      const rank = this.#rank(task, info);
      if (best === undefined || compare(rank, bestRank) < 0) {
        best = info;
        bestRank = rank;
      }
    }
    return best ?? explain(reasons);
  }

  /** Smaller is better, position by position. */
  #rank(task: Task, info: NodeInfo): readonly number[] {
    const rank: number[] = [];
    let branch = '';
    for (const { key, counts } of this.#spread) {
      branch += `/${nodeValue(key, info.node)}`;
      rank.push(counts.get(branch) ?? 0);
    }
    rank.push(info.failuresOf(task), info.tasksOf(task.serviceId), info.tasks);
    return rank;
  }

  #count(info: NodeInfo, tasks: number): void {
    let branch = '';
    for (const { key, counts } of this.#spread) {
      branch += `/${nodeValue(key, info.node)}`;
      counts.set(branch, (counts.get(branch) ?? 0) + tasks);
    }
  }
}

function compare(left: readonly number[], right: readonly number[]): number {
  for (let at = 0; at < left.length; at += 1) {
    if (left[at] !== right[at]) return left[at] - right[at];
  }
  return 0;
}
