/**
 * Gives what must be unique in the cluster: subnets and VXLAN ids to networks, virtual addresses
 * and published ports to services, addresses to tasks (NEW becomes PENDING). What cannot be given
 * is said on the object and tried again whenever something changes. The truth is in the store
 * alone; the lists of who waits are a memo, made anew by a leader's first pass.
 */
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { isWantedState, TaskState } from '../../model/taskState.ts';
import type { TableName, Task } from '../../model/types.ts';
import { putInOrder, tasksOf } from '../placement/task.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';
import { Pass } from './pass.ts';

export class Allocator implements Loop {
  readonly name = 'allocator';
  readonly tables: readonly TableName[] = ['network', 'service', 'task', 'node', 'cluster'];
  #waitingServices = new Set<string>();
  #waitingTasks = new Set<string>();

  *plan(view: View, dirty: DirtySet, nowMs: number): Steps<PlanResult> {
    const pass = new Pass(view, nowMs);
    const changes: Change[] = [];
    this.#networks(view, pass, changes);
    yield* this.#services(view, dirty, pass, changes);
    yield* this.#tasks(view, dirty, pass, changes);
    return { changes };
  }

  #networks(view: View, pass: Pass, changes: Change[]): void {
    for (const network of view.all('network')) {
      if (network.vni !== 0) continue;
      const object = pass.network(network);
      if (object.vni === 0 && object.error === network.error) continue;
      changes.push({ kind: 'update', table: 'network', object });
    }
  }

  *#services(view: View, dirty: DirtySet, pass: Pass, changes: Change[]): Steps<void> {
    const ids = dirty.everything
      ? Array.from(view.all('service'), (service) => service.id)
      : new Set([...this.#waitingServices, ...dirty.ids.service]);
    this.#waitingServices = new Set();
    for (const id of ids) {
      const service = view.get('service', id);
      if (service === undefined || service.allocatedVersion === service.specVersion) continue;
      const outcome = pass.service(service);
      yield;
      if ('error' in outcome) this.#waitingServices.add(id);
      else changes.push({ kind: 'update', table: 'service', object: outcome.object });
    }
  }

  *#tasks(view: View, dirty: DirtySet, pass: Pass, changes: Change[]): Steps<void> {
    const waiting = new Set([...this.#waitingTasks, ...dirty.ids.task]);
    this.#waitingTasks = new Set();
    const tasks: Task[] = [];
    let looked = 0;
    for (const task of dirty.everything ? view.all('task') : tasksOf(view, waiting)) {
      looked += 1;
      if (looked % ITEMS_PER_STEP === 0) yield;
      if (isToAllocate(task)) tasks.push(task);
    }
    if (dirty.everything) putInOrder(view, tasks);
    for (const task of tasks) {
      const { id } = task;
      yield;
      yield* pass.prepare(task);
      const outcome = pass.task(task);
      if (outcome !== undefined && 'object' in outcome) {
        changes.push({ kind: 'update', table: 'task', object: outcome.object });
        continue;
      }
      this.#waitingTasks.add(id);
      if (outcome === undefined || outcome.error === task.status.error) continue;
      const status = { ...task.status, error: outcome.error };
      changes.push({ kind: 'update', table: 'task', object: { ...task, status } });
    }
  }
}

function isToAllocate(task: Task): boolean {
  return task.status.state === TaskState.NEW && isWantedState(task.desiredState);
}
