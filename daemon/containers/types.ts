/**
 * Containers of this host that a user made (docker run), and those of tasks as the API shows them:
 * what one is asked to be, what is known of it, and what the host's own networks are to them.
 * Records here are kept on disk as JSON: a field's meaning never changes, new ones are optional.
 */
import type { Health } from '../../runtime/container/health.ts';
import type {
  Container,
  ContainerConfig,
  ContainerResources,
  HealthCheck,
} from '../../runtime/container/types.ts';
import type { Endpoint, PublishedPort } from '../../runtime/net/types.ts';

export interface RestartPolicy {
  readonly name: 'no' | 'always' | 'unless-stopped' | 'on-failure';
  /** on-failure only; 0 = no limit. */
  readonly maximumRetries: number;
}

export interface MountRequest {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image';
  /** bind: host path. volume: name, '' = a new one of its own. tmpfs: ''. image: its name. */
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
  /** As it was written, for inspection ('ro,z'). */
  readonly mode: string;
  /** bind: make a directory when there is nothing at `source` (-v does, --mount does not). */
  readonly createSource: boolean;
  readonly propagation: ContainerConfig['mounts'][number]['propagation'];
  readonly nonRecursive: boolean;
  /** bind, read-only: not the mounts below it. */
  readonly writableBelow?: boolean;
  /** volume: what of it is mounted; absent = all. */
  readonly subpath?: string;
  /** volume: leave it empty though the image has files there. */
  readonly noCopy: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly driverOptions: Readonly<Record<string, string>>;
  /** tmpfs; 0 = default. */
  readonly tmpfsSizeBytes: number;
  readonly tmpfsMode: number;
  readonly tmpfsExecutable: boolean;
}

export interface PortRequest {
  readonly containerPort: number;
  readonly protocol: 'tcp' | 'udp';
  /** '' = every address. */
  readonly hostAddress: string;
  /** 0 and 0 = chosen by the host; else any free one of first..last. */
  readonly hostPortFirst: number;
  readonly hostPortLast: number;
}

/** Names are of those that the container has; patterns '' = none. */
export interface LogAttributes {
  readonly labels: readonly string[];
  readonly labelsPattern: string;
  readonly env: readonly string[];
  readonly envPattern: string;
  /** A template: '{{.Name}}'; '' = none. */
  readonly tag: string;
}

export interface EndpointSpec {
  readonly aliases: readonly string[];
  readonly address: string;
  readonly address6: string;
  readonly macAddress: string;
  /** Words of the user's own, kept for whoever inspects the container. */
  readonly driverOptions?: Readonly<Record<string, string>>;
}

export const NO_WISHES: EndpointSpec = { aliases: [], address: '', address6: '', macAddress: '' };

/** Another container, by its name as it was asked for, by its id once this one is made. */
export interface Link {
  readonly container: string;
  /** As it was asked for. */
  readonly name: string;
  readonly alias: string;
}

/** What a container is asked to be; everything that Docker's request says and tsswarm can do. */
export interface StandaloneSpec {
  readonly image: string;
  /** undefined = the image's. */
  readonly command: readonly string[] | undefined;
  readonly entrypoint: readonly string[] | undefined;
  readonly env: readonly string[];
  readonly workingDir: string;
  readonly user: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly hostname: string;
  readonly domainName: string;
  readonly tty: boolean;
  readonly openStdin: boolean;
  readonly stdinOnce: boolean;
  readonly stopSignal: string;
  /** undefined = 10 s; -1 = for ever. */
  readonly stopTimeoutS: number | undefined;
  readonly healthCheck: HealthCheck | undefined;
  /** '80/tcp' */
  readonly exposedPorts: readonly string[];
  /** Paths that get a volume of their own unless a mount covers them. */
  readonly anonymousVolumes: readonly string[];
  readonly mounts: readonly MountRequest[];
  /** '<container>[:ro]': its volumes and binds too. */
  readonly volumesFrom: readonly string[];
  /** 'bridge', 'host', 'none', a network's name or id. */
  readonly networkMode: string;
  readonly links?: readonly Link[];
  /** By network as it was named in the request. */
  readonly endpoints: Readonly<Record<string, EndpointSpec>>;
  readonly ports: readonly PortRequest[];
  readonly publishAll: boolean;
  readonly restart: RestartPolicy;
  readonly autoRemove: boolean;
  readonly log: ContainerConfig['log'];
  /** What each line of a json-file log says besides. */
  readonly logAttributes?: LogAttributes;
  readonly resources: ContainerResources;
  readonly capabilityAdd: readonly string[];
  readonly capabilityDrop: readonly string[];
  readonly groups: readonly string[];
  readonly sysctls: Readonly<Record<string, string>>;
  readonly dnsServers: readonly string[];
  readonly dnsSearch: readonly string[];
  readonly dnsOptions: readonly string[];
  /** 'name:address'; the address may be 'host-gateway'. */
  readonly extraHosts: readonly string[];
  readonly readOnlyRoot: boolean;
  readonly privileged: boolean;
  readonly noNewPrivileges: boolean;
  readonly seccomp: NonNullable<ContainerConfig['seccomp']>;
  readonly securityLabels?: ContainerConfig['securityLabels'];
  readonly apparmorUnconfined?: boolean;
  readonly cgroupParent?: string;
  /** Of the writable layer. */
  readonly writableBytes?: number;
  readonly maskPaths: boolean;
  readonly init: boolean;
  /** Of another container: by its name as it was asked for, by its id once this one is made. */
  readonly pidNamespace: NonNullable<ContainerConfig['pidNamespace']>;
  readonly ipcNamespace: NonNullable<ContainerConfig['ipcNamespace']>;
  /** Absent in records of before: 'new'. */
  readonly utsNamespace?: ContainerConfig['utsNamespace'];
  readonly cgroupNamespace?: 'new' | 'host';
  /** Absent: as the daemon was told (--userns-remap). */
  readonly userNamespace?: 'host' | 'own';
  /** 0 = default. */
  readonly shmSizeBytes: number;
  readonly oomScoreAdjust: number;
  readonly devices: NonNullable<ContainerConfig['devices']>;
  readonly deviceRules?: ContainerConfig['deviceRules'];
  readonly resourceLimits: NonNullable<ContainerConfig['resourceLimits']>;
  /** Rows and columns its terminal starts with; 0 = unknown. */
  readonly consoleSize: readonly [number, number];
}

