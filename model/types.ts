/**
 * The domain: every object the store holds, as flat read-only records that are replaced and never
 * changed. Times are whole Unix milliseconds, sizes bytes, CPU billionths of a core. Strings that
 * are absent are ''; objects that are absent are undefined. Docker's JSON is made in daemon/api,
 * wire bytes in proto/convert; neither appears here.
 */
import type { Cluster } from './clusterTypes.ts';
import type { Config, FileReference, Secret } from './dataTypes.ts';
import type { TaskState } from './taskState.ts';

export type { Cluster, ClusterSpec, RemovedNode, RootRotation } from './clusterTypes.ts';
export type { Config, DataSpec, DataTable, FileReference, Secret } from './dataTypes.ts';

export type Labels = Readonly<Record<string, string>>;

/** What every object has. `version` is the Raft index of its last change. */
export interface ObjectBase {
  readonly id: string;
  readonly version: number;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export type TableName = 'cluster' | 'node' | 'service' | 'task' | 'network' | 'secret' | 'config';

// ---- node --------------------------------------------------------------------------------------

export type NodeRole = 'worker' | 'manager';
export type NodeAvailability = 'active' | 'pause' | 'drain';
/** 'unknown': its session moved with the leader and it has not been heard of yet. */
export type NodeState = 'unknown' | 'down' | 'ready' | 'disconnected';

export interface NodeSpec {
  readonly name: string;
  readonly labels: Labels;
  readonly role: NodeRole;
  readonly availability: NodeAvailability;
}

/**
 * What a node offers or a task is given: one named unit ('gpu', 'uuid-1', 1), or an amount without
 * a name ('ssd', '', 3). A request is always an amount.
 */
export interface GenericResource {
  readonly kind: string;
  readonly name: string;
  readonly amount: number;
}

export interface NodeDescription {
  readonly hostname: string;
  readonly os: string;
  /** Docker's names: 'x86_64' | 'aarch64'. */
  readonly architecture: string;
  readonly kernel: string;
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  readonly engineVersion: string;
  readonly engineLabels: Labels;
  readonly genericResources: readonly GenericResource[];
  /** A digest of the machine's own identity, to tell a copied data root; '' when unknown. */
  readonly machineId: string;
}

export interface ManagerStatus {
  readonly raftId: number;
  /** host:port of its gRPC listener. */
  readonly address: string;
}

export interface Node extends ObjectBase {
  readonly spec: NodeSpec;
  readonly description: NodeDescription;
  /** What it really is now; follows spec.role. */
  readonly role: NodeRole;
  readonly state: NodeState;
  /** Readable, e.g. 'session lost and 2 probes failed'. */
  readonly stateMessage: string;
  /** Underlay address as other hosts reach it, without port, and its gRPC port. */
  readonly address: string;
  readonly port: number;
  /** 1..65535, unique; tunnel and gateway addresses come from it. */
  readonly hostIndex: number;
  readonly manager: ManagerStatus | undefined;
  /** When it was last called down; 0 never. */
  readonly downSinceMs: number;
  /** Since when it can take tasks (ready and active); 0 while down, drained or paused. */
  readonly availableSinceMs: number;
  /** Raft index at which `spec` was set; an update must know it. */
  readonly specVersion: number;
  /** Serial number (hex) of the certificate issued last; '' before. */
  readonly certificateSerial: string;
  readonly tls: NodeTls;
}

/** Digests of a node's credentials, hex; '' where not known. */
export interface NodeTls {
  /** Of the key that signed its certificate. */
  readonly issuer: string;
  /** Of the root certificates that it trusts. */
  readonly trust: string;
  /** Of the key that should sign it: it is asked for a new certificate when they differ. */
  readonly wantedIssuer: string;
}

// ---- service -----------------------------------------------------------------------------------

export type RestartCondition = 'none' | 'on-failure' | 'any';

export interface RestartPolicy {
  readonly condition: RestartCondition;
  readonly delayMs: number;
  /** 0 = unlimited. */
  readonly maxAttempts: number;
  /** Attempts are counted within it; 0 = ever. */
  readonly windowMs: number;
}

export const PROPAGATIONS = [
  'private',
  'rprivate',
  'shared',
  'rshared',
  'slave',
  'rslave',
] as const;
export type Propagation = (typeof PROPAGATIONS)[number];

/** How a volume is made when it is not there yet. */
export interface VolumeOptions {
  readonly labels: Labels;
  /** '' = local. */
  readonly driver: string;
  readonly driverOptions: Labels;
  /** An empty volume is not filled with what the image has at the target. */
  readonly noCopy: boolean;
}

export interface MountSpec {
  readonly type: 'bind' | 'tmpfs' | 'volume';
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
  /** tmpfs: 0 = the kernel's default. */
  readonly tmpfsSizeBytes: number;
  readonly tmpfsMode: number;
  /** bind: '' = rprivate. */
  readonly propagation: Propagation | '';
  /** bind: without the mounts below the source. */
  readonly nonRecursive: boolean;
  /** bind: makes a source that is not there as a directory. */
  readonly createSource: boolean;
  /** volume only; undefined = all defaults. */
  readonly volume: VolumeOptions | undefined;
}

export interface HealthCheck {
  /** ['CMD', ...], ['CMD-SHELL', 'line'], ['NONE'] = none, [] = the image's own. */
  readonly test: readonly string[];
  /** Each 0 = the image's, else Docker's default. */
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly startPeriodMs: number;
  readonly startIntervalMs: number;
}

/** -1 = unlimited. */
export interface Ulimit {
  /** 'nofile', 'nproc', ...; without RLIMIT_. */
  readonly name: string;
  readonly soft: number;
  readonly hard: number;
}

export interface Resources {
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  readonly pids: number;
}

export interface ContainerSpec {
  /** As written by the user, plus '@sha256:...' when it could be pinned. */
  readonly image: string;
  readonly labels: Labels;
  /** Overrides the entrypoint; Docker's `Command`. */
  readonly command: readonly string[];
  /** Overrides the arguments. */
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly groups: readonly string[];
  readonly hostname: string;
  readonly mounts: readonly MountSpec[];
  readonly readOnlyRoot: boolean;
  readonly tty: boolean;
  readonly stopSignal: string;
  readonly stopGraceMs: number;
  readonly capabilityAdd: readonly string[];
  readonly capabilityDrop: readonly string[];
  readonly sysctls: Labels;
  /** 'address name', as /etc/hosts has them. */
  readonly hosts: readonly string[];
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOptions: readonly string[];
  /** undefined = the image's. */
  readonly healthCheck: HealthCheck | undefined;
  /** A reaper as process 1; undefined = the daemon's default, which is none. */
  readonly init: boolean | undefined;
  readonly ulimits: readonly Ulimit[];
  /** -1000 to 1000. */
  readonly oomScoreAdj: number;
  /** Ids of the host, of its own; '' = as the host's daemon was told. */
  readonly userns: '' | 'host' | 'own';
  readonly noNewPrivileges: boolean;
  /** A profile: the text of a file as Docker's users write them. */
  readonly seccomp: 'default' | 'unconfined' | { readonly profile: string };
  /** Not even the profile that hosts with AppArmor give to containers. */
  readonly apparmorDisabled: boolean;
  readonly selinuxDisabled: boolean;
  /** What of the label (user, role, type, level) is not the usual; none: no label. */
  readonly selinux: Labels;
  readonly openStdin: boolean;
  /** Docker's X-Registry-Auth as the client sent it; for agents only, never shown. '' = none. */
  readonly registryAuth: string;
  readonly secrets: readonly FileReference[];
  readonly configs: readonly FileReference[];
}

export interface NetworkAttachmentSpec {
  /** Network id. In a request, a name is resolved to it by control. */
  readonly target: string;
  readonly aliases: readonly string[];
  /** Addresses of slot 1, 2, ..., without prefix length; a slot beyond gets a free one. */
  readonly addresses: readonly string[];
  /** Docker's driver options that say nothing to the overlay: kept for who set them. */
  readonly driverOptions?: Labels;
}

export interface Placement {
  /** Checked expressions, e.g. 'node.role==worker'. */
  readonly constraints: readonly string[];
  readonly maxReplicasPerNode: number;
  /** 'spread=node.labels.zone' is ['node.labels.zone']. */
  readonly spreadOver: readonly string[];
  readonly platforms: readonly { readonly os: string; readonly architecture: string }[];
}

export interface TaskSpec {
  readonly container: ContainerSpec;
  readonly limits: Resources;
  readonly reservations: Resources;
  /** Reserved besides; amounts, each kind once. */
  readonly genericResources: readonly GenericResource[];
  readonly restart: RestartPolicy;
  readonly placement: Placement;
  readonly networks: readonly NetworkAttachmentSpec[];
  /** '' = the daemon's default. */
  readonly logDriver: LogDriver | '';
  /** Log driver options as Docker has them ('max-size', 'max-file'). */
  readonly logOptions: Labels;
  /** Raised by --force; differs, so every task is replaced. */
  readonly forceUpdate: number;
}

export const LOG_DRIVERS = ['local', 'json-file', 'none'] as const;
export type LogDriver = (typeof LOG_DRIVERS)[number];

export type UpdateOrder = 'stop-first' | 'start-first';

export interface UpdateConfig {
  /** 0 = all at once. */
  readonly parallelism: number;
  readonly delayMs: number;
  readonly failureAction: 'pause' | 'continue' | 'rollback';
  readonly monitorMs: number;
  readonly maxFailureRatio: number;
  readonly order: UpdateOrder;
  /** Without any progress for this long it has failed; 0 = never. */
  readonly progressDeadlineMs: number;
}

export type Protocol = 'tcp' | 'udp';

export interface PortConfig {
  readonly name: string;
  readonly protocol: Protocol;
  readonly targetPort: number;
  /** 0 in a spec = dynamic (30000-32767). */
  readonly publishedPort: number;
  readonly publishMode: 'ingress' | 'host';
  /** Address of the host that is listened on; '' = all. */
  readonly hostAddress: string;
}

export type ServiceMode =
  | { readonly kind: 'replicated'; readonly replicas: number }
  | { readonly kind: 'global' }
  | {
      readonly kind: 'replicated-job';
      /** At most so many tasks at a time, until so many are complete. */
      readonly maxConcurrent: number;
      readonly totalCompletions: number;
    }
  | { readonly kind: 'global-job' };

export interface ServiceSpec {
  readonly name: string;
  readonly labels: Labels;
  readonly task: TaskSpec;
  readonly mode: ServiceMode;
  readonly update: UpdateConfig;
  readonly rollback: UpdateConfig;
  readonly endpointMode: 'vip' | 'dnsrr';
  readonly ports: readonly PortConfig[];
  /** Its networks were named beside the task, as old clients do; they are shown there. */
  readonly networksOnService?: true;
  /** What the request said nothing of: shown only to who asks for defaults. */
  readonly leftOut?: readonly ('update' | 'rollback')[];
}

export type UpdateState =
  | 'updating'
  | 'paused'
  | 'completed'
  | 'rollback_started'
  | 'rollback_paused'
  | 'rollback_completed';

export interface UpdateStatus {
  readonly state: UpdateState;
  readonly startedAtMs: number;
  /** 0 while under way. */
  readonly completedAtMs: number;
  readonly message: string;
}

/** A job runs once per iteration; an update begins the next. */
export interface JobStatus {
  readonly iteration: number;
  readonly lastExecutionMs: number;
}

export interface VirtualAddress {
  readonly networkId: string;
  /** With prefix length, as Docker shows it: '10.0.1.2/24'. */
  readonly address: string;
}

export interface Service extends ObjectBase {
  readonly spec: ServiceSpec;
  readonly previousSpec: ServiceSpec | undefined;
  /** Raft index at which `spec` was set; tasks carry it. */
  readonly specVersion: number;
  readonly update: UpdateStatus | undefined;
  /** Set by the allocator. */
  readonly virtualAddresses: readonly VirtualAddress[];
  /** spec.ports with dynamic ones filled in. */
  readonly ports: readonly PortConfig[];
  /** specVersion the two fields above were made for; 0 = not yet. */
  readonly allocatedVersion: number;
  /** Of jobs only. */
  readonly job: JobStatus | undefined;
}

// ---- task --------------------------------------------------------------------------------------

/** Milliseconds (Unix) at which each state was first reported; shows where time went. */
export type TaskPhases = Readonly<Record<number, number>>;

export interface TaskStatus {
  readonly state: TaskState;
  readonly atMs: number;
  readonly message: string;
  /** '' or one readable line; for a pending task the reason why it has no node. */
  readonly error: string;
  readonly containerId: string;
  readonly pid: number;
  /** Only meaningful once the container has ended. */
  readonly exitCode: number;
  readonly oomKilled: boolean;
  /** Address on its host's gateway bridge, for ingress; '' when it has none. */
  readonly gatewayAddress: string;
  readonly phases: TaskPhases;
}

export interface TaskNetwork {
  readonly networkId: string;
  /** With prefix length; '' until allocated and for node-local networks. */
  readonly address: string;
  readonly aliases: readonly string[];
}

export interface Task extends ObjectBase {
  readonly serviceId: string;
  readonly serviceName: string;
  /** 1.. for replicated; 0 for global (there the node is the slot). */
  readonly slot: number;
  /** Counts the tasks of a slot; (serviceId, slot or node, generation) is unique. */
  readonly generation: number;
  readonly nodeId: string;
  readonly spec: TaskSpec;
  readonly serviceLabels: Labels;
  /** Service.specVersion it was made from. */
  readonly specVersion: number;
  readonly desiredState: TaskState;
  readonly status: TaskStatus;
  readonly networks: readonly TaskNetwork[];
  readonly ports: readonly PortConfig[];
  /** Unix ms before which it must not be raised from READY to RUNNING (restart delay); 0 = none. */
  readonly notBeforeMs: number;
  /** Id of the node from which a rebalance moves its slot; '' otherwise. It starts first there. */
  readonly movedFrom: string;
  /** Of its job, when it was made; undefined unless it is a job's. */
  readonly jobIteration: number | undefined;
  /** What the scheduler gave it of what it reserves. */
  readonly genericResources: readonly GenericResource[];
}

// ---- network -----------------------------------------------------------------------------------

export interface NetworkSpec {
  readonly name: string;
  readonly labels: Labels;
  /** 'overlay' is the only one that managers hold. */
  readonly driver: 'overlay';
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly ipv6: boolean;
  /** CIDR; '' = cut from the cluster's pools. */
  readonly subnet: string;
  readonly gateway: string;
  /** CIDR of the IPv6 subnet; '' = follows from the network's id. Only with `ipv6`. */
  readonly subnet6: string;
  /** CIDR within subnet that addresses come from; '' = all of it. */
  readonly range: string;
  readonly options: Labels;
}

export interface Network extends ObjectBase {
  readonly spec: NetworkSpec;
  /** Set by the allocator: 0 and '' before. */
  readonly vni: number;
  readonly subnet: string;
  readonly gateway: string;
  /** Why it cannot be allocated; '' when it is. */
  readonly error: string;
}

export interface Tables {
  readonly cluster: Cluster;
  readonly node: Node;
  readonly service: Service;
  readonly task: Task;
  readonly network: Network;
  readonly secret: Secret;
  readonly config: Config;
}

export type AnyObject = Tables[TableName];
