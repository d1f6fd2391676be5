/**
 * Attaches containers: makes the namespace, its interfaces, addresses and default route, its files
 * and its DNS, and takes them away again. Interfaces are never deleted one by one: they go with the
 * namespace. A container that outlived an earlier daemon is adopted from its record.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../sys/netlink.ts';
import {
  isNamespace,
  type NamespaceDoor,
  type NetworkNamespace,
  removeNamespace,
  setNetSysctl,
} from '../sys/netns.ts';
import { addAddress, listLinks, MAIN_TABLE, putRoute, setLink } from '../sys/rtnetlink.ts';
import { freeAddress, gatewayOf, gatewaySubnet, parseSubnet, type Subnet } from './addresses.ts';
import { makeZone, type Transport, type Zone } from './dns.ts';
import { DnsServer, dnsTable, upstreamSocket } from './dnsServer.ts';
import { DnsUpstream } from './dnsUpstream.ts';
import { removeFiles, writeFiles } from './files.ts';
import type { Gateway } from './gateway.ts';
import { BRIDGE_PREFIX, GATEWAY_PREFIX } from './ingress.ts';
import { Nftables } from './nftables.ts';
import { linkName, OVERLAY_PREFIX } from './overlay.ts';
import type { OverlayNetwork } from './overlayNetwork.ts';
import { plugContainer } from './routers.ts';
import type { AttachmentRecord, Records } from './state.ts';
import { createTable } from './table.ts';
import type { Attachment, AttachRequest, OverlayName, OverlayPeer, OverlayState } from './types.ts';

export interface AttacherOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly door: NamespaceDoor;
  readonly gateway: Gateway;
  readonly overlays: ReadonlyMap<string, OverlayNetwork>;
  readonly records: Records<AttachmentRecord>;
  readonly filesRoot: string;
  readonly namespacePath: (containerId: string) => string;
  readonly self: () => OverlayPeer | undefined;
}

/** An interface the container gets. */
interface Interface {
  readonly name: string;
  readonly address: string;
  readonly prefixLength: number;
  readonly mtu: number;
  /** '' unless the default route goes through it. */
  readonly gateway: string;
}

/**
 * One attachment being made. `nonce` makes its interfaces' names: never those of an earlier one.
 */
interface Plan {
  readonly request: AttachRequest;
  readonly networks: readonly OverlayNetwork[];
  readonly namespace: NetworkNamespace;
  readonly nonce: string;
}

interface Held {
  readonly record: AttachmentRecord;
  readonly dns: DnsServer;
}

const NONCE_BYTES = 8;
const CONTAINER_ID = /^[0-9a-f]{12,64}$/;
const IPV6_DEFAULTS = '/proc/sys/net/ipv6/conf/default/disable_ipv6';

/** Inside a container's new namespace: as Docker sets it. */
function prepareContainer(): NetlinkSocket {
  setNetSysctl('ipv4/ip_unprivileged_port_start', 0);
  writeFileSync('/proc/sys/net/ipv4/ping_group_range', '0 2147483647');
  if (existsSync(IPV6_DEFAULTS)) writeFileSync(IPV6_DEFAULTS, '1');
  return new NetlinkSocket(NETLINK_ROUTE);
}

export class Attacher {
  readonly #options: AttacherOptions;
  readonly #upstream: DnsUpstream;
  readonly #held = new Map<string, Held>();
  readonly #zones = new Map<string, { state: OverlayState; zone: Zone }>();

  constructor(options: AttacherOptions) {
    this.#options = options;
    this.#upstream = new DnsUpstream(options.clock, options.random);
  }

  has(containerId: string): boolean {
    return this.#held.has(containerId);
  }

