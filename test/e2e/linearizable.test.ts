/**
 * Three managers as processes, with clients at each that write and read all the while: the leader
 * stopped (SIGSTOP) until another leads and then woken, cut off in one way, killed. What clients
 * were told must be linearizable. The long test of the same name has more faults, and random ones.
 */
import { after, before, test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { stopDaemon } from '../../deploy/hosts/host.ts';
import { lab, raise } from '../support/lab.ts';
import { layoutOf, startDaemonOf } from '../support/labHosts.ts';
import { leading, MANAGERS, signal, untilWhole } from '../support/managerFaults.ts';
import { cutPairs, healPairs, into, outOf } from '../support/pairCuts.ts';
import { RegisterClients, registerNames } from '../support/registerClients.ts';
import type { RegisterInput, Shown } from '../support/registerHistory.ts';
import { assertLinearizable } from '../support/registerVerdict.ts';
import { until } from '../support/until.ts';

const NAMES = registerNames(4);
/** Which the clients that run all the while leave alone. */
const QUIET = ['quiet-0', 'quiet-1', 'quiet-2', 'quiet-3', 'quiet-4', 'quiet-5'];
const CLIENTS_EACH = 2;
const TAKE_OVER_MS = 30_000;
const QUESTIONS = 40;

let clients: RegisterClients;

before(async () => {
  await raise(3, 3);
  clients = new RegisterClients(MANAGERS, NAMES, new SeededRandom(7));
  clients.start(CLIENTS_EACH);
  await untilWhole();
});

after(async () => {
  await lab('down');
});

/** A write of `name` that `host` acknowledges, after all that was acknowledged before. */
async function acknowledged(host: string, name: string, removes = false): Promise<void> {
  const client = clients.newClient();
  await until(`${host} acknowledges a write`, TAKE_OVER_MS, async () => {
    const read = await clients.read(client, host, name);
    if (read?.output?.kind !== 'shown') return undefined;
    const { shown } = read.output;
    if (removes && shown === undefined) return true;
    const input = inputAfter(shown, removes);
    const made = await clients.write(client, host, name, input);
    return made.output?.kind === 'done';
  });
}

function inputAfter(shown: Shown | undefined, removes: boolean): RegisterInput {
  const serial = clients.newSerial();
  if (shown === undefined) return { kind: 'create', serial };
  const { born, serial: expected, version } = shown;
  return removes ? { kind: 'remove', born } : { kind: 'set', born, expected, version, serial };
}

/** Clients that ask all at once; the answers are in the history. */
function questions(host: string, name: string): Promise<unknown>[] {
  return Array.from({ length: QUESTIONS }, () => clients.read(clients.newClient(), host, name));
}

function create(host: string, name: string): Promise<unknown> {
  const input = { kind: 'create', serial: clients.newSerial() } as const;
  return clients.write(clients.newClient(), host, name, input);
}

test('a leader that is stopped until others have written tells nothing old', async () => {
  const old = await leading();
  const other = MANAGERS.find((host) => host !== old) ?? '';
  await Promise.all(QUIET.map((name) => acknowledged(old, name)));
  const asked: Promise<unknown>[] = [];
  signal(old, 'SIGSTOP');
  try {
    await acknowledged(other, NAMES[0]);
    // Their names are free now, which the old leader has not heard.
    await Promise.all(QUIET.map((name) => acknowledged(other, name, true)));
    const before = clients.sent;
    for (const name of QUIET) asked.push(create(old, name));
    asked.push(...questions(old, NAMES[0]), ...questions(old, QUIET[0]));
    await until('all wait', TAKE_OVER_MS, () => clients.sent >= before + asked.length);
  } finally {
    signal(old, 'SIGCONT');
  }
  await Promise.all(asked);
  await untilWhole();
});

test('a leader whose words do not get out, or that hears nothing, is replaced', async () => {
  for (const way of [outOf, into]) {
    const old = await leading();
    const other = MANAGERS.find((host) => host !== old) ?? '';
    cutPairs(way(old, MANAGERS));
    try {
      await acknowledged(other, NAMES[0]);
      await Promise.all(questions(old, NAMES[0]));
    } finally {
      healPairs();
    }
    await untilWhole();
  }
});

test('a leader is killed under load, and comes back', async () => {
  const old = await leading();
  const other = MANAGERS.find((host) => host !== old) ?? '';
  await stopDaemon(layoutOf(old));
  await acknowledged(other, NAMES[0]);
  await startDaemonOf(old);
  await untilWhole();
});

test('all that clients were told is linearizable, and no acknowledged write is lost', async (context) => {
  await until('enough has been asked', TAKE_OVER_MS, () => clients.history.length > 500);
  await clients.stop();
  for (const host of MANAGERS) {
    await clients.list(clients.newClient(), host);
    await Promise.all(QUIET.map((name) => clients.read(clients.newClient(), host, name)));
  }
  context.diagnostic(clients.counts());
  assertLinearizable(clients.history);
});
