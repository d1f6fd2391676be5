/**
 * Seeded simulations of the core: safety after every event, liveness once the faults end, and proof
 * that the checks would see a broken core. One seed replays one run exactly.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RaftSim } from '../../support/raftSim.ts';
import type { Mutant } from '../../support/raftSimTypes.ts';

const SEEDS = Number(process.env['RAFT_SEEDS'] ?? 150);
const EVENTS = Number(process.env['RAFT_EVENTS'] ?? 8000);
const FIRST_SEED = Number(process.env['RAFT_FIRST_SEED'] ?? 1);

test('under loss, partitions, crashes and changes of members nothing acknowledged is lost', () => {
  let acked = 0;
  for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed += 1) {
    const sim = new RaftSim({ seed, events: EVENTS });
    try {
      sim.run();
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.stack : error}`);
    }
    acked += sim.acked;
  }
  assert.ok(acked > SEEDS * 10, `only ${acked} writes were acknowledged`);
});

test('a seed replays the same run', () => {
  const runs = [1, 2].map(() => {
    const sim = new RaftSim({ seed: 77, events: 2000 });
    sim.run();
    return sim.trace;
  });
  assert.deepEqual(runs[0], runs[1]);
});

const mutants: readonly Exclude<Mutant, undefined>[] = ['ackBeforeSync', 'forgetVote', 'staleRead'];
for (const mutant of mutants) {
  test(`the simulation catches a member that does ${mutant}`, () => {
    for (let seed = 1; seed <= 1000; seed += 1) {
      try {
        new RaftSim({ seed, events: 4000, mutant, crashRate: 0.012 }).run();
      } catch {
        return; // Caught: that is what this test wants.
      }
    }
    assert.fail('1000 seeds did not catch it');
  });
}
