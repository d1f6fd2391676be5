/**
 * What a bridge network of this host looks like inside the gateway's namespace; pure. A Linux
 * bridge with one port per container; the containers' gateway address is the host's own (as with
 * Docker), so the bridge answers for it by proxy and routes it to the host. The way between bridges
 * is shut in the gateway's table.
 */
import { SwarmError } from '../../base/errors.ts';
import {
  checkedAddress,
  choosePool,
  firstAddress,
  formatRange,
  type IpRange,
  LOCAL_POOLS,
  parseRange,
  rangeCovers,
  rangesOverlap,
} from '../../base/ipRange.ts';
import { endpointMac } from './addresses.ts';
import type { FabricBuilder } from './fabric.ts';
import { linkName } from './overlay.ts';
import type { BridgeNetwork } from './types.ts';

export const DEFAULT_BRIDGE = 'bridge';
/** Bridges and their ports in the gateway's namespace, where they have no name of their own. */
export const BRIDGE_LINK_PREFIX = 'br-';
export const BRIDGE_PREFIX = 'tsb';
const MTU_MIN = 68;
const MTU_MAX = 65_535;
const LINK_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;
/** Names in the gateway's namespace that are spoken for. */
const TAKEN_LINK_NAME = /^(lo|up0|ting|(v|tsg|tsb)[0-9a-f]{10})$/;
const PREFIX = 'com.docker.network.';
const OPTIONS = {
  mtu: `${PREFIX}driver.mtu`,
  name: `${PREFIX}bridge.name`,
  icc: `${PREFIX}bridge.enable_icc`,
  masquerade: `${PREFIX}bridge.enable_ip_masquerade`,
  binding: `${PREFIX}bridge.host_binding_ipv4`,
  isDefault: `${PREFIX}bridge.default_bridge`,
} as const;

/** A bridge network's options, understood. */
export interface BridgeOptions {
  /** 0 = as the host's. */
  readonly mtu: number;
  readonly link: string;
  /** Whether its containers reach each other. */
  readonly icc: boolean;
  readonly masquerade: boolean;
  /** Published ports that name no address get this one; '' = every address. */
  readonly binding: string;
}

function booleanOption(network: BridgeNetwork, key: string, missing: boolean): boolean {
  const text = network.options[key];
  if (text === undefined) return missing;
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw new SwarmError('invalid', `option ${key}: "${text}" is neither true nor false`);
}

/** SwarmError invalid, unsupported: by the option's name. */
export function bridgeOptions(network: BridgeNetwork): BridgeOptions {
  const known: readonly string[] = Object.values(OPTIONS);
  for (const key of Object.keys(network.options)) {
    if (!key.startsWith(PREFIX) || known.includes(key)) continue;
    throw new SwarmError('unsupported', `option ${key} is not supported by bridge networks`);
  }
  const mtuText = network.options[OPTIONS.mtu] ?? '0';
  const mtu = Number(mtuText);
  if (!Number.isInteger(mtu) || (mtu !== 0 && (mtu < MTU_MIN || mtu > MTU_MAX))) {
    throw new SwarmError('invalid', `option ${OPTIONS.mtu}: "${mtuText}" is not an MTU`);
  }
  const hash = linkName('', network.networkId);
  const link = network.options[OPTIONS.name] ?? `${BRIDGE_LINK_PREFIX}${hash}`;
  if (!LINK_NAME.test(link) || TAKEN_LINK_NAME.test(link)) {
    throw new SwarmError('invalid', `option ${OPTIONS.name}: "${link}" cannot be a bridge's name`);
  }
  return {
    mtu,
    link,
    icc: booleanOption(network, OPTIONS.icc, true),
    masquerade: booleanOption(network, OPTIONS.masquerade, true),
    binding: network.options[OPTIONS.binding]?.replace(/^0\.0\.0\.0$/, '') ?? '',
  };
}

/** What a new bridge may not overlap. */
export interface Taken {
  /** Of other networks, with the name to tell. */
  readonly networks: readonly { readonly range: IpRange; readonly name: string }[];
  /** Destinations that the host routes. */
  readonly routes: readonly IpRange[];
}

type BridgeSubnet = BridgeNetwork['subnets'][number];

