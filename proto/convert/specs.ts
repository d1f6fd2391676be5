/**
 * What users ask for, model <-> wire: one validating encode and one decode per type. Decoding
 * checks that words and numbers are known and fit; whether a spec makes sense is model/validate's
 * business.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type {
  ClusterSpec,
  ContainerSpec,
  MountSpec,
  NetworkAttachmentSpec,
  NetworkSpec,
  NodeSpec,
  Placement,
  PortConfig,
  Resources,
  RestartPolicy,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from '../../model/types.ts';
import {
  ClusterSpecSchema,
  type ContainerSpecSchema,
  type MountSpecSchema,
  NetworkSpecSchema,
  NodeSpecSchema,
  type PlacementSchema,
  type PortConfigSchema,
  type ResourcesSchema,
  type RestartPolicySchema,
  type ServiceModeSchema,
  ServiceSpecSchema,
  TaskSpecSchema,
  type UpdateConfigSchema,
  type ClusterSpec as WireClusterSpec,
  type ContainerSpec as WireContainerSpec,
  type MountSpec as WireMountSpec,
  type NetworkSpec as WireNetworkSpec,
  type NodeSpec as WireNodeSpec,
  type Placement as WirePlacement,
  type PortConfig as WirePortConfig,
  type Resources as WireResources,
  type RestartPolicy as WireRestartPolicy,
  type ServiceMode as WireServiceMode,
  type ServiceSpec as WireServiceSpec,
  type TaskSpec as WireTaskSpec,
  type UpdateConfig as WireUpdateConfig,
} from '../gen/tsswarm/v1/objects_pb.js';
import { referenceFromWire, referenceToWire } from './data.ts';
import { fromU64, need, toU32, toU64, word } from './values.ts';

export const ROLES = ['worker', 'manager'] as const;
export const AVAILABILITIES = ['active', 'pause', 'drain'] as const;
const RESTART_CONDITIONS = ['none', 'on-failure', 'any'] as const;
const MOUNT_TYPES = ['bind', 'tmpfs', 'volume'] as const;
const FAILURE_ACTIONS = ['pause', 'continue', 'rollback'] as const;
const UPDATE_ORDERS = ['stop-first', 'start-first'] as const;
const ENDPOINT_MODES = ['vip', 'dnsrr'] as const;
const PROTOCOLS = ['tcp', 'udp'] as const;
const PUBLISH_MODES = ['ingress', 'host'] as const;

export function clusterSpecToWire(spec: ClusterSpec): WireClusterSpec {
  return create(ClusterSpecSchema, {
    name: spec.name,
    labels: spec.labels,
    taskHistoryLimit: toU32(spec.taskHistoryLimit, 'taskHistoryLimit'),
    heartbeatPeriodMs: toU64(spec.heartbeatPeriodMs, 'heartbeatPeriodMs'),
    certificateExpiryMs: toU64(spec.certificateExpiryMs, 'certificateExpiryMs'),
    snapshotInterval: toU64(spec.snapshotInterval, 'snapshotInterval'),
    logEntriesForSlowFollowers: toU64(
      spec.logEntriesForSlowFollowers,
      'logEntriesForSlowFollowers',
    ),
    autoLockManagers: spec.autoLockManagers,
  });
}

export function clusterSpecFromWire(wire: WireClusterSpec): ClusterSpec {
  return {
    name: wire.name,
    labels: wire.labels,
    taskHistoryLimit: wire.taskHistoryLimit,
    heartbeatPeriodMs: fromU64(wire.heartbeatPeriodMs, 'heartbeatPeriodMs'),
    certificateExpiryMs: fromU64(wire.certificateExpiryMs, 'certificateExpiryMs'),
    snapshotInterval: fromU64(wire.snapshotInterval, 'snapshotInterval'),
    logEntriesForSlowFollowers: fromU64(
      wire.logEntriesForSlowFollowers,
      'logEntriesForSlowFollowers',
    ),
    autoLockManagers: wire.autoLockManagers,
  };
}

export function nodeSpecToWire(spec: NodeSpec): WireNodeSpec {
  return create(NodeSpecSchema, {
    name: spec.name,
    labels: spec.labels,
    role: spec.role,
    availability: spec.availability,
  });
}

export function nodeSpecFromWire(wire: WireNodeSpec): NodeSpec {
  return {
    name: wire.name,
    labels: wire.labels,
    role: word(wire.role, ROLES, 'role'),
    availability: word(wire.availability, AVAILABILITIES, 'availability'),
  };
}

export function networkSpecToWire(spec: NetworkSpec): WireNetworkSpec {
  return create(NetworkSpecSchema, {
    name: spec.name,
    labels: spec.labels,
    driver: spec.driver,
    internal: spec.internal,
    attachable: spec.attachable,
    ipv6: spec.ipv6,
    subnet: spec.subnet,
    gateway: spec.gateway,
    range: spec.range,
    options: spec.options,
  });
}

export function networkSpecFromWire(wire: WireNetworkSpec): NetworkSpec {
  return {
    name: wire.name,
    labels: wire.labels,
    driver: word(wire.driver, ['overlay'], 'driver'),
    internal: wire.internal,
    attachable: wire.attachable,
    ipv6: wire.ipv6,
    subnet: wire.subnet,
    gateway: wire.gateway,
    range: wire.range,
    options: wire.options,
  };
}

function mountToWire(mount: MountSpec): MessageInitShape<typeof MountSpecSchema> {
  return {
    type: mount.type,
    source: mount.source,
    target: mount.target,
    readOnly: mount.readOnly,
    tmpfsSizeBytes: toU64(mount.tmpfsSizeBytes, 'tmpfsSizeBytes'),
    tmpfsMode: toU32(mount.tmpfsMode, 'tmpfsMode'),
  };
}

function mountFromWire(wire: WireMountSpec): MountSpec {
  return {
    type: word(wire.type, MOUNT_TYPES, 'mount type'),
    source: wire.source,
    target: wire.target,
    readOnly: wire.readOnly,
    tmpfsSizeBytes: fromU64(wire.tmpfsSizeBytes, 'tmpfsSizeBytes'),
    tmpfsMode: wire.tmpfsMode,
  };
}

function containerToWire(spec: ContainerSpec): MessageInitShape<typeof ContainerSpecSchema> {
  return {
    image: spec.image,
    labels: spec.labels,
    command: [...spec.command],
    args: [...spec.args],
    env: [...spec.env],
    workingDir: spec.workingDir,
    user: spec.user,
    groups: [...spec.groups],
    hostname: spec.hostname,
    mounts: spec.mounts.map(mountToWire),
    readOnlyRoot: spec.readOnlyRoot,
    tty: spec.tty,
    stopSignal: spec.stopSignal,
    stopGraceMs: toU64(spec.stopGraceMs, 'stopGraceMs'),
    capabilityAdd: [...spec.capabilityAdd],
    capabilityDrop: [...spec.capabilityDrop],
    sysctls: spec.sysctls,
    hosts: [...spec.hosts],
    dnsServers: [...spec.dnsServers],
    dnsSearch: [...spec.dnsSearch],
    dnsOptions: [...spec.dnsOptions],
    secrets: spec.secrets.map(referenceToWire),
    configs: spec.configs.map(referenceToWire),
  };
}

function containerFromWire(wire: WireContainerSpec): ContainerSpec {
  return {
    image: wire.image,
    labels: wire.labels,
    command: wire.command,
    args: wire.args,
    env: wire.env,
    workingDir: wire.workingDir,
    user: wire.user,
    groups: wire.groups,
    hostname: wire.hostname,
    mounts: wire.mounts.map(mountFromWire),
    readOnlyRoot: wire.readOnlyRoot,
    tty: wire.tty,
    stopSignal: wire.stopSignal,
    stopGraceMs: fromU64(wire.stopGraceMs, 'stopGraceMs'),
    capabilityAdd: wire.capabilityAdd,
    capabilityDrop: wire.capabilityDrop,
    sysctls: wire.sysctls,
    hosts: wire.hosts,
    dnsServers: wire.dnsServers,
    dnsSearch: wire.dnsSearch,
    dnsOptions: wire.dnsOptions,
    secrets: wire.secrets.map(referenceFromWire),
    configs: wire.configs.map(referenceFromWire),
  };
}

function resourcesToWire(value: Resources): MessageInitShape<typeof ResourcesSchema> {
  return {
    nanoCpus: toU64(value.nanoCpus, 'nanoCpus'),
    memoryBytes: toU64(value.memoryBytes, 'memoryBytes'),
    pids: toU64(value.pids, 'pids'),
  };
}

function resourcesFromWire(wire: WireResources): Resources {
  return {
    nanoCpus: fromU64(wire.nanoCpus, 'nanoCpus'),
    memoryBytes: fromU64(wire.memoryBytes, 'memoryBytes'),
    pids: fromU64(wire.pids, 'pids'),
  };
}

function restartToWire(policy: RestartPolicy): MessageInitShape<typeof RestartPolicySchema> {
  return {
    condition: policy.condition,
    delayMs: toU64(policy.delayMs, 'restart delayMs'),
    maxAttempts: toU32(policy.maxAttempts, 'maxAttempts'),
    windowMs: toU64(policy.windowMs, 'windowMs'),
  };
}

function restartFromWire(wire: WireRestartPolicy): RestartPolicy {
  return {
    condition: word(wire.condition, RESTART_CONDITIONS, 'restart condition'),
    delayMs: fromU64(wire.delayMs, 'restart delayMs'),
    maxAttempts: wire.maxAttempts,
    windowMs: fromU64(wire.windowMs, 'windowMs'),
  };
}

function placementToWire(placement: Placement): MessageInitShape<typeof PlacementSchema> {
  return {
    constraints: [...placement.constraints],
    maxReplicasPerNode: toU32(placement.maxReplicasPerNode, 'maxReplicasPerNode'),
    spreadOver: [...placement.spreadOver],
    platforms: placement.platforms.map(({ os, architecture }) => ({ os, architecture })),
  };
}

function placementFromWire(wire: WirePlacement): Placement {
  return {
    constraints: wire.constraints,
    maxReplicasPerNode: wire.maxReplicasPerNode,
    spreadOver: wire.spreadOver,
    platforms: wire.platforms.map(({ os, architecture }) => ({ os, architecture })),
  };
}

function attachmentFromWire(wire: { target: string; aliases: string[] }): NetworkAttachmentSpec {
  return { target: wire.target, aliases: wire.aliases };
}

export function taskSpecToWire(spec: TaskSpec): WireTaskSpec {
  return create(TaskSpecSchema, {
    container: containerToWire(spec.container),
    limits: resourcesToWire(spec.limits),
    reservations: resourcesToWire(spec.reservations),
    restart: restartToWire(spec.restart),
    placement: placementToWire(spec.placement),
    networks: spec.networks.map(({ target, aliases }) => ({ target, aliases: [...aliases] })),
    logOptions: spec.logOptions,
    forceUpdate: toU64(spec.forceUpdate, 'forceUpdate'),
  });
}

export function taskSpecFromWire(wire: WireTaskSpec): TaskSpec {
  return {
    container: containerFromWire(need(wire.container, 'task.container')),
    limits: resourcesFromWire(need(wire.limits, 'task.limits')),
    reservations: resourcesFromWire(need(wire.reservations, 'task.reservations')),
    restart: restartFromWire(need(wire.restart, 'task.restart')),
    placement: placementFromWire(need(wire.placement, 'task.placement')),
    networks: wire.networks.map(attachmentFromWire),
    logOptions: wire.logOptions,
    forceUpdate: fromU64(wire.forceUpdate, 'forceUpdate'),
  };
}

function updateConfigToWire(config: UpdateConfig): MessageInitShape<typeof UpdateConfigSchema> {
  return {
    parallelism: toU32(config.parallelism, 'parallelism'),
    delayMs: toU64(config.delayMs, 'update delayMs'),
    failureAction: config.failureAction,
    monitorMs: toU64(config.monitorMs, 'monitorMs'),
    maxFailureRatio: config.maxFailureRatio,
    order: config.order,
  };
}

function updateConfigFromWire(wire: WireUpdateConfig): UpdateConfig {
  return {
    parallelism: wire.parallelism,
    delayMs: fromU64(wire.delayMs, 'update delayMs'),
    failureAction: word(wire.failureAction, FAILURE_ACTIONS, 'failure action'),
    monitorMs: fromU64(wire.monitorMs, 'monitorMs'),
    maxFailureRatio: wire.maxFailureRatio,
    order: word(wire.order, UPDATE_ORDERS, 'update order'),
  };
}

export function portToWire(port: PortConfig): MessageInitShape<typeof PortConfigSchema> {
  return {
    name: port.name,
    protocol: port.protocol,
    targetPort: toU32(port.targetPort, 'targetPort'),
    publishedPort: toU32(port.publishedPort, 'publishedPort'),
    publishMode: port.publishMode,
  };
}

export function portFromWire(wire: WirePortConfig): PortConfig {
  return {
    name: wire.name,
    protocol: word(wire.protocol, PROTOCOLS, 'protocol'),
    targetPort: wire.targetPort,
    publishedPort: wire.publishedPort,
    publishMode: word(wire.publishMode, PUBLISH_MODES, 'publish mode'),
  };
}

function modeToWire(mode: ServiceMode): MessageInitShape<typeof ServiceModeSchema> {
  return mode.kind === 'global'
    ? { mode: { case: 'global', value: true } }
    : { mode: { case: 'replicated', value: toU32(mode.replicas, 'replicas') } };
}

function modeFromWire(wire: WireServiceMode): ServiceMode {
  switch (wire.mode.case) {
    case 'global':
      return { kind: 'global' };
    case 'replicated':
      return { kind: 'replicated', replicas: wire.mode.value };
    default:
      return need<ServiceMode>(undefined, 'service.mode');
  }
}

export function serviceSpecToWire(spec: ServiceSpec): WireServiceSpec {
  return create(ServiceSpecSchema, {
    name: spec.name,
    labels: spec.labels,
    task: taskSpecToWire(spec.task),
    mode: modeToWire(spec.mode),
    update: updateConfigToWire(spec.update),
    rollback: updateConfigToWire(spec.rollback),
    endpointMode: spec.endpointMode,
    ports: spec.ports.map(portToWire),
  });
}

export function serviceSpecFromWire(wire: WireServiceSpec): ServiceSpec {
  return {
    name: wire.name,
    labels: wire.labels,
    task: taskSpecFromWire(need(wire.task, 'service.task')),
    mode: modeFromWire(need(wire.mode, 'service.mode')),
    update: updateConfigFromWire(need(wire.update, 'service.update')),
    rollback: updateConfigFromWire(need(wire.rollback, 'service.rollback')),
    endpointMode: word(wire.endpointMode, ENDPOINT_MODES, 'endpoint mode'),
    ports: wire.ports.map(portFromWire),
  };
}
