/**
 * The host's gateway: a namespace that routes between this host's containers, the host itself and
 * the other hosts' gateways. It gives containers their default route, NAT to the outside, published
 * ports, and it has the bridge networks. In the host's own namespace there is one interface, its
 * addresses and routes, and one nftables table per address family.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { AF_INET, AF_INET6 } from '../../base/ipAddress.ts';
import {
  enableIpv6,
  hasIpv6Support,
  type NamespaceDoor,
  removeNamespace,
  setNetSysctl,
} from '../sys/netns.ts';
import { addVeth, deleteLink, listAddresses, listLinks, setLink } from '../sys/rtnetlink.ts';
import type { BridgeView } from './bridge.ts';
import { Flows } from './flows.ts';
import { carriedPorts, type Forward, hostTables, portServers } from './hostTable.ts';
import {
  type GatewayInput,
  type GatewayPort,
  gatewayFabric,
  gatewayTables,
  HOST_LINK,
  HOST_LINK_MAC,
  HOST_TABLE,
  hasIpv6,
  hostFabric,
  INGRESS_LINK,
  INGRESS_VNI,
  UPLINK,
  UPLINK_MAC,
} from './ingress.ts';
import type { CarriedPort } from './ingressRelays.ts';
import { VXLAN_OVERHEAD_BYTES } from './overlay.ts';
import { DEFAULT_MTU, makeTunnel, openRouter, type Tunnel, underlayMtu } from './routers.ts';
import type { Space } from './space.ts';
import { removeTable } from './table.ts';
import type { IngressState, OverlaySelf } from './types.ts';

/** The pair between host and gateway limits nothing: the real links on both sides do. */
const UPLINK_MTU = 65_535;
/** The host's interface says in its alias whose it is. */
const ALIAS_PREFIX = 'tsswarm ';
const IPV6_INTERFACES = '/proc/sys/net/ipv6/conf';
/** accept_ra: 1 = unless forwarding, 2 = also then. */
const ACCEPT_RA = '1';
const ACCEPT_RA_FORWARDING = 2;

/**
 * In the host's namespace; true if it did not forward. A host that forwards no longer listens to
 * router advertisements, from which it may have its own default route: those that did still do.
 */
function forwardIpv6(): boolean {
  const forwards = readFileSync(`${IPV6_INTERFACES}/all/forwarding`, 'utf8').trim() === '1';
  if (forwards) return false;
  for (const link of readdirSync(IPV6_INTERFACES)) {
    if (link === 'all') continue;
    const before = readFileSync(`${IPV6_INTERFACES}/${link}/accept_ra`, 'utf8').trim();
    if (before === ACCEPT_RA) setNetSysctl(`ipv6/conf/${link}/accept_ra`, ACCEPT_RA_FORWARDING);
  }
  return setNetSysctl('ipv6/conf/all/forwarding', 1);
}

export interface GatewayOptions {
  readonly door: NamespaceDoor;
  readonly host: Space;
  readonly path: string;
  /** Names this daemon among others of the host. */
  readonly execRoot: string;
  readonly port: number;
  /** What the existing tunnel was made with. */
  readonly tunnel: Tunnel | undefined;
  /** What there is now; the default one first. */
  readonly bridges: () => readonly BridgeView[];
  readonly forwards: () => readonly Forward[];
}

/** From `nft list chains`: 'ip filter FORWARD' for each base chain there with policy drop. */
export function droppingForwardChains(listing: string): string[] {
  const found: string[] = [];
  let table = '';
  let chain = '';
  for (const line of listing.split('\n')) {
    table = /^table (ip|inet) (\S+)/.exec(line)?.slice(1).join(' ') ?? table;
    chain = /^\s+chain (\S+)/.exec(line)?.[1] ?? chain;
    if (/hook forward\b.*policy drop/.test(line)) found.push(`${table} ${chain}`);
  }
  return found;
}

