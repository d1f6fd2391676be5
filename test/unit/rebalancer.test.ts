/**
 * The rebalancer: tasks return to hosts that came (back), start-first and a few at a time; nothing
 * moves without a reason, twice, or against the rules of placement. By hand and at random.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce } from '../../base/slices.ts';
import { HOLD_MS, planMoves, SETTLE_MS } from '../../manager/rebalancer/moves.ts';
import { MOVE_LIMIT_MS, MOVES_AT_ONCE } from '../../manager/rebalancer/rebalancer.ts';
import { DEFAULT_MOUNT } from '../../model/defaults.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { node, type ServiceSpecFields } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

function perNode(plane: ControlPlane, name: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { nodeId } of plane.running(name)) counts[nodeId] = (counts[nodeId] ?? 0) + 1;
  return counts;
}

/** The host is lost, its tasks run elsewhere, and it is back; nothing has moved yet. */
function lostAndBack(plane: ControlPlane, id: string): void {
  plane.nodeState(id, 'down');
  plane.settle();
  plane.nowMs += 60_000;
  plane.nodeState(id, 'ready');
  plane.settle();
}

function movesOf(plane: ControlPlane): Task[] {
  return [...plane.store.all('task')].filter(({ movedFrom }) => movedFrom !== '');
}

function underWay(plane: ControlPlane): number {
  return movesOf(plane).filter(
    ({ status, desiredState }) =>
      desiredState <= TaskState.RUNNING && status.state < TaskState.RUNNING,
  ).length;
}

test('tasks return to a host that came back, once it has stayed, and none is ever missing', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.create('web', { replicas: 9 });
  plane.settle();
  lostAndBack(plane, 'h3');
  assert.deepEqual(perNode(plane, 'web'), { h1: 5, h2: 4 });
  plane.advance(SETTLE_MS - 1);
  assert.equal(movesOf(plane).length, 0, 'it may go again');
  plane.advance(60_000, () => {
    const running = plane.running('web').filter((task) => !isTerminal(task.status.state));
    assert.ok(new Set(running.map(({ slot }) => slot)).size === 9, 'a slot without a running task');
    assert.ok(underWay(plane) <= MOVES_AT_ONCE);
  });
  assert.deepEqual(perNode(plane, 'web'), { h1: 3, h2: 3, h3: 3 });
  assert.equal(movesOf(plane).length, 3, 'the fewest moves');
  const before = plane.store.version;
  plane.advance(10 * HOLD_MS);
  assert.equal(plane.store.version, before, 'a cluster at rest is left alone');
});

test('a new host takes its part of many services with one task each', () => {
  const plane = new ControlPlane({ nodes: 2 });
  for (let at = 0; at < 12; at += 1) plane.create(`s${at}`, { replicas: 1 });
  plane.settle();
  plane.nowMs += 1000;
  plane.change({ kind: 'create', table: 'node', object: node('h3', 3) });
  plane.advance(120_000, () => assert.ok(underWay(plane) <= MOVES_AT_ONCE));
  const counts = ['h1', 'h2', 'h3'].map(
    (id) =>
      [...plane.store.tasksOfNode(id)].filter(({ status }) => status.state === TaskState.RUNNING)
        .length,
  );
  assert.deepEqual(counts, [4, 4, 4]);
  assert.equal(movesOf(plane).length, 4);
});