  attachments(): readonly Attachment[] {
    return [...this.#held.values()].map((held) => held.record.attachment);
  }

  /** Serves what an earlier daemon attached; a record whose namespace is gone is dropped. */
  async adopt(): Promise<void> {
    const { records, log, namespacePath } = this.#options;
    for (const [containerId, record] of records.load(log)) {
      const path = namespacePath(containerId);
      const known = record.request.overlays.every((overlay) =>
        this.#options.overlays.has(overlay.networkId),
      );
      if (!isNamespace(path) || !known) {
        this.#forget(containerId);
        continue;
      }
      try {
        await this.#adoptOne(record, path);
      } catch (error) {
        log.error('container network could not be adopted', {
          containerId,
          reason: messageOf(error),
        });
        this.#forget(containerId);
      }
    }
  }

  async #adoptOne(record: AttachmentRecord, path: string): Promise<void> {
    const { request, attachment, bridgeAddress } = record;
    const { containerId } = request;
    const namespace = this.#options.door.open(path);
    try {
      const dns = await this.#openDns(namespace, request, record.dnsPort);
      this.#held.set(containerId, { record, dns });
    } finally {
      namespace.close();
    }
    for (const overlay of request.overlays) {
      const link = linkName(OVERLAY_PREFIX, `${record.nonce} ${overlay.endpointId}`);
      const network = this.#options.overlays.get(overlay.networkId);
      network?.adoptLocal({ id: overlay.endpointId, address: overlay.address, link });
    }
    const { gateway } = this.#options;
    if (attachment.gatewayAddress !== '') {
      const link = linkName(GATEWAY_PREFIX, record.nonce);
      gateway.adoptPort(containerId, { address: attachment.gatewayAddress, link });
    }
    if (bridgeAddress !== '') {
      const link = linkName(BRIDGE_PREFIX, record.nonce);
      gateway.adoptPort(containerId, { address: bridgeAddress, link });
    }
  }

  #forget(containerId: string): void {
    this.#options.records.remove(containerId);
    removeNamespace(this.#options.namespacePath(containerId));
    removeFiles(join(this.#options.filesRoot, containerId));
  }

  async attach(request: AttachRequest): Promise<Attachment> {
    const { containerId } = request;
    const networks = this.#check(request);
    const path = this.#options.namespacePath(containerId);
    removeNamespace(path); // a stray of the same container, made just before a crash
    const { namespace, result: socket } = this.#options.door.create(path, prepareContainer);
    try {
      const nonce = Buffer.from(this.#options.random.bytes(NONCE_BYTES)).toString('hex');
      const plugged = this.#plug({ request, networks, namespace, nonce });
      configure(socket, plugged.interfaces);
      const addresses = plugged.interfaces.map((one) => one.address);
      const files = writeFiles(join(this.#options.filesRoot, containerId), request, addresses);
      const dns = await this.#openDns(namespace, request, 0);
      this.#redirectDns(namespace, dns.port);
      const { gatewayAddress, bridgeAddress } = plugged;
      const attachment = { containerId, namespacePath: path, gatewayAddress, ...files };
      const shared = { format: 1, request, attachment, bridgeAddress } as const;
      const record = { ...shared, nonce, dnsPort: dns.port };
      this.#held.set(containerId, { record, dns });
      this.#zones.clear();
      this.#options.records.save(containerId, record);
      return attachment;
    } catch (error) {
      this.detach(containerId);
      this.#undo(request);
      throw error;
    } finally {
      socket.close();
      namespace.close();
    }
  }

  #check(request: AttachRequest): OverlayNetwork[] {
    const { containerId } = request;
    if (!CONTAINER_ID.test(containerId)) {
      throw new SwarmError('invalid', `container id "${containerId}" is not hex`);
    }
    if (this.#held.has(containerId)) {
      throw new SwarmError('conflict', `container ${containerId} is attached already`);
    }
    if (request.gateway && this.#options.self() === undefined) {
      throw new SwarmError('not_manager', 'this host is not part of a swarm: it has no gateway');
    }
    return request.overlays.map(({ networkId }) => {
      const network = this.#options.overlays.get(networkId);
      if (network !== undefined) return network;
      throw new SwarmError('not_found', `network ${networkId} is not known on this host yet`);
    });
  }

  /** Makes every interface pair; the container's ends are still down and without address. */
  #plug(plan: Plan): { interfaces: Interface[]; gatewayAddress: string; bridgeAddress: string } {
    const { request, networks, namespace } = plan;
    const interfaces: Interface[] = [];
    request.overlays.forEach((overlay, at) => {
      const network = networks[at];
      const { address, endpointId } = overlay;
      const { prefixLength } = parseSubnet(network.state.subnet);
      const inside = { name: `eth${interfaces.length}`, address, mtu: network.mtu };
      const link = linkName(OVERLAY_PREFIX, `${plan.nonce} ${endpointId}`);
      plugContainer(network.space, link, namespace.fd, inside);
      network.addLocal({ id: endpointId, address, link });
      interfaces.push({ ...inside, prefixLength, gateway: '' });
    });
    const self = this.#options.self();
    let gatewayAddress = '';
    let bridgeAddress = '';
    if (request.gateway && self !== undefined) {
      const subnet = gatewaySubnet(self.hostIndex);
      gatewayAddress = this.#plugGateway(plan, GATEWAY_PREFIX, subnet, interfaces);
    } else if (request.defaultBridge) {
      const subnet = parseSubnet(this.#options.gateway.bridgeSubnet);
      bridgeAddress = this.#plugGateway(plan, BRIDGE_PREFIX, subnet, interfaces);
    }
    return { interfaces, gatewayAddress, bridgeAddress };
  }

  #plugGateway(plan: Plan, prefix: string, subnet: Subnet, interfaces: Interface[]): string {
    const { gateway } = this.#options;
    const address = freeAddress(subnet, gateway.addressesInUse);
    const link = linkName(prefix, plan.nonce);
    const inside = { name: `eth${interfaces.length}`, address, mtu: gateway.mtu };
    plugContainer(gateway.space, link, plan.namespace.fd, inside);
    gateway.addPort(plan.request.containerId, { address, link });
    const { prefixLength } = subnet;
    interfaces.push({ ...inside, prefixLength, gateway: gatewayOf(subnet) });
    return address;
  }

  #openDns(namespace: NetworkNamespace, request: AttachRequest, port: number): Promise<DnsServer> {
    const { clock, random } = this.#options;
    return DnsServer.open(namespace, port, {
      clock,
      random,
      upstream: this.#upstream,
      zones: () => this.#zonesOf(request),
      own: {
        addresses: request.dns.servers,
        open: (transport, server) => this.#openInside(request, transport, server),
      },
    });
  }

  #openInside(request: AttachRequest, transport: Transport, server: string): number {
    const namespace = this.#options.door.open(this.#options.namespacePath(request.containerId));
    try {
      return namespace.within(() => upstreamSocket(transport, server));
    } finally {
      namespace.close();
    }
  }

  #redirectDns(namespace: NetworkNamespace, port: number): void {
    const nftables = new Nftables(namespace);
    try {
      nftables.run(createTable(dnsTable(port)));
    } finally {
      nftables.close();
    }
  }

