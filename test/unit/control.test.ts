/**
 * The writes behind the API over a bare store: what is checked, resolved, refused and recorded.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ids } from '../../base/id.ts';
import { SeededRandom } from '../../base/random.ts';
import { Writes } from '../../manager/control/writes.ts';
import { TaskState } from '../../model/taskState.ts';
import type { NetworkAttachmentSpec, ServiceSpec, Task } from '../../model/types.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock } from '../support/manualClock.ts';
import { base, cluster, network, node, serviceSpec, taskSpec } from '../support/objects.ts';

function scene(cannotDemote: string | (() => string) = '') {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster({}, { joinSecretWorker: 'w', joinSecretManager: 'm' }));
  direct.create('node', node('m1', 1, { spec: { role: 'manager' }, role: 'manager' }));
  direct.create('node', node('w1', 2));
  direct.create('network', network('front'));
  const random = new SeededRandom(1);
  const writes = new Writes({
    clock,
    store: direct.store,
    proposer: direct,
    ids: new Ids(random),
    random,
    cannotDemote: async () => (typeof cannotDemote === 'string' ? cannotDemote : cannotDemote()),
  });
  return { clock, direct, writes };
}

function on(...networks: NetworkAttachmentSpec[]): ServiceSpec {
  const spec = serviceSpec('web');
  return { ...spec, task: { ...spec.task, networks } };
}

test('networks are taken by name or id, kept by id; those of a host unchanged', async () => {
  const { writes } = scene();
  for (const target of ['front', 'front-id']) {
    const { object } = await writes.createService(on({ target, aliases: ['a'], addresses: [] }));
    assert.deepEqual(object.spec.task.networks, [
      { target: 'front-id', aliases: ['a'], addresses: [] },
    ]);
    await writes.removeService(object.id);
  }
  const { object } = await writes.createService(on({ target: 'host', aliases: [], addresses: [] }));
  assert.equal(object.spec.task.networks[0].target, 'host');
  await assert.rejects(
    writes.createService(on({ target: 'back', aliases: [], addresses: [] })),
    /back not found/,
  );
  const twice = on(
    { target: 'front', aliases: [], addresses: [] },
    { target: 'front-id', aliases: [], addresses: [] },
  );
  await assert.rejects(writes.createService(twice), /named twice/);
});

test('an update keeps the spec before it, and a rollback goes back to that', async () => {
  const { writes } = scene();
  const created = (await writes.createService(serviceSpec('web'))).object;
  assert.equal(created.previousSpec, undefined);
  await assert.rejects(writes.rollbackService(created.id, created.version), /no previous spec/);
  const updated = (
    await writes.updateService(created.id, created.version, serviceSpec('web', { replicas: 5 }))
  ).object;
  assert.deepEqual(updated.previousSpec, created.spec);
  assert(updated.specVersion > created.specVersion);
  const back = (await writes.rollbackService(updated.id, updated.version)).object;
  assert.deepEqual(back.spec, created.spec);
  assert.deepEqual(back.previousSpec, updated.spec);
  // So that the settings of the rollback hold, and a failure does not bring the new one back.
  assert.equal(back.update?.state, 'rollback_started');
});

test('of two managers demoted at once one is refused: the other would be none', async () => {
  const { direct, writes } = scene();
  direct.create('node', node('m2', 3, { spec: { role: 'manager' }, role: 'manager' }));
  const outcomes = await Promise.allSettled(
    ['m1', 'm2'].map((id) => {
      const before = direct.store.get('node', id);
      assert(before !== undefined);
      return writes.updateNode(id, before.version, { ...before.spec, role: 'worker' });
    }),
  );
  const refused = outcomes.filter(({ status }) => status === 'rejected');
  assert.equal(refused.length, 1);
  assert.match(String((refused[0] as PromiseRejectedResult).reason), /last manager/);
});

test('a service changes neither its name nor its mode, and not from an old version', async () => {
  const { writes } = scene();
  const { object } = await writes.createService(serviceSpec('web'));
  const { id, version } = object;
  await assert.rejects(writes.updateService(id, version, serviceSpec('other')), /renamed/);
  const global = serviceSpec('web', { mode: { kind: 'global' } });
  await assert.rejects(writes.updateService(id, version, global), /mode of a service/);
  await assert.rejects(writes.updateService(id, version - 1, serviceSpec('web')), {
    code: 'out_of_sequence',
  });
  await assert.rejects(writes.updateService('no', 1, serviceSpec('web')), { code: 'not_found' });
});

test('what changed besides the specification does not speak against an update', async () => {
  const { direct, writes } = scene();
  const { object } = await writes.createService(serviceSpec('web'));
  const status = { state: 'completed', startedAtMs: 1, completedAtMs: 2, message: '' } as const;
  direct.change({ kind: 'update', table: 'service', object: { ...object, update: status } });
  const { id, version } = object;
  const labels = { a: 'b' };
  const updated = await writes.updateService(id, version, serviceSpec('web', { labels }));
  assert.deepEqual(updated.object.spec.labels, labels);
  await assert.rejects(writes.updateService(id, version, serviceSpec('web')), {
    code: 'out_of_sequence',
  });
});

test('the last manager is not demoted, nor one whose loss would leave no quorum', async () => {
  const { direct, writes } = scene();
  const m1 = direct.store.get('node', 'm1');
  assert(m1 !== undefined);
  const worker = { ...m1.spec, role: 'worker' as const };
  await assert.rejects(writes.updateNode('m1', m1.version, worker), /last manager/);
  const busy = scene('the managers left would have no quorum');
  busy.direct.create(
    'node',
    node('m2', 3, { spec: { role: 'manager' }, manager: { raftId: 2, address: 'm2:2377' } }),
  );
  const m2 = busy.direct.store.get('node', 'm2');
  assert(m2 !== undefined);
  const demoted = { ...m2.spec, role: 'worker' as const };
  await assert.rejects(busy.writes.updateNode('m2', m2.version, demoted), /no quorum/);
});

test('a status that comes while a demotion is checked does not speak against it', async () => {
  let touched = 0;
  const { direct, writes } = scene(() => {
    const now = direct.store.get('node', 'm2');
    assert(now !== undefined);
    touched += 1;
    if (touched === 1) direct.update('node', { ...now, stateMessage: 'renewed' });
    return '';
  });
  const manager = { raftId: 2, address: 'm2:2377' };
  direct.create('node', node('m2', 3, { spec: { role: 'manager' }, manager }));
  const m2 = direct.store.get('node', 'm2');
  assert(m2 !== undefined);
  const { object } = await writes.updateNode('m2', m2.version, { ...m2.spec, role: 'worker' });
  assert.deepEqual([object.spec.role, object.stateMessage, touched], ['worker', 'renewed', 2]);
});

test('a node takes a manager’s place in one write, where it can', async () => {
  const { direct, writes } = scene();
  const w1 = direct.store.get('node', 'w1');
  assert(w1 !== undefined);
  const wanted = { ...w1.spec, role: 'manager' as const };
  await assert.rejects(writes.updateNode('w1', w1.version, w1.spec, 'm1'), /replaces nobody/);
  direct.update('node', { ...w1, state: 'down' });
  const down = direct.store.get('node', 'w1')?.version ?? 0;
  await assert.rejects(writes.updateNode('w1', down, wanted, 'm1'), /is down/);
  direct.update('node', { ...w1, version: down, state: 'ready' });
  const ready = direct.store.get('node', 'w1')?.version ?? 0;
  await writes.updateNode('w1', ready, wanted, 'm1');
  const roles = ['m1', 'w1'].map((id) => direct.store.get('node', id)?.spec.role);
  assert.deepEqual(roles, ['worker', 'manager']);
  const versions = ['m1', 'w1'].map((id) => direct.store.get('node', id)?.version);
  assert.equal(versions[0], versions[1], 'one transaction');
});

test('a node is removed when down, or by force, and never while it is a manager', async () => {
  const { direct, writes } = scene();
  await assert.rejects(writes.removeNode('m1', true), /demote it first/);
  await assert.rejects(writes.removeNode('w1', false), /is not down/);
  await writes.removeNode('w1', true);
  assert.equal(direct.store.get('node', 'w1'), undefined);
  assert.equal(direct.store.cluster()?.removedNodes[0].id, 'w1');
  direct.create('node', node('w2', 2, { state: 'down' }));
  await writes.removeNode('w2', false);
});

test('rotating a token changes that secret and nothing else', async () => {
  const { direct, writes } = scene();
  const before = direct.store.cluster();
  assert(before !== undefined);
  const rotate = { workerToken: false, managerToken: true, signingCaKey: '', unlockKey: false };
  const { object } = await writes.updateCluster(before.version, before.spec, rotate);
  assert.equal(object.joinSecretWorker, 'w');
  assert.match(object.joinSecretManager, /^[0-9a-z]{25}$/);
});

test('a network in use stays, one with a taken or reserved name is not made', async () => {
  const { writes } = scene();
  const { object } = await writes.createService(
    on({ target: 'front', aliases: [], addresses: [] }),
  );
  await assert.rejects(writes.removeNetwork('front-id'), /in use by service web/);
  await assert.rejects(writes.createNetwork(network('front').spec), { code: 'conflict' });
  await assert.rejects(writes.createNetwork(network('host').spec), { code: 'conflict' });
  await writes.removeService(object.id);
  await writes.removeNetwork('front-id');
});

test('a network whose service is gone waits for the tasks that stop, and for no others', async () => {
  const { clock, direct, writes } = scene();
  const { object } = await writes.createService(
    on({ target: 'front-id', aliases: [], addresses: [] }),
  );
  const held = taskOf(object.id, 'front-id');
  direct.create('task', held);
  await assert.rejects(writes.removeNetwork('front-id'), /in use by service web/);
  await writes.removeService(object.id);
  let removed = false;
  const removal = writes.removeNetwork('front-id').then(() => {
    removed = true;
  });
  await clock.advance(1000);
  assert.equal(removed, false);
  const stored = direct.store.get('task', held.id);
  assert(stored !== undefined);
  const status = { ...stored.status, state: TaskState.SHUTDOWN };
  direct.update('task', { ...stored, status });
  await clock.advance(1000);
  await removal;
  assert.equal(direct.store.get('network', 'front-id'), undefined);
});

function taskOf(serviceId: string, networkId: string): Task {
  return {
    ...base('t1'),
    serviceId,
    serviceName: 'web',
    slot: 1,
    generation: 1,
    nodeId: 'w1',
    spec: taskSpec(),
    serviceLabels: {},
    specVersion: 1,
    desiredState: TaskState.RUNNING,
    status: {
      state: TaskState.RUNNING,
      atMs: 0,
      message: '',
      error: '',
      containerId: '',
      pid: 0,
      exitCode: 0,
      oomKilled: false,
      gatewayAddress: '',
      phases: {},
    },
    networks: [{ networkId, address: '', aliases: [] }],
    ports: [],
    notBeforeMs: 0,
    movedFrom: '',
    jobIteration: undefined,
    genericResources: [],
  };
}

function publishing(name: string, publishedPort: number, publishMode: 'ingress' | 'host') {
  const common = { name: '', protocol: 'tcp', targetPort: 80, hostAddress: '' } as const;
  return serviceSpec(name, { ports: [{ ...common, publishedPort, publishMode }] });
}

test('a port that a service has is told with its name when another asks for it', async () => {
  const { writes } = scene();
  const { object } = await writes.createService(publishing('web', 8080, 'ingress'));
  const said = /port 8080\/tcp is already published by service "web"/;
  await assert.rejects(writes.createService(publishing('api', 8080, 'ingress')), said);
  await assert.rejects(writes.createService(publishing('api', 8080, 'host')), said);
  await writes.updateService(object.id, object.version, publishing('web', 8080, 'ingress'));
  await writes.createService(publishing('one', 9090, 'host'));
  await writes.createService(publishing('two', 9090, 'host'));
  await assert.rejects(writes.createService(publishing('three', 9090, 'ingress')), /by service "/);
});

test('an address of a slot is the network’s, nobody’s else, and not with start-first', async () => {
  const { direct, writes } = scene();
  direct.create('network', {
    ...network('back'),
    vni: 4097,
    subnet: '10.7.0.0/24',
    gateway: '10.7.0.1',
  });
  const asking = (name: string, address: string): ServiceSpec => {
    const spec = serviceSpec(name);
    const networks = [{ target: 'back', aliases: [], addresses: [address] }];
    return { ...spec, task: { ...spec.task, networks } };
  };
  for (const address of ['10.8.0.5', '10.7.0.0', '10.7.0.1', '10.7.0.255']) {
    await assert.rejects(writes.createService(asking('web', address)), /not one that tasks can/);
  }
  await writes.createService(asking('web', '10.7.0.5'));
  const said = /address 10.7.0.5 of network back belongs to service "web"/;
  await assert.rejects(writes.createService(asking('api', '10.7.0.5')), said);
  const spec = asking('api', '10.7.0.6');
  const update = { ...spec.update, order: 'start-first' as const };
  await assert.rejects(writes.createService({ ...spec, update }), /need the order stop-first/);
  const mode = { kind: 'global' } as const;
  await assert.rejects(writes.createService({ ...spec, mode }), /has no slots/);
});

test('a job runs again when its tasks are asked for anew, and only then', async () => {
  const { writes } = scene();
  const mode = { kind: 'replicated-job', maxConcurrent: 1, totalCompletions: 2 } as const;
  const spec = serviceSpec('job', { mode });
  const { object } = await writes.createService(spec);
  assert.equal(object.job?.iteration, 0);
  const labelled = await writes.updateService(object.id, object.version, {
    ...spec,
    labels: { a: 'b' },
  });
  assert.equal(labelled.object.job?.iteration, 0);
  const task = { ...spec.task, forceUpdate: 1 };
  const forced = await writes.updateService(object.id, labelled.version, { ...spec, task });
  assert.equal(forced.object.job?.iteration, 1);
});
