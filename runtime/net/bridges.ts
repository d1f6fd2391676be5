/**
 * The bridge networks of this host: kept in the data root, made in the gateway's namespace at start
 * and on demand, with who is on each. The default one ('bridge') is always there. Addresses on them
 * are given out here. What they look like is in bridge.ts; the gateway applies it.
 */
import { SwarmError } from '../../base/errors.ts';
import { canonicalAddress } from '../../base/ipAddress.ts';
import { checkedAddress, freeIn, parseRange, uniqueLocalSubnet } from '../../base/ipRange.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { enableIpv6, hasIpv6Support, setNetSysctl } from '../sys/netns.ts';
import { addBridge, deleteLink, isolatePort, setLink } from '../sys/rtnetlink.ts';
import { endpointMac } from './addresses.ts';
import {
  type BridgeOptions,
  type BridgePort,
  type BridgeView,
  bridgeMac,
  bridgeOptions,
  DEFAULT_BRIDGE,
  fillBridge,
  type Taken,
} from './bridge.ts';
import type { Space } from './space.ts';
import type { BridgeRecord, Records } from './state.ts';
import type { BridgeNetwork, EndpointRequest } from './types.ts';

const ID_BYTES = 32;
/** Bridges of one host: each is an interface and a row in every table. */
const BRIDGES_MAX = 1024;
const MAC_ADDRESS = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/;
const MULTICAST_BIT = 1;

export interface BridgesOptions {
  readonly records: Records<BridgeRecord>;
  readonly random: Random;
  readonly log: Log;
  /** Of others than the bridges. */
  readonly taken: () => Taken;
  /** Makes the kernel equal to what the bridges are now. */
  readonly apply: () => void;
  /** For bridges whose options say nothing. */
  readonly mtu: () => number;
}

/** SwarmError invalid. Lower case. */
export function checkedMac(macAddress: string): string {
  const mac = macAddress.toLowerCase().replaceAll('-', ':');
  const first = Number.parseInt(mac.slice(0, 2), 16);
  if (MAC_ADDRESS.test(mac) && (first & MULTICAST_BIT) === 0) return mac;
  throw new SwarmError('invalid', `"${macAddress}" is not a MAC address like 02:42:ac:11:00:02`);
}

interface Held {
  readonly network: BridgeNetwork;
  readonly ports: Map<string, BridgePort>;
}

export class Bridges {
  readonly #options: BridgesOptions;
  readonly #held = new Map<string, Held>();

  constructor(options: BridgesOptions) {
    this.#options = options;
    for (const { network } of options.records.load(options.log).values()) {
      this.#held.set(network.networkId, { network, ports: new Map() });
    }
    if (this.find(DEFAULT_BRIDGE) === undefined) this.#addDefault();
  }

