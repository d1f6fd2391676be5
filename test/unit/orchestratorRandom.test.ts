/**
 * Random histories of a cluster (scaling, updates, failures, nodes lost, drained and back, changes
 * of leader): what must hold after every step, and that it comes to rest as asked for in the end.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { DEFAULT_CLUSTER_SPEC } from '../../model/defaults.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Service, Task, UpdateOrder } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { network, type ServiceSpecFields } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

const NODES = 4;
const SERVICES = ['web', 'api', 'agent'];

type Step =
  | { readonly kind: 'scale'; readonly service: number; readonly replicas: number }
  | { readonly kind: 'image'; readonly service: number; readonly bad: boolean }
  | { readonly kind: 'end'; readonly pick: number; readonly how: number }
  | { readonly kind: 'node'; readonly node: number; readonly to: string }
  | { readonly kind: 'rounds'; readonly count: number }
  | { readonly kind: 'advance'; readonly ms: number }
  | { readonly kind: 'elect' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('scale' as const),
    service: fc.integer({ min: 0, max: 1 }),
    replicas: fc.integer({ min: 0, max: 6 }),
  }),
  fc.record({
    kind: fc.constant('image' as const),
    service: fc.integer({ min: 0, max: 2 }),
    bad: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('end' as const),
    pick: fc.integer({ min: 0, max: 100 }),
    how: fc.integer({ min: 0, max: 1 }),
  }),
  fc.record({
    kind: fc.constant('node' as const),
    node: fc.integer({ min: 1, max: NODES }),
    to: fc.constantFrom(
      'down',
      'ready',
      'unknown',
      'drain',
      'active',
      'pause',
      'label',
      'bare',
      'silent',
      'heard',
    ),
  }),
  fc.record({ kind: fc.constant('rounds' as const), count: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ kind: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 8_000 }) }),
  fc.record({ kind: fc.constant('elect' as const) }),
);

function start(seed: number, order: UpdateOrder, parallelism: number): ControlPlane {
  const plane = new ControlPlane({ nodes: NODES, seed });
  plane.change({ kind: 'create', table: 'network', object: network('net') });
  const update = {
    parallelism,
    delayMs: 1_000,
    failureAction: 'rollback',
    monitorMs: 2_000,
    maxFailureRatio: 0.4,
    order,
    progressDeadlineMs: 0,
  } as const;
  const fields: ServiceSpecFields = {
    update,
    rollback: { ...update, failureAction: 'pause' },
    task: {
      networks: [{ target: 'net-id', aliases: [], addresses: [] }],
      restart: { condition: 'any', delayMs: 500, maxAttempts: 0, windowMs: 0 },
    },
  };
  plane.create('web', { ...fields, replicas: 3 });
  plane.create('api', { ...fields, replicas: 2 });
  const placement = { constraints: ['node.labels.skip!=yes'] };
  plane.create('agent', {
    ...fields,
    mode: { kind: 'global' },
    task: { ...fields.task, placement },
  });
  plane.behaviour = (task) => (task.spec.container.image === 'bad' ? 'fail' : 'run');
  return plane;
}

function take(plane: ControlPlane, next: Step, check: () => void): void {
  switch (next.kind) {
    case 'scale':
      plane.update(SERVICES[next.service], () => ({
        mode: { kind: 'replicated', replicas: next.replicas },
      }));
      break;
    case 'image':
      plane.update(SERVICES[next.service], ({ spec: { task }, version }) => {
        const image = next.bad ? 'bad' : `good:${version}`;
        return { task: { ...task, container: { ...task.container, image } } };
      });
      break;
    case 'end': {
      const running = [...plane.store.all('task')].filter(
        ({ status }) => status.state === TaskState.RUNNING,
      );
      const picked = running[next.pick % Math.max(1, running.length)];
      const how = next.how === 0 ? TaskState.FAILED : TaskState.COMPLETE;
      if (picked !== undefined) plane.end(picked, how);
      break;
    }
    case 'node':
      setNode(plane, `h${next.node}`, next.to);
      break;
    case 'rounds':
      for (let round = 0; round < next.count; round += 1) {
        plane.round();
        check();
        plane.agents();
        check();
      }
      break;
    case 'advance':
      plane.advance(next.ms, check);
      break;
    case 'elect':
      plane.elect();
      break;
  }
}

function setNode(plane: ControlPlane, id: string, to: string): void {
  if (to === 'down' || to === 'ready' || to === 'unknown') plane.nodeState(id, to);
  else if (to === 'silent') plane.silent.add(id);
  else if (to === 'heard') plane.silent.delete(id);
  else if (to === 'label') plane.setNode(id, { spec: { labels: { skip: 'yes' } } });
  else if (to === 'bare') plane.setNode(id, { spec: { labels: {} } });
  else if (to === 'drain' || to === 'active' || to === 'pause') {
    plane.setNode(id, { spec: { availability: to } });
  }
}

/** What holds after every single transaction. */
function checkAlways(plane: ControlPlane): void {
  const addresses = new Set<string>();
  for (const task of plane.store.all('task')) {
    if (isTerminal(task.status.state)) continue;
    for (const { address } of task.networks) {
      if (address === '') continue;
      assert.ok(!addresses.has(address), `two tasks have ${address}`);
      addresses.add(address);
    }
  }
  for (const name of SERVICES) {
    const service = plane.service(name);
    for (const [key, tasks] of bySlot(plane.tasks(name))) checkSlot(plane, service, key, tasks);
  }
}

