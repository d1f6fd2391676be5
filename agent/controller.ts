/**
 * What the task machine knows of whatever runs a task: a Controller drives one task, an Executor
 * makes controllers and finds what an earlier process left running. The container kind is in
 * containerController.ts; nothing here knows the runtime.
 */
import type { Task } from '../model/types.ts';

export interface Prepared {
  readonly containerId: string;
  /** Address on the host's gateway bridge; '' when it has none. */
  readonly gatewayAddress: string;
}

export interface Started extends Prepared {
  readonly pid: number;
  /** It has a health check, which has not passed yet: it counts as started when it has. */
  readonly isChecked: boolean;
}

/** What its health check says; told when that changes. */
export interface HealthReport {
  readonly isHealthy: boolean;
  /** Why it is not, in one line. */
  readonly error: string;
}

/** How a task's program ended. `error` is '' or one line that says why it was not the program. */
export interface Exit {
  readonly exitCode: number;
  readonly oomKilled: boolean;
  readonly error: string;
}

/** All calls are repeatable: after a restart of the daemon they go on with what they find. */
export interface Controller {
  /** Makes everything ready so that `start` is quick. Undone whole if it fails or is aborted. */
  prepare(signal: AbortSignal): Promise<Prepared>;
  /** Resolves once the program runs (at once if it runs already). */
  start(): Promise<Started>;
  /**
   * Runs its health check, if it has one, from now until the returned stop is called. `wasHealthy`:
   * an earlier process found it so. Call once the program runs.
   */
  watchHealth(wasHealthy: boolean, tell: (report: HealthReport) => void): () => void;
  /** Resolves when the program has ended, or at once with a reason if it is not there. */
  wait(): Promise<Exit>;
  /** Stops it: stop signal, then force after `graceMs`. Undefined when nothing ever ran. */
  shutdown(graceMs: number): Promise<Exit | undefined>;
  /** Gives back what an ended task no longer needs (its network); logs stay. */
  release(): Promise<void>;
  /** Removes every trace. */
  remove(): Promise<void>;
}

export interface TaskLogQuery {
  readonly follow: boolean;
  readonly sinceNs: bigint;
  /** -1 = all. */
  readonly tail: number;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

export interface TaskLogRecord {
  readonly timeNs: bigint;
  readonly stream: 'stdout' | 'stderr';
  readonly data: Uint8Array;
}

export interface Executor {
  controller(task: Task): Controller;
  /** Task ids that something on this host belongs to, from whatever time. */
  present(): readonly string[];
  /** Stops and removes what belongs to a task that nobody assigned. */
  removeStray(taskId: string): Promise<void>;
  /** SwarmError not_found when the task has nothing here. */
  logs(taskId: string, query: TaskLogQuery, signal: AbortSignal): AsyncIterable<TaskLogRecord>;
}
