/**
 * The manager half of a node: opens its Raft member (founding a group, taking its place again, or
 * asking the leader to be added), joins it to the store and runs the manager's services on it.
 * Removing a member is the leader's work; this only stops and hands the lead over.
 */
import { assert } from '../base/assert.ts';
import { hasCode, messageOf, SwarmError } from '../base/errors.ts';
import { withDeadline } from '../base/queue.ts';
import type { Control } from '../manager/control/types.ts';
import { Manager } from '../manager/manager.ts';
import { RaftNode } from '../manager/raft/node.ts';
import { StreamTransport } from '../manager/raft/transport.ts';
import { raftDialer } from '../manager/raftLink.ts';
import { Replica } from '../manager/replica.ts';
import type { Change } from '../manager/store/types.ts';
import type { PeerIdentity } from '../proto/credentials.ts';
import type { Link } from '../proto/link.ts';
import { client, type MethodName, type RpcChannel, type RpcServer } from '../proto/rpc.ts';
import { Raft } from '../proto/services.ts';
import { askLeader } from './askLeader.ts';
import { saveBackup } from './backup.ts';
import type { Environment } from './environment.ts';
import type { Membership } from './identity.ts';

const LEAVE_TIMEOUT_MS = 5000;
const JOIN_TIMEOUT_MS = 15_000;
const JOIN_ATTEMPTS = 20;
const JOIN_PAUSE_MS = 500;
const LEAD_TIMEOUT_MS = 10_000;

export interface ManagerRoleOptions {
  readonly environment: Environment;
  /** Raft's files. */
  readonly directory: string;
  readonly membership: Membership;
  readonly founding: readonly Change[] | undefined;
  /** It has just become the only one: it leads before anything else happens. */
  readonly alone: boolean;
  /** Raft's files are sealed with it. */
  readonly sealKey: Uint8Array;
  readonly olderSealKeys: readonly Uint8Array[];
  readonly onSealSettled: () => void;
  readonly server: RpcServer;
  /** A new connection to a manager. */
  readonly channelTo: (address: string) => RpcChannel;
  /** A new link to another manager. */
  readonly linkTo: (address: string, onOtherProtocol: () => void) => Link;
  /** A new connection to any host. */
  readonly hostChannelTo: (address: string) => RpcChannel;
  /** Keeps this member's Raft id before it is used. */
  readonly remember: (raftId: number) => void;
  /** The managers changed, or who leads ('' = nobody known). */
  readonly onManagers: (addresses: readonly string[], leader: string) => void;
  /** See Manager. Returns a new key for Raft's files, if there is to be one. */
  readonly onUnlockKey: (unlockKey: string) => Uint8Array | undefined;
  /** The group has taken this member out, or its whole node, perhaps while it was away. */
  readonly onRemoved: (why: SwarmError) => void;
}

export class ManagerRole {
  readonly #options: ManagerRoleOptions;
  readonly #raft: RaftNode;
  readonly #replica: Replica;
  readonly #manager: Manager;
  readonly #stopFollowing: () => void;

  /**
   * Resolves once the member takes part; a founder's, once the store's first objects are in.
   * SwarmError not_found when a member's files hold nothing: what it promised is forgotten with
   * them, so it has to become a new one.
   */
  static async start(options: ManagerRoleOptions): Promise<ManagerRole> {
    const { environment, membership, directory, founding, channelTo } = options;
    const { clock, random, log, meter } = environment;
    const address = `${membership.advertiseHost}:${membership.port}`;
    const joins = founding === undefined && membership.raftId === 0;
    const id = joins ? await joinGroup(options, address) : membership.raftId;
    const replica = new Replica({ clock });
    const transport = new StreamTransport({
      self: { id, address },
      dialer: raftDialer(channelTo, options.linkTo),
      clock,
      random,
      log,
    });
    const raft = await RaftNode.open({
      id,
      address,
      dir: directory,
      clock,
      random,
      log,
      transport,
      stateMachine: replica,
      ...(founding === undefined ? {} : { bootstrap: { voters: [{ id, address }] } }),
      join: joins,
      sealKey: options.sealKey,
      olderSealKeys: options.olderSealKeys,
      onSealSettled: options.onSealSettled,
      meter,
      onRemoved: options.onRemoved,
      onFatal: environment.fatal,
    });
    replica.attach(raft);
    const role = new ManagerRole(options, raft, replica, transport);
    try {
      if (founding !== undefined || options.alone) await role.#lead();
      if (founding !== undefined) await found(replica, founding);
    } catch (error) {
      await role.stop();
      throw error;
    }
    return role;
  }

