/**
 * Managers and workers together in one process: real certificates, gRPC over TLS on loopback, Raft
 * on disk, every loop; only the hosts' runtimes are played.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { requestCertificate } from '../../manager/ca/client.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Node, NodeRole, Task } from '../../model/types.ts';
import { client } from '../../proto/rpc.ts';
import { Control, Host } from '../../proto/services.ts';
import { network, serviceSpec } from '../support/objects.ts';
import { clock, type TestNode, TestSwarm, until } from '../support/swarm.ts';

const swarm = new TestSwarm();
let m1: TestNode;
let m2: TestNode;
let m3: TestNode;
let w1: TestNode;

function nodeOf(of: TestNode, from: TestNode = m1): Node {
  const node = from.control.store.get('node', of.id);
  assert(node !== undefined, `${of.name} is not in the store`);
  return node;
}

function running(serviceId: string, from: TestNode = m1): Task[] {
  return [...from.control.store.tasksOfService(serviceId)].filter(
    ({ status, desiredState }) =>
      status.state === TaskState.RUNNING && desiredState === TaskState.RUNNING,
  );
}

function ready(of: TestNode): Promise<true> {
  return until(`${of.name} is ready`, () => nodeOf(of).state === 'ready');
}

function isManager(of: TestNode): Promise<true> {
  return until(`${of.name} is a manager`, () => nodeOf(of).role === 'manager');
}

/** As a user asks: with what it is now, and again where it has changed since (its status does). */
function setRole(of: TestNode, role: NodeRole, by: TestNode): Promise<true> {
  return until(`${of.name} is to be a ${role}`, async () => {
    const { id, version, spec } = nodeOf(of, by);
    try {
      await by.control.updateNode(id, version, { ...spec, role });
      return true;
    } catch (error) {
      if (hasCode(error, 'out_of_sequence')) return false;
      throw error;
    }
  });
}

before(async () => {
  m1 = await swarm.init('m1');
  const tokens = await m1.control.joinTokens();
  m2 = await swarm.join('m2', tokens.manager, m1.address);
  m3 = await swarm.join('m3', tokens.manager, m2.address);
  w1 = await swarm.join('w1', tokens.worker, m3.address);
});

after(() => swarm.close());

test('a founder, two managers and a worker become a swarm of four ready nodes', async () => {
  for (const node of [m1, m2, m3, w1]) await ready(node);
  for (const node of [m1, m2, m3]) await isManager(node);
  assert.equal(nodeOf(w1).role, 'worker');
  const indexes = [m1, m2, m3, w1].map((node) => nodeOf(node).hostIndex);
  assert.deepEqual(indexes, [1, 2, 3, 4]);
  const status = m2.control.raftStatus();
  assert.equal(status.managers.length, 3);
  assert(status.managers.every(({ nodeId }) => nodeId !== ''));
});

test('a follower shows what only the leader knows: heartbeat ages and how far others are', async () => {
  const leader = await swarm.leader();
  const follower = [m1, m2, m3].find((node) => node !== leader) ?? m1;
  const heard = await until('the ages as a follower tells them', () => {
    const ages = follower.swarmNode.manager?.heartbeatAges();
    return ages !== undefined && ages.size === 4 && ages;
  });
  assert.deepEqual([...heard.keys()].sort(), [m1, m2, m3, w1].map(({ id }) => id).sort());
  for (const ageMs of heard.values()) assert.ok(ageMs >= 0 && ageMs < 20_000, `${ageMs} ms`);
  const { managers } = follower.control.raftStatus();
  for (const { lag, isLeader } of managers) if (!isLeader) assert.equal(typeof lag, 'number');
});

