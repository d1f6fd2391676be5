/**
 * linux.resources of the OCI runtime specification (config-linux.md, "Control groups"): what is to
 * be limited, in the specification's own units. undefined means "as it is".
 */
export interface OciDeviceRule {
  readonly allow: boolean;
  /** 'a' for both kinds. */
  readonly type: 'a' | 'b' | 'c';
  /** undefined: every number. */
  readonly major?: number;
  readonly minor?: number;
  readonly access: string;
}

export interface OciThrottle {
  readonly major: number;
  readonly minor: number;
  readonly rate: number;
}

export const THROTTLES = [
  'throttleReadBpsDevice',
  'throttleWriteBpsDevice',
  'throttleReadIOPSDevice',
  'throttleWriteIOPSDevice',
] as const;

export interface OciMemory {
  /** Bytes; -1 unlimited. */
  readonly limit?: number;
  readonly reservation?: number;
  /** Memory and swap together. */
  readonly swap?: number;
  readonly kernel?: number;
  readonly kernelTCP?: number;
  readonly swappiness?: number;
  readonly disableOOMKiller?: boolean;
  readonly useHierarchy?: boolean;
  readonly checkBeforeUpdate?: boolean;
}

export interface OciCpu {
  readonly shares?: number;
  /** us */
  readonly quota?: number;
  readonly burst?: number;
  readonly period?: number;
  readonly realtimeRuntime?: number;
  readonly realtimePeriod?: number;
  readonly cpus?: string;
  readonly mems?: string;
  readonly idle?: number;
}

export interface OciBlockIo {
  readonly weight?: number;
  readonly leafWeight?: number;
  readonly weightDevice: readonly {
    readonly major: number;
    readonly minor: number;
    readonly weight?: number;
    readonly leafWeight?: number;
  }[];
  readonly throttles: Readonly<Record<(typeof THROTTLES)[number], readonly OciThrottle[]>>;
}

export interface OciResources {
  readonly devices: readonly OciDeviceRule[];
  readonly memory?: OciMemory;
  readonly cpu?: OciCpu;
  readonly pids?: { readonly limit: number };
  readonly blockIO?: OciBlockIo;
  readonly hugepageLimits: readonly { readonly pageSize: string; readonly limit: number }[];
  readonly network?: {
    readonly classID?: number;
    readonly priorities: readonly { readonly name: string; readonly priority: number }[];
  };
  readonly rdma: ReadonlyMap<
    string,
    { readonly hcaHandles?: number; readonly hcaObjects?: number }
  >;
  readonly unified: Readonly<Record<string, string>>;
}
