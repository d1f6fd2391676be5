/**
 * The forwarding state of one of our namespaces as a value: addresses, routes, tunnel neighbours,
 * forwarding entries and mark rules. `diffFabric` is pure: what is there and what shall be there
 * in, kernel messages out, ordered so that nothing points at what is not there yet. `readFabric`
 * takes the kernel's state in the same form, which is how reconcile and adoption work.
 */
import { AF_INET, AF_INET6, addressBits, canonicalAddress } from '../../base/ipAddress.ts';
import type { NetlinkMessage, NetlinkSocket } from '../sys/netlink.ts';
import {
  addRule,
  deleteForwarding,
  deleteNeighbour,
  deleteProxy,
  deleteRule,
  listMarkRules,
  listNeighbours,
  listProxies,
  putForwarding,
  putNeighbour,
  putProxy,
} from '../sys/rtneighbour.ts';
import {
  addAddress,
  deleteAddress,
  deleteRoute,
  listAddresses,
  listLinks,
  listRoutes,
  MAIN_TABLE,
  putRoute,
  type Route,
} from '../sys/rtnetlink.ts';

/** Mark rules of ours have this priority; a rule's table is TABLE_BASE plus the mark. */
const RULE_PRIORITY = 1000;
const TABLE_BASE = 100_000;
/** The kernel's key for a VXLAN device's default destination, which ours do not have. */
const BROADCAST_ENTRY = '00:00:00:00:00:00';
/** Loopback and link-local addresses come and go with their links. */
const OF_THE_KERNEL = /^(127\.|::1$|fe80:)/;

export interface FabricRoute {
  /** CIDR. */
  readonly destination: string;
  /** '' = on the link itself. */
  readonly gateway: string;
  readonly link: string;
  readonly source: string;
  /** 0 = the main table, else the table that packets with this mark use. */
  readonly mark: number;
}

export interface Fabric {
  /** 'link address/len'. */
  readonly addresses: ReadonlySet<string>;
  /** By routeKey. */
  readonly routes: ReadonlyMap<string, FabricRoute>;
  /** 'link address' -> MAC. */
  readonly neighbours: ReadonlyMap<string, string>;
  /** 'link MAC' -> underlay address. */
  readonly forwarding: ReadonlyMap<string, string>;
  /** 'link address': IPv6 addresses that the link answers for. (ARP is answered by route.) */
  readonly proxies: ReadonlySet<string>;
  /** Marks that have a table of their own. */
  readonly marks: ReadonlySet<number>;
}

export const EMPTY_FABRIC: Fabric = {
  addresses: new Set(),
  routes: new Map(),
  neighbours: new Map(),
  forwarding: new Map(),
  proxies: new Set(),
  marks: new Set(),
};

export class FabricBuilder implements Fabric {
  readonly addresses = new Set<string>();
  readonly routes = new Map<string, FabricRoute>();
  readonly neighbours = new Map<string, string>();
  readonly forwarding = new Map<string, string>();
  readonly proxies = new Set<string>();
  readonly marks = new Set<number>();

  address(link: string, address: string, prefixLength = addressBits(address)): void {
    this.addresses.add(`${link} ${canonicalAddress(address)}/${prefixLength}`);
  }

  /** To a CIDR, or to one address. */
  route(destination: string, link: string, more: Partial<FabricRoute> = {}): void {
    const [address, length = `${addressBits(destination)}`] = destination.split('/');
    const canonical = `${canonicalAddress(address)}/${length}`;
    const route = { destination: canonical, link, gateway: '', source: '', mark: 0, ...more };
    this.routes.set(routeKey(route), route);
  }

  neighbour(link: string, address: string, mac: string): void {
    this.neighbours.set(`${link} ${canonicalAddress(address)}`, mac);
  }

  proxy(link: string, address: string): void {
    this.proxies.add(`${link} ${canonicalAddress(address)}`);
  }

  forward(link: string, mac: string, underlay: string): void {
    this.forwarding.set(`${link} ${mac}`, underlay);
  }
}

export function routeKey(route: FabricRoute): string {
  return `${route.destination} ${route.mark}`;
}

function sameRoute(left: FabricRoute, right: FabricRoute | undefined): boolean {
  return (
    right !== undefined &&
    left.gateway === right.gateway &&
    left.link === right.link &&
    left.source === right.source
  );
}

function toRoute(route: FabricRoute, links: ReadonlyMap<string, number>): Route | undefined {
  const linkIndex = links.get(route.link);
  if (linkIndex === undefined) return undefined;
  const [destination, length] = route.destination.split('/');
  return {
    destination,
    prefixLength: Number(length),
    gateway: route.gateway,
    linkIndex,
    source: route.source,
    table: route.mark === 0 ? MAIN_TABLE : TABLE_BASE + route.mark,
  };
}

function entries<V>(
  before: ReadonlyMap<string, V>,
  after: ReadonlyMap<string, V>,
  same: (left: V, right: V | undefined) => boolean,
): { put: [string, V][]; drop: [string, V][] } {
  return {
    put: [...after].filter(([key, value]) => !same(value, before.get(key))),
    drop: [...before].filter(([key]) => !after.has(key)),
  };
}

const sameText = (left: string, right: string | undefined): boolean => left === right;

/**
 * The messages that turn `before` into `after`. `links` maps names to indexes; what belongs to a
 * link that is gone is left out, since the kernel dropped it with the link.
 */
