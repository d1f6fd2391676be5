/**
 * Replicated and global services over the loops together: filling, replacing, scaling, restarting,
 * draining, forgetting. Rolling updates have their own file.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_UPDATE_CONFIG } from '../../model/defaults.ts';
import { TaskState } from '../../model/taskState.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { network } from '../support/objects.ts';

const QUICK = { condition: 'any', delayMs: 0, maxAttempts: 0, windowMs: 0 } as const;

test('a service of three replicas gets three tasks on three nodes', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 3 });
  plane.settle();
  const running = plane.running('web');
  assert.equal(running.length, 3);
  assert.equal(new Set(running.map(({ nodeId }) => nodeId)).size, 3);
  assert.deepEqual(
    running.map(({ slot }) => slot),
    [1, 2, 3],
  );
});

test('a task lost with its node is replaced at once, without the restart delay', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 3 });
  plane.settle();
  const before = plane.nowMs;
  plane.nodeState('h1', 'down');
  plane.settle();
  assert.equal(plane.nowMs, before);
  assert.equal(plane.running('web').length, 3);
  const lost = plane.tasks('web').filter(({ nodeId }) => nodeId === 'h1');
  assert.deepEqual(
    lost.map(({ desiredState }) => desiredState),
    [TaskState.SHUTDOWN],
  );
});

test('when a lost node returns, its old tasks stop and no slot has two', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 3 });
  plane.settle();
  plane.nodeState('h1', 'down');
  plane.settle();
  plane.nodeState('h1', 'ready');
  plane.settle();
  assert.equal(plane.running('web').length, 3);
  const returned = plane.tasks('web').filter(({ nodeId }) => nodeId === 'h1');
  assert.ok(returned.every(({ status }) => status.state === TaskState.SHUTDOWN));
});

test('a node in doubt after a change of leader keeps its tasks', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 3 });
  plane.settle();
  const before = plane.wanted('web').map(({ id }) => id);
  plane.nodeState('h1', 'unknown');
  plane.elect();
  plane.settle();
  assert.deepEqual(
    plane.wanted('web').map(({ id }) => id),
    before,
  );
});

test('tasks of a removed node are replaced', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 3 });
  plane.settle();
  plane.change({ kind: 'remove', table: 'node', id: 'h1' });
  plane.settle();
  assert.equal(plane.running('web').length, 3);
  assert.equal(plane.tasks('web').filter(({ nodeId }) => nodeId === 'h1').length, 0);
});

test('draining a node moves its tasks, each after the old one has stopped', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 3 });
  plane.settle();
  plane.silent.add('h1');
  plane.setNode('h1', { spec: { availability: 'drain' } });
  plane.settle();
  const successor = plane.wanted('web').find(({ generation }) => generation === 2);
  assert.equal(successor?.desiredState, TaskState.READY);
  plane.silent.delete('h1');
  plane.settle();
  assert.equal(plane.running('web').length, 3);
  assert.ok(plane.running('web').every(({ nodeId }) => nodeId !== 'h1'));
});

test('draining a node loses no capacity where the order is start-first', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 6, update: { ...DEFAULT_UPDATE_CONFIG, order: 'start-first' } });
  plane.settle();
  plane.setNode('h1', { spec: { availability: 'drain' } });
  plane.settle(() => {
    const slots = new Set(plane.running('web').map(({ slot }) => slot));
    assert.equal(slots.size, 6, 'a slot without a running task');
  });
  const running = plane.running('web');
  assert.equal(running.length, 6);
  assert.ok(running.every(({ nodeId }) => nodeId !== 'h1'));
});

test('where nothing else can take it, a drained node is empty after five minutes', () => {
  const plane = new ControlPlane({ nodes: 1 });
  plane.create('web', { replicas: 2, update: { ...DEFAULT_UPDATE_CONFIG, order: 'start-first' } });
  plane.settle();
  plane.setNode('h1', { spec: { availability: 'drain' } });
  plane.settle();
  plane.advance(5 * 60_000 - 1);
  assert.equal(plane.running('web').length, 2);
  plane.advance(1);
  assert.equal(plane.running('web').length, 0);
  assert.equal(plane.wanted('web').length, 2);
  plane.setNode('h1', { spec: { availability: 'active' } });
  plane.settle();
  assert.equal(plane.running('web').length, 2);
});

test('a drained node that is activated again gets new tasks but none are moved', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 2 });
  plane.setNode('h1', { spec: { availability: 'drain' } });
  plane.settle();
  const before = plane.running('web').map(({ id }) => id);
  plane.setNode('h1', { spec: { availability: 'active' } });
  plane.settle();
  assert.deepEqual(
    plane.running('web').map(({ id }) => id),
    before,
  );
  plane.update('web', () => ({ mode: { kind: 'replicated', replicas: 3 } }));
  plane.settle();
  assert.ok(plane.running('web').some(({ nodeId }) => nodeId === 'h1'));
});

test('a failed task is started again after the restart delay, not before', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 1 });
  plane.settle();
  plane.end(plane.running('web')[0], TaskState.FAILED);
  plane.settle();
  plane.advance(4_999);
  assert.equal(plane.running('web').length, 0);
  assert.equal(plane.wanted('web')[0].status.state, TaskState.READY);
  plane.advance(1);
  assert.equal(plane.running('web').length, 1);
});

test('a restart delay survives a change of leader', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 1 });
  plane.settle();
  plane.end(plane.running('web')[0], TaskState.FAILED);
  plane.settle();
  plane.advance(3_000);
  plane.elect();
  plane.settle();
  assert.equal(plane.running('web').length, 0);
  plane.advance(2_000);
  assert.equal(plane.running('web').length, 1);
});

test('with a restart delay of 0 a failed task is replaced at once', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 1, task: { restart: QUICK } });
  plane.settle();
  plane.end(plane.running('web')[0], TaskState.FAILED);
  plane.settle();
  assert.equal(plane.running('web').length, 1);
});

test('tasks that cannot be prepared do not follow each other at once, whatever the delay', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 1, task: { restart: QUICK } });
  plane.behaviour = () => 'reject';
  plane.settle();
  const created = new Set(plane.tasks('web').map(({ id }) => id));
  const note = (): void => {
    for (const { id } of plane.tasks('web')) created.add(id);
  };
  plane.advance(1_000, note);
  assert.equal(created.size, 11);
});

test('condition on-failure leaves a task that completed, and starts one that failed', () => {
  const plane = new ControlPlane();
  const restart = { ...QUICK, condition: 'on-failure' } as const;
  plane.create('job', { replicas: 2, task: { restart } });
  plane.settle();
  const [first, second] = plane.running('job');
  plane.end(first, TaskState.COMPLETE);
  plane.end(second, TaskState.FAILED);
  plane.settle();
  assert.deepEqual(
    plane.running('job').map(({ slot }) => slot),
    [second.slot],
  );
  plane.elect();
  plane.settle();
  assert.equal(plane.wanted('job').length, 1);
});

test('condition none starts nothing again, not even after the loss of a node', () => {
  const plane = new ControlPlane();
  plane.create('job', { replicas: 3, task: { restart: { ...QUICK, condition: 'none' } } });
  plane.settle();
  plane.end(plane.running('job')[0], TaskState.FAILED);
  plane.nodeState(plane.running('job')[1].nodeId, 'down');
  plane.settle();
  plane.elect();
  plane.settle();
  assert.equal(plane.tasks('job').length, 3);
});

test('after max attempts a slot is left as it failed', () => {
  const plane = new ControlPlane();
  plane.create('bad', { replicas: 1, task: { restart: { ...QUICK, maxAttempts: 3 } } });
  plane.behaviour = () => 'fail';
  plane.settle();
  assert.equal(plane.tasks('bad').length, 4);
  assert.equal(plane.wanted('bad').length, 0);
  plane.elect();
  plane.settle();
  assert.equal(plane.tasks('bad').length, 4);
});

test('attempts outside of the window do not count', () => {
  const plane = new ControlPlane();
  const restart = { ...QUICK, maxAttempts: 1, windowMs: 10_000 };
  plane.create('web', { replicas: 1, task: { restart } });
  plane.settle();
  for (let times = 0; times < 4; times += 1) {
    plane.end(plane.running('web')[0], TaskState.FAILED);
    plane.settle();
    assert.equal(plane.running('web').length, 1);
    plane.advance(11_000);
  }
  plane.end(plane.running('web')[0], TaskState.FAILED);
  plane.settle();
  plane.end(plane.running('web')[0], TaskState.FAILED);
  plane.settle();
  assert.equal(plane.running('web').length, 0);
});

test('a slot that was given up stays so when its window has passed', () => {
  const plane = new ControlPlane();
  const restart = { ...QUICK, maxAttempts: 2, windowMs: 10_000 };
  plane.create('bad', { replicas: 1, task: { restart } });
  plane.behaviour = () => 'fail';
  plane.settle();
  const given = plane.tasks('bad').map(({ id }) => id);
  assert.equal(given.length, 3);
  plane.advance(60_000);
  plane.elect();
  plane.settle();
  plane.setNode('h1', { spec: { labels: { zone: 'a' } } });
  plane.settle();
  assert.deepEqual(
    plane.tasks('bad').map(({ id }) => id),
    given,
  );
});

test('history keeps five tasks a slot', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 1, task: { restart: QUICK } });
  plane.settle();
  for (let times = 0; times < 9; times += 1) {
    plane.end(plane.running('web')[0], TaskState.FAILED);
    plane.settle();
  }
  assert.equal(plane.tasks('web').length, 5);
  assert.equal(plane.running('web').length, 1);
});

test('scaling down removes first what does not run, then from the fullest nodes', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 4 });
  plane.settle();
  const full = plane
    .running('web')
    .map(({ nodeId }) => nodeId)
    .find((id, at, all) => all.indexOf(id) !== at);
  plane.update('web', () => ({ mode: { kind: 'replicated', replicas: 3 } }));
  plane.settle();
  const left = plane.running('web').map(({ nodeId }) => nodeId);
  assert.equal(left.filter((id) => id === full).length, 1);
  assert.equal(new Set(left).size, 3);
  assert.equal(plane.tasks('web').length, 3);
});

test('scaling up again uses the slot numbers that are free', () => {
  const plane = new ControlPlane();
  const scale = (replicas: number): void => {
    plane.update('web', () => ({ mode: { kind: 'replicated', replicas } }));
    plane.settle();
  };
  plane.create('web', { replicas: 3 });
  plane.settle();
  scale(0);
  assert.equal(plane.tasks('web').length, 0);
  scale(2);
  assert.deepEqual(
    plane.running('web').map(({ slot }) => slot),
    [1, 2],
  );
});

test('scaling does not replace tasks that stay', () => {
  const plane = new ControlPlane();
  plane.create('web', { replicas: 2 });
  plane.settle();
  const before = plane.running('web').map(({ id }) => id);
  plane.update('web', () => ({ mode: { kind: 'replicated', replicas: 4 } }));
  plane.settle();
  assert.deepEqual(
    plane
      .running('web')
      .map(({ id }) => id)
      .slice(0, 2),
    before,
  );
  assert.equal(plane.service('web').update, undefined);
});

test('a removed service leaves no task once its agents have stopped them', () => {
  const plane = new ControlPlane();
  const { id } = plane.create('web', { replicas: 3 });
  plane.settle();
  plane.silent.add('h1');
  plane.change({ kind: 'remove', table: 'service', id });
  plane.settle();
  const left = [...plane.store.tasksOfService(id)];
  assert.deepEqual(
    left.map(({ nodeId, desiredState }) => [nodeId, desiredState]),
    [['h1', TaskState.REMOVE]],
  );
  plane.nodeState('h1', 'down');
  plane.settle();
  assert.equal(plane.store.count('task'), 0);
});

test('a task whose node no longer meets the constraints moves to one that does', () => {
  const plane = new ControlPlane();
  plane.setNode('h1', { spec: { labels: { disk: 'ssd' } } });
  plane.create('db', { task: { placement: { constraints: ['node.labels.disk==ssd'] } } });
  plane.settle();
  assert.equal(plane.running('db')[0].nodeId, 'h1');
  plane.setNode('h1', { spec: { labels: {} } });
  plane.settle();
  assert.match(plane.wanted('db')[0].status.error, /constraint not met on 3 nodes/);
  plane.setNode('h2', { spec: { labels: { disk: 'ssd' } } });
  plane.settle();
  assert.equal(plane.running('db')[0].nodeId, 'h2');
});

test('a global service has one task on every node that is up, fits and is not drained', () => {
  const plane = new ControlPlane({ nodes: 4 });
  plane.setNode('h2', { spec: { availability: 'drain' } });
  plane.setNode('h3', { spec: { labels: { skip: 'yes' } } });
  const placement = { constraints: ['node.labels.skip!=yes'] };
  plane.create('agent', { mode: { kind: 'global' }, task: { placement } });
  plane.settle();
  const nodes = (): string[] =>
    plane
      .running('agent')
      .map(({ nodeId }) => nodeId)
      .sort();
  assert.deepEqual(nodes(), ['h1', 'h4']);
  plane.setNode('h2', { spec: { availability: 'active' } });
  plane.setNode('h3', { spec: { labels: {} } });
  plane.settle();
  assert.deepEqual(nodes(), ['h1', 'h2', 'h3', 'h4']);
});

test('a global service loses its task with the node and gets it back with it', () => {
  const plane = new ControlPlane();
  plane.create('agent', { mode: { kind: 'global' } });
  plane.settle();
  plane.nodeState('h1', 'down');
  plane.settle();
  assert.equal(plane.running('agent').length, 2);
  assert.equal(plane.wanted('agent').length, 2);
  plane.nodeState('h1', 'ready');
  plane.settle();
  assert.equal(plane.running('agent').length, 3);
});

test('a paused node keeps its global task and is given no new one', () => {
  const plane = new ControlPlane();
  plane.create('old', { mode: { kind: 'global' } });
  plane.settle();
  plane.setNode('h1', { spec: { availability: 'pause' } });
  plane.create('new', { mode: { kind: 'global' } });
  plane.settle();
  assert.equal(plane.running('old').length, 3);
  assert.equal(plane.running('new').length, 2);
});

test('a task on a node that stays down for a day is given up, and its address is free', () => {
  const plane = new ControlPlane();
  plane.change({ kind: 'create', table: 'network', object: network('net') });
  plane.create('web', {
    replicas: 3,
    task: { networks: [{ target: 'net-id', aliases: [], addresses: [] }] },
  });
  plane.settle();
  plane.setNode('h1', { state: 'down', downSinceMs: plane.nowMs });
  plane.settle();
  const lost = plane.tasks('web').find(({ nodeId }) => nodeId === 'h1');
  assert.ok(lost);
  plane.advance(86_399_999);
  assert.equal(plane.get('task', lost.id).status.state, TaskState.RUNNING);
  plane.elect();
  plane.advance(1);
  assert.equal(plane.get('task', lost.id).status.state, TaskState.ORPHANED);
  assert.equal(plane.running('web').length, 3);
  plane.nodeState('h1', 'ready');
  plane.settle();
  assert.equal(plane.running('web').length, 3);
});
