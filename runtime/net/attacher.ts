/**
 * Attaches containers: makes the namespace, its interfaces, addresses and default route, its files
 * and its DNS, and takes them away again; connects running ones to further networks. With a
 * container its interfaces go with the namespace, never one by one. A container that outlived an
 * earlier daemon is adopted from its record.
 */
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { close } from '../sys/libc.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../sys/netlink.ts';
import {
  isNamespace,
  type NamespaceDoor,
  type NetworkNamespace,
  removeNamespace,
} from '../sys/netns.ts';
import { disablePort } from '../sys/rtnetlink.ts';
import { gatewaySubnet } from './addresses.ts';
import { DEFAULT_BRIDGE } from './bridge.ts';
import type { Bridges } from './bridges.ts';
import { ContainerDns, type DnsSubject } from './containerDns.ts';
import type { DnsServer, DnsSockets, KeptSockets } from './dnsServer.ts';
import { followed, removeFiles, writeFiles } from './files.ts';
import type { Gateway } from './gateway.ts';
import type { Forward } from './hostTable.ts';
import type { OverlayNetwork } from './overlayNetwork.ts';
import {
  configurePlugs,
  nextDevice,
  type OverlayRequest,
  type Plug,
  plugBridge,
  plugGateway,
  plugOverlay,
  prepareContainer,
  toEndpoint,
  unplug,
  wayOut,
} from './plugs.ts';
import type { Ports } from './ports.ts';
import type { AttachmentRecord, Records } from './state.ts';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  Endpoint,
  EndpointRequest,
  OverlayPeer,
  PublishedPort,
} from './types.ts';
import { Zones } from './zones.ts';

export interface AttacherOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly door: NamespaceDoor;
  readonly gateway: Gateway;
  readonly overlays: ReadonlyMap<string, OverlayNetwork>;
  readonly bridges: Bridges;
  readonly ports: Ports;
  readonly records: Records<AttachmentRecord>;
  readonly filesRoot: string;
  readonly namespacePath: (containerId: string) => string;
  readonly self: () => OverlayPeer | undefined;
}

/** What is being made: filled interface by interface, so that all of it can be undone. */
interface Plan {
  readonly containerId: string;
  readonly namespace: NetworkNamespace;
  /** Makes the names of outer ends: never those of an earlier attachment. */
  readonly nonce: string;
  readonly plugs: Plug[];
}

interface Held {
  record: AttachmentRecord;
  readonly dns: DnsServer;
}

const NONCE_BYTES = 8;
const CONTAINER_ID = /^[0-9a-f]{12,64}$/;

/** An endpoint of a container on a bridge, among the bridge's ports. */
function portKey(containerId: string, networkId: string): string {
  return `${containerId} ${networkId}`;
}

function addressesOf(plugs: readonly Plug[]): string[] {
  return plugs.flatMap((plug) => [plug.address, plug.address6]).filter((one) => one !== '');
}

export class Attacher {
  readonly #options: AttacherOptions;
  readonly #dns: ContainerDns;
  readonly #held = new Map<string, Held>();
  readonly #zones: Zones;

  constructor(options: AttacherOptions) {
    this.#options = options;
    this.#dns = new ContainerDns(options);
    const { overlays, bridges } = options;
    this.#zones = new Zones({ overlays, bridges, records: () => this.#records() });
  }

  #records(): AttachmentRecord[] {
    return [...this.#held.values()].map((held) => held.record);
  }

  has(containerId: string): boolean {
    return this.#held.has(containerId);
  }

  attachments(): readonly Attachment[] {
    return this.#records().map((record) => record.attachment);
  }

  endpoints(containerId: string): readonly Endpoint[] {
    const plugs = this.#held.get(containerId)?.record.plugs ?? [];
    return plugs.filter((plug) => plug.kind !== 'gateway').map(toEndpoint);
  }

