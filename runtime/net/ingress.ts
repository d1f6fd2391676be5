/**
 * Published ports and the way out; pure. The host's namespace turns a connection to a published
 * port (any of its addresses, 127.0.0.1 too) into one of the tasks' gateway addresses and hands
 * it to the gateway namespace, which delivers it to a container here or through the ingress VXLAN
 * to the host that has it. That host notes by the sender's MAC which host the connection came
 * from (connection mark) and routes the replies back there, so the client's address is kept end
 * to end. Sources that could not be answered that way (127.0.0.1, this host's own containers) are
 * replaced.
 */
import {
  endpointMac,
  formatSubnet,
  gatewayOf,
  gatewayRanges,
  gatewaySubnet,
  tunnelAddress,
  tunnelMac,
} from './addresses.ts';
import { type BridgeView, bridgeFabric, bridgeOptions } from './bridge.ts';
import { type Fabric, FabricBuilder } from './fabric.ts';
import type { Forward } from './hostTable.ts';
import { tunnelPeers } from './overlay.ts';
import type { NftTable } from './table.ts';
import type { IngressState, OverlayPeer } from './types.ts';

/** Below 4096, where the manager's numbers begin. */
export const INGRESS_VNI = 4095;
export const INGRESS_LINK = 'ting';
/** The one interface of ours in the host's namespace, and its other end. */
export const HOST_LINK = 'tsswarm0';
export const UPLINK = 'up0';
export const HOST_LINK_MAC = '02:74:73:ff:00:01';
export const UPLINK_MAC = '02:74:73:ff:00:02';
/** Next hops between the two: RFC 7335's range for exactly such addresses. */
export const HOST_SIDE = '192.0.0.1';
export const GATEWAY_SIDE = '192.0.0.2';
const HOST_SIDE_6 = 'fe80::1';
const GATEWAY_SIDE_6 = 'fe80::2';
/** Containers' interfaces in the gateway namespace that are no bridge's port. */
export const GATEWAY_PREFIX = 'tsg';

export const HOST_TABLE = 'tsswarm';
export const GATEWAY_TABLE = 'tsswarm';

/** A container's interface in the gateway namespace. */
export interface GatewayPort {
  readonly address: string;
  readonly link: string;
  /** Nothing starts from there. */
  readonly inboundOnly?: boolean;
}

/** What this host's gateway depends on. */
export interface GatewayInput {
  readonly self: OverlayPeer | undefined;
  /** The default one first. */
  readonly bridges: readonly BridgeView[];
  readonly ports: readonly GatewayPort[];
  /** Published ports of this host's containers. */
  readonly forwards: readonly Forward[];
  readonly ingress: IngressState | undefined;
}

export function peersOf(input: GatewayInput): readonly OverlayPeer[] {
  return input.self === undefined ? [] : (input.ingress?.peers ?? []);
}

function rangesOf(input: GatewayInput): string[] {
  if (input.self === undefined) return [];
  return gatewayRanges([input.self.hostIndex, ...peersOf(input).map((peer) => peer.hostIndex)]);
}

export function hasIpv6({ bridges }: GatewayInput): boolean {
  return bridges.some(({ network }) => network.subnets.some((one) => one.subnet.includes(':')));
}

/** Addresses and routes of ours in the host's namespace: all on HOST_LINK. */
export function hostFabric(input: GatewayInput): Fabric {
  const fabric = new FabricBuilder();
  fabric.neighbour(HOST_LINK, GATEWAY_SIDE, UPLINK_MAC);
  const through = (destination: string, source: string): void =>
    fabric.route(destination, HOST_LINK, { gateway: GATEWAY_SIDE, source });
  if (hasIpv6(input)) fabric.neighbour(HOST_LINK, GATEWAY_SIDE_6, UPLINK_MAC);
  for (const { subnet, gateway } of input.bridges.flatMap(({ network }) => network.subnets)) {
    fabric.address(HOST_LINK, gateway);
    // The kernel chooses the source of an IPv6 route by itself: the address of the same prefix.
    if (subnet.includes(':')) fabric.route(subnet, HOST_LINK, { gateway: GATEWAY_SIDE_6 });
    else through(subnet, gateway);
  }
  if (input.self !== undefined) {
    const gateway = gatewayOf(gatewaySubnet(input.self.hostIndex));
    fabric.address(HOST_LINK, gateway);
    for (const range of rangesOf(input)) through(range, gateway);
  }
  return fabric;
}

