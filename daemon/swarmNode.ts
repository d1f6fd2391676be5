/**
 * One membership of a swarm, running: the gRPC listener, the agent and, on managers, the manager.
 * Follows the role that the leader tells it: a promoted node gets a manager's certificate and joins
 * Raft, a demoted one leaves and forgets Raft's files. Decides nothing about the cluster.
 *
 * | role here | true | left by |
 * |---|---|---|
 * | worker | listener, agent | #changeRole on a session that says manager |
 * | manager | also Raft and the manager's services | #changeRole on a session that says worker |
 */

import type { Duplex } from 'node:stream';
import { Agent } from '../agent/agent.ts';
import type { HostRuntime } from '../agent/containerController.ts';
import { Host as HostService } from '../agent/host.ts';
import { FileJournal } from '../agent/journal.ts';
import { hostHandlers, pingOver } from '../agent/rpcHost.ts';
import { dialOver } from '../agent/rpcLink.ts';
import { hasCode, SwarmError } from '../base/errors.ts';
import { Serial } from '../base/queue.ts';
import { authorizeAtWorker } from '../manager/authorize.ts';
import { checkUsable, renewCertificate } from '../manager/ca/client.ts';
import { Renewal } from '../manager/ca/renewal.ts';
import { tlsOf } from '../manager/ca/trust.ts';
import { REMOVED_NODE } from '../manager/raft/hello.ts';
import type { Change } from '../manager/store/types.ts';
import type { SessionMessage } from '../model/assignment.ts';
import { sameValue } from '../model/equal.ts';
import type { NodeDescription } from '../model/types.ts';
import type { NodeCredentials, PeerIdentity } from '../proto/credentials.ts';
import { dialLink, type Link } from '../proto/link.ts';
import { type MethodName, RpcChannel, RpcServer } from '../proto/rpc.ts';
import { Host } from '../proto/services.ts';
import type { Environment } from './environment.ts';
import type { Identity, Membership } from './identity.ts';
import type { ManagerRole } from './managerRole.ts';
import { RoleFollower } from './roleFollower.ts';
import { TrustFollower } from './trustFollower.ts';
import { tunnelHandlers } from './tunnel.ts';
import type { TaskLogQuery } from './types.ts';

/** Renewal, role and roots may each ask at once. */
const CREDENTIAL_WORK_MAX = 16;

export interface SwarmNodeOptions {
  readonly environment: Environment;
  readonly identity: Identity;
  readonly membership: Membership;
  readonly credentials: NodeCredentials;
  readonly runtime: HostRuntime;
  readonly journalDirectory: string;
  readonly describe: () => NodeDescription;
  /** The store's first transaction, when this node founds the swarm. */
  readonly founding?: readonly Change[];
  /** It has just become the only manager of its swarm. */
  readonly alone?: boolean;
  /** Serves what another manager asks of this host's API over a connection of its own. */
  readonly acceptApi?: (connection: Duplex) => void;
  /** A user waits until this node has joined in the role it was given. */
  readonly joining?: boolean;
  /** Called once when the cluster says that this node was removed from it. */
  readonly onRemoved: (reason: string) => void;
}

export class SwarmNode {
  readonly #options: SwarmNodeOptions;
  readonly #server: RpcServer;
  readonly #agent: Agent;
  readonly #renewal: Renewal;
  readonly #role: RoleFollower;
  readonly #trust: TrustFollower;
  /** What replaces the credentials, one at a time. */
  readonly #credentialWork = new Serial(CREDENTIAL_WORK_MAX);
  #lifetimeMs: number | undefined;
  #membership: Membership;
  /** As the last session told; undefined before the first one. */
  #managerIds: ReadonlySet<string> | undefined;
  #credentials: NodeCredentials;
  #manager: ManagerRole | undefined;
  #stopped = false;

  /** Listens and takes up work. SwarmError unavailable when the port is taken. */
  static async start(options: SwarmNodeOptions): Promise<SwarmNode> {
    const node = new SwarmNode(options);
    checkUsable(options.credentials.certificate, options.environment.clock.wallMs());
    await node.#start();
    return node;
  }

