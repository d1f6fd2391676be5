/**
 * Opens a container's DNS: the sockets in its namespace, the rule that turns port 53 to them, and
 * the way its questions go. Which names it may ask for is zones.ts's; whether it may ask outside,
 * the attacher's.
 */
import type { Clock } from '../../base/clock.ts';
import type { Random } from '../../base/random.ts';
import type { NamespaceDoor, NetworkNamespace } from '../sys/netns.ts';
import type { Zone } from './dns.ts';
import { DnsServer, type DnsSockets, dnsTable, upstreamSocket } from './dnsServer.ts';
import { DnsUpstream } from './dnsUpstream.ts';
import { Nftables } from './nftables.ts';
import { createTable } from './table.ts';

export interface ContainerDnsOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly door: NamespaceDoor;
}

/** One container's. */
export interface DnsSubject {
  readonly namespacePath: string;
  /** Its own upstream servers. */
  readonly servers: readonly string[];
  readonly zones: () => readonly Zone[];
  readonly asksOutside: () => boolean;
}

export class ContainerDns {
  readonly #options: ContainerDnsOptions;
  readonly #upstream: DnsUpstream;

  constructor(options: ContainerDnsOptions) {
    this.#options = options;
    this.#upstream = new DnsUpstream(options.clock, options.random);
  }

  /** For a new container: on a free port, which port 53 is turned to. */
  async open(namespace: NetworkNamespace, subject: DnsSubject): Promise<DnsServer> {
    const server = await this.#serve(namespace, subject, { port: 0 });
    const nftables = new Nftables(namespace);
    try {
      nftables.run(createTable(dnsTable(server.port)));
    } catch (error) {
      server.close();
      throw error;
    } finally {
      nftables.close();
    }
    return server;
  }

  /** For one that outlived an earlier daemon: on its port, or by the sockets kept for it. */
  adopt(namespace: NetworkNamespace, subject: DnsSubject, sockets: DnsSockets): Promise<DnsServer> {
    return this.#serve(namespace, subject, sockets);
  }

  #serve(
    namespace: NetworkNamespace,
    subject: DnsSubject,
    sockets: DnsSockets,
  ): Promise<DnsServer> {
    const { clock, random, door } = this.#options;
    return DnsServer.open(namespace, sockets, {
      clock,
      random,
      upstream: this.#upstream,
      zones: subject.zones,
      asksOutside: subject.asksOutside,
      own: {
        addresses: subject.servers,
        open: (transport, server) => {
          const inside = door.open(subject.namespacePath);
          try {
            return inside.within(() => upstreamSocket(transport, server));
          } finally {
            inside.close();
          }
        },
      },
    });
  }
}
