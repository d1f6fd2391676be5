/**
 * What a manager tells an agent and an agent reports, model <-> wire: assignments, session
 * messages, task statuses.
 */
import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { unreachable } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import type {
  AssignmentItem,
  AssignmentMessage,
  IngressAssignment,
  NetworkAssignment,
  NetworkPeer,
  SessionMessage,
  TaskStatusUpdate,
} from '../../model/assignment.ts';
import { encodeMessage } from '../encode.ts';
import {
  AssignmentItemSchema,
  AssignmentMessageSchema,
  type IngressAssignmentSchema,
  type NetworkAssignmentSchema,
  SessionMessageSchema,
  TaskStatusUpdateSchema,
  type AssignmentItem as WireAssignmentItem,
  type AssignmentMessage as WireAssignmentMessage,
  type IngressAssignment as WireIngressAssignment,
  type NetworkAssignment as WireNetworkAssignment,
  type SessionMessage as WireSessionMessage,
  type TaskStatusUpdate as WireTaskStatusUpdate,
} from '../gen/tsswarm/v1/cluster_pb.js';
import { heldDataFromWire, heldDataToWire } from './data.ts';
import { objectFromWire, objectToWire, taskStatusFromWire, taskStatusToWire } from './objects.ts';
import { ROLES } from './specs/cluster.ts';
import { PROTOCOLS } from './specs/service.ts';
import { fromU64, need, toU32, toU64, word } from './values.ts';

function peerToWire(peer: NetworkPeer) {
  return { hostIndex: toU32(peer.hostIndex, 'hostIndex'), address: peer.address };
}

function peerFromWire(wire: { hostIndex: number; address: string }): NetworkPeer {
  return { hostIndex: wire.hostIndex, address: wire.address };
}

function networkToWire(item: NetworkAssignment): MessageInitShape<typeof NetworkAssignmentSchema> {
  const { network } = item;
  return {
    id: network.id,
    name: network.name,
    vni: toU32(network.vni, 'vni'),
    subnet: network.subnet,
    subnet6: network.subnet6,
    gateway: network.gateway,
    internal: network.internal,
    mtu: toU32(network.mtu, 'mtu'),
    peers: item.peers.map(peerToWire),
    endpoints: item.endpoints.map(({ id, address, hostIndex }) => ({ id, address, hostIndex })),
    services: item.services.map(({ serviceId, virtualAddress, backends }) => ({
      serviceId,
      virtualAddress,
      backends: [...backends],
    })),
    names: item.names.map(({ name, addresses }) => ({ name, addresses: [...addresses] })),
  };
}

function networkFromWire(wire: WireNetworkAssignment): NetworkAssignment {
  return {
    network: {
      id: wire.id,
      name: wire.name,
      vni: wire.vni,
      subnet: wire.subnet,
      subnet6: wire.subnet6,
      gateway: wire.gateway,
      internal: wire.internal,
      mtu: wire.mtu,
    },
    peers: wire.peers.map(peerFromWire),
    endpoints: wire.endpoints.map(({ id, address, hostIndex }) => ({ id, address, hostIndex })),
    services: wire.services.map(({ serviceId, virtualAddress, backends }) => ({
      serviceId,
      virtualAddress,
      backends,
    })),
    names: wire.names.map(({ name, addresses }) => ({ name, addresses })),
  };
}

function ingressToWire(item: IngressAssignment): MessageInitShape<typeof IngressAssignmentSchema> {
  return {
    peers: item.peers.map(peerToWire),
    ports: item.ports.map((port) => ({
      protocol: port.protocol,
      publishedPort: toU32(port.publishedPort, 'publishedPort'),
      hostAddress: port.hostAddress,
      serviceId: port.serviceId,
      serviceName: port.serviceName,
      backends: port.backends.map(({ gatewayAddress, targetPort, hostIndex }) => ({
        gatewayAddress,
        targetPort,
        hostIndex,
      })),
    })),
  };
}

function ingressFromWire(wire: WireIngressAssignment): IngressAssignment {
  return {
    peers: wire.peers.map(peerFromWire),
    ports: wire.ports.map((port) => ({
      protocol: word(port.protocol, PROTOCOLS, 'protocol'),
      publishedPort: port.publishedPort,
      hostAddress: port.hostAddress,
      serviceId: port.serviceId,
      serviceName: port.serviceName,
      backends: port.backends.map(({ gatewayAddress, targetPort, hostIndex }) => ({
        gatewayAddress,
        targetPort,
        hostIndex,
      })),
    })),
  };
}

