/**
 * The store's hash: kept up by each change it is what it would be worked out anew, it tells every
 * two states apart that a plain comparison tells apart, and a snapshot is checked against it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { Replica } from '../../manager/replica.ts';
import { RecordWriter } from '../../manager/snapshotRecords.ts';
import { hashView, RecordsHash } from '../../manager/store/hash.ts';
import { Store, type StoredRecord } from '../../manager/store/store.ts';
import type { Change } from '../../manager/store/types.ts';
import type { AnyObject, Service, TableName } from '../../model/types.ts';
import { encodeLogEntry, encodeObject } from '../../proto/convert.ts';
import { canonicalText } from '../support/canonical.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { ManualClock } from '../support/manualClock.ts';
import { service } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

function apply(store: Store, ...changes: Change[]): void {
  store.apply(store.version + 1, 1_000, { atomic: false, changes });
}

function create(name: string, spec: Parameters<typeof service>[1] = {}): Change {
  return { kind: 'create', table: 'service', object: service(name, spec) };
}

async function recordsOf(store: Store): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  for await (const record of store.snapshot().records) records.push(record);
  return records;
}

/** Copies of a value, each of which differs from it in one place. */
function* withOneChange(value: unknown): Iterable<unknown> {
  if (typeof value === 'number') yield value + 1;
  else if (typeof value === 'string') yield `${value}x`;
  else if (typeof value === 'boolean') yield !value;
  else if (Array.isArray(value)) {
    yield [...value, 'more'];
    for (const [at, item] of value.entries()) {
      for (const other of withOneChange(item)) yield value.with(at, other);
    }
  } else if (typeof value === 'object' && value !== null) {
    yield { ...value, more: 1 };
    for (const [name, item] of Object.entries(value)) {
      for (const other of withOneChange(item)) yield { ...value, [name]: other };
    }
  }
}

test('kept up by changes, the hash is that of the records, and tells states apart', () => {
  const changes = fc.array(
    fc.record({
      kind: fc.constantFrom('create', 'update', 'remove'),
      name: fc.constantFrom('a', 'b', 'c'),
      text: fc.string({ maxLength: 3 }),
      count: fc.nat({ max: 3 }),
      atomic: fc.boolean(),
    }),
    { maxLength: 12 },
  );
  const seen = new Map<string, string>();
  fc.assert(
    fc.property(changes, (history) => {
      const store = new Store();
      for (const { kind, name, text, count, atomic } of history) {
        const before: Service = store.get('service', `${name}-id`) ?? service(name);
        const spec = { ...before.spec, labels: { [text]: String(count) } };
        const change: Change =
          kind === 'remove'
            ? { kind, table: 'service', id: before.id }
            : { kind, table: 'service', object: { ...before, spec } };
        store.apply(store.version + 1, count, { atomic, changes: [change, create('fixed')] });
        const hash = store.hash();
        assert.equal(hash, hashView(store));
        assert.equal(store.hashAt(store.version), hash);
        const other = seen.get(hash) ?? canonicalText(store);
        assert.equal(other, canonicalText(store), 'two states of one hash');
        seen.set(hash, other);
      }
    }),
    { numRuns: 200, seed: 11 },
  );
  const texts = new Set(seen.values());
  assert.ok(texts.size > 200);
  assert.equal(texts.size, seen.size, 'two hashes of one state');
});

test('every field of every kind of record counts', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.create('web', { replicas: 4, task: { container: { env: ['A=1'] } } });
  plane.settle();
  const hashOf = (table: TableName, object: AnyObject): string => {
    const hash = new RecordsHash();
    hash.add(table, object);
    return hash.text;
  };
  for (const table of ['cluster', 'node', 'service', 'task'] as const) {
    const [object] = plane.store.all(table);
    const hashes = new Set([hashOf(table, object)]);
    const variants = [...withOneChange(object)] as AnyObject[];
    for (const variant of variants) hashes.add(hashOf(table, variant));
    assert.ok(variants.length > 10, `${table}: ${variants.length}`);
    assert.equal(hashes.size, variants.length + 1, table);
  }
});

test('the hash of a version that was is found as long as it is kept', () => {
  const store = new Store();
  const before = store.hash();
  apply(store, create('a'));
  const first = store.hash();
  store.advance(5);
  apply(store, create('b'));
  assert.equal(store.hashAt(0), before);
  assert.equal(store.hashAt(1), first);
  assert.equal(store.hashAt(5), first, 'an entry without changes leaves it as it is');
  assert.equal(store.hashAt(6), store.hash());
  for (let at = 0; at < 5_000; at += 1) {
    const web = store.get('service', 'a-id');
    assert.ok(web);
    const spec = { ...web.spec, labels: { at: String(at) } };
    apply(store, { kind: 'update', table: 'service', object: { ...web, spec } });
  }
  assert.equal(store.hashAt(6), undefined);
  assert.equal(store.hashAt(store.version), store.hash());
  assert.equal(store.hashAt(store.version - 1_000)?.length, 16);
});

test('records that are not what the snapshot says are refused, and nothing is replaced', async () => {
  const store = new Store();
  apply(store, create('web'), create('db'));
  const records = await recordsOf(store);
  const other = new Store();
  apply(other, create('own'));
  const own = other.hash();
  const [first, ...rest] = records;
  const altered = { ...first, object: { ...first.object, updatedAtMs: 7 } };
  for (const wrong of [rest, [...rest, altered as StoredRecord]]) {
    await assert.rejects(other.restore(9, 0, wrong, store.hash()), (error) =>
      hasCode(error, 'corrupt'),
    );
    assert.equal(other.hash(), own);
  }
  await other.restore(9, 0, records, store.hash());
  assert.equal(other.hash(), store.hash());
  assert.equal(other.hashAt(9), store.hash());
});

test('a snapshot of an earlier release, which says no hash, is taken as it is', async () => {
  const store = new Store();
  apply(store, create('web'));
  const writer = new RecordWriter();
  writer.add(encodeLogEntry({ atomic: false, atMs: 4_000, changes: [] }));
  for (const { table, object } of await recordsOf(store)) writer.add(encodeObject(table, object));
  const replica = new Replica({ clock: new ManualClock() });
  const bytes = writer.take();
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield bytes;
  }
  await replica.restore(3, chunks());
  assert.equal(replica.store.hash(), store.hash());
  assert.equal(replica.store.atMs, 4_000);
});
