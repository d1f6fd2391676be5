/**
 * Random clusters, services and changes: what holds of every placement, whatever happens, and that
 * a task that waits has nowhere to go.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { GenericResource, Node, PortConfig, Task } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { fc } from '../support/properties.ts';

const NODES = 4;
const GPUS: readonly (readonly GenericResource[])[] = [
  [],
  [
    { kind: 'gpu', name: 'a', amount: 1 },
    { kind: 'gpu', name: 'b', amount: 1 },
  ],
  [{ kind: 'gpu', name: '', amount: 3 }],
];

const host = fc.record({
  cores: fc.integer({ min: 1, max: 6 }),
  gibibytes: fc.integer({ min: 1, max: 8 }),
  zone: fc.constantFrom('x', 'y'),
  rack: fc.constantFrom('1', '2'),
  gpus: fc.constantFrom(...GPUS),
});

const wanted = fc.record({
  replicas: fc.integer({ min: 0, max: 8 }),
  cores: fc.integer({ min: 0, max: 2 }),
  gibibytes: fc.integer({ min: 0, max: 2 }),
  most: fc.integer({ min: 0, max: 2 }),
  zone: fc.constantFrom('', 'x', 'y'),
  port: fc.constantFrom(0, 0, 8080, 8081),
  gpus: fc.integer({ min: 0, max: 2 }),
  spread: fc.constantFrom([], ['node.labels.zone'], ['node.labels.zone', 'node.labels.rack']),
  order: fc.constantFrom('stop-first' as const, 'start-first' as const),
});
type Wanted = typeof wanted extends fc.Arbitrary<infer T> ? T : never;

const step = fc.oneof(
  fc.record({
    kind: fc.constant('scale' as const),
    at: fc.nat({ max: 2 }),
    to: fc.nat({ max: 8 }),
  }),
  fc.record({ kind: fc.constant('force' as const), at: fc.nat({ max: 2 }) }),
  fc.record({
    kind: fc.constant('node' as const),
    node: fc.integer({ min: 1, max: NODES }),
    to: fc.constantFrom('down', 'ready', 'drain', 'active', 'zone x', 'zone y'),
  }),
  fc.record({ kind: fc.constant('end' as const), pick: fc.nat({ max: 50 }) }),
  fc.record({ kind: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 6_000 }) }),
  fc.record({ kind: fc.constant('elect' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const GIB = 2 ** 30;

function published(port: number): PortConfig[] {
  if (port === 0) return [];
  const common = { name: '', protocol: 'tcp', targetPort: 80, hostAddress: '' } as const;
  return [{ ...common, publishedPort: port, publishMode: 'host' }];
}

function create(plane: ControlPlane, name: string, spec: Wanted): void {
  const amount = { kind: 'gpu', name: '', amount: spec.gpus };
  plane.create(name, {
    replicas: spec.replicas,
    ports: published(spec.port),
    update: {
      parallelism: 2,
      delayMs: 0,
      failureAction: 'continue',
      monitorMs: 0,
      maxFailureRatio: 0,
      order: spec.order,
      progressDeadlineMs: 0,
    },
    task: {
      reservations: { nanoCpus: spec.cores * 1e9, memoryBytes: spec.gibibytes * GIB, pids: 0 },
      genericResources: spec.gpus === 0 ? [] : [amount],
      placement: {
        constraints: spec.zone === '' ? [] : [`node.labels.zone==${spec.zone}`],
        maxReplicasPerNode: spec.most,
        spreadOver: spec.spread,
      },
    },
  });
}

function take(plane: ControlPlane, next: Step, check: () => void): void {
  const name = 'at' in next ? `s${next.at}` : '';
  switch (next.kind) {
    case 'scale':
      plane.update(name, () => ({ mode: { kind: 'replicated', replicas: next.to } }));
      break;
    case 'force':
      plane.update(name, ({ spec: { task } }) => ({
        task: { ...task, forceUpdate: task.forceUpdate + 1 },
      }));
      break;
    case 'node':
      setNode(plane, `h${next.node}`, next.to);
      break;
    case 'end': {
      const running = [...plane.store.all('task')].filter(
        ({ status }) => status.state === TaskState.RUNNING,
      );
      if (running.length > 0) plane.end(running[next.pick % running.length], TaskState.FAILED);
      break;
    }
    case 'advance':
      plane.advance(next.ms, check);
      break;
    case 'elect':
      plane.elect();
      break;
  }
  plane.settle(check);
}

function setNode(plane: ControlPlane, id: string, to: string): void {
  const { labels } = plane.get('node', id).spec;
  if (to === 'down' || to === 'ready') plane.nodeState(id, to);
  else if (to === 'drain' || to === 'active') plane.setNode(id, { spec: { availability: to } });
  else plane.setNode(id, { spec: { labels: { ...labels, zone: to.slice('zone '.length) } } });
}

/**
 * Tasks of a node that have or will have its resources at one time: those that are to run there.
 */
