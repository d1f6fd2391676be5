/**
 * The host's network as one object, run by the network worker thread: overlay networks, the
 * gateway, attachments and their DNS. Every operation is whole: it ends done or undone. What is
 * applied is recorded, and taken up again when a new daemon starts. Operations come one at a time
 * (worker.ts).
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { AF_INET, AF_INET6 } from '../../base/ipAddress.ts';
import { parseRange } from '../../base/ipRange.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { isNamespace, NamespaceDoor, removeNamespace } from '../sys/netns.ts';
import { listReachable } from '../sys/rtnetlink.ts';
import {
  addressToNumber,
  isHostIndex,
  LARGE_GATEWAY_RANGE,
  SMALL_GATEWAY_RANGE,
} from './addresses.ts';
import { Attacher } from './attacher.ts';
import type { Taken } from './bridge.ts';
import { Bridges } from './bridges.ts';
import type { KeptSockets } from './dnsServer.ts';
import { Gateway } from './gateway.ts';
import { HOST_LINK } from './ingress.ts';
import { IngressRelays } from './ingressRelays.ts';
import { OverlayNetwork } from './overlayNetwork.ts';
import { attachmentPaths, CONTAINER_PREFIX, filesRoot, namespaceDirectory } from './paths.ts';
import { Ports } from './ports.ts';
import { RelayLimits } from './relay.ts';
import { Space } from './space.ts';
import { type NetworkRecords, openBridgeRecords, openRecords, removeRecords } from './state.ts';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  Endpoint,
  EndpointRequest,
  HostNetworkOptions,
  IngressState,
  OverlayPeer,
  OverlaySelf,
  OverlayState,
  PublishedPort,
} from './types.ts';

export interface EngineEnvironment {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

const OVERLAY_PREFIX = 'ov-';
const HOST_RECORD = 'host';
const INGRESS_RECORD = 'ingress';

/** Addresses follow from indexes: a wrong one must not come any further. SwarmError invalid. */
function checkPeers(peers: readonly OverlayPeer[]): void {
  for (const { hostIndex, address } of peers) {
    addressToNumber(address);
    if (isHostIndex(hostIndex)) continue;
    throw new SwarmError('invalid', `host ${address} has no valid index (${hostIndex})`);
  }
}

interface Mendable {
  disturbed(): boolean;
  lookAfterFlows(nowMs: number): void;
}

/** Loopback and multicast. */
const RESERVED_RANGES = ['127.0.0.0/8', '224.0.0.0/4', '::1/128', 'ff00::/8'];

export class NetworkEngine {
  readonly #options: HostNetworkOptions;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #door = new NamespaceDoor();
  readonly #host: Space;
  readonly #gateway: Gateway;
  readonly #ports: Ports;
  readonly #ingressRelays: IngressRelays;
  readonly #bridges: Bridges;
  readonly #records: NetworkRecords;
  readonly #overlays = new Map<string, OverlayNetwork>();
  /** Adopted, and not told of by this process yet: they go when nobody uses them. */
  readonly #unconfirmed = new Set<string>();
  readonly #attacher: Attacher;
  /** What could not be mended the last time: tried again the next time. */
  readonly #unmended = new WeakSet<Mendable>();
  #contested: ReadonlySet<string> = new Set();
  #self: OverlaySelf | undefined;
  #ingress: IngressState | undefined;

