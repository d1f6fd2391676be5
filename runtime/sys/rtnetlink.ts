/**
 * The rtnetlink messages of links (veth, VXLAN, bridge), addresses and routes, each as a value that
 * a NetlinkSocket sends; neighbours and rules are in rtneighbour.ts. Building a message never
 * touches the kernel; reading functions decode what a dump returned. Both address
 * families; an address's text says which.
 */

import { AF_INET, AF_INET6, familyOf, ipBytes, ipText } from '../../base/ipAddress.ts';
import {
  type Attribute,
  attributeText,
  be16,
  decodeAttributes,
  encodeAttributes,
  ifindexBytes,
  type NetlinkMessage,
  type NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  u8,
} from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_GROUP = 27;
const IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_INFO_SLAVE_KIND = 4;
const IFLA_INFO_SLAVE_DATA = 5;
const IFLA_BRPORT_STATE = 1;
const IFLA_BRPORT_ISOLATED = 33;
const VETH_INFO_PEER = 1;
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_LOCAL = 4;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFF_UP = 1;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
const IFA_F_NODAD = 2;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;
const RT_TABLE_MAIN = 254;
const RT_TABLE_UNSPEC = 0;
const RTPROT_BOOT = 3;
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTNH_F_ONLINK = 4;

const ESRCH = 3;
const ENODEV = 19;
const EINVAL = 22;
const EOPNOTSUPP = 95;
const EADDRNOTAVAIL = 99;

export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
}

export function macText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

// ---- Links

function linkHeader(index: number, flags: number, change: number): Buffer {
  const header = Buffer.alloc(16);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}

export interface LinkOptions {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** An open descriptor of the namespace the link is made in; default the socket's. */
  readonly namespaceFd?: number;
  readonly group?: number;
  /** The index of the bridge it becomes a port of. */
  readonly master?: number;
}

function linkAttributes(options: LinkOptions): Attribute[] {
  const attributes: Attribute[] = [[IFLA_IFNAME, options.name]];
  if (options.mac !== undefined) attributes.push([IFLA_ADDRESS, macBytes(options.mac)]);
  if (options.mtu !== undefined) attributes.push([IFLA_MTU, options.mtu]);
  if (options.namespaceFd !== undefined) attributes.push([IFLA_NET_NS_FD, options.namespaceFd]);
  if (options.group !== undefined) attributes.push([IFLA_GROUP, options.group]);
  if (options.master !== undefined) attributes.push([IFLA_MASTER, options.master]);
  return attributes;
}

function newLink(options: LinkOptions, info: readonly Attribute[], up: boolean): NetlinkMessage {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header: linkHeader(0, up ? IFF_UP : 0, up ? IFF_UP : 0),
    attributes: [...linkAttributes(options), [IFLA_LINKINFO, info]],
    what: `add link ${options.name}`,
  };
}

/** A veth pair, both ends in the namespaces they are for from the start; `options` end is up. */
export function addVeth(options: LinkOptions, peer: LinkOptions): NetlinkMessage {
  const peerBytes = Buffer.concat([linkHeader(0, 0, 0), encodeAttributes(linkAttributes(peer))]);
  return newLink(
    options,
    [
      [IFLA_INFO_KIND, 'veth'],
      [IFLA_INFO_DATA, [[VETH_INFO_PEER, peerBytes]]],
    ],
    true,
  );
}

export interface VxlanOptions extends LinkOptions {
  readonly vni: number;
  readonly local: string;
  readonly port: number;
}

/** A VXLAN device without learning. Its outer packets go through the socket's namespace. */
export function addVxlan(options: VxlanOptions): NetlinkMessage {
  return newLink(
    options,
    [
      [IFLA_INFO_KIND, 'vxlan'],
      [
        IFLA_INFO_DATA,
        [
          [IFLA_VXLAN_ID, options.vni],
          [IFLA_VXLAN_LOCAL, ipBytes(options.local)],
          [IFLA_VXLAN_LEARNING, u8(0)],
          [IFLA_VXLAN_PORT, be16(options.port)],
        ],
      ],
    ],
    false,
  );
}

export function addBridge(options: LinkOptions): NetlinkMessage {
  return newLink(options, [[IFLA_INFO_KIND, 'bridge']], true);
}

/** By name: brings up, and sets what is given. */
export function setLink(
  name: string,
  set: { mtu?: number; master?: number; alias?: string },
): NetlinkMessage {
  const attributes: Attribute[] = [[IFLA_IFNAME, name]];
  if (set.mtu !== undefined) attributes.push([IFLA_MTU, set.mtu]);
  if (set.master !== undefined) attributes.push([IFLA_MASTER, set.master]);
  if (set.alias !== undefined) attributes.push([IFLA_IFALIAS, Buffer.from(set.alias)]);
  return {
    type: RTM_NEWLINK,
    flags: 0,
    header: linkHeader(0, IFF_UP, IFF_UP),
    attributes,
    what: `set link ${name} up`,
  };
}

