/**
 * Model <-> wire: whatever goes out comes back the same, and what cannot be is refused by name.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AssignmentMessage } from '../../model/assignment.ts';
import { DEFAULT_MOUNT, DEFAULT_UPDATE_CONFIG, EMPTY_CONTAINER } from '../../model/defaults.ts';
import type { TableName, Tables } from '../../model/types.ts';
import {
  assignmentFromWire,
  assignmentToWire,
  decodeLogEntry,
  decodeObject,
  encodeLogEntry,
  encodeObject,
  type LogEntry,
  statusUpdateFromWire,
  statusUpdateToWire,
  type TableObject,
} from '../../proto/convert.ts';
import * as any from '../support/arbitraries.ts';
import { fc } from '../support/properties.ts';

const RUNS = { numRuns: 60 };

/** Plain data: dictionaries made by a generator may lack Object's prototype. */
function plain<T>(value: T): T {
  return structuredClone(value);
}

function roundTrips<T extends TableName>(table: T, objects: fc.Arbitrary<Tables[T]>): void {
  fc.assert(
    fc.property(objects, (object) => {
      const back = decodeObject(encodeObject(table, object));
      assert.equal(back.table, table);
      assert.deepEqual(plain(back.object), plain(object));
    }),
    RUNS,
  );
}

test('every cluster comes back from its bytes as it was', () => roundTrips('cluster', any.cluster));
test('every node comes back from its bytes as it was', () => roundTrips('node', any.node));
test('every service comes back from its bytes as it was', () => roundTrips('service', any.service));
test('every task comes back from its bytes as it was', () => roundTrips('task', any.task));
test('every secret comes back from its bytes as it was', () => roundTrips('secret', any.secret));

test('every config comes back from its bytes as it was', () => roundTrips('config', any.config));

test('every network comes back from its bytes as it was', () => roundTrips('network', any.network));

const tableObject: fc.Arbitrary<TableObject> = fc.oneof(
  any.cluster.map((object) => ({ table: 'cluster' as const, object })),
  any.node.map((object) => ({ table: 'node' as const, object })),
  any.service.map((object) => ({ table: 'service' as const, object })),
  any.task.map((object) => ({ table: 'task' as const, object })),
  any.network.map((object) => ({ table: 'network' as const, object })),
  any.secret.map((object) => ({ table: 'secret' as const, object })),
  any.config.map((object) => ({ table: 'config' as const, object })),
);

test('a log entry comes back with its stamp, order and versions', () => {
  const change = fc.oneof(
    fc
      .tuple(fc.constantFrom('create' as const, 'update' as const), tableObject)
      .map(([kind, value]) => ({ kind, ...value })),
    fc
      .tuple(fc.constantFrom('node' as const, 'task' as const), fc.string(), fc.nat())
      .map(([table, id, version]) =>
        version === 0
          ? { kind: 'remove' as const, table, id }
          : { kind: 'remove' as const, table, id, version },
      ),
  );
  const entry = fc.record({
    atomic: fc.boolean(),
    atMs: fc.maxSafeNat(),
    changes: fc.array(change, { maxLength: 4 }),
  }) as fc.Arbitrary<LogEntry>;
  fc.assert(
    fc.property(entry, (value) => {
      assert.deepEqual(plain(decodeLogEntry(encodeLogEntry(value))), plain(value));
    }),
    RUNS,
  );
});

test('a status update comes back as it was', () => {
  fc.assert(
    fc.property(fc.record({ taskId: fc.string(), status: any.taskStatus }), (update) => {
      assert.deepEqual(plain(statusUpdateFromWire(statusUpdateToWire(update))), plain(update));
    }),
    RUNS,
  );
});

test('an assignment of tasks, networks and ingress comes back as it was', () => {
  const [task] = fc.sample(any.task, { numRuns: 1, seed: 7 });
  const message: AssignmentMessage = {
    type: 'incremental',
    appliesTo: 3,
    resultsIn: 4,
    confirm: true,
    update: [
      { kind: 'task', task: plain(task) },
      {
        kind: 'network',
        network: {
          network: {
            id: 'n1',
            name: 'web',
            vni: 4096,
            subnet: '10.0.1.0/24',
            gateway: '10.0.1.1',
            internal: true,
            subnet6: 'fd00:1::/64',
            mtu: 0,
          },
          peers: [{ hostIndex: 2, address: '10.99.0.12' }],
          endpoints: [{ id: 't1', address: '10.0.1.5', hostIndex: 2 }],
          services: [{ serviceId: 's1', virtualAddress: '10.0.1.2', backends: ['10.0.1.5'] }],
          names: [{ name: 'web', addresses: ['10.0.1.2'] }],
        },
      },
      {
        kind: 'ingress',
        ingress: {
          peers: [{ hostIndex: 2, address: '10.99.0.12' }],
          ports: [
            {
              protocol: 'tcp',
              publishedPort: 8080,
              hostAddress: '192.0.2.5',
              serviceId: 's1',
              serviceName: 'web',
              backends: [{ gatewayAddress: '172.18.0.2', targetPort: 80, hostIndex: 2 }],
            },
          ],
        },
      },
    ],
    remove: ['task/x'],
  };
  assert.deepEqual(plain(assignmentFromWire(assignmentToWire(message))), message);
});

