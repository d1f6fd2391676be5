/**
 * Moves an interface into another network namespace with what it has: its lasting addresses of
 * global scope; name, MAC and MTU stay by themselves. Routes and other settings are not carried.
 * Works on whole messages, so that an address keeps what the kernel says of it.
 */
import { AF_INET, AF_INET6 } from '../../base/ipAddress.ts';
import {
  decodeAttributes,
  type NetlinkMessage,
  type NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
} from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_GETADDR = 22;
const IFLA_IFNAME = 3;
const IFLA_NET_NS_FD = 28;
const IFF_UP = 1;
const IFA_LABEL = 3;
const IFA_CACHEINFO = 6;
const IFA_FLAGS = 8;
const IFA_F_PERMANENT = 0x80;
const RT_SCOPE_UNIVERSE = 0;
const ADDRESS_HEADER_BYTES = 8;
const LINK_HEADER_BYTES = 16;

/** An address as the kernel described it. */
export interface KeptAddress {
  readonly payload: Buffer;
}

export function keptAddresses(socket: NetlinkSocket, index: number): readonly KeptAddress[] {
  return [AF_INET, AF_INET6].flatMap((family) => {
    const header = Buffer.alloc(ADDRESS_HEADER_BYTES);
    header[0] = family;
    const what = 'list addresses';
    return socket
      .dump({ type: RTM_GETADDR, flags: 0, header, attributes: [], what })
      .filter(({ payload }) => payload.readUInt32LE(4) === index && isKept(payload));
  });
}

function isKept(payload: Buffer): boolean {
  const flags = decodeAttributes(payload, ADDRESS_HEADER_BYTES).get(IFA_FLAGS)?.readUInt32LE(0);
  return ((flags ?? payload[2]) & IFA_F_PERMANENT) !== 0 && payload[3] === RT_SCOPE_UNIVERSE;
}

/** The same address on interface `index`. */
export function putAddress({ payload }: KeptAddress, index: number): NetlinkMessage {
  const header = Buffer.from(payload.subarray(0, ADDRESS_HEADER_BYTES));
  header.writeUInt32LE(index, 4);
  const own = new Set([IFA_LABEL, IFA_CACHEINFO]);
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    header,
    attributes: [...decodeAttributes(payload, ADDRESS_HEADER_BYTES)].filter(
      ([type]) => !own.has(type),
    ),
    what: 'put an address on a moved interface',
  };
}

function linkMessage(
  index: number,
  up: boolean,
  attributes: NetlinkMessage['attributes'],
  what: string,
): NetlinkMessage {
  const header = Buffer.alloc(LINK_HEADER_BYTES);
  header.writeInt32LE(index, 4);
  header.writeUInt32LE(up ? IFF_UP : 0, 8);
  header.writeUInt32LE(IFF_UP, 12);
  return { type: RTM_NEWLINK, flags: 0, header, attributes, what };
}

/** The kernel takes it down once it is sure to move: one that may not is left as it was. */
export function moveLink(index: number, name: string, namespaceFd: number): NetlinkMessage {
  return linkMessage(
    index,
    false,
    [
      [IFLA_IFNAME, name],
      [IFLA_NET_NS_FD, namespaceFd],
    ],
    `move an interface to the container as "${name}"`,
  );
}

export function bringUp(index: number): NetlinkMessage {
  return linkMessage(index, true, [], 'bring up a moved interface');
}
