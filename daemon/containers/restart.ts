/**
 * Whether a container that ended is started again, and after how long: Docker's restart policies.
 * Pure: the timer and the container are the caller's.
 */
import { SECOND_MS } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import type { ExitRecord } from '../../runtime/container/types.ts';
import type { ContainerRecord, RestartPolicy, StandaloneSpec } from './types.ts';

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 60 * SECOND_MS;
/** One that ran this long starts with the first delay again. */
const STEADY_MS = 10 * SECOND_MS;

export interface Ended {
  readonly exitCode: number;
  readonly ranMs: number;
  /** Stopped or killed by a user. */
  readonly stoppedByUser: boolean;
  /** Restarts by policy since a user last started it. */
  readonly restartCount: number;
  /** Of the last restart; 0 = none yet. */
  readonly lastDelayMs: number;
}

/** SwarmError conflict for a policy that one that goes with its end cannot have. */
export function checkRestart(policy: RestartPolicy, spec: Pick<StandaloneSpec, 'autoRemove'>) {
  if (policy.name === 'no' || !spec.autoRemove) return;
  throw new SwarmError(
    'conflict',
    'Restart policy cannot be updated because AutoRemove is enabled for the container',
  );
}

export function endedAs(exit: ExitRecord, record: ContainerRecord, lastDelayMs: number): Ended {
  return {
    exitCode: exit.exitCode,
    ranMs: exit.startedAtMs === 0 ? 0 : exit.finishedAtMs - exit.startedAtMs,
    stoppedByUser: record.stoppedByUser,
    restartCount: record.restartCount,
    lastDelayMs,
  };
}

/** The delay before the restart; undefined when it stays as it is. */
export function restartDelay(policy: RestartPolicy, ended: Ended): number | undefined {
  if (ended.stoppedByUser || !applies(policy, ended)) return undefined;
  if (ended.lastDelayMs === 0 || ended.ranMs >= STEADY_MS) return FIRST_DELAY_MS;
  return Math.min(MAX_DELAY_MS, ended.lastDelayMs * 2);
}

function applies(policy: RestartPolicy, ended: Ended): boolean {
  switch (policy.name) {
    case 'no':
      return false;
    case 'always':
    case 'unless-stopped':
      return true;
    case 'on-failure': {
      const { maximumRetries } = policy;
      return ended.exitCode !== 0 && (maximumRetries === 0 || ended.restartCount < maximumRetries);
    }
  }
}

/** After the daemon starts: an 'always' container comes back even if a user stopped it. */
export function startsWithDaemon(policy: RestartPolicy, ended: Ended): boolean {
  return applies(policy, ended) && (policy.name === 'always' || !ended.stoppedByUser);
}
