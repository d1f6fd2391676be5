/**
 * A container's interfaces: pairs made with one end in a router's namespace and the other in the
 * container's, given addresses, and the default route through the one that leads out. Who gets
 * which address was decided before.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { canonicalAddress } from '../../base/ipAddress.ts';
import { counterpart, formatRange, parseRange } from '../../base/ipRange.ts';
import { NETLINK_ROUTE, type NetlinkMessage, NetlinkSocket } from '../sys/netlink.ts';
import type { NetworkNamespace } from '../sys/netns.ts';
import { enableIpv6, setNetSysctl } from '../sys/netns.ts';
import { pointBridge } from '../sys/rtneighbour.ts';
import {
  addAddress,
  deleteLink,
  deleteRoute,
  isolatePort,
  listLinks,
  MAIN_TABLE,
  putRoute,
  setLink,
} from '../sys/rtnetlink.ts';
import { endpointMac, freeAddress, gatewayOf, parseSubnet, type Subnet } from './addresses.ts';
import { BRIDGE_PREFIX, bridgeOptions } from './bridge.ts';
import { type Bridges, checkedMac } from './bridges.ts';
import type { Gateway } from './gateway.ts';
import { GATEWAY_PREFIX } from './ingress.ts';
import { linkName, OVERLAY_PREFIX } from './overlay.ts';
import type { OverlayNetwork } from './overlayNetwork.ts';
import { plugContainer } from './routers.ts';
import type { Space } from './space.ts';
import type { AttachRequest, BridgeNetwork, Endpoint, EndpointRequest } from './types.ts';

/** One interface of a container, as made; that of the gateway network has no network's id. */
export interface Plug extends Endpoint {
  readonly kind: 'overlay' | 'gateway' | 'bridge';
  /** The interface in the container, and its other end. */
  readonly device: string;
  readonly link: string;
  readonly mtu: number;
  readonly aliases: readonly string[];
  /** Whether the default route may go through it. */
  readonly leadsOut: boolean;
  /** Only answers go that way: what is on internal networks alone publishes ports. */
  readonly inboundOnly?: boolean;
}

const DEVICE_PREFIX = 'eth';
const ALL_IPV4 = '0.0.0.0';
const ALL_IPV6 = '::';
const ONE_ADDRESS_6 = 128;
/** IPv6 neighbours on an overlay are reached through this one, not by asking for each other. */
const ROUTER_6 = 'fe80::1';
const ROUTER_PREFIX_LENGTH = 64;
const IPV6_DEFAULTS = '/proc/sys/net/ipv6/conf/default/disable_ipv6';
const IPV6_LOOPBACK = '/proc/sys/net/ipv6/conf/lo';

/** Inside a container's new namespace: as Docker sets it. */
export function prepareContainer(): NetlinkSocket {
  setNetSysctl('ipv4/ip_unprivileged_port_start', 0);
  writeFileSync('/proc/sys/net/ipv4/ping_group_range', '0 2147483647');
  if (existsSync(IPV6_DEFAULTS)) writeFileSync(IPV6_DEFAULTS, '1');
  return new NetlinkSocket(NETLINK_ROUTE);
}

/** The lowest ethN that is free. */
export function nextDevice(plugs: readonly Plug[]): string {
  const taken = new Set(plugs.map((plug) => plug.device));
  let at = 0;
  while (taken.has(`${DEVICE_PREFIX}${at}`)) at += 1;
  return `${DEVICE_PREFIX}${at}`;
}

export interface BridgePlugOptions {
  readonly bridges: Bridges;
  readonly space: Space;
  readonly namespace: NetworkNamespace;
  readonly network: BridgeNetwork;
  readonly request: EndpointRequest;
  readonly device: string;
  /** Of the attachment: makes the outer end's name. */
  readonly nonce: string;
}

