/** Replicated and global jobs over the loops together, and what holds of them whatever happens. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { RestartPolicy, ServiceMode, Task } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { fc } from '../support/properties.ts';

const DELAY_MS = 500;
const RETRY: RestartPolicy = { condition: 'any', delayMs: DELAY_MS, maxAttempts: 0, windowMs: 0 };

function job(maxConcurrent: number, totalCompletions: number): ServiceMode {
  return { kind: 'replicated-job', maxConcurrent, totalCompletions };
}

function inState(plane: ControlPlane, state: TaskState, name = 'job'): Task[] {
  const iteration = plane.service(name).job?.iteration;
  return plane
    .tasks(name)
    .filter((task) => task.jobIteration === iteration && task.status.state === state);
}

function again(plane: ControlPlane, mode?: ServiceMode): void {
  plane.update('job', ({ spec }) => ({
    ...(mode === undefined ? {} : { mode }),
    task: { ...spec.task, forceUpdate: spec.task.forceUpdate + 1 },
  }));
}

test('a replicated job completes as often as asked for, a few at a time', () => {
  const plane = new ControlPlane();
  plane.create('job', { mode: job(2, 5), task: { restart: RETRY } });
  plane.settle();
  let most = 0;
  while (inState(plane, TaskState.RUNNING).length > 0) {
    most = Math.max(most, inState(plane, TaskState.RUNNING).length);
    plane.end(inState(plane, TaskState.RUNNING)[0], TaskState.COMPLETE);
    plane.settle();
  }
  assert.equal(most, 2);
  assert.deepEqual(
    inState(plane, TaskState.COMPLETE).map(({ slot }) => slot),
    [1, 2, 3, 4, 5],
  );
  assert.equal(plane.tasks('job').length, 5);
  assert.ok(plane.tasks('job').every(({ desiredState }) => desiredState === TaskState.COMPLETE));
});

test('a task of a job that fails is tried again in its slot, after the delay', () => {
  const plane = new ControlPlane();
  plane.create('job', { mode: job(1, 1), task: { restart: RETRY } });
  plane.settle();
  plane.end(inState(plane, TaskState.RUNNING)[0], TaskState.FAILED);
  plane.settle();
  assert.equal(inState(plane, TaskState.RUNNING).length, 0);
  const [ready] = inState(plane, TaskState.READY);
  assert.equal(ready.slot, 1);
  plane.advance(DELAY_MS);
  assert.equal(inState(plane, TaskState.RUNNING).length, 1);
  plane.end(inState(plane, TaskState.RUNNING)[0], TaskState.COMPLETE);
  plane.advance(60_000);
  assert.equal(inState(plane, TaskState.COMPLETE).length, 1);
  assert.equal(plane.tasks('job').length, 2);
});

test('a slot of a job that may not be tried again is given up, and the others go on', () => {
  const plane = new ControlPlane();
  const restart = { ...RETRY, condition: 'none' } as const;
  plane.create('job', { mode: job(1, 3), task: { restart } });
  plane.behaviour = (task) => (task.slot === 2 ? 'fail' : 'complete');
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(
    plane.tasks('job').map(({ slot, status }) => [slot, status.state]),
    [
      [1, TaskState.COMPLETE],
      [2, TaskState.FAILED],
      [3, TaskState.COMPLETE],
    ],
  );
});

test('a task of a job lost with its node is done again elsewhere at once', () => {
  const plane = new ControlPlane();
  plane.create('job', { mode: job(1, 1), task: { restart: RETRY } });
  plane.settle();
  const [first] = inState(plane, TaskState.RUNNING);
  plane.nodeState(first.nodeId, 'down');
  plane.settle();
  const second = inState(plane, TaskState.RUNNING).find(({ id }) => id !== first.id);
  assert.notEqual(second?.nodeId, first.nodeId);
  plane.end(plane.get('task', second?.id ?? ''), TaskState.COMPLETE);
  plane.nodeState(first.nodeId, 'ready');
  plane.settle();
  assert.equal(plane.get('task', first.id).status.state, TaskState.SHUTDOWN);
});

test('a job that is asked for again runs again, and removes what still ran', () => {
  const plane = new ControlPlane();
  plane.create('job', { mode: job(3, 3), task: { restart: RETRY } });
  plane.settle();
  plane.end(inState(plane, TaskState.RUNNING)[0], TaskState.COMPLETE);
  plane.settle();
  again(plane);
  plane.settle();
  assert.equal(inState(plane, TaskState.RUNNING).length, 3);
  const before = plane.tasks('job').filter(({ jobIteration }) => jobIteration === 0);
  assert.deepEqual(
    before.map(({ status }) => status.state),
    [TaskState.COMPLETE],
    'what completed stays as history',
  );
});

test('a global job runs once on every node, and on one that comes later', () => {
  const plane = new ControlPlane();
  plane.create('job', { mode: { kind: 'global-job' }, task: { restart: RETRY } });
  plane.setNode('h3', { spec: { availability: 'drain' } });
  plane.behaviour = () => 'complete';
  plane.settle();
  const done = () => inState(plane, TaskState.COMPLETE).map(({ nodeId }) => nodeId);
  assert.deepEqual(done().sort(), ['h1', 'h2']);
  plane.setNode('h3', { spec: { availability: 'active' } });
  plane.settle();
  plane.advance(60_000);
  assert.deepEqual(done().sort(), ['h1', 'h2', 'h3']);
  assert.equal(plane.tasks('job').length, 3);
});

// ---- whatever happens --------------------------------------------------------------------------

const NODES = 3;
const step = fc.oneof(
  fc.record({
    kind: fc.constant('end' as const),
    pick: fc.nat({ max: 100 }),
    how: fc.constantFrom(TaskState.COMPLETE, TaskState.FAILED),
  }),
  fc.record({
    kind: fc.constant('node' as const),
    node: fc.integer({ min: 1, max: NODES }),
    to: fc.constantFrom('down', 'ready', 'drain', 'active', 'unknown'),
  }),
  fc.record({ kind: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 2_000 }) }),
  fc.record({ kind: fc.constant('rounds' as const), count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    kind: fc.constant('again' as const),
    most: fc.integer({ min: 1, max: 4 }),
    total: fc.integer({ min: 1, max: 6 }),
  }),
  fc.record({ kind: fc.constant('elect' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function take(plane: ControlPlane, next: Step, check: () => void): void {
  switch (next.kind) {
    case 'end': {
      const running = plane.running('job');
      if (running.length > 0) plane.end(running[next.pick % running.length], next.how);
      break;
    }
    case 'node':
      if (next.to === 'drain' || next.to === 'active') {
        plane.setNode(`h${next.node}`, { spec: { availability: next.to } });
      } else plane.nodeState(`h${next.node}`, next.to);
      break;
    case 'advance':
      plane.advance(next.ms, check);
      break;
    case 'rounds':
      for (let round = 0; round < next.count; round += 1) {
        plane.round();
        check();
        plane.agents();
        check();
      }
      break;
    case 'again':
      again(plane, job(next.most, next.total));
      break;
    case 'elect':
      plane.elect();
      break;
  }
}

function bounds(plane: ControlPlane): { maxConcurrent: number; totalCompletions: number } {
  const { mode } = plane.service('job').spec;
  return mode.kind === 'replicated-job' ? mode : assert.fail('it is a replicated job');
}

/** Never more at once than asked for, never a slot beyond the last, never a done one redone. */
function checkAlways(plane: ControlPlane): void {
  const { iteration } = plane.service('job').job ?? assert.fail('it has no iteration');
  const { maxConcurrent, totalCompletions } = bounds(plane);
  const current = plane.tasks('job').filter(({ jobIteration }) => jobIteration === iteration);
  const active = current.filter(
    ({ desiredState, status }) => isWantedState(desiredState) && !isTerminal(status.state),
  );
  assert.ok(active.length <= maxConcurrent, `${active.length} of ${maxConcurrent} at once`);
  for (const task of current) {
    assert.ok(task.slot >= 1 && task.slot <= totalCompletions, `slot ${task.slot}`);
    const done = current.find(
      ({ slot, status }) => slot === task.slot && status.state === TaskState.COMPLETE,
    );
    if (done === undefined) continue;
    assert.ok(task.createdAtMs <= done.status.atMs, `slot ${task.slot} is done again`);
  }
}

