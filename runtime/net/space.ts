/**
 * One of our network namespaces, open: its netlink socket, its nftables context and what was
 * applied to it last. Applying computes the difference to that and sends it; mending computes the
 * difference to the kernel instead. After a failure the kernel's state is read anew before the
 * next change.
 */
import { SwarmError } from '../../base/errors.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../sys/netlink.ts';
import type { NetworkNamespace } from '../sys/netns.ts';
import { deleteLink, listLinks, setLink } from '../sys/rtnetlink.ts';
import { NO_INTERFACE, RouteWatch } from '../sys/rtwatch.ts';
import { diffFabric, type Fabric, linkIndexes, readFabric, usesIpv6 } from './fabric.ts';
import { Nftables } from './nftables.ts';
import { diffTable, type NftTable, removeTable, replaceTable } from './table.ts';

/** As linkName makes them, for every prefix of a container's interface. */
const CONTAINER_LINK = /^(v|tsg|tsb)[0-9a-f]{10}$/;

export interface SpaceOptions {
  /** Which links' addresses, routes and neighbours are ours here. */
  readonly owned: (link: string) => boolean;
  /** Whether routing rules by mark here are ours (in a namespace of our own). */
  readonly ownsRules: boolean;
}

function keyOf(table: NftTable): string {
  return `${table.family} ${table.name}`;
}

export class Space {
  readonly namespace: NetworkNamespace;
  readonly netlink: NetlinkSocket;
  readonly nftables: Nftables;
  readonly #options: SpaceOptions;
  #links = new Map<string, number>();
  #fabric: Fabric | undefined;
  /** What was applied, by family and name; `listing` as the kernel showed it, '' = not looked. */
  readonly #tables = new Map<string, { table: NftTable; listing: string }>();
  #unclaimed: ReadonlySet<string> = new Set();
  readonly #watch: RouteWatch;
  #generation = -1;

  constructor(namespace: NetworkNamespace, options: SpaceOptions) {
    this.namespace = namespace;
    this.#options = options;
    this.netlink = namespace.within(() => new NetlinkSocket(NETLINK_ROUTE));
    this.#watch = namespace.within(() => new RouteWatch());
    this.nftables = new Nftables(namespace);
    this.refreshLinks();
  }

  refreshLinks(): void {
    this.#links = linkIndexes(this.netlink);
  }

  hasLink(name: string): boolean {
    return this.#links.has(name);
  }

  linkIndex(name: string): number {
    const index = this.#links.get(name);
    if (index !== undefined) return index;
    throw new SwarmError('internal', `interface ${name} is missing in ${this.namespace.path}`);
  }

  /**
   * The kernel's state has changed beneath us (a link was replaced): read it before the next
   * apply.
   */
  forgetFabric(): void {
    this.#fabric = undefined;
  }

