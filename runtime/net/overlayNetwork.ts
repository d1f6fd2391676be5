/**
 * One overlay network on this host: its namespace, the state it was told last and the containers
 * attached here. Every change recomputes what should be (overlay.ts, vip.ts) and applies the
 * difference. Removing it takes its interfaces away with the namespace.
 */

import { enableIpv6, type NamespaceDoor, removeNamespace, setNetSysctl } from '../sys/netns.ts';
import { deleteLink } from '../sys/rtnetlink.ts';
import { Flows } from './flows.ts';
import { type LocalEndpoint, overlayFabric, TUNNEL_LINK } from './overlay.ts';
import { makeTunnel, openRouter, type Tunnel, tunnelMtu } from './routers.ts';
import type { Space } from './space.ts';
import type { OverlaySelf, OverlayState } from './types.ts';
import { overlayTables } from './vip.ts';

export interface OverlayContext {
  readonly door: NamespaceDoor;
  readonly host: Space;
  readonly port: number;
}

/** By virtual address. */
function backendsOf(state: OverlayState): Map<string, Set<string>> {
  const backends = new Map<string, Set<string>>();
  for (const one of state.services) {
    backends.set(one.virtualAddress, new Set(one.backends));
    if (one.virtualAddress6) backends.set(one.virtualAddress6, new Set(one.backends6));
  }
  return backends;
}

export class OverlayNetwork {
  readonly #context: OverlayContext;
  readonly #path: string;
  readonly #space: Space;
  readonly #local = new Map<string, LocalEndpoint>();
  #state: OverlayState;
  #self: OverlaySelf;
  #tunnel: Tunnel | undefined;
  #mtu = 0;
  readonly #flows: Flows<string>;

  /** `tunnel`: what the existing device was made with, when the namespace is adopted. */
  constructor(
    context: OverlayContext,
    path: string,
    self: OverlaySelf,
    state: OverlayState,
    tunnel: Tunnel | undefined,
  ) {
    this.#context = context;
    this.#path = path;
    this.#self = self;
    this.#state = state;
    const { space, made } = openRouter(context.door, path);
    this.#space = space;
    this.#tunnel = made ? undefined : tunnel;
    this.#flows = new Flows(space.namespace, ({ destination }) => destination);
    this.#flows.serve(backendsOf(state));
  }

  get state(): OverlayState {
    return this.#state;
  }

  get space(): Space {
    return this.#space;
  }

  get tunnel(): Tunnel | undefined {
    return this.#tunnel;
  }

  get attached(): number {
    return this.#local.size;
  }

  /** Of the tunnel and of every container's interface on it. */
  get mtu(): number {
    return this.#mtu;
  }

  /** A version older than the one held is left aside: whole states may arrive out of order. */
  apply(state: OverlayState, self: OverlaySelf): void {
    if (state.version < this.#state.version) return;
    this.#state = state;
    this.#self = self;
    this.#mtu = state.mtu > 0 ? state.mtu : tunnelMtu(this.#context.host, self);
    this.#ensureTunnel();
    if (state.subnet6) this.#ensureIpv6();
    this.#applyFabric();
    this.#space.applyTables(overlayTables(state));
    this.#flows.serve(backendsOf(state));
  }

  /** To be called every second or so. */
  lookAfterFlows(nowMs: number): void {
    this.#flows.look(nowMs);
  }

  #ensureTunnel(): void {
    const { host, port } = this.#context;
    const { hostIndex, address, vxlanPort = port } = this.#self;
    const wanted = { hostIndex, vni: this.#state.vni, local: address, port: vxlanPort };
    const same = JSON.stringify(wanted) === JSON.stringify(this.#tunnel);
    if (same && this.#space.hasLink(TUNNEL_LINK)) return;
    makeTunnel(host, this.#space, TUNNEL_LINK, wanted, this.mtu);
    this.#tunnel = wanted;
    this.#space.forgetFabric();
  }

  #ensureIpv6(): void {
    this.#space.namespace.within(() => {
      setNetSysctl('ipv6/conf/all/forwarding', 1);
      setNetSysctl('ipv6/conf/default/forwarding', 1);
      for (const link of ['lo', TUNNEL_LINK]) enableIpv6(link);
    });
  }

  #applyFabric(): void {
    this.#space.applyFabric(overlayFabric(this.#state, this.#self, [...this.#local.values()]));
  }

  /** The container's interface exists already; its address becomes reachable. */
  addLocal(endpoint: LocalEndpoint): void {
    this.#local.set(endpoint.id, endpoint);
    this.#applyFabric();
  }

  /** Only noted: for adoption, before the first apply. */
  adoptLocal(endpoint: LocalEndpoint): void {
    this.#local.set(endpoint.id, endpoint);
  }

  removeLocal(endpointId: string): void {
    if (!this.#local.delete(endpointId)) return;
    this.#applyFabric();
  }

  disturbed(): boolean {
    return this.#space.disturbed();
  }

  mend(): string[] {
    const mended: string[] = [];
    this.#space.refreshLinks();
    if (!this.#space.hasLink(TUNNEL_LINK)) {
      this.apply(this.#state, this.#self);
      mended.push(`network ${this.#state.name}: tunnel device made again`);
    }
    const links = new Set([...this.#local.values()].map((endpoint) => endpoint.link));
    mended.push(...this.#space.sweep(`network ${this.#state.name}`, links));
    return [...mended, ...this.#space.mend(`network ${this.#state.name}`)];
  }

  /** The tunnel goes at once, so that its number is free; the rest goes with the namespace. */
  remove(): void {
    this.#space.netlink.request([deleteLink(TUNNEL_LINK)]);
    this.close();
    removeNamespace(this.#path);
  }

  /** Lets go; the kernel's state stays. */
  close(): void {
    this.#space.close();
  }
}
