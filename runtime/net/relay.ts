/**
 * Carries TCP connections that come to a published port by IPv6 to who has IPv4 only:
 * [::1] too, which no rule can turn elsewhere. The container sees the host as the client. Runs in
 * the daemon: what is carried ends with it, and nothing new is until the next one runs.
 */
import { createConnection, createServer, type Server, type Socket } from 'node:net';

/** Connections carried at once for one port; further ones are closed at once. */
const CONNECTIONS_MAX = 1024;
/** Until a container's host has answered; longer means that it is gone. */
const CONNECT_TIMEOUT_MS = 5000;

export interface RelayTarget {
  readonly address: string;
  readonly port: number;
}

export class Relay {
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  /** `fd`: a listening socket, the relay's from now on. `target`: at the moment of a connection. */
  constructor(fd: number, target: () => RelayTarget | undefined) {
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      const to = target();
      if (to === undefined) socket.destroy();
      else this.#carry(socket, to);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on('error', () => {}); // a failed accept: the next one may succeed
    this.#server.listen({ fd });
  }

  #carry(near: Socket, { address, port }: RelayTarget): void {
    const timeout = CONNECT_TIMEOUT_MS;
    const far = createConnection({ host: address, port, timeout, allowHalfOpen: true });
    far.on('timeout', () => {
      if (far.connecting) near.resetAndDestroy();
      if (far.connecting) far.destroy();
    });
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ]) {
      this.#open.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => other.resetAndDestroy()); // as a broken connection breaks it
      socket.on('close', () => this.#open.delete(socket));
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
