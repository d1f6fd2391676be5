/**
 * What a container is to the rest of the host: the configuration it is made from, what can be asked
 * of it, and the record it leaves. Docker's defaults (capabilities, seccomp, masked paths, devices)
 * are applied by this room; a configuration only says what differs.
 */

export interface ContainerMount {
  readonly type: 'bind' | 'tmpfs';
  /** Absolute host path; bind only. */
  readonly source?: string;
  /** Absolute path inside the container; made if missing. */
  readonly target: string;
  readonly readOnly?: boolean;
  /** tmpfs only. */
  readonly sizeBytes?: number;
  /** tmpfs only, e.g. 0o1777. */
  readonly mode?: number;
}

export interface ContainerResources {
  readonly memoryBytes?: number;
  /** Memory + swap, as Docker's; -1 unlimited. */
  readonly memorySwapBytes?: number;
  /** Billionths of a core: 1.5 cores = 1_500_000_000. */
  readonly nanoCpus?: number;
  /** Relative weight, default 1024. */
  readonly cpuShares?: number;
  /** e.g. '0-1,3'. */
  readonly cpusetCpus?: string;
  readonly pids?: number;
}

/** 'new': own and empty but for loopback; 'host'; or joined by path (made by runtime/net). */
export type NetworkNamespace = 'new' | 'host' | { readonly path: string };

export interface ContainerConfig {
  /** 64 hex digits (base/id). */
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** What it was made from, for inspection: reference and image id. */
  readonly image: { readonly reference: string; readonly id: string };
  /** Unpacked layer directories, absolute, lowest first (ImageStore.open*). At least one. */
  readonly layers: readonly string[];
  /** Program and arguments, already merged from image and spec; not empty. */
  readonly args: readonly string[];
  /** 'NAME=value'. PATH is added when absent. */
  readonly env: readonly string[];
  /** Absolute; made if missing. */
  readonly workingDir: string;
  /** '', 'name', 'uid', 'name:group', 'uid:gid'; resolved against the image's passwd and group. */
  readonly user: string;
  readonly additionalGroups?: readonly string[];
  readonly hostname: string;
  readonly mounts: readonly ContainerMount[];
  /** Bind-mounted over the files of the same purpose; absolute host paths. */
  readonly hostsFile?: string;
  readonly hostnameFile?: string;
  readonly resolvConfFile?: string;
  readonly readOnlyRoot?: boolean;
  readonly networkNamespace: NetworkNamespace;
  readonly resources: ContainerResources;
  readonly capabilityAdd?: readonly string[];
  readonly capabilityDrop?: readonly string[];
  readonly sysctls?: Readonly<Record<string, string>>;
  /** A pseudo-terminal instead of pipes. */
  readonly tty?: boolean;
  /** Signal name or number as text; default 'SIGTERM'. */
  readonly stopSignal?: string;
  readonly log: {
    /** Rotated at this size; default 20 MiB. */
    readonly maxSizeBytes?: number;
    /** Files kept, the current one included; default 5. */
    readonly maxFiles?: number;
  };
}

/** How it ended. Survives the daemon: written by the shim before anyone is told. */
export interface ExitRecord {
  /** 0-255; 128+n when killed by signal n; 126/127 when the program could not be executed. */
  readonly exitCode: number;
  /** Signal number that ended it, 0 when none. */
  readonly signal: number;
  readonly oomKilled: boolean;
  /** Unix ms. */
  readonly startedAtMs: number;
  readonly finishedAtMs: number;
  /** Set when it never ran or its supervisor died: one readable line. */
  readonly error?: string;
}

export type ContainerState = 'created' | 'running' | 'exited';

export interface LogRecord {
  /** Unix nanoseconds. */
  readonly timeNs: bigint;
  readonly stream: 'stdout' | 'stderr';
  /** One line without its newline, or a part of one. */
  readonly data: Uint8Array;
  /** The line goes on in the next record of this stream. */
  readonly partial: boolean;
}

export interface LogQuery {
  readonly follow?: boolean;
  readonly sinceNs?: bigint;
  readonly untilNs?: bigint;
  /** Only the last so many records; undefined = all. */
  readonly tail?: number;
  readonly stdout?: boolean;
  readonly stderr?: boolean;
  /** Ends a followed read. */
  readonly signal?: AbortSignal;
}

export interface ContainerStats {
  readonly memoryBytes: number;
  readonly cpuNs: number;
  readonly pids: number;
}

export interface Container {
  readonly config: ContainerConfig;
  readonly state: ContainerState;
  /** Host pid of the container's first process; 0 unless running. */
  readonly pid: number;
  /** Unix ms; 0 before start. */
  readonly startedAtMs: number;
  readonly exit: ExitRecord | undefined;
  /**
   * Resolves once the program has been executed. SwarmError 'invalid' with detail.exitCode '127'
   * (not found) or '126' (not executable), else 'internal', when it could not.
   */
  start(): Promise<void>;
  /** To the first process. */
  kill(signal: string): Promise<void>;
  /** Stop signal, then SIGKILL after `graceMs`; resolves with the record. */
  stop(graceMs: number): Promise<ExitRecord>;
  wait(): Promise<ExitRecord>;
  logs(query: LogQuery): AsyncIterable<LogRecord>;
  stats(): Promise<ContainerStats>;
  /** Kills if needed, then removes cgroups, writable layer, logs and state. Idempotent. */
  remove(): Promise<void>;
}

export interface ContainerTable {
  /** Writes the configuration and prepares directories; nothing runs yet. */
  create(config: ContainerConfig): Promise<Container>;
  get(id: string): Container | undefined;
  list(): readonly Container[];
  /** Forgets nothing, stops nothing: closes connections to the shims, which run on. */
  close(): Promise<void>;
}
