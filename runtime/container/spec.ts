/**
 * From a container's configuration to its launch specification: Docker's defaults joined with what
 * the configuration says, in the order the shim carries it out. Pure but for asking the host for
 * its cgroups' present values; starts nothing and writes nothing.
 */
import { existsSync } from 'node:fs';
import { join, normalize } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import type { Cgroups } from '../sys/cgroup.ts';
import type { Resources } from '../sys/resources.ts';
import { type Capability, capabilityMask, effectiveCapabilities } from './capabilities.ts';
import { containerDevices } from './devices.ts';
import { SpecWriter, TAG } from './encode.ts';
import { labelsInForce } from './labels.ts';
import { type Lent, NOTHING_LENT, sharedOf } from './loans.ts';
import { newestLogNumber } from './logs.ts';
import { type ContainerPaths, groupPath, LOG_DIR } from './paths.ts';
import { DEFAULT_PATH, NETWORK_SYSCTLS } from './profile.ts';
import { cutLimits, parseResourceLimit } from './resourceLimits.ts';
import { toDeviceList, toResources } from './resources.ts';
import { seccompProgram } from './seccomp.ts';
import { profileProgram } from './seccompFile.ts';
import { parseSignal } from './signals.ts';
import { addBinds, addFileSystem, addLayers } from './specFiles.ts';
import { addCgroups, addNamespace, addShimCgroups, addUserMaps, FLAG } from './specRecords.ts';
import { IPC_SYSCTL, sysctlPath } from './sysctls.ts';
import type { ContainerConfig, ContainerMount, ExecConfig, SecurityLabel } from './types.ts';
import { checkUserNamespace, userMapsOf } from './userNamespace.ts';

export interface LaunchSpec {
  readonly bytes: Uint8Array;
  /** What its groups are limited to. */
  readonly resources: Resources;
  /** What was clamped or left out, for the log. */
  readonly notes: readonly string[];
}

const DEFAULT_LOG_BYTES = 20 * 1024 * 1024;
export const DEFAULT_LOG_FILES = 5;
const LOG_FORMATS = { local: 0, 'json-file': 1, none: 2 } as const;
/** How long output is still read after the end of the first process. */
const DRAIN_MS = 2000;
const OOM_SCORE_MAX = 1000;

/** Everything the shim needs. SwarmError invalid names the field that cannot be. */
export function buildSpec(
  config: ContainerConfig,
  paths: ContainerPaths,
  cgroups: Cgroups,
  lent: Lent = NOTHING_LENT,
): LaunchSpec {
  checkConfig(config);
  const writer = new SpecWriter();
  const devices = containerDevices(config);
  const notes: string[] = [];
  const resources = {
    ...toResources(config.resources, (text) => notes.push(text)),
    devices: toDeviceList(devices.rules),
  };
  const path = groupPath(config);
  // What a limit may be depends on the group above.
  if (config.cgroupParent !== undefined) cgroups.makeAbove(path);
  const plan = cgroups.plan(path, resources, { isNew: true });
  writer.add(TAG.id, config.id);
  writer.add(TAG.execDir, paths.execDir);
  writer.add(TAG.logDir, join(paths.dataDir, LOG_DIR));
  writer.add(
    TAG.logLimits,
    BigInt(config.log.maxSizeBytes ?? DEFAULT_LOG_BYTES),
    config.log.maxFiles ?? DEFAULT_LOG_FILES,
    newestLogNumber(join(paths.dataDir, LOG_DIR)),
    LOG_FORMATS[config.log.driver ?? 'local'],
    config.log.waitingBytes === undefined ? 0 : 1,
    BigInt(config.log.waitingBytes ?? 0),
    logAttributes(config),
  );
  writer.add(TAG.drain, DRAIN_MS);
  addCgroups(writer, plan.groups);
  addNamespaces(writer, config, lent);
  addFileSystem(writer, config, paths, cgroups.hierarchies, devices.nodes, lent);
  addProcess(writer, config);
  const cut = cutLimits(config.resourceLimits ?? [], config.oomScoreAdjust ?? 0);
  return { bytes: writer.finish(), resources, notes: [...notes, ...plan.notes, ...cut] };
}

/** The shim's own bound (runtime/shim/log.h). */
const LOG_ATTRIBUTES_MAX_BYTES = 16 * 1024 - 1;

