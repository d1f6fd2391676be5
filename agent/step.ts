/**
 * One step of the task machine as a function: what is wanted, what is observed and what the last
 * action brought go in; the new status and the next action come out. No clock, promise or callback.
 *
 * | state | next while RUNNING is wanted | taken by | while SHUTDOWN or REMOVE is wanted |
 * |---|---|---|---|
 * | below ACCEPTED, ACCEPTED | PREPARING | `toward` | SHUTDOWN at once |
 * | PREPARING | READY, or REJECTED | 'prepare' | 'prepare' is aborted, then 'shutdown' |
 * | READY | STARTING (pauses while READY is wanted) | `toward` | 'shutdown' |
 * | STARTING | RUNNING, or FAILED | 'start' | 'start' ends, then 'shutdown' |
 * | STARTING, runs but is not healthy yet | RUNNING, or FAILED | 'wait' | 'shutdown' |
 * | RUNNING | COMPLETE or FAILED | 'wait' | 'shutdown' |
 * | above RUNNING | none: it never runs again | | |
 *
 * One that turns unhealthy says so in `error` at once (so it is in no balance any more), is shut
 * down, and FAILED. A program that ends while no manager can be reached is held and restarted in
 * place (`held`).
 */
import { formatBytes } from '../base/bytes.ts';
import { isTerminal, TaskState } from '../model/taskState.ts';
import type { RestartPolicy, TaskStatus } from '../model/types.ts';
import type { Exit, HealthReport, Prepared, Started } from './controller.ts';

export type Action = 'prepare' | 'start' | 'wait' | 'shutdown' | 'restart';

export type Outcome =
  | { readonly kind: 'prepared'; readonly prepared: Prepared }
  | { readonly kind: 'started'; readonly started: Started }
  | { readonly kind: 'exited'; readonly exit: Exit }
  /** Comes beside the action under way, which goes on. */
  | { readonly kind: 'health'; readonly report: HealthReport }
  | { readonly kind: 'stopped'; readonly exit: Exit | undefined }
  | {
      readonly kind: 'failed';
      readonly action: Action;
      /** One readable line. */
      readonly error: string;
      /** Of a program that could not be executed (126, 127); else 0. */
      readonly exitCode: number;
    };

/** What the machine remembers between steps besides the status. */
export interface StepMemory {
  readonly heldExit: { readonly exit: Exit; readonly atMs: number } | undefined;
  /** When the program was restarted in place (monotonic ms). */
  readonly restartsAtMs: readonly number[];
  readonly stopFailures: number;
  readonly stopRetryAtMs: number;
  /** It runs, and its health check has not passed yet. */
  readonly awaitsHealth: boolean;
  /** Why it is being stopped though it is wanted; '' when it is not. */
  readonly unhealthy: string;
}

export interface StepInput {
  readonly desired: TaskState;
  readonly status: TaskStatus;
  readonly memory: StepMemory;
  /** The action under way. */
  readonly doing: Action | undefined;
  readonly outcome: Outcome | undefined;
  /** Monotonic ms since when no manager can be reached; undefined while one can. */
  readonly aloneSinceMs: number | undefined;
  readonly restart: RestartPolicy;
  readonly memoryLimitBytes: number;
  /** Monotonic, and wall clock for the stamps. */
  readonly nowMs: number;
  readonly wallMs: number;
}

export interface StepResult {
  readonly status: TaskStatus;
  readonly memory: StepMemory;
  /** To begin now; replaces a 'wait' under way. */
  readonly action: Action | undefined;
  /** The action under way should end early. */
  readonly abort: boolean;
  /** Step again at this monotonic time at the latest. */
  readonly wakeAtMs: number | undefined;
}

export const FRESH_MEMORY: StepMemory = {
  heldExit: undefined,
  restartsAtMs: [],
  stopFailures: 0,
  stopRetryAtMs: 0,
  awaitsHealth: false,
  unhealthy: '',
};

/** A manager gone for less than this is probably being replaced: its successor decides. */
export const ALONE_AFTER_MS = 10_000;
/** After so many failed stops the task is called failed with the reason. */
export const STOP_ATTEMPTS = 10;
export const STOP_RETRY_MS = 1000;

/** Pure. The state of the returned status is never below the given one. */
export function step(input: StepInput): StepResult {
  const settled = input.outcome === undefined ? input : settle(input, input.outcome);
  const next: StepInput = { ...input, ...settled, outcome: undefined };
  if (isTerminal(next.status.state)) return result(next, {});
  if (next.desired >= TaskState.SHUTDOWN || next.memory.unhealthy !== '') return stopping(next);
  if (next.memory.heldExit !== undefined) return held(next, next.memory.heldExit);
  return toward(next);
}