export class Gateway {
  readonly #options: GatewayOptions;
  readonly #space: Space;
  readonly #ports = new Map<string, GatewayPort>();
  #self: OverlaySelf | undefined;
  #mtu = DEFAULT_MTU;
  #ingress: IngressState | undefined;
  #tunnel: Tunnel | undefined;
  #usesIpv6 = false;
  readonly #flows: Flows<string>;
  #addresses: ReadonlySet<string> = new Set();

  constructor(options: GatewayOptions) {
    this.#options = options;
    const { space, made } = openRouter(options.door, options.path);
    this.#space = space;
    this.#tunnel = made ? undefined : options.tunnel;
    this.#flows = new Flows(options.host.namespace, ({ protocol, destination, port }) =>
      this.#addresses.has(destination) ? `${protocol}/${port}` : undefined,
    );
    try {
      this.#ensureUplink(made);
    } catch (error) {
      this.#space.close();
      if (made) removeNamespace(options.path);
      throw error;
    }
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
    const { host, execRoot } = this.#options;
    if (fresh && host.hasLink(HOST_LINK)) {
      this.#refuseForeign();
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
        setLink(HOST_LINK, { alias: `${ALIAS_PREFIX}${execRoot}` }),
      ]);
      host.refreshLinks();
      this.#space.refreshLinks();
      this.#space.forgetFabric();
      host.forgetFabric();
    }
    this.#space.netlink.request([setLink(UPLINK, {})]);
    this.#ensureForwarding();
  }

  /** The interface may be what an earlier daemon of ours left, but not another one's. */
  #refuseForeign(): void {
    const { host, execRoot } = this.#options;
    const alias = listLinks(host.netlink).find((link) => link.name === HOST_LINK)?.alias ?? '';
    const owner = alias.startsWith(ALIAS_PREFIX) ? alias.slice(ALIAS_PREFIX.length) : '';
    if (owner === '' || owner === execRoot || !existsSync(owner)) return;
    throw new SwarmError(
      'conflict',
      `another daemon (--exec-root ${owner}) manages this host's network; stop it, or if it is ` +
        `gone for good remove its interface: ip link delete ${HOST_LINK}`,
    );
  }

  /** In the host's namespace; true if anything had to be changed. */
  #ensureForwarding(): boolean {
    const forwarding = setNetSysctl('ipv4/ip_forward', 1);
    return setNetSysctl(`ipv4/conf/${HOST_LINK}/route_localnet`, 1) || forwarding;
  }

  /**
   * Chains that drop what the host forwards unless a rule of theirs accepts it (Docker's and many
   * firewalls'): no rule of ours can overrule them.
   */
  droppingChains(): string[] {
    return droppingForwardChains(this.#options.host.nftables.run('list chains'));
  }

  #input(): GatewayInput {
    return {
      self: this.#self,
      bridges: this.#options.bridges(),
      forwards: this.#options.forwards(),
      ports: [...this.#ports.values()],
      ingress: this.#ingress,
    };
  }

  /** Joining, leaving, new published ports or peers. */
  apply(self: OverlaySelf | undefined, ingress: IngressState | undefined): void {
    this.#self = self;
    this.#ingress = ingress;
    const { host } = this.#options;
    this.#mtu = self === undefined ? DEFAULT_MTU : underlayMtu(host, self.address);
    this.#ensureTunnel();
    this.refresh();
  }

  /** Bridges, who is on them, or published ports have changed. */
  refresh(): void {
    const { host } = this.#options;
    const input = this.#input();
    this.#usesIpv6 = hasIpv6(input);
    if (this.#usesIpv6) this.#ensureIpv6();
    this.#space.applyFabric(gatewayFabric(input));
    this.#space.applyTables(gatewayTables(input));
    host.applyFabric(hostFabric(input));
    this.#applyHostTables(input);
  }

  #applyHostTables(input: GatewayInput): void {
    const { host } = this.#options;
    host.applyTables(hostTables(input));
    this.#addresses = new Set(
      [AF_INET, AF_INET6].flatMap((family) =>
        listAddresses(host.netlink, family).map(({ address }) => address),
      ),
    );
    this.#flows.serve(portServers(input));
  }

  /** What is to be carried by IPv6. */
  carriedPorts(): readonly CarriedPort[] {
    return carriedPorts(this.#input());
  }

  /** To be called every second or so. */
  lookAfterFlows(nowMs: number): void {
    this.#flows.look(nowMs);
  }

  /** Somebody came to a bridge or left it. */
  refreshPorts(): void {
    const input = this.#input();
    this.#space.applyFabric(gatewayFabric(input));
    this.#space.applyTables(gatewayTables(input));
  }

  /** Published ports of containers have changed. */
  refreshForwards(): void {
    this.#applyHostTables(this.#input());
  }

  /** True if anything had to be changed. */
  #ensureIpv6(): boolean {
    const enabled = enableIpv6(HOST_LINK);
    this.#space.namespace.within(() => {
      setNetSysctl('ipv6/conf/all/forwarding', 1);
      enableIpv6(UPLINK);
    });
    return forwardIpv6() || enabled;
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
    const { hostIndex, address, vxlanPort = port } = self;
    const wanted = { hostIndex, vni: INGRESS_VNI, local: address, port: vxlanPort };
    const same = JSON.stringify(wanted) === JSON.stringify(this.#tunnel);
    if (same && this.#space.hasLink(INGRESS_LINK)) return;
    makeTunnel(host, this.#space, INGRESS_LINK, wanted, this.#mtu - VXLAN_OVERHEAD_BYTES);
    this.#tunnel = wanted;
    this.#space.forgetFabric();
  }

  addPort(containerId: string, port: GatewayPort): void {
    this.#ports.set(containerId, port);
    this.refreshPorts();
  }

  /** Only noted: for adoption, before the first apply. */
  adoptPort(containerId: string, port: GatewayPort): void {
    this.#ports.set(containerId, port);
  }

  removePort(containerId: string): void {
    if (this.#ports.delete(containerId)) this.refreshPorts();
  }

  /** Whether anything may have to be mended here or in the host's namespace. Cheap. */
  disturbed(): boolean {
    const space = this.#space.disturbed();
    return this.#options.host.disturbed() || space || !this.#forwards();
  }

  /** Whether the host forwards, as it must. */
  #forwards(): boolean {
    const { host } = this.#options;
    const names = ['ipv4/ip_forward'];
    if (host.hasLink(HOST_LINK)) names.push(`ipv4/conf/${HOST_LINK}/route_localnet`);
    if (this.#usesIpv6) names.push('ipv6/conf/all/forwarding');
    try {
      return names.every((name) => readFileSync(`/proc/sys/net/${name}`, 'utf8').trim() === '1');
    } catch {
      return false; // the interface has gone: mending says what there is to say
    }
  }

  /** `bridgePorts`: outer ends of containers on bridges. */
  mend(bridgePorts: readonly string[]): string[] {
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
    const forwarding = this.#ensureForwarding();
    const forwarding6 = this.#usesIpv6 && this.#ensureIpv6();
    if (forwarding || forwarding6) mended.push('host: forwarding switched on again');
    const links = new Set([...bridgePorts, ...[...this.#ports.values()].map((port) => port.link)]);
    mended.push(...this.#space.sweep('gateway', links));
    return [...mended, ...this.#space.mend('gateway'), ...host.mend('host')];
  }

  /** Everything of ours leaves the host. */
  remove(): void {
    const { host, path } = this.#options;
    host.nftables.run(removeTable('ip', HOST_TABLE));
    if (hasIpv6Support()) host.nftables.run(removeTable('ip6', HOST_TABLE));
    host.netlink.request([deleteLink(HOST_LINK)]);
    this.close();
    removeNamespace(path);
  }

  close(): void {
    this.#space.close();
  }
}
