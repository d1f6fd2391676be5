/**
 * The namespaces of ours that route: how they are prepared, and the tunnel and container interfaces
 * put into them. Used by the overlay networks and by the gateway alike.
 */
import { existsSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { hasIpv6Support, isNamespace, type NamespaceDoor, setNetSysctl } from '../sys/netns.ts';
import {
  addVeth,
  addVxlan,
  deleteLink,
  listAddresses,
  listLinks,
  setLink,
} from '../sys/rtnetlink.ts';
import { tunnelMac } from './addresses.ts';
import { VXLAN_OVERHEAD_BYTES } from './overlay.ts';
import { Space } from './space.ts';
import type { OverlayPeer } from './types.ts';

/** Where the underlay is not known yet. */
export const DEFAULT_MTU = 1500;
const BRIDGE_SYSCTLS = '/proc/sys/net/bridge';

/** Inside a new namespace of ours: it routes, trusts static entries and answers ARP by proxy. */
function prepareRouter(): void {
  setNetSysctl('ipv4/ip_forward', 1);
  for (const scope of ['all', 'default']) {
    setNetSysctl(`ipv4/conf/${scope}/rp_filter`, 0);
    setNetSysctl(`ipv4/conf/${scope}/send_redirects`, 0);
    setNetSysctl(`ipv4/conf/${scope}/accept_redirects`, 0);
    if (hasIpv6Support()) setNetSysctl(`ipv6/conf/${scope}/disable_ipv6`, 1);
  }
  setNetSysctl('ipv4/conf/default/proxy_arp', 1);
  // What containers of one bridge say to each other is not for the rules of IP.
  if (existsSync(BRIDGE_SYSCTLS)) {
    setNetSysctl('bridge/bridge-nf-call-iptables', 0);
    setNetSysctl('bridge/bridge-nf-call-ip6tables', 0);
  }
}

/** Opens the router namespace at `path`, made now unless it exists. */
export function openRouter(door: NamespaceDoor, path: string): { space: Space; made: boolean } {
  const options = { owned: () => true, ownsRules: true };
  if (isNamespace(path)) return { space: new Space(door.open(path), options), made: false };
  const { namespace } = door.create(path, prepareRouter);
  const space = new Space(namespace, options);
  space.netlink.request([setLink('lo', {})]);
  return { space, made: true };
}

function hasErrno(error: unknown, name: string): boolean {
  return error instanceof SwarmError && error.detail['errno'] === name;
}

export interface Tunnel {
  readonly hostIndex: number;
  readonly vni: number;
  readonly local: string;
  readonly port: number;
}

/**
 * The VXLAN device `name` in `space`, its outer packets going through `host`. Replaces an old
 * one.
 */
export function makeTunnel(
  host: Space,
  space: Space,
  name: string,
  tunnel: Tunnel,
  mtu: number,
): void {
  if (space.hasLink(name)) space.netlink.request([deleteLink(name)]);
  try {
    host.netlink.request([
      addVxlan({
        name,
        mac: tunnelMac(tunnel.hostIndex),
        mtu,
        namespaceFd: space.namespace.fd,
        vni: tunnel.vni,
        local: tunnel.local,
        port: tunnel.port,
      }),
    ]);
  } catch (error) {
    if (!hasErrno(error, 'EEXIST')) throw error;
    throw new SwarmError(
      'conflict',
      `VXLAN network ${tunnel.vni} on port ${tunnel.port} is in use on this host by another ` +
        'program; remove that device or choose another data-path port',
      { cause: error },
    );
  }
  space.netlink.request([setLink(name, {})]);
  space.refreshLinks();
}

/**
 * The router's side of a container's interface; the other end is `inside` in the container. With
 * `master` it is a port of that bridge, else it answers ARP for other endpoints by proxy.
 */
export function plugContainer(
  space: Space,
  link: string,
  containerFd: number,
  inside: { readonly name: string; readonly macAddress: string; readonly mtu: number },
  master?: number,
): void {
  const { name, macAddress, mtu } = inside;
  const peer = { name, mac: macAddress, mtu, namespaceFd: containerFd };
  space.netlink.request([addVeth({ name: link, mtu, ...(master && { master }) }, peer)]);
  if (master === undefined) {
    // Without this an ARP question for another endpoint is answered up to 0.8 s late.
    space.namespace.within(() => setNetSysctl(`ipv4/neigh/${link}/proxy_delay`, 0));
  }
  space.refreshLinks();
}

/**
 * The MTU of the host's interface that has `address`, as far as we can use it. SwarmError invalid
 * if none has.
 */
export function underlayMtu(host: Space, address: string): number {
  const found = listAddresses(host.netlink).find((entry) => entry.address === address);
  const link = listLinks(host.netlink).find((entry) => entry.index === found?.index);
  // Loopback's own (65536) is more than a container's link takes, and no other host is met there.
  if (link !== undefined) return link.name === 'lo' ? DEFAULT_MTU : link.mtu;
  throw new SwarmError(
    'invalid',
    `no interface of this host has the address ${address}, by which the other hosts know it`,
  );
}

export function tunnelMtu(host: Space, self: OverlayPeer): number {
  return underlayMtu(host, self.address) - VXLAN_OVERHEAD_BYTES;
}
