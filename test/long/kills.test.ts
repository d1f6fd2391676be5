/**
 * Random faults, one after another, on three managers and two workers that run several services;
 * after each the swarm must be whole again (test/support/killChecks), and after the last nothing
 * may be left behind. COUNT says how many (200), SEED repeats a run, ONLY names the kinds
 * of faults (test/support/killFaults), KEEP=1 leaves the lab up.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SeededRandom, SystemRandom } from '../../base/random.ts';
import { clock } from '../bench/swarmClient.ts';
import { checkAll, checkRecords, settle } from '../support/killChecks.ts';
import { nextFault } from '../support/killFaults.ts';
import { createServices, HOSTS, NETWORK, removeServices, World } from '../support/killWorld.ts';
import { inside, lab, loadImage, raise } from '../support/lab.ts';
import {
  type DaemonSize,
  daemonSize,
  difference,
  type Traces,
  tracesOf,
} from '../support/labProbe.ts';
import { OutsideClient } from '../support/outsideClient.ts';

const COUNT = Number(process.env['COUNT'] ?? 200);
const SEED = Number(process.env['SEED'] ?? new SystemRandom().below(1_000_000));
const KEEP = process.env['KEEP'] === '1';
/** The bound of one convergence on a loaded machine of two cores. */
const SETTLE_MS = 60_000;
const CLEAN_MS = 60_000;
/** A lasting fault is now and then kept until the rest has taken over. */
const TAKE_OVER_ONE_IN = 3;
const MORE_DESCRIPTORS = 30;
const MORE_RESIDENT_KB = 120_000;

const world = new World();
const tracesBefore = new Map<string, Traces>();
const sizesBefore = new Map<string, DaemonSize>();
let client: OutsideClient;

function say(line: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 23)} ${line}\n`);
}

before(async () => {
  await raise(HOSTS.length, world.managers.size);
  await loadImage(...HOSTS);
  client = new OutsideClient();
  await clock.sleep(2_000);
  for (const host of HOSTS) {
    tracesBefore.set(host, tracesOf(host));
    sizesBefore.set(host, daemonSize(host));
  }
});

after(async () => {
  client.stop();
  if (!KEEP) await lab('down');
});

test(`${COUNT} random faults from seed ${SEED} leave the swarm whole every time`, async (context) => {
  say(`SEED=${SEED} COUNT=${COUNT}`);
  const random = new SeededRandom(SEED);
  await createServices();
  await settle('the first convergence', SETTLE_MS, () => checkAll(world, client));
  const times: number[] = [];
  const started = clock.nowMs();
  for (let step = 1; step <= COUNT; step += 1) {
    await world.write();
    const fault = await nextFault(world, random);
    say(`${step}: ${fault.told}`);
    await world.write();
    if (fault.holdMs > 0) {
      await clock.sleep(fault.holdMs);
      if (fault.takesHosts && random.below(TAKE_OVER_ONE_IN) === 0) {
        const check = async (): Promise<void> => {
          await checkRecords(world);
        };
        const ms = await settle('taking over', SETTLE_MS, check);
        say(`${step}: the others took over, ${Math.round(ms)} ms after the hold`);
      }
      await fault.end();
      await world.write();
    }
    const ms = await settle(`step ${step}`, SETTLE_MS, () => checkAll(world, client));
    times.push(ms);
    say(`${step}: whole again after ${Math.round(ms)} ms`);
  }
  times.sort((left, right) => left - right);
  const at = (share: number): number => Math.round(times[Math.floor((times.length - 1) * share)]);
  const seconds = Math.round((clock.nowMs() - started) / 1000);
  context.diagnostic(
    `${COUNT} faults in ${seconds} s, seed ${SEED}; whole again after ` +
      `p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, max ${at(1)} ms`,
  );
});

test('what was made is gone when it is removed: nothing leaks', async () => {
  await removeServices([...world.managers][0]);
  await settle('the network can go', CLEAN_MS, async () => {
    const gone = await inside([...world.managers][0], 'tsswarm', 'network', 'rm', NETWORK);
    assert.equal(gone.code, 0, gone.stderr);
  });
  for (const host of HOSTS) {
    const early = tracesBefore.get(host);
    assert.ok(early !== undefined);
    await settle(`nothing left on ${host}`, CLEAN_MS, async () => {
      assert.equal(difference(early, tracesOf(host)), '');
    });
  }
});

test('daemons hold no more descriptors and little more memory than before', async () => {
  for (const host of HOSTS) {
    const [early, late] = [sizesBefore.get(host), daemonSize(host)];
    assert.ok(early !== undefined);
    say(`${host}: ${JSON.stringify(early)} -> ${JSON.stringify(late)}`);
    assert.ok(late.descriptors <= early.descriptors + MORE_DESCRIPTORS, `${host}: descriptors`);
    assert.ok(late.residentKb <= early.residentKb + MORE_RESIDENT_KB, `${host}: memory`);
  }
});
