/**
 * Random objects of the model for property tests: every field, every union member, bounded sizes.
 * They are well-formed, not sensible: references between them mean nothing.
 */

import { TaskState } from '../../model/taskState.ts';
import {
  type Cluster,
  type ClusterSpec,
  type Config,
  type ContainerSpec,
  type GenericResource,
  LOG_DRIVERS,
  type Network,
  type NetworkSpec,
  type Node,
  type NodeDescription,
  type NodeSpec,
  type PortConfig,
  PROPAGATIONS,
  type Secret,
  type Service,
  type ServiceMode,
  type ServiceSpec,
  type Task,
  type TaskSpec,
  type TaskStatus,
  type UpdateConfig,
} from '../../model/types.ts';
import { fc } from './properties.ts';

const text = fc.string({ maxLength: 12 });
const texts = fc.array(text, { maxLength: 3 });
const u32 = fc.nat({ max: 0xffff_ffff });
const whole = fc.maxSafeNat();
/** Milliseconds that are whole nanoseconds: below 49 days a number tells them apart. */
const fine = fc.oneof(
  whole,
  fc.maxSafeNat().map((nanoseconds) => (nanoseconds % 4e15) / 1e6),
);
const labels = fc.dictionary(
  fc.string({ maxLength: 8 }).filter((key) => key !== '__proto__'),
  text,
  { maxKeys: 3 },
) as fc.Arbitrary<Record<string, string>>;
const plainLabels = labels.map((entries) => ({ ...entries }));
const base = { id: text, version: whole, createdAtMs: whole, updatedAtMs: whole };
const state = fc.constantFrom(...Object.values(TaskState));

export const clusterSpec: fc.Arbitrary<ClusterSpec> = fc.record({
  name: text,
  labels: plainLabels,
  taskHistoryLimit: u32,
  heartbeatPeriodMs: whole,
  certificateExpiryMs: whole,
  snapshotInterval: whole,
  keepOldSnapshots: u32,
  logEntriesForSlowFollowers: whole,
  autoLockManagers: fc.boolean(),
  forceRotate: whole,
  signingCaCertificate: text,
});

export const cluster: fc.Arbitrary<Cluster> = fc.record({
  ...base,
  spec: clusterSpec,
  rootCaCertificate: text,
  rootCaKey: text,
  unlockKey: text,
  rootRotation: fc.option(fc.record({ certificate: text, privateKey: text, crossSigned: text }), {
    nil: undefined,
  }),
  joinSecretWorker: text,
  joinSecretManager: text,
  addressPools: texts,
  subnetSize: u32,
  vxlanPort: u32,
  removedRaftIds: fc.array(whole, { maxLength: 3 }),
  removedNodes: fc.array(fc.record({ id: text, untilMs: whole }), { maxLength: 3 }),
  rebalanceAtMs: whole,
});

export const nodeSpec: fc.Arbitrary<NodeSpec> = fc.record({
  name: text,
  labels: plainLabels,
  role: fc.constantFrom('worker', 'manager'),
  availability: fc.constantFrom('active', 'pause', 'drain'),
});

const genericResource: fc.Arbitrary<GenericResource> = fc.oneof(
  fc.record({ kind: text, name: fc.constant(''), amount: whole }),
  fc.record({ kind: text, name: fc.string({ minLength: 1 }), amount: fc.constant(1) }),
);
const genericResources = fc.array(genericResource, { maxLength: 2 });

export const description: fc.Arbitrary<NodeDescription> = fc.record({
  hostname: text,
  os: text,
  architecture: text,
  kernel: text,
  nanoCpus: whole,
  memoryBytes: whole,
  engineVersion: text,
  engineLabels: plainLabels,
  machineId: text,
  genericResources,
});

export const node: fc.Arbitrary<Node> = fc.record({
  ...base,
  spec: nodeSpec,
  description,
  role: fc.constantFrom('worker', 'manager'),
  state: fc.constantFrom('unknown', 'down', 'ready', 'disconnected'),
  stateMessage: text,
  address: text,
  port: u32,
  hostIndex: u32,
  manager: fc.option(fc.record({ raftId: whole, address: text }), { nil: undefined }),
  downSinceMs: whole,
  availableSinceMs: whole,
  specVersion: whole,
  certificateSerial: text,
  tls: fc.record({ issuer: text, trust: text, wantedIssuer: text }),
});

