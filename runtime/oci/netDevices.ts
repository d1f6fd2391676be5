/**
 * linux.netDevices (runtime specification 1.3): interfaces of the caller's network namespace that
 * become the container's, with their addresses, up, under the name given. One that cannot be moved
 * fails the creation; what was moved by then goes with the container's namespace.
 */
import { SwarmError } from '../../base/errors.ts';
import { bringUp, keptAddresses, moveLink, putAddress } from '../sys/linkMove.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../sys/netlink.ts';
import { NamespaceDoor, type NetworkNamespace } from '../sys/netns.ts';
import { type Link, listLinks } from '../sys/rtnetlink.ts';
import type { OciConfig } from './config.ts';

const FIELD = 'linux.netDevices';

/** IFNAMSIZ, and what the kernel refuses in a name. */
function isName(name: string): boolean {
  return /^[^\s/:%]{1,15}$/.test(name) && name !== '.' && name !== '..';
}

/** SwarmError invalid names the field. */
export function checkNetDevices({ linux }: OciConfig): void {
  if (linux.netDevices.size === 0) return;
  if (!linux.namespaces.has('network')) {
    throw new SwarmError('invalid', `${FIELD} needs a network namespace of the container’s own`);
  }
  const taken = new Set<string>();
  for (const [device, name] of linux.netDevices) {
    for (const each of [device, name]) {
      if (!isName(each)) throw new SwarmError('invalid', `${FIELD}: "${each}" names no interface`);
    }
    if (taken.has(name)) throw new SwarmError('invalid', `${FIELD}: "${name}" is there twice`);
    taken.add(name);
  }
}

/** Into the network namespace of process `pid`. */
export function moveNetDevices({ linux }: OciConfig, pid: number): void {
  if (linux.netDevices.size === 0) return;
  const door = new NamespaceDoor();
  const target = door.open(`/proc/${pid}/ns/net`);
  const here = new NetlinkSocket(NETLINK_ROUTE);
  const there = target.within(() => new NetlinkSocket(NETLINK_ROUTE));
  try {
    for (const [device, name] of linux.netDevices) moveOne(here, there, target, device, name);
  } finally {
    here.close();
    there.close();
    target.close();
    door.close();
  }
}

function moveOne(
  here: NetlinkSocket,
  there: NetlinkSocket,
  target: NetworkNamespace,
  device: string,
  name: string,
): void {
  const link = named(here, device);
  if (link === undefined) {
    throw new SwarmError('not_found', `${FIELD}: there is no interface "${device}"`);
  }
  if (named(there, name) !== undefined) {
    throw new SwarmError('conflict', `${FIELD}: the container has an interface "${name}" already`);
  }
  const addresses = keptAddresses(here, link.index);
  here.request([moveLink(link.index, name, target.fd)]);
  const moved = named(there, name);
  if (moved === undefined) throw new SwarmError('internal', `${FIELD}: "${name}" is lost`);
  // Down, an interface takes no IPv6 address for good.
  there.request([bringUp(moved.index)]);
  there.request(addresses.map((address) => putAddress(address, moved.index)));
}

function named(socket: NetlinkSocket, name: string): Link | undefined {
  return listLinks(socket).find((link) => link.name === name);
}
