/**
 * One manager goes on alone with a swarm: from its own files after the others were lost
 * (goOnAlone), or from a backup (restoreAlone). The state is whole on disk before the identity
 * names it; nothing that runs is touched, nothing is sent. Which host may do so others decide.
 */
import { assert } from '../base/assert.ts';
import { SwarmError } from '../base/errors.ts';
import { freeHostIndex } from '../manager/ca/server.ts';
import { signerOf, trustOf } from '../manager/ca/trust.ts';
import { createRequest, issueCertificate, readCertificate } from '../manager/ca/x509.ts';
import type { Control } from '../manager/control/types.ts';
import { becomeSole, writeSoleState } from '../manager/raft/offline.ts';
import { Replica } from '../manager/replica.ts';
import { raftIdAlone, soleManagerChanges } from '../manager/soleManager.ts';
import type { Change, View } from '../manager/store/types.ts';
import { NO_NODE_TLS } from '../model/defaults.ts';
import type { Cluster, Node, NodeDescription } from '../model/types.ts';
import { encodeLogEntry } from '../proto/convert.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import type { HostPort } from './addresses.ts';
import type { Environment } from './environment.ts';
import type { Identity, Membership } from './identity.ts';

/** A certificate that has less to live is issued anew: nobody else could do it later. */
const SOON_MS = 60_000;

/** What of the environment is used: no ids are made of what is there already. */
export type AloneEnvironment = Pick<Environment, 'clock' | 'random' | 'log'>;

function hostPort({ advertiseHost, port }: Membership): string {
  return `${advertiseHost}:${port}`;
}

function clusterOf(view: View): Cluster {
  const cluster = view.cluster();
  if (cluster !== undefined) return cluster;
  throw new SwarmError('not_found', 'the state holds no swarm: its founding was never finished');
}

/** Signed by the cluster's root, whose key the state holds. */
async function issueOwn(
  { clock, random }: AloneEnvironment,
  cluster: Cluster,
  nodeId: string,
): Promise<{ readonly credentials: NodeCredentials; readonly serial: string }> {
  const signer = signerOf(cluster);
  const { csr, privateKey } = await createRequest();
  const issued = await issueCertificate({
    root: signer,
    csr,
    nodeId,
    role: 'manager',
    clusterId: cluster.id,
    nowMs: clock.wallMs(),
    lifetimeMs: cluster.spec.certificateExpiryMs,
    random,
  });
  const certificate = `${issued.certificate}${signer.chain}`;
  const credentials = { certificate, privateKey, rootCertificate: trustOf(cluster) };
  return { credentials, serial: issued.serial };
}

/** SwarmError not_manager that says why this host has nothing to go on with. */
export function stateToGoOnFrom(membership: Membership | undefined): Membership {
  if (membership !== undefined && membership.raftId !== 0) return membership;
  throw new SwarmError(
    'not_manager',
    membership === undefined
      ? 'this host is in no swarm that it could go on with: leave out --force-new-cluster'
      : 'this host is a worker and has no state of the swarm to go on with: use a manager',
  );
}

/**
 * SwarmError conflict where the managers agree: a second swarm beside theirs must not come to be.
 * `control` is undefined while this manager does not run.
 */
export async function refuseWithQuorum(control: Control | undefined): Promise<void> {
  if (control === undefined || control.raftStatus().managers.length === 1) return;
  try {
    await control.read();
  } catch (error) {
    if (error instanceof SwarmError) return;
    throw error;
  }
  throw new SwarmError(
    'conflict',
    'the managers have a quorum, so nothing is lost: take those that are gone out with ' +
      '"tsswarm node demote" and "tsswarm node rm" instead of --force-new-cluster',
  );
}

/**
 * Makes this manager, whose daemon does not run its Raft member now, the only one of its swarm, at
 * the address that `membership` says. Resolves with the membership from now on, which is kept.
 * SwarmError conflict when the swarm had removed it; corrupt where its state is damaged.
 */
