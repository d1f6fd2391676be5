/**
 * Which names a container may ask for, and what they mean: those of the overlay networks and user
 * bridges that it is on. On a bridge the names are its containers' own: name, short id, aliases.
 * The default bridge has none, as Docker's.
 */
import { shortId } from '../../base/id.ts';
import { DEFAULT_BRIDGE } from './bridge.ts';
import type { Bridges } from './bridges.ts';
import { makeZone, type Zone } from './dns.ts';
import type { OverlayNetwork } from './overlayNetwork.ts';
import type { AttachmentRecord } from './state.ts';
import type { OverlayName, OverlayState } from './types.ts';

export interface ZonesOptions {
  readonly overlays: ReadonlyMap<string, OverlayNetwork>;
  readonly bridges: Bridges;
  /** Every attachment of this host. */
  readonly records: () => Iterable<AttachmentRecord>;
}

class Names {
  readonly #addresses = new Map<string, string[]>();

  add(name: string, addresses: readonly string[]): void {
    const key = name.toLowerCase();
    if (key === '') return;
    const known = this.#addresses.get(key) ?? [];
    this.#addresses.set(key, [...new Set([...known, ...addresses.filter((one) => one !== '')])]);
  }

  list(): OverlayName[] {
    return [...this.#addresses].map(([name, addresses]) => ({ name, addresses }));
  }
}

export class Zones {
  readonly #options: ZonesOptions;
  readonly #overlays = new Map<string, { state: OverlayState; zone: Zone }>();
  readonly #bridges = new Map<string, Zone>();

  constructor(options: ZonesOptions) {
    this.#options = options;
  }

  /** Who is attached has changed. */
  forget(): void {
    this.#overlays.clear();
    this.#bridges.clear();
  }

  of(record: AttachmentRecord): Zone[] {
    const zones: Zone[] = [];
    for (const plug of record.plugs) {
      const zone =
        plug.kind === 'overlay'
          ? this.#overlayZone(plug.networkId)
          : plug.kind === 'bridge' && this.#bridgeZone(plug.networkId);
      if (zone !== undefined && zone !== false) zones.push(zone);
    }
    return zones;
  }

  #overlayZone(networkId: string): Zone | undefined {
    const state = this.#options.overlays.get(networkId)?.state;
    if (state === undefined) return undefined;
    const cached = this.#overlays.get(networkId);
    if (cached?.state === state) return cached.zone;
    const known = new Set(state.names.map((entry) => entry.name));
    const zone = makeZone(state.name, [...state.names, ...this.#aliases(networkId, known)]);
    this.#overlays.set(networkId, { state, zone });
    return zone;
  }

  /** Aliases of containers here that the network's own names do not have. */
  #aliases(networkId: string, known: ReadonlySet<string>): OverlayName[] {
    const names = new Names();
    for (const { plugs } of this.#options.records()) {
      for (const plug of plugs) {
        if (plug.networkId !== networkId) continue;
        for (const alias of plug.aliases) {
          if (!known.has(alias)) names.add(alias, [plug.address, plug.address6]);
        }
      }
    }
    return names.list();
  }

  #bridgeZone(networkId: string): Zone | undefined {
    const cached = this.#bridges.get(networkId);
    if (cached !== undefined) return cached;
    const network = this.#options.bridges.find(networkId);
    if (network === undefined || network.name === DEFAULT_BRIDGE) return undefined;
    const names = new Names();
    const reverse = new Map<string, string>();
    for (const { request, plugs } of this.#options.records()) {
      const short = shortId(request.containerId);
      for (const { networkId: on, aliases, address, address6 } of plugs) {
        if (on !== networkId) continue;
        for (const name of [request.name ?? '', short, ...aliases]) {
          names.add(name, [address, address6]);
        }
        for (const one of [address, address6]) reverse.set(one, request.name || short);
      }
    }
    const zone = { ...makeZone(network.name, names.list()), reverse };
    this.#bridges.set(networkId, zone);
    return zone;
  }
}