/** Chooses addresses and makes the interface pair; the inner end is still down. */
export function plugBridge(options: BridgePlugOptions): Plug {
  const { bridges, space, namespace, network, request, device, nonce } = options;
  const port = bridges.choose(network, request);
  const link = linkName(BRIDGE_PREFIX, `${nonce} ${network.networkId}`);
  const mtu = bridges.mtuOf(network);
  const master = space.linkIndex(bridgeOptions(network).link);
  const inside = { name: device, mtu, macAddress: port.macAddress };
  plugContainer(space, link, namespace.fd, inside, master);
  // Who had the address last may have had the same MAC, and may not quite be gone.
  space.netlink.request([pointBridge(space.linkIndex(link), port.macAddress)]);
  if (!bridges.optionsOf(network).icc) space.netlink.request([isolatePort(link)]);
  const ipv4 = network.subnets.find((one) => !one.subnet.includes(':'));
  const ipv6 = network.subnets.find((one) => one.subnet.includes(':'));
  return {
    kind: 'bridge',
    networkId: network.networkId,
    endpointId: request.endpointId,
    device,
    link,
    mtu,
    ...port,
    prefixLength: ipv4 === undefined ? 0 : parseRange(ipv4.subnet).prefixLength,
    gateway: ipv4?.gateway ?? '',
    prefixLength6: ipv6 === undefined ? 0 : parseRange(ipv6.subnet).prefixLength,
    gateway6: ipv6?.gateway ?? '',
    aliases: request.aliases,
    leadsOut: !network.internal,
  };
}

export type OverlayRequest = AttachRequest['overlays'][number];

export interface OverlayPlugOptions {
  readonly network: OverlayNetwork;
  readonly namespace: NetworkNamespace;
  readonly request: OverlayRequest;
  readonly device: string;
  readonly nonce: string;
}

/** An interface on an overlay network, with the addresses that managers gave. */
export function plugOverlay(options: OverlayPlugOptions): Plug {
  const { network, namespace, request, device, nonce } = options;
  const { networkId, endpointId, address, aliases } = request;
  const { state } = network;
  const { subnet6 = '' } = state;
  const given = request.address6 || counterpart(state.subnet, address, subnet6);
  const address6 = subnet6 === '' ? '' : canonicalAddress(given);
  const link = linkName(OVERLAY_PREFIX, `${nonce} ${endpointId}`);
  const wanted = request.macAddress ?? '';
  const macAddress = wanted === '' ? endpointMac(address) : checkedMac(wanted);
  const { mtu } = network;
  plugContainer(network.space, link, namespace.fd, { name: device, mtu, macAddress });
  if (address6 !== '') nameRouter(network.space, link);
  return {
    kind: 'overlay',
    networkId,
    endpointId,
    device,
    link,
    mtu,
    address,
    prefixLength: parseSubnet(state.subnet).prefixLength,
    gateway: '',
    address6,
    prefixLength6: address6 === '' ? 0 : parseRange(subnet6).prefixLength,
    gateway6: '',
    macAddress,
    aliases,
    leadsOut: false,
  };
}

/** The router's end has the address by which the container finds the rest of its IPv6 subnet. */
function nameRouter(space: Space, link: string): void {
  space.namespace.within(() => enableIpv6(link));
  space.netlink.request([addAddress(space.linkIndex(link), ROUTER_6, ROUTER_PREFIX_LENGTH)]);
}

export interface GatewayPlugOptions {
  readonly gateway: Gateway;
  /** For published ports only. */
  readonly inboundOnly: boolean;
  readonly namespace: NetworkNamespace;
  readonly subnet: Subnet;
  readonly device: string;
  readonly nonce: string;
}

/** An interface on the host's gateway: the way out, and where published ports arrive. */
export function plugGateway(options: GatewayPlugOptions): Plug {
  const { gateway, inboundOnly, namespace, subnet, device, nonce } = options;
  const address = freeAddress(subnet, gateway.addressesInUse);
  const link = linkName(GATEWAY_PREFIX, nonce);
  const macAddress = endpointMac(address);
  const { mtu } = gateway;
  plugContainer(gateway.space, link, namespace.fd, { name: device, mtu, macAddress });
  return {
    kind: 'gateway',
    networkId: '',
    endpointId: '',
    device,
    link,
    mtu,
    address,
    prefixLength: subnet.prefixLength,
    gateway: gatewayOf(subnet),
    address6: '',
    prefixLength6: 0,
    gateway6: '',
    macAddress,
    aliases: [],
    leadsOut: true,
    inboundOnly,
  };
}

