/**
 * How often agents are asked for a sign of life, by what the user set: a tenth of the dispatcher's
 * heartbeat, but every half second while that is Docker's default or less. Whoever listens judges
 * silence by the same number. It reads a setting and keeps nothing.
 */
import { DEFAULT_CLUSTER_SPEC } from '../model/defaults.ts';
import type { Cluster } from '../model/types.ts';

/** At Docker's default of 5 s, and below: a lost host is to be found within two seconds or so. */
export const HEARTBEAT_MS = 500;

export function heartbeatMs(cluster: Cluster | undefined): number {
  const { heartbeatPeriodMs: usualMs } = DEFAULT_CLUSTER_SPEC;
  const setMs = cluster?.spec.heartbeatPeriodMs ?? usualMs;
  return Math.max(HEARTBEAT_MS, Math.round((setMs / usualMs) * HEARTBEAT_MS));
}