function active(plane: ControlPlane, node: Node): Task[] {
  return [...plane.store.tasksOfNode(node.id)].filter(
    ({ status, desiredState }) =>
      status.state >= TaskState.ASSIGNED &&
      !isTerminal(status.state) &&
      // A successor that waits in READY has what its predecessor still holds.
      desiredState !== TaskState.READY,
  );
}

function checkAlways(plane: ControlPlane): void {
  for (const node of plane.store.all('node')) {
    const tasks = active(plane, node);
    const sum = (of: (task: Task) => number): number =>
      tasks.reduce((total, task) => total + of(task), 0);
    const { nanoCpus, memoryBytes, genericResources } = node.description;
    assert.ok(sum(({ spec }) => spec.reservations.nanoCpus) <= nanoCpus, `CPUs of ${node.id}`);
    assert.ok(sum(({ spec }) => spec.reservations.memoryBytes) <= memoryBytes, 'memory');
    const ports = tasks.flatMap((task) => task.ports.map((port) => port.publishedPort));
    assert.equal(new Set(ports).size, ports.length, `ports of ${node.id}: ${ports.join()}`);
    const given = tasks.flatMap((task) => task.genericResources);
    const names = given.filter(({ name }) => name !== '').map(({ name }) => name);
    assert.equal(new Set(names).size, names.length, `units of ${node.id}: ${names.join()}`);
    const offered = genericResources.reduce((total, { amount }) => total + amount, 0);
    assert.ok(given.reduce((total, { amount }) => total + amount, 0) <= offered, 'units');
    for (const task of tasks) {
      const asked = task.spec.genericResources.reduce((total, { amount }) => total + amount, 0);
      const has = task.genericResources.reduce((total, { amount }) => total + amount, 0);
      assert.equal(has, asked, 'a task has what it asked for');
      const { maxReplicasPerNode: most } = task.spec.placement;
      const own = tasks.filter(
        (other) => other.serviceId === task.serviceId && other.desiredState <= TaskState.RUNNING,
      );
      // With start-first a slot has two tasks for a moment, placed one beside the other.
      if (most > 0) assert.ok(own.length <= most, `${own.length} of ${most} on ${node.id}`);
    }
  }
}

/** A task that waits for a node fits on none, as one looks who does not know the scheduler. */
function checkWaiting(plane: ControlPlane): void {
  for (const task of plane.store.all('task')) {
    if (task.status.state !== TaskState.PENDING || task.desiredState !== TaskState.RUNNING)
      continue;
    for (const node of plane.store.all('node')) {
      assert.ok(!suits(plane, task, node), `${task.serviceName}.${task.slot} fits on ${node.id}`);
    }
  }
}