  private constructor(options: SwarmNodeOptions) {
    const { environment, membership, runtime } = options;
    this.#options = options;
    this.#membership = membership;
    this.#credentials = options.credentials;
    this.#server = new RpcServer({
      log: environment.log,
      clock: environment.clock,
      authorize: (peer, method, problem) => this.#authorize(peer, method, problem),
    });
    this.#agent = new Agent({
      ...environment,
      nodeId: membership.nodeId,
      address: membership.advertiseHost,
      port: membership.port,
      describe: options.describe,
      tls: () => tlsOf(this.#credentials),
      runtime,
      journal: new FileJournal({
        directory: options.journalDirectory,
        clock: environment.clock,
        log: environment.log,
      }),
      dial: dialOver((address) => this.channelTo(address, 'manager')),
    });
    this.#renewal = new Renewal({
      ...environment,
      current: () => this.#credentials.certificate,
      lifetimeMs: () => this.#lifetimeMs,
      renew: () => this.renewCertificate(),
    });
    this.#trust = new TrustFollower({
      ...environment,
      current: () => this.#credentials,
      adopt: (roots) =>
        this.#credentialWork.run(async () =>
          this.#use({ ...this.#credentials, rootCertificate: roots }),
        ),
      renew: () => this.renewCertificate(),
    });
    this.#role = new RoleFollower({
      ...environment,
      current: () => this.#membership.role,
      change: (role) => this.#changeRole(role),
    });
  }

  get membership(): Membership {
    return this.#membership;
  }

  get manager(): ManagerRole | undefined {
    return this.#manager;
  }

  get agent(): Agent {
    return this.#agent;
  }

  get credentials(): NodeCredentials {
    return this.#credentials;
  }

  /** A connection of its own to another host; the caller closes it. */
  channelTo(address: string, role?: 'manager'): RpcChannel {
    const { clock } = this.#options.environment;
    const trust = { kind: 'node', credentials: this.#credentials } as const;
    return new RpcChannel(address, trust, { clock, ...(role ? { expect: { role } } : {}) });
  }

  #linkTo(address: string, onOtherProtocol: () => void): Link {
    const { clock } = this.#options.environment;
    const credentials = this.#credentials;
    return dialLink(address, { credentials, expect: { role: 'manager' }, clock, onOtherProtocol });
  }

  taskLogs(taskId: string, query: TaskLogQuery, signal: AbortSignal) {
    return this.#agent.taskLogs(taskId, query, signal);
  }

  /** Leaves Raft where it is a manager. SwarmError when that needs `force`. */
  async leave(force: boolean): Promise<void> {
    await this.#manager?.leave(force);
  }

  /** Stops serving; containers run on. A leader hands its lead over first. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#role.stop();
    this.#trust.stop();
    this.#renewal.stop();
    await this.#manager?.stop();
    await this.#agent.stop();
    await this.#server.close();
  }

  async #start(): Promise<void> {
    const { environment } = this.#options;
    const { listenHost, port, nodeId, managers } = this.#membership;
    const host = new HostService({
      clock: environment.clock,
      nodeId,
      ping: pingOver((address) => this.channelTo(address)),
      logs: (taskId, query, signal) => this.#agent.taskLogs(taskId, query, signal),
    });
    this.#server.handle(Host, hostHandlers(host));
    const { acceptApi } = this.#options;
    if (acceptApi !== undefined) this.#server.handle(Host, tunnelHandlers(acceptApi));
    await this.#server.listen({ host: listenHost, port, tls: this.#credentials });
    try {
      if (this.#membership.role === 'manager') await this.#resumeManager();
      this.#agent.onSession((message) => this.#told(message));
      this.#agent.onRefused((error) => this.#refused(error));
      await this.#agent.start(managers);
      this.#renewal.start();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /**
   * A member without a log (joining broke off, its files were lost) begins as a worker: the leader
   * tells what this node is to be now, which may be no manager any more.
   */
  async #resumeManager(): Promise<void> {
    const { founding, joining } = this.#options;
    try {
      if (founding !== undefined || joining === true || this.#membership.raftId !== 0) {
        await this.#startManager(founding);
        return;
      }
    } catch (error) {
      if (!hasCode(error, 'not_found') || joining === true) throw error;
      this.#options.environment.log.warn('joins anew', { reason: error.message });
    }
    this.#remember({ ...this.#membership, role: 'worker', raftId: 0 });
  }

  /** A swarm is founded once: later this node joins the managers like any other. */
  async #startManager(founding?: readonly Change[]): Promise<void> {
    const { environment, identity } = this.#options;
    // Only here: a worker keeps none of what managers run on in its memory.
    const { ManagerRole } = await import('./managerRole.ts');
    this.#manager = await ManagerRole.start({
      environment,
      directory: identity.raftDirectory,
      membership: this.#membership,
      founding,
      alone: this.#options.alone === true,
      sealKey: identity.raftKey(),
      olderSealKeys: identity.olderRaftKeys(),
      onSealSettled: () => identity.forgetOlderRaftKeys(),
      onUnlockKey: (key) => identity.setLock(key === '' ? undefined : Buffer.from(key, 'hex')),
      server: this.#server,
      channelTo: (address) => this.channelTo(address, 'manager'),
      linkTo: (address, onOtherProtocol) => this.#linkTo(address, onOtherProtocol),
      hostChannelTo: (address) => this.channelTo(address),
      remember: (raftId) => this.#remember({ ...this.#membership, raftId }),
      onManagers: (managers, leader) => this.#managersAre(managers, leader),
      onRemoved: (why) => {
        const isNode = why.detail[REMOVED_NODE] === this.#membership.nodeId;
        if (isNode) this.#options.onRemoved(why.message);
        else this.#role.expelled();
      },
    });
  }

  /** Throws unless `peer` may call `method`. On a worker only the Host service is answered. */
  #authorize(peer: PeerIdentity | undefined, method: MethodName, problem: string): void {
    if (this.#manager !== undefined) {
      this.#manager.authorize(peer, method, problem);
      return;
    }
    if (peer === undefined) {
      const why = problem === '' ? 'no certificate was presented' : problem;
      throw new SwarmError('unauthorized', `${method.method} needs a node certificate: ${why}`);
    }
    authorizeAtWorker(this.#managerIds, peer, method);
  }

  /** Managers refuse this node again and again: it was removed, or its certificate has expired. */
  #refused(error: SwarmError): void {
    if (error.code === 'forbidden') this.#options.onRemoved(error.message);
    else this.#options.environment.log.error('managers refuse this node', { error: error.message });
  }

  #told(message: SessionMessage | undefined): void {
    if (message === undefined || this.#stopped) return;
    this.#managerIds = new Set(message.managers.map(({ nodeId }) => nodeId));
    const leader = message.managers.find((manager) => manager.isLeader)?.address ?? '';
    const addresses = message.managers.map((manager) => manager.address);
    this.#managersAre(addresses, leader);
    this.#role.follow(message.role);
    this.#trust.follow(message);
    if (this.#lifetimeMs === message.certificateExpiryMs) return;
    this.#lifetimeMs = message.certificateExpiryMs;
    this.#renewal.poke();
  }

  /**
   * `leader` '' = not known here. A manager hears of a new one from Raft, before its agent does.
   */
  #managersAre(managers: readonly string[], leader: string): void {
    if (managers.length === 0) return;
    this.#agent.setManagers(managers, leader);
    const known = this.#membership.managers;
    const same = known.length === managers.length && managers.every((each) => known.includes(each));
    if (!same) this.#remember({ ...this.#membership, managers });
  }

  #remember(membership: Membership): void {
    this.#membership = membership;
    this.#options.identity.save(membership);
  }

  async #changeRole(role: Membership['role']): Promise<void> {
    await this.renewCertificate();
    this.#remember({ ...this.#membership, role, raftId: 0 });
    // What an attempt that broke off left there belongs to no member.
    if (role === 'manager') this.#options.identity.eraseRaft();
    try {
      if (role === 'manager') await this.#startManager();
      else await this.#stopManager();
    } catch (error) {
      if (role === 'manager') this.#remember({ ...this.#membership, role: 'worker', raftId: 0 });
      throw error;
    }
  }

  async #stopManager(): Promise<void> {
    await this.#manager?.stop();
    this.#manager = undefined;
    this.#options.identity.eraseRaft();
    this.#options.identity.setLock(undefined);
  }

  /** Kept first; managers hear of another issuer or other roots by a new session. */
  #use(credentials: NodeCredentials): void {
    const before = tlsOf(this.#credentials);
    this.#options.identity.saveCredentials(credentials);
    this.#credentials = credentials;
    this.#server.setTls(credentials);
    this.#manager?.credentialsChanged();
    if (!sameValue(before, tlsOf(credentials))) this.#agent.reopen();
  }

  /** A new certificate for the role that the cluster wants now, put to use at once. */
  renewCertificate(): Promise<void> {
    return this.#credentialWork.run(() => this.#renewCertificate());
  }

  async #renewCertificate(): Promise<void> {
    const { environment, onRemoved } = this.#options;
    try {
      const renewed = await renewCertificate({
        clock: environment.clock,
        remoteAddresses: this.#membership.managers,
        credentials: this.#credentials,
      });
      this.#use(renewed.credentials);
    } catch (error) {
      if (error instanceof SwarmError && error.code === 'forbidden') onRemoved(error.message);
      throw error;
    }
  }
}
