/** What Docker's filters let through. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Filters } from '../../daemon/api/filters.ts';

test('a prune takes what has every label, and not every label!', () => {
  const prunes = (given: object, labels: Record<string, string>): boolean =>
    Filters.parse(JSON.stringify(given), ['label', 'label!']).prunes(labels);
  assert.equal(prunes({}, { a: '1' }), true);
  assert.equal(prunes({ label: ['a', 'b'] }, { a: '1' }), false);
  assert.equal(prunes({ label: ['a=1'] }, { a: '1' }), true);
  assert.equal(prunes({ 'label!': ['a'] }, { a: '1' }), false);
  // As Docker has it: only what has both is left.
  assert.equal(prunes({ 'label!': ['a', 'b'] }, { a: '1' }), true);
  assert.equal(prunes({ 'label!': ['a', 'b'] }, { a: '1', b: '' }), false);
});
