/** The fields of the API's JSON objects that commands read. No more than they read. */

export interface Meta {
  readonly ID: string;
  readonly Version: { readonly Index: number };
  readonly CreatedAt: string;
  readonly UpdatedAt: string;
}

export type LabelMap = Record<string, string>;

export interface NodeSpecJson {
  Name?: string;
  Labels: LabelMap;
  Role: 'worker' | 'manager';
  Availability: 'active' | 'pause' | 'drain';
}

export interface NodeJson extends Meta {
  readonly Spec: NodeSpecJson;
  readonly Description: {
    readonly Hostname: string;
    readonly Platform: { readonly Architecture: string; readonly OS: string };
    readonly Resources: { readonly NanoCPUs: number; readonly MemoryBytes: number };
    readonly Engine: {
      readonly EngineVersion: string;
      readonly Labels?: LabelMap;
      readonly Plugins?: readonly { readonly Type: string; readonly Name: string }[];
    };
    readonly TLSInfo?: TlsInfoJson;
  };
  readonly Status: { readonly State: string; readonly Message?: string; readonly Addr: string };
  readonly ManagerStatus?: {
    readonly Leader?: boolean;
    readonly Reachability: string;
    readonly Addr: string;
  };
}

export interface PortJson {
  Name?: string;
  Protocol: string;
  TargetPort: number;
  PublishedPort?: number;
  PublishMode: string;
  /** The one address it is published on; every one when absent. Not of Docker's API. */
  HostIP?: string;
}

export interface MountJson {
  Type: string;
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  Consistency?: string;
  BindOptions?: {
    Propagation?: string;
    NonRecursive?: boolean;
    CreateMountpoint?: boolean;
    ReadOnlyNonRecursive?: boolean;
    ReadOnlyForceRecursive?: boolean;
  };
  VolumeOptions?: {
    NoCopy?: boolean;
    Labels?: LabelMap;
    Subpath?: string;
    DriverConfig?: { Name?: string; Options?: LabelMap };
  };
  TmpfsOptions?: { SizeBytes?: number; Mode?: number };
}

/** Durations in nanoseconds; Test begins with NONE, CMD or CMD-SHELL. */
export interface HealthJson {
  Test?: string[];
  Interval?: number;
  Timeout?: number;
  StartPeriod?: number;
  StartInterval?: number;
  Retries?: number;
}

export interface FileTargetJson {
  Name: string;
  UID: string;
  GID: string;
  Mode: number;
}

export interface SecretReferenceJson {
  File: FileTargetJson;
  SecretID: string;
  SecretName: string;
}

export interface ConfigReferenceJson {
  File: FileTargetJson;
  ConfigID: string;
  ConfigName: string;
}

export interface UlimitJson {
  Name: string;
  Hard: number;
  Soft: number;
}

export interface GenericResourceJson {
  DiscreteResourceSpec?: { Kind: string; Value: number };
  NamedResourceSpec?: { Kind: string; Value: string };
}

export interface ContainerSpecJson {
  Image: string;
  Labels?: LabelMap;
  Command?: string[];
  Args?: string[];
  Hostname?: string;
  Env?: string[];
  Dir?: string;
  User?: string;
  Groups?: string[];
  TTY?: boolean;
  OpenStdin?: boolean;
  Init?: boolean;
  Isolation?: string;
  Privileges?: object;
  Healthcheck?: HealthJson;
  Secrets?: SecretReferenceJson[];
  Configs?: ConfigReferenceJson[];
  Ulimits?: UlimitJson[];
  OomScoreAdj?: number;
  UsernsMode?: string;
  Mounts?: MountJson[];
  ReadOnly?: boolean;
  StopSignal?: string;
  StopGracePeriod?: number;
  Hosts?: string[];
  DNSConfig?: { Nameservers?: string[]; Search?: string[]; Options?: string[] };
  Sysctls?: LabelMap;
  CapabilityAdd?: string[];
  CapabilityDrop?: string[];
}

export interface ResourcesJson {
  NanoCPUs?: number;
  MemoryBytes?: number;
  Pids?: number;
  GenericResources?: GenericResourceJson[];
}

export interface UpdateConfigJson {
  Parallelism?: number;
  Delay?: number;
  FailureAction?: string;
  Monitor?: number;
  MaxFailureRatio?: number;
  Order?: string;
  /** Nanoseconds. Not of Docker's API. */
  ProgressDeadline?: number;
}

export interface NetworkAttachmentJson {
  Target: string;
  Aliases?: string[];
  DriverOpts?: LabelMap;
}

export interface TaskSpecJson {
  ContainerSpec: ContainerSpecJson;
  Resources?: { Limits?: ResourcesJson; Reservations?: ResourcesJson };
  RestartPolicy?: { Condition?: string; Delay?: number; MaxAttempts?: number; Window?: number };
  Placement?: {
    Constraints?: string[];
    Preferences?: { Spread: { SpreadDescriptor: string } }[];
    MaxReplicas?: number;
    Platforms?: { Architecture: string; OS: string }[];
  };
  Networks?: NetworkAttachmentJson[];
  LogDriver?: { Name: string; Options?: LabelMap };
  ForceUpdate?: number;
}