/** As JSON, or ''. */
function logAttributes({ log }: ContainerConfig): string {
  const { attributes = {} } = log;
  if (Object.keys(attributes).length === 0) return '';
  const text = JSON.stringify(attributes);
  if (Buffer.byteLength(text) <= LOG_ATTRIBUTES_MAX_BYTES) return text;
  throw new SwarmError(
    'invalid',
    `what each line of the log is to say takes more than ${LOG_ATTRIBUTES_MAX_BYTES} bytes: name ` +
      'fewer labels and variables in its log options',
  );
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
  checkUserNamespace(config);
  for (const label of config.securityLabels ?? []) checkLabel(label);
  parseSignal(config.stopSignal ?? 'SIGTERM');
  const score = config.oomScoreAdjust ?? 0;
  if (score < -OOM_SCORE_MAX || score > OOM_SCORE_MAX) {
    throw new SwarmError('invalid', `OOM score ${score} is out of range: -1000 to 1000`);
  }
}

/** As the shim numbers them, and where their module shows. */
const LABEL = { apparmor: 1, selinux: 2 } as const;
const MODULES = {
  apparmor: { name: 'AppArmor', path: '/sys/module/apparmor' },
  selinux: { name: 'SELinux', path: '/sys/fs/selinux/enforce' },
} as const;

