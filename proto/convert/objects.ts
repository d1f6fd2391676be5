/**
 * The store's objects, model <-> wire: one validating encode and one decode per type, and any
 * object as bytes. What is absent in the model (undefined) is absent on the wire.
 */
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { unreachable } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import { isTaskState, type TaskState } from '../../model/taskState.ts';
import type {
  AnyObject,
  Cluster,
  Network,
  Node,
  NodeDescription,
  ObjectBase,
  Service,
  TableName,
  Tables,
  Task,
  TaskStatus,
  UpdateStatus,
} from '../../model/types.ts';
import { encodeMessage } from '../encode.ts';
import {
  type ClusterSchema,
  type NetworkSchema,
  NodeDescriptionSchema,
  type NodeSchema,
  ObjectSchema,
  type ServiceSchema,
  type TaskSchema,
  TaskStatusSchema,
  type UpdateStatusSchema,
  type Cluster as WireCluster,
  type Network as WireNetwork,
  type Node as WireNode,
  type NodeDescription as WireNodeDescription,
  type Object$ as WireObject,
  type Service as WireService,
  type Task as WireTask,
  type TaskStatus as WireTaskStatus,
  type UpdateStatus as WireUpdateStatus,
} from '../gen/tsswarm/v1/objects_pb.js';
import { dataSpecFromWire, dataSpecToWire } from './data.ts';
import {
  clusterSpecFromWire,
  clusterSpecToWire,
  networkSpecFromWire,
  networkSpecToWire,
  nodeSpecFromWire,
  nodeSpecToWire,
  ROLES,
} from './specs/cluster.ts';
import {
  genericFromWire,
  genericToWire,
  portFromWire,
  portToWire,
  serviceSpecFromWire,
  serviceSpecToWire,
  taskSpecFromWire,
  taskSpecToWire,
} from './specs/service.ts';
import { taskFromBytes } from './taskBytes.ts';
import { fromU64, need, toU32, toU64, word } from './values.ts';

export type { WireNodeDescription, WireObject, WireTaskStatus };

/** An object together with the table it lives in. */
export type TableObject = {
  [T in TableName]: { readonly table: T; readonly object: Tables[T] };
}[TableName];

const NODE_STATES = ['unknown', 'down', 'ready', 'disconnected'] as const;
const UPDATE_STATES = [
  'updating',
  'paused',
  'completed',
  'rollback_started',
  'rollback_paused',
  'rollback_completed',
] as const;

function taskState(value: number, field: string): TaskState {
  if (!isTaskState(value)) throw new SwarmError('invalid', `${field}: ${value} is no task state`);
  return value;
}

export function descriptionToWire(description: NodeDescription): WireNodeDescription {
  return create(NodeDescriptionSchema, {
    hostname: description.hostname,
    os: description.os,
    architecture: description.architecture,
    kernel: description.kernel,
    nanoCpus: toU64(description.nanoCpus, 'nanoCpus'),
    memoryBytes: toU64(description.memoryBytes, 'memoryBytes'),
    engineVersion: description.engineVersion,
    engineLabels: description.engineLabels,
    machineId: description.machineId,
    genericResources: description.genericResources.map(genericToWire),
  });
}

export function descriptionFromWire(wire: WireNodeDescription): NodeDescription {
  return {
    hostname: wire.hostname,
    os: wire.os,
    architecture: wire.architecture,
    kernel: wire.kernel,
    nanoCpus: fromU64(wire.nanoCpus, 'nanoCpus'),
    memoryBytes: fromU64(wire.memoryBytes, 'memoryBytes'),
    engineVersion: wire.engineVersion,
    engineLabels: wire.engineLabels,
    machineId: wire.machineId,
    genericResources: wire.genericResources.map(genericFromWire),
  };
}

export function taskStatusToWire(status: TaskStatus): WireTaskStatus {
  const phases: Record<number, bigint> = {};
  for (const [state, atMs] of Object.entries(status.phases)) {
    phases[Number(state)] = toU64(atMs, 'phase');
  }
  return create(TaskStatusSchema, {
    state: status.state,
    atMs: toU64(status.atMs, 'status.atMs'),
    message: status.message,
    error: status.error,
    containerId: status.containerId,
    pid: toU32(status.pid, 'pid'),
    exitCode: status.exitCode,
    oomKilled: status.oomKilled,
    gatewayAddress: status.gatewayAddress,
    phases,
  });
}

