/**
 * The OCI runtime specification's config.json, versions 1.0 to 1.3, as far as Linux is concerned
 * (github.com/opencontainers/runtime-spec, config.md and config-linux.md). Only shapes; what is
 * read from where is in configRead.ts, what becomes of it in launch.ts.
 */
import type { OciSeccomp } from '../container/seccompOci.ts';
import type { IdMap } from '../container/specRecords.ts';
import type { Resources } from '../sys/resources.ts';

export interface OciConfig {
  readonly ociVersion: string;
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly mounts: readonly OciMount[];
  readonly process?: OciProcess;
  readonly hostname?: string;
  readonly domainname?: string;
  readonly hooks: OciHooks;
  readonly annotations: Readonly<Record<string, string>>;
  readonly linux: OciLinux;
}

export interface OciMount {
  readonly destination: string;
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
  readonly uidMappings?: readonly IdMap[];
  readonly gidMappings?: readonly IdMap[];
}

export const CAPABILITY_SETS = [
  'bounding',
  'effective',
  'permitted',
  'inheritable',
  'ambient',
] as const;
export type CapabilitySets = Readonly<Record<(typeof CAPABILITY_SETS)[number], readonly string[]>>;

export interface OciUser {
  readonly uid: number;
  readonly gid: number;
  readonly umask?: number;
  readonly additionalGids: readonly number[];
}

export interface OciRlimit {
  readonly type: string;
  readonly soft: bigint;
  readonly hard: bigint;
}

export interface OciScheduler {
  readonly policy: string;
  readonly nice: number;
  readonly priority: number;
  readonly flags: readonly string[];
  readonly runtimeNs: number;
  readonly deadlineNs: number;
  readonly periodNs: number;
}

export interface OciProcess {
  readonly terminal: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  readonly user: OciUser;
  readonly args: readonly string[];
  readonly env: readonly string[];
  readonly cwd: string;
  readonly capabilities?: CapabilitySets;
  readonly rlimits: readonly OciRlimit[];
  readonly noNewPrivileges: boolean;
  readonly apparmorProfile: string;
  readonly selinuxLabel: string;
  readonly oomScoreAdj?: number;
  readonly scheduler?: OciScheduler;
  readonly ioPriority?: { readonly class: string; readonly priority: number };
  readonly cpuAffinity?: { readonly initial: string; readonly final: string };
}

export const HOOK_STAGES = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;
export type HookStage = (typeof HOOK_STAGES)[number];

export interface OciHook {
  readonly path: string;
  /** With the name it is called by; [path] when there is none. */
  readonly args: readonly string[];
  /** undefined: the caller's own. */
  readonly env?: readonly string[];
  readonly timeoutS?: number;
}
export type OciHooks = Readonly<Record<HookStage, readonly OciHook[]>>;

export const NAMESPACES = [
  'pid',
  'network',
  'mount',
  'ipc',
  'uts',
  'user',
  'cgroup',
  'time',
] as const;
export type NamespaceType = (typeof NAMESPACES)[number];

export interface OciDevice {
  readonly path: string;
  readonly type: string;
  readonly major: number;
  readonly minor: number;
  /** Permission bits. */
  readonly fileMode?: number;
  readonly uid: number;
  readonly gid: number;
}

export interface OciLinux {
  /** type -> path; '' for a new one. */
  readonly namespaces: ReadonlyMap<NamespaceType, string>;
  readonly uidMappings: readonly IdMap[];
  readonly gidMappings: readonly IdMap[];
  readonly timeOffsets: ReadonlyMap<string, { readonly secs: number; readonly nanosecs: number }>;
  /** Interfaces of the caller's, and what they are called in the container. */
  readonly netDevices: ReadonlyMap<string, string>;
  readonly devices: readonly OciDevice[];
  readonly cgroupsPath: string;
  readonly resources: Resources;
  readonly rootfsPropagation: string;
  readonly seccomp?: OciSeccomp;
  readonly sysctl: Readonly<Record<string, string>>;
  readonly maskedPaths: readonly string[];
  readonly readonlyPaths: readonly string[];
  readonly mountLabel: string;
  readonly personality?: { readonly domain: string; readonly flags: readonly string[] };
  readonly memoryPolicy?: {
    readonly mode: string;
    readonly nodes: string;
    readonly flags: readonly string[];
  };
}
