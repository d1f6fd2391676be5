/**
 * What a node must hold, from a view, and the difference to what it holds: pure.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { atOnce } from '../../base/slices.ts';
import { type AssignmentSet, difference } from '../../manager/dispatcher/assignments.ts';
import { NOTHING } from '../../manager/dispatcher/session.ts';
import { SharedAssignments } from '../../manager/dispatcher/shared.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { DirectStore } from '../support/directStore.ts';
import { ManualClock } from '../support/manualClock.ts';
import { base, cluster, network, node, service, taskSpec } from '../support/objects.ts';

interface TaskParts {
  readonly slot?: number;
  readonly node?: string;
  readonly state?: TaskState;
  readonly desired?: TaskState;
  readonly gateway?: string;
}

/** A cluster of three nodes with service web on network front, published on 8080. */
class Scene {
  readonly direct = new DirectStore(new ManualClock());
  readonly shared = new SharedAssignments();
  readonly #watch = this.direct.store.watch();

  constructor(mode: 'vip' | 'dnsrr' = 'vip') {
    this.direct.create('cluster', cluster());
    for (const at of [1, 2, 3]) this.direct.create('node', node(`h${at}`, at));
    const front = network('front');
    const allocated = { vni: 4097, subnet: '10.0.1.0/24', gateway: '10.0.1.1' };
    this.direct.create('network', { ...front, ...allocated });
    const task = { networks: [{ target: front.id, aliases: ['Site'], addresses: [] }] };
    const ports = [
      {
        name: '',
        protocol: 'tcp' as const,
        targetPort: 80,
        publishedPort: 8080,
        publishMode: 'ingress' as const,
        hostAddress: '',
      },
    ];
    const web = service('web', { task, endpointMode: mode, ports: mode === 'vip' ? ports : [] });
    this.direct.create('service', {
      ...web,
      ports: web.spec.ports,
      virtualAddresses: mode === 'vip' ? [{ networkId: front.id, address: '10.0.1.2/24' }] : [],
    });
  }

  task(id: string, parts: TaskParts = {}): Task {
    const number = Number(id.slice(1));
    const object: Task = {
      ...base(id),
      serviceId: 'web-id',
      serviceName: 'web',
      slot: parts.slot ?? number,
      generation: 1,
      nodeId: parts.node ?? 'h1',
      spec: taskSpec(),
      serviceLabels: {},
      specVersion: 1,
      desiredState: parts.desired ?? TaskState.RUNNING,
      status: {
        state: parts.state ?? TaskState.RUNNING,
        atMs: 0,
        message: '',
        error: '',
        containerId: '',
        pid: 0,
        exitCode: 0,
        oomKilled: false,
        gatewayAddress: parts.gateway ?? '',
        phases: {},
      },
      networks: [{ networkId: 'front-id', address: `10.0.1.${10 + number}/24`, aliases: [] }],
      ports: [],
      notBeforeMs: 0,
      movedFrom: '',
      jobIteration: undefined,
      genericResources: [],
    };
    this.direct.create('task', object);
    return object;
  }

