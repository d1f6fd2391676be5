/**
 * A daemon killed (-9) at random instants while containers are created, started, executed in, read,
 * stopped and removed by several clients: none lost, none started twice, nothing left behind
 * (test/support/killedDaemon). COUNT says how many kills (200), SEED repeats a run's instants.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SystemRandom } from '../../base/random.ts';
import { killDaemonOften } from '../support/killedDaemon.ts';

const COUNT = Number(process.env['COUNT'] ?? 200);
const SEED = Number(process.env['SEED'] ?? new SystemRandom().below(1_000_000));

test(`a daemon killed ${COUNT} times, seed ${SEED}, loses, doubles and leaves nothing`, async (context) => {
  const report = await killDaemonOften(COUNT, SEED, (line) => {
    process.stderr.write(`SEED=${SEED} ${line}\n`);
  });
  context.diagnostic(JSON.stringify(report));
  assert.ok(report.kills >= COUNT);
});
