/**
 * From a container's configuration to its launch specification: Docker's defaults joined with what
 * the configuration says, in the order the shim carries it out. Pure but for asking the host for
 * its cgroups' present values; starts nothing and writes nothing.
 */
import { basename, join, normalize } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { CgroupHierarchy, CgroupPlan, Cgroups } from '../sys/cgroup.ts';
import { capabilityMask, effectiveCapabilities } from './capabilities.ts';
import { SpecWriter, TAG } from './encode.ts';
import {
  ATTR,
  DEFAULT_DEVICE_RULES,
  DEFAULT_DEVICES,
  DEFAULT_LINKS,
  DEFAULT_MOUNTS,
  DEFAULT_PATH,
  maskedPaths,
  NETWORK_SYSCTLS,
  READ_ONLY_PATHS,
} from './profile.ts';
import { seccompProgram } from './seccomp.ts';
import { parseSignal } from './signals.ts';
import type { ContainerConfig, ContainerMount, ExecConfig } from './types.ts';

export interface ContainerPaths {
  /** Configuration, writable layer, logs. */
  readonly dataDir: string;
  /** Socket, pid, exit record. */
  readonly execDir: string;
}

export interface LaunchSpec {
  readonly bytes: Uint8Array;
  /** What was clamped or left out, for the log. */
  readonly notes: readonly string[];
}

const FLAG = {
  readOnlyRoot: 1,
  noNewPrivileges: 2,
  tty: 4,
  newNetns: 8,
  stdin: 16,
  stdinOnce: 32,
} as const;
const CGROUP = { v2: 1, memory: 2, freezer: 4 } as const;
const MOUNT = { bind: 1, file: 2, trusted: 4, optional: 8 } as const;
const IN_PLACE = 1;
const CHARACTER_DEVICE_0666 = 0o020666;
const DEFAULT_LOG_BYTES = 20 * 1024 * 1024;
const DEFAULT_LOG_FILES = 5;
const FIRST_LOG_FILE = 1;
/** How long output is still read after the end of the first process. */
const DRAIN_MS = 2000;

/** Processors do not change while the daemon runs. */
let hostMasks: readonly string[] | undefined;

export const LOG_DIR = 'logs';
export const UPPER_DIR = 'upper';
export const WORK_DIR = 'work';

export function containerPaths(dataRoot: string, execRoot: string, id: string): ContainerPaths {
  return {
    dataDir: join(dataRoot, 'containers', id),
    execDir: join(execRoot, 'containers', id),
  };
}

/** Everything the shim needs. SwarmError invalid names the field that cannot be. */
export function buildSpec(
  config: ContainerConfig,
  paths: ContainerPaths,
  cgroups: Cgroups,
): LaunchSpec {
  checkConfig(config);
  const writer = new SpecWriter();
  const plan = cgroups.plan(config.id, config.resources, DEFAULT_DEVICE_RULES);
  writer.add(TAG.id, config.id);
  writer.add(TAG.execDir, paths.execDir);
  writer.add(TAG.logDir, join(paths.dataDir, LOG_DIR));
  writer.add(
    TAG.logLimits,
    BigInt(config.log.maxSizeBytes ?? DEFAULT_LOG_BYTES),
    config.log.maxFiles ?? DEFAULT_LOG_FILES,
    FIRST_LOG_FILE,
  );
  writer.add(TAG.drain, DRAIN_MS);
  addCgroups(writer, plan);
  addNamespaces(writer, config);
  addFileSystem(writer, config, paths, cgroups.hierarchies);
  addProcess(writer, config);
  return { bytes: writer.finish(), notes: plan.notes };
}

