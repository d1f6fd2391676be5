/** A whole agent over a fake runtime and scripted managers: what it runs, reports and forgets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Agent } from '../../agent/agent.ts';
import { ALONE_AFTER_MS } from '../../agent/step.ts';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import { DEFAULT_MOUNT } from '../../model/defaults.ts';
import { TaskState } from '../../model/taskState.ts';
import {
  change,
  complete,
  MemoryJournal,
  makeTask,
  overlay,
  taskItem,
} from '../support/agentParts.ts';
import { type FakeRuntime, fakeRuntime } from '../support/fakeRuntime.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { scriptedManagers } from '../support/scriptedManager.ts';

const DESCRIPTION = {
  hostname: 'h1',
  os: 'linux',
  architecture: 'x86_64',
  kernel: '6',
  nanoCpus: 2e9,
  memoryBytes: 1e9,
  engineVersion: '1',
  engineLabels: {},
  machineId: '',
  genericResources: [],
};

function world() {
  const clock = new ManualClock();
  const runtime = fakeRuntime();
  const journal = new MemoryJournal();
  const { managers, dial } = scriptedManagers('m:1');
  const random = new SeededRandom(3);
  const ids = new Ids(random);
  const makeAgent = (): Agent =>
    new Agent({
      clock,
      random,
      ids,
      log: silentLog,
      nodeId: 'node1',
      address: '10.99.0.11',
      port: 2377,
      describe: () => DESCRIPTION,
      tls: () => ({ issuer: '', trust: '' }),
      runtime,
      journal,
      dial,
    });
  return { clock, runtime, journal, manager: managers[0], makeAgent };
}

async function started() {
  const parts = world();
  const agent = parts.makeAgent();
  await agent.start(['m:1']);
  await settle();
  return { ...parts, agent };
}

function stateOf(agent: Agent, taskId: string): number | undefined {
  return agent.statuses().find((one) => one.taskId === taskId)?.status.state;
}

test('an assigned task runs as a container made from image and spec, and is reported', async () => {
  const { agent, manager, runtime } = await started();
  const container = { env: ['TASK_NAME={{.Task.Name}}', 'NODE={{.Node.Hostname}}'] };
  manager.assign(complete(1, [taskItem(makeTask('t1', { container }))]));
  await settle();
  const made = runtime.containers.of('t1');
  assert.equal(made.state, 'running');
  assert.deepEqual(made.config.args, ['/bin/serve']);
  assert.deepEqual(made.config.env, ['PATH=/bin', 'MODE=image', 'TASK_NAME=web.1.t1', 'NODE=h1']);
  assert.equal(made.config.networkNamespace, 'new');
  const reported = manager.reported.get('t1');
  assert.equal(reported?.state, TaskState.RUNNING);
  assert.equal(reported?.containerId, made.config.id);
  assert.equal(reported?.pid, made.pid);
  assert.equal(manager.calls, 1, 'passing states are not reported by themselves');
  await agent.stop();
  assert.equal(made.state, 'running', 'a container outlives its agent');
});

test('a missing image rejects the task with the reason, a pulled one runs', async () => {
  const { agent, manager } = await started();
  const missing = makeTask('t1', { container: { image: 'nope:1' } });
  const pulled = makeTask('t2', { container: { image: 'registry/web' } });
  manager.assign(complete(1, [taskItem(missing), taskItem(pulled)]));
  await settle();
  const rejected = manager.reported.get('t1');
  assert.equal(rejected?.state, TaskState.REJECTED);
  assert.equal(rejected?.error, 'No such image: nope:1 (registry docker.io cannot be reached)');
  assert.equal(manager.reported.get('t2')?.state, TaskState.RUNNING);
  await agent.stop();
});

test('an unknown template and a missing bind source reject with one clear line', async () => {
  const { agent, manager } = await started();
  const template = makeTask('t1', { container: { env: ['A={{.Nope}}'] } });
  const mount = {
    ...DEFAULT_MOUNT,
    type: 'bind',
    source: '/no/such/place',
    target: '/x',
  } as const;
  const bind = makeTask('t2', { container: { mounts: [mount] } });
  manager.assign(complete(1, [taskItem(template), taskItem(bind)]));
  const isTold = (id: string): boolean => (manager.reported.get(id)?.error ?? '') !== '';
  for (let turn = 0; turn < 50 && !(isTold('t1') && isTold('t2')); turn += 1) await settle();
  assert.match(manager.reported.get('t1')?.error ?? '', /unknown template "\{\{\.Nope\}\}"/);
  assert.match(manager.reported.get('t2')?.error ?? '', /does not exist: \/no\/such\/place/);
  await agent.stop();
});

test('networks come before the tasks on them and leave after their last container', async () => {
  const { agent, clock, manager, runtime } = await started();
  const { network } = runtime;
  network.failOverlay = 1;
  const task = makeTask('t1', {
    spec: { networks: [{ target: 'n1', aliases: [], addresses: [] }] },
    task: { networks: [{ networkId: 'n1', address: '10.0.1.5/24', aliases: ['web'] }] },
  });
  manager.assign(complete(1, [taskItem(task), { kind: 'network', network: overlay('n1') }]));
  await settle();
  assert.equal(stateOf(agent, 't1'), TaskState.PREPARING, 'waits for the network');
  await clock.advance(1000);
  assert.equal(manager.reported.get('t1')?.state, TaskState.RUNNING);
  assert.equal(manager.reported.get('t1')?.gatewayAddress, '172.20.0.2');
  const request = [...network.attached.values()][0];
  assert.equal(request.gateway, true);
  assert.equal(request.defaultBridge, false);
  assert.deepEqual(request.overlays, [
    { networkId: 'n1', endpointId: 't1', address: '10.0.1.5', aliases: ['web'] },
  ]);
  manager.assign(change(2, [], ['network/n1', 'task/t1']));
  await settle();
  const id = request.containerId;
  assert.equal(network.overlays.has('n1'), true, 'a replacement may follow at once');
  await clock.advance(3000);
  assert.deepEqual(network.calls, [
    'self',
    'overlay n1',
    `attach ${id}`,
    `detach ${id}`,
    'remove n1',
  ]);
  await agent.stop();
});

test('an overlay that leaves goes at once when its identifier is taken over', async () => {
  const { agent, manager, runtime } = await started();
  manager.assign(complete(1, [{ kind: 'network', network: overlay('n1') }]));
  await settle();
  manager.assign(change(2, [], ['network/n1']));
  manager.assign(change(3, [{ kind: 'network', network: overlay('n2') }]));
  await settle();
  assert.deepEqual(runtime.network.calls, ['self', 'overlay n1', 'remove n1', 'overlay n2']);
  await agent.stop();
});

test('a task that its manager has given up does not run on', async () => {
  const { agent, manager, runtime } = await started();
  const task = makeTask('t1');
  manager.assign(complete(1, [taskItem(task)]));
  await settle();
  const status = { ...task.status, state: TaskState.ORPHANED };
  manager.assign(change(2, [taskItem({ ...task, status })]));
  await settle();
  assert.equal(runtime.containers.of('t1').state, 'exited');
  assert.equal(stateOf(agent, 't1'), TaskState.SHUTDOWN);
  await agent.stop();
});

test('a task on internal networks gets no gateway unless it publishes a port', async () => {
  const { agent, manager, runtime } = await started();
  const networks = {
    spec: { networks: [{ target: 'n1', aliases: [], addresses: [] }] },
    task: { networks: [{ networkId: 'n1', address: '10.0.1.5/24', aliases: [] }] },
  };
  const port = {
    name: '',
    protocol: 'tcp',
    targetPort: 80,
    publishedPort: 8080,
    publishMode: 'ingress',
    hostAddress: '',
  } as const;
  const shut = makeTask('t1', networks);
  const open = makeTask('t2', { ...networks, task: { ...networks.task, ports: [port] } });
  const network = overlay('n1', { internal: true });
  manager.assign(complete(1, [{ kind: 'network', network }, taskItem(shut), taskItem(open)]));
  await settle();
  const requests = [...runtime.network.attached.values()];
  const gateways = requests.map((one) => [one.overlays[0].endpointId, one.gateway]);
  assert.deepEqual(Object.fromEntries(gateways), { t1: false, t2: true });
  await agent.stop();
});

test('a network that never comes rejects its task with the reason', async () => {
  const { agent, clock, manager } = await started();
  const task = makeTask('t1', {
    spec: { networks: [{ target: 'n9', aliases: [], addresses: [] }] },
    task: { networks: [{ networkId: 'n9', address: '10.0.9.5/24', aliases: [] }] },
  });
  manager.assign(complete(1, [taskItem(task)]));
  await clock.advance(11_000);
  assert.equal(manager.reported.get('t1')?.state, TaskState.REJECTED);
  assert.equal(
    manager.reported.get('t1')?.error,
    'network n9 is not ready on this host: it was not assigned to this node',
  );
  await agent.stop();
});

test('a killed container is reported FAILED at once and its network given back', async () => {
  const { agent, manager, runtime } = await started();
  const bare = makeTask('t1', { spec: { networks: [] } });
  manager.assign(complete(1, [taskItem(bare)]));
  await settle();
  const container = runtime.containers.of('t1');
  container.end({ exitCode: 137, signal: 9 });
  await settle();
  assert.equal(manager.reported.get('t1')?.error, 'task: non-zero exit (137)');
  assert.equal(manager.reported.get('t1')?.state, TaskState.FAILED);
  assert.equal(runtime.network.attached.size, 0);
  assert.equal(runtime.containers.list().length, 1, 'the container stays, for its logs');
  manager.assign(change(2, [], ['task/t1']));
  await settle();
  assert.equal(runtime.containers.list().length, 0);
  assert.equal(runtime.images.held.size, 0);
  assert.deepEqual(agent.statuses(), []);
  await agent.stop();
});

test('a task told to stop gets its grace and ends as SHUTDOWN', async () => {
  const { agent, manager, runtime } = await started();
  const task = makeTask('t1', { container: { stopGraceMs: 1234 } });
  manager.assign(complete(1, [taskItem(task)]));
  await settle();
  manager.assign(change(2, [taskItem({ ...task, desiredState: TaskState.SHUTDOWN })]));
  await settle();
  assert.deepEqual(runtime.containers.of('t1').signals, ['stop 1234']);
  assert.equal(manager.reported.get('t1')?.state, TaskState.SHUTDOWN);
  assert.equal(manager.reported.get('t1')?.exitCode, 143);
  await agent.stop();
});

test('a task told to stop while its image is pulled ends without ever running', async () => {
  const { agent, manager, runtime } = await started();
  runtime.images.pull = () => new Promise(() => {});
  const task = makeTask('t1', { container: { image: 'slow' } });
  manager.assign(complete(1, [taskItem(task)]));
  await settle();
  manager.assign(change(2, [taskItem({ ...task, desiredState: TaskState.SHUTDOWN })]));
  await settle();
  assert.equal(manager.reported.get('t1')?.state, TaskState.SHUTDOWN);
  assert.equal(runtime.containers.list().length, 0);
  await agent.stop();
});

test('a complete assignment removes what it does not name, left over containers too', async () => {
  const { agent, manager, runtime } = await started();
  manager.assign(complete(1, [taskItem(makeTask('t1')), taskItem(makeTask('t2'))]));
  await settle();
  const stray = runtime.containers.of('t2').config;
  await runtime.containers.create({
    ...stray,
    id: 'f'.repeat(64),
    labels: { 'com.docker.swarm.task.id': 'gone' },
  });
  await agent.stop();
  const again = await startedOn({ manager, runtime });
  manager.assign(complete(5, [taskItem(makeTask('t2'))]));
  await settle();
  const left = runtime.containers.list().map((one) => one.config.labels[TASK_LABEL]);
  assert.deepEqual(left, ['t2']);
  assert.equal(runtime.containers.of('t2').state, 'running');
  await again.stop();
});

test('after a restart of the daemon its containers are managed again, as they run', async () => {
  const parts = await started();
  const { manager, runtime } = parts;
  manager.assign(complete(1, [taskItem(makeTask('t1')), taskItem(makeTask('t2'))]));
  await settle();
  await parts.agent.stop();
  const before = runtime.containers.list().map((one) => one.config.id);
  runtime.containers.of('t2').end({ exitCode: 3 });
  const again = parts.makeAgent();
  await again.start([]);
  await settle();
  assert.deepEqual(
    runtime.containers.list().map((one) => one.config.id),
    before,
  );
  assert.equal(stateOf(again, 't1'), TaskState.RUNNING);
  assert.equal(manager.reported.get('t2')?.error, 'task: non-zero exit (3)');
  runtime.containers.of('t1').end({ exitCode: 0 });
  await settle();
  assert.equal(manager.reported.get('t1')?.state, TaskState.COMPLETE);
  assert.equal(manager.sessions.length, 2, 'it found the manager in its journal');
  await again.stop();
});

test('a daemon that died while a task was made goes on with the container it finds', async () => {
  const parts = await started();
  const { manager, runtime, journal } = parts;
  manager.assign(complete(1, [taskItem(makeTask('t1'))]));
  await settle();
  await parts.agent.stop();
  journal.kept.clear();
  const again = parts.makeAgent();
  await again.start([]);
  await settle();
  assert.equal(runtime.containers.list().length, 1);
  assert.equal(manager.reported.get('t1')?.state, TaskState.RUNNING);
  await again.stop();
});

test('a container that was only made before a reboot is made anew with its network', async () => {
  const parts = await started();
  const { clock, manager, runtime, journal } = parts;
  const bare = makeTask('t1', {
    spec: { networks: [] },
    task: { desiredState: TaskState.READY },
  });
  manager.assign(complete(1, [taskItem(bare)]));
  await settle();
  const before = runtime.containers.of('t1').config.id;
  await parts.agent.stop();
  runtime.network.attached.clear();
  runtime.network.attached.set('left over', [...runtime.network.attached.values()][0]);
  journal.kept.clear();
  const again = parts.makeAgent();
  await again.start([]);
  await clock.advance(100);
  assert.equal(stateOf(again, 't1'), TaskState.READY);
  assert.notEqual(runtime.containers.of('t1').config.id, before);
  assert.deepEqual([...runtime.network.attached.keys()], [runtime.containers.of('t1').config.id]);
  await again.stop();
});

test('containers that died with the host are FAILED when a manager is there', async () => {
  const parts = await started();
  const { manager, runtime } = parts;
  manager.assign(complete(1, [taskItem(makeTask('t1'))]));
  await settle();
  await parts.agent.stop();
  runtime.containers.all.clear();
  const again = parts.makeAgent();
  await again.start([]);
  await settle();
  assert.equal(manager.reported.get('t1')?.state, TaskState.FAILED);
  assert.equal(manager.reported.get('t1')?.error, 'its container is gone from this host');
  await again.stop();
});

test('without a manager a rebooted host starts again what its journal holds', async () => {
  const parts = await started();
  const { clock, manager, runtime } = parts;
  const task = makeTask('t1', {
    spec: { networks: [{ target: 'n1', aliases: [], addresses: [] }] },
    task: { networks: [{ networkId: 'n1', address: '10.0.1.5/24', aliases: [] }] },
  });
  manager.assign(complete(1, [{ kind: 'network', network: overlay('n1') }, taskItem(task)]));
  await settle();
  await parts.agent.stop();
  runtime.containers.all.clear();
  runtime.network.overlays.clear();
  runtime.network.attached.clear();
  manager.behaviour = 'silent';
  const again = parts.makeAgent();
  await again.start([]);
  await clock.advance(ALONE_AFTER_MS - 100);
  assert.equal(runtime.containers.list().length, 0);
  await clock.advance(200);
  assert.equal(runtime.containers.of('t1').state, 'running');
  assert.equal(runtime.network.overlays.has('n1'), true, 'its networks are made again');
  manager.behaviour = 'leads';
  await clock.advance(10_000);
  const reported = manager.reported.get('t1');
  assert.equal(reported?.state, TaskState.RUNNING);
  assert.equal(reported?.containerId, runtime.containers.of('t1').config.id);
  await again.stop();
});

test('a status the manager does not know is told again with the next assignment', async () => {
  const { agent, manager } = await started();
  const task = makeTask('t1');
  manager.assign(complete(1, [taskItem(task)]));
  await settle();
  manager.reported.clear();
  manager.assign(complete(2, [taskItem(task)]));
  await settle();
  assert.equal(manager.reported.get('t1')?.state, TaskState.RUNNING);
  await agent.stop();
});

test('a container that cannot be removed is tried again until it is gone', async () => {
  const { agent, clock, manager, runtime, journal } = await started();
  manager.assign(complete(1, [taskItem(makeTask('t1'))]));
  await settle();
  let failures = 2;
  runtime.containers.gates.set('remove', async () => {
    failures -= 1;
    if (failures >= 0) throw new SwarmError('internal', 'device is busy');
  });
  manager.assign(change(2, [], ['task/t1']));
  await clock.advance(100);
  assert.equal(runtime.containers.list().length, 1);
  assert.equal(journal.items.has('task/t1'), true, 'not forgotten while it is there');
  await clock.advance(5000);
  assert.equal(runtime.containers.list().length, 0);
  assert.equal(journal.items.has('task/t1'), false);
  await agent.stop();
});

test('the daemon hears of role, managers and the loss of its session', async () => {
  const { agent, clock, manager } = await started();
  const heard: string[] = [];
  agent.onSession((message) => heard.push(message === undefined ? 'lost' : message.role));
  manager.session.messages.push({ ...manager.message('x'), role: 'manager' });
  await settle();
  manager.session.messages.end();
  await clock.advance(300);
  assert.deepEqual(heard, ['manager', 'lost', 'worker']);
  assert.equal(agent.session?.heartbeatMs, 500);
  await agent.stop();
});

const TASK_LABEL = 'com.docker.swarm.task.id';

/** A second agent on the same host, with an empty journal. */
async function startedOn(parts: {
  manager: ReturnType<typeof scriptedManagers>['managers'][0];
  runtime: FakeRuntime;
}): Promise<Agent> {
  const random = new SeededRandom(4);
  const agent = new Agent({
    clock: new ManualClock(),
    random,
    ids: new Ids(random),
    log: silentLog,
    nodeId: 'node1',
    address: '10.99.0.11',
    port: 2377,
    describe: () => DESCRIPTION,
    tls: () => ({ issuer: '', trust: '' }),
    runtime: parts.runtime,
    journal: new MemoryJournal(),
    dial: () => parts.manager.link(),
  });
  await agent.start(['m:1']);
  await settle();
  return agent;
}