test('a service created through a follower runs on every host, its network too', async () => {
  const follower = (await swarm.leader()) === m2 ? m3 : m2;
  const overlay = await follower.control.createNetwork(network('front').spec);
  assert.equal(follower.control.store.get('network', overlay.id)?.spec.name, 'front');
  const spec = serviceSpec('web', { mode: { kind: 'replicated', replicas: 4 } });
  const service = await follower.control.createService({
    ...spec,
    task: { ...spec.task, networks: [{ target: 'front', aliases: [], addresses: [] }] },
  });
  assert.equal(service.spec.task.networks[0].target, overlay.id);
  const tasks = await until('4 tasks run', () => {
    const found = running(service.id);
    return found.length === 4 && found;
  });
  assert.equal(new Set(tasks.map(({ nodeId }) => nodeId)).size, 4);
  await until('each host holds 4 endpoints and 4 backends', () =>
    [m1, m2, m3, w1].every(({ runtime }) => {
      const state = runtime.network.overlays.get(overlay.id);
      return state?.endpoints.length === 4 && state.services[0]?.backends.length === 4;
    }),
  );
  const state = w1.runtime.network.overlays.get(overlay.id);
  const names = new Map(state?.names.map(({ name, addresses }) => [name, addresses]));
  assert.equal(names.get('web')?.length, 1);
  assert.equal(names.get('tasks.web')?.length, 4);
  assert.equal(state?.peers.length, 4);
  await assert.rejects(follower.control.removeNetwork(overlay.id), /in use by service web/);
  await follower.control.removeService(service.id);
  await until('all its containers are gone', () =>
    [m1, m2, m3, w1].every(({ runtime }) => runtime.containers.list().length === 0),
  );
  await follower.control.removeNetwork(overlay.id);
});

test('a wrong request is refused in one clear line, by follower and leader', async () => {
  const leader = await swarm.leader();
  const follower = leader === m2 ? m3 : m2;
  for (const { control } of [leader, follower]) {
    const spec = serviceSpec('bad');
    const task = { ...spec.task, networks: [{ target: 'nowhere', aliases: [], addresses: [] }] };
    await assert.rejects(control.createService({ ...spec, task }), (error) => {
      assert(hasCode(error, 'not_found'));
      assert.match(error.message, /network nowhere not found/);
      return true;
    });
    await assert.rejects(control.removeService('nothing'), { code: 'not_found' });
    const service = await control.createService(serviceSpec('once'));
    await assert.rejects(control.createService(serviceSpec('once')), { code: 'conflict' });
    await assert.rejects(control.updateService(service.id, service.version - 1, service.spec), {
      code: 'out_of_sequence',
    });
    await control.removeService(service.id);
  }
});

test('a join with a wrong token is refused and says why', async () => {
  const tokens = await m1.control.joinTokens();
  const join = (token: string) =>
    requestCertificate({
      clock,
      log: silentLog,
      remoteAddresses: [m1.address],
      token,
      availability: 'active',
      description: w1.description(),
      advertiseAddress: '127.0.0.1',
      port: 1,
      previousNodeId: '',
    });
  await assert.rejects(join('hello'), { code: 'invalid' });
  const [prefix, one, digest, secret] = tokens.worker.split('-');
  const wrongSecret = secret.split('').reverse().join('');
  await assert.rejects(join([prefix, one, digest, wrongSecret].join('-')), /not valid/);
  const wrongDigest = digest.split('').reverse().join('');
  await assert.rejects(join([prefix, one, wrongDigest, secret].join('-')), /CA differs/);
});

test('a rotated token no longer lets anyone in, the new one does', async () => {
  const before = await m1.control.joinTokens();
  const cluster = m1.control.store.cluster();
  assert(cluster !== undefined);
  await m2.control.updateCluster(cluster.version, cluster.spec, {
    workerToken: true,
    managerToken: false,
    signingCaKey: '',
    unlockKey: false,
  });
  const now = await m1.control.joinTokens();
  assert.notEqual(now.worker, before.worker);
  assert.equal(now.manager, before.manager);
  await assert.rejects(swarm.join('w2', before.worker, m1.address), /not valid/);
  const w2 = await swarm.join('w2', now.worker, m1.address);
  await ready(w2);
  await w2.stop();
});

