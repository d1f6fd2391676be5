/** Tasks as the store keeps them: packed, they read and copy as what was put in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Contents } from '../../manager/store/contents.ts';
import { RecordsHash } from '../../manager/store/hash.ts';
import { taskRecord } from '../../manager/store/taskRecord.ts';
import { sameValue } from '../../model/equal.ts';
import type { Task, TaskStatus } from '../../model/types.ts';
import { decodeObject, encodeObject } from '../../proto/convert.ts';
import * as arbitraries from '../support/arbitraries.ts';
import { canonical } from '../support/canonical.ts';
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
