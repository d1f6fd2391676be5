/**
 * Sessions, copies of an identity, statuses and the authorizer, over a bare store: no network.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SeededRandom } from '../../base/random.ts';
import { SLICE_MS } from '../../base/slices.ts';
import { authorize, authorizeAtWorker } from '../../manager/authorize.ts';
import { Dispatcher } from '../../manager/dispatcher/dispatcher.ts';
import { mergeStatus, StatusBatcher } from '../../manager/dispatcher/statuses.ts';
import { hostAddress } from '../../manager/hostAddress.ts';
import { TaskState } from '../../model/taskState.ts';
import type { NodeDescription, Task, TaskStatus } from '../../model/types.ts';
import { assignmentFromWire, descriptionToWire, sessionFromWire } from '../../proto/convert.ts';
import type { PeerIdentity } from '../../proto/credentials.ts';
import type { CallContext, MethodName } from '../../proto/rpc.ts';
import type { SessionRequest, WireAssignmentMessage } from '../../proto/services.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { base, cluster, node, service, taskSpec } from '../support/objects.ts';

const STATUS: TaskStatus = {
  state: TaskState.ASSIGNED,
  atMs: 1,
  message: '',
  error: '',
  containerId: '',
  pid: 0,
  exitCode: 0,
  oomKilled: false,
  gatewayAddress: '',
  phases: { [TaskState.ASSIGNED]: 1 },
};

function task(id: string, nodeId = 'h1'): Task {
  return {
    ...base(id),
    serviceId: 'web-id',
    serviceName: 'web',
    slot: Number(id.slice(1)),
    generation: 1,
    nodeId,
    spec: taskSpec(),
    serviceLabels: {},
    specVersion: 1,
    desiredState: TaskState.RUNNING,
    status: STATUS,
    networks: [],
    ports: [],
    notBeforeMs: 0,
    movedFrom: '',
    jobIteration: undefined,
    genericResources: [],
  };
}

function context(nodeId: string, remoteAddress = '10.0.0.1') {
  const abort = new AbortController();
  const peer = { nodeId } as PeerIdentity;
  const call: CallContext = { peer, signal: abort.signal, remoteAddress };
  return { abort, call };
}

/** On which a look at the time takes some, when it is told so. */
class SlowClock extends ManualClock {
  lookMs = 0;
  #lookedMs = 0;

  override nowMs(): number {
    this.#lookedMs += this.lookMs;
    return super.nowMs() + this.#lookedMs;
  }
}

function scene(clock = new ManualClock()) {
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster());
  direct.create('service', service('web'));
  direct.create('node', node('h1', 1, { state: 'unknown', description: { machineId: 'm1' } }));
  direct.create('task', task('t1'));
  const events: string[] = [];
  const dispatcher = new Dispatcher({
    clock,
    log: silentLog,
    ids: new Ids(new SeededRandom(1)),
    store: direct.store,
    proposer: direct,
    notLeader: () => new SwarmError('not_leader', 'elsewhere'),
    managers: () => [{ nodeId: 'h1', address: '10.0.0.1:2377', isLeader: true }],
    sessions: {
      opened: (nodeId) => events.push(`opened ${nodeId}`),
      heard: () => {},
      broken: (nodeId) => events.push(`broken ${nodeId}`),
      left: (nodeId) => events.push(`left ${nodeId}`),
    },
  });
  dispatcher.start();
  const handlers = dispatcher.handlers();
  const open = (machineId = 'm1', remoteAddress = '10.0.0.1', previousSessionId = '') => {
    const description: NodeDescription = { ...node('h1', 1).description, machineId };
    const { abort, call } = context('h1', remoteAddress);
    const messages: ReturnType<typeof sessionFromWire>[] = [];
    const request = {
      description: descriptionToWire(description),
      address: '',
      port: 2400,
      previousSessionId,
      issuer: '',
      trust: '',
    } as SessionRequest;
    const ended = handlers.session?.(
      request,
      async (message) => {
        messages.push(sessionFromWire(message as Parameters<typeof sessionFromWire>[0]));
      },
      call,
    );
    assert(ended !== undefined);
    const outcome = ended.then(
      () => undefined,
      (error: unknown) => error as SwarmError,
    );
    return { abort, call, messages, outcome };
  };
  const follow = (sessionId: string, call: CallContext) => {
    const received: ReturnType<typeof assignmentFromWire>[] = [];
    const ended = handlers.assignments?.(
      { sessionId } as Parameters<NonNullable<typeof handlers.assignments>>[0],
      async (message) => {
        received.push(assignmentFromWire(message as WireAssignmentMessage));
      },
      call,
    );
    return { received, outcome: ended?.catch((error: unknown) => error as SwarmError) };
  };
  return { clock, direct, dispatcher, handlers, events, open, follow };
}

