/**
 * Requests that ask for another protocol on their connection (attach, exec, build sessions). Node
 * hands them over before the body is read: the body's bytes are the first on the socket. Routes see
 * an ordinary request; one that takes the connection gets it raw, all others are answered and the
 * connection is closed.
 */
import { type IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { SwarmError } from '../../base/errors.ts';
import { ApiRequest, BODY_LIMIT_BYTES, type Connection } from './http.ts';

export class UpgradedRequest extends ApiRequest {
  readonly #socket: Duplex;
  #isTaken = false;
  #bodyLeft: number;

  constructor(
    incoming: IncomingMessage,
    response: ServerResponse,
    socket: Duplex,
    path: string,
    query: URLSearchParams,
    params: Readonly<Record<string, string>>,
    minor: number,
  ) {
    super(incoming, response, path, query, params, minor);
    this.#socket = socket;
    this.#bodyLeft = Number(incoming.headers['content-length'] ?? 0);
  }

  override async *upload(): AsyncIterable<Buffer> {
    if (this.incoming.headers['transfer-encoding'] !== undefined) {
      throw new SwarmError('invalid', 'a request to upgrade must give its Content-Length');
    }
    if (!(this.#bodyLeft <= BODY_LIMIT_BYTES)) {
      throw new SwarmError('invalid', `the request body is larger than ${BODY_LIMIT_BYTES} bytes`);
    }
    while (this.#bodyLeft > 0) {
      const chunk = await nextChunk(this.#socket);
      if (chunk.length > this.#bodyLeft) {
        // The rest is already the other protocol's.
        this.#socket.unshift(chunk.subarray(this.#bodyLeft));
      }
      const part = chunk.subarray(0, this.#bodyLeft);
      this.#bodyLeft -= part.length;
      yield part;
    }
  }

  override takeConnection(contentType: string): Connection {
    this.#isTaken = true;
    const protocol = this.incoming.headers.upgrade ?? 'tcp';
    this.response.detachSocket(asSocket(this.#socket));
    this.#socket.write(
      `HTTP/1.1 101 UPGRADED\r\nContent-Type: ${contentType}\r\n` +
        `Connection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`,
    );
    return { input: this.#socket, output: this.#socket };
  }

  /** Whether the connection is no longer HTTP. */
  get isTaken(): boolean {
    return this.#isTaken;
  }
}

function nextChunk(socket: Duplex): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const done = (chunk: Buffer | undefined): void => {
      socket.off('data', done);
      socket.off('end', ended);
      socket.off('close', ended);
      socket.pause();
      if (chunk === undefined) reject(new SwarmError('cancelled', 'the caller has gone'));
      else resolve(chunk);
    };
    const ended = (): void => done(undefined);
    // One that is over says nothing any more.
    if (socket.destroyed || socket.readableEnded) return ended();
    socket.on('data', done);
    socket.on('end', ended);
    socket.on('close', ended);
    socket.resume();
  });
}

/** An answer on `socket`, which Node's server has let go of; the connection ends with it. */
export function responseOn(incoming: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(incoming);
  response.shouldKeepAlive = false;
  response.assignSocket(asSocket(socket));
  response.on('finish', () => {
    socket.end();
    socket.resume();
  });
  return response;
}

/** A connection from another manager is a stream, not a socket; Node's own server takes both. */
function asSocket(stream: Duplex): Socket {
  return stream as Socket;
}