function suits(plane: ControlPlane, task: Task, node: Node): boolean {
  if (node.state !== 'ready' || node.spec.availability !== 'active') return false;
  const { placement, reservations } = task.spec;
  const [constraint] = placement.constraints;
  if (constraint !== undefined && !constraint.endsWith(`==${node.spec.labels['zone']}`))
    return false;
  const there = [...plane.store.tasksOfNode(node.id)].filter(
    ({ status }) => status.state >= TaskState.ASSIGNED && !isTerminal(status.state),
  );
  const held = (of: (task: Task) => number): number =>
    there.reduce((total, other) => total + of(other), 0);
  const { nanoCpus, memoryBytes, genericResources } = node.description;
  if (held(({ spec }) => spec.reservations.nanoCpus) + reservations.nanoCpus > nanoCpus)
    return false;
  const memory = held(({ spec }) => spec.reservations.memoryBytes) + reservations.memoryBytes;
  if (memory > memoryBytes) return false;
  const units = (items: readonly GenericResource[]): number =>
    items.reduce((total, { amount }) => total + amount, 0);
  const given = held((other) => units(other.genericResources));
  if (given + units(task.spec.genericResources) > units(genericResources)) return false;
  const taken = there.flatMap((other) => other.ports.map(({ publishedPort }) => publishedPort));
  if (task.ports.some(({ publishedPort }) => taken.includes(publishedPort))) return false;
  const own = there.filter(
    (other) => other.serviceId === task.serviceId && other.desiredState <= TaskState.RUNNING,
  );
  return placement.maxReplicasPerNode === 0 || own.length < placement.maxReplicasPerNode;
}

test('no placement breaks a rule, and nothing waits that could be placed (random)', () => {
  fc.assert(
    fc.property(
      fc.array(host, { minLength: NODES, maxLength: NODES }),
      fc.array(wanted, { minLength: 3, maxLength: 3 }),
      fc.array(step, { maxLength: 15 }),
      fc.integer(),
      (hosts, services, steps, seed) => {
        const plane = new ControlPlane({ nodes: NODES, seed });
        hosts.forEach(({ cores, gibibytes, zone, rack, gpus }, at) => {
          plane.setNode(`h${at + 1}`, {
            spec: { labels: { zone, rack } },
            description: {
              nanoCpus: cores * 1e9,
              memoryBytes: gibibytes * GIB,
              genericResources: gpus,
            },
          });
        });
        const check = (): void => checkAlways(plane);
        for (const [at, spec] of services.entries()) create(plane, `s${at}`, spec);
        plane.settle(check);
        checkWaiting(plane);
        for (const next of steps) {
          take(plane, next, check);
          checkWaiting(plane);
        }
        assert.deepEqual(plane.rejected, []);
      },
    ),
    { numRuns: 300, seed: 11 },
  );
});

test('spread is even at every level, outermost first, as far as the nodes allow (random)', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('x', 'y', 'z'), fc.constantFrom('1', '2')), {
        minLength: 1,
        maxLength: 8,
      }),
      fc.integer({ min: 1, max: 20 }),
      (labels, replicas) => {
        const plane = new ControlPlane({ nodes: labels.length });
        labels.forEach(([zone, rack], at) => {
          plane.setNode(`h${at + 1}`, { spec: { labels: { zone, rack } } });
        });
        const spreadOver = ['node.labels.zone', 'node.labels.rack'];
        plane.create('web', { replicas, task: { placement: { spreadOver } } });
        plane.settle();
        const zones = new Map<string, number>(labels.map(([zone]) => [zone, 0]));
        const racks = new Map<string, number>(labels.map(([zone, rack]) => [`${zone}/${rack}`, 0]));
        for (const { nodeId } of plane.running('web')) {
          const { zone, rack } = plane.get('node', nodeId).spec.labels;
          zones.set(zone, (zones.get(zone) ?? 0) + 1);
          racks.set(`${zone}/${rack}`, (racks.get(`${zone}/${rack}`) ?? 0) + 1);
        }
        assertEven([...zones.values()]);
        for (const zone of zones.keys()) {
          assertEven([...racks].filter(([key]) => key.startsWith(zone)).map(([, count]) => count));
        }
      },
    ),
    { numRuns: 300, seed: 12 },
  );
});

function assertEven(counts: readonly number[]): void {
  assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join());
}