const references = fc.array(
  fc.record({ id: text, name: text, target: text, uid: text, gid: text, mode: u32 }),
  { maxLength: 2 },
);

const container: fc.Arbitrary<ContainerSpec> = fc.record({
  image: text,
  labels: plainLabels,
  command: texts,
  args: texts,
  env: texts,
  workingDir: text,
  user: text,
  groups: texts,
  hostname: text,
  mounts: fc.array(
    fc.record({
      type: fc.constantFrom('bind' as const, 'tmpfs' as const, 'volume' as const),
      source: text,
      target: text,
      readOnly: fc.boolean(),
      tmpfsSizeBytes: whole,
      tmpfsMode: u32,
      propagation: fc.constantFrom('' as const, ...PROPAGATIONS),
      nonRecursive: fc.boolean(),
      createSource: fc.boolean(),
      volume: fc.option(
        fc.record({
          labels: plainLabels,
          driver: fc.constantFrom('', 'local'),
          driverOptions: plainLabels,
          noCopy: fc.boolean(),
        }),
        { nil: undefined },
      ),
    }),
    { maxLength: 2 },
  ),
  readOnlyRoot: fc.boolean(),
  tty: fc.boolean(),
  stopSignal: text,
  stopGraceMs: whole,
  capabilityAdd: texts,
  capabilityDrop: texts,
  sysctls: plainLabels,
  hosts: texts,
  dnsServers: texts,
  dnsSearch: texts,
  dnsOptions: texts,
  secrets: references,
  configs: references,
  healthCheck: fc.option(
    fc.record({
      test: texts,
      intervalMs: whole,
      timeoutMs: whole,
      retries: u32,
      startPeriodMs: whole,
      startIntervalMs: whole,
    }),
    { nil: undefined },
  ),
  init: fc.constantFrom(undefined, true, false),
  ulimits: fc.array(fc.record({ name: text, soft: fc.maxSafeInteger(), hard: whole }), {
    maxLength: 2,
  }),
  oomScoreAdj: fc.integer({ min: -1000, max: 1000 }),
  userns: fc.constantFrom('' as const, 'host' as const, 'own' as const),
  noNewPrivileges: fc.boolean(),
  selinuxDisabled: fc.boolean(),
  seccomp: fc.constantFrom('default' as const, 'unconfined' as const, { profile: '{}' }),
  apparmorDisabled: fc.boolean(),
  selinux: fc.constantFrom<Record<string, string>>({}, { type: 'box_t', level: 's0:c1,c2' }),
  openStdin: fc.boolean(),
  registryAuth: text,
});

const resources = fc.record({ nanoCpus: whole, memoryBytes: whole, pids: whole });

export const taskSpec: fc.Arbitrary<TaskSpec> = fc.record({
  container,
  limits: resources,
  reservations: resources,
  genericResources: fc.array(fc.record({ kind: text, name: fc.constant(''), amount: whole }), {
    maxLength: 2,
  }),
  restart: fc.record({
    condition: fc.constantFrom('none' as const, 'on-failure' as const, 'any' as const),
    delayMs: fine,
    maxAttempts: u32,
    windowMs: fine,
  }),
  placement: fc.record({
    constraints: texts,
    maxReplicasPerNode: u32,
    spreadOver: texts,
    platforms: fc.array(fc.record({ os: text, architecture: text }), { maxLength: 2 }),
  }),
  networks: fc.array(
    fc.record(
      {
        target: text,
        aliases: texts,
        addresses: texts,
        driverOptions: plainLabels.filter((entries) => Object.keys(entries).length > 0),
      },
      { requiredKeys: ['target', 'aliases', 'addresses'] },
    ),
    { maxLength: 2 },
  ),
  logDriver: fc.constantFrom('' as const, ...LOG_DRIVERS),
  logOptions: plainLabels,
  forceUpdate: whole,
});

const updateConfig: fc.Arbitrary<UpdateConfig> = fc.record({
  parallelism: u32,
  delayMs: fine,
  failureAction: fc.constantFrom('pause', 'continue', 'rollback'),
  monitorMs: fine,
  maxFailureRatio: fc.double({ min: 0, max: 1, noNaN: true }),
  order: fc.constantFrom('stop-first', 'start-first'),
  progressDeadlineMs: whole,
});