function checkConfig(config: ContainerConfig): void {
  if (!/^[0-9a-f]{64}$/.test(config.id)) {
    throw new SwarmError('invalid', `container id "${config.id}" is not 64 hex digits`);
  }
  if (config.args.length === 0 || config.args[0] === '') {
    throw new SwarmError('invalid', 'no command specified: give one, or an image that has one');
  }
  if (config.layers.length === 0) {
    throw new SwarmError('invalid', 'the container has no image layers');
  }
  if (!config.workingDir.startsWith('/')) {
    throw new SwarmError(
      'invalid',
      `the working directory "${config.workingDir}" is not an absolute path`,
    );
  }
  for (const mount of config.mounts) checkMount(mount);
  parseSignal(config.stopSignal ?? 'SIGTERM');
}

function checkMount(mount: ContainerMount): void {
  if (!mount.target.startsWith('/') || normalize(mount.target) === '/') {
    throw new SwarmError(
      'invalid',
      `mount target "${mount.target}" is not an absolute path below /`,
    );
  }
  if (mount.type === 'bind' && !(mount.source ?? '').startsWith('/')) {
    throw new SwarmError('invalid', `mount source "${mount.source}" is not an absolute path`);
  }
}

function addCgroups(writer: SpecWriter, plan: CgroupPlan): void {
  for (const shim of plan.shims) {
    writer.add(TAG.shimCgroup, shim.version === 2 ? CGROUP.v2 : 0, shim.dir);
  }
  for (const group of plan.groups) {
    const flags =
      (group.version === 2 ? CGROUP.v2 : 0) |
      (group.memory ? CGROUP.memory : 0) |
      (group.freezer ? CGROUP.freezer : 0);
    writer.add(TAG.cgroup, flags, group.dir);
    for (const write of group.writes) {
      writer.add(TAG.cgroupWrite, write.optional ? 1 : 0, write.file, write.value);
    }
    if (group.deviceProgram !== undefined) writer.add(TAG.deviceProgram, group.deviceProgram);
  }
}

function addNamespaces(writer: SpecWriter, config: ContainerConfig): void {
  const network = config.networkNamespace;
  writer.add(
    TAG.flags,
    (config.readOnlyRoot === true ? FLAG.readOnlyRoot : 0) |
      (config.tty === true ? FLAG.tty : 0) |
      (config.openStdin === true ? FLAG.stdin : 0) |
      (config.stdinOnce === true ? FLAG.stdinOnce : 0) |
      (network === 'new' ? FLAG.newNetns : 0),
  );
  if (typeof network === 'object') writer.add(TAG.netns, network.path);
  writer.add(TAG.hostname, config.hostname);
  const defaults = network === 'host' ? {} : NETWORK_SYSCTLS;
  for (const [name, value] of Object.entries(defaults)) {
    writer.add(TAG.sysctl, 1, sysctlPath(name), value);
  }
  for (const [name, value] of Object.entries(config.sysctls ?? {})) {
    checkSysctl(name, network === 'host');
    writer.add(TAG.sysctl, 0, sysctlPath(name), value);
  }
}

const IPC_SYSCTL =
  /^(kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\..+)$/;

/** Only what belongs to the container's own namespaces may be set. */
function checkSysctl(name: string, isHostNetwork: boolean): void {
  const parts = sysctlPath(name).split('/');
  // '..' would lead from the container's own settings to the host's.
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new SwarmError(
      'invalid',
      `sysctl "${name}" is no name: write it like net.core.somaxconn`,
    );
  }
  const isNetwork = parts[1] === 'net' && parts.length > 2;
  if ((isNetwork && !isHostNetwork) || IPC_SYSCTL.test(parts.slice(1).join('.'))) return;
  throw new SwarmError(
    'invalid',
    isNetwork
      ? `sysctl "${name}" is the host's while the container is on the host's network`
      : `sysctl "${name}" is not kept apart by container and cannot be set`,
  );
}

/** 'net.ipv4.ip_forward' -> 'sys/net/ipv4/ip_forward'; with slashes, dots are part of names. */
function sysctlPath(name: string): string {
  const slash = name.indexOf('/');
  const dot = name.indexOf('.');
  const usesSlashes = slash >= 0 && (dot < 0 || slash < dot);
  if (usesSlashes) return `sys/${name}`;
  return `sys/${name.replace(/[./]/g, (letter) => (letter === '.' ? '/' : '.'))}`;
}

