/**
 * Published ports of services by IPv6: each of them that somebody serves has a listener of this
 * daemon on the host's IPv6 addresses, [::1] too, which carries connections to one of the tasks.
 * TCP only; the task sees its host as the client. What is carried ends with the daemon, not with
 * a task's leaving the balance. By IPv4 rules do it (hostTable.ts), and keep the client's address.
 */
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { holdPort } from './ports.ts';
import { NOT_EVERY, Relay, type RelayLimits, type RelayTarget } from './relay.ts';

/** A published TCP port and where it leads now. */
export interface CarriedPort {
  readonly publishedPort: number;
  /** One of the host's IPv6 addresses; '::' = every one. */
  readonly hostAddress: string;
  readonly targets: readonly RelayTarget[];
}

/** Between tries to listen where it failed. */
const RETRY_MS = 5000;

export class IngressRelays {
  readonly #random: Random;
  readonly #log: Log;
  readonly #limits: RelayLimits;
  /** What somebody serves, and the relays of those that could be listened on; by key. */
  #served: ReadonlyMap<string, CarriedPort> = new Map();
  readonly #carrying = new Map<string, Relay>();
  /** Whose failure has been logged, for as long as they are served. */
  readonly #told = new Set<string>();
  #nextTryMs = 0;

  constructor(random: Random, log: Log, limits: RelayLimits) {
    this.#random = random;
    this.#log = log;
    this.#limits = limits;
  }

  /** A port that another program or a container of this host has stays theirs until let go. */
  apply(ports: readonly CarriedPort[]): void {
    const served = new Map(
      ports
        .filter(({ targets }) => targets.length > 0)
        .map((port) => [`${port.hostAddress} ${port.publishedPort}`, port]),
    );
    this.#served = served;
    for (const [key, relay] of this.#carrying) {
      if (served.has(key)) continue;
      this.#carrying.delete(key);
      relay.finish();
    }
    for (const key of this.#told) if (!served.has(key)) this.#told.delete(key);
    this.#listen();
  }

  /** To be called every second or so: listens where it failed before. */
  retry(nowMs: number): void {
    if (this.#carrying.size === this.#served.size || nowMs < this.#nextTryMs) return;
    this.#nextTryMs = nowMs + RETRY_MS;
    this.#listen();
  }

  #listen(): void {
    for (const [key, port] of this.#served) {
      if (this.#carrying.has(key)) continue;
      const fd = this.#hold(key, port);
      if (fd === undefined) continue;
      const relay: Relay = new Relay(fd, () => this.#choose(key), {
        limits: this.#limits,
        onError: (error, isListening) => {
          this.#tell(key, port, messageOf(error));
          if (!isListening && this.#carrying.get(key) === relay) this.#carrying.delete(key);
        },
      });
      this.#carrying.set(key, relay);
    }
  }

  #hold(key: string, port: CarriedPort): number | undefined {
    const { hostAddress, publishedPort: hostPort } = port;
    try {
      const fd = holdPort({ protocol: 'tcp', hostAddress, hostPort, containerPort: 0 });
      if (fd === undefined) this.#tell(key, port, 'EADDRINUSE: somebody else listens there');
      return fd;
    } catch (error) {
      this.#tell(key, port, messageOf(error)); // no IPv6 here, not this address, no descriptors
      return undefined;
    }
  }

  #tell(key: string, { hostAddress, publishedPort }: CarriedPort, reason: string): void {
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const fields = { address: hostAddress, port: publishedPort, reason };
    this.#log.warn(NOT_EVERY, fields);
  }

  #choose(key: string): RelayTarget | undefined {
    const targets = this.#served.get(key)?.targets ?? [];
    return targets[this.#random.below(targets.length)];
  }

  close(): void {
    for (const relay of this.#carrying.values()) relay.close();
    this.#carrying.clear();
    this.#served = new Map();
  }
}
