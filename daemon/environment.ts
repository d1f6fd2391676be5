/**
 * What a process has exactly one of (clock, randomness, ids, log) and how it is told to run: handed
 * to everything in the daemon through constructors.
 */
import type { Clock } from '../base/clock.ts';
import type { Ids } from '../base/id.ts';
import type { Log, LogLevel } from '../base/log.ts';
import type { Random } from '../base/random.ts';

export interface Environment {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  /** The process cannot go on truthfully: it says why and ends. */
  readonly fatal: (error: unknown) => void;
}

export interface DaemonOptions {
  /** State that outlives a boot. */
  readonly dataRoot: string;
  /** Sockets, pids, exit records: gone after a boot. */
  readonly execRoot: string;
  /** Path of the API's unix socket. */
  readonly socket: string;
  /** Subtree of every cgroup hierarchy that containers live in. */
  readonly cgroupParent: string;
  readonly logLevel: LogLevel;
  readonly insecureRegistries: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly version: string;
}