test('scaling leaves an uneven cluster alone until a user asks, then it is evened', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 4 });
  plane.settle();
  plane.setNode('h2', { spec: { labels: { keep: 'no' } } });
  plane.update('web', ({ spec: { task } }) => ({
    task: { ...task, placement: { ...task.placement, constraints: ['node.labels.keep!=no'] } },
  }));
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(perNode(plane, 'web'), { h1: 4 });
  plane.setNode('h2', { spec: { labels: {} } });
  plane.advance(2 * HOLD_MS);
  assert.deepEqual(perNode(plane, 'web'), { h1: 4 });
  const planned = atOnce(planMoves(plane.store, plane.nowMs, 100, plane.nowMs)).moves;
  assert.deepEqual(
    planned.map(({ task, toNodeId, why }) => [task.nodeId, toNodeId, why]),
    [
      ['h1', 'h2', 'h1 has 4 tasks of the service, h2 has 0'],
      ['h1', 'h2', 'h1 has 3 tasks of the service, h2 has 1'],
    ],
  );
  const cluster = plane.get('cluster', 'cluster');
  plane.change({
    kind: 'update',
    table: 'cluster',
    object: { ...cluster, rebalanceAtMs: plane.nowMs },
  });
  plane.advance(30_000);
  assert.deepEqual(perNode(plane, 'web'), { h1: 2, h2: 2 });
});

test('a service whose tasks still start or stop is named as not settled', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 2 });
  plane.settle();
  const unsettled = (): readonly string[] =>
    atOnce(planMoves(plane.store, plane.nowMs, 100, plane.nowMs)).unsettled;
  assert.deepEqual(unsettled(), []);
  plane.create('next', { replicas: 1 });
  assert.deepEqual(unsettled(), ['next']);
  plane.settle();
  assert.deepEqual(unsettled(), []);
});

test('a service that is switched off, holds volumes, is global or being updated is not moved', () => {
  const plane = new ControlPlane({ nodes: 2 });
  const volume = {
    ...DEFAULT_MOUNT,
    type: 'volume',
    source: 'data',
    target: '/data',
    readOnly: false,
    tmpfsSizeBytes: 0,
    tmpfsMode: 0,
    propagation: '',
    nonRecursive: false,
    createSource: false,
    volume: undefined,
  } as const;
  plane.create('off', { replicas: 6, labels: { 'tsswarm.rebalance': 'off' } });
  plane.create('store', { replicas: 6, task: { container: { mounts: [volume] } } });
  plane.create('agent', { mode: { kind: 'global' } });
  plane.create('busy', { replicas: 6 });
  plane.settle();
  plane.behaviour = (task) => (task.spec.container.image === 'slow' ? 'hang' : 'run');
  plane.update('busy', ({ spec: { task } }) => ({
    task: { ...task, container: { ...task.container, image: 'slow' } },
  }));
  plane.settle();
  lostAndBack(plane, 'h2');
  plane.advance(60_000);
  assert.equal(movesOf(plane).length, 0);
  assert.deepEqual(perNode(plane, 'off'), { h1: 6 });
  plane.update('store', () => ({ labels: { 'tsswarm.rebalance': 'on' } }));
  plane.advance(60_000);
  assert.deepEqual(perNode(plane, 'store'), { h1: 3, h2: 3 });
});

test('a move that gets nowhere is given up, the old task runs on, and it is not tried at once', () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 4 });
  plane.settle();
  lostAndBack(plane, 'h2');
  plane.behaviour = (task) => (task.movedFrom === '' ? 'run' : 'hang');
  const all = (): void => {
    assert.equal(new Set(plane.running('web').map(({ slot }) => slot)).size, 4);
  };
  plane.advance(MOVE_LIMIT_MS - 1000, all);
  assert.equal(underWay(plane), 2);
  plane.advance(60_000, all);
  assert.equal(underWay(plane), 0);
  assert.deepEqual(perNode(plane, 'web'), { h1: 4 });
  plane.behaviour = () => 'run';
  plane.advance(HOLD_MS, all);
  assert.deepEqual(perNode(plane, 'web'), { h1: 2, h2: 2 });
});

test('where a move failed no other of the service is tried', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.create('web', { replicas: 9 });
  plane.settle();
  lostAndBack(plane, 'h3');
  plane.behaviour = (task) => (task.nodeId === 'h3' ? 'reject' : 'run');
  plane.advance(HOLD_MS / 2, () => assert.equal(plane.running('web').length, 9));
  assert.ok(movesOf(plane).length <= MOVES_AT_ONCE);
});

// ---- at random ---------------------------------------------------------------------------------