  #zonesOf(request: AttachRequest): Zone[] {
    const zones: Zone[] = [];
    for (const { networkId } of request.overlays) {
      const state = this.#options.overlays.get(networkId)?.state;
      if (state === undefined) continue;
      let cached = this.#zones.get(networkId);
      if (cached?.state !== state) {
        const names = [...state.names, ...this.#aliases(state)];
        cached = { state, zone: makeZone(state.name, names) };
        this.#zones.set(networkId, cached);
      }
      zones.push(cached.zone);
    }
    return zones;
  }

  /** Aliases of containers here that the network's own names do not have. */
  #aliases(state: OverlayState): OverlayName[] {
    const known = new Set(state.names.map((entry) => entry.name));
    const aliases = new Map<string, string[]>();
    for (const { record } of this.#held.values()) {
      for (const overlay of record.request.overlays) {
        if (overlay.networkId !== state.networkId) continue;
        for (const alias of overlay.aliases.filter((name) => !known.has(name))) {
          aliases.set(alias, [...(aliases.get(alias) ?? []), overlay.address]);
        }
      }
    }
    return [...aliases].map(([name, addresses]) => ({ name, addresses }));
  }

  detach(containerId: string): void {
    const held = this.#held.get(containerId);
    if (held === undefined) return;
    held.dns.close();
    this.#held.delete(containerId);
    this.#zones.clear();
    this.#undo(held.record.request);
  }

  /** Every step may find nothing to do: it undoes whatever part of an attachment there is. */
  #undo(request: AttachRequest): void {
    const { containerId } = request;
    try {
      for (const { networkId, endpointId } of request.overlays) {
        this.#options.overlays.get(networkId)?.removeLocal(endpointId);
      }
      this.#options.gateway.removePort(containerId);
    } finally {
      this.#forget(containerId);
    }
  }

  close(): void {
    for (const held of this.#held.values()) held.dns.close();
    this.#held.clear();
  }
}

/** Brings the container's interfaces up, with addresses and the default route. */
function configure(socket: NetlinkSocket, interfaces: readonly Interface[]): void {
  const indexes = new Map(listLinks(socket).map((link) => [link.name, link.index]));
  const messages = [setLink('lo', {})];
  for (const { name, address, prefixLength, gateway } of interfaces) {
    const linkIndex = indexes.get(name);
    if (linkIndex === undefined) throw new SwarmError('internal', `interface ${name} is missing`);
    messages.push(addAddress(linkIndex, address, prefixLength), setLink(name, {}));
    if (gateway === '') continue;
    const route = { destination: '0.0.0.0', prefixLength: 0, linkIndex, gateway, source: '' };
    messages.push(putRoute({ ...route, table: MAIN_TABLE }));
  }
  socket.request(messages);
}