export function gatewayFabric(input: GatewayInput): Fabric {
  const fabric = new FabricBuilder();
  fabric.address(UPLINK, GATEWAY_SIDE);
  fabric.neighbour(UPLINK, HOST_SIDE, HOST_LINK_MAC);
  fabric.route('0.0.0.0/0', UPLINK, { gateway: HOST_SIDE });
  if (hasIpv6(input)) {
    fabric.neighbour(UPLINK, HOST_SIDE_6, HOST_LINK_MAC);
    fabric.route('::/0', UPLINK, { gateway: HOST_SIDE_6 });
  }
  const way = { uplink: UPLINK, host: HOST_SIDE, host6: HOST_SIDE_6 };
  for (const bridge of input.bridges) bridgeFabric(fabric, bridge, way);
  for (const port of input.ports) {
    fabric.route(`${port.address}/32`, port.link);
    fabric.neighbour(port.link, port.address, endpointMac(port.address));
  }
  const { self } = input;
  if (self === undefined) return fabric;
  tunnelPeers(fabric, INGRESS_LINK, self, peersOf(input));
  for (const { hostIndex } of peersOf(input)) {
    if (hostIndex === self.hostIndex) continue;
    const gateway = tunnelAddress(hostIndex);
    fabric.route(formatSubnet(gatewaySubnet(hostIndex)), INGRESS_LINK, { gateway });
    fabric.route('0.0.0.0/0', INGRESS_LINK, { gateway, mark: hostIndex });
    fabric.marks.add(hostIndex);
  }
  return fabric;
}

/** Which bridge may talk to whom; the same for both families. */
function betweenBridges(family: 'ip' | 'ip6', type: string): string {
  return `
set bridges { type ifname; }
set internal { type ifname; }
set within { type ifname . ifname; }
set gateways { type ${type}; }
chain between {
  type filter hook forward priority 10; policy accept;
  iifname . oifname @within accept
  iifname "${UPLINK}" oifname @internal ${family} saddr @gateways accept
  iifname @internal oifname "${UPLINK}" ${family} daddr @gateways ct direction reply accept
  iifname @internal drop
  oifname @internal drop
  iifname @bridges oifname @bridges drop
  iifname @bridges oifname "${GATEWAY_PREFIX}*" drop
  iifname "${GATEWAY_PREFIX}*" oifname @bridges drop
  iifname @bridges oifname "${INGRESS_LINK}" ct direction original drop
  iifname "${INGRESS_LINK}" oifname @bridges drop
  iifname "${UPLINK}" oifname "${UPLINK}" reject
}
`;
}

/**
 * A client may use one port for connections to two hosts, and both may be led to one container:
 * to that it is one connection, unless they are told apart by who sent them (zones, in the
 * direction of the client alone) and the second is given another port (`unique`: the kernel does
 * it for whatever comes by a chain of this type, and only if it must).
 */
const GATEWAY_FIXED = `
map senders { type ether_addr : mark; }
map zones { typeof ether saddr : ct zone; }
set inbound { type ifname; }
chain apart {
  type filter hook prerouting priority -300; policy accept;
  iifname "${INGRESS_LINK}" ct original zone set ether saddr map @zones
}
chain unique {
  type nat hook postrouting priority 100; policy accept;
}
chain remember {
  type filter hook prerouting priority -150; policy accept;
  iifname "${INGRESS_LINK}" ct state new ct mark set ether saddr map @senders
  iifname != { "${INGRESS_LINK}", "${UPLINK}" } ct direction reply meta mark set ct mark
}
chain pass {
  type filter hook forward priority 0; policy accept;
  oifname "${INGRESS_LINK}" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
  iifname @inbound ct direction original drop
  iifname "${INGRESS_LINK}" ct direction original oifname "${UPLINK}" drop
  iifname "${GATEWAY_PREFIX}*" oifname "${INGRESS_LINK}" ct direction original drop
  iifname "${GATEWAY_PREFIX}*" oifname "${GATEWAY_PREFIX}*" drop
}
`;

function bridgeElements(input: GatewayInput, isIpv6: boolean): [string, Map<string, string>][] {
  const bridges = new Map<string, string>();
  const internal = new Map<string, string>();
  const within = new Map<string, string>();
  const gateways = new Map<string, string>();
  for (const { network } of input.bridges) {
    const { link, icc } = bridgeOptions(network);
    bridges.set(`"${link}"`, '');
    if (icc) within.set(`"${link}" . "${link}"`, '');
    if (!network.internal) continue;
    internal.set(`"${link}"`, '');
    for (const { subnet, gateway } of network.subnets) {
      if (subnet.includes(':') === isIpv6) gateways.set(gateway, '');
    }
  }
  return [
    ['bridges', bridges],
    ['internal', internal],
    ['within', within],
    ['gateways', gateways],
  ];
}

export function gatewayTables(input: GatewayInput): NftTable[] {
  const senders = new Map<string, string>();
  for (const { hostIndex } of peersOf(input)) {
    if (hostIndex !== input.self?.hostIndex) senders.set(tunnelMac(hostIndex), `${hostIndex}`);
  }
  const inbound = new Map<string, string>();
  for (const { link, inboundOnly } of input.ports) if (inboundOnly) inbound.set(`"${link}"`, '');
  const shared = { name: GATEWAY_TABLE, chains: new Map() };
  const table: NftTable = {
    ...shared,
    family: 'ip',
    fixed: betweenBridges('ip', 'ipv4_addr') + GATEWAY_FIXED,
    elements: new Map([
      ['senders', senders],
      ['zones', senders],
      ['inbound', inbound],
      ...bridgeElements(input, false),
    ]),
  };
  if (!hasIpv6(input)) return [table];
  const table6: NftTable = {
    ...shared,
    family: 'ip6',
    fixed: betweenBridges('ip6', 'ipv6_addr'),
    elements: new Map(bridgeElements(input, true)),
  };
  return [table, table6];
}