test('a session makes its node ready, where it is and what it is', async () => {
  const { direct, open, events } = scene();
  const { messages } = open();
  await settle();
  const stored = direct.store.get('node', 'h1');
  assert.equal(stored?.state, 'ready');
  assert.equal(stored?.address, '10.0.0.1');
  assert.equal(stored?.port, 2400);
  assert.equal(messages.length, 1);
  assert.equal(messages[0].role, 'worker');
  assert.equal(messages[0].hostIndex, 1);
  const first = { nodeId: 'h1', address: '10.0.0.1:2377', isLeader: true };
  assert.deepEqual(messages[0].managers, [first]);
  assert.deepEqual(events, ['opened h1']);
});

test('the dispatcher’s heartbeat counts where it is longer than Docker’s default', async () => {
  const { direct, handlers, open } = scene();
  const { call, messages } = open();
  await settle();
  const { sessionId, heartbeatMs } = messages[0];
  assert.equal(heartbeatMs, 500);
  const asked = async (periodMs: number): Promise<number> => {
    const now = direct.store.cluster();
    assert(now !== undefined);
    direct.update('cluster', { ...now, spec: { ...now.spec, heartbeatPeriodMs: periodMs } });
    const request = { sessionId } as Parameters<NonNullable<typeof handlers.heartbeat>>[0];
    return Number((await handlers.heartbeat?.(request, call))?.periodMs);
  };
  assert.deepEqual(
    [await asked(1000), await asked(5000), await asked(7000), await asked(60_000)],
    [500, 500, 700, 6000],
  );
});

test('a node told to become a manager hears it over its session', async () => {
  const { direct, open } = scene();
  const { messages } = open();
  await settle();
  const stored = direct.store.get('node', 'h1');
  assert(stored !== undefined);
  direct.update('node', { ...stored, spec: { ...stored.spec, role: 'manager' } });
  await settle();
  assert.deepEqual(
    messages.map(({ role }) => role),
    ['worker', 'manager'],
  );
});

test('assignments come complete first, then as changes that build on each other', async () => {
  const { clock, direct, open, follow } = scene();
  const { messages, call } = open();
  await settle();
  const { received } = follow(messages[0].sessionId, call);
  await settle();
  assert.deepEqual(
    received.map(({ type, appliesTo, resultsIn }) => [type, appliesTo, resultsIn]),
    [['complete', 0, 1]],
  );
  direct.create('task', task('t2'));
  direct.create('task', task('t3'));
  await clock.advance(5);
  assert.equal(received.length, 2, 'one message for changes of one moment');
  assert.deepEqual([received[1].appliesTo, received[1].resultsIn], [1, 2]);
  assert.equal(received[1].update.length, 2);
  direct.remove('task', 't2');
  await clock.advance(5);
  assert.deepEqual(received[2].remove, ['task/t2']);
});