type Settled = Pick<StepInput, 'status' | 'memory'>;

function result(input: Settled, more: Partial<StepResult>): StepResult {
  return {
    status: input.status,
    memory: input.memory,
    action: undefined,
    abort: false,
    wakeAtMs: undefined,
    ...more,
  };
}

/** `status` moved to `state` now, stamped; unchanged if that would be backwards. */
export function advance(
  status: TaskStatus,
  state: TaskState,
  wallMs: number,
  more: Partial<TaskStatus>,
): TaskStatus {
  if (state < status.state) return status;
  const phases = status.phases[state] === undefined ? { [state]: wallMs } : {};
  return { ...status, ...more, state, atMs: wallMs, phases: { ...status.phases, ...phases } };
}

function settle(input: StepInput, outcome: Outcome): Settled {
  const { status, memory, wallMs } = input;
  switch (outcome.kind) {
    case 'prepared':
      return {
        memory,
        status: advance(status, TaskState.READY, wallMs, {
          ...outcome.prepared,
          message: 'prepared',
        }),
      };
    case 'started':
      return settleStart(input, outcome.started);
    case 'health':
      return settleHealth(input, outcome.report);
    case 'exited':
      return settleExit(input, outcome.exit);
    case 'stopped':
      if (memory.unhealthy !== '' && input.desired < TaskState.SHUTDOWN) {
        const exit = outcome.exit ?? { exitCode: 0, oomKilled: false };
        const { awaitsHealth, unhealthy } = FRESH_MEMORY;
        const healed = { ...input, memory: { ...memory, awaitsHealth, unhealthy } };
        return settleExit(healed, { ...exit, error: memory.unhealthy });
      }
      return {
        memory,
        status: advance(status, TaskState.SHUTDOWN, wallMs, {
          message: 'shutdown',
          pid: 0,
          exitCode: outcome.exit?.exitCode ?? 0,
          oomKilled: outcome.exit?.oomKilled ?? false,
        }),
      };
    case 'failed':
      return settleFailure(input, outcome);
  }
}

/** One with a health check stays STARTING until that has passed. */
function settleStart(input: StepInput, started: Started): Settled {
  const { memory, status, wallMs } = input;
  const { isChecked, ...facts } = started;
  if (isChecked && status.state < TaskState.RUNNING) {
    const more = { ...facts, message: 'started, not healthy yet' };
    return {
      memory: { ...memory, awaitsHealth: true },
      status: advance(status, TaskState.STARTING, wallMs, more),
    };
  }
  const message = memory.restartsAtMs.length === 0 ? 'started' : 'restarted without a manager';
  return { memory, status: advance(status, TaskState.RUNNING, wallMs, { ...facts, message }) };
}

function settleHealth(input: StepInput, report: HealthReport): Settled {
  const { memory, status, wallMs } = input;
  if (isTerminal(status.state) || input.desired >= TaskState.SHUTDOWN) return { memory, status };
  if (report.isHealthy) {
    if (!memory.awaitsHealth) return { memory, status };
    return {
      memory: { ...memory, awaitsHealth: false },
      status: advance(status, TaskState.RUNNING, wallMs, { message: 'started and healthy' }),
    };
  }
  const more = { message: 'unhealthy, being stopped', error: report.error };
  return {
    memory: { ...memory, unhealthy: report.error },
    status: advance(status, status.state, wallMs, more),
  };
}

function settleExit(input: StepInput, exit: Exit): Settled {
  const alone = input.aloneSinceMs !== undefined && input.desired < TaskState.SHUTDOWN;
  if (alone && mayRestart(input, exit)) {
    return {
      status: input.status,
      memory: { ...input.memory, heldExit: { exit, atMs: input.nowMs } },
    };
  }
  return { status: ended(input, exit), memory: { ...input.memory, heldExit: undefined } };
}

function settleFailure(input: StepInput, failure: Extract<Outcome, { kind: 'failed' }>): Settled {
  const { status, memory, wallMs } = input;
  if (failure.action === 'shutdown') {
    const stopFailures = memory.stopFailures + 1;
    if (stopFailures >= STOP_ATTEMPTS) {
      const error = `cannot be stopped: ${failure.error}`;
      return { memory, status: advance(status, TaskState.FAILED, wallMs, { error }) };
    }
    const stopRetryAtMs = input.nowMs + STOP_RETRY_MS;
    return { status, memory: { ...memory, stopFailures, stopRetryAtMs } };
  }
  if (input.desired >= TaskState.SHUTDOWN) return { status, memory };
  if (failure.action === 'restart' || failure.action === 'wait') {
    return settleExit(input, {
      exitCode: failure.exitCode,
      oomKilled: false,
      error: failure.error,
    });
  }
  const state = status.state < TaskState.STARTING ? TaskState.REJECTED : TaskState.FAILED;
  return {
    memory,
    status: advance(status, state, wallMs, {
      error: failure.error,
      exitCode: failure.exitCode,
      pid: 0,
    }),
  };
}

