/** `tsswarm why`: each thing that keeps a task from running, told in a sentence, from one view. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce } from '../../base/slices.ts';
import { whyOfService, whyOfTask } from '../../manager/why/why.ts';
import { TaskState } from '../../model/taskState.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { network } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

const GIB = 2 ** 30;

/** 'kind: subject text' of each reason. */
function reasons(plane: ControlPlane, name: string): string[] {
  const why = atOnce(whyOfService(plane.store, plane.service(name), plane.nowMs));
  return why.reasons.map(({ kind, subject, text }) => `${kind}: ${subject} ${text}`);
}

function summary(plane: ControlPlane, name: string): string {
  return atOnce(whyOfService(plane.store, plane.service(name), plane.nowMs)).summary;
}

test('what runs has no reasons', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 3 });
  plane.create('none', { replicas: 0 });
  plane.settle();
  assert.deepEqual(reasons(plane, 'web'), []);
  assert.equal(summary(plane, 'web'), 'all 3 tasks run');
  assert.equal(summary(plane, 'none'), 'no task is wanted');
  plane.nowMs += 5000;
  const [task] = plane.running('web');
  const why = atOnce(whyOfTask(plane.store, task, plane.nowMs));
  assert.deepEqual(why.reasons, []);
  assert.equal(why.summary, 'runs on h1 for 5 seconds');
});

test('a task without a node: every filter is told with its nodes and the figures', () => {
  const plane = new ControlPlane({ nodes: 6 });
  plane.setNode('h1', { spec: { labels: { zone: 'a' } }, description: { memoryBytes: 2 * GIB } });
  plane.setNode('h2', { spec: { labels: { zone: 'a' } }, description: { memoryBytes: 3 * GIB } });
  plane.setNode('h4', { state: 'down', stateMessage: 'session lost and 2 probes failed' });
  plane.setNode('h5', { spec: { availability: 'drain' } });
  plane.create('big', {
    replicas: 1,
    task: {
      reservations: { memoryBytes: 16 * GIB, nanoCpus: 0, pids: 0 },
      placement: { constraints: ['node.labels.zone==a', 'node.platform.os==linux'] },
    },
  });
  plane.settle();
  assert.equal(summary(plane, 'big'), '0 of 1 tasks run');
  assert.deepEqual(reasons(plane, 'big'), [
    'placement: big.1 fits on no node: ' +
      'insufficient memory on 4 nodes (h1, h2, h3, h6): 16GiB of memory wanted, at most 8GiB ' +
      'free; node down on 1 node (h4): h4: session lost and 2 probes failed; ' +
      'node drained on 1 node (h5)',
  ]);
  plane.setNode('h3', { description: { memoryBytes: 32 * GIB } });
  plane.settle();
  const [reason] = atOnce(whyOfService(plane.store, plane.service('big'), plane.nowMs)).reasons;
  assert.deepEqual(
    reason.refusals?.map(({ filter, nodes, detail }) => [filter, nodes, detail]),
    [
      ['resources', ['h1', 'h2', 'h6'], '16GiB of memory wanted, at most 8GiB free'],
      ['constraints', ['h3'], 'node.labels.zone==a'],
      ['ready', ['h4'], 'h4: session lost and 2 probes failed'],
      ['ready', ['h5'], ''],
    ],
  );
});

test('a task that waits to be started again says until when, and how the one before ended', () => {
  const plane = new ControlPlane({ nodes: 1 });
  plane.behaviour = () => 'fail';
  const restart = { condition: 'any', delayMs: 60_000, maxAttempts: 0, windowMs: 0 } as const;
  plane.create('crash', { replicas: 1, task: { restart } });
  plane.settle();
  plane.nowMs += 20_000;
  const [back] = atOnce(whyOfService(plane.store, plane.service('crash'), plane.nowMs)).reasons;
  assert.equal(back.kind, 'restart');
  assert.equal(
    back.text,
    'waits 40s more to be started again (restart delay 1m0s); ' +
      'the one before it failed (exit code 0)',
  );
  assert.equal(back.untilMs, plane.nowMs + 40_000);
  assert.match(
    reasons(plane, 'crash')[1],
    /^failure: crash.1 failed once lately; the last on h1 failed/,
  );
});

test('after an image that could not be had it is told when the next task follows', () => {
  const plane = new ControlPlane({ nodes: 1 });
  plane.behaviour = () => 'reject';
  const restart = { condition: 'any', delayMs: 60_000, maxAttempts: 0, windowMs: 0 } as const;
  plane.create('web', { replicas: 1, task: { restart } });
  plane.settle();
  plane.nowMs += 20_000;
  assert.match(
    reasons(plane, 'web')[0],
    /^restart: web.1 was rejected.*; another follows in 40s \(restart delay 1m0s\)$/,
  );
});

