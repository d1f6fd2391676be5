/**
 * What is to be limited, in the terms and units of the OCI runtime specification (config-linux.md,
 * "Control groups"): the one form in which limits reach the cgroup code, whether a user wrote
 * Docker's options or an OCI configuration. undefined means "as it is". Only shapes.
 */

export interface DeviceAccess {
  readonly allow: boolean;
  /** 'a', or nothing: both kinds. */
  readonly type?: 'a' | 'b' | 'c';
  /** undefined or negative: every number. */
  readonly major?: number;
  readonly minor?: number;
  /** Some of 'r', 'w', 'm' (mknod). */
  readonly access: string;
}

export interface MemoryResources {
  /** Bytes; -1 unlimited, 0 as it is; so the other limits. */
  readonly limit?: number;
  readonly reservation?: number;
  /** Memory and swap together. */
  readonly swap?: number;
  /** Kernels have dropped these two. */
  readonly kernel?: number;
  readonly kernelTCP?: number;
  /** 0 to 100. */
  readonly swappiness?: number;
  readonly disableOOMKiller?: boolean;
  readonly useHierarchy?: boolean;
  /** An update below what is used now is refused. */
  readonly checkBeforeUpdate?: boolean;
}

export interface CpuResources {
  /** 2 to 262144; 0 as it is. */
  readonly shares?: number;
  /** us of a period; negative unlimited, 0 as it is. */
  readonly quota?: number;
  readonly burst?: number;
  readonly period?: number;
  readonly realtimeRuntime?: number;
  readonly realtimePeriod?: number;
  readonly cpus?: string;
  readonly mems?: string;
  /** 1: only what nobody else wants. */
  readonly idle?: number;
}

export interface DeviceWeight {
  readonly major: number;
  readonly minor: number;
  /** 10 to 1000; 0 as it is. */
  readonly weight?: number;
  readonly leafWeight?: number;
}

export interface DeviceThrottle {
  readonly major: number;
  readonly minor: number;
  /** Bytes or operations a second; 0 unlimited. */
  readonly rate: number;
}

export const THROTTLES = [
  'throttleReadBpsDevice',
  'throttleWriteBpsDevice',
  'throttleReadIOPSDevice',
  'throttleWriteIOPSDevice',
] as const;
export type ThrottleKind = (typeof THROTTLES)[number];

export interface BlockResources {
  readonly weight?: number;
  readonly leafWeight?: number;
  readonly weightDevice?: readonly DeviceWeight[];
  readonly throttles?: Readonly<Partial<Record<ThrottleKind, readonly DeviceThrottle[]>>>;
}

export interface NetworkResources {
  readonly classID?: number;
  readonly priorities?: readonly { readonly name: string; readonly priority: number }[];
}

export interface Resources {
  /** In order; what no entry allows is denied. */
  readonly devices?: readonly DeviceAccess[];
  readonly memory?: MemoryResources;
  readonly cpu?: CpuResources;
  /** -1 unlimited. */
  readonly pids?: { readonly limit?: number };
  readonly blockIO?: BlockResources;
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[];
  readonly network?: NetworkResources;
  readonly rdma?: ReadonlyMap<
    string,
    { readonly hcaHandles?: number; readonly hcaObjects?: number }
  >;
  /** Files of a cgroup v2 group and what is written to them. */
  readonly unified?: Readonly<Record<string, string>>;
}
