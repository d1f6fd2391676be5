/**
 * The states of a task, in order; they only ever move forward. Numbers are Docker's.
 *
 * | state | what is true | moved here by |
 * |---|---|---|
 * | NEW | wanted by an orchestrator | orchestrator |
 * | PENDING | has its addresses, ports checked | allocator |
 * | ASSIGNED | has a node | scheduler |
 * | ACCEPTED | the node has taken it | agent (all below) |
 * | PREPARING | image, networks and volumes are being made ready | |
 * | READY | could start at once | |
 * | STARTING | start was asked for; a health check has not passed yet | |
 * | RUNNING | runs (and is healthy, where there is a check) | |
 * | COMPLETE | ended with exit code 0 by itself | |
 * | SHUTDOWN | ended because it was told to | |
 * | FAILED | ended otherwise after STARTING | |
 * | REJECTED | could not be made ready, or not allowed on the node | |
 * | REMOVE | desired state only: stop it and forget it | |
 * | ORPHANED | its node has been gone for too long to know | reaper |
 */
export const TaskState = {
  NEW: 0,
  PENDING: 64,
  ASSIGNED: 192,
  ACCEPTED: 256,
  PREPARING: 320,
  READY: 384,
  STARTING: 448,
  RUNNING: 512,
  COMPLETE: 576,
  SHUTDOWN: 640,
  FAILED: 704,
  REJECTED: 768,
  REMOVE: 800,
  ORPHANED: 832,
} as const;

export type TaskState = (typeof TaskState)[keyof typeof TaskState];

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(TaskState).map(([name, value]) => [value, name.toLowerCase()]),
);

/** 'running' for 512, as Docker's API spells it. */
export function taskStateName(state: TaskState): string {
  return NAMES.get(state) ?? String(state);
}

export function isTaskState(value: number): value is TaskState {
  return NAMES.has(value);
}

/** Desired of a task that is to run: READY before its time, then RUNNING, or a job's COMPLETE. */
export function isWantedState(desired: TaskState): boolean {
  return desired <= TaskState.COMPLETE;
}

/** It has ended and will never run again. */
export function isTerminal(state: TaskState): boolean {
  return state > TaskState.RUNNING;
}

/** Ended in a way that a restart policy 'on-failure' counts. */
export function isFailure(state: TaskState): boolean {
  return state === TaskState.FAILED || state === TaskState.REJECTED;
}
