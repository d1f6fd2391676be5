/** The clock that production has: what Node's own timers do not do. */
import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';

const DAY_MS = 86_400_000;

test('a shorter timer comes before one of many weeks', async () => {
  // Node's own timers end at 2^31 ms, and fire at once beyond it.
  const clock = new SystemClock();
  const fired: string[] = [];
  const long = [clock.after(60 * DAY_MS, () => fired.push('after'))];
  long.push(clock.afterIdle(60 * DAY_MS, () => fired.push('idle')));
  await clock.sleep(20); // time itself: one that began at the limit would have fired at once
  for (const timer of long) timer.cancel();
  assert.deepEqual(fired, []);
});

test('a timer of many weeks waits for all of them, and can be cancelled on the way', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const clock = new SystemClock();
    const fired: string[] = [];
    clock.after(60 * DAY_MS, () => fired.push('after'));
    clock.afterIdle(50 * DAY_MS, () => fired.push('idle'));
    const cancelled = clock.after(60 * DAY_MS, () => fired.push('cancelled'));
    mock.timers.tick(1);
    assert.deepEqual(fired, []);
    for (let day = 0; day < 55; day += 1) mock.timers.tick(DAY_MS);
    assert.deepEqual(fired, ['idle']);
    cancelled.cancel();
    for (let day = 0; day < 6; day += 1) mock.timers.tick(DAY_MS);
    assert.deepEqual(fired, ['idle', 'after']);
  } finally {
    mock.timers.reset();
  }
});
