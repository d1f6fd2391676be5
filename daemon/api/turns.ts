/**
 * One request of a connection at a time. A client may send requests ahead of their answers
 * (HTTP pipelining); Node hands all of them out at once, and one that waits for its turn to write
 * is never told that the connection has gone: a watch behind a watch would run for ever.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Requests that a connection may send ahead; no client we know sends any. */
const AHEAD_MAX = 16;

interface Line {
  length: number;
  /** Resolves when the last in line is answered, or its connection has gone. */
  last: Promise<void>;
}

export class Turns {
  readonly #lines = new WeakMap<Socket, Line>();

  /**
   * Runs `serve` when all earlier requests of the connection are answered; never once it is gone.
   */
  take(incoming: IncomingMessage, response: ServerResponse, serve: () => void): void {
    const { socket } = incoming;
    let line = this.#lines.get(socket);
    if (line === undefined) {
      line = { length: 0, last: Promise.resolve() };
      this.#lines.set(socket, line);
    }
    if (line.length > AHEAD_MAX) {
      socket.destroy();
      return;
    }
    const { length, last } = line;
    line.length += 1;
    line.last = new Promise((resolve) => {
      response.once('close', () => {
        line.length -= 1;
        resolve();
      });
    });
    if (length === 0) serve();
    else void last.then(() => (socket.destroyed ? undefined : serve()));
  }
}
