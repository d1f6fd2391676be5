/**
 * The frame of the loops that work service by service: which services a pass has to look at, and
 * when each of them wants to be looked at again. The wake-ups are a memo of the last look, made
 * anew by the first pass of a leader; what counts is in the store.
 */
import type { Ids } from '../../base/id.ts';
import type { Steps } from '../../base/slices.ts';
import type { ServiceMode, TableName } from '../../model/types.ts';
import type { Change, DirtySet, Loop, PlanResult, View } from '../store/types.ts';

export interface ServiceResult {
  readonly changes: readonly Change[];
  readonly wakeAtMs?: number | undefined;
}

export abstract class ServiceLoop implements Loop {
  abstract readonly name: string;
  abstract readonly tables: readonly TableName[];
  /** Service id -> when it asked to be looked at again. */
  readonly #wakes = new Map<string, number>();

  /** Of the service's tasks as they are when it begins; it may pause after. */
  protected abstract planService(
    view: View,
    serviceId: string,
    nowMs: number,
  ): Steps<ServiceResult>;
  /** Ids that a first pass must look at. */
  protected abstract everyService(view: View): Iterable<string>;

  /** Ids of services to look at when `nodeId` changed: those with tasks there, at least. */
  protected servicesOfNode(view: View, nodeId: string): Iterable<string> {
    return servicesOnNode(view, nodeId);
  }

  *plan(view: View, dirty: DirtySet, nowMs: number): Steps<PlanResult> {
    if (dirty.everything) this.#wakes.clear();
    const changes: Change[] = [];
    for (const serviceId of this.#due(view, dirty, nowMs)) {
      const result = yield* this.planService(view, serviceId, nowMs);
      for (const change of result.changes) changes.push(change);
      if (result.wakeAtMs === undefined) this.#wakes.delete(serviceId);
      else this.#wakes.set(serviceId, result.wakeAtMs);
      yield;
    }
    let wakeAtMs: number | undefined;
    for (const atMs of this.#wakes.values()) wakeAtMs = Math.min(wakeAtMs ?? atMs, atMs);
    return wakeAtMs === undefined ? { changes } : { changes, wakeAtMs };
  }

  #due(view: View, dirty: DirtySet, nowMs: number): Set<string> {
    if (dirty.everything || dirty.ids.cluster.size > 0) return new Set(this.everyService(view));
    const due = new Set<string>([...dirty.ids.service, ...(dirty.taskServices ?? [])]);
    for (const taskId of dirty.ids.task) {
      const task = view.get('task', taskId);
      if (task !== undefined) due.add(task.serviceId);
    }
    for (const nodeId of dirty.ids.node) {
      for (const serviceId of this.servicesOfNode(view, nodeId)) due.add(serviceId);
    }
    for (const [serviceId, atMs] of this.#wakes) if (atMs <= nowMs) due.add(serviceId);
    due.delete('');
    return due;
  }
}

/** A loop that makes the tasks of its services. */
export abstract class Orchestrator extends ServiceLoop {
  readonly tables: readonly TableName[] = ['service', 'task', 'node'];
  protected readonly ids: Ids;

  constructor(ids: Ids) {
    super();
    this.ids = ids;
  }
}

export function servicesOnNode(view: View, nodeId: string): Set<string> {
  const ids = new Set<string>();
  for (const task of view.tasksOfNode(nodeId)) ids.add(task.serviceId);
  return ids;
}

export function servicesOfMode(view: View, kind: ServiceMode['kind']): Set<string> {
  const ids = new Set<string>();
  for (const service of view.all('service'))
    if (service.spec.mode.kind === kind) ids.add(service.id);
  return ids;
}
