/**
 * The rebalancer: gives slots of replicated services a second task on another node, a few at a time
 * in the whole cluster; the orchestrator lets the first one go once the second runs. A move that
 * gets nowhere is given up, and the first task just runs on. What is remembered (who was moved,
 * when, from where) is in the tasks. It never touches jobs, global services or running updates.
 *
 * | a moved slot is | when | left by |
 * |---|---|---|
 * | under way | the task on the new node does not run yet, or the old one has not stopped | time |
 * | done | the new one runs alone | nothing: it stays for HOLD_MS |
 * | given up | the new one did not run within MOVE_LIMIT_MS, or failed | HOLD_MS, then anew |
 */
import { MINUTE_MS, SECOND_MS } from '../../base/duration.ts';
import type { Ids } from '../../base/id.ts';
import type { Steps } from '../../base/slices.ts';
import { TaskState } from '../../model/taskState.ts';
import type { TableName } from '../../model/types.ts';
import { createTask, setDesired } from '../placement/task.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';
import { type Move, planMoves } from './moves.ts';

/** Slots that are being moved at any time, in the whole cluster. */
export const MOVES_AT_ONCE = 4;
/** A task that does not run on its new node within this is taken back. */
export const MOVE_LIMIT_MS = 5 * MINUTE_MS;
/** While moves are under way. */
const RECHECK_MS = SECOND_MS / 4;

export class Rebalancer implements Loop {
  readonly name = 'rebalancer';
  /** Not services: what is new was placed knowing all hosts; the rest is looked at now and then. */
  readonly tables: readonly TableName[] = ['node', 'cluster'];
  readonly #ids: Ids;

  constructor(ids: Ids) {
    this.#ids = ids;
  }

  *plan(view: View, _dirty: DirtySet, nowMs: number): Steps<PlanResult> {
    const askedAtMs = view.cluster()?.rebalanceAtMs ?? 0;
    const plan = yield* planMoves(view, nowMs, MOVES_AT_ONCE, askedAtMs);
    const changes: Change[] = [];
    for (const task of plan.underWay) {
      const isLate = nowMs >= task.createdAtMs + MOVE_LIMIT_MS;
      if (isLate && task.status.state < TaskState.RUNNING) {
        changes.push(setDesired(task, TaskState.SHUTDOWN));
      }
    }
    const room = Math.max(0, MOVES_AT_ONCE - plan.underWay.length);
    for (const move of plan.moves.slice(0, room)) changes.push(this.#start(view, move, nowMs));
    const isBusy = plan.underWay.length > 0 || plan.moves.length > 0;
    if (isBusy) return { changes, wakeAtMs: nowMs + RECHECK_MS };
    return plan.againAtMs === undefined ? { changes } : { changes, wakeAtMs: plan.againAtMs };
  }

  #start(view: View, { task, service, toNodeId }: Move, nowMs: number): Change {
    let generation = task.generation;
    for (const other of view.tasksOfService(service.id)) {
      if (other.slot === task.slot) generation = Math.max(generation, other.generation);
    }
    const wanted = {
      slot: task.slot,
      nodeId: toNodeId,
      generation: generation + 1,
      desiredState: TaskState.RUNNING,
      notBeforeMs: 0,
      movedFrom: task.nodeId,
    } as const;
    return createTask(this.#ids, service, wanted, nowMs);
  }
}