export function taskStatusFromWire(wire: WireTaskStatus): TaskStatus {
  const phases: Record<number, number> = {};
  for (const [state, atMs] of Object.entries(wire.phases)) {
    phases[taskState(Number(state), 'phase')] = fromU64(atMs, 'phase');
  }
  return {
    state: taskState(wire.state, 'status.state'),
    atMs: fromU64(wire.atMs, 'status.atMs'),
    message: wire.message,
    error: wire.error,
    containerId: wire.containerId,
    pid: wire.pid,
    exitCode: wire.exitCode,
    oomKilled: wire.oomKilled,
    gatewayAddress: wire.gatewayAddress,
    phases,
  };
}

function clusterToWire(cluster: Cluster): MessageInitShape<typeof ClusterSchema> {
  return {
    spec: clusterSpecToWire(cluster.spec),
    rootCaCertificate: cluster.rootCaCertificate,
    rootCaKey: cluster.rootCaKey,
    unlockKey: cluster.unlockKey,
    ...(cluster.rootRotation === undefined ? {} : { rootRotation: cluster.rootRotation }),
    joinSecretWorker: cluster.joinSecretWorker,
    joinSecretManager: cluster.joinSecretManager,
    addressPools: [...cluster.addressPools],
    subnetSize: toU32(cluster.subnetSize, 'subnetSize'),
    vxlanPort: toU32(cluster.vxlanPort, 'vxlanPort'),
    removedRaftIds: cluster.removedRaftIds.map((id) => toU64(id, 'removedRaftIds')),
    removedNodes: cluster.removedNodes.map(({ id, untilMs }) => ({
      id,
      untilMs: toU64(untilMs, 'untilMs'),
    })),
    rebalanceAtMs: toU64(cluster.rebalanceAtMs, 'rebalanceAtMs'),
  };
}

function rotationFromWire(wire: WireCluster['rootRotation']): Cluster['rootRotation'] {
  if (wire === undefined) return undefined;
  const { certificate, privateKey, crossSigned } = wire;
  return { certificate, privateKey, crossSigned };
}

function clusterFromWire(base: ObjectBase, wire: WireCluster): Cluster {
  return {
    ...base,
    spec: clusterSpecFromWire(need(wire.spec, 'cluster.spec')),
    rootCaCertificate: wire.rootCaCertificate,
    rootCaKey: wire.rootCaKey,
    unlockKey: wire.unlockKey,
    rootRotation: rotationFromWire(wire.rootRotation),
    joinSecretWorker: wire.joinSecretWorker,
    joinSecretManager: wire.joinSecretManager,
    addressPools: wire.addressPools,
    subnetSize: wire.subnetSize,
    vxlanPort: wire.vxlanPort,
    removedRaftIds: wire.removedRaftIds.map((id) => fromU64(id, 'removedRaftIds')),
    removedNodes: wire.removedNodes.map(({ id, untilMs }) => ({
      id,
      untilMs: fromU64(untilMs, 'untilMs'),
    })),
    rebalanceAtMs: fromU64(wire.rebalanceAtMs, 'rebalanceAtMs'),
  };
}

function nodeToWire(node: Node): MessageInitShape<typeof NodeSchema> {
  return {
    spec: nodeSpecToWire(node.spec),
    description: descriptionToWire(node.description),
    role: node.role,
    state: node.state,
    stateMessage: node.stateMessage,
    address: node.address,
    port: toU32(node.port, 'port'),
    hostIndex: toU32(node.hostIndex, 'hostIndex'),
    ...(node.manager === undefined
      ? {}
      : {
          manager: {
            raftId: toU64(node.manager.raftId, 'raftId'),
            address: node.manager.address,
          },
        }),
    downSinceMs: toU64(node.downSinceMs, 'downSinceMs'),
    availableSinceMs: toU64(node.availableSinceMs, 'availableSinceMs'),
    specVersion: toU64(node.specVersion, 'specVersion'),
    certificateSerial: node.certificateSerial,
    tls: node.tls,
  };
}

function nodeFromWire(base: ObjectBase, wire: WireNode): Node {
  return {
    ...base,
    spec: nodeSpecFromWire(need(wire.spec, 'node.spec')),
    description: descriptionFromWire(need(wire.description, 'node.description')),
    role: word(wire.role, ROLES, 'role'),
    state: word(wire.state, NODE_STATES, 'node state'),
    stateMessage: wire.stateMessage,
    address: wire.address,
    port: wire.port,
    hostIndex: wire.hostIndex,
    manager:
      wire.manager === undefined
        ? undefined
        : {
            raftId: fromU64(wire.manager.raftId, 'raftId'),
            address: wire.manager.address,
          },
    downSinceMs: fromU64(wire.downSinceMs, 'downSinceMs'),
    availableSinceMs: fromU64(wire.availableSinceMs, 'availableSinceMs'),
    specVersion: fromU64(wire.specVersion, 'specVersion'),
    certificateSerial: wire.certificateSerial,
    tls: {
      issuer: wire.tls?.issuer ?? '',
      trust: wire.tls?.trust ?? '',
      wantedIssuer: wire.tls?.wantedIssuer ?? '',
    },
  };
}

