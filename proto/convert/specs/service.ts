/**
 * What users ask of a service and its tasks, model <-> wire. Decoding checks that words and numbers
 * are known and fit, and gives what was written before a field existed its default; whether a
 * specification makes sense is model/validate's business.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { DEFAULT_UPDATE_CONFIG } from '../../../model/defaults.ts';
import {
  type GenericResource,
  LOG_DRIVERS,
  type NetworkAttachmentSpec,
  type Placement,
  type PortConfig,
  type Resources,
  type RestartPolicy,
  type ServiceMode,
  type ServiceSpec,
  type TaskSpec,
  type UpdateConfig,
} from '../../../model/types.ts';
import {
  type GenericResourceSchema,
  type NetworkAttachmentSpecSchema,
  type PlacementSchema,
  type PortConfigSchema,
  type ResourcesSchema,
  type RestartPolicySchema,
  type ServiceModeSchema,
  ServiceSpecSchema,
  TaskSpecSchema,
  type UpdateConfigSchema,
  type GenericResource as WireGenericResource,
  type NetworkAttachmentSpec as WireNetworkAttachmentSpec,
  type Placement as WirePlacement,
  type PortConfig as WirePortConfig,
  type Resources as WireResources,
  type RestartPolicy as WireRestartPolicy,
  type ServiceMode as WireServiceMode,
  type ServiceSpec as WireServiceSpec,
  type TaskSpec as WireTaskSpec,
  type UpdateConfig as WireUpdateConfig,
} from '../../gen/tsswarm/v1/objects_pb.js';
import { fromU64, joinMs, need, restNs, toU32, toU64, wholeMs, word } from '../values.ts';
import { containerFromWire, containerToWire } from './container.ts';

const LEFT_OUT = ['update', 'rollback'] as const;
const RESTART_CONDITIONS = ['none', 'on-failure', 'any'] as const;
const FAILURE_ACTIONS = ['pause', 'continue', 'rollback'] as const;
const UPDATE_ORDERS = ['stop-first', 'start-first'] as const;
const ENDPOINT_MODES = ['vip', 'dnsrr'] as const;
export const PROTOCOLS = ['tcp', 'udp'] as const;
const PUBLISH_MODES = ['ingress', 'host'] as const;

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
    delayMs: wholeMs(policy.delayMs, 'restart delayMs'),
    delayNs: restNs(policy.delayMs),
    maxAttempts: toU32(policy.maxAttempts, 'maxAttempts'),
    windowMs: wholeMs(policy.windowMs, 'windowMs'),
    windowNs: restNs(policy.windowMs),
  };
}

function restartFromWire(wire: WireRestartPolicy): RestartPolicy {
  return {
    condition: word(wire.condition, RESTART_CONDITIONS, 'restart condition'),
    delayMs: joinMs(wire.delayMs, wire.delayNs, 'restart delayMs'),
    maxAttempts: wire.maxAttempts,
    windowMs: joinMs(wire.windowMs, wire.windowNs, 'windowMs'),
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

function attachmentToWire(
  item: NetworkAttachmentSpec,
): MessageInitShape<typeof NetworkAttachmentSpecSchema> {
  const { target, aliases, addresses, driverOptions = {} } = item;
  return { target, aliases: [...aliases], addresses: [...addresses], driverOptions };
}

function attachmentFromWire(wire: WireNetworkAttachmentSpec): NetworkAttachmentSpec {
  const { target, aliases, addresses, driverOptions } = wire;
  const some = Object.keys(driverOptions).length > 0;
  return { target, aliases, addresses, ...(some ? { driverOptions } : {}) };
}

export function genericToWire(
  resource: GenericResource,
): MessageInitShape<typeof GenericResourceSchema> {
  const { kind, name, amount } = resource;
  return { kind, name, amount: toU64(amount, `generic resource ${kind}`) };
}

export function genericFromWire(wire: WireGenericResource): GenericResource {
  const { kind, name, amount } = wire;
  return { kind, name, amount: fromU64(amount, `generic resource ${kind}`) };
}

export function taskSpecToWire(spec: TaskSpec): WireTaskSpec {
  return create(TaskSpecSchema, {
    container: containerToWire(spec.container),
    limits: resourcesToWire(spec.limits),
    reservations: resourcesToWire(spec.reservations),
    restart: restartToWire(spec.restart),
    placement: placementToWire(spec.placement),
    networks: spec.networks.map(attachmentToWire),
    logDriver: spec.logDriver,
    logOptions: spec.logOptions,
    genericResources: spec.genericResources.map(genericToWire),
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
    logDriver: word(wire.logDriver, ['', ...LOG_DRIVERS], 'log driver'),
    logOptions: wire.logOptions,
    genericResources: wire.genericResources.map(genericFromWire),
    forceUpdate: fromU64(wire.forceUpdate, 'forceUpdate'),
  };
}

function updateConfigToWire(config: UpdateConfig): MessageInitShape<typeof UpdateConfigSchema> {
  return {
    parallelism: toU32(config.parallelism, 'parallelism'),
    delayMs: wholeMs(config.delayMs, 'update delayMs'),
    delayNs: restNs(config.delayMs),
    failureAction: config.failureAction,
    monitorMs: wholeMs(config.monitorMs, 'monitorMs'),
    monitorNs: restNs(config.monitorMs),
    maxFailureRatio: config.maxFailureRatio,
    order: config.order,
    progressDeadlineMs: toU64(config.progressDeadlineMs, 'progressDeadlineMs'),
  };
}

function updateConfigFromWire(wire: WireUpdateConfig): UpdateConfig {
  return {
    parallelism: wire.parallelism,
    delayMs: joinMs(wire.delayMs, wire.delayNs, 'update delayMs'),
    failureAction: word(wire.failureAction, FAILURE_ACTIONS, 'failure action'),
    monitorMs: joinMs(wire.monitorMs, wire.monitorNs, 'monitorMs'),
    maxFailureRatio: wire.maxFailureRatio,
    order: word(wire.order, UPDATE_ORDERS, 'update order'),
    progressDeadlineMs:
      wire.progressDeadlineMs === undefined
        ? DEFAULT_UPDATE_CONFIG.progressDeadlineMs
        : fromU64(wire.progressDeadlineMs, 'progressDeadlineMs'),
  };
}

export function portToWire(port: PortConfig): MessageInitShape<typeof PortConfigSchema> {
  return {
    name: port.name,
    protocol: port.protocol,
    targetPort: toU32(port.targetPort, 'targetPort'),
    publishedPort: toU32(port.publishedPort, 'publishedPort'),
    publishMode: port.publishMode,
    hostAddress: port.hostAddress,
  };
}

export function portFromWire(wire: WirePortConfig): PortConfig {
  return {
    name: wire.name,
    protocol: word(wire.protocol, PROTOCOLS, 'protocol'),
    targetPort: wire.targetPort,
    publishedPort: wire.publishedPort,
    publishMode: word(wire.publishMode, PUBLISH_MODES, 'publish mode'),
    hostAddress: wire.hostAddress,
  };
}

function modeToWire(mode: ServiceMode): MessageInitShape<typeof ServiceModeSchema> {
  switch (mode.kind) {
    case 'replicated':
      return { mode: { case: 'replicated', value: toU32(mode.replicas, 'replicas') } };
    case 'global':
      return { mode: { case: 'global', value: true } };
    case 'replicated-job': {
      const maxConcurrent = toU32(mode.maxConcurrent, 'maxConcurrent');
      const totalCompletions = toU32(mode.totalCompletions, 'totalCompletions');
      return { mode: { case: 'replicatedJob', value: { maxConcurrent, totalCompletions } } };
    }
    case 'global-job':
      return { mode: { case: 'globalJob', value: true } };
  }
}

function modeFromWire(wire: WireServiceMode): ServiceMode {
  switch (wire.mode.case) {
    case 'replicated':
      return { kind: 'replicated', replicas: wire.mode.value };
    case 'global':
      return { kind: 'global' };
    case 'replicatedJob': {
      const { maxConcurrent, totalCompletions } = wire.mode.value;
      return { kind: 'replicated-job', maxConcurrent, totalCompletions };
    }
    case 'globalJob':
      return { kind: 'global-job' };
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
    networksOnService: spec.networksOnService === true,
    leftOut: [...(spec.leftOut ?? [])],
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
    ...(wire.networksOnService ? { networksOnService: true } : {}),
    ...(wire.leftOut.length === 0
      ? {}
      : { leftOut: wire.leftOut.map((part) => word(part, LEFT_OUT, 'left out')) }),
  };
}
