/** Tasks as the store keeps them: packed, they read and copy as what was put in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Contents } from '../../manager/store/contents.ts';
import { RecordsHash } from '../../manager/store/hash.ts';
import { taskRecord } from '../../manager/store/taskRecord.ts';
import { sameValue } from '../../model/equal.ts';
import type { TableName, Tables, Task, TaskStatus } from '../../model/types.ts';
import { decodeObject, encodeObject, RecordEncoder } from '../../proto/convert.ts';
import * as arbitraries from '../support/arbitraries.ts';
import { canonical } from '../support/canonical.ts';
import * as objects from '../support/objects.ts';
import { fc } from '../support/properties.ts';

function stored(task: Task): Task {
  return taskRecord(new Contents(), undefined, task, task);
}

const hex = fc.stringMatching(/^[0-9a-f]{64}$/);
const odd = fc.oneof(
  fc.constantFrom('', '-', 'b', '1:', '0', ' '.repeat(32), 'F'.repeat(64), 'a'.repeat(63)),
  fc.string({ maxLength: 70 }),
);
const containerId = fc.oneof(hex, odd);

test('a stored task reads, copies and goes over the wire as the one that was put in', () => {
  fc.assert(
    fc.property(arbitraries.task, containerId, (plain, id) => {
      const task: Task = { ...plain, status: { ...plain.status, containerId: id } };
      const record = stored(task);
      assert.ok(sameValue(record, task) && sameValue(task, record));
      assert.equal(canonical(record), canonical(task));
      const copy: TaskStatus = { ...record.status };
      assert.equal(copy.containerId, id);
      assert.deepEqual(copy.phases, task.status.phases);
      assert.deepEqual(Object.keys(copy).sort(), Object.keys(task.status).sort());
      const { object } = decodeObject(encodeObject('task', record));
      assert.equal(canonical(object), canonical(decodeObject(encodeObject('task', task)).object));
    }),
    { numRuns: 300, seed: 5 },
  );
});

test('equal tasks have equal digests, however they came to be, and others other ones', () => {
  const hashOf = (task: Task): string => {
    const hash = new RecordsHash();
    hash.add('task', stored(task));
    return hash.text;
  };
  fc.assert(
    fc.property(arbitraries.task, containerId, fc.nat(), (plain, id, ms) => {
      const task: Task = { ...plain, status: { ...plain.status, containerId: id } };
      const again = structuredClone(stored(task));
      assert.equal(hashOf(again), hashOf(task));
      const longer = { ...task, status: { ...task.status, containerId: `${id}x` } };
      assert.notEqual(hashOf(longer), hashOf(task));
      const phases = { ...task.status.phases, 832: ms };
      if (sameValue(phases, task.status.phases)) return;
      assert.notEqual(hashOf({ ...task, status: { ...task.status, phases } }), hashOf(task));
    }),
    { numRuns: 300, seed: 6 },
  );
});

test('a stored task is digested as any record of its fields', () => {
  fc.assert(
    fc.property(arbitraries.task, containerId, (plain, id) => {
      const record = stored({ ...plain, status: { ...plain.status, containerId: id } });
      const digest = (task: Task): string => {
        const hash = new RecordsHash();
        hash.add('task', task);
        return hash.text;
      };
      // A field more, though it says nothing, is not what stores keep: digested field by field.
      assert.equal(digest(record), digest({ ...record, more: undefined } as Task));
      assert.notEqual(digest(record), digest({ ...record, more: 1 } as Task));
    }),
    { numRuns: 300, seed: 7 },
  );
});

test('a record for a snapshot has the bytes that any object has', () => {
  const encoder = new RecordEncoder();
  const recordBytes = <T extends TableName>(table: T, object: Tables[T]): Buffer => {
    const copies: Buffer[] = [];
    encoder.encode(table, object, (all, start) => copies.push(Buffer.from(all.subarray(start))));
    return Buffer.concat(copies);
  };
  const [task] = fc.sample(arbitraries.task, { numRuns: 1, seed: 1 }).map(stored);
  fc.assert(
    fc.property(arbitraries.task, containerId, fc.boolean(), (plain, id, isUsual) => {
      const usual = { ports: [], genericResources: [] };
      const status = { ...plain.status, containerId: id, ...(isUsual ? { exitCode: 137 } : {}) };
      const record = stored({ ...plain, ...(isUsual ? usual : {}), status });
      const bytes = Buffer.from(encodeObject('task', record));
      assert.deepEqual(recordBytes('task', record), bytes);
      // Again, as the bytes of its specification are known now.
      assert.deepEqual(recordBytes('task', record), bytes);
    }),
    { numRuns: 500, seed: 8 },
  );
  assert.throws(() => recordBytes('task', { ...task, generation: -1 }), /generation/);
  const service = objects.service('web');
  const bytes = Buffer.from(encodeObject('service', service));
  assert.deepEqual(recordBytes('service', service), bytes);
});
