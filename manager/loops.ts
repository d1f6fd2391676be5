/**
 * The loops of this manager, in the order in which an object passes them. Each is handed to the
 * driver (loop.ts), which gives every one its own passes and proposals; they share nothing but the
 * store, so the list is all there is to know about them together.
 */
import type { Ids } from '../base/id.ts';
import { Allocator } from './allocator/allocator.ts';
import { RootRotationLoop } from './ca/rotation.ts';
import { AttachmentReaper } from './orchestrator/attachments.ts';
import { ConstraintEnforcer } from './orchestrator/enforcer.ts';
import { GlobalOrchestrator } from './orchestrator/global.ts';
import { JobOrchestrator } from './orchestrator/jobs.ts';
import { Reaper } from './orchestrator/reaper.ts';
import { ReplicatedOrchestrator } from './orchestrator/replicated.ts';
import { Rebalancer } from './rebalancer/rebalancer.ts';
import { Scheduler } from './scheduler/scheduler.ts';
import type { Loop } from './store/types.ts';

/** New loops, with nothing remembered. */
export function managerLoops(ids: Ids): readonly Loop[] {
  return [
    new ReplicatedOrchestrator(ids),
    new GlobalOrchestrator(ids),
    new JobOrchestrator(ids),
    new ConstraintEnforcer(),
    new Allocator(),
    new Scheduler(),
    new Reaper(),
    new AttachmentReaper(),
    new RootRotationLoop(),
    new Rebalancer(ids),
  ];
}
