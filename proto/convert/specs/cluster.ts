/**
 * What users ask of the cluster, a node and a network, model <-> wire. Decoding checks that words
 * and numbers are known and fit; whether a specification makes sense is model/validate's business.
 */
import { create } from '@bufbuild/protobuf';
import type { ClusterSpec, NetworkSpec, NodeSpec } from '../../../model/types.ts';
import {
  ClusterSpecSchema,
  NetworkSpecSchema,
  NodeSpecSchema,
  type ClusterSpec as WireClusterSpec,
  type NetworkSpec as WireNetworkSpec,
  type NodeSpec as WireNodeSpec,
} from '../../gen/tsswarm/v1/objects_pb.js';
import { fromU64, toU32, toU64, word } from '../values.ts';

export const ROLES = ['worker', 'manager'] as const;
export const AVAILABILITIES = ['active', 'pause', 'drain'] as const;

export function clusterSpecToWire(spec: ClusterSpec): WireClusterSpec {
  return create(ClusterSpecSchema, {
    name: spec.name,
    labels: spec.labels,
    taskHistoryLimit: toU32(spec.taskHistoryLimit, 'taskHistoryLimit'),
    heartbeatPeriodMs: toU64(spec.heartbeatPeriodMs, 'heartbeatPeriodMs'),
    certificateExpiryMs: toU64(spec.certificateExpiryMs, 'certificateExpiryMs'),
    keepOldSnapshots: toU32(spec.keepOldSnapshots, 'keepOldSnapshots'),
    snapshotInterval: toU64(spec.snapshotInterval, 'snapshotInterval'),
    logEntriesForSlowFollowers: toU64(
      spec.logEntriesForSlowFollowers,
      'logEntriesForSlowFollowers',
    ),
    autoLockManagers: spec.autoLockManagers,
    forceRotate: toU64(spec.forceRotate, 'forceRotate'),
    signingCaCertificate: spec.signingCaCertificate,
  });
}

export function clusterSpecFromWire(wire: WireClusterSpec): ClusterSpec {
  return {
    name: wire.name,
    labels: wire.labels,
    taskHistoryLimit: wire.taskHistoryLimit,
    heartbeatPeriodMs: fromU64(wire.heartbeatPeriodMs, 'heartbeatPeriodMs'),
    certificateExpiryMs: fromU64(wire.certificateExpiryMs, 'certificateExpiryMs'),
    keepOldSnapshots: wire.keepOldSnapshots,
    snapshotInterval: fromU64(wire.snapshotInterval, 'snapshotInterval'),
    logEntriesForSlowFollowers: fromU64(
      wire.logEntriesForSlowFollowers,
      'logEntriesForSlowFollowers',
    ),
    autoLockManagers: wire.autoLockManagers,
    forceRotate: fromU64(wire.forceRotate, 'forceRotate'),
    signingCaCertificate: wire.signingCaCertificate,
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
    subnet6: spec.subnet6,
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
    subnet6: wire.subnet6,
    gateway: wire.gateway,
    range: wire.range,
    options: wire.options,
  };
}
