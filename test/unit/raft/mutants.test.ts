/**
 * The planted bugs of `npm run mutants` fit the sources as they are: quick, so that a change which
 * moves a text is noticed at once. Whether each bug is caught is shown by test/long/mutants.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MUTANTS } from '../../mutants/all.ts';
import { planted } from '../../mutants/mutant.ts';
import { ROOT } from '../../mutants/workshop.ts';

test('the text that each planted bug replaces is in its file exactly once', () => {
  for (const mutant of MUTANTS) assert.ok(planted(ROOT, mutant).size > 0);
});

test('there are at least twenty planted bugs, each with a name of its own', () => {
  assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
  assert.ok(MUTANTS.length >= 20);
});