  /** From the changes since the last time; the same as from everything. */
  items(nodeId: string): AssignmentSet {
    const { store } = this.direct;
    for (const event of this.#watch.take(Number.MAX_SAFE_INTEGER)) this.shared.note(store, event);
    atOnce(this.shared.refresh(store));
    const items = this.shared.itemsOf(store, nodeId);
    const anew = new SharedAssignments();
    atOnce(anew.refresh(store));
    assert.deepEqual(items, anew.itemsOf(store, nodeId));
    return items;
  }

  front(nodeId: string) {
    const item = this.items(nodeId).get('network/front-id');
    assert(item?.kind === 'network', `${nodeId} has no network front`);
    return item.network;
  }

  ingress(nodeId: string) {
    const item = this.items(nodeId).get('ingress');
    assert(item?.kind === 'ingress');
    return item.ingress;
  }

  change(id: string, fields: Partial<Task>): void {
    const task = this.direct.store.get('task', id);
    assert(task !== undefined);
    this.direct.update('task', { ...task, ...fields });
  }
}

function namesOf(scene: Scene, nodeId: string): Record<string, readonly string[]> {
  const { names } = scene.front(nodeId);
  return Object.fromEntries(names.map(({ name, addresses }) => [name, addresses]));
}

test('a task goes to its node once it is assigned, and stays there until it is removed', () => {
  const scene = new Scene();
  scene.task('t1', { state: TaskState.PENDING });
  assert(!scene.items('h1').has('task/t1'));
  scene.task('t2', { state: TaskState.ASSIGNED });
  assert(scene.items('h1').has('task/t2'));
  assert(!scene.items('h2').has('task/t2'));
  const task = scene.direct.store.get('task', 't2');
  assert(task !== undefined);
  scene.change('t2', { status: { ...task.status, state: TaskState.FAILED } });
  assert(scene.items('h1').has('task/t2'), 'its logs are still wanted');
  scene.direct.remove('task', 't2');
  assert(!scene.items('h1').has('task/t2'));
});

test('a network goes to nodes with a living task on it, ingress to every node', () => {
  const scene = new Scene();
  scene.task('t1', { node: 'h1' });
  scene.task('t2', { node: 'h2', state: TaskState.SHUTDOWN });
  assert(scene.items('h1').has('network/front-id'));
  assert(!scene.items('h2').has('network/front-id'));
  for (const id of ['h1', 'h2', 'h3']) assert(scene.items(id).has('ingress'));
});

test('endpoints are all tasks that have not ended; backends those that run and shall run', () => {
  const scene = new Scene();
  scene.task('t1', { node: 'h1' });
  scene.task('t2', { node: 'h2', state: TaskState.STARTING });
  scene.task('t3', { node: 'h2', desired: TaskState.SHUTDOWN });
  scene.task('t4', { node: 'h3', state: TaskState.FAILED });
  const front = scene.front('h1');
  assert.deepEqual(
    front.endpoints.map(({ id, address, hostIndex }) => [id, address, hostIndex]),
    [
      ['t1', '10.0.1.11', 1],
      ['t2', '10.0.1.12', 2],
      ['t3', '10.0.1.13', 2],
    ],
  );
  assert.deepEqual(front.services, [
    { serviceId: 'web-id', virtualAddress: '10.0.1.2', backends: ['10.0.1.11'] },
  ]);
  assert.deepEqual(front.peers, [
    { hostIndex: 1, address: '192.168.77.1' },
    { hostIndex: 2, address: '192.168.77.2' },
  ]);
});

test('a task told to stop leaves virtual address, names and ingress at once', () => {
  const scene = new Scene();
  scene.task('t1', { gateway: '172.18.0.2' });
  scene.task('t2', { node: 'h2', gateway: '172.18.0.2/16' });
  assert.equal(scene.ingress('h3').ports[0].backends.length, 2);
  scene.change('t2', { desiredState: TaskState.SHUTDOWN });
  assert.deepEqual(scene.front('h1').services[0].backends, ['10.0.1.11']);
  assert.deepEqual(namesOf(scene, 'h1')['tasks.web'], ['10.0.1.11']);
  assert.deepEqual(scene.ingress('h3').ports, [
    {
      protocol: 'tcp',
      publishedPort: 8080,
      hostAddress: '',
      serviceId: 'web-id',
      serviceName: 'web',
      backends: [{ gatewayAddress: '172.18.0.2', targetPort: 80, hostIndex: 1 }],
    },
  ]);
});

test('tasks of a node that is down serve no more, before anyone has replaced them', () => {
  const scene = new Scene();
  scene.task('t1', { node: 'h1', gateway: '172.18.0.2' });
  scene.task('t2', { node: 'h2', gateway: '172.18.0.3' });
  const h2 = scene.direct.store.get('node', 'h2');
  assert(h2 !== undefined);
  scene.direct.update('node', { ...h2, state: 'down' });
  assert.deepEqual(scene.front('h1').services[0].backends, ['10.0.1.11']);
  assert.equal(scene.ingress('h1').ports[0].backends.length, 1);
});

test('names: the service and its aliases, its tasks together and each, all in lower case', () => {
  const scene = new Scene();
  scene.task('t1');
  scene.task('t2', { node: 'h2' });
  assert.deepEqual(namesOf(scene, 'h1'), {
    site: ['10.0.1.2'],
    'tasks.site': ['10.0.1.11', '10.0.1.12'],
    'tasks.web': ['10.0.1.11', '10.0.1.12'],
    web: ['10.0.1.2'],
    'web.1.t1': ['10.0.1.11'],
    'web.2.t2': ['10.0.1.12'],
  });
});

test('without a virtual address a service is named by its tasks', () => {
  const scene = new Scene('dnsrr');
  scene.task('t1');
  scene.task('t2', { node: 'h2' });
  assert.deepEqual(scene.front('h1').services, []);
  assert.deepEqual(namesOf(scene, 'h1')['web'], ['10.0.1.11', '10.0.1.12']);
});

test('a node is not told what it reported itself, but told what it shall do', () => {
  const scene = new Scene();
  const task = scene.task('t1', { state: TaskState.ASSIGNED });
  const first = scene.items('h1');
  const start = difference(NOTHING, first);
  assert.deepEqual(
    start.update.map((item) => item.kind),
    ['network', 'ingress', 'task'],
  );
  scene.change('t1', { status: { ...task.status, state: TaskState.STARTING } });
  const second = scene.items('h1');
  assert.deepEqual(difference(first, second), { update: [], remove: [] });
  scene.change('t1', { desiredState: TaskState.SHUTDOWN });
  const third = scene.items('h1');
  const { update, remove } = difference(second, third);
  assert.deepEqual(remove, []);
  assert.equal(update.length, 1);
  assert.equal(update[0].kind === 'task' && update[0].task.desiredState, TaskState.SHUTDOWN);
});

test('the last task on a network takes it from the node again', () => {
  const scene = new Scene();
  scene.task('t1');
  const first = scene.items('h1');
  scene.direct.remove('task', 't1');
  const { remove } = difference(first, scene.items('h1'));
  assert.deepEqual([...remove].sort(), ['network/front-id', 'task/t1']);
});

test('parts that did not change keep their identity over refreshes', () => {
  const scene = new Scene();
  scene.task('t1');
  const before = scene.items('h1');
  const after = scene.items('h1');
  assert.equal(before.get('network/front-id'), after.get('network/front-id'));
  assert.equal(before.get('ingress'), after.get('ingress'));
});