function updateStatusToWire(status: UpdateStatus): MessageInitShape<typeof UpdateStatusSchema> {
  return {
    state: status.state,
    startedAtMs: toU64(status.startedAtMs, 'startedAtMs'),
    completedAtMs: toU64(status.completedAtMs, 'completedAtMs'),
    message: status.message,
  };
}

function updateStatusFromWire(wire: WireUpdateStatus): UpdateStatus {
  return {
    state: word(wire.state, UPDATE_STATES, 'update state'),
    startedAtMs: fromU64(wire.startedAtMs, 'startedAtMs'),
    completedAtMs: fromU64(wire.completedAtMs, 'completedAtMs'),
    message: wire.message,
  };
}

function serviceToWire(service: Service): MessageInitShape<typeof ServiceSchema> {
  return {
    spec: serviceSpecToWire(service.spec),
    ...(service.previousSpec === undefined
      ? {}
      : { previousSpec: serviceSpecToWire(service.previousSpec) }),
    specVersion: toU64(service.specVersion, 'specVersion'),
    ...(service.update === undefined ? {} : { update: updateStatusToWire(service.update) }),
    virtualAddresses: service.virtualAddresses.map(({ networkId, address }) => ({
      networkId,
      address,
    })),
    ports: service.ports.map(portToWire),
    allocatedVersion: toU64(service.allocatedVersion, 'allocatedVersion'),
    ...(service.job === undefined
      ? {}
      : {
          job: {
            iteration: toU64(service.job.iteration, 'job.iteration'),
            lastExecutionMs: toU64(service.job.lastExecutionMs, 'job.lastExecutionMs'),
          },
        }),
  };
}

function serviceFromWire(base: ObjectBase, wire: WireService): Service {
  return {
    ...base,
    spec: serviceSpecFromWire(need(wire.spec, 'service.spec')),
    previousSpec:
      wire.previousSpec === undefined ? undefined : serviceSpecFromWire(wire.previousSpec),
    specVersion: fromU64(wire.specVersion, 'specVersion'),
    update: wire.update === undefined ? undefined : updateStatusFromWire(wire.update),
    virtualAddresses: wire.virtualAddresses.map(({ networkId, address }) => ({
      networkId,
      address,
    })),
    ports: wire.ports.map(portFromWire),
    allocatedVersion: fromU64(wire.allocatedVersion, 'allocatedVersion'),
    job:
      wire.job === undefined
        ? undefined
        : {
            iteration: fromU64(wire.job.iteration, 'job.iteration'),
            lastExecutionMs: fromU64(wire.job.lastExecutionMs, 'job.lastExecutionMs'),
          },
  };
}

function taskToWire(task: Task): MessageInitShape<typeof TaskSchema> {
  return {
    serviceId: task.serviceId,
    serviceName: task.serviceName,
    slot: toU32(task.slot, 'slot'),
    generation: toU64(task.generation, 'generation'),
    nodeId: task.nodeId,
    spec: taskSpecToWire(task.spec),
    serviceLabels: task.serviceLabels,
    specVersion: toU64(task.specVersion, 'specVersion'),
    desiredState: task.desiredState,
    status: taskStatusToWire(task.status),
    networks: task.networks.map(({ networkId, address, aliases }) => ({
      networkId,
      address,
      aliases: [...aliases],
    })),
    ports: task.ports.map(portToWire),
    notBeforeMs: toU64(task.notBeforeMs, 'notBeforeMs'),
    movedFrom: task.movedFrom,
    ...(task.jobIteration === undefined
      ? {}
      : { jobIteration: toU64(task.jobIteration, 'jobIteration') }),
    genericResources: task.genericResources.map(genericToWire),
  };
}

