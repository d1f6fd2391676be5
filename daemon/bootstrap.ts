/**
 * The first node of a new swarm: its root certificate, its own certificate, and the objects that
 * the store begins with. Makes them and returns them; nothing is written here.
 */
import { SwarmError } from '../base/errors.ts';
import { newJoinSecret } from '../manager/ca/tokens.ts';
import { createRequest, createRoot, issueCertificate } from '../manager/ca/x509.ts';
import type { Change } from '../manager/store/types.ts';
import {
  DEFAULT_ADDRESS_POOL,
  DEFAULT_CLUSTER_SPEC,
  DEFAULT_SUBNET_SIZE,
  DEFAULT_VXLAN_PORT,
  NO_NODE_TLS,
} from '../model/defaults.ts';
import type { Cluster, Node, NodeDescription } from '../model/types.ts';
import { validateAddressPools } from '../model/validate.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import type { HostPort } from './addresses.ts';
import type { Environment } from './environment.ts';
import type { Membership } from './identity.ts';
import type { InitRequest } from './types.ts';

const FIRST_RAFT_ID = 1;
const FIRST_HOST_INDEX = 1;

export interface Founding {
  readonly membership: Membership;
  readonly credentials: NodeCredentials;
  /** The store's first transaction. */
  readonly changes: readonly Change[];
}

export interface FoundingOptions {
  readonly environment: Environment;
  readonly request: InitRequest;
  readonly description: NodeDescription;
  readonly advertised: HostPort;
  readonly listen: HostPort;
}

function checkVxlanPort(vxlanPort: number): void {
  if (vxlanPort < 1024 || vxlanPort > 49_151) {
    throw new SwarmError('invalid', `invalid --data-path-port ${vxlanPort}: 1024 to 49151`);
  }
}

export async function foundCluster(options: FoundingOptions): Promise<Founding> {
  const { environment, request, description, advertised, listen } = options;
  const { clock, random, ids } = environment;
  const pools = request.addressPools.length > 0 ? request.addressPools : [DEFAULT_ADDRESS_POOL];
  const subnetSize = request.subnetSize || DEFAULT_SUBNET_SIZE;
  const vxlanPort = request.vxlanPort || DEFAULT_VXLAN_PORT;
  validateAddressPools(pools, subnetSize);
  checkVxlanPort(vxlanPort);
  const nowMs = clock.wallMs();
  const stored = { version: 0, createdAtMs: 0, updatedAtMs: 0 };
  const root = await createRoot(nowMs, random);
  const cluster: Cluster = {
    ...stored,
    id: ids.object(),
    spec: DEFAULT_CLUSTER_SPEC,
    rootCaCertificate: root.certificate,
    rootCaKey: root.privateKey,
    rootRotation: undefined,
    unlockKey: '',
    joinSecretWorker: newJoinSecret(random),
    joinSecretManager: newJoinSecret(random),
    addressPools: pools,
    subnetSize,
    vxlanPort,
    removedRaftIds: [],
    removedNodes: [],
    rebalanceAtMs: 0,
  };
  const nodeId = ids.object();
  const { csr, privateKey } = await createRequest();
  const issued = await issueCertificate({
    root,
    csr,
    nodeId,
    role: 'manager',
    clusterId: cluster.id,
    nowMs,
    lifetimeMs: cluster.spec.certificateExpiryMs,
    random,
  });
  const node: Node = {
    ...stored,
    id: nodeId,
    spec: { name: '', labels: {}, role: 'manager', availability: request.availability },
    description,
    role: 'manager',
    state: 'unknown',
    stateMessage: 'has founded the swarm; its first session is awaited',
    address: advertised.host,
    port: advertised.port,
    hostIndex: FIRST_HOST_INDEX,
    manager: { raftId: FIRST_RAFT_ID, address: `${advertised.host}:${advertised.port}` },
    downSinceMs: 0,
    availableSinceMs: 0,
    specVersion: 0,
    certificateSerial: issued.serial,
    tls: NO_NODE_TLS,
  };
  return {
    membership: {
      nodeId,
      role: 'manager',
      hostIndex: FIRST_HOST_INDEX,
      advertiseHost: advertised.host,
      port: advertised.port,
      listenHost: listen.host,
      vxlanPort,
      managers: [`${advertised.host}:${advertised.port}`],
      raftId: FIRST_RAFT_ID,
    },
    credentials: {
      rootCertificate: root.certificate,
      certificate: issued.certificate,
      privateKey,
    },
    changes: [
      { kind: 'create', table: 'cluster', object: cluster },
      { kind: 'create', table: 'node', object: node },
    ],
  };
}