test('while a leader makes its first picture nobody is told that there is nothing', async () => {
  const clock = new SlowClock();
  const { open, follow } = scene(clock);
  const { messages, call } = open();
  await settle();
  clock.lookMs = 2 * SLICE_MS;
  const { received } = follow(messages[0].sessionId, call);
  await settle();
  assert.equal(received.length, 0);
  clock.lookMs = 0;
  await clock.advance(1000);
  assert.deepEqual(
    received.map(({ type, update }) => [type, update.map(({ kind }) => kind)]),
    [['complete', ['ingress', 'task']]],
  );
});

test('a second host with the same identity is turned away, by machine and by address', async () => {
  const { open, clock } = scene();
  const first = open();
  await settle();
  assert.match(String(await open('another').outcome), /copied from another machine/);
  assert.match(String(await open('m1', '10.0.0.66').outcome), /10\.0\.0\.66 is a copy/);
  const moved = open('m1', '10.0.0.7', first.messages[0].sessionId);
  await settle();
  assert.equal(moved.messages.length, 1, 'the same host may come from another address');
  await clock.advance(2000);
  const later = open('m1', '10.0.0.8');
  await settle();
  assert.equal(later.messages.length, 1, 'once the other is silent');
});

test('a newer session of a node ends the older; only the end of the last one counts', async () => {
  const { open, events } = scene();
  const first = open();
  await settle();
  const second = open();
  assert.equal((await first.outcome)?.code, 'cancelled');
  await settle();
  assert.deepEqual(events, ['opened h1', 'opened h1']);
  second.abort.abort();
  await second.outcome;
  assert.deepEqual(events, ['opened h1', 'opened h1', 'broken h1']);
});

test('a removed node loses its session; a lost leader sends everyone away', async () => {
  const { direct, open, dispatcher } = scene();
  const first = open();
  await settle();
  direct.remove('node', 'h1');
  assert.equal((await first.outcome)?.code, 'forbidden');
  direct.create('node', node('h1', 1));
  const second = open('');
  await settle();
  dispatcher.stop();
  assert.equal((await second.outcome)?.code, 'not_leader');
  assert.equal((await open('').outcome)?.code, 'not_leader');
});

test('a status never goes back, keeps its phases, and is cut to a readable length', () => {
  const running = { ...STATUS, state: TaskState.RUNNING, phases: { 192: 1, 512: 9 } };
  const one = { ...task('t1'), status: running };
  assert.equal(mergeStatus(one, { ...STATUS, state: TaskState.STARTING }), undefined);
  assert.equal(mergeStatus(one, running), undefined);
  const failed = {
    ...STATUS,
    state: TaskState.FAILED,
    error: 'x'.repeat(5000),
    phases: { 704: 12 },
  };
  const liar = { ...failed, gatewayAddress: '10.254.1.2; flush ruleset' };
  assert.equal(mergeStatus(one, liar)?.gatewayAddress, '');
  const honest = { ...failed, gatewayAddress: '10.254.1.2' };
  assert.equal(mergeStatus(one, honest)?.gatewayAddress, '10.254.1.2');
  const merged = mergeStatus(one, failed);
  assert.deepEqual(merged?.phases, { 192: 1, 512: 9, 704: 12 });
  assert.equal(merged?.error.length, 1024);
});

test('statuses of one moment go in one proposal, the latest of each task', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster());
  direct.create('service', service('web'));
  for (const id of ['t1', 't2', 't3']) direct.create('task', task(id));
  const batcher = new StatusBatcher({ clock, view: direct.store, proposer: direct });
  const at = (state: TaskState): TaskStatus => ({ ...STATUS, state, phases: { [state]: state } });
  const done = Promise.all([
    batcher.submit('h1', [
      { taskId: 't1', status: at(TaskState.STARTING) },
      { taskId: 't2', status: at(TaskState.RUNNING) },
    ]),
    batcher.submit('h1', [{ taskId: 't1', status: at(TaskState.RUNNING) }]),
    batcher.submit('h2', [{ taskId: 't3', status: at(TaskState.RUNNING) }]),
  ]);
  await clock.advance(5);
  await done;
  assert.equal(direct.proposed.length, 1);
  assert.equal(direct.proposed[0].changes.length, 2);
  const stored = direct.store.get('task', 't1');
  assert.equal(stored?.status.state, TaskState.RUNNING);
  assert.deepEqual(Object.keys(stored?.status.phases ?? {}), ['192', '448', '512']);
  assert.equal(direct.store.get('task', 't3')?.status.state, TaskState.ASSIGNED, 'not its node');
});

