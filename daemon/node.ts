/**
 * The node of this host as the API sees it: in no swarm, joining one, or part of one. Turns init,
 * join and leave into an identity on disk and a SwarmNode that runs; checks first what hosts get
 * wrong, so that a refused request changes nothing.
 *
 * | state | what is true | left by |
 * |---|---|---|
 * | inactive | no identity on disk | init, join |
 * | pending | init or join under way | to active, or back to inactive with everything undone |
 * | active | identity on disk, SwarmNode runs | leave, #removed |
 * | locked | identity on disk, its keys sealed | unlock, leave --force |
 * | error | identity on disk that cannot be used; `error` says why | leave --force |
 */
import { join as joinPath } from 'node:path';
import type { Duplex } from 'node:stream';
import type { HostRuntime } from '../agent/containerController.ts';
import type { Timer } from '../base/clock.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { Serial } from '../base/queue.ts';
import { VERSION } from '../base/version.ts';
import { requestCertificate } from '../manager/ca/client.ts';
import type { Control } from '../manager/control/types.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import type { RpcChannel } from '../proto/rpc.ts';
import type { ImageStore } from '../runtime/image/types.ts';
import {
  type AddressRequest,
  checkOwnAddress,
  movedTo,
  parseHostPort,
  resolveAddresses,
} from './addresses.ts';
import { SwarmAttachments } from './attachments.ts';
import type { Backup } from './backup.ts';
import type { DaemonOptions, Environment } from './environment.ts';
import { sayLeft, withdraw } from './farewell.ts';
import { forgetTasks } from './forget.ts';
import { hostInfo } from './hostInfo.ts';
import { Identity, type Membership } from './identity.ts';
import { requireKernel } from './kernel.ts';
import { parseUnlockKey } from './keyFile.ts';
import { LOCKED, localNode, notManager } from './localNode.ts';
import type { ManagerRole } from './managerRole.ts';
import { OwnDescription } from './ownDescription.ts';
import { checkReachable } from './reachable.ts';
import { SwarmNode, type SwarmNodeOptions } from './swarmNode.ts';
import { NodeTaskHosts } from './taskHosts.ts';
import { readTaskLogs } from './taskLogs.ts';
import type {
  DaemonNode,
  HostInfo,
  HostRooms,
  InitRequest,
  JoinRequest,
  LocalNode,
  LocalState,
  RestoreRequest,
  TaskLogQuery,
  TaskLogRecord,
} from './types.ts';

const MAX_WAITING_REQUESTS = 4;
const DEFAULT_PORT = 2377;
const LEAVE_GRACE_MS = 10_000;
const ADDRESS_RETRY_MS = 2000;

export class Node implements DaemonNode {
  readonly version: string = VERSION;
  readonly taskHosts: NodeTaskHosts;
  readonly host: HostRooms;
  readonly #environment: Environment;
  readonly #options: DaemonOptions;
  readonly #description: OwnDescription;
  readonly #runtime: HostRuntime;
  readonly #identity: Identity;
  /** init, join and leave, one at a time. */
  readonly #requests = new Serial(MAX_WAITING_REQUESTS);
  #state: LocalState = 'inactive';
  #error = '';
  /** The swarm has removed this node. */
  #isOut = false;
  readonly #attachments: SwarmAttachments;
  #waiting: Timer | undefined;
  #acceptApi: ((connection: Duplex) => void) | undefined;
  #swarm: SwarmNode | undefined;

