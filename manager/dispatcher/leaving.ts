/**
 * Tasks that are to stop and stand in a balance: their node is told only when every node whose
 * networks changed has said that it left them out, so that nobody connects to a program that is
 * ending. Bounded: a node that does not answer holds nobody up for long; one whose daemon is away
 * for a moment still passes connections on, and is waited for a little longer.
 *
 * | a task is | what is true | left by |
 * |---|---|---|
 * | held | its node still has it as wanted; others leave it out | `confirmed`, `gone`, time |
 * | released | its node is told to stop it next | `hold`, which tells it; `gone` |
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { AssignmentItem } from '../../model/assignment.ts';
import { isWantedState, TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { AssignmentSet } from './assignments.ts';

/** Nodes answer within milliseconds; one that is lost is found out later than this. */
const LIMIT_MS = 1000;
/** A daemon that is started again is back by then. */
const ABSENT_LIMIT_MS = 10_000;

interface Held {
  readonly nodeId: string;
  readonly item: AssignmentItem;
  /** Nodes that have not said it yet, and the state of networks they have to reach. */
  readonly waiting: Map<string, number>;
  readonly sinceMs: number;
  timer: Timer;
}

export class Leaving {
  readonly #clock: Clock;
  readonly #onReleased: (nodeId: string) => void;
  readonly #isAbsent: (nodeId: string) => boolean;
  readonly #held = new Map<string, Held>();
  /** Node id -> tasks that it is to be told to stop; until it has been, or is gone. */
  readonly #released = new Map<string, Set<string>>();

  /** `isAbsent`: the node has no session, and is not down. */
  constructor(
    clock: Clock,
    onReleased: (nodeId: string) => void,
    isAbsent: (nodeId: string) => boolean,
  ) {
    this.#clock = clock;
    this.#onReleased = onReleased;
    this.#isAbsent = isAbsent;
  }

  /**
   * What the node is to hold now: `next`, with tasks that may not be stopped yet as they were in
   * `before`. `told` are the nodes whose networks change with it, and to which state.
   */
  hold(
    nodeId: string,
    before: AssignmentSet,
    next: AssignmentSet,
    told: ReadonlyMap<string, number>,
  ): AssignmentSet {
    const released = this.#released.get(nodeId);
    this.#released.delete(nodeId);
    let out: Map<string, AssignmentItem> | undefined;
    for (const [key, item] of next.tasks) {
      if (item.kind !== 'task' || !isLeaving(item)) continue;
      const { id } = item.task;
      const known = before.tasks.get(key);
      const isNew = !this.#held.has(id) && released?.has(id) !== true;
      if (isNew && isServing(known) && told.size > 0) {
        const timer = this.#clock.after(LIMIT_MS, () => this.#due(id));
        const sinceMs = this.#clock.nowMs();
        this.#held.set(id, { nodeId, item: known, waiting: new Map(told), sinceMs, timer });
      }
      const held = this.#held.get(id);
      if (held === undefined) continue;
      out ??= new Map(next.tasks);
      out.set(key, held.item);
    }
    return out === undefined ? next : new AssignmentSet(next.shared, out);
  }

  /** The node's networks are as they were to be at `state`. */
  confirmed(nodeId: string, state: number): void {
    for (const [id, { waiting }] of this.#held) {
      if ((waiting.get(nodeId) ?? Number.POSITIVE_INFINITY) > state) continue;
      waiting.delete(nodeId);
      if (waiting.size === 0) this.#release(id);
    }
  }

  /** The node is down, or is none any more: nobody waits for it, and it is told nothing. */
  gone(nodeId: string): void {
    this.confirmed(nodeId, Number.MAX_SAFE_INTEGER);
    for (const [id, held] of this.#held) if (held.nodeId === nodeId) this.#release(id);
    this.#released.delete(nodeId);
  }

  clear(): void {
    for (const { timer } of this.#held.values()) timer.cancel();
    this.#held.clear();
    this.#released.clear();
  }

  #due(id: string): void {
    const held = this.#held.get(id);
    if (held === undefined) return;
    for (const nodeId of [...held.waiting.keys()]) {
      if (!this.#isAbsent(nodeId)) held.waiting.delete(nodeId);
    }
    const isLate = this.#clock.nowMs() - held.sinceMs >= ABSENT_LIMIT_MS;
    if (held.waiting.size === 0 || isLate) this.#release(id);
    else held.timer = this.#clock.after(LIMIT_MS, () => this.#due(id));
  }

  #release(id: string): void {
    const held = this.#held.get(id);
    if (held === undefined) return;
    held.timer.cancel();
    this.#held.delete(id);
    const released = this.#released.get(held.nodeId) ?? new Set();
    this.#released.set(held.nodeId, released.add(id));
    this.#onReleased(held.nodeId);
  }
}

/** Others connect to it: by an address on an overlay, or by a published port. */
function isReached(task: Task): boolean {
  if (task.networks.some(({ address }) => address !== '')) return true;
  return task.status.gatewayAddress !== '' && task.ports.length > 0;
}

function isLeaving(item: AssignmentItem | undefined): boolean {
  if (item?.kind !== 'task') return false;
  const { status, desiredState } = item.task;
  return status.state === TaskState.RUNNING && !isWantedState(desiredState) && isReached(item.task);
}

function isServing(item: AssignmentItem | undefined): item is AssignmentItem {
  return item?.kind === 'task' && isWantedState(item.task.desiredState);
}
