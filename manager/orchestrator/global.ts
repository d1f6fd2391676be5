/**
 * Global services: one task on every node that is up, not drained, and fits the placement. A paused
 * node keeps what it has and gets nothing new; one whose session is only in doubt keeps what it
 * has. The node is the slot. Decides from the view alone.
 */
import type { Steps } from '../../base/slices.ts';
import { fitsPlacement } from '../../model/constraint.ts';
import type { Node, Service } from '../../model/types.ts';
import type { View } from '../store/types.ts';
import { Orchestrator, type ServiceResult, servicesOfMode, servicesOnNode } from './serviceLoop.ts';
import { ServicePlan } from './servicePlan.ts';
import { groupSlots, type Slot } from './slots.ts';

export class GlobalOrchestrator extends Orchestrator {
  readonly name = 'global';

  protected everyService(view: View): Iterable<string> {
    return servicesOfMode(view, 'global');
  }

  /** A node that comes or changes concerns every global service, not only those it runs. */
  protected override servicesOfNode(view: View, nodeId: string): Iterable<string> {
    return new Set([...servicesOfMode(view, 'global'), ...servicesOnNode(view, nodeId)]);
  }

  protected *planService(view: View, serviceId: string, nowMs: number): Steps<ServiceResult> {
    const service = view.get('service', serviceId);
    if (service?.spec.mode.kind !== 'global') return { changes: [] };
    const plan = new ServicePlan(view, service, this.ids, nowMs);
    const slots = yield* groupSlots(view, serviceId);
    /** Slots that an update may replace: a paused node, or one in doubt, is left alone. */
    const updatable: Slot[] = [];
    for (const slot of slots.values()) {
      const node = view.get('node', slot.key);
      if (node !== undefined && mayKeep(service, node)) {
        plan.tend(slot);
        if (mayStart(service, node)) updatable.push(slot);
      } else {
        plan.shutDown(slot);
      }
    }
    for (const node of view.all('node')) {
      const slot = slots.get(node.id);
      if (slot !== undefined && slot.state !== 'empty') continue;
      if (mayStart(service, node)) plan.fill({ slot: 0, nodeId: node.id }, slot);
    }
    plan.update(updatable);
    return { changes: plan.changes(), wakeAtMs: plan.wakeAtMs };
  }
}

export function mayKeep(service: Service, node: Node): boolean {
  if (node.state === 'down' || node.spec.availability === 'drain') return false;
  return fitsPlacement(service.spec.task.placement, node);
}

export function mayStart(service: Service, node: Node): boolean {
  return node.state === 'ready' && node.spec.availability === 'active' && mayKeep(service, node);
}
