/** Docker's JSON and the model: there and back, defaults, refusals by path. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SwarmError } from '../../base/errors.ts';
import { containerToDocker } from '../../daemon/api/docker/container.ts';
import { networkSpecFromDocker } from '../../daemon/api/docker/network.ts';
import { nodeSpecFromDocker, nodeSpecToDocker } from '../../daemon/api/docker/node.ts';
import { serviceSpecFromDocker, serviceSpecToDocker } from '../../daemon/api/docker/serviceSpec.ts';
import { clusterSpecFromDocker } from '../../daemon/api/docker/swarm.ts';
import { Fields } from '../../daemon/api/fields.ts';
import { DEFAULT_CLUSTER_SPEC, DEFAULT_UPDATE_CONFIG } from '../../model/defaults.ts';
import type { ServiceSpec } from '../../model/types.ts';
import { nodeSpec, serviceSpec } from '../support/arbitraries.ts';
import { fc } from '../support/properties.ts';

/** Durations are nanoseconds in Docker's JSON: at most 2^53 of them. */
const LONGEST_MS = 9_000_000_000;

function ms(value: number): number {
  return value % LONGEST_MS;
}

/** What Docker's JSON can carry of a random specification. */
function carried(spec: ServiceSpec): ServiceSpec {
  const { task } = spec;
  const update = (config: ServiceSpec['update']): ServiceSpec['update'] => ({
    ...config,
    delayMs: ms(config.delayMs),
    monitorMs: ms(config.monitorMs),
  });
  return {
    ...spec,
    update: update(spec.update),
    rollback: update(spec.rollback),
    task: {
      ...task,
      restart: {
        ...task.restart,
        delayMs: ms(task.restart.delayMs),
        windowMs: ms(task.restart.windowMs),
      },
      reservations: { ...task.reservations, pids: 0 },
      container: {
        ...task.container,
        image: `i${task.container.image}`,
        stopGraceMs: ms(task.container.stopGraceMs),
        mounts: task.container.mounts.map((mount) =>
          mount.type === 'tmpfs' ? mount : { ...mount, tmpfsSizeBytes: 0, tmpfsMode: 0 },
        ),
      },
    },
  };
}

function overTheWire(value: unknown): Fields {
  return new Fields(JSON.parse(JSON.stringify(value)));
}

test('a service specification survives the way through Docker’s JSON', () => {
  fc.assert(
    fc.property(serviceSpec.map(carried), (spec) => {
      const back = serviceSpecFromDocker(overTheWire(serviceSpecToDocker(spec)));
      assert.equal(JSON.stringify(back), JSON.stringify(spec));
    }),
  );
});

test('a node specification survives the way through Docker’s JSON', () => {
  fc.assert(
    fc.property(nodeSpec, (spec) => {
      const back = nodeSpecFromDocker(overTheWire(nodeSpecToDocker(spec)));
      assert.equal(JSON.stringify(back), JSON.stringify(spec));
    }),
  );
});

function refused(body: object): SwarmError {
  try {
    serviceSpecFromDocker(overTheWire(body));
  } catch (error) {
    assert.ok(error instanceof SwarmError);
    assert.doesNotMatch(error.message, /\n/);
    return error;
  }
  return assert.fail('it was accepted');
}

const IMAGE = { ContainerSpec: { Image: 'web' } };

test('what a request leaves out gets Docker’s defaults', () => {
  const spec = serviceSpecFromDocker(overTheWire({ Name: 'web', TaskTemplate: IMAGE }));
  assert.deepEqual(spec.mode, { kind: 'replicated', replicas: 1 });
  assert.deepEqual(spec.update, DEFAULT_UPDATE_CONFIG);
  assert.equal(spec.endpointMode, 'vip');
  assert.equal(spec.task.restart.condition, 'any');
  assert.equal(spec.task.restart.delayMs, 5000);
  assert.equal(spec.task.container.stopGraceMs, 10_000);
});

const UNBUILT: readonly (readonly [string, object])[] = [
  [
    'TaskTemplate.ContainerSpec.Configs[0].Runtime',
    container({ Configs: [{ ConfigID: 'x', Runtime: {} }] }),
  ],
  ['TaskTemplate.ContainerSpec.Init', container({ Init: true })],
  ['TaskTemplate.ContainerSpec.Ulimits', container({ Ulimits: [{ Name: 'nofile', Hard: 1 }] })],
  ['TaskTemplate.ContainerSpec.Privileges', container({ Privileges: { NoNewPrivileges: true } })],
  ['TaskTemplate.ContainerSpec.Healthcheck', container({ Healthcheck: { Test: ['CMD', 'x'] } })],
  [
    'TaskTemplate.ContainerSpec.Mounts[0].BindOptions.Propagation',
    container({ Mounts: [{ Type: 'bind', BindOptions: { Propagation: 'shared' } }] }),
  ],
  [
    'TaskTemplate.Resources.Reservations.GenericResources',
    task({ Resources: { Reservations: { GenericResources: [{ DiscreteResourceSpec: {} }, 1] } } }),
  ],
  ['TaskTemplate.LogDriver.Name', task({ LogDriver: { Name: 'syslog' } })],
  ['TaskTemplate.Runtime', task({ Runtime: 'plugin' })],
  ['TaskTemplate.Networks[0].DriverOpts', task({ Networks: [{ DriverOpts: { a: 'b' } }] })],
  ['Mode.ReplicatedJob', { TaskTemplate: IMAGE, Mode: { ReplicatedJob: {} } }],
  ['Mode.GlobalJob', { TaskTemplate: IMAGE, Mode: { GlobalJob: {} } }],
  [
    'EndpointSpec.Ports[0].Protocol',
    { TaskTemplate: IMAGE, EndpointSpec: { Ports: [{ Protocol: 'sctp', TargetPort: 1 }] } },
  ],
];