function itemToWire(item: AssignmentItem): MessageInitShape<typeof AssignmentItemSchema> {
  switch (item.kind) {
    case 'task':
      return {
        item: { case: 'task', value: objectToWire({ table: 'task', object: item.task }) },
      };
    case 'network':
      return { item: { case: 'network', value: networkToWire(item.network) } };
    case 'ingress':
      return { item: { case: 'ingress', value: ingressToWire(item.ingress) } };
    case 'secret':
    case 'config':
      return { item: { case: item.kind, value: heldDataToWire(item.data) } };
    default:
      return unreachable(item, 'assignment item');
  }
}

function itemFromWire(wire: WireAssignmentItem): AssignmentItem {
  const { item } = wire;
  switch (item.case) {
    case 'task': {
      const value = objectFromWire(item.value);
      if (value.table !== 'task') throw new SwarmError('invalid', 'an assigned task is none');
      return { kind: 'task', task: value.object };
    }
    case 'network':
      return { kind: 'network', network: networkFromWire(item.value) };
    case 'ingress':
      return { kind: 'ingress', ingress: ingressFromWire(item.value) };
    case 'secret':
    case 'config':
      return { kind: item.case, data: heldDataFromWire(item.value) };
    default:
      throw new SwarmError('invalid', 'an assignment item of unknown kind');
  }
}

/** As it stands on an agent's disk. */
export function encodeItem(item: AssignmentItem): Uint8Array {
  return encodeMessage(AssignmentItemSchema, itemToWire(item));
}

export function decodeItem(bytes: Uint8Array): AssignmentItem {
  return itemFromWire(fromBinary(AssignmentItemSchema, bytes));
}

export function assignmentToWire(message: AssignmentMessage): WireAssignmentMessage {
  return create(AssignmentMessageSchema, {
    complete: message.type === 'complete',
    appliesTo: toU64(message.appliesTo, 'appliesTo'),
    resultsIn: toU64(message.resultsIn, 'resultsIn'),
    update: message.update.map(itemToWire),
    remove: [...message.remove],
    confirm: message.confirm,
  });
}

export function assignmentFromWire(wire: WireAssignmentMessage): AssignmentMessage {
  return {
    type: wire.complete ? 'complete' : 'incremental',
    appliesTo: fromU64(wire.appliesTo, 'appliesTo'),
    resultsIn: fromU64(wire.resultsIn, 'resultsIn'),
    update: wire.update.map(itemFromWire),
    remove: wire.remove,
    confirm: wire.confirm,
  };
}

export function sessionToWire(message: SessionMessage): WireSessionMessage {
  return create(SessionMessageSchema, {
    sessionId: message.sessionId,
    nodeId: message.nodeId,
    hostIndex: toU32(message.hostIndex, 'hostIndex'),
    role: message.role,
    managers: message.managers.map(({ nodeId, address, isLeader }) => ({
      nodeId,
      address,
      isLeader,
    })),
    heartbeatMs: toU64(message.heartbeatMs, 'heartbeatMs'),
    vxlanPort: toU32(message.vxlanPort, 'vxlanPort'),
    rootCaCertificate: message.rootCaCertificate,
    wantedIssuer: message.wantedIssuer,
    certificateExpiryMs: toU64(message.certificateExpiryMs, 'certificateExpiryMs'),
  });
}

export function sessionFromWire(wire: WireSessionMessage): SessionMessage {
  return {
    sessionId: wire.sessionId,
    nodeId: wire.nodeId,
    hostIndex: wire.hostIndex,
    role: word(wire.role, ROLES, 'role'),
    managers: wire.managers.map(({ nodeId, address, isLeader }) => ({
      nodeId,
      address,
      isLeader,
    })),
    heartbeatMs: fromU64(wire.heartbeatMs, 'heartbeatMs'),
    vxlanPort: wire.vxlanPort,
    rootCaCertificate: wire.rootCaCertificate,
    wantedIssuer: wire.wantedIssuer,
    certificateExpiryMs: fromU64(wire.certificateExpiryMs, 'certificateExpiryMs'),
  };
}

export function statusUpdateToWire(update: TaskStatusUpdate): WireTaskStatusUpdate {
  return create(TaskStatusUpdateSchema, {
    taskId: update.taskId,
    status: taskStatusToWire(update.status),
  });
}

export function statusUpdateFromWire(wire: WireTaskStatusUpdate): TaskStatusUpdate {
  return {
    taskId: wire.taskId,
    status: taskStatusFromWire(need(wire.status, 'status')),
  };
}
