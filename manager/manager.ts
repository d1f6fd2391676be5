/**
 * One manager: puts its services on the port and starts and stops what only a leader does. Given a
 * running Raft member and its replica, it owns neither; it holds no state of its own that a new
 * leader would miss.
 *
 * | this manager | what runs |
 * |---|---|
 * | follows | the CA's root certificate, Raft streams, control (forwarding), local reads |
 * | leads, own term applied | also dispatcher, health, roles, every loop |
 */
import type { Clock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import type { Ids } from '../base/id.ts';
import type { Log } from '../base/log.ts';
import type { Meter } from '../base/meter.ts';
import type { Random } from '../base/random.ts';
import { hostPort } from '../model/address.ts';
import type { Node } from '../model/types.ts';
import { toU64 } from '../proto/convert.ts';
import type { PeerIdentity } from '../proto/credentials.ts';
import { client, type MethodName, type RpcChannel, type RpcServer } from '../proto/rpc.ts';
import {
  CertificateAuthority,
  Control as ControlService,
  Dispatcher as DispatcherService,
  Raft,
} from '../proto/services.ts';
import { authorize } from './authorize.ts';
import { CertificateAuthorityServer } from './ca/server.ts';
import { Attachments } from './control/attachments.ts';
import { ManagerControl } from './control/control.ts';
import { controlHandlers } from './control/server.ts';
import type { Control, RaftSummary } from './control/types.ts';
import { Writes } from './control/writes.ts';
import { Dispatcher, type ManagerInfo } from './dispatcher/dispatcher.ts';
import { addManagerGauges } from './gauges.ts';
import { HealthMonitor } from './health/monitor.ts';
import { KeptChannels } from './keptChannels.ts';
import { LeaderPicture, type LeaderView } from './leaderPicture.ts';
import { LoopDriver } from './loop.ts';
import { managerLoops } from './loops.ts';
import { differenceText, type ManagerState, ownState, stateFromWire } from './managerState.ts';
import { drawManagers, type ManagersPicture } from './managers.ts';
import type { RaftNode } from './raft/node.ts';
import type { StreamTransport } from './raft/transport.ts';
import { raftStreamHandlers } from './raftLink.ts';
import { Roles } from './roles.ts';
import type { Proposer, StoreState, StoreWatch } from './store/types.ts';
import { StoreComparison } from './storeComparison.ts';

/** What is asked for once a second is not waited for much longer. */
const STATUS_TIMEOUT_MS = 2000;

const CURRENT_RETRY_MS = 1000;

export interface ManagerOptions {
  /** The host's: certificates are dated by it. */
  readonly clock: Clock;
  /** The replica's, that entries are stamped with: everything else goes by it. */
  readonly clusterClock: Clock;
  readonly random: Random;
  readonly ids: Ids;
  readonly log: Log;
  readonly nodeId: string;
  readonly raft: RaftNode;
  readonly transport: Pick<StreamTransport, 'acceptStream'>;
  readonly store: StoreState;
  /** What this manager counts, and where it stands, is read there. */
  readonly meter: Meter;
  readonly proposer: Proposer;
  readonly server: RpcServer;
  /** A new connection to another manager ('manager'), or to any host; closed by who asked. */
  readonly channelTo: (address: string, role?: 'manager') => RpcChannel;
  /** What the managers' keys on disk are to be sealed with (hex); '' = in the clear. */
  readonly onUnlockKey: (unlockKey: string) => void;
  /** A broken invariant: the process must end. */
  readonly onFatal: (error: unknown) => void;
}

export class Manager {
  readonly #options: ManagerOptions;
  readonly #log: Log;
  readonly #channels: KeptChannels;
  readonly #dispatcher: Dispatcher;
  readonly #health: HealthMonitor;
  readonly #roles: Roles;
  readonly #loops: LoopDriver;
  readonly #authority: CertificateAuthorityServer;
  readonly #writes: Writes;
  readonly #control: ManagerControl;
  readonly #picture: LeaderPicture;
  readonly #attachments: Attachments;
  readonly #comparison: StoreComparison;
  #withdraw: (() => void)[] = [];
  #watch: StoreWatch | undefined;
  /** All that the cluster had decided when this manager started is known here. */
  #isCurrent = false;
  #isStopped = false;
  #leads = false;
  /** Raft id of whoever led last, other than this manager. */
  #formerLeader = 0;

  constructor(options: ManagerOptions) {
    const { clusterClock: clock, random, ids, store, proposer, raft, channelTo } = options;
    this.#options = options;
    const log = options.log;
    this.#log = log;
    this.#channels = new KeptChannels(channelTo);
    const notLeader = (): SwarmError => this.#notLeader();
    const parts = { clock, random, ids, log, store, proposer, notLeader };
    this.#health = new HealthMonitor({
      ...parts,
      channelTo: (node) => this.#channels.to(hostPort(node.address, node.port)),
    });
    this.#dispatcher = new Dispatcher({
      ...parts,
      managers: () => this.#managers(),
      sessions: this.#health,
    });
    this.#roles = new Roles({ ...parts, raft });
    this.#loops = new LoopDriver({
      ...parts,
      loops: managerLoops(ids),
      onFatal: options.onFatal,
    });
    this.#authority = new CertificateAuthorityServer({ ...parts, clock: options.clock });
    this.#writes = new Writes({
      ...parts,
      cannotDemote: (raftId) => this.#roles.cannotDemote(raftId),
    });
    this.#attachments = new Attachments(parts);
    this.#picture = new LeaderPicture(options.clock, () => this.#askLeader());
    this.#comparison = new StoreComparison({
      ...parts,
      clock: options.clock,
      host: () => this.#hostname(),
      askLeader: (version) => this.#askLeaderState(version),
    });
    this.#control = new ManagerControl({
      ...parts,
      writes: this.#writes,
      leaderAddress: () => this.#leaderAddress(),
      noQuorum: () => this.#noQuorum(),
      channelTo: (address) => this.#channels.to(address, 'manager'),
      raftStatus: () => this.#raftStatus(),
      managers: () => this.#drawManagers(),
      warnings: () => this.#warnings(),
      onLeadership: (listener) => raft.onLeadership(listener),
    });
  }

  /** Serves, and follows Raft's leadership from now on. */
  start(): void {
    const { server, raft, transport, store } = this.#options;
    this.#withdraw = [
      server.handle(CertificateAuthority, this.#authority.handlers()),
      server.handle(DispatcherService, {
        ...this.#dispatcher.handlers(),
        ...this.#attachments.handlers(),
      }),
      server.handle(Raft, {
        ...raftStreamHandlers((stream, kind) => transport.acceptStream(stream, kind)),
        ...this.#roles.handlers(),
      }),
      server.links.handle({ service: Raft.typeName, method: Raft.method.messages.name }, (link) =>
        transport.acceptStream(link, 'messages'),
      ),
      server.handle(
        ControlService,
        controlHandlers({
          read: () => this.#control.read(),
          store,
          writes: this.#writes,
          isLeader: () => raft.isLeader,
          notLeader: () => this.#notLeader(),
          state: (atVersion) => this.#state(atVersion),
          heartbeatAges: () => this.heartbeatAges(),
          members: () => this.#raftStatus().managers,
          tell: (nodeId) => this.#tell(nodeId),
        }),
      ),
      raft.onLeadership(({ leaderId }) => this.#leadershipChanged(leaderId)),
      raft.onLeaderReady(() => this.#lead()),
      addManagerGauges(this.#options.meter, {
        raft,
        store,
        nodeIdOf: (raftId) => this.#nodeOfRaftId(raftId)?.id ?? '',
        storeDiffers: () => this.#comparison.differsAt > 0,
      }),
    ];
    this.#comparison.start();
    this.#followStore(store.watch());
    void this.#becomeCurrent();
  }

  /** A log read back tells of locks and keys that were changed since: they are not obeyed. */
  async #becomeCurrent(): Promise<void> {
    const { proposer, clock } = this.#options;
    while (!this.#isStopped && !this.#isCurrent) {
      try {
        await proposer.barrier();
        this.#isCurrent = true;
      } catch (error) {
        if (!(error instanceof SwarmError)) throw error;
        // Nobody leads, or it lags: nothing is sealed anew meanwhile.
        await clock.sleep(CURRENT_RETRY_MS);
      }
    }
    if (!this.#isStopped) this.#followCluster();
  }

  /** Stops serving; the Raft member is its owner's to stop, before or after. */
  stop(): void {
    this.#follow();
    for (const withdraw of this.#withdraw) withdraw();
    this.#withdraw = [];
    this.#watch?.close();
    this.#watch = undefined;
    this.#isStopped = true;
    this.#comparison.stop();
    this.#channels.close();
  }

  /** Calls to others are to show the new certificate; those under way come to their end. */
  credentialsChanged(): void {
    this.#channels.close();
  }

  get control(): Control {
    return this.#control;
  }

  get leads(): boolean {
    return this.#leads;
  }

  /** Milliseconds since each node was heard from, by node id; a follower's as it was told last. */
  heartbeatAges(): ReadonlyMap<string, number> {
    return this.#leads ? this.#dispatcher.heartbeatAges() : this.#picture.look().heartbeatAges;
  }

  async #askLeader(): Promise<LeaderView> {
    const address = this.#leaderAddress();
    if (address === '') throw this.#notLeader();
    const leader = client(ControlService, this.#channels.to(address, 'manager'));
    const { heartbeats, members } = await leader.leaderStatus({}, { timeoutMs: STATUS_TIMEOUT_MS });
    return {
      heartbeatAges: new Map(heartbeats.map(({ nodeId, ageMs }) => [nodeId, Number(ageMs)])),
      members: new Map(
        members.map(({ raftId, reachable, lag }) => [
          Number(raftId),
          { reachable, lag: Number(lag) },
        ]),
      ),
    };
  }

  #state(atVersion: number): ManagerState {
    const { raft, store } = this.#options;
    return ownState(raft, store, this.#comparison.differsAt, atVersion);
  }

  async #askState(address: string, atVersion: number): Promise<ManagerState> {
    const manager = client(ControlService, this.#channels.to(address, 'manager'));
    const request = { atVersion: toU64(atVersion, 'atVersion') };
    return stateFromWire(await manager.managerState(request, { timeoutMs: STATUS_TIMEOUT_MS }));
  }

  #askLeaderState(atVersion: number): Promise<ManagerState> | undefined {
    const { leaderId } = this.#options.raft.leadership;
    const address = this.#leaderAddress();
    if (leaderId === this.#options.raft.id || address === '') return undefined;
    return this.#askState(address, atVersion);
  }

  #drawManagers(): Promise<ManagersPicture> {
    const { raft, store } = this.#options;
    return drawManagers({
      store,
      members: () => raft.members(),
      nodeOf: (raftId) => this.#nodeOfRaftId(raftId),
      own: (atVersion) => this.#state(atVersion),
      ask: (address, atVersion) => this.#askState(address, atVersion),
    });
  }

  #hostname(): string {
    const { store, nodeId } = this.#options;
    return store.get('node', nodeId)?.description.hostname ?? nodeId;
  }

  #warnings(): readonly string[] {
    const { differsAt } = this.#comparison;
    return differsAt > 0 ? [`WARNING: ${differenceText(this.#hostname(), differsAt)}`] : [];
  }

  /** For the RPC server: throws unless `peer` may call `method`. */
  authorize(peer: PeerIdentity | undefined, method: MethodName, problem: string): void {
    const lagging = this.#options.raft.isLeader ? undefined : this.#notLeader();
    authorize(this.#options.store, lagging, peer, method, problem);
  }

  // ---- leadership ------------------------------------------------------------------------------

  #leadershipChanged(leaderId: number | undefined): void {
    const { raft } = this.#options;
    if (leaderId !== undefined && leaderId !== raft.id) this.#formerLeader = leaderId;
    if (!raft.isLeader) this.#follow();
    this.#dispatcher.announce();
  }

  #lead(): void {
    if (this.#leads) return;
    this.#leads = true;
    const former = this.#nodeOfRaftId(this.#formerLeader);
    this.#log.info('this manager leads', { nodeId: this.#options.nodeId });
    this.#health.start(former?.id ?? '');
    this.#dispatcher.start();
    this.#roles.start();
    this.#loops.start();
  }

  #follow(): void {
    if (!this.#leads) return;
    this.#leads = false;
    this.#log.info('this manager leads no more', { nodeId: this.#options.nodeId });
    this.#loops.stop();
    this.#roles.stop();
    this.#dispatcher.stop();
    this.#health.stop();
  }

  /** The cluster's settings of the log are this member's. */
  #followCluster(): void {
    const { store, raft } = this.#options;
    const cluster = store.cluster();
    if (cluster === undefined) return;
    if (this.#isCurrent) this.#options.onUnlockKey(cluster.unlockKey);
    const { spec } = cluster;
    const { snapshotInterval, logEntriesForSlowFollowers, keepOldSnapshots } = spec;
    raft.keepEntries(snapshotInterval, logEntriesForSlowFollowers, keepOldSnapshots);
  }

  /** Removed and demoted nodes lose their connections; role changes are acted on at once. */
  #followStore(watch: StoreWatch): void {
    this.#watch = watch;
    this.#followCluster();
    const { server, store } = this.#options;
    watch.onEvents(() => {
      try {
        for (let events = watch.take(1000); events.length > 0; events = watch.take(1000)) {
          for (const event of events) {
            if (event.table === 'cluster') this.#followCluster();
            if (event.table !== 'node') continue;
            if (event.kind === 'remove') server.disconnect(event.id);
            const [before, after] = [event.before, event.after] as (Node | undefined)[];
            if (before?.spec.role !== after?.spec.role) this.#roles.poke();
          }
        }
      } catch (error) {
        if (!(error instanceof SwarmError)) throw error;
        // Fallen out of the ring; every call is checked against the store anyway.
        watch.close();
        this.#followStore(store.watch());
        this.#roles.poke();
      }
    });
  }

  // ---- what others are told --------------------------------------------------------------------

  #nodeOfRaftId(raftId: number): Node | undefined {
    for (const node of this.#options.store.all('node')) {
      if (node.manager?.raftId === raftId) return node;
    }
    return undefined;
  }

  #tell(nodeId: string): void {
    const { raft, store } = this.#options;
    const raftId = store.get('node', nodeId)?.manager?.raftId;
    if (raftId !== undefined) raft.tellCommitted(raftId);
  }

  #leaderAddress(): string {
    return this.#options.raft.leaderAddress() ?? '';
  }

  #notLeader(): SwarmError {
    const leader = this.#leaderAddress();
    const own = this.#options.raft.leadership.leaderId === this.#options.raft.id;
    if (leader === '' || own) {
      return new SwarmError('not_leader', 'this manager does not lead; who does is not known yet');
    }
    return new SwarmError('not_leader', `this manager does not lead; the leader is ${leader}`, {
      detail: { leader },
    });
  }

  #noQuorum(): SwarmError {
    const { managers } = this.#raftStatus();
    const missing = managers.filter(({ reachable }) => !reachable);
    const needed = Math.floor(managers.length / 2) + 1;
    const names = missing.map(({ nodeId, address }) => {
      const hostname = this.#options.store.get('node', nodeId)?.description.hostname ?? '';
      return hostname === '' ? address : `${hostname} (${address})`;
    });
    const answering = managers.length - missing.length;
    return new SwarmError(
      'no_quorum',
      answering < needed
        ? `the managers have no quorum: ${answering} of ${managers.length} answer, ${needed} are ` +
            `needed; not answering: ${names.join(', ')}: bring back enough of them, then try again`
        : 'the managers have no leader: an election is under way; try again in a moment',
    );
  }

  /** Managers in the order an agent should try them. */
  #managers(): readonly ManagerInfo[] {
    const managers = this.#raftStatus().managers.map(({ nodeId, address, isLeader }) => ({
      nodeId,
      address,
      isLeader,
    }));
    return managers.sort((left, right) => Number(right.isLeader) - Number(left.isLeader));
  }

  #raftStatus(): RaftSummary {
    const { raft } = this.#options;
    const status = raft.status();
    const leader = this.#nodeOfRaftId(status.leaderId ?? 0);
    const told = this.#leads ? undefined : this.#picture.peek().members;
    return {
      term: status.term,
      leaderNodeId: leader?.id ?? '',
      commit: status.commit,
      applied: status.applied,
      managers: raft.members().map((member) => {
        const node = this.#nodeOfRaftId(member.id);
        // A follower hears from the leader alone: of the others it knows what the leader wrote.
        const isThought = status.leaderId !== undefined && node?.state === 'ready';
        const known = told?.get(member.id);
        return {
          raftId: member.id,
          nodeId: node?.id ?? '',
          address: member.address,
          isLeader: member.isLeader,
          reachable: member.reachable ?? known?.reachable ?? isThought,
          lag: member.lag ?? known?.lag,
        };
      }),
    };
  }
}