function addFileSystem(
  writer: SpecWriter,
  config: ContainerConfig,
  paths: ContainerPaths,
  hierarchies: readonly CgroupHierarchy[],
): void {
  for (const layer of config.layers.toReversed()) writer.add(TAG.lower, layer);
  writer.add(TAG.upper, join(paths.dataDir, UPPER_DIR), join(paths.dataDir, WORK_DIR));
  for (const mount of DEFAULT_MOUNTS) {
    const flags = MOUNT.trusted | (mount.optional === true ? MOUNT.optional : 0);
    writer.add(TAG.mount, flags, mount.attributes, mount.target, mount.type, ...mount.options);
  }
  addCgroupMounts(writer, hierarchies);
  for (const { path, major, minor } of DEFAULT_DEVICES) {
    writer.add(TAG.device, CHARACTER_DEVICE_0666, major, minor, 0, 0, path);
  }
  for (const { target, path } of DEFAULT_LINKS) writer.add(TAG.symlink, target, path);
  const files: [string, string | undefined][] = [
    ['/etc/hosts', config.hostsFile],
    ['/etc/hostname', config.hostnameFile],
    ['/etc/resolv.conf', config.resolvConfFile],
  ];
  for (const [target, source] of files) {
    if (source !== undefined) writer.add(TAG.mount, MOUNT.bind | MOUNT.file, 0, target, source);
  }
  for (const mount of parentsFirst(config.mounts)) addMount(writer, mount);
  hostMasks ??= maskedPaths();
  for (const path of hostMasks) writer.add(TAG.mask, path);
  for (const path of READ_ONLY_PATHS) writer.add(TAG.readOnly, 0, path);
}

/** What is mounted deeper must come later, or it would be covered. */
function parentsFirst(mounts: readonly ContainerMount[]): readonly ContainerMount[] {
  const depth = (mount: ContainerMount): number =>
    mount.target.split('/').filter((part) => part !== '').length;
  return mounts.toSorted((left, right) => depth(left) - depth(right));
}

function addMount(writer: SpecWriter, mount: ContainerMount): void {
  const readOnly = mount.readOnly === true ? ATTR.readOnly : 0;
  if (mount.type === 'bind') {
    writer.add(TAG.mount, MOUNT.bind, readOnly, mount.target, mount.source ?? '');
    return;
  }
  const options = ['source=tmpfs'];
  if (mount.sizeBytes !== undefined) options.push(`size=${mount.sizeBytes}`);
  options.push(`mode=${(mount.mode ?? 0o1777).toString(8)}`);
  const attributes = ATTR.noSuid | ATTR.noDev | ATTR.noExec | readOnly;
  writer.add(TAG.mount, 0, attributes, mount.target, 'tmpfs', ...options);
}

/** The container's own groups, read-only, where programs look for their limits. */
function addCgroupMounts(writer: SpecWriter, hierarchies: readonly CgroupHierarchy[]): void {
  const root = '/sys/fs/cgroup';
  const flags = MOUNT.trusted | MOUNT.optional;
  const attributes = ATTR.noSuid | ATTR.noDev | ATTR.noExec;
  const readOnly = attributes | ATTR.readOnly;
  if (hierarchies.every((hierarchy) => hierarchy.version === 2)) {
    writer.add(TAG.mount, flags, readOnly, root, 'cgroup2', 'source=cgroup');
    return;
  }
  writer.add(TAG.mount, flags, attributes, root, 'tmpfs', 'source=tmpfs', 'mode=755');
  for (const hierarchy of hierarchies) {
    const target = join(root, basename(hierarchy.path));
    const type = hierarchy.version === 2 ? 'cgroup2' : 'cgroup';
    const options = hierarchy.version === 2 ? [] : hierarchy.controllers;
    writer.add(TAG.mount, flags, readOnly, target, type, 'source=cgroup', ...options);
    if (hierarchy.version === 1 && hierarchy.controllers.length > 1) {
      for (const name of hierarchy.controllers) {
        writer.add(TAG.symlink, basename(hierarchy.path), join(root, name));
      }
    }
  }
  writer.add(TAG.readOnly, IN_PLACE, root);
}

