/**
 * Which running tasks are to change their node, so that hosts that came or came back carry their
 * part. A task may go only to a node that could not take tasks when it was made (or to any, once a
 * user has asked); so it never goes back, and nothing moves in a cluster that does not change. Each
 * move makes the cluster evener by what the scheduler itself ranks by, and none may make it less.
 * Pure; who makes the moves is rebalancer.ts.
 */
import { MINUTE_MS, SECOND_MS } from '../../base/duration.ts';
import type { Steps } from '../../base/slices.ts';
import { REBALANCE_LABEL } from '../../model/defaults.ts';
import { isFailure, isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { type NodeInfo, nodeInfos } from '../placement/nodeSet.ts';
import { bySlot, isStopped } from '../placement/slot.ts';
import type { View } from '../store/types.ts';
import { compare, type Delta, type Place, ServiceBalance } from './balance.ts';

/** A slot that was moved, or was to be, stays for so long. */
export const HOLD_MS = 10 * MINUTE_MS;
/** A node that has just come takes nothing: it may go again. */
export const SETTLE_MS = 10 * SECOND_MS;
/** Services that may not be moved now, or are not at rest, are looked at again after this. */
const REST_RECHECK_MS = 10 * SECOND_MS;
/** Emptiest targets and fullest sources that are compared with each other for one move. */
const CANDIDATES = 16;

export interface Move {
  readonly task: Task;
  readonly service: Service;
  readonly toNodeId: string;
  readonly why: string;
}

export interface MovePlan {
  readonly moves: readonly Move[];
  /** Tasks that are taking their slot over, or whose predecessor has not stopped yet. */
  readonly underWay: readonly Task[];
  /** Services that are left alone now, as tasks of theirs start, stop or are updated; names. */
  readonly unsettled: readonly string[];
  /** When there may be more to do though nothing changes. */
  readonly againAtMs: number | undefined;
}

/** The next `limit` moves. `askedAtMs`: when a user last asked to spread all anew; 0 never. */
export function* planMoves(
  view: View,
  nowMs: number,
  limit: number,
  askedAtMs: number,
): Steps<MovePlan> {
  const planner = new Planner(view, nowMs, askedAtMs);
  yield* planner.look();
  return yield* planner.plan(limit);
}

/** What a service's tasks say about moving them. */
interface Survey {
  readonly current: readonly Task[];
  readonly movable: readonly Task[];
  readonly underWay: readonly Task[];
  readonly avoided: ReadonlySet<string>;
  readonly isAtRest: boolean;
}

class Planner {
  readonly #view: View;
  readonly #nowMs: number;
  readonly #askedAtMs: number;
  readonly #places = new Map<string, Place>();
  readonly #balances: ServiceBalance[] = [];
  readonly #underWay: Task[] = [];
  readonly #unsettled: string[] = [];
  #newestCutoffMs = 0;
  #againAtMs: number | undefined;

  constructor(view: View, nowMs: number, askedAtMs: number) {
    this.#view = view;
    this.#nowMs = nowMs;
    this.#askedAtMs = askedAtMs;
  }

  *look(): Steps<void> {
    for (const info of (yield* nodeInfos(this.#view, this.#nowMs)).values()) {
      const cutoffMs = this.#cutoffMs(info);
      this.#places.set(info.node.id, { info, tasks: info.tasks, cutoffMs });
      this.#newestCutoffMs = Math.max(this.#newestCutoffMs, cutoffMs);
    }
    for (const service of this.#view.all('service')) {
      if (service.spec.mode.kind === 'replicated') this.#look(service);
      yield;
    }
  }

  *plan(limit: number): Steps<MovePlan> {
    const moves: Move[] = [];
    const isMore = (): boolean => moves.length < limit;
    for (const evens of [evensService, evensNodes]) {
      for (let found = true; found && isMore(); ) {
        found = false;
        for (const balance of this.#balances) {
          const move = isMore() ? this.#next(balance, evens) : undefined;
          yield;
          if (move === undefined) continue;
          moves.push(move);
          found = true;
        }
      }
    }
    return {
      moves,
      underWay: this.#underWay,
      unsettled: this.#unsettled,
      againAtMs: this.#againAtMs,
    };
  }

  #again(atMs: number): void {
    this.#againAtMs = Math.min(this.#againAtMs ?? atMs, atMs);
  }

  #cutoffMs({ node }: NodeInfo): number {
    if (node.state !== 'ready' || node.availableSinceMs === 0) return 0;
    const settledAtMs = node.availableSinceMs + SETTLE_MS;
    if (settledAtMs <= this.#nowMs) return Math.max(node.availableSinceMs, this.#askedAtMs);
    this.#again(settledAtMs);
    return this.#askedAtMs;
  }

  #look(service: Service): void {
    const survey = surveyOf(this.#view, service, (slot) => this.#heldUntilMs(slot) <= this.#nowMs);
    for (const task of survey.underWay) {
      this.#underWay.push(task);
      const place = this.#places.get(task.nodeId);
      if (place === undefined || task.status.state >= TaskState.ASSIGNED) continue;
      place.info.add(task, this.#nowMs);
      place.tasks += 1;
    }
    for (const task of survey.underWay) {
      const left = this.#places.get(task.movedFrom);
      const standsIn = standInOf(this.#view, task);
      if (left !== undefined && standsIn?.nodeId === left.info.node.id) left.tasks -= 1;
    }
    if (!survey.isAtRest || survey.underWay.length > 0 || isUpdated(service)) {
      this.#unsettled.push(service.spec.name);
    }
    const isOld = (task: Task): boolean => task.createdAtMs < this.#newestCutoffMs;
    const movable = survey.movable.filter(isOld);
    if (!survey.isAtRest || !mayMove(service)) {
      if (survey.current.some(isOld)) this.#again(this.#nowMs + REST_RECHECK_MS);
      return;
    }
    if (movable.length === 0) return;
    const { current, avoided } = survey;
    this.#balances.push(new ServiceBalance(service, current, movable, avoided, this.#places));
  }

  /** Until when a slot stays where it is, after its last move. */
  #heldUntilMs(slot: readonly Task[]): number {
    const movedAtMs = Math.max(0, ...slot.filter(isMoved).map((task) => task.createdAtMs));
    if (movedAtMs === 0 || movedAtMs <= this.#askedAtMs) return 0;
    const untilMs = movedAtMs + HOLD_MS;
    const isOld = slot.some(
      (task) => isWantedState(task.desiredState) && task.createdAtMs < this.#newestCutoffMs,
    );
    if (untilMs > this.#nowMs && isOld) this.#again(untilMs);
    return untilMs;
  }

  /** The move of one of the service's tasks that evens most, made in the books; or none. */
  #next(balance: ServiceBalance, evens: (delta: Delta) => boolean): Move | undefined {
    const oldest = oldestByNode(balance.movable);
    const sources = this.#ranked(balance, [...oldest.keys()], -1);
    const targets = this.#ranked(balance, this.#targets(balance, oldest), 1);
    let best: { delta: Delta; task: Task; from: Place; to: Place } | undefined;
    for (const from of sources) {
      const task = oldest.get(from.info.node.id);
      if (task === undefined) continue;
      for (const to of targets) {
        if (to === from || task.createdAtMs >= to.cutoffMs) continue;
        const delta = balance.delta(from, to);
        if (!evens(delta)) continue;
        if (best === undefined || compare(delta, best.delta) < 0) best = { delta, task, from, to };
      }
    }
    if (best === undefined) return undefined;
    const { task, from, to, delta } = best;
    const why = balance.why(from, to, delta);
    balance.moved(task, from, to, this.#nowMs);
    return { task, service: balance.service, toNodeId: to.info.node.id, why };
  }

  #targets(balance: ServiceBalance, oldest: ReadonlyMap<string, Task>): string[] {
    let oldestMs = Number.POSITIVE_INFINITY;
    for (const { createdAtMs } of oldest.values()) oldestMs = Math.min(oldestMs, createdAtMs);
    const ids: string[] = [];
    for (const [id, place] of this.#places) {
      if (place.cutoffMs > oldestMs && balance.fits(place)) ids.push(id);
    }
    return ids;
  }

  /** `direction` 1 = emptiest first, -1 = fullest first. */
  #ranked(balance: ServiceBalance, ids: readonly string[], direction: 1 | -1): readonly Place[] {
    const ranked = ids
      .map((id) => this.#places.get(id))
      .filter((place) => place !== undefined)
      .map((place) => ({ place, rank: balance.rank(place) }));
    ranked.sort((left, right) => direction * compare(left.rank, right.rank));
    return ranked.slice(0, CANDIDATES).map(({ place }) => place);
  }
}

function evensService(delta: Delta): boolean {
  return (delta.slice(0, -1).find((part) => part !== 0) ?? 0) < 0;
}

function evensNodes(delta: Delta): boolean {
  return (delta.find((part) => part !== 0) ?? 0) < 0;
}

function oldestByNode(tasks: Iterable<Task>): Map<string, Task> {
  const oldest = new Map<string, Task>();
  for (const task of tasks) {
    const known = oldest.get(task.nodeId);
    const isOlder =
      known === undefined ||
      task.createdAtMs < known.createdAtMs ||
      (task.createdAtMs === known.createdAtMs && task.slot < known.slot);
    if (isOlder) oldest.set(task.nodeId, task);
  }
  return oldest;
}

export function isMoved(task: Task): boolean {
  return task.movedFrom !== '';
}

/** By the user's word, the service's update, and what its tasks hold of their host. */
function mayMove(service: Service): boolean {
  const { labels, task } = service.spec;
  const word = Object.hasOwn(labels, REBALANCE_LABEL) ? labels[REBALANCE_LABEL].toLowerCase() : '';
  if (word === 'off' || word === 'false') return false;
  if (isUpdated(service)) return false;
  // An address of its own is the old task's until that has stopped, and a move starts first.
  if (task.networks.some(({ addresses }) => addresses.length > 0)) return false;
  const holdsHost = task.container.mounts.some(({ type }) => type !== 'tmpfs');
  return !holdsHost || word === 'on' || word === 'true';
}

function isUpdated({ update }: Service): boolean {
  return update !== undefined && update.completedAtMs === 0;
}

function surveyOf(
  view: View,
  service: Service,
  isFree: (slot: readonly Task[]) => boolean,
): Survey {
  const avoided = new Set<string>();
  for (const task of view.tasksOfService(service.id)) {
    if (isMoved(task) && cameToNothing(task) && !isFree([task])) avoided.add(task.nodeId);
  }
  const current: Task[] = [];
  const movable: Task[] = [];
  const underWay: Task[] = [];
  let isAtRest = true;
  for (const slot of bySlot(view.tasksOfService(service.id)).values()) {
    const wanted = slot.filter(
      (task) => isWantedState(task.desiredState) && !isTerminal(task.status.state),
    );
    const newest = wanted.at(-1);
    if (newest === undefined) continue;
    current.push(newest);
    if (isMoved(newest) && !isDone(view, newest, slot)) underWay.push(newest);
    else if (newest.status.state !== TaskState.RUNNING || !isHeard(view, newest)) isAtRest = false;
    else if (wanted.length > 1) isAtRest = false;
    else if (isFree(slot)) movable.push(newest);
  }
  const { mode } = service.spec;
  if (mode.kind === 'replicated' && current.length !== mode.replicas) isAtRest = false;
  return { current, movable, underWay, avoided, isAtRest };
}

/** It failed on the node it was moved to, or was given up before it ran there. */
function cameToNothing({ status, desiredState }: Task): boolean {
  if (isFailure(status.state)) return true;
  return desiredState > TaskState.RUNNING && status.phases[TaskState.RUNNING] === undefined;
}

/** It runs, and what it took over from has stopped. */
function isDone(view: View, task: Task, slot: readonly Task[]): boolean {
  if (task.status.state !== TaskState.RUNNING) return false;
  return slot.every((other) => other.generation >= task.generation || isStopped(view, other));
}

function isHeard(view: View, task: Task): boolean {
  return view.get('node', task.nodeId)?.state === 'ready';
}

/** The task that still runs, and is wanted, in the slot that `moved` is taking over. */
function standInOf(view: View, moved: Task): Task | undefined {
  for (const task of view.tasksOfService(moved.serviceId)) {
    if (task.slot !== moved.slot || task.generation >= moved.generation) continue;
    if (!isWantedState(task.desiredState) || isTerminal(task.status.state)) continue;
    if (task.nodeId === moved.movedFrom) return task;
  }
  return undefined;
}