function taskFromWire(base: ObjectBase, wire: WireTask): Task {
  return {
    ...base,
    serviceId: wire.serviceId,
    serviceName: wire.serviceName,
    slot: wire.slot,
    generation: fromU64(wire.generation, 'generation'),
    nodeId: wire.nodeId,
    spec: taskSpecFromWire(need(wire.spec, 'task.spec')),
    serviceLabels: wire.serviceLabels,
    specVersion: fromU64(wire.specVersion, 'specVersion'),
    desiredState: taskState(wire.desiredState, 'desiredState'),
    status: taskStatusFromWire(need(wire.status, 'task.status')),
    networks: wire.networks.map(({ networkId, address, aliases }) => ({
      networkId,
      address,
      aliases,
    })),
    ports: wire.ports.map(portFromWire),
    notBeforeMs: fromU64(wire.notBeforeMs, 'notBeforeMs'),
    movedFrom: wire.movedFrom,
    jobIteration:
      wire.jobIteration === undefined ? undefined : fromU64(wire.jobIteration, 'jobIteration'),
    genericResources: wire.genericResources.map(genericFromWire),
  };
}

function networkToWire(network: Network): MessageInitShape<typeof NetworkSchema> {
  return {
    spec: networkSpecToWire(network.spec),
    vni: toU32(network.vni, 'vni'),
    subnet: network.subnet,
    gateway: network.gateway,
    error: network.error,
  };
}

function networkFromWire(base: ObjectBase, wire: WireNetwork): Network {
  return {
    ...base,
    spec: networkSpecFromWire(need(wire.spec, 'network.spec')),
    vni: wire.vni,
    subnet: wire.subnet,
    gateway: wire.gateway,
    error: wire.error,
  };
}

function bodyToWire(value: TableObject): MessageInitShape<typeof ObjectSchema>['body'] {
  switch (value.table) {
    case 'cluster':
      return { case: 'cluster', value: clusterToWire(value.object) };
    case 'node':
      return { case: 'node', value: nodeToWire(value.object) };
    case 'service':
      return { case: 'service', value: serviceToWire(value.object) };
    case 'task':
      return { case: 'task', value: taskToWire(value.object) };
    case 'network':
      return { case: 'network', value: networkToWire(value.object) };
    case 'secret':
      return { case: 'secret', value: { spec: dataSpecToWire(value.object.spec) } };
    case 'config':
      return { case: 'config', value: { spec: dataSpecToWire(value.object.spec) } };
    default:
      return unreachable(value, 'table');
  }
}

export function objectToWire(value: TableObject): MessageInitShape<typeof ObjectSchema> {
  const base: AnyObject = value.object;
  const body = bodyToWire(value);
  return {
    id: base.id,
    version: toU64(base.version, 'version'),
    createdAtMs: toU64(base.createdAtMs, 'createdAtMs'),
    updatedAtMs: toU64(base.updatedAtMs, 'updatedAtMs'),
    ...(body === undefined ? {} : { body }),
  };
}

export function objectFromWire(wire: WireObject): TableObject {
  const base: ObjectBase = {
    id: wire.id,
    version: fromU64(wire.version, 'version'),
    createdAtMs: fromU64(wire.createdAtMs, 'createdAtMs'),
    updatedAtMs: fromU64(wire.updatedAtMs, 'updatedAtMs'),
  };
  const { body } = wire;
  switch (body.case) {
    case 'cluster':
      return { table: 'cluster', object: clusterFromWire(base, body.value) };
    case 'node':
      return { table: 'node', object: nodeFromWire(base, body.value) };
    case 'service':
      return { table: 'service', object: serviceFromWire(base, body.value) };
    case 'task':
      return { table: 'task', object: taskFromWire(base, body.value) };
    case 'network':
      return { table: 'network', object: networkFromWire(base, body.value) };
    case 'secret':
    case 'config': {
      const spec = dataSpecFromWire(need(body.value.spec, `${body.case}.spec`));
      return { table: body.case, object: { ...base, spec } };
    }
    default:
      throw new SwarmError('invalid', `object ${wire.id} has no known body`);
  }
}

/** One object as bytes, e.g. a record of a snapshot. */
export function encodeObject<T extends TableName>(table: T, object: Tables[T]): Uint8Array {
  return encodeMessage(ObjectSchema, objectToWire({ table, object } as TableObject));
}

/** SwarmError corrupt when the bytes are no object. */
export function decodeObject(bytes: Uint8Array): TableObject {
  return objectFromWire(parse(() => fromBinary(ObjectSchema, bytes), 'object'));
}

/** As decodeObject, for very many: tasks come as stores keep them. */
export function decodeRecord(bytes: Uint8Array): TableObject {
  const task = taskFromBytes(bytes);
  return task === undefined ? decodeObject(bytes) : { table: 'task', object: task };
}

/** The library's parse errors, in our words. */
export function parse<T>(read: () => T, what: string): T {
  try {
    return read();
  } catch (error) {
    throw new SwarmError('corrupt', `cannot decode ${what}: ${String(error)}`, { cause: error });
  }
}