test('a status that raced with another change of its task is written after all', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster());
  direct.create('service', service('web'));
  direct.create('task', task('t1'));
  const batcher = new StatusBatcher({ clock, view: direct.store, proposer: direct });
  direct.beforeApply = () => {
    direct.beforeApply = undefined;
    const now = direct.store.get('task', 't1');
    assert(now !== undefined);
    direct.update('task', { ...now, desiredState: TaskState.SHUTDOWN });
  };
  const status = { ...STATUS, state: TaskState.RUNNING };
  const done = batcher.submit('h1', [{ taskId: 't1', status }]);
  await clock.advance(20);
  await done;
  const stored = direct.store.get('task', 't1');
  assert.equal(stored?.status.state, TaskState.RUNNING);
  assert.equal(stored?.desiredState, TaskState.SHUTDOWN);
});

test('a status that raced does not lose to a lesser one that came meanwhile', async () => {
  const clock = new ManualClock();
  const direct = new DirectStore(clock);
  direct.create('cluster', cluster());
  direct.create('service', service('web'));
  direct.create('task', task('t1'));
  const batcher = new StatusBatcher({ clock, view: direct.store, proposer: direct });
  const at = (state: TaskState): TaskStatus => ({ ...STATUS, state, phases: { [state]: state } });
  let late: Promise<void> | undefined;
  direct.beforeApply = () => {
    direct.beforeApply = undefined;
    const now = direct.store.get('task', 't1');
    assert(now !== undefined);
    direct.update('task', { ...now, desiredState: TaskState.SHUTDOWN });
    late = batcher.submit('h1', [{ taskId: 't1', status: at(TaskState.STARTING) }]);
  };
  const done = batcher.submit('h1', [{ taskId: 't1', status: at(TaskState.RUNNING) }]);
  await clock.advance(20);
  await Promise.all([done, late]);
  assert.equal(direct.store.get('task', 't1')?.status.state, TaskState.RUNNING);
});