  /** Makes addresses, routes, neighbours and rules of our links equal to `desired`. */
  applyFabric(desired: Fabric): void {
    const before = this.#fabric ?? this.#read(true);
    this.#fabric = undefined;
    this.netlink.request(diffFabric(before, desired, this.#links));
    this.#fabric = desired;
  }

  #read(withIpv6: boolean): Fabric {
    this.refreshLinks();
    const { owned, ownsRules } = this.#options;
    return readFabric(this.netlink, this.#links, { owned, withRules: ownsRules, withIpv6 });
  }

  /** Makes our nftables tables equal to `desired`; the first time each is replaced whole. */
  applyTables(desired: readonly NftTable[]): void {
    const known = (table: NftTable): NftTable | undefined => this.#tables.get(keyOf(table))?.table;
    const texts = desired.map((table) => diffTable(known(table), table));
    const wanted = new Set(desired.map(keyOf));
    const surplus = [...this.#tables.values()].filter(({ table }) => !wanted.has(keyOf(table)));
    for (const { table } of surplus) texts.push(removeTable(table.family, table.name));
    const text = texts.join('');
    if (text === '') return;
    const before = desired.every(known) ? this.nftables.generation() : -1;
    for (const { table } of surplus) this.#tables.delete(keyOf(table));
    for (const table of desired) this.#tables.delete(keyOf(table));
    this.nftables.run(text);
    for (const table of desired) this.#tables.set(keyOf(table), { table, listing: '' });
    // Somebody else's change before ours must still be noticed by mend.
    const unseen = before !== -1 && before !== this.#generation;
    this.#generation = unseen ? -1 : this.nftables.generation();
  }

  /**
   * Whether anybody, this process too, has changed anything of ours since the last call. Costs
   * two system calls when nobody has.
   */
  disturbed(): boolean {
    const changed = this.#watch.take();
    if (changed === undefined) return true;
    if (this.#tables.size > 0 && this.nftables.generation() !== this.#generation) return true;
    if (changed.size === 0) return false;
    if (changed.has(NO_INTERFACE) && this.#options.ownsRules) return true;
    // Of a link that is gone only the number is left: as it was when last looked.
    for (const [name, index] of this.#links) {
      if (changed.has(index) && this.#options.owned(name)) return true;
    }
    return false;
  }

  /** Compares the kernel with what was applied, mends it, and says what was wrong. */
  mend(what: string): string[] {
    const mended = this.#raise(what);
    const fabric = this.#fabric;
    if (fabric !== undefined) {
      const messages = diffFabric(this.#read(usesIpv6(fabric)), fabric, this.#links);
      if (messages.length > 0) {
        this.netlink.request(messages);
        const shown = messages.slice(0, 3).map((message) => message.what);
        const more = messages.length > shown.length ? `, and ${messages.length - 3} more` : '';
        mended.push(`${what}: ${shown.join(', ')}${more}`);
      }
    }
    if (this.#mendTables()) mended.push(`${what}: nftables table restored`);
    return mended;
  }

  /** Brings links of ours up that somebody has taken down. */
  #raise(what: string): string[] {
    const down = listLinks(this.netlink)
      .filter(({ name, up }) => !up && this.#options.owned(name))
      .map(({ name }) => name);
    this.netlink.request(down.map((name) => setLink(name, {})));
    return down.map((name) => `${what}: interface ${name} brought up again`);
  }

  /**
   * Deletes containers' interfaces that nobody claims: those whose namespace somebody else keeps
   * alive. Only if unclaimed the last time too, since a namespace's end takes a moment.
   */
  sweep(what: string, claimed: ReadonlySet<string>): string[] {
    const unclaimed = [...this.#links.keys()].filter(
      (name) => CONTAINER_LINK.test(name) && !claimed.has(name),
    );
    const stale = unclaimed.filter((name) => this.#unclaimed.has(name));
    this.#unclaimed = new Set(unclaimed);
    if (stale.length === 0) return [];
    this.netlink.request(stale.map(deleteLink));
    this.refreshLinks();
    return [`${what}: ${stale.length} interface(s) without a container removed`];
  }

  /** True if a table was not what we had made it. Costs one message while nobody changes any. */
  #mendTables(): boolean {
    if (this.#tables.size === 0 || this.nftables.generation() === this.#generation) return false;
    let mended = false;
    for (const held of this.#tables.values()) {
      const before = this.#list(held.table);
      if (before === '' || before !== held.listing) this.nftables.run(replaceTable(held.table));
      held.listing = this.#list(held.table);
      mended ||= held.listing !== before;
    }
    this.#generation = this.nftables.generation();
    return mended;
  }

  /** The table as nft prints it, '' when it is not there. */
  #list(table: NftTable): string {
    const tables = this.nftables.run('list tables').split('\n');
    if (!tables.includes(`table ${table.family} ${table.name}`)) return '';
    return this.nftables.run(`list table ${table.family} ${table.name}`);
  }

  close(): void {
    this.netlink.close();
    this.#watch.close();
    this.nftables.close();
    this.namespace.close();
  }
}
