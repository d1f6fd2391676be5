/** The cluster as Docker's JSON ('swarm inspect'), and its specification both ways. */
import { X509Certificate } from 'node:crypto';
import type { JoinTokens } from '../../../manager/control/types.ts';
import { DEFAULT_CLUSTER_SPEC } from '../../../model/defaults.ts';
import type { Cluster, ClusterSpec } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { metaOf, nanoseconds, readDurationMs } from './common.ts';

/** swarmkit's ticks, shown because clients print them; Raft here has its own, in milliseconds. */
const ELECTION_TICK = 10;
const HEARTBEAT_TICK = 1;

export function clusterToDocker(cluster: Cluster): object {
  return {
    ...metaOf(cluster),
    Spec: clusterSpecToDocker(cluster.spec),
    TLSInfo: tlsInfo(cluster.rootCaCertificate),
    RootRotationInProgress: false,
    DefaultAddrPool: cluster.addressPools,
    SubnetSize: cluster.subnetSize,
    DataPathPort: cluster.vxlanPort,
  };
}

export function swarmToDocker(cluster: Cluster, tokens: JoinTokens): object {
  return {
    ...clusterToDocker(cluster),
    JoinTokens: { Worker: tokens.worker, Manager: tokens.manager },
  };
}

/** Of the certificate seen last: every node of a list shows the same one. */
let lastTlsInfo: { readonly certificate: string; readonly info: object } | undefined;

/** Docker's clients compare a node's with the cluster's to tell whether it needs a new one. */
export function tlsInfo(certificate: string): object {
  if (certificate === '') return {};
  if (lastTlsInfo?.certificate !== certificate) {
    const key = new X509Certificate(certificate).publicKey;
    const publicKey = key.export({ type: 'spki', format: 'der' }).toString('base64');
    const info = { TrustRoot: certificate, CertIssuerPublicKey: publicKey };
    lastTlsInfo = { certificate, info };
  }
  return lastTlsInfo.info;
}

function clusterSpecToDocker(spec: ClusterSpec): object {
  return {
    Name: spec.name,
    Labels: spec.labels,
    Orchestration: { TaskHistoryRetentionLimit: spec.taskHistoryLimit },
    Raft: {
      SnapshotInterval: spec.snapshotInterval,
      KeepOldSnapshots: 0,
      LogEntriesForSlowFollowers: spec.logEntriesForSlowFollowers,
      ElectionTick: ELECTION_TICK,
      HeartbeatTick: HEARTBEAT_TICK,
    },
    Dispatcher: { HeartbeatPeriod: nanoseconds(spec.heartbeatPeriodMs) },
    CAConfig: { NodeCertExpiry: nanoseconds(spec.certificateExpiryMs) },
    TaskDefaults: {},
    EncryptionConfig: { AutoLockManagers: spec.autoLockManagers },
  };
}

/** Absent and zero mean the default, as docker's client sends them on init. */
export function clusterSpecFromDocker(fields: Fields): ClusterSpec {
  const defaults = DEFAULT_CLUSTER_SPEC;
  const orchestration = fields.objectOrEmpty('Orchestration');
  const raft = fields.objectOrEmpty('Raft');
  const ca = fields.objectOrEmpty('CAConfig');
  const dispatcher = fields.objectOrEmpty('Dispatcher');
  raft.refuse('KeepOldSnapshots');
  if (![0, ELECTION_TICK].includes(raft.whole('ElectionTick', 0))) raft.refused('ElectionTick');
  if (![0, HEARTBEAT_TICK].includes(raft.whole('HeartbeatTick', 0))) raft.refused('HeartbeatTick');
  ca.refuse('ExternalCAs', 'SigningCACert', 'SigningCAKey', 'ForceRotate');
  fields.refuse('TaskDefaults', 'EncryptionConfig');
  return {
    name: fields.text('Name') === '' ? defaults.name : fields.text('Name'),
    labels: fields.labels('Labels'),
    taskHistoryLimit: orchestration.whole('TaskHistoryRetentionLimit', defaults.taskHistoryLimit),
    heartbeatPeriodMs:
      readDurationMs(dispatcher, 'HeartbeatPeriod', 0) || defaults.heartbeatPeriodMs,
    certificateExpiryMs: readDurationMs(ca, 'NodeCertExpiry', 0) || defaults.certificateExpiryMs,
    snapshotInterval: raft.whole('SnapshotInterval', 0) || defaults.snapshotInterval,
    logEntriesForSlowFollowers:
      raft.whole('LogEntriesForSlowFollowers', 0) || defaults.logEntriesForSlowFollowers,
    autoLockManagers: false,
  };
}
