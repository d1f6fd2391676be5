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
import { isJob } from '../../model/job.ts';
import type { ContainerSpec, ServiceSpec } from '../../model/types.ts';
import { nodeSpec, serviceSpec } from '../support/arbitraries.ts';
import { fc } from '../support/properties.ts';

/** Durations are nanoseconds in Docker's JSON: at most 2^53 of them. */
const LONGEST_MS = 9_000_000_000;

function ms(value: number): number {
  const short = value % LONGEST_MS;
  return Math.round(short * 1e6) / 1e6;
}

/** What Docker's JSON can carry of a random specification. */
function carried(spec: ServiceSpec): ServiceSpec {
  const { task } = spec;
  const update = (config: ServiceSpec['update']): ServiceSpec['update'] => ({
    ...config,
    delayMs: ms(config.delayMs),
    monitorMs: ms(config.monitorMs),
    progressDeadlineMs: ms(config.progressDeadlineMs),
  });
  const job = isJob(spec.mode);
  // What was left out, and where networks stood, is of the request: shown where that is asked for.
  const { leftOut: _leftOut, networksOnService: _onService, ...said } = spec;
  return {
    ...said,
    update: job ? DEFAULT_UPDATE_CONFIG : update(spec.update),
    rollback: job ? DEFAULT_UPDATE_CONFIG : update(spec.rollback),
    task: {
      ...task,
      restart: {
        ...task.restart,
        delayMs: ms(task.restart.delayMs),
        windowMs: ms(task.restart.windowMs),
      },
      reservations: { ...task.reservations, pids: 0 },
      // Docker names a driver wherever there are options.
      logDriver:
        Object.keys(task.logOptions).length > 0 ? task.logDriver || 'local' : task.logDriver,
      networks: task.networks.map((network) => ({
        ...network,
        addresses: network.addresses.flatMap((_, at) => `10.0.0.${at + 1}`),
      })),
      container: {
        ...task.container,
        image: `i${task.container.image}`,
        stopGraceMs: ms(task.container.stopGraceMs),
        registryAuth: '',
        healthCheck: carriedHealth(task.container.healthCheck),
        mounts: task.container.mounts.map((mount) =>
          mount.type === 'tmpfs' ? mount : { ...mount, tmpfsSizeBytes: 0, tmpfsMode: 0 },
        ),
      },
    },
  };
}

