/**
 * The scheduler: filters and what they say, ranking, and that many tasks are placed in one pass.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce } from '../../base/slices.ts';
import { explain } from '../../manager/placement/filters.ts';
import { Scheduler } from '../../manager/scheduler/scheduler.ts';
import { byTable } from '../../manager/store/contents.ts';
import { TaskState } from '../../model/taskState.ts';
import type { PortConfig, Resources } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';

const GIB = 2 ** 30;

function reserve(resources: Partial<Resources>): Resources {
  return { nanoCpus: 0, memoryBytes: 0, pids: 0, ...resources };
}

function reason(plane: ControlPlane, name: string): string {
  const [task] = plane.wanted(name);
  assert.equal(task.status.state, TaskState.PENDING);
  return task.status.error;
}

function nodesOf(plane: ControlPlane, name: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { nodeId } of plane.running(name)) counts[nodeId] = (counts[nodeId] ?? 0) + 1;
  return counts;
}

test('an explanation counts reasons, most frequent first', () => {
  const memory = 'insufficient memory';
  assert.equal(
    explain([memory, 'constraint not met', memory]),
    'no suitable node (insufficient memory on 2 nodes, constraint not met on 1)',
  );
  assert.equal(explain([memory]), 'no suitable node (insufficient memory on 1 node)');
  assert.equal(explain([]), 'no suitable node (the swarm has no nodes)');
});

test('a task that fits nowhere says why, node by node, and is placed once it fits', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.setNode('h3', { spec: { labels: { zone: 'b' } }, description: { memoryBytes: 32 * GIB } });
  plane.setNode('h1', { spec: { labels: { zone: 'a' } } });
  plane.setNode('h2', { spec: { labels: { zone: 'a' } } });
  plane.create('big', {
    task: {
      reservations: reserve({ memoryBytes: 16 * GIB }),
      placement: { constraints: ['node.labels.zone==a'] },
    },
  });
  plane.settle();
  assert.equal(
    reason(plane, 'big'),
    'no suitable node (insufficient memory on 2 nodes, constraint not met on 1)',
  );
  plane.setNode('h2', { description: { memoryBytes: 16 * GIB } });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'big'), { h2: 1 });
  assert.equal(plane.running('big')[0].status.error, '');
});

test('named resources go to whom asked for them, others of the kind to the rest', () => {
  const plane = new ControlPlane({ nodes: 1 });
  const gpu = (name: string, amount = 1) => ({ kind: 'gpu', name, amount });
  plane.setNode('h1', {
    description: { genericResources: ['a', 'b', 'c'].map((name) => gpu(name)) },
  });
  plane.create('both', { task: { genericResources: [gpu('', 1), gpu('a')] } });
  plane.create('one', { task: { genericResources: [gpu('a')] } });
  plane.create('last', { task: { genericResources: [gpu('', 1)] } });
  plane.settle();
  const given = (name: string): string[] =>
    plane.running(name).flatMap((task) => task.genericResources.map((item) => item.name));
  assert.deepEqual(given('both').sort(), ['a', 'b']);
  assert.deepEqual(given('last'), ['c']);
  assert.equal(reason(plane, 'one'), 'no suitable node (insufficient gpu on 1 node)');
});

test('an explanation is written only when it changes', () => {
  const plane = new ControlPlane({ nodes: 1 });
  plane.create('big', { task: { reservations: reserve({ nanoCpus: 99e9 }) } });
  plane.settle();
  assert.equal(reason(plane, 'big'), 'no suitable node (insufficient CPU on 1 node)');
  const { version } = plane.wanted('big')[0];
  plane.create('other');
  plane.settle();
  assert.equal(plane.wanted('big')[0].version, version);
});

test('nodes that are down, drained, paused or in doubt take nothing, and are named so', () => {
  const plane = new ControlPlane({ nodes: 4 });
  plane.nodeState('h1', 'down');
  plane.setNode('h2', { spec: { availability: 'drain' } });
  plane.setNode('h3', { spec: { availability: 'pause' } });
  plane.nodeState('h4', 'unknown');
  plane.create('web');
  plane.settle();
  const error = reason(plane, 'web');
  for (const part of ['node down', 'node drained', 'node paused', 'node not ready']) {
    assert.ok(error.includes(part), error);
  }
});

test('reservations of placed tasks count, and are free again once they have stopped', () => {
  const plane = new ControlPlane({ nodes: 1 });
  const task = { reservations: reserve({ memoryBytes: 3 * GIB }) };
  plane.create('web', { replicas: 3, task });
  plane.settle();
  assert.equal(plane.running('web').length, 2);
  plane.update('web', () => ({ mode: { kind: 'replicated', replicas: 1 } }));
  plane.settle();
  plane.create('next', { task });
  plane.settle();
  assert.equal(plane.running('next').length, 1);
});

test('constraints compare id, host name, role, platform and labels of node and engine', () => {
  const cases: [string, string[]][] = [
    ['node.id==h2', ['h2']],
    ['node.hostname != h2', ['h1', 'h3']],
    ['node.role==manager', ['h1']],
    ['node.platform.os==linux', ['h1', 'h2', 'h3']],
    ['node.platform.arch==arm64', ['h3']],
    ['node.platform.arch==aarch64', ['h3']],
    ['node.labels.disk==SSD', ['h2']],
    ['node.labels.disk!=ssd', ['h1', 'h3']],
    ['engine.labels.gpu==yes', ['h3']],
  ];
  for (const [constraint, expected] of cases) {
    const plane = new ControlPlane({ nodes: 3 });
    plane.setNode('h1', { role: 'manager' });
    plane.setNode('h2', { spec: { labels: { disk: 'ssd' } } });
    plane.setNode('h3', { description: { architecture: 'aarch64', engineLabels: { gpu: 'yes' } } });
    plane.create('web', { replicas: 3, task: { placement: { constraints: [constraint] } } });
    plane.settle();
    assert.deepEqual(Object.keys(nodesOf(plane, 'web')).sort(), expected, constraint);
  }
});

test('a platform that an image needs is looked for', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.setNode('h2', { description: { architecture: 'aarch64' } });
  const platforms = [{ os: 'linux', architecture: 'arm64' }];
  plane.create('web', { replicas: 2, task: { placement: { platforms } } });
  plane.create('none', {
    task: { placement: { platforms: [{ os: 'windows', architecture: '' }] } },
  });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'web'), { h2: 2 });
  assert.match(reason(plane, 'none'), /platform not supported on 2 nodes/);
});

test('max replicas per node holds, and what is left over says so', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 3, task: { placement: { maxReplicasPerNode: 1 } } });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'web'), { h1: 1, h2: 1 });
  const pending = plane.wanted('web').find(({ status }) => status.state === TaskState.PENDING);
  assert.equal(
    pending?.status.error,
    'no suitable node (max replicas per node reached on 2 nodes)',
  );
});

test('tasks of a service are spread first, then total load decides', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.create('pin', { replicas: 4, task: { placement: { constraints: ['node.id==h1'] } } });
  plane.settle();
  plane.create('web', { replicas: 3 });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'web'), { h1: 1, h2: 1, h3: 1 });
  plane.create('one', { replicas: 1 });
  plane.settle();
  assert.ok(!('h1' in nodesOf(plane, 'one')));
});

test('a spread preference evens out over label values, not over nodes', () => {
  const plane = new ControlPlane({ nodes: 4 });
  for (const id of ['h1', 'h2', 'h3']) plane.setNode(id, { spec: { labels: { zone: 'a' } } });
  plane.setNode('h4', { spec: { labels: { zone: 'b' } } });
  plane.create('web', { replicas: 6, task: { placement: { spreadOver: ['node.labels.zone'] } } });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'web'), { h1: 1, h2: 1, h3: 1, h4: 3 });
});

test('a node where a service failed five times lately is tried last', () => {
  const plane = new ControlPlane({ nodes: 2 });
  const restart = { condition: 'any', delayMs: 0, maxAttempts: 20, windowMs: 0 } as const;
  plane.behaviour = (task) => (task.nodeId === 'h1' ? 'fail' : 'run');
  plane.create('fill', { replicas: 3, task: { placement: { constraints: ['node.id==h2'] } } });
  plane.settle();
  plane.create('web', { task: { restart } });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'web'), { h2: 1 });
  assert.equal(plane.tasks('web').length, 6);
});

test('a global task waits for its own node, with the reason', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.setNode('h2', { description: { memoryBytes: GIB } });
  plane.create('agent', {
    mode: { kind: 'global' },
    task: { reservations: reserve({ memoryBytes: 2 * GIB }) },
  });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'agent'), { h1: 1 });
  const pending = plane.wanted('agent').find(({ nodeId }) => nodeId === 'h2');
  assert.equal(pending?.status.error, 'no suitable node (insufficient memory on 1 node)');
});

const HOST_PORT: PortConfig = {
  name: '',
  protocol: 'tcp',
  targetPort: 80,
  publishedPort: 8080,
  publishMode: 'host',
  hostAddress: '',
};

test('a port of the host is for one task a host, unless their addresses differ', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 3, ports: [HOST_PORT] });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'web'), { h1: 1, h2: 1 });
  const waiting = plane.wanted('web').find(({ status }) => status.state === TaskState.PENDING);
  assert.equal(waiting?.status.error, 'no suitable node (host port 8080/tcp taken on 2 nodes)');
  const ports = (hostAddress: string): PortConfig[] => [
    { ...HOST_PORT, publishedPort: 9090, hostAddress },
  ];
  plane.create('one', { mode: { kind: 'global' }, ports: ports('10.0.0.1') });
  plane.create('two', { mode: { kind: 'global' }, ports: ports('10.0.0.2') });
  plane.create('all', { mode: { kind: 'global' }, ports: ports('') });
  plane.settle();
  assert.deepEqual(nodesOf(plane, 'one'), { h1: 1, h2: 1 });
  assert.deepEqual(nodesOf(plane, 'two'), { h1: 1, h2: 1 });
  assert.deepEqual(nodesOf(plane, 'all'), {});
});

test('generic resources are given by name or by amount, and given back', () => {
  const plane = new ControlPlane({ nodes: 2 });
  const gpu = (name: string, amount = 1) => ({ kind: 'gpu', name, amount });
  plane.setNode('h1', { description: { genericResources: [gpu('u1'), gpu('u2')] } });
  plane.setNode('h2', { description: { genericResources: [gpu('', 3)] } });
  plane.create('two', { task: { genericResources: [gpu('', 3)] } });
  plane.settle();
  assert.deepEqual(plane.running('two')[0].genericResources, [gpu('', 3)]);
  plane.create('one', { replicas: 3, task: { genericResources: [gpu('')] } });
  plane.settle();
  const given = plane.running('one').map(({ genericResources }) => genericResources);
  assert.deepEqual(given, [[gpu('u1')], [gpu('u2')]]);
  const waiting = plane.wanted('one').find(({ status }) => status.state === TaskState.PENDING);
  assert.equal(waiting?.status.error, 'no suitable node (insufficient gpu on 2 nodes)');
  plane.end(plane.running('one')[0], TaskState.COMPLETE);
  plane.settle();
  const names = plane.wanted('one').flatMap(({ genericResources }) => genericResources);
  assert.deepEqual(names.map(({ name }) => name).sort(), ['u1', 'u2']);
});

test('a thousand tasks are placed on a hundred nodes in one pass', () => {
  const plane = new ControlPlane({ nodes: 100 });
  plane.create('web', { replicas: 1_000 });
  plane.round();
  const pending = [...plane.store.all('task')].filter(
    ({ status }) => status.state <= TaskState.PENDING,
  );
  plane.settle();
  assert.equal(plane.running('web').length, 1_000);
  assert.ok(Object.values(nodesOf(plane, 'web')).every((count) => count === 10));
  assert.ok(pending.length <= 1_000);

  const again = new ControlPlane({ nodes: 100 });
  again.nodeState('h1', 'unknown');
  again.create('none', { replicas: 1_000, task: { placement: { constraints: ['node.id==x'] } } });
  again.settle();
  const everything = {
    everything: true,
    ids: byTable(() => new Set<string>()),
  };
  const before = process.cpuUsage();
  const plan = atOnce(new Scheduler().plan(again.store, everything, again.nowMs));
  assert.equal(plan.changes.length, 0);
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 2_000_000, 'a pass over 1,000 unplaceable tasks took seconds');
});

test('tasks that fit nowhere are looked at again when something changes, not all the time', () => {
  const plane = new ControlPlane({ nodes: 500 });
  for (let at = 0; at < 600; at += 1) {
    plane.create(`s${at}`, { task: { placement: { constraints: ['node.id==x'] } } });
  }
  plane.settle();
  const scheduler = new Scheduler();
  const dirty = (everything: boolean, nodes: readonly string[] = []) => ({
    everything,
    ids: { ...byTable(() => new Set<string>()), node: new Set(nodes) },
  });
  const passes = (first: ReturnType<typeof dirty>): number => {
    let count = 1;
    for (
      let { wakeAtMs } = atOnce(scheduler.plan(plane.store, first, plane.nowMs));
      wakeAtMs;
      count += 1
    ) {
      assert.ok(count < 10, 'it does not come to rest');
      ({ wakeAtMs } = atOnce(scheduler.plan(plane.store, dirty(false), plane.nowMs)));
    }
    return count;
  };
  assert.equal(passes(dirty(true)), 2, 'more than one pass can take');
  assert.equal(passes(dirty(false)), 1);
  plane.setNode('h7', { spec: { labels: { a: '1' } } });
  assert.equal(passes(dirty(false, ['h7'])), 2);
});
