/**
 * What is told about changes of links, addresses, routes and rules in one network namespace,
 * whoever makes them. Looked at now and then, without waiting; nothing is decoded beyond which
 * interface a message is about.
 */
import { AF_INET, AF_INET6 } from '../../base/ipAddress.ts';
import { bind, check, close, errno, recv, SOCK_CLOEXEC, SOCK_NONBLOCK, socket } from './libc.ts';
import { decodeAttributes, NETLINK_ROUTE } from './netlink.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const EAGAIN = 11;
const EINTR = 4;
const SOCKADDR_BYTES = 12;
/** RTMGRP_ LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE. */
const GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400;
const HEADER_BYTES = 16;
const DATAGRAM_BYTES = 32 * 1024;
/** Messages looked at in one go; the kernel drops more than its buffer holds, and says so. */
const DATAGRAMS_MAX = 10_000;

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTMSG_BYTES = 12;
const RTA_OIF = 4;
/** For messages that are about no interface: rules, routes that only drop. */
export const NO_INTERFACE = 0;

function interfaceOf(type: number, payload: Buffer): number {
  if (type === RTM_NEWLINK || type === RTM_DELLINK) return payload.readInt32LE(4);
  if (type === RTM_NEWADDR || type === RTM_DELADDR) return payload.readUInt32LE(4);
  if (type !== RTM_NEWROUTE && type !== RTM_DELROUTE) return NO_INTERFACE;
  if (payload[0] !== AF_INET && payload[0] !== AF_INET6) return NO_INTERFACE;
  return decodeAttributes(payload, RTMSG_BYTES).get(RTA_OIF)?.readInt32LE(0) ?? NO_INTERFACE;
}

export class RouteWatch {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(DATAGRAM_BYTES);

  /** Of the namespace that the calling thread is in. Throws SwarmError internal. */
  constructor() {
    const type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
    this.#fd = check(socket(AF_NETLINK, type, NETLINK_ROUTE), 'cannot open a netlink socket');
    const address = Buffer.alloc(SOCKADDR_BYTES);
    address.writeUInt16LE(AF_NETLINK, 0);
    address.writeUInt32LE(GROUPS, 8);
    check(bind(this.#fd, address, address.length), 'cannot watch a network namespace');
  }

  /**
   * Interfaces that something has changed about since the last call; undefined when there was more
   * than the kernel could keep: then anything may have changed.
   */
  take(): Set<number> | undefined {
    const found = new Set<number>();
    for (let count = 0; count < DATAGRAMS_MAX; count += 1) {
      const length = recv(this.#fd, this.#buffer, this.#buffer.length, 0);
      if (length < 0) {
        const code = errno();
        if (code === EINTR) continue;
        return code === EAGAIN ? found : undefined;
      }
      for (let at = 0; at + HEADER_BYTES <= length; ) {
        const size = this.#buffer.readUInt32LE(at);
        if (size < HEADER_BYTES || at + size > length) break;
        const type = this.#buffer.readUInt16LE(at + 4);
        found.add(interfaceOf(type, this.#buffer.subarray(at + HEADER_BYTES, at + size)));
        at += (size + 3) & ~3;
      }
    }
    return undefined;
  }

  close(): void {
    close(this.#fd);
  }
}