test('who may call what follows the table, on the store of the moment', () => {
  const direct = new DirectStore(new ManualClock());
  direct.create('cluster', cluster());
  direct.create('node', node('w', 1));
  direct.create('node', node('m', 2, { spec: { role: 'manager' } }));
  const lagging = new SwarmError('not_leader', 'lagging');
  const may = (
    who: [string, 'worker' | 'manager'] | undefined,
    service: string,
    method: string,
    behind?: SwarmError,
  ): string => {
    const peer: PeerIdentity | undefined =
      who === undefined
        ? undefined
        : { nodeId: who[0], role: who[1], clusterId: 'cluster', serial: '', expiresAtMs: 0 };
    const name: MethodName = { service: `tsswarm.v1.${service}`, method };
    try {
      authorize(direct.store, behind, peer, name, '');
      return 'yes';
    } catch (error) {
      return error instanceof SwarmError ? error.code : String(error);
    }
  };
  assert.equal(may(undefined, 'CertificateAuthority', 'IssueCertificate'), 'yes');
  for (const service of ['Dispatcher', 'Host', 'Control', 'Raft']) {
    assert.equal(may(undefined, service, 'X'), 'unauthorized');
    assert.equal(may(['gone', 'worker'], service, 'X'), 'forbidden');
  }
  assert.equal(may(['w', 'worker'], 'Dispatcher', 'Session'), 'yes');
  assert.equal(may(['w', 'worker'], 'Host', 'Ping'), 'yes');
  assert.equal(may(['w', 'worker'], 'Host', 'TaskLogs'), 'forbidden');
  assert.equal(may(['w', 'worker'], 'Control', 'CreateService'), 'forbidden');
  assert.equal(may(['w', 'manager'], 'Control', 'CreateService'), 'forbidden', 'demoted');
  assert.equal(may(['w', 'manager'], 'Raft', 'Messages'), 'forbidden', 'demoted');
  assert.equal(may(['m', 'manager'], 'Control', 'CreateService'), 'yes');
  assert.equal(may(['m', 'worker'], 'Control', 'CreateService'), 'forbidden', 'not yet renewed');
  assert.equal(may(['m', 'manager'], 'Raft', 'Messages'), 'yes');
  assert.equal(may(['new', 'manager'], 'Raft', 'Messages', lagging), 'yes', 'we lag behind it');
  assert.equal(may(['new', 'manager'], 'Raft', 'Messages'), 'forbidden', 'a leader knows all');
  const now = direct.store.cluster();
  assert.ok(now !== undefined);
  direct.update('cluster', { ...now, removedNodes: [{ id: 'old', untilMs: 1 }] });
  assert.equal(may(['old', 'manager'], 'Raft', 'Messages', lagging), 'forbidden', 'removed');
  assert.equal(may(['new', 'worker'], 'Dispatcher', 'Session', lagging), 'not_leader');
  assert.equal(may(['new', 'worker'], 'Host', 'Ping', lagging), 'yes');
  assert.equal(may(['w', 'worker'], 'Unknown', 'X'), 'forbidden');
});

test('a worker lets in the managers that its session names, and all for a ping', () => {
  const peer = (nodeId: string, role: 'worker' | 'manager'): PeerIdentity => ({
    nodeId,
    role,
    clusterId: 'cluster',
    serial: '',
    expiresAtMs: 0,
  });
  const may = (from: PeerIdentity, method: string, managers?: string[]): string => {
    try {
      const known = managers === undefined ? undefined : new Set(managers);
      authorizeAtWorker(known, from, { service: 'tsswarm.v1.Host', method });
      return 'yes';
    } catch (error) {
      return error instanceof SwarmError ? error.code : String(error);
    }
  };
  const [manager, former, worker] = [
    peer('m', 'manager'),
    peer('old', 'manager'),
    peer('w', 'worker'),
  ];
  for (const method of ['ProbeOther', 'TaskLogs', 'Api']) {
    assert.equal(may(manager, method, ['m']), 'yes');
    assert.equal(may(former, method, ['m']), 'forbidden', 'removed or demoted');
    assert.equal(may(worker, method, ['m', 'w']), 'forbidden');
  }
  assert.equal(may(former, 'Ping', ['m']), 'yes');
  assert.equal(may(manager, 'ProbeOther'), 'yes', 'before the first session');
  assert.equal(may(manager, 'Api'), 'unavailable');
});

test('a host that says it has left ends its session and is told of at once', async () => {
  const { events, handlers, open } = scene();
  const { call, outcome } = open();
  await settle();
  await handlers.leave?.({} as Parameters<NonNullable<typeof handlers.leave>>[0], call);
  assert.match((await outcome)?.message ?? '', /the node has left/);
  assert.deepEqual(events.slice(0, 2), ['opened h1', 'left h1']);
});

test('a host is reached at an address, or at where it calls from', () => {
  assert.equal(hostAddress('', '10.0.0.1'), '10.0.0.1');
  assert.equal(hostAddress('10.0.0.9', '10.0.0.1'), '10.0.0.9');
  for (const claimed of ['h1', '10.0.0.9; x', '10.0.0', '::1', '10.0.0.9\n']) {
    assert.throws(() => hostAddress(claimed, '10.0.0.1'), { code: 'invalid' }, claimed);
  }
});