function setPort(name: string, setting: Attribute, what: string): NetlinkMessage {
  return {
    type: RTM_NEWLINK,
    flags: 0,
    header: linkHeader(0, 0, 0),
    attributes: [
      [IFLA_IFNAME, name],
      [
        IFLA_LINKINFO,
        [
          [IFLA_INFO_SLAVE_KIND, 'bridge'],
          [IFLA_INFO_SLAVE_DATA, [setting]],
        ],
      ],
    ],
    what: `${what} ${name}`,
  };
}

/** A bridge's port that reaches none of the other isolated ones. */
export function isolatePort(name: string): NetlinkMessage {
  return setPort(name, [IFLA_BRPORT_ISOLATED, u8(1)], 'isolate bridge port');
}

/** Nothing passes a bridge's port from now on; fine where there is no such port. */
export function disablePort(name: string): NetlinkMessage {
  const message = setPort(name, [IFLA_BRPORT_STATE, u8(0)], 'disable bridge port');
  return { ...message, allow: [ENODEV, EINVAL, EOPNOTSUPP] };
}

/** Blocks the caller 13-21 ms in the kernel: never on a hot path. */
export function deleteLink(name: string): NetlinkMessage {
  return {
    type: RTM_DELLINK,
    flags: 0,
    header: linkHeader(0, 0, 0),
    attributes: [[IFLA_IFNAME, name]],
    what: `delete link ${name}`,
    allow: [ENODEV],
  };
}

/** All links of the group at once: one grace period however many there are. */
export function deleteLinkGroup(group: number): NetlinkMessage {
  return {
    type: RTM_DELLINK,
    flags: 0,
    header: linkHeader(0, 0, 0),
    attributes: [[IFLA_GROUP, group]],
    what: `delete links of group ${group}`,
    allow: [ENODEV],
  };
}

export interface Link {
  readonly index: number;
  readonly name: string;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Free text that somebody gave it, '' = none. */
  readonly alias: string;
}

export function listLinks(socket: NetlinkSocket): Link[] {
  const replies = socket.dump({
    type: RTM_GETLINK,
    flags: 0,
    header: linkHeader(0, 0, 0),
    attributes: [],
    what: 'list links',
  });
  return replies.map(({ payload }) => {
    const attributes = decodeAttributes(payload, 16);
    const mac = attributes.get(IFLA_ADDRESS);
    return {
      index: payload.readInt32LE(4),
      name: attributeText(attributes.get(IFLA_IFNAME)),
      mac: mac === undefined ? '' : macText(mac),
      mtu: attributes.get(IFLA_MTU)?.readUInt32LE(0) ?? 0,
      alias: attributeText(attributes.get(IFLA_IFALIAS)),
      up: (payload.readUInt32LE(8) & IFF_UP) !== 0,
    };
  });
}

// ---- Addresses

function addressMessage(
  type: number,
  index: number,
  address: string,
  prefixLength: number,
): NetlinkMessage {
  const header = Buffer.alloc(8);
  const family = familyOf(address);
  header[0] = family;
  header[1] = prefixLength;
  // Addresses are given out by managers and this host: asking whether one is free takes a second.
  if (family === AF_INET6) header[2] = IFA_F_NODAD;
  header[3] = RT_SCOPE_UNIVERSE;
  header.writeUInt32LE(index, 4);
  const bytes = ipBytes(address);
  const attributes: Attribute[] = [
    [IFA_LOCAL, bytes],
    [IFA_ADDRESS, bytes],
  ];
  if (type === RTM_NEWADDR && family === AF_INET && prefixLength < 31) {
    const broadcast = Buffer.from(bytes);
    const hostMask = 2 ** (32 - prefixLength) - 1;
    broadcast.writeUInt32BE((broadcast.readUInt32BE(0) | hostMask) >>> 0);
    attributes.push([IFA_BROADCAST, broadcast]);
  }
  return {
    type,
    flags: type === RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0,
    header,
    attributes,
    what: `${type === RTM_NEWADDR ? 'add' : 'delete'} address ${address}/${prefixLength}`,
    allow: type === RTM_NEWADDR ? [] : [EADDRNOTAVAIL, ENODEV],
  };
}

export function addAddress(index: number, address: string, prefixLength: number): NetlinkMessage {
  return addressMessage(RTM_NEWADDR, index, address, prefixLength);
}

export function deleteAddress(
  index: number,
  address: string,
  prefixLength: number,
): NetlinkMessage {
  return addressMessage(RTM_DELADDR, index, address, prefixLength);
}