test('a worker promoted becomes a manager by itself, and a worker again when demoted', async () => {
  const leader = await swarm.leader();
  await setRole(w1, 'manager', leader);
  await isManager(w1);
  assert.equal(w1.swarmNode.membership.role, 'manager');
  await until('it holds the store', () => w1.control.store.count('node') > 0);
  await until('it is known there as well', () => w1.control.store.get('node', w1.id));
  await until('four voters', () => leader.control.raftStatus().managers.length === 4);
  await setRole(w1, 'worker', leader);
  await until('it is a worker', () => nodeOf(w1, leader).role === 'worker');
  await until('its daemon has followed', () => w1.swarmNode.manager === undefined);
  await until('three voters', () => leader.control.raftStatus().managers.length === 3);
  assert.equal(nodeOf(w1, leader).manager, undefined);
  assert.equal(leader.control.store.cluster()?.removedRaftIds.length, 1);
});

test('the leader demoted hands over and becomes a worker', async () => {
  const leader = await swarm.leader();
  const other = leader === m1 ? m2 : m1;
  await setRole(leader, 'worker', other);
  await until('it is a worker', () => nodeOf(leader, other).role === 'worker');
  await until('its daemon has followed', () => leader.swarmNode.manager === undefined);
  await setRole(leader, 'manager', other);
  await until('and a manager again', () => nodeOf(leader, other).role === 'manager');
  await until('with a manager of its own', () => leader.swarmNode.manager !== undefined);
});

test('any manager answers with a config as of the last write, and no worker may ask', async () => {
  const leader = await swarm.leader();
  const data = Buffer.from('x');
  const spec = { name: 'read', labels: {}, data, templating: '' } as const;
  const made = await leader.control.createData('config', spec);
  const { id } = made;
  let { version } = made;
  for (const asked of [m1, m2, m3]) {
    const labels = { by: asked.name };
    ({ version } = await leader.control.updateData('config', id, version, { ...spec, labels }));
    const channel = m1.swarmNode.channelTo(asked.address);
    const { object } = await client(Control, channel).getData({ table: 'config', id });
    assert.equal(object?.version, BigInt(version));
    const none = client(Control, channel).getData({ table: 'config', id: 'none' });
    await assert.rejects(none, { code: 'not_found' });
    channel.close();
  }
  const channel = w1.swarmNode.channelTo(leader.address);
  await assert.rejects(client(Control, channel).getData({ table: 'config', id }), {
    code: 'forbidden',
  });
  channel.close();
  await leader.control.removeData('config', id);
});

test('a node is removed when down or by force, and then let in no more', async () => {
  const leader = await swarm.leader();
  const { credentials } = w1.swarmNode;
  assert.notEqual(credentials.certificate, '');
  await assert.rejects(leader.control.removeNode(w1.id, false), /is not down/);
  await assert.rejects(leader.control.removeNode(leader.id, true), /demote it first/);
  await leader.control.removeNode(w1.id, true);
  const channel = w1.swarmNode.channelTo(leader.address);
  await assert.rejects(client(Host, channel).ping({}), { code: 'forbidden' });
  channel.close();
  await w1.stop();
});

test('after the leader stops another leads, accepts writes and knows all nodes', async () => {
  const leader = await swarm.leader();
  const others = [m1, m2, m3].filter((node) => node !== leader);
  await leader.stop();
  // Until then a write may be lost with the old leader's connection, and is answered as unknown.
  await until('another is known to lead', () => {
    const { leaderNodeId } = others[0].control.raftStatus();
    return leaderNodeId !== '' && leaderNodeId !== leader.id;
  });
  const service = await others[0].control.createService(serviceSpec('after'));
  await until('it runs', () => running(service.id, others[1]).length > 0);
  await leader.start();
  await until('it is back', () => nodeOf(leader, others[0]).state === 'ready');
  await until('and has caught up', () =>
    leader.swarmNode.manager?.control.store.get('service', service.id),
  );
});