  /** Where a container's published ports lead to, '' = nowhere. */
  publishedAddress(containerId: string): string {
    return wayOut(this.#held.get(containerId)?.record.plugs ?? [])?.address ?? '';
  }

  /** Published ports with where they lead to: the way out of their container. */
  forwards(): Forward[] {
    return this.#records().flatMap(({ ports, plugs }) => {
      const way = wayOut(plugs);
      if (way === undefined) return [];
      const { address, address6 } = way;
      return ports.map((port) => ({ ...port, address, address6 }));
    });
  }

  /** Serves what an earlier daemon attached; a record whose namespace is gone is dropped. */
  async adopt(kept: readonly KeptSockets[]): Promise<void> {
    const unused = new Map(kept.map((one) => [one.containerId, one]));
    const { records, log, namespacePath, overlays, bridges } = this.#options;
    for (const [containerId, record] of records.load(log)) {
      const path = namespacePath(containerId);
      try {
        const known = record.plugs.every(
          ({ kind, networkId }) =>
            kind === 'gateway' ||
            (kind === 'overlay' ? overlays.has(networkId) : bridges.find(networkId) !== undefined),
        );
        if (isNamespace(path) && known) {
          const sockets = { port: record.dnsPort, kept: unused.get(containerId) };
          unused.delete(containerId);
          await this.#adoptOne(record, path, sockets);
        } else {
          this.#forget(containerId);
        }
      } catch (error) {
        log.error('container network could not be adopted', {
          containerId,
          reason: messageOf(error),
        });
        this.#forget(containerId);
      }
    }
    for (const { udp, tcp } of unused.values()) for (const fd of [udp, tcp]) close(fd);
  }

  /** Copies, for whoever keeps them open beyond this process. */
  sockets(containerId: string): readonly number[] {
    return this.#held.get(containerId)?.dns.copies() ?? [];
  }

  async #adoptOne(record: AttachmentRecord, path: string, sockets: DnsSockets): Promise<void> {
    const { containerId, name = '' } = record.request;
    const namespace = this.#options.door.open(path);
    try {
      const subject = this.#dnsSubject(record.request);
      const dns = await this.#dns.adopt(namespace, subject, sockets);
      this.#held.set(containerId, { record, dns });
    } finally {
      namespace.close();
    }
    for (const plug of record.plugs) {
      if (plug.kind === 'overlay') {
        this.#options.overlays.get(plug.networkId)?.adoptLocal({ ...plug, id: plug.endpointId });
      } else if (plug.kind === 'gateway') {
        this.#options.gateway.adoptPort(containerId, plug);
      } else {
        this.#options.bridges.addPort(plug.networkId, portKey(containerId, plug.networkId), plug);
      }
    }
    this.#options.ports.adopt({ containerId, name }, record.ports);
  }

  #forget(containerId: string): void {
    this.#options.records.remove(containerId);
    this.#options.ports.release(containerId);
    removeNamespace(this.#options.namespacePath(containerId));
    removeFiles(join(this.#options.filesRoot, containerId));
  }

  async attach(request: AttachRequest): Promise<Attachment> {
    const { containerId, name = '' } = request;
    this.#check(request);
    const ports = this.#options.ports.claim({ containerId, name }, this.#bound(request));
    const path = this.#options.namespacePath(containerId);
    removeNamespace(path); // a stray of the same container, made just before a crash
    const { namespace, result: socket } = this.#create(containerId, path);
    const nonce = Buffer.from(this.#options.random.bytes(NONCE_BYTES)).toString('hex');
    const plan: Plan = { containerId, namespace, nonce, plugs: [] };
    try {
      this.#plugAll(plan, request);
      configurePlugs(namespace, socket, plan.plugs, plan.plugs);
      const addresses = addressesOf(plan.plugs);
      const files = writeFiles(join(this.#options.filesRoot, containerId), request, addresses);
      const dns = await this.#dns.open(namespace, this.#dnsSubject(request));
      const way = plan.plugs.find((plug) => plug.kind === 'gateway');
      const gatewayAddress = way?.address ?? '';
      const attachment = { containerId, namespacePath: path, gatewayAddress, ports, ...files };
      const made = { attachment, plugs: plan.plugs, ports, nonce, dnsPort: dns.port };
      const record: AttachmentRecord = { format: 1, request, ...made };
      this.#held.set(containerId, { record, dns });
      this.#zones.forget();
      if (ports.length > 0) this.#options.gateway.refreshForwards();
      this.#options.records.save(containerId, record);
      return attachment;
    } catch (error) {
      this.detach(containerId);
      this.#undo(containerId, plan.plugs);
      throw error;
    } finally {
      socket.close();
      namespace.close();
    }
  }

  #create(
    containerId: string,
    path: string,
  ): { namespace: NetworkNamespace; result: NetlinkSocket } {
    try {
      return this.#options.door.create(path, prepareContainer);
    } catch (error) {
      this.#options.ports.release(containerId);
      throw error;
    }
  }

  #check(request: AttachRequest): void {
    const { containerId, overlays, bridges = [] } = request;
    if (!CONTAINER_ID.test(containerId)) {
      throw new SwarmError('invalid', `container id "${containerId}" is not hex`);
    }
    if (this.#held.has(containerId)) {
      throw new SwarmError('conflict', `container ${containerId} is attached already`);
    }
    if (request.gateway && this.#options.self() === undefined) {
      throw new SwarmError('not_manager', 'this host is not part of a swarm: it has no gateway');
    }
    for (const { networkId } of overlays) this.#overlay(networkId);
    for (const { networkId } of bridges) this.#bridge(networkId);
  }

  #overlay(networkId: string): OverlayNetwork {
    const network = this.#options.overlays.get(networkId);
    if (network !== undefined) return network;
    throw new SwarmError('not_found', `network ${networkId} is not known on this host yet`);
  }

  #bridge(networkId: string): BridgeNetwork {
    const network = this.#options.bridges.find(networkId);
    if (network !== undefined) return network;
    throw new SwarmError('not_found', `network ${networkId} not found`);
  }

  /** Ports with the address that their bridge binds by default. */
  #bound(request: AttachRequest): readonly PublishedPort[] {
    const first = request.bridges?.[0];
    const ports = request.ports ?? [];
    if (first === undefined) return ports;
    const { binding } = this.#options.bridges.optionsOf(this.#bridge(first.networkId));
    return ports.map((port) => ({ ...port, hostAddress: port.hostAddress || binding }));
  }

  #plugAll(plan: Plan, request: AttachRequest): void {
    for (const overlay of request.overlays) this.#plugOverlay(plan, overlay);
    if (request.gateway) this.#plugGateway(plan);
    for (const bridge of request.bridges ?? []) this.#plugBridge(plan, bridge);
    const { containerId, gateway, defaultBridge } = request;
    if (!defaultBridge || gateway) return;
    const shared = { networkId: DEFAULT_BRIDGE, address: '', address6: '', macAddress: '' };
    this.#plugBridge(plan, { ...shared, endpointId: containerId, aliases: [] });
  }

  #plugOverlay(plan: Plan, request: OverlayRequest): void {
    const network = this.#overlay(request.networkId);
    const { namespace, nonce, plugs } = plan;
    const plug = plugOverlay({ network, namespace, request, device: nextDevice(plugs), nonce });
    plugs.push(plug);
    network.addLocal({ ...plug, id: plug.endpointId });
  }

  #isInternal(networkId: string): boolean {
    const { overlays, bridges } = this.#options;
    return (overlays.get(networkId)?.state ?? bridges.find(networkId))?.internal === true;
  }

  #plugGateway(plan: Plan): void {
    const { gateway, self } = this.#options;
    const host = self();
    if (host === undefined) return;
    const subnet = gatewaySubnet(host.hostIndex);
    const { containerId, namespace, nonce, plugs } = plan;
    const device = nextDevice(plugs);
    const inboundOnly =
      plugs.length > 0 && plugs.every(({ networkId }) => this.#isInternal(networkId));
    const shared = { gateway, namespace, subnet, nonce };
    const plug = plugGateway({ ...shared, inboundOnly, device });
    plugs.push(plug);
    gateway.addPort(containerId, plug);
  }

  #plugBridge(plan: Plan, request: EndpointRequest): Plug {
    const { bridges, gateway } = this.#options;
    const { space } = gateway;
    const network = this.#bridge(request.networkId);
    if (plan.plugs.some((plug) => plug.networkId === network.networkId)) {
      throw new SwarmError('conflict', `the container is on network ${network.name} already`);
    }
    const device = nextDevice(plan.plugs);
    const { namespace, nonce } = plan;
    const plug = plugBridge({ bridges, space, namespace, network, request, device, nonce });
    plan.plugs.push(plug);
    bridges.addPort(network.networkId, portKey(plan.containerId, network.networkId), plug);
    gateway.refreshPorts();
    return plug;
  }

  /** To one more network while it runs. SwarmError. */
  connect(containerId: string, request: EndpointRequest): void {
    const held = this.#require(containerId);
    const namespace = this.#options.door.open(held.record.attachment.namespacePath);
    const nonce = Buffer.from(this.#options.random.bytes(NONCE_BYTES)).toString('hex');
    const before = held.record.plugs;
    const plan: Plan = { containerId, namespace, nonce, plugs: [...before] };
    try {
      const overlay = this.#options.overlays.get(request.networkId);
      if (overlay === undefined) this.#plugBridge(plan, request);
      else this.#plugOverlay(plan, request);
      const needsWay = overlay !== undefined && !overlay.state.internal;
      if (needsWay && wayOut(plan.plugs) === undefined) this.#plugGateway(plan);
      const socket = namespace.within(() => new NetlinkSocket(NETLINK_ROUTE));
      try {
        configurePlugs(namespace, socket, plan.plugs.slice(before.length), plan.plugs);
      } finally {
        socket.close();
      }
      this.#changed(held, plan.plugs);
    } catch (error) {
      this.#undoPlugs(containerId, plan.plugs.slice(before.length));
      throw error;
    } finally {
      namespace.close();
    }
  }

  disconnect(containerId: string, networkId: string): void {
    const held = this.#require(containerId);
    const { plugs, attachment } = held.record;
    const id = this.#options.bridges.find(networkId)?.networkId ?? networkId;
    const gone = plugs.find((plug) => plug.networkId === id && plug.kind !== 'gateway');
    if (gone === undefined) {
      throw new SwarmError('not_found', `container ${containerId} is not on network ${networkId}`);
    }
    const rest = plugs.filter((plug) => plug !== gone);
    const namespace = this.#options.door.open(attachment.namespacePath);
    try {
      const socket = namespace.within(() => new NetlinkSocket(NETLINK_ROUTE));
      try {
        unplug(socket, gone, rest);
      } finally {
        socket.close();
      }
    } finally {
      namespace.close();
    }
    this.#undoPlugs(containerId, [gone]);
    this.#changed(held, rest);
  }

  #require(containerId: string): Held {
    const held = this.#held.get(containerId);
    if (held !== undefined) return held;
    throw new SwarmError('not_found', `container ${containerId} has no network of its own here`);
  }

  #changed(held: Held, plugs: readonly Plug[]): void {
    const { record } = held;
    const { containerId } = record.request;
    held.record = { ...record, plugs };
    this.#zones.forget();
    this.#options.gateway.refreshForwards();
    this.#options.records.save(containerId, held.record);
    const directory = join(this.#options.filesRoot, containerId);
    writeFiles(directory, record.request, addressesOf(plugs));
  }

  /** Instead of the ports that the container had. SwarmError conflict. */
  publish(containerId: string, wanted: readonly PublishedPort[]): readonly PublishedPort[] {
    const held = this.#require(containerId);
    const { name = '' } = held.record.request;
    const ports = this.#options.ports.claim({ containerId, name }, wanted);
    const attachment = { ...held.record.attachment, ports };
    held.record = { ...held.record, ports, attachment };
    this.#options.gateway.refreshForwards();
    this.#options.records.save(containerId, held.record);
    return ports;
  }

  #dnsSubject(request: AttachRequest): DnsSubject {
    const { containerId } = request;
    return {
      namespacePath: this.#options.namespacePath(containerId),
      servers: request.dns.servers,
      zones: () => {
        const record = this.#held.get(containerId)?.record;
        return record === undefined ? [] : this.#zones.of(record);
      },
      asksOutside: () => this.#asksOutside(containerId),
    };
  }

  /** What is on internal networks only must not tell the outside anything by asking names. */
  #asksOutside(containerId: string): boolean {
    const plugs = this.#held.get(containerId)?.record.plugs ?? [];
    return plugs.some(({ kind, leadsOut, inboundOnly, networkId }) => {
      if (kind !== 'overlay') return leadsOut && inboundOnly !== true;
      return !this.#isInternal(networkId);
    });
  }

  /** Its new name, on user bridges and for messages. */
  rename(containerId: string, name: string): void {
    const held = this.#require(containerId);
    const { record } = held;
    held.record = { ...record, request: { ...record.request, name } };
    this.#options.ports.rename(containerId, name);
    this.#zones.forget();
    this.#options.records.save(containerId, held.record);
  }

  follow(containerId: string, hosts: AttachRequest['extraHosts']): void {
    const held = this.#require(containerId);
    held.record = { ...held.record, request: followed(held.record.request, hosts) };
    this.#changed(held, held.record.plugs);
  }

  detach(containerId: string): void {
    const held = this.#held.get(containerId);
    if (held === undefined) return;
    held.dns.close();
    this.#held.delete(containerId);
    this.#zones.forget();
    const { plugs, ports } = held.record;
    this.#undo(containerId, plugs);
    if (ports.length > 0) this.#options.gateway.refreshForwards();
  }

  /** Every step may find nothing to do: it undoes whatever part of an attachment there is. */
  #undo(containerId: string, plugs: readonly Plug[]): void {
    try {
      this.#undoPlugs(containerId, plugs);
    } finally {
      this.#forget(containerId);
    }
  }

  #undoPlugs(containerId: string, plugs: readonly Plug[]): void {
    const { overlays, bridges, gateway } = this.#options;
    for (const { kind, networkId, endpointId, link } of plugs) {
      if (kind === 'overlay') overlays.get(networkId)?.removeLocal(endpointId);
      if (kind === 'gateway') gateway.removePort(containerId);
      if (kind !== 'bridge') continue;
      bridges.removePort(networkId, portKey(containerId, networkId));
      gateway.space.netlink.request([disablePort(link)]);
    }
    if (plugs.some((plug) => plug.kind === 'bridge')) gateway.refreshPorts();
  }

  close(): void {
    for (const held of this.#held.values()) held.dns.close();
    this.#held.clear();
    this.#options.ports.close();
  }
}