  constructor(
    environment: Environment,
    options: DaemonOptions,
    runtime: HostRuntime,
    host: HostRooms,
  ) {
    this.#environment = environment;
    this.#options = options;
    this.#description = new OwnDescription(environment.clock, options);
    this.#runtime = runtime;
    this.host = host;
    this.#identity = new Identity(options.dataRoot, environment.random);
    const swarm = (): SwarmNode | undefined => this.#swarm;
    this.#attachments = new SwarmAttachments({
      ...environment,
      swarm,
      isMember: () => this.#identity.membership() !== undefined,
      isThere: (id) => (runtime.containers.get(id)?.state ?? 'exited') !== 'exited',
    });
    host.containers.useAttachable(this.#attachments);
    this.#attachments.start();
    host.containers.networks.useNames(
      (networkId) =>
        swarm()?.manager?.control.store.get('network', networkId)?.spec.name ??
        this.#attachments.nameOf(networkId),
    );
    this.taskHosts = new NodeTaskHosts({
      containers: () => runtime.containers.list(),
      ownNodeId: () => this.#swarm?.membership.nodeId ?? '',
      view: () => this.#swarm?.manager?.control.store,
      channelTo: (address) => this.#connection(address),
      clock: environment.clock,
    });
  }

  /** Connections that other managers open to this host's API go to `accept` from now on. */
  serveApi(accept: (connection: Duplex) => void): void {
    this.#acceptApi = accept;
  }

  get images(): ImageStore {
    return this.#runtime.images;
  }

  /**
   * Takes its place again when this host is part of a swarm. SwarmError corrupt when the identity
   * or Raft's files are damaged: the daemon must not start on them.
   */
  async resume(): Promise<void> {
    const membership = this.#identity.membership();
    if (membership === undefined) return;
    if (!this.#identity.isLocked) return this.#takePlace(membership);
    this.#state = 'locked';
    this.#error = LOCKED;
    this.#environment.log.warn('this manager is locked: give it the unlock key');
  }

  async #takePlace(known: Membership, alone = false): Promise<void> {
    const credentials = this.#identity.credentials();
    let membership: Membership;
    try {
      membership = movedTo(known, this.#options.advertiseAddress);
      checkOwnAddress(membership.advertiseHost);
    } catch (error) {
      this.#cannotTakePlace(messageOf(error));
      this.#awaitAddress(known);
      return;
    }
    if (membership !== known) this.#identity.save(membership);
    try {
      this.#swarm = await SwarmNode.start({ ...this.#parts(membership, credentials), alone });
      this.#state = 'active';
      this.#error = '';
    } catch (error) {
      if (!(error instanceof SwarmError) || error.code !== 'unauthorized') throw error;
      this.#cannotTakePlace(error.message);
    }
  }

  #cannotTakePlace(reason: string): void {
    if (this.#error !== reason) {
      this.#environment.log.error('this node cannot take its place', { error: reason });
    }
    this.#state = 'error';
    this.#error = reason;
  }

  /** The network of a host that boots may come later than its daemon. */
  #awaitAddress(membership: Membership): void {
    const { clock, fatal } = this.#environment;
    this.#waiting = clock.afterIdle(ADDRESS_RETRY_MS, () => {
      const again = this.#requests.run(async () => {
        // It may have left the swarm meanwhile.
        if (this.#state === 'error') await this.#takePlace(membership);
      });
      again.catch(fatal);
    });
  }

  async close(): Promise<void> {
    this.#waiting?.cancel();
    this.#attachments.stop();
    await this.#swarm?.stop();
  }

  local(): LocalNode {
    const isMember = this.#swarm === undefined && ['error', 'locked'].includes(this.#state);
    const nodeId = isMember ? (this.#identity.membership()?.nodeId ?? '') : '';
    return localNode(this.#swarm, { state: this.#state, error: this.#error, nodeId });
  }

  info(): HostInfo {
    return hostInfo(this.#options, this.#swarm?.membership.nodeId ?? '');
  }

  control(): Control {
    return this.#manager().control;
  }

  #manager(): ManagerRole {
    const manager = this.#swarm?.manager;
    if (manager !== undefined) return manager;
    throw notManager(this.#swarm, this.#error);
  }

  unlock(unlockKey: string): Promise<void> {
    return this.#requests.run(() => this.#unlock(unlockKey));
  }

  init(request: InitRequest): Promise<string> {
    return this.#requests.run(() => this.#init(request));
  }

  join(request: JoinRequest): Promise<void> {
    return this.#requests.run(() => this.#join(request));
  }

  leave(force: boolean): Promise<void> {
    return this.#requests.run(() => this.#leave(force));
  }

  async examine(): ReturnType<DaemonNode['examine']> {
    const { refuseWithQuorum } = await import('./alone.ts');
    await refuseWithQuorum(this.#swarm?.manager?.control);
    const options = { ...this.#environment, unlockKey: '', identity: this.#identity };
    const { examine } = await import('./examine.ts');
    return examine(this.#options.dataRoot, options);
  }

  async backup(): Promise<AsyncIterable<Uint8Array>> {
    return this.#manager().backup(this.#description.now().hostname);
  }

  async restore(file: AsyncIterable<Uint8Array>, request: RestoreRequest): Promise<string> {
    if (!request.force) this.#mustBeInactive();
    const { readBackup } = await import('./backup.ts');
    // Nothing waits for the sender, nor changes before the whole file has passed its checks.
    const backup = await readBackup(file, { ...this.#environment, ...request });
    return this.#requests.run(() => this.#restore(backup, request));
  }

  async *taskLogs(
    taskIds: readonly string[],
    query: TaskLogQuery,
    signal: AbortSignal,
    later?: AsyncIterable<string>,
  ): AsyncIterable<TaskLogRecord> {
    const swarm = this.#swarm;
    const { store } = this.control();
    if (swarm === undefined) return;
    yield* readTaskLogs(
      {
        clock: this.#environment.clock,
        log: this.#environment.log,
        view: store,
        ownNodeId: swarm.membership.nodeId,
        own: (taskId, each, stop) => swarm.taskLogs(taskId, each, stop),
        channelTo: (address) => swarm.channelTo(address),
      },
      taskIds,
      query,
      signal,
      later,
    );
  }

  #connection(address: string): RpcChannel {
    if (this.#swarm !== undefined) return this.#swarm.channelTo(address);
    throw new SwarmError('unavailable', 'this node is in no swarm any more');
  }

  heartbeatAges(): ReadonlyMap<string, number> {
    return this.#swarm?.manager?.heartbeatAges() ?? new Map();
  }

  async #unlock(unlockKey: string): Promise<void> {
    const membership = this.#identity.membership();
    if (this.#state !== 'locked' || membership === undefined) {
      throw new SwarmError('conflict', 'swarm is not locked');
    }
    this.#identity.unlock(parseUnlockKey(unlockKey));
    await this.#takePlace(membership);
  }

  #resolve(request: AddressRequest, alone: boolean): ReturnType<typeof resolveAddresses> {
    const advertiseAddress = request.advertiseAddress || this.#options.advertiseAddress;
    return resolveAddresses({ ...request, advertiseAddress }, { alone });
  }

  #mustBeInactive(): void {
    if (this.#state === 'inactive') return;
    throw new SwarmError(
      'unavailable',
      'This node is already part of a swarm. Use "tsswarm leave" to leave it and join another one.',
    );
  }

  #parts(membership: Membership, credentials: SwarmNodeOptions['credentials']): SwarmNodeOptions {
    return {
      environment: this.#environment,
      identity: this.#identity,
      membership,
      credentials,
      runtime: this.#runtime,
      journalDirectory: joinPath(this.#options.dataRoot, 'agent'),
      describe: () => this.#description.now(),
      acceptApi: (connection) => {
        if (this.#acceptApi === undefined) connection.destroy();
        else this.#acceptApi(connection);
      },
      onRemoved: (reason) => this.#removed(reason),
    };
  }

  async #init(request: InitRequest): Promise<string> {
    if (request.forceNewCluster) return this.#goOnAlone(request.advertiseAddress);
    this.#mustBeInactive();
    const { advertised, listen } = this.#resolve(request, true);
    await requireKernel();
    this.#state = 'pending';
    try {
      const { foundCluster } = await import('./bootstrap.ts');
      const founded = await foundCluster({
        environment: this.#environment,
        request,
        description: this.#description.now(),
        advertised,
        listen,
      });
      this.#identity.erase();
      this.#identity.saveCredentials(founded.credentials);
      const parts = this.#parts(founded.membership, founded.credentials);
      this.#swarm = await SwarmNode.start({ ...parts, founding: founded.changes });
      this.#identity.save(founded.membership);
      this.#state = 'active';
      return founded.membership.nodeId;
    } catch (error) {
      this.#identity.erase();
      this.#state = 'inactive';
      throw error;
    }
  }

  async #restore({ head, replica }: Backup, request: RestoreRequest): Promise<string> {
    if (!request.force) this.#mustBeInactive();
    const addresses = this.#resolve({ ...request, dataPathAddress: '' }, true);
    await requireKernel();
    const { restoreAlone } = await import('./alone.ts');
    if (this.#state !== 'inactive') await this.#leave(true);
    this.#state = 'pending';
    try {
      const membership = await restoreAlone({
        environment: this.#environment,
        identity: this.#identity,
        replica,
        term: head.term,
        description: this.#description.now(),
        ...addresses,
      });
      this.#identity.save(membership);
      await this.#takePlace(membership, true);
      return membership.nodeId;
    } catch (error) {
      await this.#swarm?.stop();
      this.#swarm = undefined;
      this.#identity.erase();
      this.#state = 'inactive';
      throw error;
    }
  }

  /** After the other managers were lost: the swarm goes on with this one. */
  async #goOnAlone(advertiseAddress: string): Promise<string> {
    if (this.#state === 'locked') throw new SwarmError('unavailable', LOCKED);
    if (this.#isOut) throw new SwarmError('conflict', this.#error);
    const { goOnAlone, refuseWithQuorum, stateToGoOnFrom } = await import('./alone.ts');
    const known = stateToGoOnFrom(this.#identity.membership());
    await refuseWithQuorum(this.#swarm?.manager?.control);
    const membership = movedTo(known, advertiseAddress || this.#options.advertiseAddress);
    checkOwnAddress(membership.advertiseHost);
    this.#waiting?.cancel();
    const swarm = this.#swarm;
    this.#swarm = undefined;
    this.#state = 'pending';
    await swarm?.stop();
    try {
      await this.#takePlace(await goOnAlone(this.#environment, this.#identity, membership), true);
    } catch (error) {
      // Nothing was changed, or all was: what is there takes its place again.
      await this.#takePlace(this.#identity.membership() ?? known).catch((again: unknown) =>
        this.#cannotTakePlace(messageOf(again)),
      );
      throw error;
    }
    if (this.#swarm === undefined) throw new SwarmError('unavailable', this.#error);
    return known.nodeId;
  }

  async #join(request: JoinRequest): Promise<void> {
    this.#mustBeInactive();
    if (request.remoteAddresses.length === 0) {
      throw new SwarmError('invalid', 'name a manager to join: host:port');
    }
    const remotes = request.remoteAddresses.map((each) => {
      const { host, port } = parseHostPort(each, 'manager address', DEFAULT_PORT);
      return `${host}:${port}`;
    });
    const { advertised, listen } = this.#resolve(request, false);
    await requireKernel();
    this.#state = 'pending';
    let given: NodeCredentials | undefined;
    try {
      const { clock, log } = this.#environment;
      const issued = await requestCertificate({
        clock,
        log,
        remoteAddresses: remotes,
        token: request.token,
        availability: request.availability,
        description: this.#description.now(),
        advertiseAddress: advertised.host,
        port: advertised.port,
        previousNodeId: '',
      });
      given = issued.credentials;
      const membership: Membership = {
        nodeId: issued.nodeId,
        role: issued.role,
        hostIndex: issued.hostIndex,
        advertiseHost: advertised.host,
        port: advertised.port,
        listenHost: listen.host,
        vxlanPort: issued.vxlanPort,
        managers: remotes,
        raftId: 0,
      };
      await checkReachable(this.#environment, membership, issued.credentials, remotes);
      // What a crash left of an earlier init, join or restore.
      this.#identity.erase();
      this.#identity.saveCredentials(issued.credentials);
      this.#identity.save(membership);
      const parts = { ...this.#parts(membership, issued.credentials), joining: true };
      this.#swarm = await SwarmNode.start(parts);
      this.#state = 'active';
    } catch (error) {
      this.#identity.erase();
      if (given !== undefined) await withdraw(this.#environment, remotes, given);
      this.#state = 'inactive';
      throw error;
    }
  }

  async #leave(force: boolean): Promise<void> {
    const swarm = this.#swarm;
    if (swarm === undefined && !['error', 'locked'].includes(this.#state)) {
      throw new SwarmError('unavailable', 'This node is not part of a swarm.');
    }
    if (this.#state === 'locked' && !force) {
      throw new SwarmError(
        'unavailable',
        'Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this ' +
          'message.',
      );
    }
    await swarm?.leave(force);
    await swarm?.stop();
    this.#swarm = undefined;
    await this.#forget(force ? 0 : LEAVE_GRACE_MS);
    if (swarm === undefined) return;
    const { membership, credentials } = swarm;
    await sayLeft(this.#environment, membership, credentials);
  }

  async #forget(graceMs: number): Promise<void> {
    const { log } = this.#environment;
    await forgetTasks(this.#runtime, this.#options.dataRoot, graceMs, log);
    this.#identity.erase();
    this.#state = 'inactive';
    this.#error = '';
    this.#isOut = false;
  }

  #removed(reason: string): void {
    this.#isOut = true;
    this.#environment.log.error('this node may not take part any more', { reason });
    this.#state = 'error';
    this.#error = reason;
    const swarm = this.#swarm;
    this.#swarm = undefined;
    void swarm?.stop().catch((error: unknown) => {
      this.#environment.log.warn('cannot stop cleanly', { error: messageOf(error) });
    });
  }
}
