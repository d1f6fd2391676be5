/**
 * From what a user typed to one object: what fits several is never guessed at.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { find } from '../../daemon/api/find.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock } from '../support/manualClock.ts';
import { node } from '../support/objects.ts';

test('a host name that two nodes have is refused with the ids to choose from', () => {
  const direct = new DirectStore(new ManualClock());
  const description = { hostname: 'h2' };
  direct.create('node', node('first', 1, { description, state: 'down' }));
  assert.equal(find(direct.store, 'node', 'h2').id, 'first');
  direct.create('node', node('second', 2, { description }));
  assert.throws(() => find(direct.store, 'node', 'h2'), {
    code: 'invalid',
    message: /^node h2 is ambiguous: 2 nodes .*: first \(down\), second \(ready\)$/,
  });
  assert.equal(find(direct.store, 'node', 'sec').id, 'second');
});
