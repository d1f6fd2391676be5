/**
 * The host's gateway: a namespace that routes between this host's containers, the host itself and
 * the other hosts' gateways. It gives containers their default route, NAT to the outside, published
 * ports, and is the default bridge network too. In the host's own namespace there is one interface,
 * its addresses and routes, and one nftables table.
 */

import { type NamespaceDoor, removeNamespace, setNetSysctl } from '../sys/netns.ts';
import { addVeth, deleteLink, listReachable, setLink } from '../sys/rtnetlink.ts';
import { chooseDefaultBridge, gatewayOf, parseSubnet } from './addresses.ts';
import {
  type GatewayInput,
  type GatewayPort,
  gatewayFabric,
  gatewayTable,
  HOST_LINK,
  HOST_LINK_MAC,
  HOST_TABLE,
  hostFabric,
  hostTable,
  INGRESS_LINK,
  INGRESS_VNI,
  UPLINK,
  UPLINK_MAC,
} from './ingress.ts';
import { VXLAN_OVERHEAD_BYTES } from './overlay.ts';
import { DEFAULT_MTU, makeTunnel, openRouter, type Tunnel, underlayMtu } from './routers.ts';
import type { Space } from './space.ts';
import { removeTable } from './table.ts';
import type { IngressState, OverlayPeer } from './types.ts';

/** The pair between host and gateway limits nothing: the real links on both sides do. */
const UPLINK_MTU = 65_535;

export interface GatewayOptions {
  readonly door: NamespaceDoor;
  readonly host: Space;
  readonly path: string;
  readonly port: number;
  /** As chosen before, '' the first time. */
  readonly bridgeSubnet: string;
  /** What the existing tunnel was made with. */
  readonly tunnel: Tunnel | undefined;
}

export class Gateway {
  readonly bridgeSubnet: string;
  readonly #options: GatewayOptions;
  readonly #space: Space;
  readonly #ports = new Map<string, GatewayPort>();
  #self: OverlayPeer | undefined;
  #mtu = DEFAULT_MTU;
  #ingress: IngressState | undefined;
  #tunnel: Tunnel | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
    const taken = listReachable(options.host.netlink)
      .filter((route) => route.prefixLength > 0)
      .map((route) => parseSubnet(`${route.destination}/${route.prefixLength}`));
    this.bridgeSubnet =
      options.bridgeSubnet === '' ? chooseDefaultBridge(taken) : options.bridgeSubnet;
    const { space, made } = openRouter(options.door, options.path);
    this.#space = space;
    this.#tunnel = made ? undefined : options.tunnel;
    this.#ensureUplink(made);
  }

  get space(): Space {
    return this.#space;
  }

  get tunnel(): Tunnel | undefined {
    return this.#tunnel;
  }

  /** For containers' interfaces: the underlay's, so that only tunnels fragment or refuse. */
  get mtu(): number {
    return this.#mtu;
  }

  get addressesInUse(): ReadonlySet<string> {
    return new Set([...this.#ports.values()].map((port) => port.address));
  }

  #ensureUplink(fresh: boolean): void {
    const { host } = this.#options;
    if (fresh && host.hasLink(HOST_LINK)) {
      host.netlink.request([deleteLink(HOST_LINK)]);
      host.refreshLinks();
    }
    if (!host.hasLink(HOST_LINK)) {
      const inside = { name: UPLINK, mac: UPLINK_MAC, mtu: UPLINK_MTU };
      host.netlink.request([
        addVeth(
          { name: HOST_LINK, mac: HOST_LINK_MAC, mtu: UPLINK_MTU },
          { ...inside, namespaceFd: this.#space.namespace.fd },
        ),
      ]);
      host.refreshLinks();
      this.#space.refreshLinks();
      this.#space.forgetFabric();
      host.forgetFabric();
    }
    this.#space.netlink.request([setLink(UPLINK, {})]);
    setNetSysctl('ipv4/ip_forward', 1);
    setNetSysctl(`ipv4/conf/${HOST_LINK}/route_localnet`, 1);
  }

  #input(): GatewayInput {
    return {
      self: this.#self,
      bridgeSubnet: this.bridgeSubnet,
      bridgeGateway: gatewayOf(parseSubnet(this.bridgeSubnet)),
      ports: [...this.#ports.values()],
      ingress: this.#ingress,
    };
  }

  /** Joining, leaving, new published ports or peers. */
  apply(self: OverlayPeer | undefined, ingress: IngressState | undefined): void {
    this.#self = self;
    this.#ingress = ingress;
    const { host } = this.#options;
    this.#mtu = self === undefined ? DEFAULT_MTU : underlayMtu(host, self.address);
    this.#ensureTunnel();
    const input = this.#input();
    this.#space.applyFabric(gatewayFabric(input));
    this.#space.applyTable(gatewayTable(input));
    host.applyFabric(hostFabric(input));
    host.applyTable(hostTable(input));
  }

  #ensureTunnel(): void {
    const { host, port } = this.#options;
    const self = this.#self;
    if (self === undefined) {
      if (this.#space.hasLink(INGRESS_LINK)) {
        this.#space.netlink.request([deleteLink(INGRESS_LINK)]);
        this.#space.refreshLinks();
        this.#space.forgetFabric();
      }
      this.#tunnel = undefined;
      return;
    }
    const { hostIndex, address } = self;
    const wanted = { hostIndex, vni: INGRESS_VNI, local: address, port };
    const same = JSON.stringify(wanted) === JSON.stringify(this.#tunnel);
    if (same && this.#space.hasLink(INGRESS_LINK)) return;
    makeTunnel(host, this.#space, INGRESS_LINK, wanted, this.#mtu - VXLAN_OVERHEAD_BYTES);
    this.#tunnel = wanted;
    this.#space.forgetFabric();
  }

  addPort(containerId: string, port: GatewayPort): void {
    this.#ports.set(containerId, port);
    this.#space.applyFabric(gatewayFabric(this.#input()));
  }

  /** Only noted: for adoption, before the first apply. */
  adoptPort(containerId: string, port: GatewayPort): void {
    this.#ports.set(containerId, port);
  }

  removePort(containerId: string): void {
    if (!this.#ports.delete(containerId)) return;
    this.#space.applyFabric(gatewayFabric(this.#input()));
  }

  mend(): string[] {
    const { host } = this.#options;
    const mended: string[] = [];
    host.refreshLinks();
    this.#space.refreshLinks();
    if (!host.hasLink(HOST_LINK)) {
      this.#ensureUplink(false);
      this.apply(this.#self, this.#ingress);
      mended.push(`host: interface ${HOST_LINK} made again`);
    }
    if (this.#self !== undefined && !this.#space.hasLink(INGRESS_LINK)) {
      this.apply(this.#self, this.#ingress);
      mended.push('ingress: tunnel device made again');
    }
    const links = new Set([...this.#ports.values()].map((port) => port.link));
    mended.push(...this.#space.sweep('gateway', links));
    return [...mended, ...this.#space.mend('gateway'), ...host.mend('host')];
  }

  /** Everything of ours leaves the host. */
  remove(): void {
    const { host, path } = this.#options;
    host.nftables.run(removeTable('ip', HOST_TABLE));
    host.netlink.request([deleteLink(HOST_LINK)]);
    this.close();
    removeNamespace(path);
  }

  close(): void {
    this.#space.close();
  }
}