  constructor(options: HostNetworkOptions, environment: EngineEnvironment) {
    this.#options = options;
    this.#log = environment.log;
    this.#clock = environment.clock;
    this.#self = options.self;
    this.#records = openRecords(options.execRoot);
    this.#host = new Space(this.#door.home(), {
      owned: (link) => link === HOST_LINK,
      ownsRules: false,
    });
    const record = this.#records.host.load(this.#log).get(HOST_RECORD);
    this.#self ??= record?.self ?? undefined;
    const limits = new RelayLimits();
    this.#ports = new Ports(
      { ...environment, limits },
      () => this.#ingress,
      (containerId) => this.#attacher.publishedAddress(containerId),
    );
    this.#ingressRelays = new IngressRelays(environment.random, this.#log, limits);
    this.#gateway = new Gateway({
      door: this.#door,
      host: this.#host,
      path: join(this.#directory, 'gateway'),
      port: options.vxlanPort,
      execRoot: options.execRoot,
      tunnel: record?.tunnel ?? undefined,
      bridges: () => this.#bridges.views(),
      forwards: () => this.#attacher.forwards(),
    });
    this.#bridges = new Bridges({
      records: openBridgeRecords(options.dataRoot),
      random: environment.random,
      log: this.#log,
      taken: () => this.#taken(),
      apply: () => this.#gateway.refresh(),
      mtu: () => this.#gateway.mtu,
    });
    this.#attacher = new Attacher({
      ...environment,
      door: this.#door,
      gateway: this.#gateway,
      overlays: this.#overlays,
      bridges: this.#bridges,
      ports: this.#ports,
      records: this.#records.attachments,
      filesRoot: filesRoot(options.execRoot),
      namespacePath: (containerId) => attachmentPaths(options.execRoot, containerId).namespacePath,
      self: () => this.#self,
    });
  }

  get #directory(): string {
    return namespaceDirectory(this.#options.execRoot);
  }

  /** What a new bridge may not overlap. */
  #taken(): Taken {
    const networks = [...this.#overlays.values()].map(({ state }) => ({
      range: parseRange(state.subnet),
      name: `network ${state.name}`,
    }));
    for (const range of [SMALL_GATEWAY_RANGE, LARGE_GATEWAY_RANGE]) {
      networks.push({ range: parseRange(range), name: "the hosts' gateways" });
    }
    for (const range of RESERVED_RANGES) {
      networks.push({ range: parseRange(range), name: 'addresses that no container can have' });
    }
    const { netlink } = this.#host;
    const families = [AF_INET, AF_INET6];
    const own = this.#host.hasLink(HOST_LINK) ? this.#host.linkIndex(HOST_LINK) : 0;
    const routes = families
      .flatMap((family) => listReachable(netlink, family))
      .filter(({ prefixLength, linkIndex }) => prefixLength > 0 && linkIndex !== own)
      .map(({ destination, prefixLength }) => parseRange(`${destination}/${prefixLength}`));
    return { networks, routes };
  }

  /** Takes up what an earlier daemon left, and makes the kernel equal to it. */
  async start(kept: readonly KeptSockets[]): Promise<void> {
    const ingress = this.#records.ingress.load(this.#log).get(INGRESS_RECORD)?.state;
    // Versions count within one process: whatever the new daemon says first is newer.
    this.#ingress = ingress === undefined ? undefined : { ...ingress, version: 0 };
    const overlays = this.#records.overlays.load(this.#log);
    for (const [networkId, record] of overlays) {
      if (this.#self === undefined || !isNamespace(this.#overlayPath(networkId))) {
        this.#records.overlays.remove(networkId);
        continue;
      }
      const held = { ...record.state, version: 0 };
      const network = this.#openOverlay(held, this.#self, record.tunnel ?? undefined);
      this.#overlays.set(networkId, network);
      this.#unconfirmed.add(networkId);
    }
    this.#bridges.ensureLinks(this.#gateway.space);
    await this.#attacher.adopt(kept);
    for (const network of this.#overlays.values()) {
      if (this.#self !== undefined) this.#adoptPart(network, this.#self);
    }
    try {
      this.#applyGateway();
    } catch (error) {
      this.#log.error('gateway could not be adopted whole', { reason: messageOf(error) });
    }
    this.#removeStrays();
    this.#warnOfFirewall();
  }

  /** What fails now is tried again by the next state or reconcile; the daemon must start. */
  #adoptPart(network: OverlayNetwork, self: OverlaySelf): void {
    try {
      network.apply(network.state, self);
    } catch (error) {
      this.#log.error('overlay network could not be adopted whole', {
        network: network.state.name,
        reason: messageOf(error),
      });
    }
  }

  #warnOfFirewall(): void {
    const chains = this.#gateway.droppingChains();
    if (chains.length === 0) return;
    this.#log.warn(
      `this host's firewall drops what it forwards (${chains.join(', ')}): published ports and ` +
        `containers' way out need rules there that accept ${HOST_LINK}, e.g. with iptables ` +
        `-I FORWARD -i ${HOST_LINK} -j ACCEPT and -I FORWARD -o ${HOST_LINK} -j ACCEPT`,
    );
  }

  #overlayPath(networkId: string): string {
    return join(this.#directory, `${OVERLAY_PREFIX}${networkId}`);
  }

  #openOverlay(
    state: OverlayState,
    self: OverlaySelf,
    tunnel: OverlayNetwork['tunnel'],
  ): OverlayNetwork {
    const context = { door: this.#door, host: this.#host, port: this.#options.vxlanPort };
    return new OverlayNetwork(context, this.#overlayPath(state.networkId), self, state, tunnel);
  }

  /** Namespaces without a record: made just before an earlier daemon died. */
  #removeStrays(): void {
    if (!existsSync(this.#directory)) return;
    for (const file of readdirSync(this.#directory)) {
      const ours =
        file === 'gateway' ||
        (file.startsWith(CONTAINER_PREFIX) &&
          this.#attacher.has(file.slice(CONTAINER_PREFIX.length))) ||
        (file.startsWith(OVERLAY_PREFIX) && this.#overlays.has(file.slice(OVERLAY_PREFIX.length)));
      if (ours) continue;
      this.#log.warn('network namespace without a record removed', { file });
      removeNamespace(join(this.#directory, file));
    }
  }

  #applyGateway(): void {
    this.#gateway.apply(this.#self, this.#ingress);
    this.#ingressRelays.apply(this.#gateway.carriedPorts());
    this.#records.host.save(HOST_RECORD, {
      format: 1,
      self: this.#self ?? null,
      tunnel: this.#gateway.tunnel ?? null,
    });
  }

  /** Containers that an overlay was taken off: this host is in no cluster any more. */
  setSelf(self: OverlaySelf | undefined): readonly string[] {
    checkPeers(self === undefined ? [] : [self]);
    this.#self = self;
    let left: readonly string[] = [];
    if (self === undefined) {
      left = this.#leaveOverlays();
      this.#ingress = undefined;
      this.#records.ingress.remove(INGRESS_RECORD);
    } else {
      for (const network of this.#overlays.values()) {
        network.apply(network.state, self);
        this.#saveOverlay(network);
      }
    }
    this.#applyGateway();
    return left;
  }

  #leaveOverlays(): readonly string[] {
    const left: string[] = [];
    for (const { containerId } of this.#attacher.attachments()) {
      const all = this.#attacher.endpoints(containerId);
      const overlays = all.filter(({ networkId }) => this.#overlays.has(networkId));
      for (const { networkId } of overlays) this.#attacher.disconnect(containerId, networkId);
      if (overlays.length > 0) left.push(containerId);
    }
    for (const networkId of [...this.#overlays.keys()]) this.removeOverlay(networkId);
    return left;
  }

  #requireSelf(): OverlaySelf {
    if (this.#self !== undefined) return this.#self;
    throw new SwarmError('not_manager', 'this host is not part of a swarm: it has no overlay');
  }

  #saveOverlay(network: OverlayNetwork): void {
    const { state, tunnel } = network;
    this.#records.overlays.save(state.networkId, { format: 1, state, tunnel: tunnel ?? null });
  }

  applyOverlay(state: OverlayState): void {
    const self = this.#requireSelf();
    checkPeers(state.peers);
    this.#unconfirmed.delete(state.networkId);
    const held = this.#overlays.get(state.networkId);
    if (held !== undefined) {
      held.apply(state, self);
      this.#saveOverlay(held);
      return;
    }
    this.#removeUnconfirmed((other) => other.state.vni === state.vni);
    const network = this.#openOverlay(state, self, undefined);
    try {
      network.apply(state, self);
    } catch (error) {
      network.remove();
      throw error;
    }
    this.#overlays.set(state.networkId, network);
    this.#saveOverlay(network);
  }

  /** Networks of an earlier daemon that have gone from the cluster meanwhile. */
  #removeUnconfirmed(wanted: (network: OverlayNetwork) => boolean): void {
    for (const networkId of [...this.#unconfirmed]) {
      const network = this.#overlays.get(networkId);
      if (network === undefined || network.attached > 0 || !wanted(network)) continue;
      this.removeOverlay(networkId);
    }
  }

  removeOverlay(networkId: string): void {
    const network = this.#overlays.get(networkId);
    if (network === undefined) return;
    if (network.attached > 0) {
      throw new SwarmError(
        'conflict',
        `network ${network.state.name} still has ${network.attached} container(s) on this host`,
      );
    }
    this.#overlays.delete(networkId);
    this.#unconfirmed.delete(networkId);
    this.#records.overlays.remove(networkId);
    network.remove();
  }

  applyIngress(state: IngressState): void {
    this.#requireSelf();
    checkPeers(state.peers);
    if (state.version < (this.#ingress?.version ?? 0)) return;
    this.#ingress = state;
    this.#records.ingress.save(INGRESS_RECORD, { format: 1, state });
    this.#applyGateway();
    this.#warnOfContested();
  }

  /** Once for each, as long as it is so. */
  #warnOfContested(): void {
    const contested = new Set(this.#ports.contested());
    const fresh = [...contested].filter((one) => !this.#contested.has(one));
    this.#contested = contested;
    const message = "ports of services lead to this host's own containers, which had them before";
    if (fresh.length > 0) this.#log.warn(message, { ports: fresh });
  }

  attach(request: AttachRequest): Promise<Attachment> {
    return this.#attacher.attach(request);
  }

  detach(containerId: string): void {
    this.#attacher.detach(containerId);
  }

  attachments(): readonly Attachment[] {
    return this.#attacher.attachments();
  }

  prune(containerIds: ReadonlySet<string>): void {
    for (const { containerId } of this.#attacher.attachments()) {
      if (!containerIds.has(containerId)) this.#attacher.detach(containerId);
    }
    this.#removeUnconfirmed(() => true);
    this.#removeStrays();
  }

  /** Compares everything with the kernel and mends it. */
  reconcile(): string[] {
    return this.#mend(() => true);
  }

  /** The same for what somebody has touched since the last time; cheap when nobody has. */
  watch(): string[] {
    return this.#mend((part) => part.disturbed());
  }

  /** One part that cannot be mended does not keep the others from it. */
  #mend(wanted: (part: Mendable) => boolean): string[] {
    const mended: string[] = [];
    this.#ingressRelays.retry(this.#clock.nowMs());
    const parts = [
      { part: this.#gateway, mend: () => this.#mendGateway() },
      ...[...this.#overlays.values()].map((part) => ({ part, mend: () => part.mend() })),
    ];
    for (const { part, mend } of parts) {
      try {
        part.lookAfterFlows(this.#clock.nowMs());
        if (!wanted(part) && !this.#unmended.has(part)) continue;
        this.#unmended.delete(part);
        mended.push(...mend());
      } catch (error) {
        this.#unmended.add(part);
        this.#log.error('network could not be mended', { reason: messageOf(error) });
      }
    }
    return mended;
  }

  #mendGateway(): string[] {
    this.#gateway.space.refreshLinks();
    const made = this.#bridges.ensureLinks(this.#gateway.space);
    if (made) this.#gateway.refresh();
    return [
      ...(made ? ['gateway: bridge made again'] : []),
      ...this.#gateway.mend(this.#bridges.links()),
    ];
  }

  createBridge(network: BridgeNetwork): BridgeNetwork {
    return this.#bridges.create(network, this.#gateway.space);
  }

  removeBridge(networkId: string): void {
    this.#bridges.remove(networkId, this.#gateway.space);
  }

  bridges(): readonly BridgeNetwork[] {
    return this.#bridges.list();
  }

  connect(containerId: string, request: EndpointRequest): void {
    this.#attacher.connect(containerId, request);
  }

  disconnect(containerId: string, networkId: string): void {
    this.#attacher.disconnect(containerId, networkId);
  }

  endpoints(containerId: string): readonly Endpoint[] {
    return this.#attacher.endpoints(containerId);
  }

  /** Containers that an earlier daemon attached, before they are adopted. */
  recorded(): string[] {
    return [...this.#records.attachments.load(this.#log).keys()];
  }

  /** Copies of a container's DNS sockets, the caller's to close; none when it has none. */
  sockets(containerId: string): readonly number[] {
    return this.#attacher.sockets(containerId);
  }

  rename(containerId: string, name: string): void {
    this.#attacher.rename(containerId, name);
  }

  follow(containerId: string, hosts: AttachRequest['extraHosts']): void {
    this.#attacher.follow(containerId, hosts);
  }

  publish(containerId: string, ports: readonly PublishedPort[]): readonly PublishedPort[] {
    return this.#attacher.publish(containerId, ports);
  }

  /** Takes everything of ours off the host; nothing works on this engine afterwards. */
  remove(): void {
    this.prune(new Set());
    for (const networkId of [...this.#overlays.keys()]) this.removeOverlay(networkId);
    this.#gateway.remove();
    removeRecords(this.#options.execRoot, this.#options.dataRoot);
    this.#ingressRelays.close();
    this.#attacher.close();
    this.#host.close();
  }

  close(): void {
    this.#ingressRelays.close();
    this.#attacher.close();
    for (const network of this.#overlays.values()) network.close();
    this.#gateway.close();
    this.#host.close();
  }
}
