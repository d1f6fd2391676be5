/**
 * The leader's wall clock set forward and back while a swarm runs: nothing that runs is touched,
 * delays under way go on, stamps never go back.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HOUR_MS } from '../../base/duration.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { serviceSpec } from '../support/objects.ts';
import { clock, type TestNode, TestSwarm, until } from '../support/swarm.ts';

function running(node: TestNode, serviceId: string): Task[] {
  return [...node.control.store.tasksOfService(serviceId)].filter(
    ({ status }) => status.state === TaskState.RUNNING,
  );
}

test('a wall clock set an hour forward and back restarts nothing and stalls nothing', async () => {
  const swarm = new TestSwarm();
  try {
    const m1 = await swarm.init('m1');
    const { store } = m1.control;
    const restart = { condition: 'any', delayMs: 300, maxAttempts: 0, windowMs: 0 } as const;
    const spec = serviceSpec('web', { replicas: 3, task: { restart } });
    const web = await m1.control.createService(spec);
    const runs = (count: number): Promise<Task[]> =>
      until(`${count} tasks run`, () => {
        const tasks = running(m1, web.id);
        return tasks.length === count && tasks;
      });
    const before = (await runs(3)).map(({ id }) => id).sort();
    for (const stepMs of [HOUR_MS, 0, -HOUR_MS]) {
      clock.steppedMs = stepMs;
      const stamps = [...store.all('task')].map(({ updatedAtMs }) => updatedAtMs);
      const made = await m1.control.createService(serviceSpec(`s${stepMs}`, { replicas: 1 }));
      await until('a new service runs', () => running(m1, made.id).length === 1);
      assert.ok(made.createdAtMs >= Math.max(...stamps), 'stamps never go back');
      assert.deepEqual(
        running(m1, web.id)
          .map(({ id }) => id)
          .sort(),
        before,
      );
      assert.equal(store.get('node', m1.id)?.state, 'ready');
    }
    const [victim] = running(m1, web.id);
    const container = m1.runtime.containers.all.get(victim.status.containerId);
    assert.ok(container);
    container.end({ exitCode: 1 });
    // The restart delay of 300 ms passes, not the hour that the wall clock was set back.
    await until('another one runs in its place', () => {
      const tasks = running(m1, web.id);
      return tasks.length === 3 && !tasks.some(({ id }) => id === victim.id);
    });
  } finally {
    clock.steppedMs = 0;
    await swarm.close();
  }
});
