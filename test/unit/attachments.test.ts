/**
 * Places on attachable networks for containers that no service owns: asked for by a worker over
 * real gRPC, allocated by the leader, held by the worker's agent, and given back.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { atOnce } from '../../base/slices.ts';
import { SwarmAttachments } from '../../daemon/attachments.ts';
import type { SwarmNode } from '../../daemon/swarmNode.ts';
import { AttachmentReaper } from '../../manager/orchestrator/attachments.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { ManualClock } from '../support/manualClock.ts';
import { network } from '../support/objects.ts';
import { clock, type TestNode, TestSwarm, until } from '../support/swarm.ts';

const swarm = new TestSwarm();
const WISH = { aliases: ['box'], address: '', address6: '', macAddress: '' };
let m1: TestNode;
let w1: TestNode;
let attachments: SwarmAttachments;
let netId: string;
const there = new Set<string>();

before(async () => {
  m1 = await swarm.init('m1');
  const tokens = await m1.control.joinTokens();
  w1 = await swarm.join('w1', tokens.worker, m1.address);
  attachments = new SwarmAttachments({
    clock,
    log: silentLog,
    swarm: () => w1.node,
    isMember: () => true,
    isThere: (id) => there.has(id),
  });
  const spec = network('att', { attachable: true, subnet: '10.7.0.0/24' }).spec;
  netId = (await m1.control.createNetwork(spec)).id;
  await m1.control.createNetwork(network('plain').spec);
});

after(() => swarm.close());

function places(): Task[] {
  return [...m1.control.store.all('task')].filter(({ serviceId }) => serviceId === '');
}

test('a worker finds attachable networks; others are refused in Docker’s words', async () => {
  assert.deepEqual(await attachments.find('att'), { id: netId, name: 'att' });
  assert.deepEqual(await attachments.find(netId), { id: netId, name: 'att' });
  assert.equal(await attachments.find('none'), undefined);
  const refused = { code: 'forbidden', message: /network plain not manually attachable/ };
  await assert.rejects(attachments.find('plain'), refused);
  await assert.rejects(attachments.attach('c0', 'plain', WISH), refused);
  assert.deepEqual(places(), []);
});

test('a place has an address, is on the host that asked, runs, and is had once', async () => {
  const given = await attachments.attach('c1', netId, WISH);
  assert.match(given.address, /^10\.7\.0\.\d+$/);
  assert.deepEqual(await attachments.attach('c1', netId, WISH), given);
  const [place, ...more] = places();
  assert.equal(more.length, 0);
  assert.equal(place.id, given.endpointId);
  assert.equal(place.nodeId, w1.id);
  assert.equal(place.status.containerId, 'c1');
  await until(
    'the leader hears that it runs',
    () => places()[0].status.state === TaskState.RUNNING,
  );
});

test('an address that was asked for is given, and not to two', async () => {
  const wish = { ...WISH, address: '10.7.0.77' };
  assert.equal((await attachments.attach('c2', netId, wish)).address, '10.7.0.77');
  await assert.rejects(attachments.attach('c3', netId, wish), /address 10\.7\.0\.77 .* is held/);
  await assert.rejects(
    attachments.attach('c3', netId, { ...WISH, address: '10.8.0.1' }),
    /Could not attach to network att: address 10\.8\.0\.1 is not one/,
  );
  await until('the refused ones are gone', () => places().length === 2);
});

test('a container that is restarted at once has the address again that it asked for', async () => {
  const wish = { ...WISH, address: '10.7.0.90' };
  const first = await attachments.attach('c9', netId, wish);
  const released = attachments.detach('c9', netId);
  await until('it is told', () => places().some(({ desiredState }) => desiredState > 600));
  const second = await attachments.attach('c9', netId, wish);
  assert.equal(second.address, '10.7.0.90');
  assert.notEqual(second.endpointId, first.endpointId);
  assert.equal(attachments.nameOf(netId), 'att');
  await released;
  await attachments.detach('c9', netId);
  await until('it is gone', () => places().length === 2);
});

test('a place whose container ended unseen is given back when it is missed twice', async () => {
  there.add('c1').add('c2').add('c4');
  await attachments.attach('c4', netId, WISH);
  attachments.sweep();
  there.delete('c4');
  attachments.sweep();
  assert.equal(places().length, 3);
  attachments.sweep();
  await until('it is gone', () => places().length === 2);
});

test('a place that nobody takes back is asked about one at a time, however often it is missed', async () => {
  const manual = new ManualClock();
  let asked = 0;
  const place = {
    status: { state: TaskState.RUNNING, containerId: 'c8' },
    networks: [{ networkId: 'n' }],
  };
  const cutOff = {
    agent: { attachments: () => [place] },
    membership: { managers: ['10.0.0.1:2377'] },
    channelTo: () => {
      asked += 1;
      throw new SwarmError('unavailable', 'no route');
    },
  };
  const alone = new SwarmAttachments({
    clock: manual,
    log: silentLog,
    swarm: () => cutOff as unknown as SwarmNode,
    isMember: () => true,
    isThere: () => false,
  });
  for (let minute = 0; minute < 10; minute += 1) {
    alone.sweep();
    void alone.detach('c8', 'n');
    await manual.advance(60_000);
  }
  assert.equal(manual.waiting, 1);
  assert.ok(asked <= 10 * 13, `asked ${asked} times`);
  alone.stop();
  assert.equal(manual.waiting, 0);
});

test('a network that a container is on cannot go, and both are named', async () => {
  const message =
    /network \w+ is in use by container c\d on \w+: remove it there, or disconnect it/;
  await assert.rejects(m1.control.removeNetwork(netId), { message });
});

test('a place that is given back is forgotten, and its network can go', async () => {
  await attachments.detach('c1', netId);
  await attachments.detach('c2', netId);
  await attachments.detach('c2', netId);
  await until('both are gone', () => places().length === 0);
  await m1.control.removeNetwork(netId);
});

test('places of hosts that are gone are forgotten; of a silent one they stay while wanted', () => {
  const plane = new ControlPlane({ nodes: 3 });
  plane.create('web', { replicas: 3 });
  plane.settle();
  const tasks = plane.running('web').map((task, at) => {
    const place: Task = { ...task, id: `place-${at}`, serviceId: '', version: 0 };
    plane.change({ kind: 'create', table: 'task', object: place });
    return place;
  });
  plane.nodeState('h2', 'down');
  plane.change({ kind: 'remove', table: 'node', id: 'h3' });
  const dirty = { everything: true, ids: {} } as unknown as Parameters<AttachmentReaper['plan']>[1];
  const gone = (): string[] =>
    atOnce(new AttachmentReaper().plan(plane.store, dirty, plane.nowMs)).changes.map((change) =>
      change.kind === 'remove' ? change.id : '',
    );
  assert.deepEqual(gone(), [tasks.find(({ nodeId }) => nodeId === 'h3')?.id]);
  const silent = tasks.find(({ nodeId }) => nodeId === 'h2');
  assert.ok(silent);
  const held = plane.get('task', silent.id);
  const object = { ...held, desiredState: TaskState.REMOVE };
  plane.change({ kind: 'update', table: 'task', object });
  assert.ok(gone().includes(silent.id));
});
