/**
 * What daemon/api serves: one node, in or out of a swarm. daemon/node implements it; the HTTP layer
 * turns it into Docker's JSON and never looks behind it.
 */
import type { Duplex } from 'node:stream';
import type { Control } from '../manager/control/types.ts';
import type { NodeAvailability, NodeRole } from '../model/types.ts';
import type { ImageStore } from '../runtime/image/types.ts';
import type { VolumeStore } from '../runtime/volume/types.ts';
import type { LocalContainers } from './containers/manager.ts';
import type { Examined } from './examine.ts';

export interface InitRequest {
  /** 'host[:port]' or interface name; '' = choose (error when there is more than one candidate). */
  readonly advertiseAddress: string;
  /** '' = 0.0.0.0:2377. */
  readonly listenAddress: string;
  /** As `advertiseAddress`; '' = that. Only the same one is there to be used. */
  readonly dataPathAddress: string;
  readonly availability: NodeAvailability;
  readonly addressPools: readonly string[];
  readonly subnetSize: number;
  readonly vxlanPort: number;
  readonly forceNewCluster: boolean;
}

export interface JoinRequest {
  readonly token: string;
  /** host:port of managers, tried in order. */
  readonly remoteAddresses: readonly string[];
  readonly advertiseAddress: string;
  readonly listenAddress: string;
  readonly dataPathAddress: string;
  readonly availability: NodeAvailability;
}

export interface RestoreRequest {
  readonly advertiseAddress: string;
  readonly listenAddress: string;
  /** Of the time of the backup; '' = none was given. */
  readonly unlockKey: string;
  /** Leaves the swarm that this host is in first. */
  readonly force: boolean;
}

export type LocalState = 'inactive' | 'pending' | 'active' | 'error' | 'locked';

export interface LocalNode {
  readonly state: LocalState;
  readonly error: string;
  readonly nodeId: string;
  /** Underlay address of this host, without port; '' outside a swarm. */
  readonly address: string;
  readonly role: NodeRole | undefined;
  /** Managers known to this node, leader first. */
  readonly managers: readonly { readonly nodeId: string; readonly address: string }[];
}

export interface HostInfo {
  readonly id: string;
  readonly hostname: string;
  readonly kernel: string;
  readonly operatingSystem: string;
  readonly osVersion: string;
  readonly architecture: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly cgroupVersion: '1' | '2';
  /** Containers have ids of their own unless they ask for the host's. */
  readonly isRemapped: boolean;
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly warnings: readonly string[];
}

export interface TaskLogQuery {
  readonly follow: boolean;
  readonly sinceNs: bigint;
  /** -1 = all. */
  readonly tail: number;
  readonly stdout: boolean;
  readonly stderr: boolean;
}

export interface TaskLogRecord {
  readonly taskId: string;
  readonly nodeId: string;
  readonly timeNs: bigint;
  readonly stream: 'stdout' | 'stderr';
  readonly data: Uint8Array;
}

/** A host that runs a task, and the task's container there. */
export interface TaskHost {
  readonly nodeId: string;
  readonly hostname: string;
  /** host:port of its gRPC listener. */
  readonly address: string;
  /** '' while it has none. */
  readonly containerId: string;
  readonly taskId: string;
}

/** Tasks wherever they run, for exec, cp, stats and the like. */
export interface TaskHosts {
  /**
   * By task id (or a prefix), name ('web.1.<id>'), 'web.1', or a service whose running tasks are as
   * good as each other. SwarmError not_found; conflict when it has no container (yet).
   */
  find(key: string): Promise<TaskHost>;
  /** Of a task on another host, by the container's id, a prefix of it, or its name. */
  elsewhere(containerKey: string): Promise<TaskHost | undefined>;
  isOwn(host: TaskHost): boolean;
  /** Whether it is the container of a task of this host. */
  isTask(containerKey: string): boolean;
  /** A connection to the host's API; it ends with a SwarmError that names the host. */
  connect(host: TaskHost): Duplex;
}

/** What belongs to this host alone, in or out of a swarm. */
export interface HostRooms {
  readonly containers: LocalContainers;
  readonly volumes: VolumeStore;
}

export interface DaemonNode {
  readonly version: string;
  readonly images: ImageStore;
  readonly taskHosts: TaskHosts;
  readonly host: HostRooms;
  local(): LocalNode;
  info(): HostInfo;
  /** The cluster; SwarmError 'not_manager' with the way out when this node is no manager. */
  control(): Control;
  init(request: InitRequest): Promise<string>;
  join(request: JoinRequest): Promise<void>;
  leave(force: boolean): Promise<void>;
  /** What --force-new-cluster would go on from, by this host's files; refused as that would be. */
  examine(): Promise<Examined>;
  /** The file of a backup. SwarmError not_manager, no_quorum. */
  backup(): Promise<AsyncIterable<Uint8Array>>;
  /** This host becomes the only manager of the backup's swarm; its node id. */
  restore(file: AsyncIterable<Uint8Array>, request: RestoreRequest): Promise<string>;
  /** Takes its place again with the unlock key. SwarmError conflict when it is not locked. */
  unlock(unlockKey: string): Promise<void>;
  /** Logs of tasks wherever they run, each in order; ends when all end (unless follow). */
  taskLogs(
    taskIds: readonly string[],
    query: TaskLogQuery,
    signal: AbortSignal,
    /** Ids of tasks to add as they come; it ends with `signal`. */
    later?: AsyncIterable<string>,
  ): AsyncIterable<TaskLogRecord>;
  /** Age of the last heartbeat of each node, as the leader told it; empty where it is not known. */
  heartbeatAges(): ReadonlyMap<string, number>;
}
