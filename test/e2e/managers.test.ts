/**
 * `tsswarm manager status` and the figures on hosts: one hash of the store on all managers after
 * they were busy, also on one that was away; what a manager cut off from the others still tells;
 * Prometheus' way to the figures.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { call, socketOf } from '../bench/swarmClient.ts';
import { parseFigures } from '../support/figures.ts';
import { inside, lab, leader, raise, swarm, until, untilReady, WEB_IMAGE } from '../support/lab.ts';

const HOSTS = ['h1', 'h2', 'h3'];
const SYNCS = 10;

interface Picture {
  readonly Quorum: boolean;
  readonly Problems: readonly string[];
  readonly Managers: readonly {
    readonly Hostname: string;
    readonly Role: string;
    readonly Reachable: boolean;
    readonly StoreVersion?: number;
    readonly StoreHash?: string;
    readonly StoreDiffers?: boolean;
    readonly Lag?: number;
  }[];
}

before(async () => {
  await raise(3, 3);
});

after(async () => {
  await lab('down');
});

/** The one hash of all three at one version, from whichever is asked. */
function oneHash(contact: string): Promise<string> {
  return until('one version and one hash', 30_000, async () => {
    const { Managers } = await call<Picture>(contact, 'GET', '/tsswarm/managers');
    const at = new Set(Managers.map(({ StoreVersion }) => StoreVersion));
    assert.ok(Managers.every(({ StoreDiffers }) => StoreDiffers !== true));
    const hashes = new Set(Managers.map(({ StoreHash }) => StoreHash));
    return Managers.length === 3 && at.size === 1 && hashes.size === 1 && [...hashes][0];
  }).then(String);
}

async function write(host: string, round: string): Promise<void> {
  const service = async (index: number): Promise<void> => {
    const { ID } = await call<{ ID: string }>(host, 'POST', '/services/create', {
      Name: `s-${round}-${index}`,
      Labels: { round },
      TaskTemplate: { ContainerSpec: { Image: WEB_IMAGE, Env: [`A=${index}`] } },
      Mode: { Replicated: { Replicas: index % 3 } },
    });
    if (index % 2 === 0) await call(host, 'DELETE', `/services/${ID}`);
  };
  await Promise.all(Array.from({ length: 20 }, (_, index) => service(index)));
}

test('all managers have one hash of the store, also one that was off and one that restarted', async () => {
  const leading = await leader('h1');
  const off = HOSTS.find((host) => host !== leading) ?? '';
  await write(leading, 'a');
  const first = await oneHash(off);
  await lab('kill', off);
  await write(leading, 'b');
  await lab('start', off);
  await untilReady(off, 3, 60_000);
  const second = await oneHash(off);
  assert.notEqual(second, first);
  await lab('stop-daemon', leading);
  await lab('start-daemon', leading);
  await untilReady(leading, 3, 60_000);
  await oneHash(leading);
});

test('manager status is a table, a template or JSON, from any manager', async () => {
  await oneHash('h2');
  const table = (await swarm('h2', 'manager', 'status')).split('\n');
  assert.equal(table.length, 4);
  assert.match(
    table[0],
    /^NAME +ADDRESS +ROLE +REACHABLE +TERM +COMMIT +APPLIED +LAG +LAST CONTACT/,
  );
  assert.match(table.join('\n'), /^h2 \*/m);
  const format = ['--format', '{{.Role}} {{.Lag}}'];
  const rows = (await swarm('h3', 'manager', 'status', ...format)).split('\n').sort();
  assert.deepEqual(
    rows.map((row) => row.replace(/ \d+$/, '')),
    ['follower', 'follower', 'leader'],
  );
  const whole = JSON.parse(await swarm('h1', 'manager', 'status', '--json')) as Picture;
  assert.equal(whole.Quorum, true);
});

test('the figures are read from the socket', async () => {
  let written = 0;
  const values = await until('who leads says so, and that all are ready', 30_000, async () => {
    const leading = await leader('h1');
    // It may have led for no more than a moment: one after the other, each of these is synced.
    for (let count = 0; count <= SYNCS; count += 1) {
      written += 1;
      await call(leading, 'POST', '/configs/create', { Name: `c-${written}`, Data: 'YQ==' });
    }
    const ask = ['curl', '-sS', '--fail', '--unix-socket', socketOf(leading), 'http://d/metrics'];
    const told = parseFigures((await inside(leading, ...ask)).stdout).values;
    const leads = told.get('tsswarm_raft_is_leader') === 1;
    return leads && told.get('tsswarm_nodes{state="ready"}') === 3 ? told : undefined;
  });
  assert.ok((values.get('tsswarm_raft_log_sync_duration_seconds_count') ?? 0) > SYNCS);
  assert.ok((values.get('process_resident_memory_bytes') ?? 0) > 1e7);
});

test('a manager that is cut off says that there is no quorum, and what it knows', async () => {
  const alone = await leader('h1');
  await lab('cut', alone);
  try {
    const outcome = await until('it has found out', 30_000, async () => {
      const asked = await inside(alone, 'tsswarm', 'manager', 'status');
      return asked.code === 1 && asked.stderr.includes('no quorum') && asked;
    });
    assert.ok(outcome !== false);
    assert.match(outcome.stderr, /1 of 3 managers answer here, 2 are needed; not answering: /);
    const rows = outcome.stdout.trim().split('\n').slice(1);
    assert.equal(rows.filter((row) => / yes /.test(row)).length, 1);
    assert.equal(rows.length, 3);
  } finally {
    await lab('heal', alone);
  }
  await untilReady(alone, 3, 60_000);
  await oneHash(alone);
});
