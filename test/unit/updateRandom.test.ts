/**
 * Rolling updates of random services: how many slots are without a task, or have two, at any
 * moment; and how long a slot waits between a task that failed and the next. Nothing else goes
 * wrong here; what happens when nodes come and go is in orchestratorRandom.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Task, UpdateConfig } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { fc } from '../support/properties.ts';

const rolled = fc.record({
  replicas: fc.integer({ min: 1, max: 10 }),
  parallelism: fc.integer({ min: 0, max: 4 }),
  delayMs: fc.constantFrom(0, 1_000),
  order: fc.constantFrom('stop-first' as const, 'start-first' as const),
  slow: fc.double({ min: 0, max: 0.9, noNaN: true }),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
});

function bySlot(tasks: readonly Task[]): Map<number, Task[]> {
  const slots = new Map<number, Task[]>();
  for (const task of tasks) slots.set(task.slot, [...(slots.get(task.slot) ?? []), task]);
  return slots;
}

test('an update takes as many slots at once as it may, and no more (random)', () => {
  fc.assert(
    fc.property(rolled, ({ replicas, parallelism, delayMs, order, slow, seed }) => {
      const plane = new ControlPlane({ nodes: 4, seed });
      const update: UpdateConfig = {
        parallelism,
        delayMs,
        failureAction: 'pause',
        monitorMs: 0,
        maxFailureRatio: 0,
        order,
        progressDeadlineMs: 0,
      };
      plane.create('web', { replicas, update });
      plane.settle();
      const random = new SeededRandom(seed);
      // A task that is slow takes several looks to be made ready.
      plane.behaviour = () => (random.float() < slow ? 'pull' : 'run');
      plane.update('web', ({ spec: { task } }) => ({ task: { ...task, forceUpdate: 1 } }));
      const most = parallelism === 0 ? replicas : parallelism;
      const check = (): void => {
        let missing = 0;
        let doubled = 0;
        for (const tasks of bySlot(plane.tasks('web')).values()) {
          const running = tasks.filter(({ status }) => status.state === TaskState.RUNNING);
          const alive = tasks.filter(
            ({ status }) => !isTerminal(status.state) && status.state >= TaskState.STARTING,
          );
          if (running.length === 0) missing += 1;
          if (alive.length > 1) doubled += 1;
        }
        assert.ok(missing <= (order === 'stop-first' ? most : 0), `${missing} slots are missing`);
        assert.ok(doubled <= (order === 'start-first' ? most : 0), `${doubled} slots are doubled`);
      };
      for (let turn = 0; turn < 400; turn += 1) {
        plane.round();
        check();
        plane.agents();
        check();
        if (turn % 5 === 4) plane.advance(1_000, check);
      }
      plane.behaviour = () => 'run';
      plane.advance(60_000, check);
      assert.ok(plane.running('web').every((task) => task.spec.forceUpdate === 1));
      assert.equal(plane.running('web').length, replicas);
      assert.equal(plane.service('web').update?.state, 'completed');
    }),
    { numRuns: 60, seed: 21 },
  );
});

test('a task that failed is followed by the next after the delay, not before (random)', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5_000 }),
      fc.array(fc.tuple(fc.nat({ max: 20 }), fc.integer({ min: 1, max: 3_000 })), {
        maxLength: 12,
      }),
      (delayMs, ends) => {
        const plane = new ControlPlane({ nodes: 3 });
        const restart = { condition: 'any', delayMs, maxAttempts: 0, windowMs: 0 } as const;
        plane.create('web', { replicas: 3, task: { restart } });
        plane.settle();
        for (const [pick, ms] of ends) {
          const running = plane.running('web');
          if (running.length > 0) plane.end(running[pick % running.length], TaskState.FAILED);
          plane.settle();
          plane.advance(ms);
        }
        plane.advance(10_000);
        for (const tasks of bySlot(plane.tasks('web')).values()) {
          for (let at = 1; at < tasks.length; at += 1) {
            const endedMs = tasks[at - 1].status.atMs;
            const startedMs = tasks[at].status.phases[TaskState.STARTING];
            assert.ok(startedMs - endedMs >= delayMs, `${startedMs - endedMs} of ${delayMs} ms`);
            assert.ok(startedMs - endedMs <= delayMs + 2, 'and not long after it');
          }
        }
        assert.equal(plane.running('web').length, 3);
      },
    ),
    { numRuns: 200, seed: 22 },
  );
});
