/**
 * Tasks of replicated services whose node no longer fits the placement (a label or role changed):
 * stopped here, and so replaced elsewhere by their orchestrator. Global services look after their
 * own. Never touches a task that has no node yet.
 */
import type { Steps } from '../../base/slices.ts';
import { fitsPlacement } from '../../model/constraint.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Node, TableName } from '../../model/types.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';
import { isWanted } from './slots.ts';

export class ConstraintEnforcer implements Loop {
  readonly name = 'constraint-enforcer';
  readonly tables: readonly TableName[] = ['node'];

  *plan(view: View, dirty: DirtySet, _nowMs: number): Steps<PlanResult> {
    const changes: Change[] = [];
    for (const node of view.all('node')) {
      if (!dirty.everything && !dirty.ids.node.has(node.id)) continue;
      enforce(view, node, changes);
      yield;
    }
    return { changes };
  }
}

function enforce(view: View, node: Node, changes: Change[]): void {
  for (const task of view.tasksOfNode(node.id)) {
    const { state } = task.status;
    if (!isWanted(task) || isTerminal(state) || state < TaskState.ASSIGNED || task.slot === 0) {
      continue;
    }
    const service = view.get('service', task.serviceId);
    const placement = (service?.spec.task ?? task.spec).placement;
    if (fitsPlacement(placement, node)) continue;
    const status = { ...task.status, message: 'node no longer meets the placement constraints' };
    const object = { ...task, status, desiredState: TaskState.SHUTDOWN };
    changes.push({ kind: 'update', table: 'task', object });
  }
}
