/**
 * Published ports and the way out; pure. The host's namespace turns a connection to a published
 * port (any of its addresses, 127.0.0.1 too) into one of the tasks' gateway addresses and hands
 * it to the gateway namespace, which delivers it to a container here or through the ingress VXLAN
 * to the host that has it. That host notes by the sender's MAC which host the connection came
 * from (connection mark) and routes the replies back there, so the client's address is kept end
 * to end. Sources that could not be answered that way (127.0.0.1, this host's own containers) are
 * replaced.
 */
import { isIPv4 } from 'node:net';
import {
  addressToNumber,
  endpointMac,
  formatSubnet,
  gatewayOf,
  gatewayRanges,
  gatewaySubnet,
  subnetContains,
  tunnelAddress,
  tunnelMac,
} from './addresses.ts';
import { type Fabric, FabricBuilder } from './fabric.ts';
import { tunnelPeers } from './overlay.ts';
import { balance, type NftTable } from './table.ts';
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
/** Containers' interfaces in the gateway namespace, by what they are for. */
export const GATEWAY_PREFIX = 'tsg';
export const BRIDGE_PREFIX = 'tsb';

export const HOST_TABLE = 'tsswarm';
export const GATEWAY_TABLE = 'tsswarm';

/** A container's interface in the gateway namespace. */
export interface GatewayPort {
  readonly address: string;
  readonly link: string;
}

/** What this host's gateway depends on. */
export interface GatewayInput {
  readonly self: OverlayPeer | undefined;
  /** The default bridge's subnet, CIDR, and its first address. */
  readonly bridgeSubnet: string;
  readonly bridgeGateway: string;
  readonly ports: readonly GatewayPort[];
  readonly ingress: IngressState | undefined;
}

function peersOf(input: GatewayInput): readonly OverlayPeer[] {
  return input.self === undefined ? [] : (input.ingress?.peers ?? []);
}

/**
 * A backend's address is what its own host says. It becomes part of this host's rules, so anything
 * but an address of that host's gateway subnet is left out.
 */
function isOfItsHost(backend: { gatewayAddress: string; hostIndex: number }): boolean {
  const { gatewayAddress, hostIndex } = backend;
  return (
    isIPv4(gatewayAddress) &&
    subnetContains(gatewaySubnet(hostIndex), addressToNumber(gatewayAddress))
  );
}

function rangesOf(input: GatewayInput): string[] {
  if (input.self === undefined) return [];
  return gatewayRanges([input.self.hostIndex, ...peersOf(input).map((peer) => peer.hostIndex)]);
}

/** Addresses and routes of ours in the host's namespace: all on HOST_LINK. */
export function hostFabric(input: GatewayInput): Fabric {
  const fabric = new FabricBuilder();
  fabric.address(HOST_LINK, input.bridgeGateway);
  fabric.neighbour(HOST_LINK, GATEWAY_SIDE, UPLINK_MAC);
  const through = (destination: string, source: string): void =>
    fabric.route(destination, HOST_LINK, { gateway: GATEWAY_SIDE, source });
  through(input.bridgeSubnet, input.bridgeGateway);
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

const GATEWAY_FIXED = `
map senders { type ether_addr : mark; }
chain remember {
  type filter hook prerouting priority -150; policy accept;
  iifname "${INGRESS_LINK}" ct state new ct mark set ether saddr map @senders
  iifname "${GATEWAY_PREFIX}*" ct direction reply meta mark set ct mark
}
chain pass {
  type filter hook forward priority 0; policy accept;
  oifname "${INGRESS_LINK}" tcp flags syn / syn,rst tcp option maxseg size set rt mtu
  iifname "${UPLINK}" oifname "${UPLINK}" reject with icmp type host-unreachable
  iifname "${INGRESS_LINK}" ct direction original oifname "${UPLINK}" drop
  iifname "${GATEWAY_PREFIX}*" oifname "${INGRESS_LINK}" ct direction original drop
  iifname "${BRIDGE_PREFIX}*" oifname "${INGRESS_LINK}" drop
  iifname "${GATEWAY_PREFIX}*" oifname { "${GATEWAY_PREFIX}*", "${BRIDGE_PREFIX}*" } drop
  iifname "${BRIDGE_PREFIX}*" oifname "${GATEWAY_PREFIX}*" drop
}
`;

export function gatewayTable(input: GatewayInput): NftTable {
  const senders = new Map<string, string>();
  for (const { hostIndex } of peersOf(input)) {
    if (hostIndex !== input.self?.hostIndex) senders.set(tunnelMac(hostIndex), `${hostIndex}`);
  }
  return {
    family: 'ip',
    name: GATEWAY_TABLE,
    fixed: GATEWAY_FIXED,
    chains: new Map(),
    elements: new Map([['senders', senders]]),
  };
}

/** `source`: the address that stands for sources which cannot be answered through the gateway. */
function hostFixed(source: string): string {
  return `
map published { type inet_proto . inet_service : verdict; }
set idle { type inet_proto . inet_service; }
chain guard {
  type filter hook prerouting priority -300; policy accept;
  iifname "${HOST_LINK}" ip daddr 127.0.0.0/8 drop
  iifname "${HOST_LINK}" ip saddr 127.0.0.0/8 drop
}
chain refuse {
  type filter hook prerouting priority -110; policy accept;
  ct state new fib daddr type local meta l4proto . th dport @idle jump refusal
}
chain refuse_own {
  type filter hook output priority -110; policy accept;
  ct state new fib daddr type local meta l4proto . th dport @idle jump refusal
}
chain refusal {
  meta l4proto tcp reject with tcp reset
  reject
}
chain enter {
  type nat hook prerouting priority -100; policy accept;
  fib daddr type local meta l4proto . th dport vmap @published
}
chain enter_own {
  type nat hook output priority -100; policy accept;
  fib daddr type local meta l4proto . th dport vmap @published
}
chain leave {
  type nat hook postrouting priority 100; policy accept;
  oifname "${HOST_LINK}" ip saddr 127.0.0.0/8 snat to ${source}
  iifname "${HOST_LINK}" oifname "${HOST_LINK}" ct status dnat snat to ${source}
  iifname "${HOST_LINK}" oifname != "${HOST_LINK}" masquerade
}
`;
}

export function hostTable(input: GatewayInput): NftTable {
  const chains = new Map<string, string[]>();
  const published = new Map<string, string>();
  const idle = new Map<string, string>();
  const ports = input.self === undefined ? [] : (input.ingress?.ports ?? []);
  const reachable = new Set(peersOf(input).map((peer) => peer.hostIndex));
  if (input.self !== undefined) reachable.add(input.self.hostIndex);
  for (const port of ports) {
    const key = `${port.protocol} . ${port.publishedPort}`;
    const backends = port.backends.filter(
      (backend) => reachable.has(backend.hostIndex) && isOfItsHost(backend),
    );
    if (backends.length === 0) {
      idle.set(key, '');
      continue;
    }
    const chain = `port_${port.protocol}_${port.publishedPort}`;
    const targets = backends.map((backend) => `${backend.gatewayAddress} . ${backend.targetPort}`);
    chains.set(chain, [`meta l4proto ${port.protocol} ${balance(targets.sort())}`]);
    published.set(key, `jump ${chain}`);
  }
  const source =
    input.self === undefined ? input.bridgeGateway : gatewayOf(gatewaySubnet(input.self.hostIndex));
  return {
    family: 'ip',
    name: HOST_TABLE,
    fixed: hostFixed(source),
    chains,
    elements: new Map([
      ['published', published],
      ['idle', idle],
    ]),
  };
}
