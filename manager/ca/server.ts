/**
 * The cluster's certificate authority, as callers reach it: hands out the root to anyone, and at
 * the leader issues certificates: on a join token (a new node, its id chosen here) or to a node
 * that shows its present certificate (renewal). The only service open to callers without one.
 */

import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import type { Ids } from '../../base/id.ts';
import type { Log } from '../../base/log.ts';
import { Serial } from '../../base/queue.ts';
import type { Random } from '../../base/random.ts';
import { NO_NODE_TLS } from '../../model/defaults.ts';
import type { Cluster, Node, NodeDescription, NodeRole } from '../../model/types.ts';
import { AVAILABILITIES, descriptionFromWire, need, word } from '../../proto/convert.ts';
import type { PeerIdentity } from '../../proto/credentials.ts';
import type { CallContext, Handlers } from '../../proto/rpc.ts';
import type {
  CertificateAuthority,
  IssueCertificateRequest,
  IssueCertificateResponse,
} from '../../proto/services.ts';
import { hostAddress } from '../hostAddress.ts';
import { checkDescription } from '../hostDescription.ts';
import { removedNode } from '../removedNode.ts';
import type { Proposer, StoreReader, View } from '../store/types.ts';
import { retried, transact } from '../transact.ts';
import { parseToken, roleOfToken } from './tokens.ts';
import { signerOf, trustOf } from './trust.ts';
import { issueCertificate } from './x509.ts';

/** Joins wait for one another (each takes the next host index); a storm is told to come back. */
const MAX_WAITING_JOINS = 256;
const MAX_HOST_INDEX = 65_535;
const MAX_PORT = 65_535;
const MAX_CSR_CHARACTERS = 8192;
/** A join whose proposal lost a race is decided again this often. */
const ATTEMPTS = 3;

export interface CertificateAuthorityOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  readonly store: StoreReader;
  readonly proposer: Proposer;
  /** SwarmError not_leader with the leader's address in its detail. */
  readonly notLeader: () => SwarmError;
}

type Answer = Pick<
  IssueCertificateResponse,
  'nodeId' | 'role' | 'certificatePem' | 'rootCertificatePem' | 'hostIndex' | 'vxlanPort'
>;

export class CertificateAuthorityServer {
  readonly #options: CertificateAuthorityOptions;
  readonly #joins = new Serial(MAX_WAITING_JOINS);

  constructor(options: CertificateAuthorityOptions) {
    this.#options = options;
  }

  handlers(): Handlers<typeof CertificateAuthority> {
    return {
      getRootCertificate: async () => ({
        certificatePem: this.#cluster().rootCaCertificate,
        nowMs: BigInt(this.#options.clock.wallMs()),
      }),
      issueCertificate: (request, context) => this.#issue(request, context),
      withdraw: (_request, context) => this.#withdraw(context.peer),
    };
  }

  async #issue(request: IssueCertificateRequest, context: CallContext): Promise<Answer> {
    const { proposer, notLeader } = this.#options;
    if (!proposer.isLeader) throw notLeader();
    if (request.csrPem.length > MAX_CSR_CHARACTERS) {
      throw new SwarmError('invalid', 'the certificate request is too long');
    }
    if (request.token === '') return this.#renew(request.csrPem, context.peer);
    return this.#joins.run(() => this.#join(request, context));
  }

