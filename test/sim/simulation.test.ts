/**
 * Simulated clusters, as CI runs them: 300 seeds hold every promise under faults and serve once
 * these end; a seed replays its run exactly; and the checks see what they are there to see. Other
 * seeds, and what a failure comes from: `npm run sim`.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Planted } from './machine.ts';
import { commandOf, shrink } from './shrink.ts';
import { DEFAULT_TICKS, simulate } from './simulation.ts';

const SEEDS = 300;

test(`${SEEDS} clusters keep what they promise under faults, and serve when these end`, async () => {
  const work = { acknowledged: 0, reads: 0, snapshots: 0, elections: 0, restarts: 0 };
  const sums = { ...work, moves: 0, losses: 0, forks: 0 };
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const options = { seed, ticks: DEFAULT_TICKS };
    const outcome = await simulate(options);
    if (outcome.failure !== undefined) {
      const smaller = await shrink(options, outcome.failure);
      assert.fail(`${outcome.failure.message}\n  ${commandOf(options)}\nsmaller:
  ${smaller.failure.message}\n  ${commandOf(smaller.options)}`);
    }
    for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += outcome[name];
  }
  // Runs in which nothing happens would prove nothing.
  assert.ok(sums.acknowledged > SEEDS * 50, JSON.stringify(sums));
  assert.ok(sums.reads > SEEDS * 50, JSON.stringify(sums));
  assert.ok(sums.elections > SEEDS * 2, JSON.stringify(sums));
  assert.ok(sums.restarts > SEEDS, JSON.stringify(sums));
  assert.ok(sums.snapshots > SEEDS / 10, JSON.stringify(sums));
  assert.ok(sums.moves > SEEDS / 20, JSON.stringify(sums));
  assert.ok(sums.losses > SEEDS / 10, JSON.stringify(sums));
  assert.ok(sums.forks > SEEDS / 10, JSON.stringify(sums));
});

test('a seed replays the same run, event by event', async () => {
  for (const seed of [5, 77, 4242]) {
    const first = await simulate({ seed, ticks: 150 });
    const again = await simulate({ seed, ticks: 150 });
    assert.deepEqual(again, first);
    const other = await simulate({ seed: seed + 1, ticks: 150 });
    assert.notEqual(other.hash, first.hash);
  }
});

const PLANTED: Readonly<Record<Planted, string>> = {
  lyingDisk: 'a disk that lies about its syncs',
  ackBeforeSync: 'a member that acknowledges before its disk has it',
  forgetVote: 'a member that does not write down its vote',
  staleRead: 'a read that asks nobody',
  skipEvent: 'a watcher that misses an event',
};
const MAX_SEEDS = 60;

for (const [planted, what] of Object.entries(PLANTED)) {
  test(`the checks see ${what}`, async () => {
    for (let seed = 1; seed <= MAX_SEEDS; seed += 1) {
      const options = { seed, ticks: DEFAULT_TICKS, planted: planted as Planted };
      if ((await simulate(options)).failure !== undefined) return;
    }
    assert.fail(`${MAX_SEEDS} seeds did not show it`);
  });
}

test('a failure is made smaller, and its line still shows it', async () => {
  for (let seed = 1; seed <= MAX_SEEDS; seed += 1) {
    const options = { seed, ticks: 200, planted: 'staleRead' as const };
    const { failure } = await simulate(options);
    if (failure === undefined) continue;
    const smaller = await shrink(options, failure);
    assert.ok(smaller.options.ticks < options.ticks);
    assert.ok((smaller.options.without?.length ?? 0) > 0);
    assert.match(commandOf(smaller.options), /^npm run sim -- --seed \d+ --ticks \d+ --without /);
    assert.deepEqual((await simulate(smaller.options)).failure, smaller.failure);
    return;
  }
  assert.fail(`${MAX_SEEDS} seeds did not fail`);
});