function carriedHealth(check: ContainerSpec['healthCheck']): ContainerSpec['healthCheck'] {
  if (check === undefined) return undefined;
  return {
    ...check,
    test: ['CMD', ...check.test],
    intervalMs: ms(check.intervalMs),
    timeoutMs: ms(check.timeoutMs),
    startPeriodMs: ms(check.startPeriodMs),
    startIntervalMs: ms(check.startIntervalMs),
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
  [
    'TaskTemplate.ContainerSpec.Privileges.Seccomp.Mode',
    container({ Privileges: { Seccomp: { Mode: 'custom' } } }),
  ],
  [
    'TaskTemplate.ContainerSpec.Privileges.Seccomp.Profile',
    container({ Privileges: { Seccomp: { Mode: 'unconfined', Profile: 'e30=' } } }),
  ],
  [
    'TaskTemplate.ContainerSpec.Privileges.SELinuxContext.Type',
    container({ Privileges: { SELinuxContext: { Type: 'a b' } } }),
  ],
  [
    'TaskTemplate.ContainerSpec.Privileges.CredentialSpec',
    container({ Privileges: { CredentialSpec: { File: 'a' } } }),
  ],
  [
    'TaskTemplate.ContainerSpec.Mounts[0].BindOptions.ReadOnlyNonRecursive',
    container({ Mounts: [{ Type: 'bind', BindOptions: { ReadOnlyNonRecursive: true } }] }),
  ],
  [
    'TaskTemplate.ContainerSpec.Mounts[0].VolumeOptions.Subpath',
    container({ Mounts: [{ Type: 'volume', VolumeOptions: { Subpath: 'a' } }] }),
  ],
  ['TaskTemplate.Resources.SwapBytes', task({ Resources: { SwapBytes: 1 } })],
  ['TaskTemplate.LogDriver.Name', task({ LogDriver: { Name: 'syslog' } })],
  ['TaskTemplate.Runtime', task({ Runtime: 'plugin' })],
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

test('only bridge and overlay networks can be created', () => {
  assert.throws(() => networkSpecFromDocker(overTheWire({ Name: 'a', Driver: 'macvlan' })), {
    code: 'unsupported',
    message: 'Driver: "macvlan" networks cannot be created: use --driver bridge or overlay',
  });
  const ipam = { Config: [{ Subnet: '10.5.0.0/16', Gateway: '10.5.0.1', IPRange: '' }] };
  const spec = networkSpecFromDocker(overTheWire({ Name: 'a', Driver: 'overlay', IPAM: ipam }));
  assert.equal(spec.subnet, '10.5.0.0/16');
  assert.equal(spec.gateway, '10.5.0.1');
});

test('an empty cluster specification is the default one', () => {
  assert.deepEqual(clusterSpecFromDocker(new Fields({})), DEFAULT_CLUSTER_SPEC);
});

test('an external CA is refused', () => {
  const body = { CAConfig: { ExternalCAs: [{ URL: 'https://ca' }] } };
  assert.throws(() => clusterSpecFromDocker(new Fields(body)), { code: 'unsupported' });
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

test('a health check, in whole milliseconds; one that says nothing is none', () => {
  const read = (Healthcheck: object) =>
    serviceSpecFromDocker(overTheWire(container({ Healthcheck }))).task.container.healthCheck;
  assert.deepEqual(read({ Test: ['CMD-SHELL', 'true'], Interval: 2_000_000_000, Retries: 3 }), {
    test: ['CMD-SHELL', 'true'],
    intervalMs: 2000,
    timeoutMs: 0,
    retries: 3,
    startPeriodMs: 0,
    startIntervalMs: 0,
  });
  assert.deepEqual(read({ Test: ['NONE'] })?.test, ['NONE']);
  assert.equal(read({}), undefined);
});

test('what a client may not see is not in the JSON', () => {
  const spec = serviceSpecFromDocker(overTheWire({ TaskTemplate: IMAGE })).task.container;
  assert.doesNotMatch(
    JSON.stringify(containerToDocker({ ...spec, registryAuth: 's3cret' })),
    /s3c/,
  );
});

test('a progress deadline comes from its field, or from the label that Docker’s client can set', () => {
  const deadline = (body: object) =>
    serviceSpecFromDocker(overTheWire({ TaskTemplate: IMAGE, ...body })).update.progressDeadlineMs;
  assert.equal(deadline({}), 600_000);
  assert.equal(deadline({ UpdateConfig: { ProgressDeadline: 5_000_000_000 } }), 5000);
  const Labels = { 'tsswarm.update.progress-deadline': '30s' };
  assert.equal(deadline({ Labels }), 30_000);
  assert.equal(deadline({ Labels, UpdateConfig: { ProgressDeadline: 1 } }), 30_000);
  const bad = { TaskTemplate: IMAGE, Labels: { 'tsswarm.update.progress-deadline': 'soon' } };
  assert.match(refused(bad).message, /^Labels.tsswarm.update.progress-deadline: invalid duration/);
});

test('jobs complete as often as they may run at once, unless it is said', () => {
  const mode = (Mode: object) =>
    serviceSpecFromDocker(overTheWire({ TaskTemplate: IMAGE, Mode })).mode;
  const job = { kind: 'replicated-job', maxConcurrent: 1, totalCompletions: 1 };
  assert.deepEqual(mode({ ReplicatedJob: {} }), job);
  const three = mode({ ReplicatedJob: { MaxConcurrent: 3 } });
  assert.deepEqual(three, { ...job, maxConcurrent: 3, totalCompletions: 3 });
  assert.deepEqual(mode({ GlobalJob: {} }), { kind: 'global-job' });
  const both = { TaskTemplate: IMAGE, Mode: { GlobalJob: {}, Global: {} } };
  assert.match(refused(both).message, /^Mode: give one of Global and GlobalJob/);
});

test('names of fields are found whatever their case, as Go reads them', () => {
  const body = { tasktemplate: { ContainerSpec: { image: 'web' } }, Mode: { replicated: {} } };
  assert.equal(serviceSpecFromDocker(overTheWire(body)).task.container.image, 'web');
});

test('a duration keeps its nanoseconds, and networks named beside the task their place', () => {
  const body = {
    TaskTemplate: { ...IMAGE, RestartPolicy: { Delay: 5 } },
    Networks: [{ Target: 'n', DriverOpts: { a: 'b' } }],
  };
  const spec = serviceSpecFromDocker(overTheWire(body));
  const shown = serviceSpecToDocker(spec) as {
    TaskTemplate: { RestartPolicy: { Delay: number } };
    Networks: object[];
  };
  assert.equal(shown.TaskTemplate.RestartPolicy.Delay, 5);
  assert.deepEqual(shown.Networks, body.Networks);
  assert.equal('Networks' in shown.TaskTemplate, false);
});

test('how to update is shown when it was asked for, or when defaults are', () => {
  const spec = serviceSpecFromDocker(overTheWire({ TaskTemplate: IMAGE, UpdateConfig: {} }));
  assert.equal('UpdateConfig' in serviceSpecToDocker(spec), true);
  assert.equal('RollbackConfig' in serviceSpecToDocker(spec), false);
  assert.equal('RollbackConfig' in serviceSpecToDocker(spec, true), true);
});

test('addresses of a service’s slots come by a driver option', () => {
  const Networks = [{ Target: 'n', DriverOpts: { 'tsswarm.address': '10.0.1.7, 10.0.1.8' } }];
  const spec = serviceSpecFromDocker(overTheWire(task({ Networks })));
  assert.deepEqual(spec.task.networks, [
    { target: 'n', aliases: [], addresses: ['10.0.1.7', '10.0.1.8'] },
  ]);
});
