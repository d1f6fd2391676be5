/**
 * The short form of test/long/daemonKills.test.ts: a daemon killed ten times at random instants
 * while containers are made, used and removed. SEED repeats a run.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SystemRandom } from '../../base/random.ts';
import { killDaemonOften } from '../support/killedDaemon.ts';

const KILLS = 10;
const SEED = Number(process.env['SEED'] ?? new SystemRandom().below(1_000_000));

test(`a daemon killed ${KILLS} times, seed ${SEED}, loses, doubles and leaves nothing`, async (context) => {
  const report = await killDaemonOften(KILLS, SEED, (line) => context.diagnostic(line));
  context.diagnostic(JSON.stringify(report));
  assert.ok(report.containers > 0);
});