export interface ModeJson {
  Replicated?: { Replicas?: number };
  Global?: object;
  ReplicatedJob?: { MaxConcurrent?: number; TotalCompletions?: number };
  GlobalJob?: object;
}

export interface ServiceSpecJson {
  Name: string;
  Labels?: LabelMap;
  TaskTemplate: TaskSpecJson;
  Mode?: ModeJson;
  UpdateConfig?: UpdateConfigJson;
  RollbackConfig?: UpdateConfigJson;
  EndpointSpec?: { Mode?: string; Ports?: PortJson[] };
}

export interface ServiceJson extends Meta {
  readonly Spec: ServiceSpecJson;
  readonly PreviousSpec?: ServiceSpecJson;
  readonly Endpoint: {
    readonly Ports?: readonly PortJson[];
    readonly VirtualIPs?: readonly { readonly NetworkID: string; readonly Addr: string }[];
  };
  readonly UpdateStatus?: {
    readonly State: string;
    readonly StartedAt?: string;
    readonly CompletedAt?: string;
    readonly Message: string;
  };
  readonly ServiceStatus?: {
    readonly RunningTasks: number;
    readonly DesiredTasks: number;
    readonly CompletedTasks?: number;
  };
  readonly JobStatus?: { readonly JobIteration: { readonly Index?: number } };
}

export interface TaskJson extends Meta {
  readonly Spec: TaskSpecJson;
  readonly ServiceID: string;
  readonly Slot?: number;
  readonly JobIteration?: { readonly Index?: number };
  readonly NodeID?: string;
  readonly Status: {
    readonly Timestamp: string;
    readonly State: string;
    readonly Message: string;
    readonly Err?: string;
    readonly ContainerStatus?: { readonly ContainerID: string; readonly ExitCode: number };
    readonly PortStatus?: { readonly Ports?: readonly PortJson[] };
  };
  readonly DesiredState: string;
}

export interface NetworkJson {
  readonly Name: string;
  readonly Id: string;
  readonly Created: string;
  readonly Scope: string;
  readonly Driver: string;
  readonly EnableIPv6: boolean;
  readonly Internal: boolean;
  readonly Labels: LabelMap;
}

/** A secret or a config, without its data. */
export interface FileObjectJson extends Meta {
  readonly Spec: {
    readonly Name: string;
    readonly Labels?: LabelMap;
    readonly Data?: string;
    readonly Driver?: { readonly Name: string };
    readonly Templating?: { readonly Name: string };
  };
}

export interface ImageJson {
  readonly Id: string;
  readonly RepoTags: readonly string[];
  readonly RepoDigests: readonly string[];
  readonly Created: number;
  readonly Size: number;
}

export interface SwarmSpecJson {
  Orchestration?: { TaskHistoryRetentionLimit?: number };
  Raft?: { SnapshotInterval?: number; KeepOldSnapshots?: number };
  Dispatcher?: { HeartbeatPeriod?: number };
  CAConfig?: {
    NodeCertExpiry?: number;
    ExternalCAs?: object[];
    SigningCACert?: string;
    SigningCAKey?: string;
    ForceRotate?: number;
  };
  EncryptionConfig?: { AutoLockManagers?: boolean };
}

export interface TlsInfoJson {
  readonly TrustRoot?: string;
  readonly CertIssuerSubject?: string;
  readonly CertIssuerPublicKey?: string;
}

export interface SwarmJson extends Meta {
  readonly Spec: SwarmSpecJson;
  readonly TLSInfo?: TlsInfoJson;
  readonly RootRotationInProgress?: boolean;
  readonly JoinTokens: { readonly Worker: string; readonly Manager: string };
}

export interface InfoJson {
  readonly ID: string;
  readonly Name: string;
  readonly ServerVersion: string;
  readonly Containers: number;
  readonly ContainersRunning: number;
  readonly ContainersStopped: number;
  readonly Images: number;
  readonly KernelVersion: string;
  readonly OperatingSystem: string;
  readonly Architecture: string;
  readonly CgroupVersion: string;
  readonly NCPU: number;
  readonly MemTotal: number;
  readonly DockerRootDir: string;
  /** 'name=seccomp,profile=builtin', 'name=userns', ... */
  readonly SecurityOptions: readonly string[];
  readonly Warnings: readonly string[] | null;
  readonly Swarm: {
    readonly NodeID: string;
    readonly NodeAddr: string;
    readonly LocalNodeState: string;
    readonly ControlAvailable: boolean;
    readonly Error: string;
    readonly RemoteManagers: readonly { readonly NodeID: string; readonly Addr: string }[] | null;
    readonly Nodes?: number;
    readonly Managers?: number;
    readonly Cluster?: { readonly ID: string };
  };
}
