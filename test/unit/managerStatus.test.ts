/**
 * How managers tell where they stand: each one's own state in one picture from any of them, with
 * and without a quorum; a store that differs from the leader's is found and told; the figures.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Log } from '../../base/log.ts';
import { silentLog } from '../../base/log.ts';
import { metricsText } from '../../daemon/prometheus.ts';
import type { ManagerState } from '../../manager/managerState.ts';
import type { ManagersPicture } from '../../manager/managers.ts';
import { hashFormat } from '../../manager/replica.ts';
import { Store, type StoredRecord } from '../../manager/store/store.ts';
import { StoreComparison } from '../../manager/storeComparison.ts';
import { TaskState } from '../../model/taskState.ts';
import { parseFigures } from '../support/figures.ts';
import { ManualClock } from '../support/manualClock.ts';
import { service, serviceSpec } from '../support/objects.ts';
import { type TestNode, TestSwarm, until } from '../support/swarm.ts';

const swarm = new TestSwarm();
let all: TestNode[] = [];

before(async () => {
  const m1 = await swarm.init('m1');
  const { manager } = await m1.control.joinTokens();
  const m2 = await swarm.join('m2', manager, m1.address);
  all = [m1, m2, await swarm.join('m3', manager, m1.address)];
  await until('three managers', () =>
    all.every((node) => node.control.raftStatus().managers.length === 3),
  );
  await m1.control.createService(serviceSpec('web', { mode: { kind: 'replicated', replicas: 3 } }));
});

after(() => swarm.close());

/** As all three are at rest: the service runs, and all hold all of it. */
function atRest(from: TestNode): Promise<ManagersPicture> {
  return until('all are at rest', async () => {
    const tasks = [...from.control.store.all('task')];
    const runs = tasks.filter(({ status }) => status.state === TaskState.RUNNING).length === 3;
    const picture = await from.control.managers();
    const versions = new Set(picture.managers.map(({ state }) => state?.storeVersion));
    const lag = picture.managers.some((each) => each.lag !== undefined && each.lag > 0);
    return runs && versions.size === 1 && !lag && picture.hasQuorum && picture;
  });
}

/** Puts other records in the place of a replica's, at the version it is at. */
async function replace(store: Store, records: readonly StoredRecord[]): Promise<void> {
  await store.restore(store.version, store.atMs, records);
}

test('any manager shows all of them: one leader, and one hash of the store', async () => {
  const leader = await swarm.leader();
  for (const contact of all) {
    const { managers, problems } = await atRest(contact);
    assert.deepEqual(problems, []);
    assert.deepEqual(managers.map(({ hostname }) => hostname).sort(), ['m1', 'm2', 'm3']);
    const roles = new Map(managers.map(({ nodeId, state }) => [nodeId, state?.role]));
    assert.equal(roles.get(leader.id), 'leader');
    assert.equal([...roles.values()].filter((role) => role === 'follower').length, 2);
    assert.equal(new Set(managers.map(({ state }) => state?.storeHash)).size, 1);
    assert.equal(new Set(managers.map(({ state }) => state?.term)).size, 1);
    assert.ok(managers.every((each) => each.sameStore === true));
    assert.ok(managers.every((each) => each.error === '' && each.address !== ''));
    assert.deepEqual(
      managers.filter(({ isSelf }) => isSelf).map(({ nodeId }) => nodeId),
      [contact.id],
    );
    const others = managers.filter(({ nodeId }) => nodeId !== leader.id);
    assert.ok(others.every(({ heardAgeMs }) => heardAgeMs !== undefined && heardAgeMs < 5_000));
  }
});

test('a replica whose store is another at the same version is named, with what to do', async () => {
  const leader = await swarm.leader();
  const wrong = all.find((node) => node !== leader) ?? all[0];
  const store = wrong.control.store as Store;
  await atRest(leader);
  const records: StoredRecord[] = [];
  for await (const record of store.snapshot().records) records.push(record);
  await replace(store, [...records, { table: 'service', object: service('stray') }]);
  const { problems, managers } = await leader.control.managers();
  const entry = managers.find(({ nodeId }) => nodeId === wrong.id);
  assert.equal(entry?.sameStore, false);
  assert.equal(problems.length, 1);
  assert.match(problems[0], new RegExp(`the store of manager ${wrong.name} differs`));
  assert.match(problems[0], new RegExp(`tsswarm node demote ${wrong.name}.*node promote`));
  await replace(store, records);
  assert.deepEqual((await atRest(leader)).problems, []);
});

class Heard {
  readonly lines: string[] = [];
  readonly log: Log = {
    ...silentLog,
    error: (message: string) => this.lines.push(message),
    with: () => this.log,
  };
}

