/**
 * What a container is to the rest of the host: the configuration it is made from, what can be asked
 * of it, and the record it leaves. Docker's defaults (capabilities, seccomp, masked paths, devices)
 * are applied by this room; a configuration only says what differs.
 */

import type { Readable, Writable } from 'node:stream';
import type { DeviceRule } from '../sys/deviceRules.ts';
import type { IdMaps } from './specRecords.ts';

export interface ContainerMount {
  readonly type: 'bind' | 'tmpfs' | 'image';
  /** Absolute host path; bind only. */
  readonly source?: string;
  /** Absolute path inside the container; made if missing. */
  readonly target: string;
  readonly readOnly?: boolean;
  /** tmpfs only. */
  readonly sizeBytes?: number;
  /** tmpfs only, e.g. 0o1777. */
  readonly mode?: number;
  /** tmpfs only: programs in it may be run. */
  readonly executable?: boolean;
  /** bind only; default 'rprivate'. */
  readonly propagation?: 'private' | 'rprivate' | 'shared' | 'rshared' | 'slave' | 'rslave';
  /** bind only: without the mounts below the source. */
  readonly nonRecursive?: boolean;
  /** bind only, read-only: the mounts below the source stay as they are. */
  readonly writableBelow?: boolean;
  /** image only, always read-only: its unpacked layers, absolute, lowest first. */
  readonly layers?: readonly string[];
  /** bind only: what is mounted, inside the source; links in it lead nowhere else. */
  readonly subpath?: string;
  /**
   * bind only: with a user namespace, its files have the ids inside that they have on the host.
   * Without, what is the host's root's is nobody's inside (as with Docker's userns-remap).
   */
  readonly idMapped?: boolean;
  /** And read-only: a copy will do where its file system cannot show other ids. */
  readonly copyable?: boolean;
}

export interface ContainerDevice {
  readonly hostPath: string;
  readonly containerPath: string;
  /** Any of 'r', 'w', 'm'. */
  readonly permissions: string;
}

/** Cut to what this process may give (it may lack CAP_SYS_RESOURCE). -1 = unlimited. */
export interface ResourceLimit {
  /** 'nofile', 'nproc', 'core', ...; without RLIMIT_. */
  readonly name: string;
  readonly soft: number;
  readonly hard: number;
}

/** What can be limited. */
export interface ContainerResources {
  readonly memoryBytes?: number;
  /** Memory + swap, as Docker's; -1 unlimited. */
  readonly memorySwapBytes?: number;
  /** Billionths of a core: 1.5 cores = 1_500_000_000; 0 as many as it wants. */
  readonly nanoCpus?: number;
  /** In which nanoCpus are given out; default 100 ms. */
  readonly cpuPeriodUs?: number;
  /** Relative weight, default 1024. */
  readonly cpuShares?: number;
  /** e.g. '0-1,3'. */
  readonly cpusetCpus?: string;
  readonly cpusetMems?: string;
  /** Of every period, for processes with a real-time policy; v1 kernels that have it. */
  readonly cpuRealtimeRuntimeUs?: number;
  readonly cpuRealtimePeriodUs?: number;
  readonly pids?: number;
  /** Soft limit. */
  readonly memoryReservationBytes?: number;
  /** 0-100; v1 only, left out elsewhere. */
  readonly memorySwappiness?: number;
  /** Out of memory, processes wait instead of being killed; v1 only, left out elsewhere. */
  readonly oomKillDisable?: boolean;
  /** 10-1000. */
  readonly blkioWeight?: number;
  readonly blkioDeviceWeights?: readonly { readonly device: string; readonly weight: number }[];
  readonly deviceRates?: readonly DeviceRate[];
}

/** How much of a block device may be read or written a second. */
export interface DeviceRate {
  readonly way: 'read' | 'write';
  readonly unit: 'bytes' | 'operations';
  /** Its path on the host. */
  readonly device: string;
  readonly perSecond: number;
}

/** Programs for a health check; the daemon runs it, the runtime only carries it. */
export interface HealthCheck {
  /** ['CMD', ...], ['CMD-SHELL', 'line'], ['NONE'] or [] (the image's). */
  readonly test: readonly string[];
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly startPeriodMs: number;
  readonly startIntervalMs: number;
}

/** Another container's, by its id; that one has to run when this one starts. */
export interface SharedNamespace {
  readonly container: string;
}

/** 'new': own and empty but for loopback; 'host'; or joined by path (made by runtime/net). */
export type NetworkNamespace = 'new' | 'host' | { readonly path: string };

export interface SecurityLabel {
  readonly kind: 'apparmor' | 'selinux';
  /** A profile's name, or a whole label. */
  readonly label: string;
}

