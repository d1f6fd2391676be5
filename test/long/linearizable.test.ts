/**
 * Random faults on three managers, of which one has its data on a small disk, while clients write
 * and read through all of them; what the clients were told must be linearizable. FAULT_SECONDS says
 * for how long (180), SEED repeats a choice of faults, ONLY names their kinds
 * (test/support/managerFaults), KEEP=1 leaves the lab up.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SeededRandom, SystemRandom } from '../../base/random.ts';
import { clock } from '../bench/swarmClient.ts';
import { lab, raise } from '../support/lab.ts';
import {
  FAULT_NAMES,
  fault,
  MANAGERS,
  type ManagerFault,
  type Site,
  untilWhole,
} from '../support/managerFaults.ts';
import { RegisterClients, registerNames } from '../support/registerClients.ts';
import { assertLinearizable } from '../support/registerVerdict.ts';
import { SmallDisk } from '../support/smallDisk.ts';

const SECONDS = Number(process.env['FAULT_SECONDS'] ?? 180);
const SEED = Number(process.env['SEED'] ?? new SystemRandom().below(1_000_000));
const ONLY = process.env['ONLY']?.split(',') ?? FAULT_NAMES;
const KEEP = process.env['KEEP'] === '1';
const REGISTERS = 6;
const CLIENTS_EACH = 2;
/** One step in so many does a second fault of another kind under the first. */
const DOUBLE_ONE_IN = 3;

let disk: SmallDisk;
let clients: RegisterClients;

function say(line: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 23)} ${line}\n`);
}

before(async () => {
  await raise(3, 3);
  disk = await SmallDisk.under('h3');
  await untilWhole();
  clients = new RegisterClients(MANAGERS, registerNames(REGISTERS), new SeededRandom(SEED + 1));
});

after(async () => {
  if (!KEEP) await lab('down');
});

test(`${SECONDS} s of faults from seed ${SEED}: what clients are told is linearizable`, async (context) => {
  say(`SEED=${SEED} FAULT_SECONDS=${SECONDS}`);
  const site: Site = { random: new SeededRandom(SEED), disk, under: new Set() };
  const { random } = site;
  clients.start(CLIENTS_EACH);
  const endMs = clock.nowMs() + SECONDS * 1000;
  let faults = 0;
  const wholeMs: number[] = [];
  while (clock.nowMs() < endMs) {
    const under: ManagerFault[] = [];
    const wanted = random.below(DOUBLE_ONE_IN) === 0 ? 2 : 1;
    for (let at = 0; at < wanted; at += 1) {
      // Nobody may lead under the first of two, so what needs a leader comes first.
      const name = ONLY[random.below(ONLY.length)];
      const made = await fault(name, site);
      if (made === undefined) continue;
      under.push(made);
      faults += 1;
      say(`${faults}: ${made.told} for ${made.holdMs} ms`);
    }
    await clock.sleep(Math.max(0, ...under.map(({ holdMs }) => holdMs)));
    for (const made of under.reverse()) await made.end();
    const ms = Math.round(await untilWhole());
    wholeMs.push(ms);
    say(`whole after ${ms} ms; ${clients.history.length} operations`);
  }
  await clients.stop();
  for (const host of MANAGERS) await clients.list(clients.newClient(), host);
  wholeMs.sort((left, right) => left - right);
  const middle = wholeMs[Math.floor(wholeMs.length / 2)];
  const times = `whole again after p50 ${middle} ms, max ${wholeMs.at(-1)} ms`;
  context.diagnostic(`${faults} faults, seed ${SEED}, ${times}; ${clients.counts()}`);
  assert.ok(faults > 0 && clients.history.length > 100 * faults, clients.counts());
  const fromMs = clock.nowMs();
  assertLinearizable(clients.history);
  context.diagnostic(`judged in ${Math.round(clock.nowMs() - fromMs)} ms`);
});
