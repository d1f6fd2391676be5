/**
 * Tasks have one name everywhere: what `ps` shows is what the container is called, what `exec`
 * takes and what names resolve. Never looks at who uses it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { shownSlot, taskName, taskPlace } from '../../model/taskName.ts';

const TASK = { id: 'abc', serviceName: 'web', slot: 3, nodeId: 'n1', jobIteration: undefined };

test('a task of a replicated service is named by its slot', () => {
  assert.equal(taskName(TASK), 'web.3.abc');
  assert.equal(taskPlace(TASK), '3');
});

test('a task of a global service or global job is named by its node', () => {
  assert.equal(taskName({ ...TASK, slot: 0 }), 'web.n1.abc');
  assert.equal(taskName({ ...TASK, slot: 0, jobIteration: 1 }), 'web.n1.abc');
  assert.equal(shownSlot({ ...TASK, slot: 0, jobIteration: 1 }), undefined);
});

test('slots of a job are counted from 0, as users see them', () => {
  assert.equal(taskName({ ...TASK, slot: 1, jobIteration: 0 }), 'web.0.abc');
  assert.equal(shownSlot({ ...TASK, slot: 2, jobIteration: 4 }), 1);
});
