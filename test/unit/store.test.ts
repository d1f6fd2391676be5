/**
 * The store: what apply accepts and refuses, versions and times, pins, the ring of changes,
 * snapshots. Bytes and Raft are replica.test.ts's.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { hashView } from '../../manager/store/hash.ts';
import { Store, type StoredRecord } from '../../manager/store/store.ts';
import type { ApplyResult, Change } from '../../manager/store/types.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { cluster, network, node, service, taskSpec } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

function create(object: Service): Change {
  return { kind: 'create', table: 'service', object };
}

function update(object: Service): Change {
  return { kind: 'update', table: 'service', object };
}

function task(id: string, fields: Partial<Task> = {}): Task {
  return {
    id,
    version: 0,
    createdAtMs: 0,
    updatedAtMs: 0,
    serviceId: 'web-id',
    serviceName: 'web',
    slot: 1,
    generation: 1,
    nodeId: '',
    spec: taskSpec(),
    serviceLabels: {},
    specVersion: 1,
    desiredState: TaskState.RUNNING,
    status: {
      state: TaskState.NEW,
      atMs: 0,
      message: '',
      error: '',
      containerId: '',
      pid: 0,
      exitCode: 0,
      oomKilled: false,
      gatewayAddress: '',
      phases: {},
    },
    networks: [],
    ports: [],
    notBeforeMs: 0,
    movedFrom: '',
    jobIteration: undefined,
    genericResources: [],
    ...fields,
  };
}

class Applied extends Store {
  at = 0;

  do(...changes: Change[]): ApplyResult {
    this.at += 1;
    return this.apply(this.at, this.at * 1_000, { atomic: false, changes });
  }

  doAll(...changes: Change[]): ApplyResult {
    this.at += 1;
    return this.apply(this.at, this.at * 1_000, { atomic: true, changes });
  }

  web(): Service {
    const found = this.serviceByName('web');
    assert.ok(found);
    return found;
  }
}

function codes(result: ApplyResult): string[] {
  return result.rejected.map(({ index, code }) => `${index} ${code}`);
}

test('apply sets version and times, and keeps the time of creation', () => {
  const store = new Applied();
  store.do(create(service('web')));
  store.do(update({ ...store.web(), createdAtMs: 77 }));
  const { version, createdAtMs, updatedAtMs } = store.web();
  assert.deepEqual([version, createdAtMs, updatedAtMs], [2, 1_000, 2_000]);
});

test('a change decided from an old version is refused and the rest applies', () => {
  const store = new Applied();
  store.do(create(service('web')), create(service('db')));
  const old = store.web();
  store.do(update(old));
  const result = store.do(update(old), create(service('more')));
  assert.deepEqual(codes(result), ['0 out_of_sequence']);
  assert.match(result.rejected[0].message, /update out of sequence/);
  assert.ok(store.serviceByName('more'));
});

test('an atomic transaction applies whole or leaves nothing, not even an event', () => {
  const store = new Applied();
  store.do(create(service('web')));
  const before = store.hash();
  const watch = store.watch();
  const pin = store.pin();
  const result = store.doAll(
    create(service('one')),
    { kind: 'remove', table: 'service', id: 'web-id' },
    create({ ...service('web'), id: 'one-id' }),
  );
  assert.deepEqual(codes(result), ['2 conflict']);
  assert.equal(store.hash(), before);
  assert.deepEqual(watch.take(10), []);
  assert.equal(pin.count('service'), 1);
  assert.equal(store.version, 2);
});

test('two services of one name, or with one published port, are refused', () => {
  const store = new Applied();
  const port = {
    name: '',
    protocol: 'tcp',
    targetPort: 80,
    publishedPort: 8080,
    publishMode: 'ingress',
    hostAddress: '',
  } as const;
  store.do(create(service('web', { ports: [port] })));
  const name = store.do(create({ ...service('web'), id: 'other' }));
  assert.deepEqual(codes(name), ['0 conflict']);
  assert.match(name.rejected[0].message, /service named "web" exists already/);
  const published = store.do(create(service('api', { ports: [port] })));
  assert.match(
    published.rejected[0].message,
    /port 8080\/tcp is already published by service "web"/,
  );
  assert.deepEqual(
    codes(store.do(create(service('udp', { ports: [{ ...port, protocol: 'udp' }] })))),
    [],
  );
  assert.deepEqual(
    codes(
      store.do(
        create(service('host', { ports: [{ ...port, publishMode: 'host', hostAddress: '' }] })),
      ),
    ),
    [],
  );
});

test('a name, a port or an address is free again once its holder is gone', () => {
  const store = new Applied();
  store.do(create(service('web')));
  store.do({ kind: 'remove', table: 'service', id: 'web-id' });
  assert.deepEqual(codes(store.do(create({ ...service('web'), id: 'again' }))), []);
});

test('two nodes with one host index, or two clusters, are refused', () => {
  const store = new Applied();
  store.do({ kind: 'create', table: 'node', object: node('h1', 1) });
  store.do({ kind: 'create', table: 'cluster', object: cluster() });
  const result = store.do(
    { kind: 'create', table: 'node', object: node('h2', 1) },
    { kind: 'create', table: 'cluster', object: { ...cluster(), id: 'two' } },
  );
  assert.deepEqual(codes(result), ['0 conflict', '1 conflict']);
});

test('one slot has one task of a generation, and a global service one a node', () => {
  const store = new Applied();
  store.do(create(service('web')));
  store.do({ kind: 'create', table: 'task', object: task('a') });
  const result = store.do(
    { kind: 'create', table: 'task', object: task('b') },
    { kind: 'create', table: 'task', object: task('c', { generation: 2 }) },
    { kind: 'create', table: 'task', object: task('d', { slot: 0, nodeId: 'h1' }) },
    { kind: 'create', table: 'task', object: task('e', { slot: 0, nodeId: 'h1' }) },
  );
  assert.deepEqual(codes(result), ['0 conflict', '3 conflict']);
});

test('an address belongs to one task until that has ended', () => {
  const store = new Applied();
  const networks = [{ networkId: 'n', address: '10.0.1.5/24', aliases: [] }];
  store.do(create(service('web')));
  store.do({ kind: 'create', table: 'task', object: task('a', { networks }) });
  const second = task('b', { slot: 2, networks });
  assert.deepEqual(codes(store.do({ kind: 'create', table: 'task', object: second })), [
    '0 conflict',
  ]);
  const first = store.get('task', 'a');
  assert.ok(first);
  const status = { ...first.status, state: TaskState.FAILED };
  store.do({ kind: 'update', table: 'task', object: { ...first, status } });
  assert.deepEqual(codes(store.do({ kind: 'create', table: 'task', object: second })), []);
});

test('a task of a service that is gone is refused', () => {
  const store = new Applied();
  const result = store.do({ kind: 'create', table: 'task', object: task('a') });
  assert.deepEqual(codes(result), ['0 not_found']);
});

test('a task never goes back, in state or in desired state', () => {
  const store = new Applied();
  store.do(create(service('web')));
  store.do({ kind: 'create', table: 'task', object: task('a', { nodeId: 'h1' }) });
  const move = (state: TaskState, desiredState: TaskState): string[] => {
    const before = store.get('task', 'a');
    assert.ok(before);
    const object = { ...before, desiredState, status: { ...before.status, state } };
    return codes(store.do({ kind: 'update', table: 'task', object }));
  };
  assert.deepEqual(move(TaskState.RUNNING, TaskState.RUNNING), []);
  assert.deepEqual(move(TaskState.STARTING, TaskState.RUNNING), ['0 invalid']);
  assert.deepEqual(move(TaskState.RUNNING, TaskState.READY), ['0 invalid']);
  assert.deepEqual(move(TaskState.SHUTDOWN, TaskState.REMOVE), []);
});

test('a network in use cannot be removed, and the refusal names the services', () => {
  const store = new Applied();
  store.do({ kind: 'create', table: 'network', object: network('back') });
  const networks = [{ target: 'back-id', aliases: [], addresses: [] }];
  store.do(create(service('web', { task: { networks } })));
  const result = store.do({ kind: 'remove', table: 'network', id: 'back-id' });
  assert.deepEqual(codes(result), ['0 conflict']);
  assert.match(result.rejected[0].message, /in use by service web/);
  const missing = { task: { networks: [{ target: 'nowhere', aliases: [], addresses: [] }] } };
  assert.deepEqual(codes(store.do(create(service('lost', missing)))), ['0 not_found']);
});

test('specVersion moves when the specification changes, and only then', () => {
  const store = new Applied();
  store.do(create(service('web')));
  assert.equal(store.web().specVersion, 1);
  store.do(update({ ...store.web(), spec: structuredClone(store.web().spec), ports: [] }));
  assert.equal(store.web().specVersion, 1);
  store.do(update({ ...store.web(), spec: { ...store.web().spec, labels: { a: 'b' } } }));
  assert.equal(store.web().specVersion, 3);
});

test('a service with nothing to allocate is allocated when it is applied', () => {
  const store = new Applied();
  store.do(create(service('web')));
  assert.equal(store.web().allocatedVersion, store.web().specVersion);
  const port = {
    name: '',
    protocol: 'tcp',
    targetPort: 80,
    publishedPort: 8080,
    hostAddress: '',
  } as const;
  const ports = [{ ...port, publishMode: 'ingress' as const }];
  store.do(update({ ...store.web(), spec: { ...store.web().spec, ports } }));
  assert.notEqual(store.web().allocatedVersion, store.web().specVersion);
  store.do(update({ ...store.web(), ports, allocatedVersion: store.web().specVersion }));
  store.do(update({ ...store.web(), spec: { ...store.web().spec, ports: [] } }));
  assert.notEqual(store.web().allocatedVersion, store.web().specVersion, 'it has one to give back');
});

test('a new specification drops the progress report of the one before', () => {
  const store = new Applied();
  store.do(create(service('web')));
  const progress = { state: 'paused', startedAtMs: 1, completedAtMs: 0, message: '' } as const;
  store.do(update({ ...store.web(), update: progress }));
  assert.equal(store.web().update?.state, 'paused');
  store.do(update({ ...store.web(), spec: { ...store.web().spec, labels: { a: 'b' } } }));
  assert.equal(store.web().update, undefined);
});

test('tasks of one service share one specification', () => {
  const store = new Applied();
  store.do(create(service('web')));
  store.do({ kind: 'create', table: 'task', object: task('a') });
  assert.equal(store.get('task', 'a')?.spec, store.web().spec.task);
});

test('names find a service, a network, a node by its host name, a task', () => {
  const store = new Applied();
  store.do(create(service('web')));
  store.do({ kind: 'create', table: 'network', object: network('back') });
  store.do({ kind: 'create', table: 'node', object: node('h1', 1) });
  store.do({ kind: 'create', table: 'task', object: task('a') });
  assert.equal(store.byName('service', 'web')?.id, 'web-id');
  assert.equal(store.byName('service', 'WEB'), undefined);
  assert.equal(store.byName('network', 'back')?.id, 'back-id');
  assert.equal(store.byName('node', 'h1')?.id, 'h1');
  assert.equal(store.byName('task', 'web.1.a')?.id, 'a');
  const twin = node('h2', 2, { description: { hostname: 'h1' } });
  store.do({ kind: 'create', table: 'node', object: twin });
  assert.equal(store.byName('node', 'h1'), undefined);
});

test('a pin stays as it was while the store moves on', () => {
  const store = new Applied();
  store.do(create(service('web')), create(service('db')));
  store.do({ kind: 'create', table: 'task', object: task('a', { nodeId: 'h1' }) });
  const pin = store.pin();
  store.do(update({ ...store.web(), spec: { ...store.web().spec, name: 'renamed' } }));
  store.do({ kind: 'remove', table: 'task', id: 'a' });
  store.do({ kind: 'remove', table: 'service', id: 'db-id' }, create(service('new')));
  store.do({ kind: 'create', table: 'task', object: task('b', { slot: 2, nodeId: 'h1' }) });
  assert.equal(pin.version, 2);
  assert.deepEqual(Array.from(pin.all('service'), ({ spec }) => spec.name).sort(), ['db', 'web']);
  assert.equal(pin.count('service'), 2);
  assert.equal(pin.serviceByName('web')?.id, 'web-id');
  assert.deepEqual(
    Array.from(pin.tasksOfNode('h1'), ({ id }) => id),
    ['a'],
  );
  assert.deepEqual(
    Array.from(pin.tasksOfService('web-id'), ({ id }) => id),
    ['a'],
  );
  pin.release();
});

test('a watcher sees every change once, in order, and is woken at apply', () => {
  const store = new Applied();
  store.do(create(service('before')));
  const watch = store.watch();
  let woken = 0;
  watch.onEvents(() => {
    woken += 1;
  });
  store.do(create(service('web')), create(service('db')));
  store.do({ kind: 'remove', table: 'service', id: 'db-id' });
  assert.equal(woken, 2);
  assert.deepEqual(
    watch.take(2).map(({ kind, id, version }) => [kind, id, version]),
    [
      ['create', 'web-id', 2],
      ['create', 'db-id', 2],
    ],
  );
  const [last, ...none] = watch.take(2);
  assert.deepEqual([last.kind, none.length], ['remove', 0]);
  assert.equal((last.before as Service).spec.name, 'db');
  watch.close();
  store.do(create(service('late')));
  assert.equal(woken, 2);
});

test('entries applied together wake a watcher once, and none of them is missed', () => {
  const store = new Store();
  const watch = store.watch();
  const seen: string[][] = [];
  watch.onEvents(() => seen.push(watch.take(10).map(({ id }) => id)));
  const apply = (version: number, name: string): ApplyResult =>
    store.apply(version, 1, { atomic: true, changes: [create(service(name))] });
  store.together(() => {
    apply(1, 'one');
    apply(2, 'two');
    assert.deepEqual(seen, []);
  });
  apply(3, 'three');
  store.together(() => {});
  assert.deepEqual(seen, [['one-id', 'two-id'], ['three-id']]);
});

test('watching from a version resumes just after it, or says that it is too old', () => {
  const store = new Applied({ ringEvents: 4 });
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) store.do(create(service(name)));
  assert.deepEqual(
    store
      .watch(3)
      .take(9)
      .map(({ id }) => id),
    ['d-id', 'e-id', 'f-id'],
  );
  assert.equal(store.watch(2).take(9).length, 4);
  assert.throws(
    () => store.watch(1),
    (error) => hasCode(error, 'exhausted'),
  );
  assert.deepEqual(store.watch(6).take(9), []);
});

test('a watcher that is too slow is told that it fell out', () => {
  const store = new Applied({ ringEvents: 2 });
  const watch = store.watch();
  for (const name of ['a', 'b', 'c']) store.do(create(service(name)));
  assert.throws(
    () => watch.take(1),
    (error) => hasCode(error, 'exhausted'),
  );
});

test('a snapshot taken while the store changes restores the moment it was taken', async () => {
  const store = new Applied();
  store.do(create(service('web')), create(service('db')));
  store.do({ kind: 'create', table: 'task', object: task('a') });
  const moment = store.hash();
  const snapshot = store.snapshot();
  const records: StoredRecord[] = [];
  for await (const record of snapshot.records) {
    records.push(record);
    store.do(create(service(`during-${records.length}`)));
    store.do({ kind: 'remove', table: 'task', id: 'a' });
  }
  const other = new Applied();
  other.do(create(service('gone')));
  const watch = other.watch();
  const pin = other.pin();
  await other.restore(snapshot.version, snapshot.atMs, records);
  assert.equal(other.hash(), moment);
  assert.equal(other.version, 2);
  assert.equal(pin.count('service'), 1);
  assert.throws(
    () => watch.take(1),
    (error) => hasCode(error, 'exhausted'),
  );
  assert.equal(other.get('task', 'a')?.spec, other.web().spec.task);
});

test('time in the store never goes back, whatever stamp an entry has', () => {
  const store = new Store();
  store.apply(1, 5_000, { atomic: false, changes: [create(service('a'))] });
  store.apply(2, 4_000, { atomic: false, changes: [create(service('b'))] });
  assert.equal(store.get('service', 'b-id')?.createdAtMs, 5_000);
  assert.equal(store.atMs, 5_000);
});

test('replicas that apply the same entries are equal, and pins equal the past (random)', () => {
  const names = fc.constantFrom('a', 'b', 'c', 'd');
  const change = fc.record({
    kind: fc.constantFrom('create', 'update', 'remove'),
    name: names,
    rename: names,
    stale: fc.boolean(),
  });
  const entries = fc.array(
    fc.record({
      atomic: fc.boolean(),
      pin: fc.boolean(),
      changes: fc.array(change, { maxLength: 4 }),
    }),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(entries, (history) => {
      const [left, right] = [new Store(), new Store()];
      const pins: { hash: string; pin: ReturnType<Store['pin']> }[] = [];
      for (const [at, { atomic, pin, changes }] of history.entries()) {
        if (pin) pins.push({ hash: left.hash(), pin: left.pin() });
        const transaction = {
          atomic,
          changes: changes.map(({ kind, name, rename, stale }): Change => {
            const before = left.get('service', `${name}-id`) ?? service(name);
            if (kind === 'remove') return { kind, table: 'service', id: before.id };
            const version = before.version - (stale ? 1 : 0);
            const object = { ...before, version, spec: { ...before.spec, name: rename } };
            return kind === 'create' ? create(object) : update(object);
          }),
        };
        assert.deepEqual(left.apply(at + 1, at, transaction), right.apply(at + 1, at, transaction));
        assert.equal(left.hash(), right.hash());
        const used = Array.from(left.all('service'), ({ spec }) => spec.name);
        assert.equal(new Set(used).size, used.length);
      }
      for (const { hash, pin } of pins) {
        assert.equal([...pin.all('service')].length, pin.count('service'));
        assert.equal(hashView(pin), hash);
      }
    }),
    { numRuns: 100, seed: 7 },
  );
});
