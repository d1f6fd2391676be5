/**
 * What one overlay network looks like inside its namespace on this host; pure. Routed, not bridged:
 * every endpoint is a /32 route, to its container's interface here or to its host's tunnel address;
 * tunnel neighbours and forwarding entries are static, one per host; virtual addresses and the
 * gateway's are local to the namespace. Containers' interfaces answer ARP by proxy.
 */
import { createHash } from 'node:crypto';
import { tunnelAddress, tunnelAddress6, tunnelMac } from './addresses.ts';
import { type Fabric, FabricBuilder } from './fabric.ts';
import type { OverlayPeer, OverlayState } from './types.ts';

export const TUNNEL_LINK = 'vx0';
/** Containers' interfaces in a network's namespace. */
export const OVERLAY_PREFIX = 'v';
/** Bytes VXLAN over IPv4 adds: 20 IP, 8 UDP, 8 VXLAN, 14 Ethernet. */
export const VXLAN_OVERHEAD_BYTES = 50;

/** An endpoint of a container on this host. */
export interface LocalEndpoint {
  readonly id: string;
  readonly address: string;
  /** '' = none. */
  readonly address6: string;
  /** The interface in the network's namespace whose other end the container holds. */
  readonly link: string;
  readonly macAddress: string;
}

/** A short interface name (at most 15 characters) from `prefix` and what it stands for. */
export function linkName(prefix: string, subject: string): string {
  return `${prefix}${createHash('sha256').update(subject).digest('hex').slice(0, 10)}`;
}

/** Entries of one tunnel device to every other host. */
export function tunnelPeers(
  fabric: FabricBuilder,
  link: string,
  self: OverlayPeer,
  peers: readonly OverlayPeer[],
  withIpv6 = false,
): void {
  for (const peer of peers) {
    if (peer.hostIndex === self.hostIndex) continue;
    fabric.neighbour(link, tunnelAddress(peer.hostIndex), tunnelMac(peer.hostIndex));
    if (withIpv6) fabric.neighbour(link, tunnelAddress6(peer.hostIndex), tunnelMac(peer.hostIndex));
    fabric.forward(link, tunnelMac(peer.hostIndex), peer.address);
  }
}

/**
 * The whole forwarding state. Where the state names another host for a local endpoint's own id, it
 * has moved and the state wins; where it names another id for the address, the state is older than
 * the attachment and the attachment wins.
 */
export function overlayFabric(
  state: OverlayState,
  self: OverlayPeer,
  local: readonly LocalEndpoint[],
): Fabric {
  const fabric = new FabricBuilder();
  const known = new Set(state.peers.map((peer) => peer.hostIndex));
  const withIpv6 = Boolean(state.subnet6);
  fabric.address('lo', state.gateway);
  if (state.gateway6) fabric.address('lo', state.gateway6);
  for (const service of state.services) {
    if (service.virtualAddress !== '') fabric.address('lo', service.virtualAddress);
    if (service.virtualAddress6) fabric.address('lo', service.virtualAddress6);
  }
  tunnelPeers(fabric, TUNNEL_LINK, self, state.peers, withIpv6);
  for (const endpoint of local) {
    fabric.route(`${endpoint.address}/32`, endpoint.link);
    fabric.neighbour(endpoint.link, endpoint.address, endpoint.macAddress);
    if (endpoint.address6 === '') continue;
    fabric.route(endpoint.address6, endpoint.link);
    fabric.neighbour(endpoint.link, endpoint.address6, endpoint.macAddress);
  }
  const attached = new Map(local.map((endpoint) => [endpoint.address, endpoint.id]));
  for (const endpoint of state.endpoints) {
    if (endpoint.hostIndex === self.hostIndex || !known.has(endpoint.hostIndex)) continue;
    const holder = attached.get(endpoint.address);
    if (holder !== undefined && holder !== endpoint.id) continue;
    const gateway = tunnelAddress(endpoint.hostIndex);
    fabric.route(`${endpoint.address}/32`, TUNNEL_LINK, { gateway });
    if (!withIpv6 || !endpoint.address6) continue;
    const gateway6 = tunnelAddress6(endpoint.hostIndex);
    fabric.route(endpoint.address6, TUNNEL_LINK, { gateway: gateway6 });
  }
  return fabric;
}
