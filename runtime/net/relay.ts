/**
 * Carries TCP connections that come to a published port by IPv6 to who has IPv4 only:
 * [::1] too, which no rule can turn elsewhere. The container sees the host as the client. Runs in
 * the daemon: what is carried ends with it, and nothing new is until the next one runs.
 */
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { SwarmError } from '../../base/errors.ts';

/** Connections carried at once for one port; further ones are closed at once. */
const CONNECTIONS_MAX = 1024;
/** The same for all ports together, and for one client's address; each takes two descriptors. */
const TOGETHER_MAX = 8192;
const CLIENT_MAX = 512;
/** A client or a host that has been silent so long is asked whether it is there still. */
const KEEP_ALIVE_MS = 30_000;
const FULL =
  `more connections than ${CONNECTIONS_MAX} for a port, ${TOGETHER_MAX} for all ports ` +
  `or ${CLIENT_MAX} of one client; connections by IPv4 have no such bound`;
/** Until a container's host has answered; longer means that it is gone. */
const CONNECT_TIMEOUT_MS = 5000;

/** For the log of who holds a relay's port. */
export const NOT_EVERY = 'published port does not take every connection by IPv6';

/** Each direction ends by itself; who vanishes is noticed. */
const BOTH_SOCKETS = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEP_ALIVE_MS,
};

export interface RelayTarget {
  readonly address: string;
  readonly port: number;
}

function clientOf(socket: Socket): string {
  return socket.remoteAddress ?? '';
}

/** What the relays of one host carry at once, together. */
export class RelayLimits {
  readonly #togetherMax: number;
  readonly #clientMax: number;
  #together = 0;
  readonly #byClient = new Map<string, number>();

  constructor(togetherMax = TOGETHER_MAX, clientMax = CLIENT_MAX) {
    this.#togetherMax = togetherMax;
    this.#clientMax = clientMax;
  }

  /** One more of this client, to be given back; false where a bound is reached. */
  take(client: string): boolean {
    const ofClient = this.#byClient.get(client) ?? 0;
    if (this.#together >= this.#togetherMax || ofClient >= this.#clientMax) return false;
    this.#together += 1;
    this.#byClient.set(client, ofClient + 1);
    return true;
  }

  giveBack(client: string): void {
    const left = (this.#byClient.get(client) ?? 0) - 1;
    this.#together -= 1;
    if (left > 0) this.#byClient.set(client, left);
    else this.#byClient.delete(client);
  }
}

export interface RelayOptions {
  readonly limits: RelayLimits;
  /** `isListening` false: it never began to; else one connection was lost, others may come. */
  readonly onError: (error: Error, isListening: boolean) => void;
}

export class Relay {
  readonly #server: Server;
  readonly #limits: RelayLimits;
  readonly #open = new Set<Socket>();

  /** `fd`: a listening socket, the relay's from now on. `target`: at the moment of a connection. */
  constructor(fd: number, target: () => RelayTarget | undefined, options: RelayOptions) {
    this.#limits = options.limits;
    const refused = (): void => options.onError(new SwarmError('exhausted', FULL), true);
    const server = createServer({ ...BOTH_SOCKETS, pauseOnConnect: true }, (socket) => {
      const to = target();
      if (to !== undefined && this.#limits.take(clientOf(socket))) return this.#carry(socket, to);
      socket.destroy();
      if (to !== undefined) refused();
    });
    server.maxConnections = CONNECTIONS_MAX;
    server.on('drop', refused);
    server.on('error', (error) => options.onError(error, server.listening));
    server.listen({ fd });
    this.#server = server;
  }

  #carry(near: Socket, { address, port }: RelayTarget): void {
    const timeout = CONNECT_TIMEOUT_MS;
    const far = createConnection({ host: address, port, timeout, ...BOTH_SOCKETS });
    const client = clientOf(near);
    let left = 2;
    far.on('timeout', () => {
      if (far.connecting) near.resetAndDestroy();
      if (far.connecting) far.destroy();
    });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ]) {
      this.#open.add(socket);
      socket.on('error', () => other.resetAndDestroy()); // as a broken connection breaks it
      socket.on('close', () => {
        this.#open.delete(socket);
        left -= 1;
        if (left === 0) this.#limits.giveBack(client);
      });
      socket.pipe(other);
    }
  }

  /** Takes no more; what is carried goes on. */
  finish(): void {
    this.#server.close();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
  }
}