function container(fields: object): object {
  return { TaskTemplate: { ContainerSpec: { Image: 'web', ...fields } } };
}

function task(fields: object): object {
  return { TaskTemplate: { ...IMAGE, ...fields } };
}

for (const [path, body] of UNBUILT) {
  test(`${path} is refused by its path, not stored and ignored`, () => {
    const error = refused(body);
    assert.equal(error.code, 'unsupported');
    assert.ok(error.message.startsWith(`${path} `), error.message);
  });
}

test('unbuilt fields that are empty are accepted, as clients send them', () => {
  const empty = {
    Secrets: [],
    Configs: null,
    Init: false,
    Healthcheck: { Test: ['NONE'] },
    Privileges: { CredentialSpec: null, SELinuxContext: null },
    Isolation: 'default',
    Unknown: { Future: 1 },
  };
  const spec = serviceSpecFromDocker(overTheWire(container(empty)));
  assert.equal(spec.task.container.image, 'web');
});

const WRONG: readonly (readonly [string, object])[] = [
  ['Name must be a string', { Name: 5, TaskTemplate: IMAGE }],
  ['TaskTemplate must be an object', { TaskTemplate: [] }],
  ['TaskTemplate.ContainerSpec is missing', { TaskTemplate: {} }],
  ['TaskTemplate.ContainerSpec.Image must not be empty', { TaskTemplate: { ContainerSpec: {} } }],
  ['TaskTemplate.ContainerSpec.Env[1] must be a string', container({ Env: ['A=1', 2] })],
  ['TaskTemplate.ContainerSpec.TTY must be true or false', container({ TTY: 'yes' })],
  ['TaskTemplate.ContainerSpec.Labels.a must be a string', container({ Labels: { a: 1 } })],
  ['TaskTemplate.ContainerSpec.Mounts must be a list', container({ Mounts: {} })],
  ['Mode.Replicated.Replicas must be a whole number', replicas(-1)],
  ['Mode.Replicated.Replicas must be a whole number', replicas(1.5)],
  [
    'TaskTemplate.RestartPolicy.Condition: "never"',
    task({ RestartPolicy: { Condition: 'never' } }),
  ],
  ['EndpointSpec.Mode: "ipvs"', { TaskTemplate: IMAGE, EndpointSpec: { Mode: 'ipvs' } }],
];

function replicas(count: number): object {
  return { TaskTemplate: IMAGE, Mode: { Replicated: { Replicas: count } } };
}

for (const [message, body] of WRONG) {
  test(`a wrong type is refused with its path: ${message}`, () => {
    const error = refused(body);
    assert.equal(error.code, 'invalid');
    assert.ok(error.message.startsWith(message), error.message);
  });
}

test('only overlay networks can be created', () => {
  assert.throws(() => networkSpecFromDocker(overTheWire({ Name: 'a', Driver: 'bridge' })), {
    code: 'unsupported',
    message: 'Driver: "bridge" networks cannot be created: use --driver overlay',
  });
  const ipam = { Config: [{ Subnet: '10.5.0.0/16', Gateway: '10.5.0.1', IPRange: '' }] };
  const spec = networkSpecFromDocker(overTheWire({ Name: 'a', Driver: 'overlay', IPAM: ipam }));
  assert.equal(spec.subnet, '10.5.0.0/16');
  assert.equal(spec.gateway, '10.5.0.1');
});

test('an empty cluster specification is the default one', () => {
  assert.deepEqual(clusterSpecFromDocker(new Fields({})), DEFAULT_CLUSTER_SPEC);
});

test('autolock and an external CA are refused', () => {
  for (const body of [
    { EncryptionConfig: { AutoLockManagers: true } },
    { CAConfig: { ExternalCAs: [{ URL: 'https://ca' }] } },
  ]) {
    assert.throws(() => clusterSpecFromDocker(new Fields(body)), { code: 'unsupported' });
  }
});

test('architectures of images become those that nodes carry', () => {
  const platforms = [{ OS: 'linux', Architecture: 'amd64' }];
  const body = task({ Placement: { Platforms: platforms } });
  const spec = serviceSpecFromDocker(overTheWire(body));
  assert.deepEqual(spec.task.placement.platforms, [{ os: 'linux', architecture: 'x86_64' }]);
});

test('empty fields are left out of Docker’s JSON, as Go’s omitempty does', () => {
  const { container: spec } = serviceSpecFromDocker(overTheWire({ TaskTemplate: IMAGE })).task;
  assert.deepEqual(containerToDocker(spec), {
    Image: 'web',
    StopGracePeriod: 10_000_000_000,
    DNSConfig: {},
    Isolation: 'default',
  });
});