export interface CreateRequest {
  /** '' = one is made up. */
  readonly name: string;
  readonly spec: StandaloneSpec;
  /** Docker's HostConfig as it was sent, for inspection only. */
  readonly hostConfig: Readonly<Record<string, unknown>>;
}

/** A mount as it was resolved, for inspection and for --volumes-from. */
export interface MountPoint {
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'image';
  /** volume, or an image's id. */
  readonly name: string;
  readonly source: string;
  readonly target: string;
  readonly mode: string;
  readonly readOnly: boolean;
  readonly propagation: string;
  /** A volume that was made for this container and goes with it. */
  readonly anonymous: boolean;
  readonly nonRecursive?: boolean;
  readonly writableBelow?: boolean;
  /** Inside the source. */
  readonly subpath?: string;
  /** image: its unpacked layers, lowest first. */
  readonly layers?: readonly string[];
  /** tmpfs. */
  readonly sizeBytes?: number;
  readonly tmpfsMode?: number;
  readonly executable?: boolean;
}

/** What is kept of a container on disk besides the runtime's own configuration. */
export interface ContainerRecord {
  readonly format: 1;
  readonly id: string;
  readonly createdAtMs: number;
  readonly name: string;
  readonly imageId: string;
  readonly spec: StandaloneSpec;
  readonly hostConfig: Readonly<Record<string, unknown>>;
  readonly mounts: readonly MountPoint[];
  /** Resolved: by the id of each network it is to be on. */
  readonly networks: Readonly<Record<string, EndpointSpec>>;
  /** Stopped or killed by a user since it was last started. */
  readonly stoppedByUser: boolean;
  readonly restartCount: number;
  /** Why it could not be started last time; '' otherwise. */
  readonly error: string;
  /** Of a start that failed; the runtime knows the code of what ran. */
  readonly errorExitCode: number;
  readonly startedBefore: boolean;
  /** When it was started last; the runtime forgets that with a reboot. Absent: older daemon. */
  readonly launchedAtMs?: number;
  /** While it runs. */
  readonly ports: readonly PublishedPort[];
  readonly health?: Health;
}

export type ContainerStatus =
  | 'created'
  | 'running'
  | 'paused'
  | 'restarting'
  | 'exited'
  | 'removing'
  | 'dead';

/** One network a container is on, or will be once it runs: then all of Endpoint is '' or 0. */
export interface ContainerNetwork extends Endpoint {
  readonly networkName: string;
  readonly spec: EndpointSpec;
  readonly dnsNames: readonly string[];
}

/** All that the API says of one container, whoever made it. */
export interface ContainerView {
  readonly container: Container;
  readonly status: ContainerStatus;
  readonly createdAtMs: number;
  readonly finishedAtMs: number;
  readonly startedAtMs: number;
  readonly exitCode: number;
  readonly error: string;
  readonly oomKilled: boolean;
  readonly restartCount: number;
  /** undefined without a health check. */
  readonly health: Health | undefined;
  /** undefined for a task's container. */
  readonly record: ContainerRecord | undefined;
  readonly networkMode: string;
  readonly networks: readonly ContainerNetwork[];
  readonly ports: readonly PublishedPort[];
  readonly mounts: readonly MountPoint[];
  readonly execIds: readonly string[];
}

export interface ExitStatus {
  readonly exitCode: number;
  readonly error: string;
}

export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

/**
 * Attachable networks of the cluster for containers that no service owns. An attachment is a task
 * made by the managers; `attach` resolves once this host has the network and an address on it.
 */
export interface AttachableNetworks {
  /** Name or id to network, when it is one of the cluster's and attachable; undefined otherwise. */
  find(nameOrId: string): Promise<{ readonly id: string; readonly name: string } | undefined>;
  /** The address without prefix length. SwarmError with what to do when it cannot be had. */
  attach(
    containerId: string,
    networkId: string,
    wanted: EndpointSpec,
  ): Promise<{ readonly endpointId: string; readonly address: string }>;
  detach(containerId: string, networkId: string): Promise<void>;
}
