/**
 * Replicated services: as many slots as the service wants replicas. Fills empty slots (a task lost
 * with its node is replaced in the same pass), scales down from the fullest nodes, and leaves the
 * rest to ServicePlan. Decides from the view alone.
 */
import { ITEMS_PER_STEP, type Steps } from '../../base/slices.ts';
import { TaskState } from '../../model/taskState.ts';
import { activeConfig } from '../placement/order.ts';
import type { View } from '../store/types.ts';
import { Orchestrator, type ServiceResult, servicesOfMode } from './serviceLoop.ts';
import { ServicePlan } from './servicePlan.ts';
import { groupSlots, type Slot } from './slots.ts';

export class ReplicatedOrchestrator extends Orchestrator {
  readonly name = 'replicated';

  protected everyService(view: View): Iterable<string> {
    return servicesOfMode(view, 'replicated');
  }

  protected *planService(view: View, serviceId: string, nowMs: number): Steps<ServiceResult> {
    const service = view.get('service', serviceId);
    if (service?.spec.mode.kind !== 'replicated') return { changes: [] };
    const { replicas } = service.spec.mode;
    const plan = new ServicePlan(view, service, this.ids, nowMs);
    const startFirst = activeConfig(service).order === 'start-first';
    const slots = yield* groupSlots(view, serviceId, startFirst);
    const occupied = [...slots.values()].filter((slot) => slot.state !== 'empty');
    const extra = new Set(pickExtra(occupied, occupied.length - replicas));
    const places = emptyPlaces(slots, replicas - occupied.length);
    const staying: Slot[] = [];
    let tended = 0;
    for (const slot of slots.values()) {
      tended += 1;
      if (tended % ITEMS_PER_STEP === 0) yield;
      if (extra.has(slot) || (slot.state === 'empty' && !places.has(slot.key))) {
        plan.remove(slot);
        continue;
      }
      plan.tend(slot);
      staying.push(slot);
    }
    for (const [key, slot] of places) plan.fill({ slot, nodeId: '' }, slots.get(key));
    plan.update(staying);
    return { changes: plan.changes(), wakeAtMs: plan.wakeAtMs };
  }
}

/** `count` slots without a task: those that lost theirs first, then the lowest free numbers. */
function emptyPlaces(slots: ReadonlyMap<string, Slot>, count: number): Map<string, number> {
  const places = new Map<string, number>();
  if (count <= 0) return places;
  const lost = [...slots.values()]
    .filter(({ state, newest }) => state === 'empty' && newest.desiredState < TaskState.REMOVE)
    .map(({ newest }) => newest.slot)
    .sort((left, right) => left - right);
  for (const number of lost.slice(0, count)) places.set(String(number), number);
  for (let number = 1; places.size < count; number += 1) {
    const slot = slots.get(String(number));
    if (slot === undefined || slot.state === 'empty') places.set(String(number), number);
  }
  return places;
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
