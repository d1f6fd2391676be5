/** spec and features: what a bundle starts from, and what this runtime can do. */
import { existsSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { SwarmError } from '../../../base/errors.ts';
import { CAPABILITY_NAMES } from '../../container/capabilities.ts';
import { READ_ONLY_PATHS } from '../../container/profile.ts';
import { allHierarchies } from '../cgroups.ts';
import type { OciCommand } from '../command.ts';
import { HOOK_STAGES, NAMESPACES } from '../config.ts';
import { MOUNT_OPTIONS } from '../mountOptions.ts';
import { SPEC_VERSION } from '../versions.ts';

const CAPABILITIES = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];
const OPEN_FILES = 1024;
const MASKED = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/sys/firmware',
  '/proc/scsi',
];

function mount(destination: string, type: string, source: string, options?: readonly string[]) {
  return { destination, type, source, ...(options !== undefined && { options }) };
}

const CAREFUL = ['nosuid', 'noexec', 'nodev'];

/** A shell in a read-only root. */
function example(): Record<string, unknown> {
  const namespaces = ['pid', 'network', 'ipc', 'uts', 'mount'];
  // With v1 hierarchies, programs are used to see the host's groups.
  if (allHierarchies().every(({ version }) => version === 2)) namespaces.push('cgroup');
  return {
    ociVersion: SPEC_VERSION,
    process: {
      terminal: true,
      user: { uid: 0, gid: 0 },
      args: ['sh'],
      env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
      cwd: '/',
      capabilities: {
        bounding: CAPABILITIES,
        effective: CAPABILITIES,
        permitted: CAPABILITIES,
      },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: OPEN_FILES, soft: OPEN_FILES }],
      noNewPrivileges: true,
    },
    root: { path: 'rootfs', readonly: true },
    hostname: 'tsswarm',
    mounts: [
      mount('/proc', 'proc', 'proc'),
      mount('/dev', 'tmpfs', 'tmpfs', ['nosuid', 'strictatime', 'mode=755', 'size=65536k']),
      mount('/dev/pts', 'devpts', 'devpts', [
        'nosuid',
        'noexec',
        'newinstance',
        'ptmxmode=0666',
        'mode=0620',
        'gid=5',
      ]),
      mount('/dev/shm', 'tmpfs', 'shm', [...CAREFUL, 'mode=1777', 'size=65536k']),
      mount('/dev/mqueue', 'mqueue', 'mqueue', CAREFUL),
      mount('/sys', 'sysfs', 'sysfs', [...CAREFUL, 'ro']),
      mount('/sys/fs/cgroup', 'cgroup', 'cgroup', [...CAREFUL, 'relatime', 'ro']),
    ],
    linux: {
      resources: { devices: [{ allow: false, access: 'rwm' }] },
      namespaces: namespaces.map((type) => ({ type })),
      maskedPaths: MASKED,
      readonlyPaths: READ_ONLY_PATHS,
    },
  };
}

/** As the caller's own user, in a user namespace. */
function rootless(config: Record<string, unknown>): Record<string, unknown> {
  const linux = config.linux as { namespaces: { type: string }[] };
  const mounts = config.mounts as { destination: string; options?: string[] }[];
  return {
    ...config,
    mounts: mounts.map((one) =>
      one.destination === '/sys'
        ? mount('/sys', 'none', '/sys', ['rbind', ...CAREFUL, 'ro'])
        : {
            ...one,
            ...(one.options !== undefined && {
              options: one.options.filter((option) => !/^[ug]id=/.test(option)),
            }),
          },
    ),
    linux: {
      ...linux,
      resources: undefined,
      namespaces: [...linux.namespaces.filter(({ type }) => type !== 'network'), { type: 'user' }],
      uidMappings: [{ containerID: 0, hostID: process.geteuid?.() ?? 0, size: 1 }],
      gidMappings: [{ containerID: 0, hostID: process.getegid?.() ?? 0, size: 1 }],
    },
  };
}

export const spec: OciCommand = {
  name: 'spec',
  summary: 'create a new specification file',
  words: '',
  description:
    'The spec command creates the new specification file named "config.json" for\n' +
    'the bundle. It is just a starter file: edit it for what is to run.',
  flags: [
    {
      name: 'bundle',
      short: 'b',
      value: true,
      help: 'path to the root of the bundle directory',
    },
    { name: 'rootless', help: 'generate a configuration for a rootless container' },
  ],
  least: 0,
  most: 0,
  run: (_context, args) => {
    const file = resolve(args.text('bundle') ?? '.', 'config.json');
    if (existsSync(file)) {
      throw new SwarmError('conflict', 'File config.json exists. Remove it first');
    }
    const config = args.flag('rootless') ? rootless(example()) : example();
    writeFileSync(file, `${JSON.stringify(config, null, '\t')}\n`, { mode: 0o666 });
    return 0;
  },
};

const ACTIONS = [
  'SCMP_ACT_ALLOW',
  'SCMP_ACT_ERRNO',
  'SCMP_ACT_KILL',
  'SCMP_ACT_KILL_PROCESS',
  'SCMP_ACT_KILL_THREAD',
  'SCMP_ACT_LOG',
  'SCMP_ACT_NOTIFY',
  'SCMP_ACT_TRACE',
  'SCMP_ACT_TRAP',
];
const OPERATORS = [
  'SCMP_CMP_EQ',
  'SCMP_CMP_GE',
  'SCMP_CMP_GT',
  'SCMP_CMP_LE',
  'SCMP_CMP_LT',
  'SCMP_CMP_MASKED_EQ',
  'SCMP_CMP_NE',
];

export const features: OciCommand = {
  name: 'features',
  summary: 'show the enabled features',
  words: '',
  flags: [],
  least: 0,
  most: 0,
  run: () => {
    const hierarchies = allHierarchies();
    const found = {
      ociVersionMin: '1.0.0',
      ociVersionMax: SPEC_VERSION,
      hooks: HOOK_STAGES,
      mountOptions: MOUNT_OPTIONS,
      linux: {
        namespaces: [...NAMESPACES].toSorted(),
        capabilities: CAPABILITY_NAMES.map((name) => `CAP_${name}`),
        cgroup: {
          v1: hierarchies.some(({ version }) => version === 1),
          v2: hierarchies.some(({ version }) => version === 2),
          systemd: false,
          systemdUser: false,
        },
        seccomp: {
          enabled: true,
          actions: ACTIONS,
          operators: OPERATORS,
          archs: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_X32', 'SCMP_ARCH_X86', 'SCMP_ARCH_X86_64'],
        },
        apparmor: { enabled: existsSync('/sys/kernel/security/apparmor') },
        selinux: { enabled: existsSync('/sys/fs/selinux') },
        intelRdt: { enabled: false },
        netDevices: { enabled: true },
        mountExtensions: { idmap: { enabled: true } },
      },
      potentiallyUnsafeConfigAnnotations: [],
    };
    process.stdout.write(`${JSON.stringify(found, null, 4)}\n`);
    return 0;
  },
};

function refused(name: string, summary: string, words: string): OciCommand {
  return {
    name,
    summary,
    words,
    flags: [],
    least: 0,
    most: Number.POSITIVE_INFINITY,
    run: () => {
      throw new SwarmError(
        'unsupported',
        `${name} is not supported: containers cannot be frozen to disk`,
      );
    },
  };
}

export const checkpoint = refused(
  'checkpoint',
  'checkpoint a running container (not supported)',
  '<container-id>',
);
export const restore = refused(
  'restore',
  'restore a container from a previous checkpoint (not supported)',
  '<container-id>',
);
