/** Tasks that leave a balance before they are stopped: who is waited for, and for how long. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AssignmentSet } from '../../manager/dispatcher/assignments.ts';
import { Leaving } from '../../manager/dispatcher/leaving.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { makeTask } from '../support/agentParts.ts';
import { ManualClock } from '../support/manualClock.ts';

function scene() {
  const clock = new ManualClock();
  const released: string[] = [];
  const absent = new Set<string>();
  const onReleased = (nodeId: string): number => released.push(nodeId);
  const leaving = new Leaving(clock, onReleased, (nodeId) => absent.has(nodeId));
  return { clock, released, absent, leaving };
}

function set(desiredState: Task['desiredState'], parts: Partial<Task> = {}): AssignmentSet {
  const made = makeTask('t');
  const status = { ...made.status, state: TaskState.RUNNING };
  const networks = [{ networkId: 'n', address: '10.0.1.5/24', aliases: [] }];
  const task: Task = { ...made, status, networks, ...parts, desiredState };
  return new AssignmentSet(new Map(), new Map([['task/t', { kind: 'task', task }]]));
}

function desired(items: AssignmentSet): number {
  const item = items.get('task/t');
  assert(item?.kind === 'task');
  return item.task.desiredState;
}

const RUNS = set(TaskState.RUNNING);
const STOPS = set(TaskState.SHUTDOWN);

test('a task is told to stop when every node has left it out, and not before', () => {
  const { leaving, released } = scene();
  const told = new Map([
    ['h1', 4],
    ['h2', 5],
  ]);
  assert.equal(desired(leaving.hold('h1', RUNS, STOPS, told)), TaskState.RUNNING);
  leaving.confirmed('h1', 4);
  leaving.confirmed('h2', 4);
  assert.deepEqual(released, []);
  assert.equal(desired(leaving.hold('h1', RUNS, STOPS, new Map())), TaskState.RUNNING);
  leaving.confirmed('h2', 5);
  assert.deepEqual(released, ['h1']);
  assert.equal(desired(leaving.hold('h1', RUNS, STOPS, told)), TaskState.SHUTDOWN);
});

test('a node that is down, or that says nothing, holds nobody up', async () => {
  const { leaving, released, clock } = scene();
  leaving.hold('h1', RUNS, STOPS, new Map([['h2', 1]]));
  leaving.gone('h2');
  assert.deepEqual(released, ['h1']);
  const other = scene();
  other.leaving.hold('h1', RUNS, STOPS, new Map([['h2', 1]]));
  await other.clock.advance(1000);
  assert.deepEqual(other.released, ['h1']);
  await clock.advance(5000);
  assert.deepEqual(released, ['h1']);
});

test('of a node that is gone itself nothing is kept, and no timer runs', () => {
  const { leaving, released, clock } = scene();
  leaving.hold('h1', RUNS, STOPS, new Map([['h2', 1]]));
  leaving.gone('h1');
  assert.equal(clock.waiting, 0);
  leaving.confirmed('h2', 1);
  assert.deepEqual(released, ['h1']);
});

test('a node whose daemon is away is waited for until it is back, but not for ever', async () => {
  const { leaving, released, clock, absent } = scene();
  absent.add('h2');
  leaving.hold('h1', RUNS, STOPS, new Map([['h2', 1]]));
  await clock.advance(3000);
  assert.deepEqual(released, []);
  absent.delete('h2');
  leaving.confirmed('h2', 7);
  assert.deepEqual(released, ['h1']);
  const other = scene();
  other.absent.add('h2');
  other.leaving.hold('h1', RUNS, STOPS, new Map([['h2', 1]]));
  await other.clock.advance(9000);
  assert.deepEqual(other.released, []);
  await other.clock.advance(2000);
  assert.deepEqual(other.released, ['h1']);
});

test('nothing is waited for where nobody connects, or nobody had to be told', () => {
  const { leaving } = scene();
  const told = new Map([['h2', 1]]);
  const alone = { networks: [] };
  const [runs, stops] = [set(TaskState.RUNNING, alone), set(TaskState.SHUTDOWN, alone)];
  assert.equal(desired(leaving.hold('h1', runs, stops, told)), TaskState.SHUTDOWN);
  assert.equal(desired(leaving.hold('h1', RUNS, STOPS, new Map())), TaskState.SHUTDOWN);
  assert.equal(
    desired(leaving.hold('h1', new AssignmentSet(new Map(), new Map()), STOPS, told)),
    TaskState.SHUTDOWN,
  );
});
