/**
 * Published ports of services by IPv6: each of them that somebody serves has a listener of this
 * daemon on the host's IPv6 addresses, [::1] too, which carries connections to one of the tasks.
 * TCP only; the task sees its host as the client. What is carried ends with the daemon, not with
 * a task's leaving the balance. By IPv4 rules do it (hostTable.ts), and keep the client's address.
 */
import type { Random } from '../../base/random.ts';
import { holdPort } from './ports.ts';
import { Relay, type RelayTarget } from './relay.ts';

/** A published TCP port and where it leads now. */
export interface CarriedPort {
  readonly publishedPort: number;
  /** One of the host's IPv6 addresses; '::' = every one. */
  readonly hostAddress: string;
  readonly targets: readonly RelayTarget[];
}

interface Carrying {
  readonly relay: Relay;
  targets: readonly RelayTarget[];
}

function listenAt(hostPort: number, hostAddress: string): number | undefined {
  try {
    return holdPort({ protocol: 'tcp', hostAddress, hostPort, containerPort: 0 });
  } catch {
    return undefined; // a host without IPv6, or not with this address: tried again at each change
  }
}

export class IngressRelays {
  readonly #random: Random;
  readonly #carrying = new Map<string, Carrying>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** A port that another program or a container of this host has stays theirs. */
  apply(ports: readonly CarriedPort[]): void {
    const served = new Map(
      ports
        .filter(({ targets }) => targets.length > 0)
        .map((port) => [`${port.hostAddress} ${port.publishedPort}`, port]),
    );
    for (const [key, { relay }] of this.#carrying) {
      if (served.has(key)) continue;
      this.#carrying.delete(key);
      relay.finish();
    }
    for (const [key, { publishedPort, hostAddress, targets }] of served) {
      const held = this.#carrying.get(key);
      if (held !== undefined) {
        held.targets = targets;
        continue;
      }
      const fd = listenAt(publishedPort, hostAddress);
      if (fd === undefined) continue;
      const relay = new Relay(fd, () => this.#choose(key));
      this.#carrying.set(key, { relay, targets });
    }
  }

  #choose(key: string): RelayTarget | undefined {
    const targets = this.#carrying.get(key)?.targets ?? [];
    return targets[this.#random.below(targets.length)];
  }

  close(): void {
    for (const { relay } of this.#carrying.values()) relay.close();
    this.#carrying.clear();
  }
}
