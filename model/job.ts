/**
 * What sets jobs apart: services whose tasks run to their end instead of for ever. Their tasks are
 * to reach COMPLETE; nothing of a job is replaced once it has done so. Pure.
 */
import type { ServiceMode } from './types.ts';

export function isJob(mode: ServiceMode): boolean {
  return mode.kind === 'replicated-job' || mode.kind === 'global-job';
}
