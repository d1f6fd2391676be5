/** What a host says that is asked for the swarm and is no manager of one that runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LOCKED, notManager } from '../../daemon/localNode.ts';

test('a host that is in a swarm and does not take its place says why, not that it is in none', () => {
  assert.equal(notManager(undefined, LOCKED).message, LOCKED);
  assert.match(notManager(undefined, '').message, /it is in no swarm/);
});