const ports: fc.Arbitrary<PortConfig[]> = fc.array(
  fc.record({
    name: text,
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    targetPort: u32,
    publishedPort: u32,
    publishMode: fc.constantFrom('ingress' as const, 'host' as const),
    hostAddress: text,
  }),
  { maxLength: 2 },
);

const mode: fc.Arbitrary<ServiceMode> = fc.oneof(
  fc.record({ kind: fc.constant('replicated' as const), replicas: u32 }),
  fc.record({ kind: fc.constant('global' as const) }),
  fc.record({
    kind: fc.constant('replicated-job' as const),
    maxConcurrent: u32,
    totalCompletions: u32,
  }),
  fc.record({ kind: fc.constant('global-job' as const) }),
);

const leftOut = fc.subarray(['update', 'rollback'] as const, { minLength: 1 });

export const serviceSpec: fc.Arbitrary<ServiceSpec> = fc.record(
  {
    name: text,
    labels: plainLabels,
    task: taskSpec,
    mode,
    update: updateConfig,
    rollback: updateConfig,
    endpointMode: fc.constantFrom('vip', 'dnsrr'),
    ports,
    networksOnService: fc.constant(true as const),
    leftOut,
  },
  {
    requiredKeys: ['name', 'labels', 'task', 'mode', 'update', 'rollback', 'endpointMode', 'ports'],
  },
);

export const service: fc.Arbitrary<Service> = fc.record({
  ...base,
  spec: serviceSpec,
  previousSpec: fc.option(serviceSpec, { nil: undefined }),
  specVersion: whole,
  update: fc.option(
    fc.record({
      state: fc.constantFrom(
        'updating' as const,
        'paused' as const,
        'completed' as const,
        'rollback_started' as const,
        'rollback_paused' as const,
        'rollback_completed' as const,
      ),
      startedAtMs: whole,
      completedAtMs: whole,
      message: text,
    }),
    { nil: undefined },
  ),
  virtualAddresses: fc.array(fc.record({ networkId: text, address: text }), { maxLength: 2 }),
  ports,
  allocatedVersion: whole,
  job: fc.option(fc.record({ iteration: whole, lastExecutionMs: whole }), { nil: undefined }),
});

export const taskStatus: fc.Arbitrary<TaskStatus> = fc.record({
  state,
  atMs: whole,
  message: text,
  error: text,
  containerId: text,
  pid: u32,
  exitCode: fc.integer(),
  oomKilled: fc.boolean(),
  gatewayAddress: text,
  phases: fc
    .array(fc.tuple(state, whole), { maxLength: 3 })
    .map((entries) => Object.fromEntries(entries) as Record<number, number>),
});

export const task: fc.Arbitrary<Task> = fc.record({
  ...base,
  serviceId: text,
  serviceName: text,
  slot: u32,
  generation: whole,
  nodeId: text,
  spec: taskSpec,
  serviceLabels: plainLabels,
  specVersion: whole,
  desiredState: state,
  status: taskStatus,
  networks: fc.array(fc.record({ networkId: text, address: text, aliases: texts }), {
    maxLength: 2,
  }),
  ports,
  notBeforeMs: whole,
  movedFrom: text,
  jobIteration: fc.option(whole, { nil: undefined }),
  genericResources,
});

const data = {
  ...base,
  spec: fc.record({
    name: text,
    labels: plainLabels,
    data: fc.uint8Array({ maxLength: 20 }),
    templating: fc.constantFrom('' as const, 'golang' as const),
  }),
};
export const secret: fc.Arbitrary<Secret> = fc.record(data);
export const config: fc.Arbitrary<Config> = fc.record(data);

export const networkSpec: fc.Arbitrary<NetworkSpec> = fc.record({
  name: text,
  labels: plainLabels,
  driver: fc.constant('overlay' as const),
  internal: fc.boolean(),
  attachable: fc.boolean(),
  ipv6: fc.boolean(),
  subnet: text,
  gateway: text,
  subnet6: text,
  range: text,
  options: plainLabels,
});

export const network: fc.Arbitrary<Network> = fc.record({
  ...base,
  spec: networkSpec,
  vni: u32,
  subnet: text,
  gateway: text,
  error: text,
});
