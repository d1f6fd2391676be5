/**
 * Checks of what users ask for, each with one clear line: what is wrong and how to mend it. Only
 * what can be told from the specification itself: that names resolve and ports are free is said
 * elsewhere (control, store), an image reference's grammar by who knows it. A field that is known
 * but not built is refused by its path. Every function returns quietly or throws SwarmError.
 */

import { HOUR_MS, SECOND_MS } from '../base/duration.ts';
import { SwarmError } from '../base/errors.ts';
import { parseRange } from '../base/ipRange.ts';
import { contains, overlaps, parseAddress, parseBlock, within } from './address.ts';
import {
  checkDuration,
  checkFineDuration,
  checkLabels,
  checkWhole,
  checkWord,
  invalid,
  isWhole,
} from './checks.ts';
import { GATEWAY_POOL } from './defaults.ts';
import type { ClusterSpec, NetworkSpec, NodeSpec, PortConfig, ServiceSpec } from './types.ts';
import { validateTaskSpec } from './validateTask.ts';

/** DNS label length: a service's name is looked up as one. */
const NAME_LENGTH = 63;
const SERVICE_NAME = /^[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?$/;
const NETWORK_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;
const PORT_MAX = 65_535;
const REPLICAS_MAX = 1_000_000;
/** Each one is a rule on every host and a part of every message that carries the service. */
const PORTS_MAX = 1000;
/** Each is as large as the whole state. */
const KEPT_SNAPSHOTS_MAX = 1000;
const HEARTBEAT_MIN_MS = SECOND_MS;
/** Hosts that are silent for longer are lost, whatever was agreed. */
const HEARTBEAT_MAX_MS = HOUR_MS;
const CERTIFICATE_MIN_MS = HOUR_MS;
/** Smaller subnets have no room for a gateway, a virtual address and tasks. */
const SUBNET_PREFIX_MAX = 29;
const SUBNET_PREFIX_MIN = 8;
/** As many addresses as the widest IPv4 subnet has. */
const SUBNET_6_PREFIX_MAX = 104;

export function validateServiceSpec(spec: ServiceSpec): void {
  validateName('service', spec.name, SERVICE_NAME, NAME_LENGTH);
  checkLabels('service', spec.labels);
  validateMode(spec);
  validateUpdate('update', spec.update);
  validateUpdate('rollback', spec.rollback);
  if (spec.endpointMode !== 'vip' && spec.endpointMode !== 'dnsrr') {
    throw invalid(`invalid endpoint mode "${String(spec.endpointMode)}": use vip or dnsrr`);
  }
  validatePorts(spec);
  validateTaskSpec(spec.task);
  validateAddresses(spec);
}

/** They belong to slots, and to one task of a slot at a time. */
function validateAddresses({ task, mode, update, rollback }: ServiceSpec): void {
  const own = task.networks.find(({ addresses }) => addresses.length > 0);
  if (own === undefined) return;
  const of = `addresses on network ${own.target}`;
  if (mode.kind === 'global' || mode.kind === 'global-job') {
    throw invalid(`${of}: a global service has no slots to give them to: leave them out`);
  }
  if (update.order === 'start-first' || rollback.order === 'start-first') {
    throw invalid(`${of} need the order stop-first: two tasks cannot have one at the same time`);
  }
}

function validateMode({ mode, task }: ServiceSpec): void {
  switch (mode.kind) {
    case 'replicated':
      checkWhole('replicas', mode.replicas, 0, REPLICAS_MAX);
      return;
    case 'replicated-job':
      checkWhole('max-concurrent', mode.maxConcurrent, 1, REPLICAS_MAX);
      checkWhole('replicas', mode.totalCompletions, 1, REPLICAS_MAX);
      return;
    default:
      if (task.placement.maxReplicasPerNode === 0) return;
      throw invalid(
        'replicas-max-per-node needs a replicated service: a global one has one a node',
      );
  }
}

function validateUpdate(which: 'update' | 'rollback', config: ServiceSpec['update']): void {
  checkWhole(`${which}-parallelism`, config.parallelism, 0, REPLICAS_MAX);
  checkFineDuration(`${which}-delay`, config.delayMs);
  checkFineDuration(`${which}-monitor`, config.monitorMs);
  checkDuration(`${which} progress deadline`, config.progressDeadlineMs);
  const { maxFailureRatio: ratio } = config;
  if (!(ratio >= 0 && ratio <= 1)) {
    throw invalid(`invalid ${which}-max-failure-ratio ${ratio}: use a number from 0 to 1`);
  }
  const actions = which === 'update' ? ['pause', 'continue', 'rollback'] : ['pause', 'continue'];
  checkWord(`${which}-failure-action`, config.failureAction, actions);
  checkWord(`${which}-order`, config.order, ['stop-first', 'start-first']);
}

function validatePorts(spec: ServiceSpec): void {
  if (spec.ports.length > PORTS_MAX) {
    throw invalid(`${spec.ports.length} published ports: a service has at most ${PORTS_MAX}`);
  }
  const published = new Set<string>();
  for (const port of spec.ports) {
    validatePort(port);
    if (spec.endpointMode === 'dnsrr' && port.publishMode === 'ingress') {
      throw invalid(
        `port ${port.targetPort} cannot be published through the ingress with endpoint mode ` +
          'dnsrr: use endpoint mode vip',
      );
    }
    if (port.publishedPort === 0) continue;
    const key = `${port.publishedPort}/${port.protocol}`;
    if (published.has(key)) throw invalid(`port ${key} is published twice: name it once`);
    published.add(key);
  }
}

function validatePort(port: PortConfig): void {
  checkWord('port protocol', port.protocol, ['tcp', 'udp']);
  checkWord('port mode', port.publishMode, ['ingress', 'host']);
  const { targetPort, publishedPort, hostAddress } = port;
  if (hostAddress !== '' && parseAddress(hostAddress) === undefined) {
    throw invalid(`port ${targetPort}: "${hostAddress}" is no address: write it like 192.0.2.10`);
  }
  if (!isWhole(targetPort) || targetPort < 1 || targetPort > PORT_MAX) {
    throw invalid(`invalid target port ${targetPort}: use a number from 1 to ${PORT_MAX}`);
  }
  if (!isWhole(publishedPort) || publishedPort < 0 || publishedPort > PORT_MAX) {
    throw invalid(
      `invalid published port ${publishedPort}: use a number from 1 to ${PORT_MAX}, ` +
        'or leave it out to have one chosen',
    );
  }
}

export function validateNetworkSpec(spec: NetworkSpec): void {
  validateName('network', spec.name, NETWORK_NAME, NAME_LENGTH);
  checkLabels('network', spec.labels);
  if (spec.driver !== 'overlay') {
    throw invalid(`network driver "${String(spec.driver)}" is not known to managers: use overlay`);
  }
  for (const option of Object.keys(spec.options)) validateNetworkOption(option, spec);
  validateSubnet(spec);
  validateSubnet6(spec);
}

function validateSubnet6({ ipv6, subnet6 }: NetworkSpec): void {
  if (subnet6 === '') return;
  if (!ipv6) throw invalid(`subnet ${subnet6} needs IPv6: add --ipv6`);
  const range = parseRange(subnet6);
  if (range.bits === 128 && range.prefixLength <= SUBNET_6_PREFIX_MAX) return;
  throw invalid(
    `subnet ${subnet6} cannot hold the network's addresses: use an IPv6 block of at least ` +
      `/${SUBNET_6_PREFIX_MAX}, like fd00:9::/64`,
  );
}

function validateNetworkOption(option: string, spec: NetworkSpec): void {
  if (option === 'encrypted') {
    throw new SwarmError('unsupported', 'network option encrypted is not built yet: leave it out');
  }
  if (option !== 'com.docker.network.driver.mtu') {
    throw new SwarmError('unsupported', `network option ${option} is not built: leave it out`);
  }
  const mtu = Number(spec.options[option]);
  if (!isWhole(mtu) || mtu < 68 || mtu > PORT_MAX) {
    throw invalid(`invalid MTU "${spec.options[option]}": use a number from 68 to ${PORT_MAX}`);
  }
}

function validateSubnet(spec: NetworkSpec): void {
  if (spec.subnet === '') {
    if (spec.gateway === '' && spec.range === '') return;
    throw invalid('a gateway or an ip-range needs a subnet: add --subnet');
  }
  const subnet = parseBlock(spec.subnet);
  if (subnet === undefined) {
    throw invalid(`invalid subnet "${spec.subnet}": write an IPv4 block like 10.0.9.0/24`);
  }
  if (subnet.prefix > SUBNET_PREFIX_MAX || subnet.prefix < SUBNET_PREFIX_MIN) {
    throw invalid(
      `subnet ${spec.subnet} has a bad size: use a prefix from /${SUBNET_PREFIX_MIN} ` +
        `to /${SUBNET_PREFIX_MAX}`,
    );
  }
  const reserved = parseBlock(GATEWAY_POOL);
  if (reserved !== undefined && overlaps(subnet, reserved)) {
    throw invalid(
      `subnet ${spec.subnet} overlaps ${GATEWAY_POOL}, which the hosts' gateway bridges use: ` +
        'choose another one',
    );
  }
  if (spec.gateway !== '') {
    const gateway = parseAddress(spec.gateway);
    const inside =
      gateway !== undefined &&
      contains(subnet, gateway) &&
      gateway !== subnet.first &&
      gateway !== subnet.last;
    if (!inside) {
      throw invalid(`invalid gateway "${spec.gateway}": use a host address of ${spec.subnet}`);
    }
  }
  if (spec.range === '') return;
  const range = parseBlock(spec.range);
  if (range === undefined || !within(range, subnet)) {
    throw invalid(`invalid ip-range "${spec.range}": use a block within ${spec.subnet}`);
  }
}

export function validateNodeSpec(spec: NodeSpec): void {
  checkLabels('node', spec.labels);
  if (spec.name !== '') validateName('node', spec.name, NETWORK_NAME, NAME_LENGTH);
  checkWord('role', spec.role, ['worker', 'manager']);
  checkWord('availability', spec.availability, ['active', 'pause', 'drain']);
}

export function validateClusterSpec(spec: ClusterSpec): void {
  if (spec.name !== 'default') {
    throw invalid(`invalid cluster name "${spec.name}": it is always "default"`);
  }
  checkLabels('cluster', spec.labels);
  checkWhole('task-history-limit', spec.taskHistoryLimit, 0, REPLICAS_MAX);
  checkWhole('max-snapshots', spec.keepOldSnapshots, 0, KEPT_SNAPSHOTS_MAX);
  checkWhole('snapshot-interval', spec.snapshotInterval, 1, Number.MAX_SAFE_INTEGER);
  checkWhole(
    'log entries for slow followers',
    spec.logEntriesForSlowFollowers,
    0,
    Number.MAX_SAFE_INTEGER,
  );
  if (!(spec.heartbeatPeriodMs >= HEARTBEAT_MIN_MS)) {
    throw invalid('dispatcher-heartbeat is too short: use at least 1s');
  }
  if (spec.heartbeatPeriodMs > HEARTBEAT_MAX_MS) {
    throw invalid('dispatcher-heartbeat is too long: use at most 1h');
  }
  if (!(spec.certificateExpiryMs >= CERTIFICATE_MIN_MS)) {
    throw invalid('cert-expiry is too short: use at least 1h');
  }
}

/** Pools and subnet size as `init --default-addr-pool` gives them. */
export function validateAddressPools(pools: readonly string[], subnetSize: number): void {
  for (const text of pools) {
    const pool = parseBlock(text);
    if (pool === undefined || pool.prefix < SUBNET_PREFIX_MIN) {
      throw invalid(
        `invalid --default-addr-pool "${text}": write it like 10.20.0.0/16, the network's own ` +
          `address first, /${SUBNET_PREFIX_MIN} or smaller`,
      );
    }
    if (subnetSize < pool.prefix || subnetSize > SUBNET_PREFIX_MAX) {
      throw invalid(
        `invalid --default-addr-pool-mask-length ${subnetSize}: for ${text} use ` +
          `${pool.prefix} to ${SUBNET_PREFIX_MAX}`,
      );
    }
    const twice = pools.find((other) => {
      const block = parseBlock(other);
      return other !== text && block !== undefined && overlaps(block, pool);
    });
    if (twice !== undefined) throw invalid(`address pools ${text} and ${twice} overlap`);
  }
}

function validateName(of: string, name: string, grammar: RegExp, length: number): void {
  if (name === '') throw invalid(`a ${of} needs a name: add --name`);
  if (name.length > length) {
    throw invalid(`${of} name "${name}" is too long: use at most ${length} characters`);
  }
  if (!grammar.test(name)) {
    throw invalid(
      `invalid ${of} name "${name}": use letters, digits, '-' and '_', ` +
        'with a letter or digit first and last',
    );
  }
}