  private constructor(
    options: ManagerRoleOptions,
    raft: RaftNode,
    replica: Replica,
    transport: StreamTransport,
  ) {
    const { environment, membership, server } = options;
    this.#options = options;
    this.#raft = raft;
    this.#replica = replica;
    this.#manager = new Manager({
      ...environment,
      clusterClock: replica.clock,
      nodeId: membership.nodeId,
      raft,
      transport,
      store: replica.store,
      proposer: replica,
      server,
      channelTo: (address, role) =>
        role === 'manager' ? options.channelTo(address) : options.hostChannelTo(address),
      onUnlockKey: (unlockKey) => {
        const sealKey = options.onUnlockKey(unlockKey);
        if (sealKey !== undefined) raft.rotateSealKey(sealKey);
      },
      onFatal: environment.fatal,
    });
    this.#manager.start();
    this.#stopFollowing = raft.onLeadership(() => this.#tellManagers());
  }

  get control(): Control {
    return this.#manager.control;
  }

  heartbeatAges(): ReadonlyMap<string, number> {
    return this.#manager.heartbeatAges();
  }

  /** The file of a backup; see saveBackup. */
  backup(hostname: string): Promise<AsyncIterable<Uint8Array>> {
    const { clock, random } = this.#options.environment;
    const term = (): number => this.#raft.status().term;
    return saveBackup({ clock, random, replica: this.#replica, hostname, term });
  }

  authorize(peer: PeerIdentity | undefined, method: MethodName, problem: string): void {
    this.#manager.authorize(peer, method, problem);
  }

  /** This node has a new certificate: connections made with the old one are made anew. */
  credentialsChanged(): void {
    this.#manager.credentialsChanged();
  }

  /** Stops taking part; a leader hands its lead over first. */
  async stop(): Promise<void> {
    this.#stopFollowing();
    await this.#raft.stop({ transfer: true });
    this.#manager.stop();
  }

  /**
   * Takes this manager out of the group before it leaves the swarm. SwarmError conflict when that
   * needs `force`: it is a manager, and perhaps the last one.
   */
  async leave(force: boolean): Promise<void> {
    const others = this.#raft.members().filter((member) => member.id !== this.#raft.id);
    if (!force) {
      const loss =
        others.length === 0
          ? 'Removing the last manager erases all current state of the swarm.'
          : 'Demote it first ("tsswarm node demote"), so that the others keep their quorum.';
      throw new SwarmError(
        'unavailable',
        'You are attempting to leave the swarm on a node that is participating as a manager. ' +
          `${loss} Use --force to leave all the same.`,
      );
    }
    if (others.length === 0) return;
    const { environment, membership, channelTo } = this.#options;
    if (this.#raft.isLeader) {
      await this.#raft.transferLeadership().catch((error: unknown) => {
        // Forced: it leaves whether or not anybody takes the lead from it.
        environment.log.warn('left without handing over', { error: messageOf(error) });
      });
    }
    const own = `${membership.advertiseHost}:${membership.port}`;
    const leader = this.#raft.leaderAddress();
    const addresses = [leader, ...others.map(({ address }) => address)];
    try {
      const request = { raftId: BigInt(this.#raft.id) };
      await askLeader(
        environment.clock,
        addresses.filter((each) => each !== undefined && each !== own) as string[],
        channelTo,
        (channel) => client(Raft, channel).leave(request, { timeoutMs: LEAVE_TIMEOUT_MS }),
      );
    } catch (error) {
      // Forced: it leaves whatever the others say; they will call it down and can remove it.
      environment.log.warn('left without the leader', { error: messageOf(error) });
    }
  }

  /** Where there is nobody else to wait for. */
  async #lead(): Promise<void> {
    const { clock } = this.#options.environment;
    const ready = new Promise<void>((resolve) => {
      if (this.#raft.isLeader) resolve();
      else this.#raft.onLeaderReady(() => resolve());
    });
    await withDeadline(clock, LEAD_TIMEOUT_MS, 'the first election', ready);
  }

  #tellManagers(): void {
    const members = this.#raft.members().filter((member) => !member.learner);
    const leader = this.#raft.leaderAddress() ?? '';
    const addresses = members.map((member) => member.address);
    this.#options.onManagers(addresses, leader);
  }
}

async function found(replica: Replica, founding: readonly Change[]): Promise<void> {
  const { rejected } = await replica.propose({ atomic: true, changes: founding });
  assert(rejected.length === 0, 'a new store refuses its first objects', { rejected });
}

/** Asks the leader to add this node to the group; its new Raft id, remembered. */
async function joinGroup(options: ManagerRoleOptions, address: string): Promise<number> {
  const { environment, membership, channelTo, remember } = options;
  let target = membership.managers.find((each) => each !== address) ?? '';
  let last = 'no other manager is known';
  for (let attempt = 0; attempt < JOIN_ATTEMPTS && target !== ''; attempt += 1) {
    const channel = channelTo(target);
    try {
      const answer = await client(Raft, channel).join({ address }, { timeoutMs: JOIN_TIMEOUT_MS });
      const raftId = Number(answer.raftId);
      remember(raftId);
      return raftId;
    } catch (error) {
      last = messageOf(error);
      environment.log.info('joining the managers', { target, error: last });
      if (!(error instanceof SwarmError) || error.code === 'forbidden') throw error;
      const others = membership.managers.filter((each) => each !== address);
      const named = hasCode(error, 'not_leader') ? error.detail['leader'] : undefined;
      target = named ?? others[attempt % others.length];
    } finally {
      channel.close();
    }
    await environment.clock.sleep(JOIN_PAUSE_MS);
  }
  throw new SwarmError('unavailable', `this node could not become a manager: ${last}`);
}