test('an image that cannot be had is told as such, and a policy that starts no other', () => {
  const plane = new ControlPlane({ nodes: 1 });
  plane.behaviour = () => 'reject';
  const restart = { condition: 'none', delayMs: 0, maxAttempts: 0, windowMs: 0 } as const;
  plane.create('web', { replicas: 1, task: { restart } });
  plane.settle();
  const [task] = plane.tasks('web');
  const status = { ...task.status, error: 'no such image: web:9' };
  plane.change({ kind: 'update', table: 'task', object: { ...task, status } });
  assert.deepEqual(reasons(plane, 'web'), [
    'ended: web.1 was rejected: no such image: web:9; its restart policy (none) starts no other',
  ]);
  const why = atOnce(whyOfTask(plane.store, plane.get('task', task.id), plane.nowMs));
  assert.equal(why.reasons[0].kind, 'image');
  assert.equal(why.reasons[0].text, 'was rejected: no such image: web:9 on h1');
});

test('an update that has stopped says why', () => {
  const plane = new ControlPlane({ nodes: 1 });
  plane.create('web', { replicas: 2 });
  plane.settle();
  plane.behaviour = (task) => (task.spec.container.image === 'bad' ? 'fail' : 'run');
  plane.update('web', ({ spec: { task } }) => ({
    task: { ...task, container: { ...task.container, image: 'bad' } },
  }));
  plane.settle();
  const paused = reasons(plane, 'web')[0];
  assert.match(
    paused,
    /^update: web is not updated further: update paused due to failure .* of task \w+ .*; update it/,
  );
});

test('an exhausted address pool and a full network are told with their names', () => {
  const plane = new ControlPlane({ nodes: 1 });
  const small = network('small', { subnet: '10.9.0.0/30' });
  plane.change({ kind: 'create', table: 'network', object: small });
  plane.settle();
  const networks = [{ target: 'small-id', aliases: [], addresses: [] }];
  plane.create('web', { replicas: 3, endpointMode: 'dnsrr', task: { networks } });
  plane.settle();
  const told = reasons(plane, 'web');
  assert.equal(told.length, 2);
  assert.match(
    told[0],
    /^allocation: web.\d has no addresses yet: network "small" .* no free addr/,
  );
  const twin = network('twin', { subnet: '10.9.0.0/30' });
  plane.change({ kind: 'create', table: 'network', object: twin });
  plane.create('api', {
    replicas: 1,
    task: { networks: [{ target: 'twin-id', aliases: [], addresses: [] }] },
  });
  plane.settle();
  assert.match(
    reasons(plane, 'api').join('\n'),
    /allocation: api its network "twin" cannot be used: subnet 10\.9\.\S+ overlaps network "small"/,
  );
});

test('a task on a host that is not heard says so', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.behaviour = () => 'hang';
  plane.create('web', { replicas: 1 });
  plane.settle();
  plane.nowMs += 90_000;
  assert.deepEqual(reasons(plane, 'web'), [
    'health: web.1 has been starting on h1 for 1m30s: its health check has not passed yet',
  ]);
  plane.setNode('h1', { state: 'unknown', stateMessage: 'the leader changed' });
  assert.deepEqual(reasons(plane, 'web'), [
    'node: web.1 is starting on h1, which is unknown (the leader changed)',
  ]);
});

test('a port of the hosts that is taken is told with who has it', () => {
  const plane = new ControlPlane({ nodes: 2 });
  const ports = [
    {
      name: '',
      protocol: 'tcp',
      targetPort: 80,
      publishedPort: 8080,
      publishMode: 'host',
      hostAddress: '',
    },
  ] as const;
  plane.create('first', { replicas: 2, ports });
  plane.settle();
  plane.create('second', { replicas: 1, ports });
  plane.settle();
  assert.deepEqual(reasons(plane, 'second'), [
    'placement: second.1 fits on no node: host port 8080/tcp taken on 2 nodes (h1, h2): ' +
      'h1: first.1; h2: first.2',
  ]);
});

test('a job says how much of it is complete', () => {
  const plane = new ControlPlane({ nodes: 2 });
  const mode = { kind: 'replicated-job', maxConcurrent: 1, totalCompletions: 3 } as const;
  plane.behaviour = (task) => (task.slot === 1 ? 'complete' : 'run');
  plane.create('batch', { mode });
  plane.settle();
  assert.equal(summary(plane, 'batch'), '1 of 3 tasks are complete, 1 run');
  assert.deepEqual(reasons(plane, 'batch'), []);
});

test('whatever state tasks are in, there is an answer without holes (random)', () => {
  const state = fc.constantFrom(...Object.values(TaskState));
  fc.assert(
    fc.property(fc.array(fc.tuple(state, state), { maxLength: 8 }), (states) => {
      const plane = new ControlPlane({ nodes: 2 });
      plane.create('web', { replicas: 4 });
      plane.settle();
      const tasks = plane.tasks('web');
      states.forEach(([is, desired], at) => {
        const task = plane.get('task', tasks[at % tasks.length].id);
        const status = { ...task.status, state: is };
        plane.apply([
          { kind: 'update', table: 'task', object: { ...task, status, desiredState: desired } },
        ]);
      });
      const texts = [...plane.store.all('task')].map((task) =>
        JSON.stringify(atOnce(whyOfTask(plane.store, task, plane.nowMs))),
      );
      texts.push(
        JSON.stringify(atOnce(whyOfService(plane.store, plane.service('web'), plane.nowMs))),
      );
      for (const text of texts) assert.doesNotMatch(text, /undefined|NaN|\[object/);
    }),
  );
});
