/** The task machine as properties over random histories, and its rules one by one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Action,
  ALONE_AFTER_MS,
  FRESH_MEMORY,
  type Outcome,
  STOP_ATTEMPTS,
  type StepInput,
  type StepResult,
  step,
} from '../../agent/step.ts';
import { DEFAULT_RESTART_POLICY } from '../../model/defaults.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import { ASSIGNED_STATUS } from '../support/agentParts.ts';
import { fc } from '../support/properties.ts';

const INPUT: StepInput = {
  desired: TaskState.RUNNING,
  status: ASSIGNED_STATUS,
  memory: FRESH_MEMORY,
  doing: undefined,
  outcome: undefined,
  aloneSinceMs: undefined,
  restart: DEFAULT_RESTART_POLICY,
  memoryLimitBytes: 0,
  nowMs: 0,
  wallMs: 1000,
};
const PREPARED: Outcome = {
  kind: 'prepared',
  prepared: { containerId: 'c1', gatewayAddress: '172.20.0.2' },
};
const STARTED: Outcome = {
  kind: 'started',
  started: { containerId: 'c1', gatewayAddress: '172.20.0.2', pid: 7, isChecked: false },
};

const CHECKED: Outcome = {
  kind: 'started',
  started: { containerId: 'c1', gatewayAddress: '172.20.0.2', pid: 7, isChecked: true },
};
const HEALTHY: Outcome = { kind: 'health', report: { isHealthy: true, error: '' } };
const UNHEALTHY: Outcome = {
  kind: 'health',
  report: { isHealthy: false, error: 'unhealthy container: 3 health checks failed' },
};

function exited(exitCode: number, oomKilled = false, error = ''): Outcome {
  return { kind: 'exited', exit: { exitCode, oomKilled, error } };
}

function failed(action: Action, exitCode = 0): Outcome {
  return { kind: 'failed', action, error: 'it broke', exitCode };
}

function after(before: StepResult, more: Partial<StepInput>): StepResult {
  return step({ ...INPUT, status: before.status, memory: before.memory, ...more });
}

function running(): StepResult {
  const preparing = step(INPUT);
  const starting = after(preparing, { outcome: PREPARED });
  return after(starting, { outcome: STARTED });
}

test('an assigned task is prepared, started and waited for, each stretch stamped', () => {
  const preparing = step(INPUT);
  assert.equal(preparing.action, 'prepare');
  assert.equal(preparing.status.state, TaskState.PREPARING);
  const starting = after(preparing, { outcome: PREPARED, wallMs: 1004 });
  assert.equal(starting.action, 'start');
  assert.equal(starting.status.containerId, 'c1');
  const run = after(starting, { outcome: STARTED, wallMs: 1006 });
  assert.equal(run.action, 'wait');
  assert.equal(run.status.state, TaskState.RUNNING);
  assert.equal(run.status.pid, 7);
  assert.deepEqual(run.status.phases, {
    192: 1,
    256: 1000,
    320: 1000,
    384: 1004,
    448: 1004,
    512: 1006,
  });
});

test('a task wanted READY is prepared and pauses there until RUNNING is wanted', () => {
  const desired = TaskState.READY;
  const preparing = step({ ...INPUT, desired });
  const ready = after(preparing, { desired, outcome: PREPARED });
  assert.equal(ready.status.state, TaskState.READY);
  assert.equal(ready.action, undefined);
  assert.equal(after(ready, {}).action, 'start');
});

test('a failure before STARTING rejects the task, after it fails it', () => {
  const rejected = after(step(INPUT), { outcome: failed('prepare') });
  assert.equal(rejected.status.state, TaskState.REJECTED);
  assert.equal(rejected.status.error, 'it broke');
  const starting = after(step(INPUT), { outcome: PREPARED });
  const notExecuted = after(starting, { outcome: failed('start', 127) });
  assert.equal(notExecuted.status.state, TaskState.FAILED);
  assert.equal(notExecuted.status.exitCode, 127);
});

test('a program that ends by itself completes, or fails with its exit code in Docker words', () => {
  assert.equal(after(running(), { outcome: exited(0) }).status.state, TaskState.COMPLETE);
  const crash = after(running(), { outcome: exited(3) }).status;
  assert.equal(crash.state, TaskState.FAILED);
  assert.equal(crash.error, 'task: non-zero exit (3)');
  assert.equal(crash.exitCode, 3);
  assert.equal(crash.pid, 0);
  const lost = after(running(), { outcome: exited(0, false, 'supervisor lost') }).status;
  assert.equal(lost.state, TaskState.FAILED);
  assert.equal(lost.error, 'supervisor lost');
});

test('a program killed for memory says so with its limit', () => {
  const outcome = exited(137, true);
  const { status } = after(running(), { outcome, memoryLimitBytes: 64 * 1024 * 1024 });
  assert.equal(
    status.error,
    'task: non-zero exit (137): OOM killed: its memory limit of 64MiB was reached',
  );
  assert.equal(status.oomKilled, true);
});

test('a task told to stop is shut down whatever its exit code', () => {
  const desired = TaskState.SHUTDOWN;
  const stopping = after(running(), { desired, doing: 'wait' });
  assert.equal(stopping.action, 'shutdown');
  const exit = { exitCode: 143, oomKilled: false, error: '' };
  const { status } = after(stopping, { desired, outcome: { kind: 'stopped', exit } });
  assert.equal(status.state, TaskState.SHUTDOWN);
  assert.equal(status.exitCode, 143);
  assert.equal(status.error, '');
});

test('a task told to stop before anything began is shut down at once', () => {
  const { status, action } = step({ ...INPUT, desired: TaskState.REMOVE });
  assert.equal(status.state, TaskState.SHUTDOWN);
  assert.equal(action, undefined);
});

test('a task told to stop while it is prepared aborts that, then shuts down', () => {
  const desired = TaskState.SHUTDOWN;
  const preparing = step(INPUT);
  const told = after(preparing, { desired, doing: 'prepare' });
  assert.equal(told.abort, true);
  assert.equal(told.action, undefined);
  const aborted = after(told, { desired, outcome: failed('prepare') });
  assert.equal(aborted.action, 'shutdown');
  assert.equal(aborted.status.state, TaskState.PREPARING);
});

test('a stop that fails is tried again, and after a bound the task fails with the reason', () => {
  const desired = TaskState.SHUTDOWN;
  let now = after(running(), { desired });
  for (let attempt = 1; attempt < STOP_ATTEMPTS; attempt += 1) {
    now = after(now, { desired, outcome: failed('shutdown'), nowMs: attempt * 5000 });
    assert.equal(now.action, undefined);
    assert.ok(now.wakeAtMs !== undefined && now.wakeAtMs > attempt * 5000);
    now = after(now, { desired, nowMs: now.wakeAtMs });
    assert.equal(now.action, 'shutdown');
  }
  now = after(now, { desired, outcome: failed('shutdown') });
  assert.equal(now.status.state, TaskState.FAILED);
  assert.equal(now.status.error, 'cannot be stopped: it broke');
});

test('without a manager a crash is held, then restarted in place after delay and grace', () => {
  const alone = { aloneSinceMs: 100 };
  const hold = after(running(), { ...alone, outcome: exited(1), nowMs: 200 });
  assert.equal(hold.status.state, TaskState.RUNNING);
  assert.equal(hold.wakeAtMs, 100 + ALONE_AFTER_MS);
  const restart = after(hold, { ...alone, nowMs: 100 + ALONE_AFTER_MS });
  assert.equal(restart.action, 'restart');
  const back = after(restart, { ...alone, outcome: STARTED, nowMs: 20_000 });
  assert.equal(back.action, 'wait');
  assert.equal(back.status.message, 'restarted without a manager');
});

test('a manager that comes back before the restart is told of the crash instead', () => {
  const hold = after(running(), { aloneSinceMs: 100, outcome: exited(1), nowMs: 200 });
  const told = after(hold, { nowMs: 300 });
  assert.equal(told.status.state, TaskState.FAILED);
  assert.equal(told.status.error, 'task: non-zero exit (1)');
});

test('without a manager the restart policy is kept: condition, attempts, window', () => {
  const aloneSinceMs = 0;
  const restart = { ...DEFAULT_RESTART_POLICY, condition: 'on-failure', maxAttempts: 1 } as const;
  const fine = after(running(), { aloneSinceMs, restart, outcome: exited(0) });
  assert.equal(fine.status.state, TaskState.COMPLETE);
  const first = after(running(), { aloneSinceMs, restart, outcome: exited(1), nowMs: 20_000 });
  const again = after(first, { aloneSinceMs, restart, nowMs: 30_000 });
  assert.equal(again.action, 'restart');
  const up = after(again, { aloneSinceMs, restart, outcome: STARTED, nowMs: 30_001 });
  const second = after(up, { aloneSinceMs, restart, outcome: exited(1), nowMs: 30_002 });
  assert.equal(second.status.state, TaskState.FAILED);
  const none = { ...restart, condition: 'none' } as const;
  const never = after(running(), { aloneSinceMs, restart: none, outcome: exited(1) });
  assert.equal(never.status.state, TaskState.FAILED);
});

const DESIRED = [TaskState.READY, TaskState.RUNNING, TaskState.SHUTDOWN, TaskState.REMOVE] as const;
const event = fc.record({
  desired: fc.constantFrom(...DESIRED),
  alone: fc.boolean(),
  waitMs: fc.nat({ max: 20_000 }),
  finishes: fc.boolean(),
  fails: fc.boolean(),
  exitCode: fc.constantFrom(0, 1, 137),
  health: fc.constantFrom(undefined, HEALTHY, UNHEALTHY),
});

function outcomeOf(action: Action, fails: boolean, exitCode: number, isChecked: boolean): Outcome {
  if (fails) return failed(action, exitCode);
  switch (action) {
    case 'prepare':
      return PREPARED;
    case 'start':
    case 'restart':
      return isChecked ? CHECKED : STARTED;
    case 'wait':
      return exited(exitCode);
    case 'shutdown':
      return { kind: 'stopped', exit: undefined };
  }
}

test('a task only moves forward, does one thing at a time and ends for good', () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), fc.boolean(), (events, isChecked) => {
      let { desired, status, memory } = INPUT as StepInput;
      let doing: Action | undefined;
      let nowMs = 0;
      let aloneSinceMs: number | undefined;
      for (const next of events) {
        nowMs += next.waitMs;
        if (next.desired > desired) desired = next.desired;
        aloneSinceMs = next.alone ? (aloneSinceMs ?? nowMs) : undefined;
        let outcome: Outcome | undefined;
        if (doing === 'wait' && isChecked && next.health !== undefined) {
          outcome = next.health;
        } else if (doing !== undefined && next.finishes) {
          outcome = outcomeOf(doing, next.fails, next.exitCode, isChecked);
          doing = undefined;
        }
        const result = step({
          ...INPUT,
          desired,
          status,
          memory,
          doing,
          outcome,
          aloneSinceMs,
          nowMs,
          wallMs: 1000 + nowMs,
        });
        assert.ok(result.status.state >= status.state, 'forward only');
        if (isTerminal(status.state)) assert.deepEqual(result.status, status);
        if (isTerminal(result.status.state)) assert.equal(result.action, undefined);
        if (result.action !== undefined) {
          const replaces = doing === 'wait' && result.action === 'shutdown';
          assert.ok(doing === undefined || replaces, 'one action at a time');
          doing = result.action;
        }
        if (result.wakeAtMs !== undefined) assert.ok(result.wakeAtMs > nowMs, 'wakes later');
        const idle = doing === undefined && result.wakeAtMs === undefined;
        const paused = result.status.state === TaskState.READY && desired === TaskState.READY;
        if (idle && !paused) assert.ok(isTerminal(result.status.state), 'nothing is left undone');
        status = result.status;
        memory = result.memory;
      }
      const stamps = Object.entries(status.phases).map(([state, atMs]) => [Number(state), atMs]);
      for (let at = 1; at < stamps.length; at += 1) {
        assert.ok(stamps[at][1] >= stamps[at - 1][1], 'phases in order');
      }
    }),
    { numRuns: 2000 },
  );
});

function startedUnchecked(): StepResult {
  return after(after(step(INPUT), { outcome: PREPARED }), { outcome: CHECKED });
}

test('a task with a health check stays STARTING until that has passed', () => {
  const starting = startedUnchecked();
  assert.equal(starting.status.state, TaskState.STARTING);
  assert.equal(starting.status.pid, 7);
  assert.equal(starting.action, 'wait');
  const running = after(starting, { doing: 'wait', outcome: HEALTHY, wallMs: 1009 });
  assert.equal(running.status.state, TaskState.RUNNING);
  assert.equal(running.status.phases[TaskState.RUNNING], 1009);
  assert.equal(running.action, undefined, 'it is waited for already');
});

test('a task that never becomes healthy is shut down and FAILED with the reason', () => {
  const stopping = after(startedUnchecked(), { doing: 'wait', outcome: UNHEALTHY });
  assert.equal(stopping.action, 'shutdown');
  assert.equal(stopping.status.state, TaskState.STARTING);
  const stopped: Outcome = {
    kind: 'stopped',
    exit: { exitCode: 143, oomKilled: false, error: '' },
  };
  const failed = after(stopping, { outcome: stopped });
  assert.equal(failed.status.state, TaskState.FAILED);
  assert.equal(failed.status.exitCode, 143);
  assert.match(failed.status.error, /^unhealthy container: 3 health checks failed/);
});

test('a running task that turns unhealthy says so at once, then is stopped and fails', () => {
  const starting = startedUnchecked();
  const running = after(starting, { doing: 'wait', outcome: HEALTHY });
  const stopping = after(running, { doing: 'wait', outcome: UNHEALTHY });
  assert.equal(stopping.action, 'shutdown');
  assert.equal(stopping.status.state, TaskState.RUNNING);
  assert.match(stopping.status.error, /^unhealthy container/);
  const failed = after(stopping, { outcome: { kind: 'stopped', exit: undefined } });
  assert.equal(failed.status.state, TaskState.FAILED);
});

test('an unhealthy task that ends, or is told to, is not called unhealthy for that', () => {
  const stopping = after(startedUnchecked(), { doing: 'wait', outcome: UNHEALTHY });
  const told = after(stopping, {
    desired: TaskState.SHUTDOWN,
    outcome: { kind: 'stopped', exit: { exitCode: 0, oomKilled: false, error: '' } },
  });
  assert.equal(told.status.state, TaskState.SHUTDOWN);
});

test('without a manager an unhealthy task is restarted in place', () => {
  const alone = { aloneSinceMs: 0, nowMs: 50_000 };
  const running = after(startedUnchecked(), { doing: 'wait', outcome: HEALTHY });
  const stopping = after(running, { ...alone, doing: 'wait', outcome: UNHEALTHY });
  const held = after(stopping, { ...alone, outcome: { kind: 'stopped', exit: undefined } });
  assert.equal(held.status.state, TaskState.RUNNING);
  assert.equal(after(held, { ...alone, nowMs: 60_000 }).action, 'restart');
});
