/**
 * What the API asks of the cluster. Every manager offers it; writes run at the leader (a follower
 * forwards them, and answers after its own store has applied them); reads come from the local store
 * after a barrier. Inputs are checked here (model/validate), names are resolved to ids, and errors
 * are SwarmErrors whose message a user reads.
 */
import type {
  Cluster,
  ClusterSpec,
  DataSpec,
  DataTable,
  Network,
  NetworkSpec,
  Node,
  NodeSpec,
  Service,
  ServiceSpec,
  Tables,
} from '../../model/types.ts';
import type { ManagersPicture } from '../managers.ts';
import type { StoreReader } from '../store/types.ts';

/** What a cluster update changes besides the specification. */
export interface Rotations {
  readonly workerToken: boolean;
  readonly managerToken: boolean;
  /** PEM; of the specification's signingCaCertificate, when that is new; else ''. */
  readonly signingCaKey: string;
  readonly unlockKey: boolean;
}

export const NO_ROTATION: Rotations = {
  workerToken: false,
  managerToken: false,
  signingCaKey: '',
  unlockKey: false,
};

export interface JoinTokens {
  readonly worker: string;
  readonly manager: string;
}

export interface Control {
  /** The local store after a barrier (linearizable). SwarmError no_quorum when it cannot be had. */
  read(): Promise<StoreReader>;
  /** The local store as it is, for live pictures and events. */
  readonly store: StoreReader;

  createService(spec: ServiceSpec): Promise<Service>;
  /** `version` must be the current one ('out_of_sequence' otherwise). */
  updateService(id: string, version: number, spec: ServiceSpec): Promise<Service>;
  /** Back to previousSpec. */
  rollbackService(id: string, version: number): Promise<Service>;
  removeService(id: string): Promise<void>;

  createNetwork(spec: NetworkSpec): Promise<Network>;
  /** SwarmError 'conflict' naming the services that use it. */
  removeNetwork(id: string): Promise<void>;

  createData<T extends DataTable>(table: T, spec: DataSpec): Promise<Tables[T]>;
  /** Labels only: what else `spec` names must be as it is, or be left out. */
  updateData<T extends DataTable>(
    table: T,
    id: string,
    version: number,
    spec: DataSpec,
  ): Promise<Tables[T]>;
  /** SwarmError 'invalid' naming the services that use it. */
  removeData(table: DataTable, id: string): Promise<void>;

  /**
   * Role changes are carried out by the role loop (certificate, Raft membership). `replaces`: id of
   * a manager that this node, now to be one, takes the place of.
   */
  updateNode(id: string, version: number, spec: NodeSpec, replaces?: string): Promise<Node>;
  /** Refused ('conflict') unless down, or `force`; managers must be demoted first. */
  removeNode(id: string, force: boolean): Promise<void>;

  updateCluster(version: number, spec: ClusterSpec, rotate: Rotations): Promise<Cluster>;
  /** The tasks made until now may go to any node that makes the cluster evener. */
  rebalance(): Promise<Cluster>;
  joinTokens(): Promise<JoinTokens>;
  /** State of the managers' Raft, for 'info', 'node ls' and watch. */
  raftStatus(): RaftSummary;
  /** Every manager's own state, asked for now; needs no quorum. */
  managers(): Promise<ManagersPicture>;
  /** What whoever looks at this manager should know; [] mostly. */
  warnings(): readonly string[];
}

export interface RaftSummary {
  readonly term: number;
  readonly leaderNodeId: string;
  readonly commit: number;
  readonly applied: number;
  readonly managers: readonly {
    readonly raftId: number;
    readonly nodeId: string;
    readonly address: string;
    readonly isLeader: boolean;
    readonly reachable: boolean;
    /** Entries behind the leader; undefined unless asked of the leader. */
    readonly lag: number | undefined;
  }[];
}
