/**
 * The cluster object in the domain: its settings, its root certificate, its join secrets. Part of
 * types.ts, which hands it on; declares only.
 */
import type { Labels, ObjectBase } from './types.ts';

export interface ClusterSpec {
  readonly name: string;
  readonly labels: Labels;
  readonly taskHistoryLimit: number;
  readonly heartbeatPeriodMs: number;
  readonly certificateExpiryMs: number;
  /** Raft entries between snapshots, and kept behind one for slow followers. */
  readonly snapshotInterval: number;
  /** Snapshots kept on disk besides the newest. */
  readonly keepOldSnapshots: number;
  readonly logEntriesForSlowFollowers: number;
  readonly autoLockManagers: boolean;
  /** Another number than before asks for a new root certificate. */
  readonly forceRotate: number;
  /** PEM; the root that a user gave; '' = one made here. Its key is kept elsewhere. */
  readonly signingCaCertificate: string;
}

/** A root certificate that is taking the place of the present one. */
export interface RootRotation {
  readonly certificate: string;
  readonly privateKey: string;
  /** The new root's key certified by the old root, for those who do not know the new one yet. */
  readonly crossSigned: string;
}

export interface RemovedNode {
  readonly id: string;
  readonly untilMs: number;
}

/** There is exactly one, named 'default'. */
export interface Cluster extends ObjectBase {
  readonly spec: ClusterSpec;
  /** PEM; the key is the reason why managers' disks and wire are trusted. */
  readonly rootCaCertificate: string;
  readonly rootCaKey: string;
  readonly rootRotation: RootRotation | undefined;
  /** Hex; what the managers' keys on disk are sealed with; '' unless they are locked. */
  readonly unlockKey: string;
  /** Secrets of the join tokens (the part after the digest). */
  readonly joinSecretWorker: string;
  readonly joinSecretManager: string;
  /** CIDR pools for overlay networks, and the size (prefix length) of what is cut from them. */
  readonly addressPools: readonly string[];
  readonly subnetSize: number;
  readonly vxlanPort: number;
  /** Raft ids of removed managers; they never come back. */
  readonly removedRaftIds: readonly number[];
  /** Removed nodes whose certificates may still be valid, and until when (Unix ms). */
  readonly removedNodes: readonly RemovedNode[];
  /** When a user last asked for the tasks to be spread anew; 0 never. */
  readonly rebalanceAtMs: number;
}