  #addDefault(): void {
    const { random, records, taken } = this.#options;
    const networkId = Buffer.from(random.bytes(ID_BYTES)).toString('hex');
    const network = fillBridge(
      { networkId, name: DEFAULT_BRIDGE, subnets: [], internal: false, options: {} },
      this.#allTaken(taken()),
      uniqueLocalSubnet(networkId),
    );
    records.save(networkId, { format: 1, network });
    this.#held.set(networkId, { network, ports: new Map() });
  }

  /** By id or name. */
  find(networkId: string): BridgeNetwork | undefined {
    const byId = this.#held.get(networkId)?.network;
    return byId ?? this.list().find((network) => network.name === networkId);
  }

  /** The default one first. */
  list(): BridgeNetwork[] {
    const all = [...this.#held.values()].map((held) => held.network);
    const rank = (network: BridgeNetwork): number => (network.name === DEFAULT_BRIDGE ? 0 : 1);
    return all.sort((left, right) => rank(left) - rank(right));
  }

  views(): BridgeView[] {
    return this.list().map((network) => ({
      network,
      ports: [...(this.#held.get(network.networkId)?.ports.values() ?? [])],
    }));
  }

  #allTaken(others: Taken): Taken {
    const ours = this.list().flatMap((network) =>
      network.subnets.map((one) => ({
        range: parseRange(one.subnet),
        name: `network ${network.name}`,
      })),
    );
    return { networks: [...ours, ...others.networks], routes: others.routes };
  }

  create(wanted: BridgeNetwork, space: Space): BridgeNetwork {
    const { networkId, name } = wanted;
    if (this.#held.has(networkId)) {
      throw new SwarmError('conflict', `network ${networkId} exists already`);
    }
    if (this.list().some((network) => network.name === name)) {
      throw new SwarmError('conflict', `network with name ${name} already exists`);
    }
    if (this.#held.size >= BRIDGES_MAX) {
      throw new SwarmError('exhausted', `this host has ${BRIDGES_MAX} bridge networks already`);
    }
    const link = bridgeOptions(wanted).link;
    if (space.hasLink(link)) {
      throw new SwarmError('conflict', `networks have same bridge name: ${link} is another's`);
    }
    const taken = this.#allTaken(this.#options.taken());
    const network = fillBridge(wanted, taken, uniqueLocalSubnet(networkId));
    this.#held.set(networkId, { network, ports: new Map() });
    try {
      this.ensureLinks(space);
      this.#options.apply();
      this.#options.records.save(networkId, { format: 1, network });
    } catch (error) {
      this.#drop(network, space);
      throw error;
    }
    return network;
  }

  remove(networkId: string, space: Space): void {
    const network = this.find(networkId);
    if (network === undefined) {
      throw new SwarmError('not_found', `network ${networkId} not found`);
    }
    if (network.name === DEFAULT_BRIDGE) {
      throw new SwarmError(
        'forbidden',
        `${network.name} is a pre-defined network and cannot be removed`,
      );
    }
    const users = this.#held.get(network.networkId)?.ports.size ?? 0;
    if (users > 0) {
      throw new SwarmError('conflict', `network ${network.name} has ${users} active endpoint(s)`);
    }
    this.#drop(network, space);
  }

  #drop(network: BridgeNetwork, space: Space): void {
    this.#held.delete(network.networkId);
    this.#options.records.remove(network.networkId);
    this.#options.apply();
    const { link } = bridgeOptions(network);
    if (!space.hasLink(link)) return;
    space.netlink.request([deleteLink(link)]);
    space.refreshLinks();
  }

  mtuOf(network: BridgeNetwork): number {
    return bridgeOptions(network).mtu || this.#options.mtu();
  }

  /** Makes the bridges that are not there, and gives each its ports back; true if any was made. */
  ensureLinks(space: Space): boolean {
    let made = false;
    for (const { network, ports } of this.#held.values()) {
      const { link, mtu, icc } = bridgeOptions(network);
      if (space.hasLink(link)) continue;
      const isIpv6 = network.subnets.some((one) => one.subnet.includes(':'));
      space.netlink.request([
        addBridge({ name: link, mac: bridgeMac(network), mtu: mtu || this.#options.mtu() }),
      ]);
      space.namespace.within(() => prepareBridge(link, isIpv6));
      space.refreshLinks();
      const master = space.linkIndex(link);
      const there = [...ports.values()].filter((port) => space.hasLink(port.link));
      space.netlink.request(there.map((port) => setLink(port.link, { master })));
      if (!icc) space.netlink.request(there.map((port) => isolatePort(port.link)));
      space.forgetFabric();
      made = true;
    }
    return made;
  }

  /** The endpoint's addresses, checked or chosen. SwarmError invalid, conflict, exhausted. */
  choose(network: BridgeNetwork, request: EndpointRequest): Omit<BridgePort, 'link'> {
    const ports = [...(this.#held.get(network.networkId)?.ports.values() ?? [])];
    const used = new Set(ports.flatMap((port) => [port.address, port.address6]));
    const chosen = network.subnets.map(({ subnet, gateway, range, reserved }) => {
      const wanted = subnet.includes(':') ? request.address6 : request.address;
      for (const each of [gateway, ...Object.values(reserved ?? {})]) used.add(each);
      if (wanted === '') {
        const within = parseRange(range === '' ? subnet : range);
        return freeIn(within, parseRange(subnet), used);
      }
      const address = checkedAddress(subnet, wanted, 'address');
      if (!used.has(address)) return address;
      throw new SwarmError('conflict', `Address already in use: ${address} on ${network.name}`);
    });
    const address = chosen.find((one) => !one.includes(':')) ?? '';
    const address6 = chosen.find((one) => one.includes(':')) ?? '';
    if (request.address6 !== '' && address6 === '') {
      throw new SwarmError('invalid', `network ${network.name} has no IPv6 subnet`);
    }
    const { macAddress } = request;
    const mac = macAddress === '' ? endpointMac(address) : checkedMac(macAddress);
    return { address, address6: address6 && canonicalAddress(address6), macAddress: mac };
  }

  addPort(networkId: string, key: string, port: BridgePort): void {
    this.#held.get(networkId)?.ports.set(key, port);
  }

  removePort(networkId: string, key: string): void {
    this.#held.get(networkId)?.ports.delete(key);
  }

  /** Outer ends of containers on bridges. */
  links(): string[] {
    return [...this.#held.values()].flatMap(({ ports }) =>
      [...ports.values()].map((port) => port.link),
    );
  }

  optionsOf(network: BridgeNetwork): BridgeOptions {
    return bridgeOptions(network);
  }
}

/** In the gateway's namespace: it answers at once for the gateway's address, the host's own. */
function prepareBridge(link: string, isIpv6: boolean): void {
  setNetSysctl(`ipv4/neigh/${link}/proxy_delay`, 0);
  if (!isIpv6 || !hasIpv6Support()) return;
  setNetSysctl('ipv6/conf/all/forwarding', 1);
  setNetSysctl('ipv6/conf/default/forwarding', 1);
  enableIpv6(link);
  setNetSysctl(`ipv6/conf/${link}/proxy_ndp`, 1);
  setNetSysctl(`ipv6/neigh/${link}/proxy_delay`, 0);
}
