/**
 * /tsswarm/watch over WebSocket, for pages: the same messages as the JSON lines, one a frame. The
 * only door of the ws package. A reader that does not keep up holds the watch back, not the daemon.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { KIB } from '../../base/bytes.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Slices } from '../../base/slices.ts';
import { controlOf } from './find.ts';
import { liveMessages } from './live.ts';
import type { ApiParts } from './parts.ts';
import { refuse } from './refuse.ts';

/** What a watching page may send: nothing but control frames matter. */
const MAX_INCOMING_BYTES = 4 * KIB;
const MAX_WATCHERS = 256;
const GOING_AWAY = 1001;
const INTERNAL_ERROR = 1011;

export class WatchSockets {
  readonly #parts: ApiParts;
  readonly #slices: Slices;
  readonly #sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_INCOMING_BYTES });

  constructor(parts: ApiParts, slices: Slices) {
    this.#parts = parts;
    this.#slices = slices;
  }

  /** False when the request is for something else. */
  take(request: IncomingMessage, socket: Duplex, head: Buffer): boolean {
    const path = (request.url ?? '').split('?', 1)[0];
    if (path !== '/tsswarm/watch') return false;
    socket.on('error', () => socket.destroy());
    try {
      this.#accept(request, socket, head);
    } catch (error) {
      refuse(socket, error);
    }
    return true;
  }

  close(): void {
    for (const socket of this.#sockets.clients) socket.close(GOING_AWAY, 'the daemon stops');
    this.#sockets.close();
  }

  #accept(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (this.#sockets.clients.size >= MAX_WATCHERS) {
      throw new SwarmError('unavailable', `${MAX_WATCHERS} watchers are connected already`);
    }
    const control = controlOf(this.#parts.node);
    this.#sockets.handleUpgrade(request, socket, head, (client) => {
      const gone = new AbortController();
      client.on('close', () => gone.abort());
      client.on('error', () => client.terminate());
      const messages = liveMessages(
        this.#parts.node,
        control,
        this.#parts.clock,
        this.#slices,
        gone.signal,
      );
      void pump(client, messages, gone.signal);
    });
  }
}

async function pump(
  client: WebSocket,
  messages: AsyncIterable<unknown>,
  gone: AbortSignal,
): Promise<void> {
  try {
    for await (const message of messages) {
      await sent(client, JSON.stringify(message));
      if (gone.aborted) return;
    }
    client.close();
  } catch (error) {
    if (!gone.aborted) client.close(INTERNAL_ERROR, messageOf(error).slice(0, 120));
  }
}

function sent(client: WebSocket, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    if (client.readyState !== WebSocket.OPEN) resolve();
    else client.send(text, (error) => (error ? reject(error) : resolve()));
  });
}
