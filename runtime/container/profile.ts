/**
 * Docker's default container environment as data: file systems, devices, links, covered paths and
 * sysctls. What one container asks for on top is joined to it in spec.ts; nothing is decided here.
 */
import { readdirSync } from 'node:fs';
import { ANY, type DeviceRule } from '../sys/deviceRules.ts';

/** MOUNT_ATTR_* of linux/mount.h. */
export const ATTR = {
  readOnly: 0x01,
  noSuid: 0x02,
  noDev: 0x04,
  noExec: 0x08,
  strictAtime: 0x20,
} as const;

const { readOnly, noSuid, noDev, noExec, strictAtime } = ATTR;

export interface DefaultMount {
  readonly type: string;
  readonly target: string;
  readonly attributes: number;
  readonly source: string;
  readonly options: readonly string[];
  /** Left out where the kernel has no such file system. */
  readonly optional?: boolean;
}

export const DEFAULT_MOUNTS: readonly DefaultMount[] = [
  {
    type: 'proc',
    target: '/proc',
    attributes: noSuid | noExec | noDev,
    source: 'proc',
    options: [],
  },
  {
    type: 'tmpfs',
    target: '/dev',
    attributes: noSuid | strictAtime,
    source: 'tmpfs',
    options: ['mode=755', 'size=65536k'],
  },
  {
    type: 'devpts',
    target: '/dev/pts',
    attributes: noSuid | noExec,
    source: 'devpts',
    options: ['newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  {
    type: 'tmpfs',
    target: '/dev/shm',
    attributes: noSuid | noExec | noDev,
    source: 'shm',
    options: ['mode=1777', 'size=65536k'],
  },
  {
    type: 'mqueue',
    target: '/dev/mqueue',
    attributes: noSuid | noExec | noDev,
    source: 'mqueue',
    options: [],
    optional: true,
  },
  {
    type: 'sysfs',
    target: '/sys',
    attributes: noSuid | noExec | noDev | readOnly,
    source: 'sysfs',
    options: [],
  },
];

export interface DefaultDevice {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
}

/** Character devices, mode 0666, owned by root. */
export const DEFAULT_DEVICES: readonly DefaultDevice[] = [
  { path: '/dev/null', major: 1, minor: 3 },
  { path: '/dev/zero', major: 1, minor: 5 },
  { path: '/dev/full', major: 1, minor: 7 },
  { path: '/dev/random', major: 1, minor: 8 },
  { path: '/dev/urandom', major: 1, minor: 9 },
  { path: '/dev/tty', major: 5, minor: 0 },
];

export const DEFAULT_LINKS: readonly { readonly target: string; readonly path: string }[] = [
  { target: '/proc/self/fd', path: '/dev/fd' },
  { target: '/proc/self/fd/0', path: '/dev/stdin' },
  { target: '/proc/self/fd/1', path: '/dev/stdout' },
  { target: '/proc/self/fd/2', path: '/dev/stderr' },
  { target: '/proc/kcore', path: '/dev/core' },
  { target: 'pts/ptmx', path: '/dev/ptmx' },
];

/** Making any device node is allowed, using one only for these. */
export const DEFAULT_DEVICE_RULES: readonly DeviceRule[] = [
  { type: 'char', major: ANY, minor: ANY, access: 'm' },
  { type: 'block', major: ANY, minor: ANY, access: 'm' },
  ...DEFAULT_DEVICES.map(({ major, minor }): DeviceRule => {
    return { type: 'char', major, minor, access: 'rwm' };
  }),
  { type: 'char', major: 5, minor: 1, access: 'rwm' }, // console
  { type: 'char', major: 5, minor: 2, access: 'rwm' }, // ptmx
  { type: 'char', major: 136, minor: ANY, access: 'rwm' }, // pts
];

const MASKED: readonly string[] = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];

/**
 * Also each processor's thermal_throttle, whose counters tell containers about each other. Reads
 * sysfs: called once, not for each container.
 */
export function maskedPaths(cpuDir = '/sys/devices/system/cpu'): readonly string[] {
  const throttles: string[] = [];
  for (const entry of listOrNone(cpuDir)) {
    if (!/^cpu\d+$/.test(entry)) continue;
    if (listOrNone(`${cpuDir}/${entry}`).includes('thermal_throttle')) {
      throttles.push(`/sys/devices/system/cpu/${entry}/thermal_throttle`);
    }
  }
  return [...MASKED, ...throttles];
}

function listOrNone(dir: string): readonly string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // no such directory: nothing to mask in it
  }
}

export const READ_ONLY_PATHS: readonly string[] = [
  '/proc/bus',
  '/proc/fs',
  '/proc/irq',
  '/proc/sys',
  '/proc/sysrq-trigger',
];

/** Set in every network namespace that is the container's own. */
export const NETWORK_SYSCTLS: Readonly<Record<string, string>> = {
  'net.ipv4.ip_unprivileged_port_start': '0',
  'net.ipv4.ping_group_range': '0 2147483647',
};

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
