/**
 * From config.json to the launch records that the shim carries out (runtime/shim/protocol.md): the
 * same encoder and the same records as Docker-style containers. What cannot be had is refused by
 * the field's name. Looks at the host where it must; starts and writes nothing.
 */
import { readFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { CAPABILITY_NAMES, type Capability, capabilityMask } from '../container/capabilities.ts';
import { SpecWriter, TAG } from '../container/encode.ts';
import { resourceLimitNumber } from '../container/resourceLimits.ts';
import { addCgroups, addNamespace, addUserMaps, FLAG } from '../container/specRecords.ts';
import { IPC_SYSCTL, sysctlPath } from '../container/sysctls.ts';
import type { CgroupGroup } from '../sys/cgroup.ts';
import {
  CAPABILITY_SETS,
  type CapabilitySets,
  type OciConfig,
  type OciHook,
  type OciProcess,
} from './config.ts';
import {
  CLOCKS,
  flagsOf,
  IO_CLASS_SHIFT,
  IO_CLASSES,
  MEMORY_FLAGS,
  MEMORY_MODES,
  numberOf,
  PERSONALITIES,
  SCHEDULER_FLAGS,
  SCHEDULERS,
} from './constants.ts';
import type { HookState } from './hookState.ts';
import { addRootfs, type CgroupPlace } from './launchRootfs.ts';
import { addSeccomp } from './launchSeccomp.ts';
import { checkNetDevices } from './netDevices.ts';

const STAGES = { prestart: 0, createRuntime: 1, createContainer: 2, startContainer: 3 } as const;
const LABEL = { apparmor: 1, selinux: 2 } as const;
/** Where the shim finds the console socket, and what is preserved. */
export const CONSOLE_FD = 5;

export interface LaunchOptions {
  readonly id: string;
  readonly stateDir: string;
  readonly bundle: string;
  readonly groups: readonly CgroupGroup[];
  readonly places: readonly CgroupPlace[];
  /** The fifo that `start` opens; none to start at once. */
  readonly gate?: string;
  readonly hasConsole: boolean;
  readonly preserveFds: number;
  readonly noPivot: boolean;
  readonly noNewKeyring: boolean;
  readonly hookState: HookState;
}

/** What is noted was left out on purpose, one readable line each. */
export interface OciLaunch {
  readonly bytes: Uint8Array;
  readonly notes: readonly string[];
}

/** The container and its first program. SwarmError invalid or unsupported names the field. */
export function buildLaunch(config: OciConfig, options: LaunchOptions): OciLaunch {
  const { process } = config;
  if (process === undefined) throw new SwarmError('invalid', 'process: expected an object');
  checkConfig(config);
  const notes: string[] = [];
  const writer = new SpecWriter();
  writer.add(TAG.id, options.id);
  writer.add(TAG.execDir, options.stateDir);
  writer.add(
    TAG.flags,
    programFlags(process) |
      (config.root.readonly ? FLAG.readOnlyRoot : 0) |
      (options.noNewKeyring ? FLAG.keepKeyring : 0) |
      (options.noPivot ? FLAG.noPivot : 0),
  );
  addCgroups(writer, options.groups);
  addNamespaces(writer, config);
  addRootfs(writer, config, options);
  addHooks(writer, config, options.hookState);
  if (options.gate !== undefined) writer.add(TAG.gate, options.gate);
  addProgram(writer, withCallersGroups(config, process), options, notes);
  addSeccomp(writer, config.linux.seccomp, options.hookState);
  addLinux(writer, config);
  return { bytes: writer.finish(), notes };
}

export interface ExecOptions {
  readonly id: string;
  readonly pid: number;
  readonly startTicks: bigint;
  readonly groups: readonly CgroupGroup[];
  readonly hasConsole: boolean;
  readonly preserveFds: number;
  readonly hookState: HookState;
}

/** A further program in a container that was made from `config`. */
export function buildExecLaunch(
  config: OciConfig,
  process: OciProcess,
  options: ExecOptions,
): OciLaunch {
  checkProcess(process, 'process');
  const notes: string[] = [];
  const writer = new SpecWriter();
  writer.add(TAG.id, options.id);
  writer.add(TAG.flags, programFlags(process));
  writer.add(TAG.execTarget, options.pid, options.startTicks);
  addCgroups(writer, options.groups);
  addProgram(writer, withCallersGroups(config, process), options, notes);
  addSeccomp(writer, config.linux.seccomp, options.hookState, options.pid);
  return { bytes: writer.finish(), notes };
}

/** crun's, which Podman writes for `--group-add keep-groups`. */
const KEEP_GROUPS = 'run.oci.keep_original_groups';

function withCallersGroups({ annotations }: OciConfig, program: OciProcess): OciProcess {
  if (!['1', 'true'].includes(annotations[KEEP_GROUPS] ?? '')) return program;
  const groups = new Set([...program.user.additionalGids, ...(process.getgroups?.() ?? [])]);
  return { ...program, user: { ...program.user, additionalGids: [...groups] } };
}

function programFlags(process: OciProcess): number {
  return (
    FLAG.ownStreams |
    FLAG.noSupervisor |
    FLAG.numericUser |
    (process.terminal ? FLAG.tty : 0) |
    (process.noNewPrivileges ? FLAG.noNewPrivileges : 0)
  );
}

export function checkProcess(process: OciProcess, field: string): void {
  if (process.args.length === 0 || process.args[0] === '') {
    throw new SwarmError('invalid', `${field}.args must not be empty`);
  }
  if (!process.cwd.startsWith('/')) {
    throw new SwarmError('invalid', `${field}.cwd: "${process.cwd}" is not an absolute path`);
  }
}

function checkConfig(config: OciConfig): void {
  const { linux } = config;
  checkProcess(config.process as OciProcess, 'process');
  const has = (type: Parameters<typeof linux.namespaces.has>[0]): boolean =>
    linux.namespaces.has(type);
  if (!has('mount')) {
    throw new SwarmError('unsupported', 'linux.namespaces: a container needs a mount namespace');
  }
  if (has('user') && linux.namespaces.get('user') === '') {
    if (linux.uidMappings.length === 0 || linux.gidMappings.length === 0) {
      throw new SwarmError('invalid', 'linux: a new user namespace needs uidMappings, gidMappings');
    }
  } else if (linux.uidMappings.length > 0 && !has('user')) {
    throw new SwarmError('invalid', 'linux.uidMappings: user namespaces are not enabled here');
  }
  for (const name of ['hostname', 'domainname'] as const) {
    if ((config[name] ?? '') !== '' && !has('uts')) {
      throw new SwarmError('invalid', `unable to set ${name} without a private UTS namespace`);
    }
  }
  if (linux.timeOffsets.size > 0 && !has('time')) {
    throw new SwarmError('invalid', 'linux.timeOffsets: there is no new time namespace');
  }
  checkNetDevices(config);
  for (const name of Object.keys(linux.sysctl)) checkSysctl(config, name);
}

/** Only what belongs to a namespace of the container's own. */
function checkSysctl(config: OciConfig, name: string): void {
  const path = sysctlPath(name);
  const key = path.split('/').slice(1).join('.');
  const isOwn = (type: 'network' | 'ipc' | 'uts'): boolean => config.linux.namespaces.has(type);
  const refuse = (why: string): never => {
    throw new SwarmError('invalid', `linux.sysctl: "${name}" ${why}`);
  };
  if (path.split('/').some((part) => part === '' || part === '..')) refuse('is no name');
  if (key === 'kernel.domainname') {
    if (!isOwn('uts')) refuse('is not allowed in the hosts UTS namespace');
    const [given, value] = [config.domainname ?? '', config.linux.sysctl[name]];
    if (given !== '' && given !== value) refuse('conflicts with domainname');
  } else if (key === 'kernel.hostname') {
    refuse('conflicts with hostname: give that instead');
  } else if (key.startsWith('net.')) {
    if (!isOwn('network')) refuse('is not allowed in the hosts network namespace');
  } else if (IPC_SYSCTL.test(key)) {
    if (!isOwn('ipc')) refuse('is not allowed in the hosts ipc namespace');
  } else if (!key.startsWith('user.') || !config.linux.namespaces.has('user')) {
    refuse('is not in a separate kernel namespace');
  }
}

function addNamespaces(writer: SpecWriter, config: OciConfig): void {
  const { linux } = config;
  for (const [type, path] of linux.namespaces) {
    addNamespace(writer, type, path);
  }
  // A joined user namespace has its maps already.
  if (linux.namespaces.get('user') === '') {
    addUserMaps(writer, { uids: linux.uidMappings, gids: linux.gidMappings });
  }
  for (const [clock, { secs, nanosecs }] of linux.timeOffsets) {
    const number = numberOf(CLOCKS, clock, 'linux.timeOffsets');
    writer.add(TAG.timeOffset, number, signed(secs), nanosecs);
  }
  if ((config.hostname ?? '') !== '') writer.add(TAG.hostname, config.hostname ?? '');
  if ((config.domainname ?? '') !== '') writer.add(TAG.domain, config.domainname ?? '');
  for (const [name, value] of Object.entries(linux.sysctl)) {
    writer.add(TAG.sysctl, 0, sysctlPath(name), value);
  }
}

/** A signed number as the 64 bits it is written in. */
function signed(value: number): bigint {
  return BigInt.asUintN(64, BigInt(value));
}

function addHooks(writer: SpecWriter, config: OciConfig, state: HookState): void {
  const stages = Object.entries(STAGES) as [keyof typeof STAGES, number][];
  if (stages.every(([stage]) => config.hooks[stage].length === 0)) return;
  writer.add(TAG.hookState, state.head, state.tail);
  for (const [stage, number] of stages) {
    for (const hook of config.hooks[stage]) writer.add(TAG.hook, number, ...hookFields(hook));
  }
}

/** What the wrapper tells this program is nobody else's. */
const OWN_VARIABLES = /^TSSWARM_OCI_/;

/** A hook without variables has the caller's. */
export function hookEnvironment(hook: OciHook): readonly string[] {
  if (hook.env !== undefined) return hook.env;
  return Object.entries(process.env)
    .filter(([name]) => !OWN_VARIABLES.test(name))
    .map(([name, value]) => `${name}=${value ?? ''}`);
}

function hookFields(hook: OciHook): readonly (number | string)[] {
  const { path, args, timeoutS = 0 } = hook;
  return [timeoutS, path, args.length, ...args, ...hookEnvironment(hook)];
}

/** What a container's first program and a further one have in common. */
function addProgram(
  writer: SpecWriter,
  process: OciProcess,
  options: { readonly hasConsole: boolean; readonly preserveFds: number },
  notes: string[],
): void {
  for (const arg of process.args) writer.add(TAG.arg, arg);
  for (const variable of lastOfEach(process.env)) writer.add(TAG.env, variable);
  writer.add(TAG.cwd, process.cwd);
  writer.add(TAG.user, `${process.user.uid}:${process.user.gid}`);
  for (const gid of process.user.additionalGids) writer.add(TAG.group, String(gid));
  if (process.user.umask !== undefined) writer.add(TAG.umask, process.user.umask);
  if (process.terminal) {
    const { height = 0, width = 0 } = process.consoleSize ?? {};
    if (height > 0 && width > 0) writer.add(TAG.terminal, height, width);
    if (options.hasConsole) writer.add(TAG.console, CONSOLE_FD);
  }
  if (options.preserveFds > 0) writer.add(TAG.preserved, options.preserveFds);
  writer.add(TAG.oomScore, process.oomScoreAdj ?? ownOomScore());
  for (const limit of process.rlimits) {
    const number = resourceLimitNumber(limit.type.replace(/^RLIMIT_/, '').toLowerCase());
    if (number === undefined) {
      throw new SwarmError('invalid', `process.rlimits: "${limit.type}" is no limit`);
    }
    writer.add(TAG.rlimit, number, limit.soft, limit.hard);
  }
  const masks = CAPABILITY_SETS.map((set) => capabilityBits(process.capabilities, set, notes));
  writer.add(TAG.capabilities, ...masks);
  addLabels(writer, process);
  addScheduling(writer, process);
}

/** Where a variable is given twice, the later one counts. */
function lastOfEach(env: readonly string[]): readonly string[] {
  const byName = new Map<string, string>();
  for (const variable of env) byName.set(variable.split('=', 1)[0] ?? '', variable);
  return [...byName.values()];
}

/** A program starts from what its caller has: the shim protects only itself. */
function ownOomScore(): number {
  return Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
}

/** Names this kernel may not know are left out, as the specification says. */
function capabilityBits(
  sets: CapabilitySets | undefined,
  set: (typeof CAPABILITY_SETS)[number],
  notes: string[],
): bigint {
  const known = new Set<Capability>();
  for (const text of sets?.[set] ?? []) {
    const name = CAPABILITY_NAMES.find((candidate) => `CAP_${candidate}` === text);
    if (name !== undefined) known.add(name);
    else notes.push(`ignoring unknown or unavailable capability ${text}`);
  }
  return capabilityMask(known);
}

function addLabels(writer: SpecWriter, process: OciProcess): void {
  if (process.apparmorProfile !== '') {
    writer.add(TAG.label, LABEL.apparmor, process.apparmorProfile);
  }
  if (process.selinuxLabel !== '') writer.add(TAG.label, LABEL.selinux, process.selinuxLabel);
}

function addScheduling(
  writer: SpecWriter,
  { scheduler, ioPriority, cpuAffinity }: OciProcess,
): void {
  if (scheduler !== undefined) {
    writer.add(
      TAG.scheduler,
      numberOf(SCHEDULERS, scheduler.policy, 'process.scheduler.policy'),
      BigInt(flagsOf(SCHEDULER_FLAGS, scheduler.flags, 'process.scheduler.flags')),
      scheduler.nice,
      scheduler.priority,
      BigInt(scheduler.runtimeNs),
      BigInt(scheduler.deadlineNs),
      BigInt(scheduler.periodNs),
    );
  }
  if (ioPriority !== undefined) {
    const kind = numberOf(IO_CLASSES, ioPriority.class, 'process.ioPriority.class');
    writer.add(TAG.ioPriority, (kind << IO_CLASS_SHIFT) | ioPriority.priority);
  }
  const { initial = '', final = '' } = cpuAffinity ?? {};
  if (initial !== '') writer.add(TAG.cpuAffinity, 0, initial);
  if (final !== '') writer.add(TAG.cpuAffinity, 1, final);
}

function addLinux(writer: SpecWriter, { linux }: OciConfig): void {
  if (linux.personality !== undefined) {
    if (linux.personality.flags.length > 0) {
      throw new SwarmError('unsupported', 'linux.personality.flags: none are supported');
    }
    const domain = numberOf(PERSONALITIES, linux.personality.domain, 'linux.personality.domain');
    writer.add(TAG.personality, BigInt(domain));
  }
  if (linux.memoryPolicy !== undefined) {
    const { mode, flags, nodes } = linux.memoryPolicy;
    writer.add(
      TAG.memoryPolicy,
      numberOf(MEMORY_MODES, mode, 'linux.memoryPolicy.mode'),
      flagsOf(MEMORY_FLAGS, flags, 'linux.memoryPolicy.flags'),
      nodes,
    );
  }
}