/** The status of a task whose program has ended. */
function ended(input: StepInput, exit: Exit): TaskStatus {
  const facts = { pid: 0, exitCode: exit.exitCode, oomKilled: exit.oomKilled };
  if (input.desired >= TaskState.SHUTDOWN) {
    const more = { ...facts, message: 'shutdown' };
    return advance(input.status, TaskState.SHUTDOWN, input.wallMs, more);
  }
  if (exit.exitCode === 0 && exit.error === '') {
    const more = { ...facts, message: 'finished' };
    return advance(input.status, TaskState.COMPLETE, input.wallMs, more);
  }
  const error = exitLine(exit, input.memoryLimitBytes);
  return advance(input.status, TaskState.FAILED, input.wallMs, { ...facts, error });
}

function exitLine(exit: Exit, memoryLimitBytes: number): string {
  if (exit.error !== '') return exit.error;
  const line = `task: non-zero exit (${exit.exitCode})`;
  if (!exit.oomKilled) return line;
  if (memoryLimitBytes === 0) return `${line}: OOM killed: the host ran out of memory`;
  return `${line}: OOM killed: its memory limit of ${formatBytes(memoryLimitBytes)} was reached`;
}

function mayRestart(input: StepInput, exit: Exit): boolean {
  const { condition, maxAttempts, windowMs } = input.restart;
  if (condition === 'none') return false;
  // What is wanted COMPLETE is a job's, which ends for good.
  const isOnce = condition === 'on-failure' || input.desired === TaskState.COMPLETE;
  if (isOnce && exit.exitCode === 0 && exit.error === '') return false;
  if (maxAttempts === 0) return true;
  const since = windowMs === 0 ? Number.NEGATIVE_INFINITY : input.nowMs - windowMs;
  return input.memory.restartsAtMs.filter((atMs) => atMs >= since).length < maxAttempts;
}

/** A program ended while no manager was there: report it to one that came, or restart in place. */
function held(input: StepInput, hold: { exit: Exit; atMs: number }): StepResult {
  const memory = { ...input.memory, heldExit: undefined };
  if (input.aloneSinceMs === undefined) {
    return result({ memory, status: ended(input, hold.exit) }, {});
  }
  const dueMs = Math.max(hold.atMs + input.restart.delayMs, input.aloneSinceMs + ALONE_AFTER_MS);
  if (input.nowMs < dueMs) return result(input, { wakeAtMs: dueMs });
  const restartsAtMs = keptRestarts(input);
  return result(
    { status: input.status, memory: { ...memory, restartsAtMs } },
    { action: 'restart' },
  );
}

/** As many past restarts as a policy can ask about, so that the list stays short. */
function keptRestarts(input: StepInput): readonly number[] {
  const kept = Math.max(1, input.restart.maxAttempts);
  return [...input.memory.restartsAtMs, input.nowMs].slice(-kept);
}

function stopping(input: StepInput): StepResult {
  if (input.status.state < TaskState.PREPARING) {
    const more = { message: 'shutdown' };
    const status = advance(input.status, TaskState.SHUTDOWN, input.wallMs, more);
    return result({ ...input, status }, {});
  }
  if (input.doing === 'shutdown') return result(input, {});
  if (input.doing !== undefined && input.doing !== 'wait') return result(input, { abort: true });
  if (input.nowMs < input.memory.stopRetryAtMs) {
    return result(input, { wakeAtMs: input.memory.stopRetryAtMs });
  }
  return result(input, { action: 'shutdown' });
}

/** The way up to the desired state (READY, RUNNING or COMPLETE). */
function toward(input: StepInput): StepResult {
  if (input.doing !== undefined) return result(input, {});
  let { status } = input;
  const move = (state: TaskState, message: string): void => {
    status = advance(status, state, input.wallMs, { message });
  };
  if (status.state < TaskState.ACCEPTED) move(TaskState.ACCEPTED, 'accepted');
  if (status.state === TaskState.ACCEPTED) move(TaskState.PREPARING, 'preparing');
  if (status.state === TaskState.PREPARING) {
    return result({ ...input, status }, { action: 'prepare' });
  }
  if (status.state === TaskState.READY) {
    if (input.desired <= TaskState.READY) return result({ ...input, status }, {});
    move(TaskState.STARTING, 'starting');
  }
  const toStart = status.state === TaskState.STARTING && !input.memory.awaitsHealth;
  const action = toStart ? 'start' : 'wait';
  return result({ ...input, status }, { action });
}
