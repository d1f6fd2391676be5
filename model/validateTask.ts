/**
 * Checks of a task's specification: resources, restart policy, placement, networks, log driver. Its
 * container is checked in validateContainer.ts, the rest of a service in validate.ts, which calls
 * this; the form of what is said is explained there.
 */
import { MIB, parseBytes } from '../base/bytes.ts';
import { messageOf } from '../base/errors.ts';
import { parseAddress } from './address.ts';
import { checkFineDuration, checkWhole, checkWord, invalid, isWhole } from './checks.ts';
import { parseConstraint } from './constraint.ts';
import {
  type GenericResource,
  LOG_DRIVERS,
  type NetworkAttachmentSpec,
  type Placement,
  type Resources,
  type TaskSpec,
} from './types.ts';
import { validateContainer } from './validateContainer.ts';

/** Docker's least memory limit: below it no container starts. */
const MEMORY_MIN_BYTES = 4 * MIB;
/** A thousandth of a core: less cannot be expressed in a cgroup's quota. */
const NANO_CPUS_MIN = 1_000_000;
const COUNT_MAX = 1_000_000;
const LOG_FILES_MAX = 10_000;
const GENERIC_KIND = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
/** Labels of 1 to 63 characters between dots; a longer one cannot be put into a DNS message. */
const ALIAS = /^[\x21-\x2d\x2f-\x7e]{1,63}(\.[\x21-\x2d\x2f-\x7e]{1,63})*$/;
const ALIAS_BYTES_MAX = 253;

export function validateTaskSpec(spec: TaskSpec): void {
  validateContainer(spec.container);
  validateResources('limit', spec.limits);
  validateResources('reserve', spec.reservations);
  checkReservation('memory', spec.reservations.memoryBytes, spec.limits.memoryBytes);
  checkReservation('cpu', spec.reservations.nanoCpus, spec.limits.nanoCpus);
  const { restart } = spec;
  checkWord('restart-condition', restart.condition, ['none', 'on-failure', 'any']);
  checkFineDuration('restart-delay', restart.delayMs);
  checkFineDuration('restart-window', restart.windowMs);
  checkWhole('restart-max-attempts', restart.maxAttempts, 0, COUNT_MAX);
  validatePlacement(spec.placement);
  validateNetworks(spec.networks);
  validateGeneric(spec.genericResources);
  validateLog(spec);
}

function validateGeneric(resources: readonly GenericResource[]): void {
  const wanted = new Set<string>();
  for (const { kind, name, amount } of resources) {
    if (!GENERIC_KIND.test(kind)) {
      throw invalid(`invalid generic resource "${kind}": use letters, digits, '_', '-' and '.'`);
    }
    const what = name === '' ? kind : `${kind}=${name}`;
    if (wanted.has(what))
      throw invalid(`generic resource ${what} is asked for twice: once will do`);
    wanted.add(what);
    checkWhole(`amount of generic resource ${kind}`, amount, 1, COUNT_MAX);
  }
}

/** The options that our drivers know; another would be stored and do nothing. */
function validateLog({ logDriver, logOptions }: TaskSpec): void {
  checkWord('log-driver', logDriver, ['', ...LOG_DRIVERS]);
  for (const [name, value] of Object.entries(logOptions)) {
    if (logDriver === 'none') {
      throw invalid(`log-opt ${name}: log driver none takes no options: leave it out`);
    }
    switch (name) {
      case 'max-size':
        checkLogSize(value);
        break;
      case 'max-file':
        checkWhole('log-opt max-file', Number(value || 'x'), 1, LOG_FILES_MAX);
        break;
      default:
        throw invalid(`unknown log-opt "${name}": known are max-size and max-file`);
    }
  }
}

function checkLogSize(value: string): void {
  try {
    if (parseBytes(value) >= 1) return;
  } catch (error) {
    throw invalid(`invalid log-opt max-size: ${messageOf(error)}`);
  }
  throw invalid(`invalid log-opt max-size "${value}": use a size like 10m`);
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
    if (descriptor.trim() === '') {
      throw invalid('a placement preference names nothing: write spread=node.labels.NAME');
    }
  }
}

function validateNetworks(networks: readonly NetworkAttachmentSpec[]): void {
  const targets = new Set<string>();
  for (const { target, aliases, addresses } of networks) {
    if (target === '') throw invalid('a network attachment names no network: add one');
    if (targets.has(target)) throw invalid(`network ${target} is attached twice: name it once`);
    targets.add(target);
    if (new Set(addresses).size < addresses.length) {
      throw invalid(`an address on network ${target} is given twice: name it once`);
    }
    for (const address of addresses) {
      if (parseAddress(address) !== undefined) continue;
      throw invalid(`invalid address "${address}" on network ${target}: write it like 10.0.1.7`);
    }
    for (const alias of aliases) {
      if (alias.trim() === '') throw invalid(`an alias on network ${target} is empty: remove it`);
      if (!ALIAS.test(alias) || Buffer.byteLength(alias) > ALIAS_BYTES_MAX) {
        const shown = JSON.stringify(alias); // it may hold a newline, and an error is one line
        throw invalid(`invalid alias ${shown} on network ${target}: use a name that DNS can hold`);
      }
    }
  }
}
