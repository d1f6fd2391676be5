/**
 * Replicated services: as many slots as the service wants replicas. Fills empty slots (a task lost
 * with its node is replaced in the same pass), scales down from the fullest nodes, and leaves the
 * rest to ServicePlan. Decides from the view alone.
 */
import type { Ids } from '../../base/id.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, TableName } from '../../model/types.ts';
import type { View } from '../store/types.ts';
import { ServiceLoop, type ServiceResult, servicesOfMode, servicesOnNode } from './serviceLoop.ts';
import { ServicePlan } from './servicePlan.ts';
import { groupSlots, type Slot } from './slots.ts';

export class ReplicatedOrchestrator extends ServiceLoop {
  readonly name = 'replicated';
  readonly tables: readonly TableName[] = ['service', 'task', 'node'];
  readonly #ids: Ids;

  constructor(ids: Ids) {
    super();
    this.#ids = ids;
  }

  protected everyService(view: View): Iterable<string> {
    return servicesOfMode(view, 'replicated');
  }

  protected servicesOfNode(view: View, nodeId: string): Iterable<string> {
    return servicesOnNode(view, nodeId);
  }

  protected planService(view: View, serviceId: string, nowMs: number): ServiceResult {
    const service = view.get('service', serviceId);
    if (service?.spec.mode.kind !== 'replicated') return { changes: [] };
    const { replicas } = service.spec.mode;
    const plan = new ServicePlan(view, service, this.#ids, nowMs);
    const slots = groupSlots(view, serviceId, nowMs);
    const occupied = [...slots.values()].filter((slot) => slot.state !== 'empty');
    const extra = new Set(pickExtra(occupied, occupied.length - replicas));
    const staying = [...slots.values()].filter((slot) => !extra.has(slot));
    for (const slot of extra) plan.remove(slot);
    for (const slot of staying) plan.tend(slot);
    for (const number of emptyPlaces(service, slots, replicas - occupied.length)) {
      plan.fill({ slot: number, nodeId: '' }, slots.get(String(number)));
    }
    plan.update(staying);
    return { changes: plan.changes(), wakeAtMs: plan.wakeAtMs };
  }
}

/** `count` slot numbers without a task: those that lost theirs first, then the lowest free ones. */
function emptyPlaces(
  service: Service,
  slots: ReadonlyMap<string, Slot>,
  count: number,
): readonly number[] {
  if (count <= 0) return [];
  const numbers: number[] = [];
  for (const slot of slots.values()) {
    if (slot.state !== 'empty' || slot.newest.desiredState === TaskState.REMOVE) continue;
    if (slot.newest.serviceId === service.id && slot.newest.slot > 0) {
      numbers.push(slot.newest.slot);
    }
  }
  numbers.sort((left, right) => left - right);
  numbers.length = Math.min(numbers.length, count);
  const taken = new Set(numbers);
  for (let number = 1; numbers.length < count; number += 1) {
    const slot = slots.get(String(number));
    if (taken.has(number) || (slot !== undefined && slot.state !== 'empty')) continue;
    numbers.push(number);
  }
  return numbers;
}

/** Slots to give up: not running first, then from the nodes with the most, then high numbers. */
function pickExtra(occupied: readonly Slot[], count: number): readonly Slot[] {
  if (count <= 0) return [];
  const perNode = new Map<string, number>();
  const ranked = [...occupied]
    .sort((left, right) => left.newest.slot - right.newest.slot)
    .map((slot) => {
      const task = slot.live.at(-1) ?? slot.newest;
      const running = slot.live.some(({ status }) => status.state === TaskState.RUNNING);
      const copy = (perNode.get(task.nodeId) ?? 0) + (running ? 1 : 0);
      if (running) perNode.set(task.nodeId, copy);
      return { slot, running, copy };
    });
  ranked.sort(
    (left, right) =>
      Number(left.running) - Number(right.running) ||
      right.copy - left.copy ||
      right.slot.newest.slot - left.slot.newest.slot,
  );
  return ranked.slice(0, count).map(({ slot }) => slot);
}
