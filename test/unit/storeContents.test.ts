/** The store's indexes: whatever was put, moved and taken out, they say what a look at all says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { createTask } from '../../manager/placement/task.ts';
import { Contents } from '../../manager/store/contents.ts';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { service } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

const IDS = ['a', 'b', 'c', 'd', 'e'];
const NODES = ['', 'n1', 'n2'];
const NETWORKS = ['x', 'y', 'z'];

const ids = new Ids(new SeededRandom(1));
const web = service('web');

/** The task of one of the ids, each in a slot of its own. */
function task(id: string, nodeId: string, state: TaskState = TaskState.RUNNING): Task {
  const desiredState = TaskState.RUNNING;
  const slot = IDS.indexOf(id) + 1;
  const wanted = { slot, nodeId, generation: 1, desiredState, notBeforeMs: 0 } as const;
  const { object } = createTask(ids, web, wanted, 0) as { object: Task };
  return { ...object, id, status: { ...object.status, state } };
}

const step = fc.record({
  id: fc.constantFrom(...IDS),
  nodeId: fc.constantFrom(...NODES),
  state: fc.constantFrom(TaskState.NEW, TaskState.RUNNING, TaskState.FAILED),
  networks: fc.subarray(NETWORKS),
  removes: fc.boolean(),
});

function check(contents: Contents): void {
  const tasks = [...contents.table('task').values()];
  for (const nodeId of NODES.slice(1)) {
    const expected = tasks.filter((each) => each.nodeId === nodeId).map(({ id }) => id);
    assert.deepEqual([...contents.taskIdsOfNode(nodeId)].sort(), expected.sort());
  }
  for (const networkId of NETWORKS) {
    const isOn = (each: Task): boolean => each.networks.some((one) => one.networkId === networkId);
    const expected = tasks.some((each) => !isTerminal(each.status.state) && isOn(each));
    assert.equal(contents.isNetworkUsed(networkId), expected, networkId);
    const on = tasks.filter(isOn).map(({ id }) => id);
    assert.deepEqual([...contents.taskIdsOfNetwork(networkId)].sort(), on.sort());
  }
}

test('tasks of a node and users of a network are those that a look at all tasks finds', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const contents = new Contents();
      for (const { id, nodeId, state, networks, removes } of steps) {
        const on = networks.map((networkId) => ({ networkId, address: '', aliases: [] }));
        const after = { ...task(id, nodeId, state), networks: on };
        contents.put('task', id, removes ? undefined : after);
        check(contents);
      }
    }),
    { numRuns: 300, seed: 9 },
  );
});

test('what is loaded is indexed as what is put, and nothing is loaded twice', () => {
  const contents = new Contents();
  const loaded = IDS.map((id, at) => task(id, NODES[at % NODES.length]));
  for (const each of loaded) contents.load('task', each.id, each);
  check(contents);
  assert.equal(contents.holderOfPlace(loaded[1]), 'b');
  assert.throws(
    () => contents.load('task', 'b', loaded[1]),
    (error) => hasCode(error, 'corrupt'),
  );
});
