/**
 * Tasks that are to stop and stand in a balance: their node is told only when every node whose
 * networks changed has said that it left them out, so that nobody connects to a program that is
 * ending. Bounded: a node that does not answer holds nobody up for long.
 *
 * | a task is | what is true | left by |
 * |---|---|---|
 * | held | its node still has it as wanted; others leave it out | `confirmed`, `gone`, time |
 * | released | its node is told to stop it | `hold`, once it has ended |
 */
import type { Clock, Timer } from '../../base/clock.ts';
import type { AssignmentItem } from '../../model/assignment.ts';
import { isWantedState, TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import type { AssignmentSet } from './assignments.ts';

/** Nodes answer within milliseconds; one that is lost is found out later than this. */
const LIMIT_MS = 1000;

interface Held {
  readonly nodeId: string;
  readonly item: AssignmentItem;
  /** Nodes that have not said it yet, and the state of networks they have to reach. */
  readonly waiting: Map<string, number>;
  readonly timer: Timer;
}

export class Leaving {
  readonly #clock: Clock;
  readonly #onReleased: (nodeId: string) => void;
  readonly #held = new Map<string, Held>();
  /** Task id -> node id. */
  readonly #released = new Map<string, string>();

  constructor(clock: Clock, onReleased: (nodeId: string) => void) {
    this.#clock = clock;
    this.#onReleased = onReleased;
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
    for (const [taskId, node] of this.#released) {
      if (node === nodeId && !isLeaving(next.get(`task/${taskId}`))) this.#released.delete(taskId);
    }
    let out: Map<string, AssignmentItem> | undefined;
    for (const [key, item] of next) {
      if (item.kind !== 'task' || !isLeaving(item)) continue;
      const { id } = item.task;
      const known = before.get(key);
      if (!this.#held.has(id) && !this.#released.has(id) && isServing(known) && told.size > 0) {
        const timer = this.#clock.after(LIMIT_MS, () => this.#release(id));
        this.#held.set(id, { nodeId, item: known, waiting: new Map(told), timer });
      }
      const held = this.#held.get(id);
      if (held === undefined) continue;
      out ??= new Map(next);
      out.set(key, held.item);
    }
    return out ?? next;
  }

  /** The node's networks are as they were to be at `state`. */
  confirmed(nodeId: string, state: number): void {
    for (const [id, { waiting }] of this.#held) {
      if ((waiting.get(nodeId) ?? Number.POSITIVE_INFINITY) > state) continue;
      waiting.delete(nodeId);
      if (waiting.size === 0) this.#release(id);
    }
  }

  /** The node's session is over: nobody waits for it. */
  gone(nodeId: string): void {
    this.confirmed(nodeId, Number.MAX_SAFE_INTEGER);
  }

  clear(): void {
    for (const { timer } of this.#held.values()) timer.cancel();
    this.#held.clear();
    this.#released.clear();
  }

  #release(id: string): void {
    const held = this.#held.get(id);
    if (held === undefined) return;
    held.timer.cancel();
    this.#held.delete(id);
    this.#released.set(id, held.nodeId);
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
