/**
 * Checks of a container's specification: program, user, names, capabilities, sysctls, limits,
 * health check, mounts. Called by validateTask.ts; the form of what is said is explained in
 * validate.ts.
 */

import { isAbsolute, normalize } from 'node:path/posix';
import { parseAddress } from './address.ts';
import { checkDuration, checkLabels, checkWhole, checkWord, invalid } from './checks.ts';
import { validateReferences } from './data.ts';
import { type ContainerSpec, type HealthCheck, type MountSpec, PROPAGATIONS } from './types.ts';

const HOSTNAME = /^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$/;
const HOSTNAME_LENGTH = 63;
const SIGNAL = /^(SIG)?[A-Z0-9+-]+$/i;
/** capabilities(7). */
const CAPABILITIES: ReadonlySet<string> = new Set(
  (
    'ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN ' +
    'DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE ' +
    'MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON ' +
    'SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE ' +
    'SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM'
  ).split(' '),
);
/** Those that the kernel keeps apart by namespace, as Docker allows them. */
const SYSCTL =
  /^((net|fs\.mqueue)\..+|kernel\.(msg(max|mnb|mni)|sem|shm(all|max|mni|_rmid_forced)))$/;
/** Name or number, and one for the group. */
const USER = /^[^\s:]+(:[^\s:]+)?$/;
const GROUP = /^[^\s:]+$/;
const ULIMITS: readonly string[] = (
  'core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending ' +
  'stack'
).split(' ');
const OOM_SCORE_MAX = 1000;
const RETRIES_MAX = 1_000_000;
const HEALTH_TESTS: readonly string[] = ['NONE', 'CMD', 'CMD-SHELL'];
/** A volume's name is a directory's. */
const VOLUME_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const VOLUME_NAME_LENGTH = 255;

export function validateContainer(spec: ContainerSpec): void {
  if (spec.image.trim() === '') throw invalid('a service needs an image: name one');
  checkLabels('container', spec.labels);
  for (const variable of spec.env) {
    if (variable === '' || variable.startsWith('=')) {
      throw invalid(`invalid env "${variable}": write it as NAME=VALUE`);
    }
    if (variable.includes('\0')) throw invalid('env holds a NUL character: remove it');
  }
  for (const word of [...spec.command, ...spec.args]) {
    if (word.includes('\0')) throw invalid('the command holds a NUL character: remove it');
  }
  if (spec.workingDir !== '' && !isAbsolute(spec.workingDir)) {
    throw invalid(`invalid workdir "${spec.workingDir}": use an absolute path`);
  }
  const templated = spec.hostname.includes('{{');
  if (spec.hostname !== '' && !templated) {
    if (!HOSTNAME.test(spec.hostname) || spec.hostname.length > HOSTNAME_LENGTH) {
      throw invalid(`invalid hostname "${spec.hostname}": use letters, digits, '-' and '.'`);
    }
  }
  if (spec.stopSignal !== '' && !SIGNAL.test(spec.stopSignal)) {
    throw invalid(`invalid stop-signal "${spec.stopSignal}": write it like SIGTERM or 15`);
  }
  for (const capability of [...spec.capabilityAdd, ...spec.capabilityDrop]) {
    if (CAPABILITIES.has(capability.toUpperCase().replace(/^CAP_/, ''))) continue;
    throw invalid(`unknown capability "${capability}": write it like CAP_NET_ADMIN, or ALL`);
  }
  for (const name of Object.keys(spec.sysctls)) validateSysctl(name);
  validateUser(spec);
  validateLimits(spec);
  if (spec.healthCheck !== undefined) validateHealth(spec.healthCheck);
  checkDuration('stop-grace-period', spec.stopGraceMs);
  validateMounts(spec.mounts);
  validateReferences(spec);
  validateNames(spec);
}

function validateNames(spec: ContainerSpec): void {
  for (const line of spec.hosts) {
    const [address, ...names] = line.trim().split(/\s+/);
    const known = parseAddress(address) !== undefined || address.includes(':');
    if (!known || names.length === 0) {
      throw invalid(`invalid host "${line}": write it as NAME:ADDRESS`);
    }
  }
  for (const server of spec.dnsServers) {
    if (parseAddress(server) === undefined && !server.includes(':')) {
      throw invalid(`invalid dns server "${server}": use an IP address`);
    }
  }
}