function bySlot(tasks: readonly Task[]): Map<string, Task[]> {
  const slots = new Map<string, Task[]>();
  for (const task of tasks) {
    const key = task.slot > 0 ? String(task.slot) : task.nodeId;
    slots.set(key, [...(slots.get(key) ?? []), task]);
  }
  return slots;
}

function checkSlot(plane: ControlPlane, service: Service, key: string, tasks: Task[]): void {
  const wanted = tasks.filter(({ desiredState }) => desiredState <= TaskState.RUNNING);
  const moves = wanted.some(({ movedFrom }) => movedFrom !== '');
  const most = service.spec.update.order === 'start-first' || moves ? 2 : 1;
  const where = `${service.spec.name}.${key}`;
  assert.ok(wanted.length <= 2, `${where} has ${wanted.length} wanted tasks`);
  const raised = wanted.filter(({ desiredState }) => desiredState >= TaskState.RUNNING);
  assert.ok(raised.length <= most, `${where} has ${raised.length} tasks that are to run`);
  const unheard = tasks.filter(({ nodeId }) => plane.store.get('node', nodeId)?.state === 'down');
  const waiting = tasks.filter(({ status }) => !isTerminal(status.state));
  const bound = DEFAULT_CLUSTER_SPEC.taskHistoryLimit + unheard.length + waiting.length + 1;
  assert.ok(tasks.length <= bound, `${where} keeps ${tasks.length} tasks`);
}

/** Everything heals, time passes, and every service is as it was asked for. */
function checkConverged(plane: ControlPlane): void {
  plane.behaviour = () => 'run';
  plane.drops = () => false;
  plane.silent.clear();
  for (let at = 1; at <= NODES; at += 1) {
    plane.setNode(`h${at}`, { state: 'ready', spec: { availability: 'active', labels: {} } });
  }
  plane.settle(() => checkAlways(plane));
  plane.advance(600_000, () => checkAlways(plane));
  for (const name of SERVICES) {
    const { spec, update } = plane.service(name);
    const expected = spec.mode.kind === 'replicated' ? spec.mode.replicas : NODES;
    const running = plane.running(name);
    assert.equal(running.length, expected, `${name} has ${running.length} of ${expected}`);
    assert.equal(plane.wanted(name).length, expected);
    assert.equal(new Set(running.map(({ slot, nodeId }) => `${slot || nodeId}`)).size, expected);
    if (update?.state === 'paused' || update?.state === 'rollback_paused') continue;
    assert.ok(update?.completedAtMs !== 0, `${name}: ${update?.state} has not come to an end`);
    const images = new Set(running.map((task) => task.spec.container.image));
    if (expected > 0) assert.deepEqual([...images], [spec.task.container.image]);
  }
  assert.deepEqual(plane.rejected, []);
}

for (const order of ['stop-first', 'start-first'] as const) {
  test(`whatever happens, slots stay single and services converge (${order}, random)`, () => {
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.integer({ min: 0, max: 3 }),
        fc.integer(),
        (steps, parallelism, seed) => {
          const plane = start(seed, order, parallelism);
          const check = (): void => checkAlways(plane);
          plane.settle(check);
          for (const next of steps) take(plane, next, check);
          checkConverged(plane);
        },
      ),
      { numRuns: 150, seed: 5 },
    );
  });
}

test('changes that arrive stale or in part delay nothing for good (random)', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 30 }),
      fc.constantFrom<UpdateOrder>('stop-first', 'start-first'),
      fc.integer({ min: 1, max: 1_000_000 }),
      (steps, order, seed) => {
        const plane = start(seed, order, 1);
        const random = new SeededRandom(seed);
        plane.drops = () => random.float() < 0.3;
        plane.settle();
        for (const next of steps) take(plane, next, () => {});
        checkConverged(plane);
      },
    ),
    { numRuns: 150, seed: 6 },
  );
});
