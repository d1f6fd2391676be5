/**
 * What the kernel must forget of connections when those who answer them change. Connection
 * tracking sends a flow where its first packet was sent, for as long as it lasts; so
 *
 * | flow, to a server that serves no more | becomes |
 * |---|---|
 * | UDP | forgotten: its next packet goes to another |
 * | TCP, not answered yet | forgotten: its next SYN goes to another |
 * | TCP, answered | left alone: the server may be draining |
 * | ... and its client has not been heard for QUIET_SECONDS | forgotten: reset by another |
 *
 * The last is how a host that is gone differs from a task that finishes: the kernel of a live host
 * confirms what its clients send, whatever the program does. Without it such a client would wait
 * for up to 15 minutes. Never touches a flow to who serves.
 */
import { existsSync, readFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { AF_INET, AF_INET6 } from '../../base/ipAddress.ts';
import type { NetworkNamespace } from '../sys/netns.ts';
import { Conntrack, type Flow } from './conntrack.ts';

/** Longer than a live host takes to confirm anything, packets lost on the way included. */
const QUIET_SECONDS = 2;
/** Between looks at connections to servers of before; longer while their clients are silent. */
const FIRST_LOOK_MS = 1000;
const LAST_LOOK_MS = 30_000;
/** Servers of before that are looked after; the oldest are left to the kernel's own bounds. */
const MAX_FORMER = 4096;
/** What an established connection that is not confirmed may last, by the kernel's settings. */
const SETTINGS = '/proc/sys/net/netfilter';
const PATIENCE = ['established', 'unacknowledged', 'max_retrans'];

/** By what is addressed: who answers there. */
type Servers<K> = ReadonlyMap<K, ReadonlySet<string>>;

/** Keys that are new, gone, or have lost a server; one that only gained some is as before. */
function changedKeys<K>(before: Servers<K>, after: Servers<K>): Set<K> {
  const changed = new Set<K>();
  for (const [key, servers] of before) {
    const left = after.get(key);
    if (left === undefined || [...servers].some((one) => !left.has(one))) changed.add(key);
  }
  for (const key of after.keys()) if (!before.has(key)) changed.add(key);
  return changed;
}

function allOf<K>(servers: Servers<K>): Set<string> {
  return new Set([...servers.values()].flatMap((each) => [...each]));
}

/** The least of them, as they are set in the namespace the thread is in; 0 = not known. */
function patienceSeconds(): number {
  const files = PATIENCE.map((name) => `${SETTINGS}/nf_conntrack_tcp_timeout_${name}`);
  if (!files.every(existsSync)) return 0;
  return Math.min(...files.map((file) => Number(readFileSync(file, 'utf8'))));
}

export class Flows<K> {
  readonly #namespace: NetworkNamespace;
  /** What a flow is to; undefined = to nothing of ours. */
  readonly #keyOf: (flow: Flow) => K | undefined;
  #servers: Servers<K> | undefined;
  /** Served before and may have connections still; the oldest first. */
  readonly #former = new Set<string>();
  #lookMs = FIRST_LOOK_MS;
  #nextLookMs = 0;

  constructor(namespace: NetworkNamespace, keyOf: (flow: Flow) => K | undefined) {
    this.#namespace = namespace;
    this.#keyOf = keyOf;
  }

  /**
   * New connections go to these from now on. The first time nothing is known of before: what was
   * there goes on as it is. A kernel that cannot be asked keeps flows until its own bounds.
   */
  serve(servers: Servers<K>): void {
    const before = this.#servers;
    this.#servers = servers;
    if (before === undefined) return;
    const changed = changedKeys(before, servers);
    if (changed.size === 0) return;
    const serving = allOf(servers);
    for (const server of serving) this.#former.delete(server);
    for (const server of allOf(before)) if (!serving.has(server)) this.#note(server);
    const isIpv6 = [...serving, ...allOf(before)].some((server) => server.includes(':'));
    this.#forget((conntrack) => {
      const datagrams = [AF_INET, ...(isIpv6 ? [AF_INET6] : [])].flatMap((family) =>
        conntrack.datagrams(family),
      );
      return [...conntrack.unanswered(), ...datagrams].filter((flow) => {
        const key = this.#keyOf(flow);
        return key !== undefined && changed.has(key) && !this.#isServed(key, flow);
      });
    });
  }

  #note(server: string): void {
    this.#former.delete(server);
    this.#former.add(server);
    for (const oldest of this.#former) {
      if (this.#former.size <= MAX_FORMER) break;
      this.#former.delete(oldest);
    }
    this.#lookMs = FIRST_LOOK_MS;
    this.#nextLookMs = 0;
  }

  #isServed(key: K, flow: Flow): boolean {
    return this.#servers?.get(key)?.has(flow.server) === true;
  }

  /** To be called every second or so; looks at what is open to servers of before. */
  look(nowMs: number): void {
    if (this.#former.size === 0 || nowMs < this.#nextLookMs) return;
    this.#lookMs = Math.min(2 * this.#lookMs, LAST_LOOK_MS);
    this.#forget((conntrack) => {
      const unheard = this.#open(conntrack).filter((flow) => flow.unheard);
      if (unheard.length === 0) return [];
      this.#lookMs = FIRST_LOOK_MS;
      const quietSeconds = this.#namespace.within(patienceSeconds) - QUIET_SECONDS;
      return unheard.filter(({ expiresSeconds }) => expiresSeconds < quietSeconds);
    });
    this.#nextLookMs = nowMs + this.#lookMs;
  }

  /** Connections to servers of before; one that has none left is looked after no more. */
  #open(conntrack: Conntrack): readonly Flow[] {
    const byServer = conntrack.connections(this.#former);
    return [...this.#former].flatMap((server) => {
      const flows = byServer.get(server)?.filter((flow) => this.#keyOf(flow) !== undefined) ?? [];
      if (flows.length === 0) this.#former.delete(server);
      return flows;
    });
  }

  #forget(which: (conntrack: Conntrack) => readonly Flow[]): void {
    let conntrack: Conntrack | undefined;
    try {
      conntrack = new Conntrack(this.#namespace);
      conntrack.forget(which(conntrack));
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error; // no conntrack netlink in this kernel
      this.#former.clear();
    } finally {
      conntrack?.close();
    }
  }
}
