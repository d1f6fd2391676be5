/** The cluster as Docker's JSON ('swarm inspect'), and its specification both ways. */
import { X509Certificate } from 'node:crypto';
import { issuerDigest, trustDigest, trustOf } from '../../../manager/ca/trust.ts';
import { subjectDer } from '../../../manager/ca/x509.ts';
import type { JoinTokens } from '../../../manager/control/types.ts';
import { DEFAULT_CLUSTER_SPEC } from '../../../model/defaults.ts';
import type { Cluster, ClusterSpec, NodeTls } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { metaOf, nanoseconds, readDurationMs } from './common.ts';

/** swarmkit's ticks, shown because clients print them; Raft here has its own, in milliseconds. */
const ELECTION_TICK = 10;
const HEARTBEAT_TICK = 1;

export function clusterToDocker(cluster: Cluster): object {
  return {
    ...metaOf(cluster),
    Spec: clusterSpecToDocker(cluster.spec),
    TLSInfo: clusterTlsInfo(cluster),
    RootRotationInProgress: cluster.rootRotation !== undefined,
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

/** While the root is being changed: still the old one, and the key that signs now. */
function clusterTlsInfo(cluster: Cluster): object {
  const { rootCaCertificate: root, rootRotation } = cluster;
  if (root === '') return {};
  return { TrustRoot: root, ...issuerOf(rootRotation?.certificate ?? root) };
}

/**
 * Docker's clients compare a node's with the cluster's to tell whether it needs a new certificate.
 * What a node has is known by digest; one that is neither the old nor the new is not shown.
 */
export function nodeTlsInfo(cluster: Cluster | undefined, { issuer, trust }: NodeTls): object {
  if (cluster === undefined || cluster.rootCaCertificate === '') return {};
  const { rootCaCertificate: root, rootRotation } = cluster;
  const issuers = [root, ...(rootRotation === undefined ? [] : [rootRotation.certificate])];
  const signer = issuers.find((each) => issuerDigest(each) === issuer);
  const trusted = [root, trustOf(cluster)].find((each) => trustDigest(each) === trust);
  return {
    ...(trusted === undefined ? {} : { TrustRoot: trusted }),
    ...(signer === undefined ? {} : issuerOf(signer)),
  };
}

/** Of the certificate seen last: every node of a list shows the same one. */
let last: { readonly certificate: string; readonly issuer: object } | undefined;

function issuerOf(certificate: string): object {
  if (last?.certificate !== certificate) {
    const { publicKey } = new X509Certificate(certificate);
    const issuer = {
      CertIssuerSubject: subjectDer(certificate).toString('base64'),
      CertIssuerPublicKey: publicKey.export({ type: 'spki', format: 'der' }).toString('base64'),
    };
    last = { certificate, issuer };
  }
  return last.issuer;
}

function clusterSpecToDocker(spec: ClusterSpec): object {
  return {
    Name: spec.name,
    Labels: spec.labels,
    Orchestration: { TaskHistoryRetentionLimit: spec.taskHistoryLimit },
    Raft: {
      SnapshotInterval: spec.snapshotInterval,
      KeepOldSnapshots: spec.keepOldSnapshots,
      LogEntriesForSlowFollowers: spec.logEntriesForSlowFollowers,
      ElectionTick: ELECTION_TICK,
      HeartbeatTick: HEARTBEAT_TICK,
    },
    Dispatcher: { HeartbeatPeriod: nanoseconds(spec.heartbeatPeriodMs) },
    CAConfig: {
      NodeCertExpiry: nanoseconds(spec.certificateExpiryMs),
      ...(spec.signingCaCertificate === '' ? {} : { SigningCACert: spec.signingCaCertificate }),
      ...(spec.forceRotate === 0 ? {} : { ForceRotate: spec.forceRotate }),
    },
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
  if (![0, ELECTION_TICK].includes(raft.whole('ElectionTick', 0))) raft.refused('ElectionTick');
  if (![0, HEARTBEAT_TICK].includes(raft.whole('HeartbeatTick', 0))) raft.refused('HeartbeatTick');
  ca.refuse('ExternalCAs');
  fields.refuse('TaskDefaults');
  return {
    name: fields.text('Name') === '' ? defaults.name : fields.text('Name'),
    labels: fields.labels('Labels'),
    taskHistoryLimit: orchestration.whole('TaskHistoryRetentionLimit', defaults.taskHistoryLimit),
    heartbeatPeriodMs:
      readDurationMs(dispatcher, 'HeartbeatPeriod', 0) || defaults.heartbeatPeriodMs,
    certificateExpiryMs: readDurationMs(ca, 'NodeCertExpiry', 0) || defaults.certificateExpiryMs,
    keepOldSnapshots: raft.whole('KeepOldSnapshots', 0),
    snapshotInterval: raft.whole('SnapshotInterval', 0) || defaults.snapshotInterval,
    logEntriesForSlowFollowers:
      raft.whole('LogEntriesForSlowFollowers', 0) || defaults.logEntriesForSlowFollowers,
    autoLockManagers: fields.objectOrEmpty('EncryptionConfig').flag('AutoLockManagers'),
    forceRotate: ca.whole('ForceRotate', 0),
    signingCaCertificate: ca.text('SigningCACert'),
  };
}
