/**
 * Rolling updates and rollbacks over the loops together: how many slots at a time, in which order,
 * what happens when new tasks fail, and that a new leader goes on where the old one was.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_UPDATE_CONFIG } from '../../model/defaults.ts';
import { TaskState } from '../../model/taskState.ts';
import type { PortConfig, Task } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { network } from '../support/objects.ts';
import { images, started, watchMissing, withImage } from '../support/updates.ts';

function port(publishedPort: number): PortConfig {
  return {
    name: '',
    protocol: 'tcp',
    targetPort: 80,
    publishedPort,
    publishMode: 'ingress',
    hostAddress: '',
  };
}

test('an update replaces every task, one slot at a time', () => {
  const plane = started(4, { parallelism: 1 });
  const missing = watchMissing(plane, 4);
  plane.update('web', withImage('web:2'));
  plane.settle(missing.check);
  assert.deepEqual(images(plane), Array(4).fill('web:2'));
  assert.equal(missing.most, 1);
});

test('parallelism says how many slots at once, and 0 means all', () => {
  for (const [parallelism, most] of [
    [2, 2],
    [0, 4],
  ]) {
    const plane = started(4, { parallelism });
    const missing = watchMissing(plane, 4);
    plane.update('web', withImage('web:2'));
    plane.settle(missing.check);
    assert.deepEqual(images(plane), Array(4).fill('web:2'));
    assert.equal(missing.most, most);
  }
});

test('an update is complete once the last task has been watched for the monitor period', () => {
  const plane = started(2, { monitorMs: 5_000 });
  plane.update('web', withImage('web:2'));
  plane.settle();
  assert.equal(plane.service('web').update?.state, 'updating');
  plane.advance(4_999);
  assert.equal(plane.service('web').update?.state, 'updating');
  plane.advance(1);
  const { update } = plane.service('web');
  assert.equal(update?.state, 'completed');
  assert.equal(update?.completedAtMs, plane.nowMs);
});

test('the delay passes between one slot and the next', () => {
  const plane = started(3, { delayMs: 10_000 });
  plane.update('web', withImage('web:2'));
  const updated = (): number => images(plane).filter((image) => image === 'web:2').length;
  plane.settle();
  assert.equal(updated(), 1);
  plane.advance(9_999);
  assert.equal(updated(), 1);
  plane.advance(1);
  assert.equal(updated(), 2);
  plane.elect();
  plane.advance(10_000);
  assert.equal(updated(), 3);
});

test('stop-first never runs two tasks in one slot', () => {
  const plane = started(3, {});
  plane.update('web', withImage('web:2'));
  plane.settle(() => {
    const active = plane
      .tasks('web')
      .filter(({ status }) => status.state >= TaskState.STARTING && status.state < 576);
    assert.equal(new Set(active.map(({ slot }) => slot)).size, active.length);
  });
});

test('start-first never has fewer running than replicas', () => {
  const plane = started(3, { order: 'start-first', parallelism: 2 });
  const missing = watchMissing(plane, 3);
  plane.update('web', withImage('web:2'));
  plane.settle(missing.check);
  assert.deepEqual(images(plane), Array(3).fill('web:2'));
  assert.equal(missing.most, 0);
});

test('a new task that fails pauses the update and says which', () => {
  const plane = started(3, {});
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'fail' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  const { update } = plane.service('web');
  assert.equal(update?.state, 'paused');
  const failed = plane.tasks('web').find(({ status }) => status.state === TaskState.FAILED);
  assert.ok(failed);
  assert.equal(
    update?.message,
    `update paused due to failure or early termination of task ${failed.id}`,
  );
  assert.equal(images(plane).filter((image) => image === 'web:1').length, 2);
  plane.advance(60_000);
  assert.equal(images(plane).filter((image) => image === 'web:1').length, 2);
});

test('a paused update goes on with a new specification', () => {
  const plane = started(3, {});
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'fail' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.update('web', withImage('web:3'));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), Array(3).fill('web:3'));
  assert.equal(plane.service('web').update?.state, 'completed');
});

test('failures below the ratio do not stop an update', () => {
  const plane = started(4, { maxFailureRatio: 0.5, parallelism: 1 });
  let failed: Task | undefined;
  plane.behaviour = (task) => {
    if (task.spec.container.image !== 'web:2') return 'run';
    failed ??= task;
    return task.id === failed.id ? 'fail' : 'run';
  };
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), Array(4).fill('web:2'));
  assert.equal(plane.service('web').update?.state, 'completed');
});

test('failure action continue goes through all slots', () => {
  const plane = started(3, { failureAction: 'continue' });
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'fail' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  assert.equal(plane.running('web').length, 0);
  assert.ok(plane.wanted('web').every((task) => task.spec.container.image === 'web:2'));
});

test('failure action rollback brings the old specification back', () => {
  const plane = started(3, { failureAction: 'rollback' });
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'fail' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), Array(3).fill('web:1'));
  const service = plane.service('web');
  assert.equal(service.update?.state, 'rollback_completed');
  assert.equal(service.previousSpec, undefined);
});

test('a paused update that is asked for once more goes on, and pauses at the next failure', () => {
  const plane = started(3, {});
  let bad = true;
  plane.behaviour = (task) => (bad && task.spec.container.image === 'web:2' ? 'fail' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  assert.equal(plane.service('web').update?.state, 'paused');
  const again = (): void => {
    const service = plane.service('web');
    plane.change({ kind: 'update', table: 'service', object: { ...service, update: undefined } });
  };
  plane.advance(1_000);
  again();
  plane.settle();
  plane.advance(10_000);
  assert.equal(plane.service('web').update?.state, 'paused');
  bad = false;
  plane.advance(1_000);
  again();
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), Array(3).fill('web:2'));
  assert.equal(plane.service('web').update?.state, 'completed');
});

test('a rollback that is not possible any more pauses and says why', () => {
  for (const field of ['network', 'port', 'port of a host'] as const) {
    const plane = new ControlPlane();
    plane.change({ kind: 'create', table: 'network', object: network('back') });
    plane.settle();
    const networks = [{ target: 'back-id', aliases: [], addresses: [] }];
    plane.create('web', {
      replicas: 2,
      update: { ...DEFAULT_UPDATE_CONFIG, failureAction: 'rollback', parallelism: 0 },
      task: { networks },
      ports: [port(8080)],
    });
    plane.settle();
    plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'hang' : 'run');
    plane.update('web', (service) => ({
      task: {
        ...service.spec.task,
        container: { ...service.spec.task.container, image: 'web:2' },
        networks: [],
      },
      ports: [],
    }));
    plane.settle();
    const publishMode = field === 'port' ? 'ingress' : 'host';
    const ports = [{ ...port(8080), publishMode } as const];
    if (field !== 'network') plane.create('other', { replicas: 1, ports });
    else plane.change({ kind: 'remove', table: 'network', id: 'back-id' });
    plane.settle();
    plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'fail' : 'run');
    plane.settle();
    plane.advance(10_000);
    const { update } = plane.service('web');
    assert.equal(update?.state, 'paused');
    const why = field === 'network' ? /network back-id not found/ : /8080.*"other"/;
    assert.match(update?.message ?? '', why);
  }
});

test('a start-first replacement that fails leaves the old task running', () => {
  const plane = started(2, { order: 'start-first' });
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'fail' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), ['web:1', 'web:1']);
  assert.equal(plane.service('web').update?.state, 'paused');
});

test('start-first with continue tries a failing slot again after the restart delay', () => {
  const plane = started(1, { order: 'start-first', failureAction: 'continue' });
  const attempts = new Set<string>();
  plane.behaviour = (task) => {
    if (task.spec.container.image === 'web:1') return 'run';
    attempts.add(task.id);
    return [...attempts].indexOf(task.id) < 2 ? 'fail' : 'run';
  };
  plane.update('web', withImage('web:2'));
  plane.settle();
  assert.deepEqual(images(plane), ['web:1']);
  const failed = plane.tasks('web').filter(({ status }) => status.state === TaskState.FAILED);
  assert.equal(failed.length, 1);
  plane.advance(5_000);
  assert.deepEqual(images(plane), ['web:1']);
  plane.advance(30_000);
  assert.deepEqual(images(plane), ['web:2']);
});

test('an update ends though a start-first replacement failed that may not be tried again', () => {
  const plane = started(
    3,
    { order: 'start-first', failureAction: 'continue' },
    { task: { restart: { condition: 'none', delayMs: 0, maxAttempts: 0, windowMs: 0 } } },
  );
  let failed = '';
  plane.behaviour = (task) => {
    if (task.spec.container.image === 'web:1') return 'run';
    if (failed === '') failed = task.id;
    return task.id === failed ? 'fail' : 'run';
  };
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane).sort(), ['web:1', 'web:2', 'web:2']);
  assert.equal(plane.service('web').update?.state, 'completed');
  plane.elect();
  plane.settle();
  plane.advance(60_000);
  assert.equal(plane.service('web').update?.state, 'completed');
});

test('a forced update replaces tasks though nothing else changed', () => {
  const plane = started(2, {});
  const before = plane.running('web').map(({ id }) => id);
  plane.update('web', ({ spec }) => ({ task: { ...spec.task, forceUpdate: 1 } }));
  plane.settle();
  const after = plane.running('web').map(({ id }) => id);
  assert.equal(after.length, 2);
  assert.ok(after.every((id) => !before.includes(id)));
});

test('labels of the service and scale alone replace no task', () => {
  const plane = started(2, {});
  const before = plane.running('web').map(({ id }) => id);
  plane.update('web', () => ({ labels: { tier: 'front' } }));
  plane.settle();
  assert.deepEqual(
    plane.running('web').map(({ id }) => id),
    before,
  );
});

test('a changed placement replaces only tasks that do not fit it', () => {
  const plane = started(3, {});
  const before = plane.running('web');
  plane.update('web', ({ spec }) => ({
    task: { ...spec.task, placement: { ...spec.task.placement, constraints: ['node.id!=h1'] } },
  }));
  plane.settle();
  const kept = before.filter(({ nodeId }) => nodeId !== 'h1').map(({ id }) => id);
  const after = plane.running('web');
  assert.equal(after.length, 3);
  assert.ok(kept.every((id) => after.some((task) => task.id === id)));
  assert.ok(after.every(({ nodeId }) => nodeId !== 'h1'));
});

test('a new leader in the midst of an update keeps to the parallelism', () => {
  const plane = started(6, { parallelism: 2 });
  const missing = watchMissing(plane, 6);
  plane.update('web', withImage('web:2'));
  for (let round = 0; round < 60; round += 1) {
    plane.elect();
    plane.round();
    missing.check();
    plane.agents();
    missing.check();
  }
  plane.settle(missing.check);
  assert.deepEqual(images(plane), Array(6).fill('web:2'));
  assert.ok(missing.most <= 2, `${missing.most} slots were down at once`);
});

test('a node lost in the midst of an update is made good with the new specification', () => {
  const plane = started(3, {});
  plane.update('web', withImage('web:2'));
  plane.round();
  plane.nodeState('h2', 'down');
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), Array(3).fill('web:2'));
  assert.equal(plane.service('web').update?.state, 'completed');
});

test('a global service is updated node by node', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.create('web', { mode: { kind: 'global' } });
  plane.settle();
  let most = 0;
  plane.update('web', withImage('web:2'));
  plane.settle(() => {
    most = Math.max(most, 3 - plane.running('web').length);
  });
  assert.equal(most, 1);
  assert.deepEqual(images(plane), Array(3).fill('web:2'));
});

test('stop-first stops a task only once its successor could start at once', () => {
  const plane = started(1, {});
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'pull' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  const [before, after] = plane.tasks('web');
  assert.equal(before.desiredState, TaskState.RUNNING);
  assert.equal(before.status.state, TaskState.RUNNING);
  assert.equal(after.desiredState, TaskState.READY);
  assert.equal(after.status.state, TaskState.PREPARING);
  plane.advance(300_000);
  assert.deepEqual(images(plane), ['web:1'], 'a long pull makes nothing stop');
  plane.behaviour = () => 'run';
  plane.settle();
  assert.deepEqual(images(plane), ['web:2']);
});

test('a task that cannot be prepared leaves the one before it running', () => {
  const plane = started(2, { failureAction: 'pause' });
  plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'reject' : 'run');
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(images(plane), ['web:1', 'web:1']);
  assert.equal(plane.service('web').update?.state, 'paused');
});

test('on a full host stop-first replaces a task in its place', () => {
  const plane = new ControlPlane({ nodes: 1 });
  const reservations = { nanoCpus: 2e9, memoryBytes: 4 * 2 ** 30, pids: 0 };
  const hostPort = { ...port(8080), publishMode: 'host' as const };
  plane.create('web', { replicas: 1, task: { reservations }, ports: [hostPort] });
  plane.create('db', { replicas: 1, task: { reservations } });
  plane.settle();
  assert.equal(images(plane).length, 1);
  plane.update('web', withImage('web:2'));
  const missing = watchMissing(plane, 1);
  plane.settle(missing.check);
  assert.deepEqual(images(plane), ['web:2']);
  const [task] = plane.running('web');
  assert.deepEqual(task.ports, [hostPort]);
});

test('a new task that fits nowhere leaves the old one, and the deadline ends the update', () => {
  const plane = started(2, { progressDeadlineMs: 30_000, failureAction: 'pause' });
  plane.update('web', ({ spec: { task } }) => ({
    task: { ...task, reservations: { nanoCpus: 64e9, memoryBytes: 0, pids: 0 } },
  }));
  plane.settle();
  plane.advance(29_000);
  assert.equal(plane.service('web').update?.state, 'updating');
  plane.advance(2_000);
  const { update } = plane.service('web');
  assert.equal(update?.state, 'paused');
  assert.match(
    update?.message ?? '',
    /^update paused because nothing came to run for 30s: task \S+ is pending: no suitable node \(/,
  );
  assert.equal(plane.running('web').length, 2);
});

test('an update that stands still is rolled back where that is asked for', () => {
  for (const order of ['stop-first', 'start-first'] as const) {
    const plane = started(3, { progressDeadlineMs: 60_000, failureAction: 'rollback', order });
    plane.behaviour = (task) => (task.spec.container.image === 'web:2' ? 'hang' : 'run');
    plane.update('web', withImage('web:2'));
    plane.settle();
    plane.advance(61_000);
    plane.advance(60_000);
    const { update, spec } = plane.service('web');
    assert.equal(update?.state, 'rollback_completed');
    assert.equal(spec.task.container.image, 'web:1');
    assert.deepEqual(images(plane), Array(3).fill('web:1'));
  }
});

test('the deadline counts from the last task that came to run, the delay aside', () => {
  const plane = started(3, { progressDeadlineMs: 20_000, delayMs: 15_000 });
  plane.update('web', withImage('web:2'));
  plane.settle();
  plane.advance(40_000);
  assert.deepEqual(images(plane), Array(3).fill('web:2'));
  plane.advance(60_000);
  assert.equal(plane.service('web').update?.state, 'completed');
});