function checkLabel({ kind, label }: SecurityLabel): void {
  const { name, path } = MODULES[kind];
  if (existsSync(path)) return;
  throw new SwarmError(
    'unsupported',
    `cannot confine the container by "${label}": this host's kernel has no ${name}: leave it out`,
  );
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

function addNamespaces(writer: SpecWriter, config: ContainerConfig, lent: Lent): void {
  const network = config.networkNamespace;
  writer.add(
    TAG.flags,
    (config.readOnlyRoot === true ? FLAG.readOnlyRoot : 0) |
      (config.tty === true ? FLAG.tty : 0) |
      (config.openStdin === true ? FLAG.stdin : 0) |
      (config.stdinOnce === true ? FLAG.stdinOnce : 0) |
      (config.init === true ? FLAG.init : 0) |
      (config.noNewPrivileges === true ? FLAG.noNewPrivileges : 0),
  );
  addNamespace(writer, 'mount');
  const maps = userMapsOf(config);
  if (maps !== undefined) {
    addNamespace(writer, 'user', lent.namespaces.user);
    if (lent.namespaces.user === undefined) addUserMaps(writer, maps);
  }
  const { pid, ipc, uts } = lent.namespaces;
  if (config.pidNamespace !== 'host') addNamespace(writer, 'pid', pid);
  if (config.ipcNamespace !== 'host') addNamespace(writer, 'ipc', ipc);
  if (config.utsNamespace !== 'host') addNamespace(writer, 'uts', uts);
  if (config.cgroupNamespace !== 'host') addNamespace(writer, 'cgroup');
  if (network === 'new') addNamespace(writer, 'network');
  else if (network !== 'host') addNamespace(writer, 'network', network.path);
  writer.add(TAG.hostname, config.hostname);
  if ((config.domainName ?? '') !== '') writer.add(TAG.domain, config.domainName ?? '');
  const defaults = network === 'host' ? {} : NETWORK_SYSCTLS;
  for (const [name, value] of Object.entries(defaults)) {
    writer.add(TAG.sysctl, 1, sysctlPath(name), value);
  }
  for (const [name, value] of Object.entries(config.sysctls ?? {})) {
    const isOwnIpc = config.ipcNamespace !== 'host' && sharedOf(config, 'ipc') === undefined;
    checkSysctl(name, network === 'host', !isOwnIpc);
    writer.add(TAG.sysctl, 0, sysctlPath(name), value);
  }
}

/** Only what belongs to the container's own namespaces may be set. */
function checkSysctl(name: string, isHostNetwork: boolean, isHostIpc: boolean): void {
  const parts = sysctlPath(name).split('/');
  // '..' would lead from the container's own settings to the host's.
  if (parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new SwarmError(
      'invalid',
      `sysctl "${name}" is no name: write it like net.core.somaxconn`,
    );
  }
  const isNetwork = parts[1] === 'net' && parts.length > 2;
  const isIpc = IPC_SYSCTL.test(parts.slice(1).join('.'));
  if ((isNetwork && !isHostNetwork) || (isIpc && !isHostIpc)) return;
  throw new SwarmError(
    'invalid',
    isNetwork || isIpc
      ? `sysctl "${name}" is the host's while the container shares the host's ` +
          (isNetwork ? 'network' : 'IPC namespace')
      : `sysctl "${name}" is not kept apart by container and cannot be set`,
  );
}

function addProcess(writer: SpecWriter, config: ContainerConfig): void {
  addProgram(writer, config, config);
  writer.add(TAG.cwd, config.workingDir);
  writer.add(TAG.user, config.user);
  addPrivileges(writer, config, false);
}

/** Of a terminal, either way; the kernel keeps 16 bits. */
const SIZE_MAX = 0xffff;

/** Arguments and environment; a terminal says what it is. */
function addProgram(
  writer: SpecWriter,
  config: ContainerConfig,
  program: Pick<ContainerConfig, 'args' | 'tty' | 'terminalSize'>,
): void {
  const [rows, columns] = program.terminalSize ?? [0, 0];
  if (program.tty === true && rows > 0 && columns > 0) {
    writer.add(TAG.terminal, Math.min(rows, SIZE_MAX), Math.min(columns, SIZE_MAX));
  }
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
  firstPid = 0,
): void {
  for (const group of config.additionalGroups ?? []) writer.add(TAG.group, group);
  // The shim protects itself from the OOM killer; its container starts from nothing again.
  writer.add(TAG.oomScore, config.oomScoreAdjust ?? 0);
  for (const limit of config.resourceLimits ?? []) {
    const { resource, soft, hard } = parseResourceLimit(limit);
    writer.add(TAG.rlimit, resource, soft, hard);
  }
  const isPrivileged = config.privileged === true;
  const own = effectiveCapabilities(
    isPrivileged ? ['ALL'] : (config.capabilityAdd ?? []),
    isPrivileged ? [] : (config.capabilityDrop ?? []),
  );
  const mask = capabilityMask(allCapabilities ? effectiveCapabilities(['ALL'], []) : own);
  const [bounding, effective, permitted, inheritable, ambient] = [mask, mask, mask, 0n, 0n];
  writer.add(TAG.capabilities, bounding, effective, permitted, inheritable, ambient);
  for (const { kind, label } of labelsInForce(config, firstPid)) {
    writer.add(TAG.label, LABEL[kind], label);
  }
  if (!isPrivileged) addSeccomp(writer, config.seccomp ?? 'default', own);
}

function addSeccomp(
  writer: SpecWriter,
  seccomp: NonNullable<ContainerConfig['seccomp']>,
  capabilities: ReadonlySet<Capability>,
): void {
  if (seccomp === 'unconfined') return;
  if (seccomp === 'default') {
    writer.add(TAG.seccomp, seccompProgram(capabilities));
    return;
  }
  const own = profileProgram(seccomp.profile, capabilities);
  if (own === undefined) return;
  writer.add(TAG.seccomp, own.program);
  if (own.flags !== 0) writer.add(TAG.seccompListener, own.flags, '');
}

/** For looking into the container while it does not run: its layers and what is bound into it. */
export function buildHoldSpec(
  config: ContainerConfig,
  paths: ContainerPaths,
  lent: Lent,
): Uint8Array {
  const writer = new SpecWriter();
  // Any directory will do to mount on: the namespace is the holder's own.
  writer.add(TAG.execDir, paths.dataDir);
  writer.add(TAG.flags, FLAG.hold | (config.readOnlyRoot === true ? FLAG.readOnlyRoot : 0));
  addLayers(writer, config, paths);
  addBinds(writer, config.mounts, lent);
  return writer.finish();
}

/** For the process that makes shims: the groups it goes into, and they with it. */
export function buildNurserySpec(cgroups: Cgroups): Uint8Array {
  const writer = new SpecWriter();
  addShimCgroups(writer, cgroups.shims);
  return writer.finish();
}

/**
 * For a further program in the running container, whose first process is `firstPid`. SwarmError
 * invalid as for buildSpec.
 */
export function buildExecSpec(config: ContainerConfig, exec: ExecConfig, firstPid = 0): Uint8Array {
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
  addPrivileges(writer, config, exec.privileged, firstPid);
  return writer.finish();
}

/** The later value of a name counts; a name without a value takes it out. */
export function mergeEnv(own: readonly string[], more: readonly string[]): readonly string[] {
  const merged = new Map<string, string>();
  for (const variable of [...own, ...more]) {
    const name = variable.split('=', 1)[0];
    if (variable.includes('=')) merged.set(name, variable);
    else merged.delete(name);
  }
  return [...merged.values()];
}
