/**
 * Images that cannot be had: how often they are asked for, and what becomes of an update to one.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TaskState } from '../../model/taskState.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { images, started, watchMissing, withImage } from '../support/updates.ts';

test('images that cannot be had are asked for once in a restart delay, not without end', () => {
  const restart = { condition: 'any', delayMs: 5_000, maxAttempts: 0, windowMs: 0 } as const;
  const job = { kind: 'replicated-job', maxConcurrent: 1, totalCompletions: 1 } as const;
  for (const fields of [{}, { mode: { kind: 'global' } }, { mode: job }] as const) {
    const plane = new ControlPlane({ nodes: 1 });
    plane.behaviour = () => 'reject';
    plane.create('web', { ...fields, task: { restart } });
    plane.settle();
    const [{ slot, generation }] = plane.tasks('web');
    const tries = (): number => plane.tasks('web').at(-1)?.generation ?? 0;
    const before = tries() - generation;
    plane.advance(60_000);
    assert.ok(tries() - generation <= before + 12, `${tries()} tries in slot ${slot}`);
    plane.behaviour = () => 'run';
    plane.advance(10_000);
    assert.equal(plane.running('web').length, 1);
  }
});

test('an update to an image that cannot be had tries the next slot, and then stops', () => {
  const restart = { condition: 'any', delayMs: 5_000, maxAttempts: 0, windowMs: 0 } as const;
  const config = { failureAction: 'rollback', maxFailureRatio: 0.4, parallelism: 1 } as const;
  const plane = started(4, config, { task: { restart } });
  plane.behaviour = ({ spec }) => (spec.container.image === 'none' ? 'reject' : 'run');
  plane.update('web', withImage('none'));
  plane.settle(() => assert.equal(plane.running('web').length, 4));
  plane.advance(60_000);
  assert.equal(plane.service('web').update?.state, 'rollback_completed');
  assert.deepEqual(images(plane), Array(4).fill('web:1'));
});

test('with continue every slot is tried, and all are replaced once the image is there', () => {
  const restart = { condition: 'any', delayMs: 5_000, maxAttempts: 0, windowMs: 0 } as const;
  const plane = started(3, { failureAction: 'continue', parallelism: 1 }, { task: { restart } });
  plane.behaviour = ({ spec }) => (spec.container.image === 'none' ? 'reject' : 'run');
  plane.update('web', withImage('none'));
  plane.advance(60_000);
  const tried = plane.tasks('web').filter(({ status }) => status.state === TaskState.REJECTED);
  assert.deepEqual([...new Set(tried.map(({ slot }) => slot))], [1, 2, 3]);
  assert.equal(plane.running('web').length, 3);
  plane.behaviour = () => 'run';
  const missing = watchMissing(plane, 3);
  plane.advance(60_000, missing.check);
  assert.deepEqual(images(plane), Array(3).fill('none'));
  assert.equal(missing.most, 1);
  assert.equal(plane.service('web').update?.state, 'completed');
});
