/**
 * Checks of a task's specification: container, mounts, resources, restart policy, placement,
 * networks, log options. The rest of a service is checked in validate.ts, which calls this; the
 * form of what is said is explained there.
 */
import { isAbsolute, normalize } from 'node:path/posix';
import { MIB } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';
import { parseAddress } from './address.ts';
import { checkDuration, checkLabels, checkWhole, checkWord, invalid, isWhole } from './checks.ts';
import { parseConstraint } from './constraint.ts';
import { validateReferences } from './data.ts';
import type {
  ContainerSpec,
  MountSpec,
  NetworkAttachmentSpec,
  Placement,
  Resources,
  TaskSpec,
} from './types.ts';

/** Docker's least memory limit: below it no container starts. */
const MEMORY_MIN_BYTES = 4 * MIB;
/** A thousandth of a core: less cannot be expressed in a cgroup's quota. */
const NANO_CPUS_MIN = 1_000_000;
const COUNT_MAX = 1_000_000;
const HOSTNAME = /^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$/;
const HOSTNAME_LENGTH = 63;
/** Labels of 1 to 63 characters between dots; a longer one cannot be put into a DNS message. */
const ALIAS = /^[\x21-\x2d\x2f-\x7e]{1,63}(\.[\x21-\x2d\x2f-\x7e]{1,63})*$/;
const ALIAS_BYTES_MAX = 253;
const SPREAD =
  /^(node\.labels\.|engine\.labels\.).+|^node\.(id|hostname|role|platform\.(os|arch))$/;
const CAPABILITY = /^(CAP_)?[A-Z][A-Z0-9_]*$/i;
const SIGNAL = /^(SIG)?[A-Z0-9+-]+$/i;

export function validateTaskSpec(spec: TaskSpec): void {
  validateContainer(spec.container);
  validateResources('limit', spec.limits);
  validateResources('reserve', spec.reservations);
  checkReservation('memory', spec.reservations.memoryBytes, spec.limits.memoryBytes);
  checkReservation('cpu', spec.reservations.nanoCpus, spec.limits.nanoCpus);
  const { restart } = spec;
  checkWord('restart-condition', restart.condition, ['none', 'on-failure', 'any']);
  checkDuration('restart-delay', restart.delayMs);
  checkDuration('restart-window', restart.windowMs);
  checkWhole('restart-max-attempts', restart.maxAttempts, 0, COUNT_MAX);
  validatePlacement(spec.placement);
  validateNetworks(spec.networks);
}

function validateContainer(spec: ContainerSpec): void {
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
    if (CAPABILITY.test(capability)) continue;
    throw invalid(`invalid capability "${capability}": write it like CAP_NET_ADMIN, or ALL`);
  }
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
    if (mount.type === 'volume') {
      throw new SwarmError('unsupported', 'mount type volume is not built yet: use bind or tmpfs');
    }
    checkWhole('tmpfs-size', mount.tmpfsSizeBytes, 0, Number.MAX_SAFE_INTEGER);
    checkWhole('tmpfs-mode', mount.tmpfsMode, 0, 0o7777);
  }
}

function validateResources(of: 'limit' | 'reserve', resources: Resources): void {
  const { nanoCpus, memoryBytes, pids } = resources;
  if (!isWhole(nanoCpus) || nanoCpus < 0 || (nanoCpus > 0 && nanoCpus < NANO_CPUS_MIN)) {
    throw invalid(`invalid ${of}-cpu ${nanoCpus / 1e9}: use at least 0.001, or 0 for none`);
  }
  if (!isWhole(memoryBytes) || memoryBytes < 0) {
    throw invalid(`invalid ${of}-memory ${memoryBytes}: use a size like 64m, or 0 for none`);
  }
  if (memoryBytes > 0 && memoryBytes < MEMORY_MIN_BYTES) {
    throw invalid(`${of}-memory ${memoryBytes} bytes is too small: use at least 4m`);
  }
  checkWhole(`${of}-pids`, pids, 0, Number.MAX_SAFE_INTEGER);
}

function checkReservation(of: 'memory' | 'cpu', reserved: number, limit: number): void {
  if (limit === 0 || reserved <= limit) return;
  throw invalid(`reserve-${of} is above limit-${of}: lower it, or raise the limit`);
}

function validatePlacement(placement: Placement): void {
  for (const constraint of placement.constraints) parseConstraint(constraint);
  checkWhole('replicas-max-per-node', placement.maxReplicasPerNode, 0, COUNT_MAX);
  for (const descriptor of placement.spreadOver) {
    if (SPREAD.test(descriptor)) continue;
    throw invalid(
      `invalid placement preference "spread=${descriptor}": spread over node.labels.* or ` +
        'engine.labels.*',
    );
  }
}

function validateNetworks(networks: readonly NetworkAttachmentSpec[]): void {
  const targets = new Set<string>();
  for (const { target, aliases } of networks) {
    if (target === '') throw invalid('a network attachment names no network: add one');
    if (targets.has(target)) throw invalid(`network ${target} is attached twice: name it once`);
    targets.add(target);
    for (const alias of aliases) {
      if (alias.trim() === '') throw invalid(`an alias on network ${target} is empty: remove it`);
      if (!ALIAS.test(alias) || Buffer.byteLength(alias) > ALIAS_BYTES_MAX) {
        const shown = JSON.stringify(alias); // it may hold a newline, and an error is one line
        throw invalid(`invalid alias ${shown} on network ${target}: use a name that DNS can hold`);
      }
    }
  }
}