export interface InterfaceAddress {
  readonly index: number;
  readonly address: string;
  readonly prefixLength: number;
}

export function listAddresses(socket: NetlinkSocket, family = AF_INET): InterfaceAddress[] {
  const header = Buffer.alloc(8);
  header[0] = family;
  const replies = socket.dump({
    type: RTM_GETADDR,
    flags: 0,
    header,
    attributes: [],
    what: 'list addresses',
  });
  return replies.map(({ payload }) => {
    const attributes = decodeAttributes(payload, 8);
    const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS) ?? Buffer.alloc(4);
    return {
      index: payload.readUInt32LE(4),
      address: ipText(bytes),
      prefixLength: payload[1],
    };
  });
}

// ---- Routes

export interface Route {
  /** '0.0.0.0' or '::' with prefixLength 0 is the default route. */
  readonly destination: string;
  readonly prefixLength: number;
  /** '' = directly on the link. The gateway need not be on the link's own subnet (onlink). */
  readonly gateway: string;
  readonly linkIndex: number;
  /** Preferred source address, '' = the kernel's choice. */
  readonly source: string;
  readonly table: number;
}

export const MAIN_TABLE = RT_TABLE_MAIN;

function routeMessage(type: number, route: Route): NetlinkMessage {
  const header = Buffer.alloc(12);
  header[0] = familyOf(route.destination);
  header[1] = route.prefixLength;
  header[4] = route.table < 256 ? route.table : RT_TABLE_UNSPEC;
  header[5] = RTPROT_STATIC;
  header[6] = route.gateway === '' ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  header[7] = RTN_UNICAST;
  if (route.gateway !== '') header.writeUInt32LE(RTNH_F_ONLINK, 8);
  const attributes: Attribute[] = [
    [RTA_TABLE, route.table],
    [RTA_OIF, ifindexBytes(route.linkIndex)],
  ];
  if (route.prefixLength > 0) attributes.push([RTA_DST, ipBytes(route.destination)]);
  if (route.gateway !== '') attributes.push([RTA_GATEWAY, ipBytes(route.gateway)]);
  if (route.source !== '') attributes.push([RTA_PREFSRC, ipBytes(route.source)]);
  const verb = type === RTM_NEWROUTE ? 'add' : 'delete';
  return {
    type,
    flags: type === RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_REPLACE : 0,
    header,
    attributes,
    what: `${verb} route ${route.destination}/${route.prefixLength}`,
    allow: type === RTM_NEWROUTE ? [] : [ESRCH, ENODEV],
  };
}

/** Adds the route or replaces the one to the same destination in the same table. */
export function putRoute(route: Route): NetlinkMessage {
  return routeMessage(RTM_NEWROUTE, route);
}

export function deleteRoute(route: Route): NetlinkMessage {
  return routeMessage(RTM_DELROUTE, route);
}

/** Routes that people or programs put there; not the kernel's own of addresses. */
export function listRoutes(socket: NetlinkSocket, family = AF_INET): Route[] {
  const header = Buffer.alloc(12);
  header[0] = family;
  const replies = socket.dump({
    type: RTM_GETROUTE,
    flags: 0,
    header,
    attributes: [],
    what: 'list routes',
  });
  return replies
    .filter(({ payload }) => payload[5] >= RTPROT_BOOT && payload[7] === RTN_UNICAST)
    .map(({ payload }) => decodeRoute(payload));
}

/** Every unicast destination of the main table, whoever put it there. */
export function listReachable(socket: NetlinkSocket, family = AF_INET): Route[] {
  const header = Buffer.alloc(12);
  header[0] = family;
  return socket
    .dump({ type: RTM_GETROUTE, flags: 0, header, attributes: [], what: 'list routes' })
    .filter(({ payload }) => payload[7] === RTN_UNICAST)
    .map(({ payload }) => decodeRoute(payload))
    .filter((route) => route.table === RT_TABLE_MAIN);
}

function decodeRoute(payload: Buffer): Route {
  const attributes = decodeAttributes(payload, 12);
  const text = (type: number, missing: string): string => {
    const bytes = attributes.get(type);
    return bytes === undefined ? missing : ipText(bytes);
  };
  return {
    destination: text(RTA_DST, payload[0] === AF_INET6 ? '::' : '0.0.0.0'),
    prefixLength: payload[1],
    gateway: text(RTA_GATEWAY, ''),
    linkIndex: attributes.get(RTA_OIF)?.readInt32LE(0) ?? 0,
    source: text(RTA_PREFSRC, ''),
    table: attributes.get(RTA_TABLE)?.readUInt32LE(0) ?? payload[4],
  };
}