function stateAt(version: number, hashAt: string): ManagerState {
  return {
    raftId: 1,
    role: 'leader',
    term: 1,
    leaderRaftId: 1,
    commit: version,
    applied: version,
    lastIndex: version,
    snapshotIndex: 0,
    storeVersion: version,
    storeHash: hashAt,
    hashFormat: hashFormat(),
    hashAt,
    diskFull: false,
    release: 'test',
    differsAt: 0,
    members: [],
  };
}

test('a follower compares its store with the leader’s now and then, and is loud about it', async () => {
  const clock = new ManualClock();
  const store = new Store();
  const changes = [{ kind: 'create', table: 'service', object: service('web') }] as const;
  store.apply(1, 0, { atomic: true, changes });
  const asked: number[] = [];
  let leaderHash = store.hash();
  const heard = new Heard();
  const comparison = new StoreComparison({
    clock,
    log: heard.log,
    store,
    host: () => 'm2',
    askLeader: async (version) => {
      asked.push(version);
      return stateAt(version, leaderHash);
    },
  });
  comparison.start();
  await clock.advance(60_000);
  assert.deepEqual([comparison.differsAt, heard.lines], [0, []]);
  assert.deepEqual(asked, [1], 'the same version is not asked about twice');
  leaderHash = '';
  store.advance(2);
  await clock.advance(10_000);
  assert.equal(comparison.differsAt, 0, 'a leader that does not know says nothing');
  leaderHash = '0123456789abcdef';
  await clock.advance(10_000);
  assert.equal(comparison.differsAt, 2);
  assert.equal(heard.lines.length, 1);
  assert.match(heard.lines[0], /the store of manager m2 differs .* "tsswarm node demote m2"/);
  await clock.advance(10 * 60_000);
  assert.ok(heard.lines.length >= 2 && heard.lines.length <= 4, `${heard.lines.length} times`);
  leaderHash = store.hash();
  await clock.advance(10_000);
  assert.equal(comparison.differsAt, 0);
  comparison.stop();
});

test('the figures of a manager are in Prometheus’ form and say what is so', async () => {
  const leader = await swarm.leader();
  await atRest(leader);
  const { types, values } = parseFigures(await metricsText(leader.meter));
  const own = [...types].filter(([name]) => name.startsWith('tsswarm_'));
  assert.ok(own.length > 25, `${own.length} families`);
  for (const [name, type] of own) {
    assert.equal(type === 'counter', name.endsWith('_total'), name);
    if (type === 'histogram') assert.match(name, /_(seconds|bytes)$/);
  }
  const value = (name: string): number => values.get(name) ?? Number.NaN;
  const { store } = leader.control;
  assert.equal(value('tsswarm_raft_is_leader'), 1);
  assert.equal(value(`tsswarm_raft_leader{node="${leader.id}"}`), 1);
  assert.equal(value('tsswarm_store_version'), store.version);
  assert.equal(value('tsswarm_store_objects{table="task"}'), store.count('task'));
  assert.equal(value('tsswarm_nodes{state="ready"}'), 3);
  assert.equal(value('tsswarm_tasks{state="running"}'), 3);
  assert.equal(value('tsswarm_raft_apply_lag_entries'), 0);
  assert.equal(value('tsswarm_store_differs'), 0);
  assert.ok(value('tsswarm_raft_proposals_total{outcome="accepted"}') > 0);
  const lags = [...values.keys()].filter((name) => name.startsWith('tsswarm_raft_member_lag'));
  assert.equal(lags.length, 2);
});

test('without a quorum the picture says so, and what the one that is left knows', async () => {
  const leader = await swarm.leader();
  const left = all.find((node) => node !== leader) ?? all[0];
  const gone = all.filter((node) => node !== left);
  const version = left.control.store.version;
  await Promise.all(gone.map((node) => node.stop()));
  const { hasQuorum, problems, managers } = await until('it is alone', async () => {
    const picture = await left.control.managers();
    return picture.managers.filter(({ state }) => state === undefined).length === 2 && picture;
  });
  assert.equal(hasQuorum, false);
  assert.match(problems[0], /^no quorum: 1 of 3 managers answer here, 2 are needed; not answering/);
  for (const { name, address } of gone) assert.ok(problems[0].includes(`${name} (${address})`));
  const own = managers.find(({ isSelf }) => isSelf)?.state;
  assert.ok(own !== undefined && own.storeVersion >= version && own.storeHash.length === 16);
  assert.ok(managers.every(({ isSelf, error }) => isSelf || error !== ''));
});
