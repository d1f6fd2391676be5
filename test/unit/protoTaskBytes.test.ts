/**
 * Tasks read from bytes by hand are what the general way reads, for what encodeObject writes and
 * for whatever else: cut, changed, or with fields of a later release.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Task } from '../../model/types.ts';
import { taskFromBytes } from '../../proto/convert/taskBytes.ts';
import { decodeObject, encodeObject } from '../../proto/convert.ts';
import * as arbitraries from '../support/arbitraries.ts';
import { canonical } from '../support/canonical.ts';
import { fc } from '../support/properties.ts';

/** As canonical text, or undefined when it is refused. */
function general(bytes: Uint8Array): string | undefined {
  try {
    const { table, object } = decodeObject(bytes);
    return table === 'task' ? canonical(object) : undefined;
  } catch {
    return undefined; // refused, one way or another
  }
}

const task: fc.Arbitrary<Task> = fc
  .record({ plain: arbitraries.task, text: fc.constantFrom('', '\ufeffmarked', 'ü\ud83d\ude00') })
  .map(({ plain, text }) => ({ ...plain, status: { ...plain.status, message: text } }));

test('what is written is read by hand, and the same as the general way', () => {
  let byHand = 0;
  fc.assert(
    fc.property(task, (object) => {
      const bytes = encodeObject('task', object);
      const read = taskFromBytes(bytes);
      if (read === undefined) return;
      byHand += 1;
      assert.equal(canonical(read), general(bytes));
    }),
    { numRuns: 400, seed: 3 },
  );
  assert.ok(byHand > 100, `only ${byHand} of 400`);
});

test('bytes that were changed or cut are read the same, or not by hand', () => {
  fc.assert(
    fc.property(task, fc.nat(), fc.nat({ max: 255 }), fc.boolean(), (object, at, byte, cut) => {
      const bytes = encodeObject('task', object).slice();
      const place = at % bytes.length;
      bytes[place] = byte;
      const given = cut ? bytes.subarray(0, place) : bytes;
      const read = taskFromBytes(given);
      if (read !== undefined) assert.equal(canonical(read), general(given));
    }),
    { numRuns: 3_000, seed: 4 },
  );
});

test('a task with a field of a later release is left to the general way', () => {
  fc.assert(
    fc.property(task, (object) => {
      const bytes = encodeObject('task', object);
      // Field 99, a number.
      const later = Buffer.concat([bytes, Uint8Array.of(0x98, 0x06, 0x01)]);
      assert.equal(taskFromBytes(later), undefined);
      assert.equal(general(later), general(bytes));
    }),
    { numRuns: 50, seed: 5 },
  );
});