test('a number that a double cannot hold is refused, not rounded', () => {
  const [task] = fc.sample(any.task, { numRuns: 1, seed: 1 });
  assert.throws(() => encodeObject('task', { ...task, generation: 2 ** 53 }), /generation/);
  assert.throws(() => encodeObject('task', { ...task, generation: -1 }), /generation/);
  assert.throws(() => encodeObject('task', { ...task, slot: 1.5 }), /slot/);
});

test('bytes that are no object are called corrupt', () => {
  assert.throws(() => decodeObject(Uint8Array.of(0xff, 0xff, 0xff)), { code: 'corrupt' });
  assert.throws(() => decodeLogEntry(Uint8Array.of(0xff, 0xff, 0xff)), { code: 'corrupt' });
});

test('a word that is not in the list is refused by its name', () => {
  const [node] = fc.sample(any.node, { numRuns: 1, seed: 1 });
  const odd = { ...node, state: 'sleeping' } as unknown as Tables['node'];
  assert.throws(() => decodeObject(encodeObject('node', odd)), /sleeping/);
});

/**
 * As the first version wrote them, before health checks, jobs, volumes, host ports and the like.
 */
const FIRST_VERSION: readonly string[] = [
  'CgFzEAVilwEKkgEKA3dlYho5Ch8KBXdlYjoxUhMKBGJpbmQSBC9zcnYaBS9kYXRhcJBOEgAaACIICgNhbnkQiCcq' +
    'ADIGCgFuEgFhIgIIAioYCAEaBXBhdXNlIIgnMgpzdG9wLWZpcnN0MhgIARoFcGF1c2UgiCcyCnN0b3AtZmlyc3Q6' +
    'A3ZpcEITEgN0Y3AYUCCQPyoHaW5ncmVzcxgF',
  'CgF0EAZqZAoBcxIDd2ViGAEgATI5Ch8KBXdlYjoxUhMKBGJpbmQSBC9zcnYaBS9kYXRhcJBOEgAaACIICgNhbnkQ' +
    'iCcqADIGCgFuEgFhSIAEUgMIgARiExIDdGNwGFAgkD8qB2luZ3Jlc3M=',
  'CgFuEAdaJwoQGgZ3b3JrZXIiBmFjdGl2ZRIECgJoMRoGd29ya2VyIgVyZWFkeQ==',
];

const LATER_IN_CONTAINERS = [
  'healthCheck',
  'init',
  'ulimits',
  'oomScoreAdj',
  'userns',
  'noNewPrivileges',
  'seccomp',
  'apparmorDisabled',
  'selinuxDisabled',
  'selinux',
  'openStdin',
  'registryAuth',
] as const;

test('what the first version wrote is read with defaults for what it did not know', () => {
  const [service, task, node] = FIRST_VERSION.map((text) =>
    decodeObject(Buffer.from(text, 'base64')),
  );
  assert.equal(service.table, 'service');
  if (service.table !== 'service' || task.table !== 'task' || node.table !== 'node') return;
  const { spec, job } = service.object;
  assert.equal(job, undefined);
  assert.equal(spec.update.progressDeadlineMs, DEFAULT_UPDATE_CONFIG.progressDeadlineMs);
  assert.equal(spec.ports[0].hostAddress, '');
  assert.equal(spec.task.logDriver, '');
  assert.deepEqual(spec.task.networks[0].addresses, []);
  assert.deepEqual(spec.task.genericResources, []);
  const { container } = spec.task;
  assert.deepEqual(container.mounts[0], {
    ...DEFAULT_MOUNT,
    type: 'bind',
    source: '/srv',
    target: '/data',
  });
  for (const name of LATER_IN_CONTAINERS) {
    assert.deepEqual(container[name], EMPTY_CONTAINER[name], name);
  }
  assert.equal(task.object.jobIteration, undefined);
  assert.deepEqual(task.object.genericResources, []);
  assert.deepEqual(node.object.description.genericResources, []);
});