interface World {
  readonly nodes: readonly { readonly zone: number; readonly memory: number }[];
  readonly services: readonly {
    readonly replicas: number;
    readonly max: number;
    readonly zone: number;
    readonly spread: boolean;
    readonly memory: number;
  }[];
  readonly lost: readonly number[];
}

const world: fc.Arbitrary<World> = fc.record({
  nodes: fc.array(
    fc.record({ zone: fc.integer({ min: 0, max: 2 }), memory: fc.integer({ min: 2, max: 8 }) }),
    { minLength: 2, maxLength: 7 },
  ),
  services: fc.array(
    fc.record({
      replicas: fc.integer({ min: 0, max: 10 }),
      max: fc.integer({ min: 0, max: 3 }),
      zone: fc.integer({ min: -2, max: 2 }),
      spread: fc.boolean(),
      memory: fc.integer({ min: 0, max: 1 }),
    }),
    { minLength: 1, maxLength: 6 },
  ),
  lost: fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 3 }),
});

const GIB = 2 ** 30;

function build({ nodes, services }: World): ControlPlane {
  const plane = new ControlPlane({ nodes: 0 });
  nodes.forEach(({ zone, memory }, at) => {
    const object = node(`h${at}`, at + 1, {
      spec: { labels: { zone: `z${zone}` } },
      description: { memoryBytes: memory * GIB },
    });
    plane.change({ kind: 'create', table: 'node', object });
  });
  services.forEach(({ replicas, max, zone, spread, memory }, at) => {
    const fields: ServiceSpecFields = {
      replicas,
      task: {
        reservations: { nanoCpus: 0, memoryBytes: memory * (GIB / 2), pids: 0 },
        placement: {
          maxReplicasPerNode: max,
          constraints: zone < 0 ? [] : [`node.labels.zone==z${zone}`],
          spreadOver: spread ? ['node.labels.zone'] : [],
        },
      },
    };
    plane.create(`s${at}`, fields);
  });
  plane.settle();
  return plane;
}

/** Sums of squares by what the scheduler ranks by: preferences, services' nodes, nodes. */
function imbalance(plane: ControlPlane, world: World): number[] {
  const sums = [0, 0, 0];
  const squares = (counts: Map<string, number>): number =>
    [...counts.values()].reduce((sum, count) => sum + count * count, 0);
  const totals = new Map<string, number>();
  const note = (counts: Map<string, number>, key: string): void => {
    counts.set(key, (counts.get(key) ?? 0) + 1);
  };
  world.services.forEach(({ spread }, at) => {
    const [zones, nodes] = [new Map<string, number>(), new Map<string, number>()];
    for (const { nodeId } of plane.running(`s${at}`)) {
      note(zones, plane.get('node', nodeId).spec.labels['zone']);
      note(nodes, nodeId);
      note(totals, nodeId);
    }
    if (spread) sums[0] += squares(zones);
    sums[1] += squares(nodes);
  });
  sums[2] = squares(totals);
  return sums;
}

/** Whether a task waits for a node. */
function isWaiting(plane: ControlPlane): boolean {
  return [...plane.store.all('task')].some(
    ({ status, desiredState }) =>
      desiredState <= TaskState.RUNNING && status.state < TaskState.RUNNING,
  );
}

function isWorse(now: readonly number[], before: readonly number[]): boolean {
  const at = now.findIndex((sum, index) => sum !== before[index]);
  return at >= 0 && now[at] > before[at];
}