export function diffFabric(
  before: Fabric,
  after: Fabric,
  links: ReadonlyMap<string, number>,
): NetlinkMessage[] {
  const puts: NetlinkMessage[] = [];
  const drops: NetlinkMessage[] = [];
  const each = (key: string, act: (index: number, rest: string) => void): void => {
    const space = key.indexOf(' ');
    const index = links.get(key.slice(0, space));
    if (index !== undefined) act(index, key.slice(space + 1));
  };
  for (const key of after.addresses) {
    if (before.addresses.has(key)) continue;
    each(key, (index, rest) => puts.push(addAddress(index, ...splitPrefix(rest))));
  }
  for (const key of before.addresses) {
    if (after.addresses.has(key)) continue;
    each(key, (index, rest) => drops.push(deleteAddress(index, ...splitPrefix(rest))));
  }
  const forwarding = entries(before.forwarding, after.forwarding, sameText);
  for (const [key, remote] of forwarding.put) {
    each(key, (index, mac) => puts.push(putForwarding(index, mac, remote)));
  }
  const neighbours = entries(before.neighbours, after.neighbours, sameText);
  for (const [key, mac] of neighbours.put) {
    each(key, (index, address) => puts.push(putNeighbour(index, address, mac)));
  }
  for (const key of after.proxies) {
    if (before.proxies.has(key)) continue;
    each(key, (index, address) => puts.push(putProxy(index, address)));
  }
  for (const key of before.proxies) {
    if (after.proxies.has(key)) continue;
    each(key, (index, address) => drops.push(deleteProxy(index, address)));
  }
  const routes = entries(before.routes, after.routes, sameRoute);
  for (const [, route] of routes.put) {
    const message = toRoute(route, links);
    if (message !== undefined) puts.push(putRoute(message));
  }
  for (const [, route] of routes.drop) {
    const message = toRoute(route, links);
    if (message !== undefined) drops.push(deleteRoute(message));
  }
  for (const [key] of neighbours.drop) {
    each(key, (index, address) => drops.push(deleteNeighbour(index, address)));
  }
  for (const [key] of forwarding.drop) {
    each(key, (index, mac) => drops.push(deleteForwarding(index, mac)));
  }
  for (const mark of after.marks) if (!before.marks.has(mark)) puts.push(addRule(ruleOf(mark)));
  for (const mark of before.marks)
    if (!after.marks.has(mark)) drops.unshift(deleteRule(ruleOf(mark)));
  return [...puts, ...drops];
}

function ruleOf(mark: number): { priority: number; mark: number; table: number } {
  return { priority: RULE_PRIORITY, mark, table: TABLE_BASE + mark };
}

function splitPrefix(text: string): [string, number] {
  const [address, length] = text.split('/');
  return [address, Number(length)];
}

/** Names of the links of the socket's namespace -> their indexes. */
export function linkIndexes(socket: NetlinkSocket): Map<string, number> {
  return new Map(listLinks(socket).map((link) => [link.name, link.index]));
}

export interface FabricReading {
  readonly owned: (link: string) => boolean;
  readonly withRules: boolean;
  readonly withIpv6: boolean;
}

/** Whether anything in it is of IPv6. */
export function usesIpv6(fabric: Fabric): boolean {
  return (
    fabric.proxies.size > 0 ||
    [...fabric.addresses].some((key) => key.includes(':')) ||
    [...fabric.routes.keys()].some((key) => key.includes(':'))
  );
}

/** Ours among the kernel's state: what concerns the owned links, and mark rules if asked for. */
export function readFabric(
  socket: NetlinkSocket,
  links: ReadonlyMap<string, number>,
  reading: FabricReading,
): Fabric {
  const names = new Map<number, string>();
  for (const [name, index] of links) if (reading.owned(name)) names.set(index, name);
  const fabric = new FabricBuilder();
  readFamily(fabric, socket, names, AF_INET);
  if (reading.withIpv6) readFamily(fabric, socket, names, AF_INET6);
  for (const { index, address, mac } of listNeighbours(socket, 'bridge')) {
    const link = names.get(index);
    if (link !== undefined && mac !== BROADCAST_ENTRY) fabric.forward(link, mac, address);
  }
  for (const rule of reading.withRules ? listMarkRules(socket) : []) {
    if (rule.priority === RULE_PRIORITY) fabric.marks.add(rule.mark);
  }
  return fabric;
}

function readFamily(
  fabric: FabricBuilder,
  socket: NetlinkSocket,
  names: ReadonlyMap<number, string>,
  family: number,
): void {
  for (const { index, address, prefixLength } of listAddresses(socket, family)) {
    const link = names.get(index);
    if (link !== undefined && !OF_THE_KERNEL.test(address)) {
      fabric.address(link, address, prefixLength);
    }
  }
  for (const route of listRoutes(socket, family)) {
    const link = names.get(route.linkIndex);
    const isOurs = route.table === MAIN_TABLE || route.table > TABLE_BASE;
    if (link === undefined || !isOurs) continue;
    const { gateway, source } = route;
    const mark = route.table === MAIN_TABLE ? 0 : route.table - TABLE_BASE;
    fabric.route(`${route.destination}/${route.prefixLength}`, link, { gateway, source, mark });
  }
  for (const { index, address, mac } of listNeighbours(socket, family === AF_INET ? 'ip' : 'ip6')) {
    const link = names.get(index);
    if (link !== undefined) fabric.neighbour(link, address, mac);
  }
  for (const { index, address } of family === AF_INET6 ? listProxies(socket) : []) {
    const link = names.get(index);
    if (link !== undefined) fabric.proxy(link, address);
  }
}