test('whatever happens, a job completes every slot once, within its bounds (random)', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 30 }),
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer(),
      (steps, most, total, seed) => {
        const plane = new ControlPlane({ nodes: NODES, seed });
        plane.create('job', { mode: job(most, total), task: { restart: RETRY } });
        const check = (): void => checkAlways(plane);
        plane.settle(check);
        for (const next of steps) take(plane, next, check);
        for (let at = 1; at <= NODES; at += 1) {
          plane.setNode(`h${at}`, { state: 'ready', spec: { availability: 'active' } });
        }
        plane.behaviour = () => 'complete';
        for (const task of plane.running('job')) {
          if (isWantedState(task.desiredState)) plane.end(task, TaskState.COMPLETE);
        }
        plane.settle(check);
        plane.advance(60_000, check);
        const slots = inState(plane, TaskState.COMPLETE).map(({ slot }) => slot);
        const { totalCompletions } = bounds(plane);
        assert.equal(new Set(slots).size, totalCompletions);
        const left = plane
          .tasks('job')
          .filter(({ status }) => !isTerminal(status.state) && status.state > TaskState.NEW);
        assert.deepEqual(left, []);
        assert.deepEqual(plane.rejected, []);
      },
    ),
    { numRuns: 300, seed: 7 },
  );
});