function addProcess(writer: SpecWriter, config: ContainerConfig): void {
  addProgram(writer, config, config);
  writer.add(TAG.cwd, config.workingDir);
  writer.add(TAG.user, config.user);
  addPrivileges(writer, config, false);
}

/** Arguments and environment; a terminal says what it is. */
function addProgram(
  writer: SpecWriter,
  config: ContainerConfig,
  program: { readonly args: readonly string[]; readonly tty?: boolean },
): void {
  for (const arg of program.args) writer.add(TAG.arg, arg);
  const hasName = (name: string): boolean =>
    config.env.some((variable) => variable.startsWith(`${name}=`));
  if (!hasName('PATH')) writer.add(TAG.env, `PATH=${DEFAULT_PATH}`);
  if (!hasName('HOSTNAME')) writer.add(TAG.env, `HOSTNAME=${config.hostname}`);
  if (program.tty === true && !hasName('TERM')) writer.add(TAG.env, 'TERM=xterm');
  for (const variable of config.env) writer.add(TAG.env, variable);
}

function addPrivileges(
  writer: SpecWriter,
  config: ContainerConfig,
  allCapabilities: boolean,
): void {
  for (const group of config.additionalGroups ?? []) writer.add(TAG.group, group);
  // The shim protects itself from the OOM killer; its container starts from nothing again.
  writer.add(TAG.oomScore, 0);
  const own = effectiveCapabilities(config.capabilityAdd ?? [], config.capabilityDrop ?? []);
  const mask = capabilityMask(allCapabilities ? effectiveCapabilities(['ALL'], []) : own);
  const [bounding, effective, permitted, inheritable, ambient] = [mask, mask, mask, 0n, 0n];
  writer.add(TAG.capabilities, bounding, effective, permitted, inheritable, ambient);
  writer.add(TAG.seccomp, seccompProgram(own));
}

/** For a further program in the running container. SwarmError invalid as for buildSpec. */
export function buildExecSpec(config: ContainerConfig, exec: ExecConfig): Uint8Array {
  if (exec.args.length === 0 || exec.args[0] === '') {
    throw new SwarmError('invalid', 'no exec command specified: give one');
  }
  const workingDir = exec.workingDir === '' ? config.workingDir : exec.workingDir;
  if (!workingDir.startsWith('/')) {
    throw new SwarmError(
      'invalid',
      `the working directory "${workingDir}" is not an absolute path`,
    );
  }
  const writer = new SpecWriter();
  writer.add(TAG.id, config.id);
  writer.add(
    TAG.flags,
    (exec.tty ? FLAG.tty : 0) |
      (exec.stdin ? FLAG.stdin : 0) |
      (config.noNewPrivileges === true ? FLAG.noNewPrivileges : 0),
  );
  addProgram(writer, { ...config, env: mergeEnv(config.env, exec.env) }, exec);
  writer.add(TAG.cwd, workingDir);
  writer.add(TAG.user, exec.user === '' ? config.user : exec.user);
  addPrivileges(writer, config, exec.privileged);
  return writer.finish();
}

/** The later value of a name counts; a name without a value takes it out. */
function mergeEnv(own: readonly string[], more: readonly string[]): readonly string[] {
  const merged = new Map<string, string>();
  for (const variable of [...own, ...more]) {
    const name = variable.split('=', 1)[0];
    if (variable.includes('=')) merged.set(name, variable);
    else merged.delete(name);
  }
  return [...merged.values()];
}