function filledSubnet(wanted: BridgeSubnet, subnet: string, taken: Taken): BridgeSubnet {
  const range = parseRange(subnet);
  const text = formatRange(range);
  const other = taken.networks.find((one) => rangesOverlap(one.range, range));
  if (other !== undefined) {
    throw new SwarmError(
      'conflict',
      `Pool overlaps with other one on this address space: ${text} overlaps ` +
        `${formatRange(other.range)} of ${other.name}`,
    );
  }
  const route = taken.routes.find((one) => rangeCovers(range, one));
  if (route !== undefined) {
    throw new SwarmError(
      'conflict',
      `subnet ${text} would take ${formatRange(route)} away, which this host routes elsewhere`,
    );
  }
  if (wanted.range !== '' && !rangeCovers(range, parseRange(wanted.range))) {
    throw new SwarmError('invalid', `ip range ${wanted.range} is not within subnet ${text}`);
  }
  const gateway = wanted.gateway === '' ? firstAddress(range) : wanted.gateway;
  return {
    subnet: text,
    gateway: checkedAddress(text, gateway, 'gateway'),
    range: wanted.range === '' ? '' : formatRange(parseRange(wanted.range)),
    ...(wanted.reserved === undefined ? {} : { reserved: reservedIn(text, wanted.reserved) }),
  };
}

function reservedIn(
  subnet: string,
  wanted: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const checked = Object.entries(wanted).map(([name, address]) => [
    name,
    checkedAddress(subnet, address, `auxiliary address ${name}`),
  ]);
  return Object.fromEntries(checked);
}

const NO_SUBNET: BridgeSubnet = { subnet: '', gateway: '', range: '' };

/**
 * The network with its subnets filled in. An empty first subnet is chosen from Docker's pools, an
 * empty second one is `randomIpv6`. SwarmError invalid, conflict, exhausted.
 */
export function fillBridge(
  network: BridgeNetwork,
  taken: Taken,
  randomIpv6: string,
): BridgeNetwork {
  bridgeOptions(network);
  const given = network.subnets;
  const isIpv6 = (one: BridgeSubnet, at: number): boolean =>
    one.subnet.includes(':') || (one.subnet === '' && at > 0);
  const ipv4 = given.filter((one, at) => !isIpv6(one, at));
  const ipv6 = given.filter(isIpv6);
  if (ipv4.length > 1 || ipv6.length > 1) {
    throw new SwarmError('invalid', 'a bridge network has one subnet of each address family');
  }
  const wanted = ipv4[0] ?? NO_SUBNET;
  const ranges = [...taken.routes, ...taken.networks.map((one) => one.range)];
  const subnet = wanted.subnet === '' ? choosePool(LOCAL_POOLS, ranges) : wanted.subnet;
  const subnets = [filledSubnet(wanted, subnet, taken)];
  for (const one of ipv6) subnets.push(filledSubnet(one, one.subnet || randomIpv6, taken));
  return { ...network, subnets };
}

/** A container's port of a bridge. */
export interface BridgePort {
  readonly link: string;
  readonly address: string;
  readonly address6: string;
  readonly macAddress: string;
}

/** A bridge with who is on it. */
export interface BridgeView {
  readonly network: BridgeNetwork;
  readonly ports: readonly BridgePort[];
}

export function bridgeMac(network: BridgeNetwork): string {
  return endpointMac(network.subnets[0].gateway);
}

/** In the gateway's namespace. `uplink`, `host`, `host6`: the way to the host. */
export function bridgeFabric(
  fabric: FabricBuilder,
  { network, ports }: BridgeView,
  way: { readonly uplink: string; readonly host: string; readonly host6: string },
): void {
  const { link } = bridgeOptions(network);
  for (const { subnet, gateway } of network.subnets) {
    const isIpv6 = subnet.includes(':');
    fabric.route(subnet, link);
    fabric.route(gateway, way.uplink, { gateway: isIpv6 ? way.host6 : way.host });
    if (isIpv6) fabric.proxy(link, gateway);
  }
  for (const { address, address6, macAddress } of ports) {
    fabric.neighbour(link, address, macAddress);
    if (address6 !== '') fabric.neighbour(link, address6, macAddress);
  }
}