export interface ContainerConfig {
  /** 64 hex digits (base/id). */
  readonly id: string;
  readonly name: string;
  /** Made by a user of this host (docker run); no task's, so the agent leaves it alone. */
  readonly standalone?: boolean;
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
  readonly terminalSize?: TerminalSize;
  /** Keep standard input open for attach; else it is /dev/null. */
  readonly openStdin?: boolean;
  /** Close standard input when the first attached client that sends to it ends. */
  readonly stdinOnce?: boolean;
  readonly domainName?: string;
  /** A small reaper as process 1, the program as its child. */
  readonly init?: boolean;
  readonly privileged?: boolean;
  readonly noNewPrivileges?: boolean;
  /** A profile: the text of a file as Docker's users write them. */
  readonly seccomp?: 'default' | 'unconfined' | { readonly profile: string };
  /** Of the kernel's security modules; refused where it has none such. */
  readonly securityLabels?: readonly SecurityLabel[];
  /** Not even the host's default profile; so it is with `privileged`. */
  readonly apparmorUnconfined?: boolean;
  /** Of what it writes; refused where the data root's file system keeps no project quotas. */
  readonly writableBytes?: number;
  /** Names, as in 'a/b', of the group that its own is in, below the daemon's. */
  readonly cgroupParent?: string;
  /** Default true: /proc and /sys paths masked and read-only as Docker has them. */
  readonly maskPaths?: boolean;
  readonly devices?: readonly ContainerDevice[];
  /** More devices that it may use, or make, by number; -1 stands for every number. */
  readonly deviceRules?: readonly DeviceRule[];
  readonly resourceLimits?: readonly ResourceLimit[];
  readonly oomScoreAdjust?: number;
  /** Default 64 MiB. */
  readonly shmSizeBytes?: number;
  readonly pidNamespace?: 'new' | 'host' | SharedNamespace;
  /** 'none': new, and without /dev/shm. 'shareable': new, and others may join it. */
  readonly ipcNamespace?: 'new' | 'host' | 'none' | 'shareable' | SharedNamespace;
  /** 'host': the host's own name, whatever `hostname` says. */
  readonly utsNamespace?: 'new' | 'host' | SharedNamespace;
  readonly cgroupNamespace?: 'new' | 'host';
  /**
   * Ids of its own; absent: as the table was told. 'own': the table's, or else those it finds; what
   * was found is kept. Layers, its hosts, hostname and resolv.conf files and mounts
   * that ask for it are shown mapped: on disk they have the ids they have inside.
   */
  readonly userNamespace?: 'host' | 'own' | IdMaps;
  /** Signal name or number as text; default 'SIGTERM'. */
  readonly stopSignal?: string;
  readonly healthCheck?: HealthCheck;
  readonly log: {
    /** 'local' (default): framed files of the shim; 'json-file': Docker's JSON lines; 'none'. */
    readonly driver?: 'local' | 'json-file' | 'none';
    /** Rotated at this size; default 20 MiB. */
    readonly maxSizeBytes?: number;
    /** Files kept, the current one included; default 5. */
    readonly maxFiles?: number;
    /** Files that are no longer written are packed. */
    readonly compress?: boolean;
    /**
     * Output is dropped rather than that the program waits for the disk; so many bytes of it may
     * wait. Absent: the program waits.
     */
    readonly waitingBytes?: number;
    /** json-file: what every line says besides. */
    readonly attributes?: Readonly<Record<string, string>>;
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
  /** What the log was told to say with each line; absent: nothing. */
  readonly attributes?: Readonly<Record<string, string>>;
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

/** Bytes of one attached client or exec. With a terminal everything comes as stdout. */
export interface Streams {
  /**
   * undefined when it was not asked for, or the container was made without (openStdin). Ending it
   * closes an exec's standard input; the container's only with stdinOnce; never a terminal.
   */
  readonly stdin: Writable | undefined;
  /** An exec's ends only when its exit code is known. Read it: 512 KiB are kept, then it waits. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Lets go without touching the program. */
  close(): void;
}

export interface ExecConfig {
  readonly args: readonly string[];
  /** Added to the container's own. */
  readonly env: readonly string[];
  /** '' = the container's. */
  readonly workingDir: string;
  /** '' = the container's. */
  readonly user: string;
  readonly tty: boolean;
  readonly terminalSize?: TerminalSize;
  readonly privileged: boolean;
  readonly stdin: boolean;
}

/** Rows and columns a terminal starts with; 0 = unknown. */
export type TerminalSize = readonly [number, number];

/** A further program in a running container, in its namespaces, cgroups, seccomp, capabilities. */
export interface Exec {
  /** Host pid. */
  readonly pid: number;
  readonly streams: Streams;
  /**
   * Resolves with 0-255 (128+n when killed by signal n) after its output has been read, as far as
   * anyone listens to it; 137 when the container ended with it.
   */
  wait(): Promise<number>;
  kill(signal: string): Promise<void>;
  resize(rows: number, columns: number): Promise<void>;
}

/** `memoryBytes` is with page cache here. */
export interface DetailedStats extends ContainerStats {
  readonly readAtMs: number;
  readonly systemCpuNs: number;
  readonly onlineCpus: number;
  readonly userCpuNs: number;
  readonly kernelCpuNs: number;
  readonly throttledPeriods: number;
  readonly periods: number;
  readonly throttledNs: number;
  /** 0 = unlimited, then the host's memory counts. */
  readonly memoryLimitBytes: number;
  /** Page cache that can be dropped; Docker's client subtracts it. */
  readonly memoryInactiveFileBytes: number;
  readonly pidsLimit: number;
  readonly blockReadBytes: number;
  readonly blockWriteBytes: number;
  /** By interface name, of the container's network namespace. */
  readonly networks: Readonly<
    Record<
      string,
      {
        readonly rxBytes: number;
        readonly rxPackets: number;
        readonly rxErrors: number;
        readonly rxDropped: number;
        readonly txBytes: number;
        readonly txPackets: number;
        readonly txErrors: number;
        readonly txDropped: number;
      }
    >
  >;
}

export interface FileStat {
  readonly name: string;
  readonly sizeBytes: number;
  /** st_mode. */
  readonly mode: number;
  readonly modifiedAtMs: number;
  /** '' unless a symbolic link. */
  readonly linkTarget: string;
}

export interface FileChange {
  readonly path: string;
  readonly kind: 'modified' | 'added' | 'deleted';
}

export interface Container {
  readonly config: ContainerConfig;
  /** What of it this host cannot do, and what was cut, as found when it was made here. */
  readonly notes: readonly string[];
  readonly state: ContainerState;
  /** Host pid of the container's first process; 0 unless running. */
  readonly pid: number;
  /** Unix ms. */
  readonly createdAtMs: number;
  /** Unix ms; 0 before start. After a reboot cut it off: when it was made. */
  readonly startedAtMs: number;
  readonly exit: ExitRecord | undefined;
  /**
   * Resolves once the program has been executed; again after an end, too (same id, writable layer
   * and logs; `exit` is undefined while it runs). SwarmError 'invalid' with detail.exitCode '127'
   * (not found) or '126' (not executable), else 'internal', when it could not. `env`: of this run
   * alone; the configuration's own come after it.
   */
  start(env?: readonly string[]): Promise<void>;
  /** To the first process. */
  kill(signal: string): Promise<void>;
  /** Stop signal, then SIGKILL after `graceMs`; resolves with the record. A paused one goes on. */
  stop(graceMs: number): Promise<ExitRecord>;
  wait(): Promise<ExitRecord>;
  logs(query: LogQuery): AsyncIterable<LogRecord>;
  stats(): Promise<ContainerStats>;
  readonly paused: boolean;
  /**
   * Output from now on, besides the log. At most 16 clients (SwarmError exhausted). Before a start
   * (created, exited): from the first byte of that start.
   */
  attach(options: { readonly stdin: boolean }): Promise<Streams>;
  /**
   * SwarmError conflict unless running (or paused); invalid with detail.exitCode '126'/'127' as
   * start(). At most 128 at once, then exhausted.
   */
  exec(config: ExecConfig): Promise<Exec>;
  /** SwarmError conflict when it is paused already, or not running. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Of the container's terminal. */
  resize(rows: number, columns: number): Promise<void>;
  rename(name: string): Promise<void>;
  /**
   * Live limits; only the given ones change. Kept in config. Resolves with what was cut or has no
   * effect here. SwarmError invalid for what the kernel does not take.
   */
  update(resources: ContainerResources): Promise<readonly string[]>;
  detailedStats(): Promise<DetailedStats>;
  /** Writable layer against the image. */
  changes(): Promise<readonly FileChange[]>;
  /**
   * Links on the way lead where they lead inside the container; a link itself is told with where it
   * ends ('dir/' and 'dir/.' mean what it leads to). SwarmError not_found with the path.
   */
  statPath(path: string): Promise<FileStat>;
  /**
   * A tar of the file or directory, named by its last component ('.' for 'dir/.'). Running or not;
   * destroy the stream when it is not read to its end.
   */
  readArchive(path: string): Promise<{ readonly stat: FileStat; readonly tar: Readable }>;
  /**
   * Unpacks an uncompressed tar into the existing directory `path`. SwarmError not_found without
   * it, forbidden where it is read-only, invalid for what the archive may not do. `copyUidGid`:
   * everything belongs to the container's user.
   */
  writeArchive(
    path: string,
    tar: Readable,
    options: { readonly noOverwriteDirNonDir: boolean; readonly copyUidGid: boolean },
  ): Promise<void>;
  /** The whole root as tar, without what is mounted in it. */
  exportRoot(): Readable;
  /** The writable layer as a layer of an image: an uncompressed tar with whiteouts. */
  layer(): Readable;
  /** Bytes in the writable layer. */
  writableBytes(): Promise<number>;
  /** Host pids of every process in it. */
  processes(): Promise<readonly number[]>;
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