export async function goOnAlone(
  environment: AloneEnvironment,
  identity: Identity,
  membership: Membership,
): Promise<Membership> {
  const { clock, random, log } = environment;
  const { nodeId, raftId } = membership;
  const address = hostPort(membership);
  const replica = new Replica({ clock });
  const { store } = replica;
  const command = (): Uint8Array => {
    const node = store.get('node', nodeId);
    if (node === undefined) {
      throw new SwarmError(
        'conflict',
        'this host was removed from the swarm: use the state of a manager that was not',
      );
    }
    const { advertiseHost, port } = membership;
    const self = { ...node, address: advertiseHost, port, manager: { raftId, address } };
    const changes = soleManagerChanges(store, clusterOf(store), self, clock.wallMs());
    const transaction = { atomic: true, changes, atMs: Math.max(clock.wallMs(), store.atMs) };
    const { rejected } = store.apply(store.version + 1, transaction.atMs, transaction);
    assert(rejected.length === 0, 'the store refuses a sole manager', { rejected });
    return encodeLogEntry(transaction);
  };
  await becomeSole({
    dir: identity.raftDirectory,
    self: { id: raftId, address },
    clock,
    random,
    log,
    sealKey: identity.raftKey(),
    olderSealKeys: identity.olderRaftKeys(),
    machine: replica,
    command,
  });
  const alone: Membership = { ...membership, role: 'manager', managers: [address] };
  const { notAfterMs } = readCertificate(identity.credentials().certificate);
  if (notAfterMs < clock.wallMs() + SOON_MS) {
    const { credentials } = await issueOwn(environment, clusterOf(store), nodeId);
    identity.saveCredentials(credentials);
  }
  identity.save(alone);
  return alone;
}

/** Who stays is given nothing new before it was heard of; what it runs may run on until then. */
function unheard(view: View, changes: readonly Change[]): Change[] {
  const gone = new Set(changes.flatMap((change) => (change.kind === 'remove' ? change.id : [])));
  const stateMessage = 'not heard of since the swarm was restored';
  return [...view.all('node')]
    .filter(({ id, state }) => !gone.has(id) && state !== 'down')
    .map((node): Change => {
      const object = { ...node, state: 'unknown', stateMessage } as const;
      return { kind: 'update', table: 'node', object };
    });
}

export interface RestoreOptions {
  readonly environment: Environment;
  readonly identity: Identity;
  /** Holds the backup's objects; ends with this host as the only manager. */
  readonly replica: Replica;
  /** Of the backup's last entry. */
  readonly term: number;
  readonly description: NodeDescription;
  readonly advertised: HostPort;
  readonly listen: HostPort;
}

/**
 * Makes this host, which is in no swarm, the only manager of the swarm that `replica` holds: a new
 * node with a certificate of its own. The membership is returned and not kept yet: until it is,
 * this host is in no swarm.
 */
export async function restoreAlone(options: RestoreOptions): Promise<Membership> {
  const { environment, identity, replica, description, advertised, listen } = options;
  const { clock, random, log, ids } = environment;
  const { store } = replica;
  const cluster = clusterOf(store);
  const nodeId = ids.object();
  const raftId = raftIdAlone(store);
  const address = `${advertised.host}:${advertised.port}`;
  const { credentials, serial } = await issueOwn(environment, cluster, nodeId);
  const self: Node = {
    id: nodeId,
    version: 0,
    createdAtMs: 0,
    updatedAtMs: 0,
    spec: { name: '', labels: {}, role: 'manager', availability: 'active' },
    description,
    role: 'manager',
    state: 'unknown',
    stateMessage: 'has restored the swarm; its first session is awaited',
    address: advertised.host,
    port: advertised.port,
    hostIndex: freeHostIndex(store),
    manager: { raftId, address },
    downSinceMs: 0,
    availableSinceMs: 0,
    specVersion: 0,
    certificateSerial: serial,
    tls: NO_NODE_TLS,
  };
  const atMs = Math.max(clock.wallMs(), store.atMs);
  const changes = soleManagerChanges(store, cluster, self, clock.wallMs());
  changes.push(...unheard(store, changes));
  const { rejected } = store.apply(store.version + 1, atMs, { atomic: true, changes });
  assert(rejected.length === 0, 'the store refuses a restored manager', { rejected });
  identity.erase();
  identity.saveCredentials(credentials);
  await writeSoleState({
    dir: identity.raftDirectory,
    self: { id: raftId, address },
    removed: store.cluster()?.removedRaftIds ?? [],
    term: options.term + 1,
    machine: replica,
    clock,
    random,
    log,
    sealKey: identity.raftKey(),
  });
  return {
    nodeId,
    role: 'manager',
    hostIndex: self.hostIndex,
    advertiseHost: advertised.host,
    port: advertised.port,
    listenHost: listen.host,
    vxlanPort: cluster.vxlanPort,
    managers: [address],
    raftId,
  };
}