function checkRules(plane: ControlPlane, world: World): void {
  assert.ok(underWay(plane) <= MOVES_AT_ONCE);
  const memory = new Map<string, number>();
  world.services.forEach(({ max, zone, memory: wanted }, at) => {
    const counts = new Map<string, number>();
    for (const { nodeId, desiredState, status } of plane.tasks(`s${at}`)) {
      if (status.state < TaskState.ASSIGNED || isTerminal(status.state)) continue;
      memory.set(nodeId, (memory.get(nodeId) ?? 0) + wanted);
      if (desiredState > TaskState.RUNNING) continue;
      const count = (counts.get(nodeId) ?? 0) + 1;
      counts.set(nodeId, count);
      assert.ok(max === 0 || count <= max, 'more than the limit on a node');
      const label = plane.get('node', nodeId).spec.labels['zone'];
      assert.ok(zone < 0 || label === `z${zone}`, 'against its constraint');
    }
  });
  for (const [nodeId, halves] of memory) {
    const { description, state } = plane.get('node', nodeId);
    if (state !== 'ready') continue;
    assert.ok((halves * GIB) / 2 <= description.memoryBytes, 'more memory than the node has');
  }
}

test('hosts are lost and come back: evener or as even, few moves, none back, at rest (random)', () => {
  fc.assert(
    fc.property(world, (made) => {
      const plane = build(made);
      const check = (): void => checkRules(plane, made);
      for (const lost of made.lost) {
        const id = `h${lost % made.nodes.length}`;
        plane.nodeState(id, 'down');
        plane.settle(check);
        plane.nowMs += 30_000;
        plane.settle(check);
        plane.nodeState(id, 'ready');
        plane.settle(check);
        const before = imbalance(plane, made);
        const waiting = isWaiting(plane);
        const slots = new Set(movesOf(plane).map(({ id: taskId }) => taskId));
        const runningBefore = made.services.map((_, at) => plane.running(`s${at}`).length);
        plane.advance(120_000, () => {
          check();
          made.services.forEach((_, at) => {
            assert.ok(plane.running(`s${at}`).length >= runningBefore[at], 'capacity was lost');
          });
        });
        assert.equal(underWay(plane), 0, 'moves come to an end');
        // A task that waited for room may have found it meanwhile: then there are more to count.
        const now = imbalance(plane, made);
        assert.ok(waiting || !isWorse(now, before), 'less even than before');
        const made2 = movesOf(plane).filter(({ id: taskId }) => !slots.has(taskId));
        const places = new Set(made2.map(({ serviceId, slot }) => `${serviceId}/${slot}`));
        assert.equal(places.size, made2.length, 'a slot was moved twice');
        for (const move of made2) assert.equal(move.nodeId, id, 'moved to a host that was there');
      }
      const { version } = plane.store;
      plane.advance(3 * HOLD_MS);
      plane.advance(3 * HOLD_MS);
      assert.ok(movesOf(plane).length <= [...plane.store.all('task')].length);
      const settled = plane.store.version;
      plane.advance(10 * HOLD_MS);
      assert.equal(plane.store.version, settled, `still moving (from ${version})`);
    }),
    { numRuns: 60 },
  );
});

test('asked for, the plan is what happens, and a second one is empty (random)', () => {
  fc.assert(
    fc.property(world, (made) => {
      const plane = build(made);
      for (const lost of made.lost) {
        plane.nodeState(`h${lost % made.nodes.length}`, 'down');
        plane.settle();
      }
      plane.nowMs += 1;
      for (const { id } of plane.store.all('node')) plane.nodeState(id, 'ready');
      plane.settle();
      const waiting = isWaiting(plane);
      plane.nowMs += 1;
      const planned = atOnce(planMoves(plane.store, plane.nowMs, 1000, plane.nowMs)).moves;
      const before = imbalance(plane, made);
      const cluster = plane.get('cluster', 'cluster');
      const object = { ...cluster, rebalanceAtMs: plane.nowMs };
      plane.change({ kind: 'update', table: 'cluster', object });
      plane.advance(120_000, () => checkRules(plane, made));
      const after = imbalance(plane, made);
      if (waiting) return;
      assert.ok(!isWorse(after, before), 'less even than before');
      if (planned.length > 0) assert.ok(isWorse(before, after), 'planned, and nothing is evener');
      assert.ok(movesOf(plane).length >= Math.min(1, planned.length));
      assert.deepEqual(atOnce(planMoves(plane.store, plane.nowMs, 1000, 0)).moves, []);
    }),
    { numRuns: 60 },
  );
});
