/**
 * Random histories of a cluster whose services are hard to please: restart limits, reservations,
 * places per node, addresses of their own, jobs, images that cannot be had, nodes that flap or are
 * removed, and users who update, roll back and rebalance meanwhile. In the end all of it comes to
 * rest as it was asked for, and nothing is left behind.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { isTerminal, isWantedState, TaskState } from '../../model/taskState.ts';
import type { Service, Task } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { network, node, type ServiceSpecFields } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

const NODES = 4;
const GIB = 2 ** 30;
const SERVICES = [
  'any',
  'once',
  'tries',
  'heavy',
  'single',
  'fixed',
  'ports',
  'each',
  'job',
  'all',
];

type Step = { readonly kind: string; readonly pick: number; readonly value: number };

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(
    ...['scale', 'image', 'force', 'constrain', 'rollback', 'end', 'sick', 'node', 'flap'],
    ...['rounds', 'advance', 'advance', 'elect', 'rebalance', 'removeNode', 'memory'],
  ),
  pick: fc.nat({ max: 1000 }),
  value: fc.nat({ max: 10_000 }),
});

const UPDATE = {
  parallelism: 1,
  delayMs: 500,
  failureAction: 'rollback',
  monitorMs: 2_000,
  maxFailureRatio: 0.4,
  order: 'stop-first',
  progressDeadlineMs: 20_000,
} as const;

function fieldsOf(name: string, order: 'stop-first' | 'start-first'): ServiceSpecFields {
  const update = { ...UPDATE, order };
  const rollback = { ...update, failureAction: 'pause' } as const;
  const restart = { condition: 'any', delayMs: 500, maxAttempts: 0, windowMs: 0 } as const;
  const networks = [{ target: 'net-id', aliases: [], addresses: [] }];
  const common = { update, rollback, task: { restart, networks } };
  const { task } = common;
  const big = { nanoCpus: 0, memoryBytes: 3 * GIB, pids: 0 };
  switch (name) {
    case 'once':
      return {
        ...common,
        replicas: 2,
        task: { ...task, restart: { ...restart, condition: 'none' } },
      };
    case 'tries':
      return { ...common, replicas: 3, task: { ...task, restart: { ...restart, maxAttempts: 2 } } };
    case 'heavy':
      return { ...common, replicas: 4, task: { ...task, reservations: big } };
    case 'single':
      return { ...common, replicas: 3, task: { ...task, placement: { maxReplicasPerNode: 1 } } };
    case 'fixed': {
      const addresses = ['10.0.0.200', '10.0.0.201', '10.0.0.202'];
      const networks = [{ target: 'net-id', aliases: [], addresses }];
      return { ...common, replicas: 3, task: { ...task, networks } };
    }
    case 'ports': {
      const port = {
        name: '',
        protocol: 'tcp',
        targetPort: 80,
        publishedPort: 8080,
        publishMode: 'host',
        hostAddress: '',
      } as const;
      return { ...common, replicas: 2, ports: [port] };
    }
    case 'each':
      return { ...common, mode: { kind: 'global' } };
    case 'job':
      return { ...common, mode: { kind: 'replicated-job', maxConcurrent: 2, totalCompletions: 5 } };
    case 'all':
      return { ...common, mode: { kind: 'global-job' } };
    default:
      return { ...common, replicas: 4 };
  }
}

class Story {
  readonly plane: ControlPlane;
  readonly #random: SeededRandom;
  #hosts = NODES;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.plane = new ControlPlane({ nodes: NODES, seed });
    this.plane.change({ kind: 'create', table: 'network', object: network('net') });
    for (const [at, name] of SERVICES.entries()) {
      this.plane.create(name, fieldsOf(name, (seed + at) % 2 === 0 ? 'stop-first' : 'start-first'));
    }
    this.plane.behaviour = (task) => {
      const { image } = task.spec.container;
      if (image === 'bad') return 'fail';
      if (image === 'none') return 'reject';
      if (image === 'slow') return this.#random.float() < 0.7 ? 'pull' : 'run';
      if (image === 'stuck') return 'hang';
      return task.jobIteration === undefined ? 'run' : 'complete';
    };
  }

  nodes(): string[] {
    return [...this.plane.store.all('node')].map(({ id }) => id).sort();
  }

  take({ kind, pick, value }: Step): void {
    const { plane } = this;
    const name = SERVICES[pick % SERVICES.length];
    const hosts = this.nodes();
    const host = hosts[pick % hosts.length];
    switch (kind) {
      case 'scale':
        plane.update(name, ({ spec: { mode } }) =>
          mode.kind === 'replicated' ? { mode: { ...mode, replicas: value % 6 } } : {},
        );
        break;
      case 'image': {
        const image = ['good', 'fine', 'bad', 'none', 'slow', 'stuck'][value % 6];
        plane.update(name, ({ spec: { task } }) => ({
          task: { ...task, container: { ...task.container, image } },
        }));
        break;
      }
      case 'force':
        plane.update(name, ({ spec: { task } }) => ({
          task: { ...task, forceUpdate: task.forceUpdate + 1 },
        }));
        break;
      case 'memory':
        plane.update(name, ({ spec: { task } }) => {
          const memoryBytes = (value % 4) * 3 * GIB;
          return { task: { ...task, reservations: { ...task.reservations, memoryBytes } } };
        });
        break;
      case 'constrain': {
        const constraints = [[], ['node.labels.a==1'], ['node.hostname==nowhere']][value % 3];
        plane.update(name, ({ spec: { task } }) => ({
          task: { ...task, placement: { ...task.placement, constraints } },
        }));
        break;
      }
      case 'rollback':
        this.#rollBack(plane.service(name));
        break;
      case 'end': {
        const running = [...plane.store.all('task')].filter(
          ({ status }) => status.state === TaskState.RUNNING,
        );
        const how = value % 2 === 0 ? TaskState.FAILED : TaskState.COMPLETE;
        if (running.length > 0) plane.end(running[value % running.length], how);
        break;
      }
      case 'sick': {
        const running = plane.running(name);
        if (running.length === 0) break;
        const task = running[value % running.length];
        const status = { ...task.status, error: 'unhealthy' };
        plane.change({ kind: 'update', table: 'task', object: { ...task, status } });
        plane.settle();
        const now = plane.store.get('task', task.id);
        if (now !== undefined && !isTerminal(now.status.state)) plane.end(now, TaskState.FAILED);
        break;
      }
      case 'node':
        this.#setNode(host, value % 9);
        break;
      case 'flap':
        for (let at = 0; at < 4; at += 1) {
          plane.nodeState(host, at % 2 === 0 ? 'down' : 'ready');
          plane.advance(5_000);
        }
        break;
      case 'removeNode':
        if (hosts.length < 2) break;
        plane.change({ kind: 'remove', table: 'node', id: host });
        this.#hosts += 1;
        plane.silent.delete(host);
        plane.change({
          kind: 'create',
          table: 'node',
          object: node(`h${this.#hosts}`, this.#hosts),
        });
        break;
      case 'rebalance': {
        const cluster = plane.get('cluster', 'cluster');
        const object = { ...cluster, rebalanceAtMs: plane.nowMs + 1 };
        plane.change({ kind: 'update', table: 'cluster', object });
        break;
      }
      case 'rounds':
        for (let round = 0; round <= value % 4; round += 1) {
          plane.round();
          plane.agents();
        }
        break;
      case 'advance':
        plane.advance(value);
        break;
      default:
        plane.elect();
    }
    this.check();
  }

  #rollBack(service: Service): void {
    const { previousSpec, spec, job } = service;
    if (previousSpec === undefined) return;
    const update = {
      state: 'rollback_started',
      startedAtMs: this.plane.nowMs,
      completedAtMs: 0,
      message: '',
    } as const;
    const next = job === undefined ? undefined : { ...job, iteration: job.iteration + 1 };
    const object = { ...service, spec: previousSpec, previousSpec: spec, update, job: next };
    this.plane.change({ kind: 'update', table: 'service', object });
  }

  #setNode(id: string, what: number): void {
    const { plane } = this;
    if (what === 0) plane.nodeState(id, 'down');
    else if (what === 1) plane.nodeState(id, 'unknown');
    else if (what === 2) plane.nodeState(id, 'ready');
    else if (what === 3) plane.silent.add(id);
    else if (what === 4) plane.silent.delete(id);
    else if (what === 5) plane.setNode(id, { spec: { labels: { a: '1' } } });
    else if (what === 6) plane.setNode(id, { spec: { availability: 'drain' } });
    else if (what === 7) plane.setNode(id, { spec: { availability: 'pause' } });
    else plane.setNode(id, { spec: { availability: 'active', labels: {} } });
  }

  /** What holds at any moment. */
  check(): void {
    const { plane } = this;
    const addresses = new Set<string>();
    for (const service of plane.store.all('service')) {
      for (const { address } of service.virtualAddresses) addresses.add(address);
    }
    const memory = new Map<string, number>();
    const ports = new Map<string, number>();
    for (const task of plane.store.all('task')) {
      if (isTerminal(task.status.state)) continue;
      for (const { address } of task.networks) {
        if (address === '') continue;
        assert.ok(!addresses.has(address), `two have ${address}`);
        addresses.add(address);
      }
      if (task.status.state < TaskState.READY || !isWantedState(task.desiredState)) continue;
      if (task.desiredState === TaskState.READY) continue;
      const { memoryBytes } = task.spec.reservations;
      memory.set(task.nodeId, (memory.get(task.nodeId) ?? 0) + memoryBytes);
      if (task.ports.some(({ publishMode }) => publishMode === 'host')) {
        ports.set(task.nodeId, (ports.get(task.nodeId) ?? 0) + 1);
      }
    }
    for (const [id, bytes] of memory) assert.ok(bytes <= 8 * GIB, `${id} has ${bytes} reserved`);
    for (const [id, count] of ports) assert.ok(count <= 1, `port 8080 is used twice on ${id}`);
  }

  /** All is well again; every service can be what it should be, and is. */
  end(): void {
    const { plane } = this;
    plane.behaviour = (task) => (task.jobIteration === undefined ? 'run' : 'complete');
    plane.silent.clear();
    for (const id of this.nodes()) {
      plane.setNode(id, { state: 'ready', spec: { availability: 'active', labels: { a: '1' } } });
    }
    const check = (): void => this.check();
    plane.settle(check);
    plane.advance(1_200_000, check);
    // Nothing fits if nothing can: the heavy and the impossible are made possible, as a user would.
    for (const name of SERVICES) {
      const { spec } = plane.service(name);
      const none = { ...spec.task.reservations, memoryBytes: 0 };
      const placement = { ...spec.task.placement, constraints: [], maxReplicasPerNode: 0 };
      const mode = spec.mode.kind === 'replicated' ? { ...spec.mode, replicas: 3 } : spec.mode;
      // What its restart policy has given up is taken up again by an update.
      const forceUpdate = spec.task.forceUpdate + 1;
      const task = { ...spec.task, reservations: none, placement, forceUpdate };
      plane.update(name, () => ({ mode, task }));
    }
    plane.settle(check);
    plane.advance(1_200_000, check);
    for (const name of SERVICES) this.#atRest(plane.service(name));
    const before = plane.store.version;
    plane.advance(3_600_000);
    assert.equal(plane.store.version, before, 'a cluster at rest is left alone');
    for (const name of SERVICES) {
      plane.change({ kind: 'remove', table: 'service', id: plane.service(name).id });
    }
    plane.settle();
    plane.advance(60_000);
    assert.deepEqual([...plane.store.all('task')].map(told), [], 'tasks are left');
    plane.change({ kind: 'remove', table: 'network', id: 'net-id' });
  }

  #atRest({ id, spec, update, job }: Service): void {
    const tasks = [...this.plane.store.tasksOfService(id)];
    const { name, mode } = spec;
    const all = tasks.map(told).join('\n');
    const nodes = this.nodes();
    assert.ok(
      update?.completedAtMs !== 0,
      `${name} is ${update?.state}: ${update?.message}\n${all}`,
    );
    const rest = tasks.filter(
      ({ desiredState, status }) => !isWantedState(desiredState) && !isTerminal(status.state),
    );
    assert.deepEqual(rest.map(told), [], `${name}: tasks that stop for ever`);
    if (mode.kind === 'replicated-job' || mode.kind === 'global-job') {
      const done = tasks.filter(
        ({ status, jobIteration }) =>
          status.state === TaskState.COMPLETE && jobIteration === job?.iteration,
      );
      const wanted = mode.kind === 'global-job' ? nodes.length : mode.totalCompletions;
      assert.equal(done.length, wanted, `${name}: ${done.length} of ${wanted} are done\n${all}`);
      return;
    }
    const running = tasks.filter(
      ({ desiredState, status }) =>
        isWantedState(desiredState) && status.state === TaskState.RUNNING,
    );
    const wanted = mode.kind === 'replicated' ? mode.replicas : nodes.length;
    const keys = new Set(running.map(({ slot, nodeId }) => slot || nodeId));
    assert.equal(running.length, wanted, `${name}: ${running.length} of ${wanted} run\n${all}`);
    assert.equal(keys.size, wanted, `${name} runs twice in a slot\n${all}`);
    for (const task of running)
      assert.deepEqual(task.spec.container.image, spec.task.container.image);
  }
}

function told(task: Task): string {
  const { serviceName, slot, generation, nodeId, desiredState, status, specVersion } = task;
  return (
    `${serviceName}.${slot} g${generation} v${specVersion} on ${nodeId}: ${status.state} -> ` +
    `${desiredState} ${status.error} ${status.message}`
  );
}

test('services that are hard to please come to rest whatever happens (random)', () => {
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 25 }),
      fc.integer({ min: 1, max: 1_000_000 }),
      (steps, seed) => {
        const story = new Story(seed);
        story.plane.settle();
        for (const next of steps) story.take(next);
        story.end();
      },
    ),
    { numRuns: Number(process.env['RUNS'] ?? 20) },
  );
});