/** A user's bridge before the gateway of the swarm; undefined when there is no way out. */
export function wayOut(plugs: readonly Plug[]): Plug | undefined {
  const ways = plugs.filter((plug) => plug.leadsOut);
  return ways.find((plug) => plug.kind === 'bridge') ?? ways[0];
}

/** In the container's namespace: the sysctls that its new interfaces need. */
function prepareDevices(plugs: readonly Plug[]): void {
  const ipv6 = plugs.filter((plug) => plug.address6 !== '');
  if (ipv6.length === 0) return;
  if (existsSync(IPV6_LOOPBACK)) enableIpv6('lo');
  for (const { device } of ipv6) {
    setNetSysctl(`ipv6/conf/${device}/accept_ra`, 0);
    enableIpv6(device);
  }
}

/** Brings new interfaces up, with their addresses. `all`: every interface the container has. */
export function configurePlugs(
  namespace: NetworkNamespace,
  socket: NetlinkSocket,
  fresh: readonly Plug[],
  all: readonly Plug[],
): void {
  const indexes = new Map(listLinks(socket).map((link) => [link.name, link.index]));
  namespace.within(() => prepareDevices(fresh));
  const messages = [setLink('lo', {})];
  for (const plug of fresh) {
    const index = indexes.get(plug.device);
    if (index === undefined) {
      throw new SwarmError('internal', `interface ${plug.device} is missing`);
    }
    messages.push(addAddress(index, plug.address, plug.prefixLength), setLink(plug.device, {}));
    if (plug.address6 === '') continue;
    if (plug.kind !== 'overlay') {
      messages.push(addAddress(index, plug.address6, plug.prefixLength6));
      continue;
    }
    const range = parseRange(`${plug.address6}/${plug.prefixLength6}`);
    const [destination] = formatRange(range).split('/');
    const { prefixLength } = range;
    const via = { gateway: ROUTER_6, linkIndex: index, source: '', table: MAIN_TABLE };
    messages.push(
      addAddress(index, plug.address6, ONE_ADDRESS_6),
      putRoute({ ...via, destination, prefixLength }),
    );
  }
  messages.push(...defaultRoutes(all, indexes));
  socket.request(messages);
}

/** Default routes through the way out that there is now. */
function defaultRoutes(
  plugs: readonly Plug[],
  indexes: ReadonlyMap<string, number>,
): NetlinkMessage[] {
  const way = wayOut(plugs);
  const linkIndex = indexes.get(way?.device ?? '');
  if (way === undefined || linkIndex === undefined) return [];
  const shared = { prefixLength: 0, linkIndex, source: '', table: MAIN_TABLE };
  const messages: NetlinkMessage[] = [];
  if (way.gateway !== '') {
    messages.push(putRoute({ ...shared, destination: ALL_IPV4, gateway: way.gateway }));
  }
  if (way.gateway6 !== '') {
    messages.push(putRoute({ ...shared, destination: ALL_IPV6, gateway: way.gateway6 }));
  }
  return messages;
}

/** Takes an interface away from a running container; `rest`: what it keeps. */
export function unplug(socket: NetlinkSocket, gone: Plug, rest: readonly Plug[]): void {
  const indexes = new Map(listLinks(socket).map((link) => [link.name, link.index]));
  const linkIndex = indexes.get(gone.device);
  const messages: NetlinkMessage[] = [];
  if (linkIndex !== undefined && gone.gateway !== '') {
    const { gateway } = gone;
    const shared = { prefixLength: 0, linkIndex, source: '', table: MAIN_TABLE };
    messages.push(deleteRoute({ ...shared, destination: ALL_IPV4, gateway }));
  }
  messages.push(deleteLink(gone.device), ...defaultRoutes(rest, indexes));
  socket.request(messages);
}

export function toEndpoint(plug: Plug): Endpoint {
  return {
    networkId: plug.networkId,
    endpointId: plug.endpointId,
    address: plug.address,
    prefixLength: plug.prefixLength,
    gateway: plug.gateway,
    address6: plug.address6,
    prefixLength6: plug.prefixLength6,
    gateway6: plug.gateway6,
    macAddress: plug.macAddress,
  };
}