function validateMounts(mounts: readonly MountSpec[]): void {
  const targets = new Set<string>();
  for (const mount of mounts) {
    checkWord('mount type', mount.type, ['bind', 'tmpfs', 'volume']);
    if (!isAbsolute(mount.target)) {
      throw invalid(`invalid mount target "${mount.target}": use an absolute path`);
    }
    const target = normalize(`${mount.target}/`);
    if (target === '/') throw invalid('a mount cannot replace "/": choose another target');
    if (targets.has(target)) {
      throw invalid(`mount target ${mount.target} is used twice: name it once`);
    }
    targets.add(target);
    if (mount.type === 'bind' && !isAbsolute(mount.source)) {
      throw invalid(`invalid mount source "${mount.source}": a bind needs an absolute path`);
    }
    if (mount.type === 'tmpfs' && mount.source !== '') {
      throw invalid(`a tmpfs mount has no source: remove "${mount.source}"`);
    }
    validateMountOptions(mount);
    checkWhole('tmpfs-size', mount.tmpfsSizeBytes, 0, Number.MAX_SAFE_INTEGER);
    checkWhole('tmpfs-mode', mount.tmpfsMode, 0, 0o7777);
  }
}

/** What concerns one type of mount is refused on the others. */
function validateMountOptions(mount: MountSpec): void {
  const { type, propagation, nonRecursive, createSource, volume, source, target } = mount;
  checkWord('bind-propagation', propagation, ['', ...PROPAGATIONS]);
  if (type !== 'bind' && (propagation !== '' || nonRecursive || createSource)) {
    throw invalid(`mount ${target}: bind options need type bind: leave them out`);
  }
  if (type !== 'volume' && volume !== undefined) {
    throw invalid(`mount ${target}: volume options need type volume: leave them out`);
  }
  if (type !== 'volume' || source === '' || source.includes('{{')) return;
  if (VOLUME_NAME.test(source) && source.length <= VOLUME_NAME_LENGTH) return;
  throw invalid(
    `invalid volume name "${source}": use letters, digits, '_', '.' and '-'; ` +
      'for a directory of the host use type bind',
  );
}

function validateSysctl(name: string): void {
  // Both ways of writing it: net.ipv4.ip_forward and net/ipv4/ip_forward.
  if (SYSCTL.test(name.replaceAll('/', '.'))) return;
  throw invalid(
    `sysctl "${name}" is not one that containers have of their own: use one of net.*, ` +
      'fs.mqueue.* or kernel.shm*, kernel.msg*, kernel.sem',
  );
}

function validateUser(spec: ContainerSpec): void {
  if (spec.user !== '' && !USER.test(spec.user)) {
    throw invalid(`invalid user "${spec.user}": write it as NAME or UID, or as USER:GROUP`);
  }
  for (const group of spec.groups) {
    if (!GROUP.test(group)) throw invalid(`invalid group "${group}": write it as NAME or GID`);
  }
}

function validateLimits(spec: ContainerSpec): void {
  checkWhole('oom-score-adj', spec.oomScoreAdj, -OOM_SCORE_MAX, OOM_SCORE_MAX);
  const names = new Set<string>();
  for (const { name, soft, hard } of spec.ulimits) {
    checkWord('ulimit', name, ULIMITS);
    if (names.has(name)) throw invalid(`ulimit ${name} is given twice: name it once`);
    names.add(name);
    checkWhole(`ulimit ${name}`, soft, -1, Number.MAX_SAFE_INTEGER);
    checkWhole(`ulimit ${name}`, hard, -1, Number.MAX_SAFE_INTEGER);
    if (hard !== -1 && (soft === -1 || soft > hard)) {
      throw invalid(`ulimit ${name}: the soft limit ${soft} is above the hard limit ${hard}`);
    }
  }
}

function validateHealth(check: HealthCheck): void {
  const [kind, ...words] = check.test;
  if (kind !== undefined) {
    checkWord('health check', kind, HEALTH_TESTS);
    if (kind === 'NONE' ? words.length > 0 : words.length === 0) {
      throw invalid(`invalid health check ${check.test.join(' ')}: write ["CMD", "program", ...]`);
    }
  }
  checkDuration('health-interval', check.intervalMs);
  checkDuration('health-timeout', check.timeoutMs);
  checkDuration('health-start-period', check.startPeriodMs);
  checkDuration('health-start-interval', check.startIntervalMs);
  checkWhole('health-retries', check.retries, 0, RETRIES_MAX);
}
