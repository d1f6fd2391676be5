/** The health of a container: what follows from probes, and when they run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  effectiveCheck,
  type Health,
  HealthMonitor,
  healthAfter,
  mergeCheck,
  NO_HEALTH,
} from '../../runtime/container/health.ts';
import type { HealthCheck } from '../../runtime/container/types.ts';
import { ManualClock } from '../support/manualClock.ts';

const CHECK: HealthCheck = {
  test: ['CMD', 'check'],
  intervalMs: 1000,
  timeoutMs: 500,
  retries: 2,
  startPeriodMs: 0,
  startIntervalMs: 0,
};

function result(exitCode: number) {
  return { startedAtMs: 0, finishedAtMs: 0, exitCode, output: '' };
}

interface Watched {
  readonly clock: ManualClock;
  readonly monitor: HealthMonitor;
  readonly seen: Health[];
  probes: number;
}

function watched(check: HealthCheck, exits: (probe: number) => number | 'hangs'): Watched {
  const clock = new ManualClock();
  const seen: Health[] = [];
  const out: Watched = {
    clock,
    seen,
    probes: 0,
    monitor: new HealthMonitor({
      clock,
      check: effectiveCheck(check) ?? check,
      exec: async (signal) => {
        out.probes += 1;
        const exitCode = exits(out.probes);
        if (exitCode !== 'hangs') return { exitCode, output: 'out' };
        return new Promise((resolve) => {
          signal.addEventListener('abort', () => resolve({ exitCode: 137, output: '' }));
        });
      },
      onResult: (health) => seen.push(health),
    }),
  };
  out.monitor.start();
  return out;
}

test('a container is healthy after its first good probe and unhealthy after enough bad ones', () => {
  const good = healthAfter(NO_HEALTH, result(0), CHECK, 0);
  assert.equal(good.status, 'healthy');
  const once = healthAfter(good, result(1), CHECK, 0);
  assert.deepEqual([once.status, once.failingStreak], ['healthy', 1]);
  const twice = healthAfter(once, result(1), CHECK, 0);
  assert.deepEqual([twice.status, twice.failingStreak], ['unhealthy', 2]);
  assert.equal(healthAfter(twice, result(0), CHECK, 0).status, 'healthy');
});

test('failures in the start period do not count until a probe has passed', () => {
  const check = { ...CHECK, retries: 1, startPeriodMs: 5000 };
  const excused = healthAfter(NO_HEALTH, result(1), check, 4999);
  assert.deepEqual([excused.status, excused.failingStreak], ['starting', 0]);
  assert.equal(healthAfter(excused, result(1), check, 5000).status, 'unhealthy');
  const healthy = healthAfter(NO_HEALTH, result(0), check, 10);
  assert.equal(healthAfter(healthy, result(1), check, 20).status, 'unhealthy');
});

test('only the last five results are kept', () => {
  let health = NO_HEALTH;
  for (let exitCode = 0; exitCode < 8; exitCode += 1) {
    health = healthAfter(health, result(exitCode), CHECK, 0);
  }
  assert.deepEqual(
    health.results.map((each) => each.exitCode),
    [3, 4, 5, 6, 7],
  );
});

test('probes run after each interval, one at a time, until the monitor stops', async () => {
  const { clock, monitor, seen } = watched(CHECK, () => 0);
  await clock.advance(999);
  assert.equal(seen.length, 0);
  await clock.advance(1);
  await clock.advance(2000);
  assert.equal(seen.length, 3);
  monitor.stop();
  await clock.advance(5000);
  assert.equal(seen.length, 3);
  assert.equal(clock.waiting, 0);
});

test('a probe that takes too long is ended and counts as failed', async () => {
  const { clock, seen } = watched({ ...CHECK, retries: 1 }, () => 'hangs');
  await clock.advance(1500);
  assert.equal(seen[0]?.status, 'unhealthy');
  assert.equal(seen[0]?.results[0]?.exitCode, -1);
  assert.match(seen[0]?.results[0]?.output ?? '', /exceeded timeout \(0.5s\)/);
});

test('the start interval holds until the container is healthy or its start period is over', async () => {
  const check = { ...CHECK, startPeriodMs: 3000, startIntervalMs: 100 };
  const slow = watched(check, (probe) => (probe < 3 ? 1 : 0));
  await slow.clock.advance(300);
  assert.equal(slow.seen.at(-1)?.status, 'healthy');
  await slow.clock.advance(900);
  assert.equal(slow.probes, 3);
  await slow.clock.advance(100);
  assert.equal(slow.probes, 4);
});

test('a given check overrides the image field by field, and NONE switches it off', () => {
  const merged = mergeCheck(CHECK, { ...CHECK, test: [], intervalMs: 7, timeoutMs: 0 });
  assert.deepEqual([merged?.test, merged?.intervalMs, merged?.timeoutMs], [CHECK.test, 7, 500]);
  assert.equal(effectiveCheck({ ...CHECK, test: ['NONE'] }), undefined);
  assert.equal(effectiveCheck({ ...CHECK, intervalMs: 0 })?.intervalMs, 30_000);
});
