/**
 * Watching the store from a version, at random: who takes changes and resumes where it left off
 * holds what the store holds, without a gap or a change twice; who fell out is told ('compacted')
 * and begins anew. And transactions decided from one moment are checked again when applied.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import type { AppliedEntry } from '../../manager/raft/types.ts';
import { Replica } from '../../manager/replica.ts';
import { Store } from '../../manager/store/store.ts';
import type { Change, StoreEvent } from '../../manager/store/types.ts';
import type { Service } from '../../model/types.ts';
import { canonical } from '../support/canonical.ts';
import { ManualClock } from '../support/manualClock.ts';
import { service } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

const NAMES = ['a', 'b', 'c', 'd', 'e'] as const;

/** A copy of the services, kept by changes alone. */
class Mirror {
  readonly services = new Map<string, Service>();
  version = 0;
  falls = 0;

  #begin(store: Store): void {
    this.services.clear();
    for (const each of store.all('service')) this.services.set(each.id, each);
    this.version = store.version;
  }

  /** What it sees, from where it left off; `limit` at a time and no more than `batches`. */
  follow(store: Store, limit: number, batches: number): void {
    try {
      const watch = store.watch(this.version);
      for (let batch = 0; batch < batches; batch += 1) {
        for (const event of watch.take(limit)) this.#see(event);
      }
      watch.close();
    } catch (error) {
      assert.ok(hasCode(error, 'exhausted'), String(error));
      assert.match(String(error), /compacted/);
      this.falls += 1;
      this.#begin(store);
    }
  }

  #see({ version, kind, id, before, after }: StoreEvent): void {
    assert.ok(version >= this.version, 'back in time');
    assert.equal(this.services.get(id), before, 'a gap, or a change twice');
    assert.equal(kind, before === undefined ? 'create' : after === undefined ? 'remove' : 'update');
    if (after === undefined) this.services.delete(id);
    else this.services.set(id, after as Service);
    this.version = version;
  }
}

test('a watcher that resumes by version has no gap and no change twice, or is told to begin anew', () => {
  const step = fc.record({
    name: fc.constantFrom(...NAMES),
    remove: fc.boolean(),
    look: fc.boolean(),
    entries: fc.nat({ max: 12 }),
  });
  let falls = 0;
  let looks = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 10, maxLength: 60 }), (steps) => {
      const store = new Store({ ringEvents: 16 });
      const mirror = new Mirror();
      const write = (name: string, remove: boolean): Change => {
        const before = store.get('service', `${name}-id`);
        if (before === undefined) {
          return { kind: 'create', table: 'service', object: service(name) };
        }
        if (remove) return { kind: 'remove', table: 'service', id: before.id };
        const spec = { ...before.spec, labels: { at: String(store.version) } };
        return { kind: 'update', table: 'service', object: { ...before, spec } };
      };
      for (const { name, remove, look, entries } of steps) {
        for (let at = 0; at <= entries; at += 1) {
          const changes = [write(name, remove)];
          store.apply(store.version + 1, 0, { atomic: false, changes });
        }
        if (!look) continue;
        // A whole version is always taken: one change an entry here.
        mirror.follow(store, 1 + (entries % 3), 4);
        looks += 1;
      }
      while (mirror.version < store.version) mirror.follow(store, 100, 2);
      const own = [...mirror.services.values()].map(canonical).sort();
      assert.deepEqual(own, Array.from(store.all('service'), canonical).sort());
      falls += mirror.falls;
    }),
    { numRuns: 150, seed: 21 },
  );
  assert.ok(falls > 50 && looks > 500, `${falls} of ${looks}`);
});

test('a watch from a version before a restore is told that it fell out; one from it goes on', async () => {
  const store = new Store();
  const change: Change = { kind: 'create', table: 'service', object: service('a') };
  store.apply(5, 0, { atomic: true, changes: [change] });
  await store.restore(9, 0, [{ table: 'service', object: service('b') }]);
  assert.throws(
    () => store.watch(5),
    (error) => hasCode(error, 'exhausted'),
  );
  const watch = store.watch(9);
  store.apply(10, 0, { atomic: true, changes: [{ ...change, object: service('c') }] });
  assert.deepEqual(
    watch.take(9).map(({ id }) => id),
    ['c-id'],
  );
  assert.equal(store.watchFalls, 1);
});

test('of many transactions decided from one moment and pipelined, one wins on every replica', async () => {
  const replicas = [0, 1, 2].map(() => new Replica({ clock: new ManualClock() }));
  const entries: AppliedEntry[] = [];
  const waiting: (() => void)[] = [];
  for (const replica of replicas) {
    replica.attach({
      isLeader: true,
      readIndex: () => Promise.resolve(),
      // Nothing is applied before all are proposed.
      propose: (data) => {
        const entry = { index: entries.length + 1, term: 1, data };
        entries.push(entry);
        return new Promise((resolve) => waiting.push(() => resolve(entry)));
      },
    });
  }
  const flush = (from: number): void => {
    for (const replica of replicas) replica.apply(entries.slice(from));
    for (const answer of waiting.splice(0)) answer();
  };
  const [leader] = replicas;
  const made = leader.propose({
    atomic: true,
    changes: [{ kind: 'create', table: 'service', object: service('web') }],
  });
  flush(0);
  await made;
  const before = leader.store.get('service', 'web-id');
  assert.ok(before);
  const updates = Array.from({ length: 20 }, (_, at) => {
    const object = { ...before, spec: { ...before.spec, labels: { winner: String(at) } } };
    return leader.propose({
      atomic: true,
      changes: [{ kind: 'update', table: 'service', object }],
    });
  });
  flush(1);
  const outcomes = (await Promise.all(updates)).map(({ rejected }) => rejected.length);
  assert.deepEqual(outcomes, [0, ...new Array<number>(19).fill(1)]);
  for (const { store } of replicas) {
    assert.equal(store.get('service', 'web-id')?.spec.labels['winner'], '0');
    assert.equal(store.hash(), leader.store.hash());
  }
});
