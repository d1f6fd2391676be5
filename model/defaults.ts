/** Docker Swarm's defaults, where a user may rely on them (swarmkit api/defaults and manager). */
import { DAY_MS, MINUTE_MS, SECOND_MS } from '../base/duration.ts';
import type {
  ClusterSpec,
  ContainerSpec,
  MountSpec,
  NodeTls,
  Placement,
  Resources,
  RestartPolicy,
  UpdateConfig,
} from './types.ts';

export const DEFAULT_STOP_GRACE_MS = 10 * SECOND_MS;
export const DEFAULT_GRPC_PORT = 2377;
export const DEFAULT_VXLAN_PORT = 4789;
export const DEFAULT_ADDRESS_POOL = '10.0.0.0/8';
export const DEFAULT_SUBNET_SIZE = 24;
/** Hosts' gateway bridges are cut from it by host index (10.254.<index>.0/24); never an overlay. */
export const GATEWAY_POOL = '10.254.0.0/16';
export const DYNAMIC_PORT_FIRST = 30_000;
export const DYNAMIC_PORT_LAST = 32_767;
export const VNI_FIRST = 4096;
export const VNI_LAST = 16_777_215;

/**
 * Label of a service. 'off': the rebalancer never moves its tasks; 'on': also those that hold
 * volumes of their host.
 */
export const REBALANCE_LABEL = 'tsswarm.rebalance';

/** Node-local networks a service may name; they are not in the store. */
export const NODE_LOCAL_NETWORKS: readonly string[] = ['bridge', 'host', 'none'];

export const DEFAULT_CLUSTER_SPEC: ClusterSpec = {
  name: 'default',
  labels: {},
  taskHistoryLimit: 5,
  heartbeatPeriodMs: 5 * SECOND_MS,
  certificateExpiryMs: 90 * DAY_MS,
  snapshotInterval: 10_000,
  keepOldSnapshots: 0,
  logEntriesForSlowFollowers: 500,
  autoLockManagers: false,
  forceRotate: 0,
  signingCaCertificate: '',
};

export const NO_NODE_TLS: NodeTls = { issuer: '', trust: '', wantedIssuer: '' };

export const DEFAULT_RESTART_POLICY: RestartPolicy = {
  condition: 'any',
  delayMs: 5 * SECOND_MS,
  maxAttempts: 0,
  windowMs: 0,
};

export const DEFAULT_UPDATE_CONFIG: UpdateConfig = {
  parallelism: 1,
  delayMs: 0,
  failureAction: 'pause',
  monitorMs: 5 * SECOND_MS,
  maxFailureRatio: 0,
  order: 'stop-first',
  progressDeadlineMs: 10 * MINUTE_MS,
};

export const NO_RESOURCES: Resources = { nanoCpus: 0, memoryBytes: 0, pids: 0 };

export const DEFAULT_PLACEMENT: Placement = {
  constraints: [],
  maxReplicasPerNode: 0,
  spreadOver: [],
  platforms: [],
};

/** What a mount is besides its type, source and target. */
export const DEFAULT_MOUNT: Omit<MountSpec, 'type' | 'source' | 'target'> = {
  readOnly: false,
  tmpfsSizeBytes: 0,
  tmpfsMode: 0,
  propagation: '',
  nonRecursive: false,
  createSource: false,
  volume: undefined,
};

/** A container of which nothing is asked, for those that make one: it has no image. */
export const EMPTY_CONTAINER: ContainerSpec = {
  image: '',
  labels: {},
  command: [],
  args: [],
  env: [],
  workingDir: '',
  user: '',
  groups: [],
  hostname: '',
  mounts: [],
  readOnlyRoot: false,
  tty: false,
  stopSignal: '',
  stopGraceMs: DEFAULT_STOP_GRACE_MS,
  capabilityAdd: [],
  capabilityDrop: [],
  sysctls: {},
  hosts: [],
  dnsServers: [],
  dnsSearch: [],
  dnsOptions: [],
  healthCheck: undefined,
  init: undefined,
  ulimits: [],
  oomScoreAdj: 0,
  userns: '',
  noNewPrivileges: false,
  seccomp: 'default',
  apparmorDisabled: false,
  selinuxDisabled: false,
  selinux: {},
  openStdin: false,
  registryAuth: '',
  secrets: [],
  configs: [],
};