  /** Takes out a node whose host could not finish joining. One that has come stays. */
  async #withdraw(peer: PeerIdentity | undefined): Promise<Record<string, never>> {
    const { proposer, notLeader, store, log } = this.#options;
    if (!proposer.isLeader) throw notLeader();
    if (peer === undefined) {
      throw new SwarmError('unauthorized', 'a join is withdrawn with its certificate: none given');
    }
    const node = store.get('node', peer.nodeId);
    if (node === undefined) return {};
    if (node.state === 'ready' || node.manager !== undefined) {
      throw new SwarmError('conflict', `node ${node.id} takes part already: let it leave`);
    }
    await transact(proposer, { kind: 'remove', table: 'node', id: node.id });
    log.info('node withdrew its join', { nodeId: node.id });
    return {};
  }

  /** A new certificate for a node that showed a valid one; its role is what it should be now. */
  async #renew(csr: string, peer: PeerIdentity | undefined): Promise<Answer> {
    if (peer === undefined) {
      throw new SwarmError(
        'unauthorized',
        'a certificate is renewed with a join token or the current certificate: none was given',
      );
    }
    const node = this.#options.store.get('node', peer.nodeId);
    if (node === undefined) {
      throw removedNode(peer.nodeId);
    }
    const role = roleNow(node);
    const issued = await this.#sign(csr, node.id, role);
    await this.#record(node.id, issued.serial);
    return this.#answer(node, role, issued.certificate);
  }

  async #join(request: IssueCertificateRequest, context: CallContext): Promise<Answer> {
    const role = roleOfToken(parseToken(request.token), this.#cluster());
    const wanted = {
      role,
      description: checkDescription(descriptionFromWire(need(request.description, 'description'))),
      availability: word(request.availability || 'active', AVAILABILITIES, 'availability'),
      address: hostAddress(request.address, context.remoteAddress),
      port: request.port,
    };
    if (wanted.port < 1 || wanted.port > MAX_PORT) {
      throw new SwarmError('invalid', `port ${wanted.port} is out of range (1 to ${MAX_PORT})`);
    }
    for (let attempt = 1; ; attempt += 1) {
      const previous = this.#returning(request.previousNodeId, role, wanted.description);
      const nodeId = previous?.id ?? this.#options.ids.object();
      const issued = await this.#sign(request.csrPem, nodeId, role);
      const hostIndex = previous?.hostIndex ?? freeHostIndex(this.#options.store);
      const node: Node = {
        id: nodeId,
        version: previous?.version ?? 0,
        createdAtMs: 0,
        updatedAtMs: 0,
        spec: {
          name: previous?.spec.name ?? '',
          labels: previous?.spec.labels ?? {},
          role,
          availability: wanted.availability,
        },
        description: wanted.description,
        role: previous?.role ?? 'worker',
        state: 'unknown',
        stateMessage: 'has joined; its first session is awaited',
        address: wanted.address,
        port: wanted.port,
        hostIndex,
        manager: previous?.manager,
        downSinceMs: previous?.downSinceMs ?? 0,
        availableSinceMs: 0,
        specVersion: 0,
        certificateSerial: issued.serial,
        tls: NO_NODE_TLS,
      };
      const kind = previous === undefined ? 'create' : 'update';
      try {
        await transact(this.#options.proposer, { kind, table: 'node', object: node });
      } catch (error) {
        const raced = hasCode(error, 'conflict') || hasCode(error, 'out_of_sequence');
        if (!raced || attempt >= ATTEMPTS) throw error;
        continue;
      }
      this.#options.log.info('node joined', { nodeId, role, address: node.address, hostIndex });
      return this.#answer(node, role, issued.certificate);
    }
  }

  /**
   * The node that comes back with its data root: known, down, the same machine and role. Anything
   * else becomes a new node, so that a copied data root never takes over another's name.
   */
  #returning(id: string, role: NodeRole, description: NodeDescription): Node | undefined {
    if (id === '') return undefined;
    const node = this.#options.store.get('node', id);
    if (node === undefined || node.state !== 'down' || node.spec.role !== role) return undefined;
    if (node.manager !== undefined) return undefined; // its Raft identity may still be counted on
    const { machineId } = node.description;
    return machineId !== '' && machineId === description.machineId ? node : undefined;
  }

  async #sign(csr: string, nodeId: string, role: NodeRole) {
    const cluster = this.#cluster();
    const signer = signerOf(cluster);
    const issued = await issueCertificate({
      root: signer,
      csr,
      nodeId,
      role,
      clusterId: cluster.id,
      nowMs: this.#options.clock.wallMs(),
      lifetimeMs: cluster.spec.certificateExpiryMs,
      random: this.#options.random,
    });
    return { ...issued, certificate: `${issued.certificate}${signer.chain}` };
  }

  /** The serial is for people and audits; a lost race with a status change is tried again. */
  async #record(nodeId: string, serial: string): Promise<void> {
    const { store, proposer } = this.#options;
    await retried(ATTEMPTS, async () => {
      const node = store.get('node', nodeId);
      if (node === undefined) throw removedNode(nodeId);
      const object = { ...node, certificateSerial: serial };
      await transact(proposer, { kind: 'update', table: 'node', object });
    });
  }

  #answer(node: Node, role: NodeRole, certificatePem: string): Answer {
    const cluster = this.#cluster();
    return {
      nodeId: node.id,
      role,
      certificatePem,
      rootCertificatePem: trustOf(cluster),
      hostIndex: node.hostIndex,
      vxlanPort: cluster.vxlanPort,
    };
  }

  #cluster(): Cluster {
    const cluster = this.#options.store.cluster();
    if (cluster === undefined) {
      throw new SwarmError('unavailable', 'this manager has not caught up yet; try again');
    }
    return cluster;
  }
}

/**
 * What a node's certificate should say: a manager that is being demoted is one until it has left.
 */
export function roleNow(node: Node): NodeRole {
  return node.spec.role === 'manager' || node.manager !== undefined ? 'manager' : 'worker';
}

/** SwarmError exhausted when there are as many nodes as can be told apart. */
export function freeHostIndex(view: View): number {
  const taken = new Set<number>();
  for (const node of view.all('node')) taken.add(node.hostIndex);
  for (let index = 1; index <= MAX_HOST_INDEX; index += 1) if (!taken.has(index)) return index;
  throw new SwarmError('exhausted', `the cluster has ${MAX_HOST_INDEX} nodes: remove some first`);
}
