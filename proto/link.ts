/**
 * A link: messages of bytes both ways over a TLS connection of its own, for what is said too often
 * to pay for HTTP/2 and gRPC each time (Raft's messages). It is spoken on the same port, chosen by
 * ALPN, and its callers are judged as those of calls are. A frame: u32 LE length of what follows,
 * u8 kind, content. Kinds: 0 a message, 1 the end and why, which is the last. It retries nothing
 * and decides nothing about who may call.
 */
import * as tls from 'node:tls';
import { MIB } from '../base/bytes.ts';
import type { Clock } from '../base/clock.ts';
import { isErrorCode, SwarmError } from '../base/errors.ts';
import {
  checkServer,
  type ExpectedServer,
  type NodeCredentials,
  type PeerIdentity,
  TLS_SERVER_NAME,
} from './credentials.ts';
import type { MethodName } from './rpcTypes.ts';
import { connectionError, parseDetail, statusOf } from './status.ts';

/** Its name in ALPN; another layout of frames gets another. */
export const LINK_PROTOCOL = 'tsswarm-link/1';
const HEAD_BYTES = 5;
const MESSAGE = 0;
const END = 1;
/** One message; Raft's batches stay well below it. */
const MAX_FRAME_BYTES = 16 * MIB;
/** Written and not yet taken by the connection; above it the writer is held back. */
const HIGH_WATER_BYTES = 2 * MIB;
const CONNECT_TIMEOUT_MS = 1500;
/** The last words have this long to go out. */
const END_TIMEOUT_MS = 1000;
/** Hosts that vanish without a word are found out by TCP where nobody speaks. */
const KEEPALIVE_MS = 5000;
const OTHER_PROTOCOL = /alpn|no.application.protocol/i;

/** One end. Listeners are set in the turn in which it is got. */
export class Link {
  readonly #socket: tls.TLSSocket;
  readonly #clock: Clock;
  /** Of the other end, for errors. */
  readonly #address: string;
  /** Come and not yet a whole frame; joined once they may be. */
  #parts: Buffer[] = [];
  #heldBytes = 0;
  #neededBytes = HEAD_BYTES;
  #isHeld = false;
  #isClosed = false;
  #failure: Error | undefined;
  #onDrain: () => void = () => {};
  #onData: (bytes: Uint8Array) => void = () => {};
  #onClose: (error: Error | undefined) => void = () => {};

  constructor(socket: tls.TLSSocket, address: string, clock: Clock) {
    this.#socket = socket;
    this.#address = address;
    this.#clock = clock;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('drain', () => this.#drained());
    socket.on('error', (error) => this.fail(connectionError(address, error.message)));
    socket.on('close', () => this.#onClose(this.#isClosed ? undefined : this.#failure));
  }

  /** Queues one message; false = the buffer is full, wait for the drain. No-op once closed. */
  write(bytes: Uint8Array): boolean {
    if (this.#isClosed) return true;
    this.#send(MESSAGE, bytes);
    this.#isHeld = this.#socket.writableLength >= HIGH_WATER_BYTES;
    return !this.#isHeld;
  }

  #send(kind: number, bytes: Uint8Array): void {
    // One piece, hence one TLS record where it is small.
    const frame = Buffer.allocUnsafe(HEAD_BYTES + bytes.length);
    frame.writeUInt32LE(1 + bytes.length, 0);
    frame[4] = kind;
    frame.set(bytes, HEAD_BYTES);
    this.#socket.write(frame);
  }

  #drained(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#onDrain();
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener;
  }

  onData(listener: (bytes: Uint8Array) => void): void {
    this.#onData = listener;
  }

  /** Called once; `error` says why unless the other end closed in good order, or this one did. */
  onClose(listener: (error: Error | undefined) => void): void {
    this.#onClose = listener;
  }

  /** Ends it: with a reason the other end hears that, without one at once. Idempotent. */
  close(reason?: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (reason === undefined) {
      this.#socket.destroy();
      return;
    }
    const { message, errorCode, detail } = statusOf(reason);
    const said = { code: errorCode, message, detail: Buffer.from(detail).toString() };
    this.#send(END, Buffer.from(JSON.stringify(said)));
    this.#socket.end();
    const timer = this.#clock.afterIdle(END_TIMEOUT_MS, () => this.#socket.destroy());
    this.#socket.once('close', () => timer.cancel());
  }

  /** It broke; the first reason is the one that is told. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#socket.destroy();
  }

  get #isOver(): boolean {
    return this.#isClosed || this.#socket.destroyed;
  }

  #take(bytes: Buffer): void {
    // Who was refused may well talk on for a moment.
    if (this.#isOver) return;
    this.#parts.push(bytes);
    this.#heldBytes += bytes.length;
    if (this.#heldBytes < this.#neededBytes) return;
    const all = this.#parts.length === 1 ? bytes : Buffer.concat(this.#parts);
    let at = 0;
    this.#neededBytes = HEAD_BYTES;
    try {
      while (!this.#isOver && all.length - at >= HEAD_BYTES) {
        const length = all.readUInt32LE(at);
        if (length < 1 || length > MAX_FRAME_BYTES) throw this.#unreadable(`${length} bytes`);
        const end = at + HEAD_BYTES - 1 + length;
        if (end > all.length) {
          this.#neededBytes = end - at;
          break;
        }
        this.#frame(all[at + 4], all.subarray(at + HEAD_BYTES, end));
        at = end;
      }
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.#parts = at === all.length ? [] : [all.subarray(at)];
    this.#heldBytes = all.length - at;
  }

  #frame(kind: number, content: Buffer): void {
    if (kind === MESSAGE) this.#onData(content);
    else if (kind === END) this.fail(reasonOf(content) ?? this.#unreadable('an end'));
    else throw this.#unreadable(`kind ${kind}`);
  }

  #unreadable(what: string): SwarmError {
    return new SwarmError('corrupt', `${this.#address} sent a frame that is none: ${what}`);
  }
}

function reasonOf(content: Buffer): SwarmError | undefined {
  try {
    const { code, message, detail } = JSON.parse(content.toString()) as Record<string, unknown>;
    if (typeof code !== 'string' || !isErrorCode(code) || typeof message !== 'string') return;
    const bytes = typeof detail === 'string' ? Buffer.from(detail) : undefined;
    return new SwarmError(code, message, { detail: parseDetail(bytes) });
  } catch {
    return undefined; // the caller says that it is none
  }
}

/** Throws SwarmError unless `peer`, who speaks from `from`, may call `method`. */
type Judge = (peer: PeerIdentity | undefined, method: MethodName, from: string) => void;

/**
 * The accepting side: gives each link to whoever takes links at that time, or refuses it. Who opens
 * one is judged as a caller of the method that it stands for.
 */
export class LinkGate {
  readonly #clock: Clock;
  readonly #judge: Judge;
  #taker: { readonly method: MethodName; readonly accept: (link: Link) => void } | undefined;

  constructor(clock: Clock, judge: Judge) {
    this.#clock = clock;
    this.#judge = judge;
  }

  /** Takes links until what it returns is called. */
  handle(method: MethodName, accept: (link: Link) => void): () => void {
    const taker = { method, accept };
    this.#taker = taker;
    return () => {
      if (this.#taker === taker) this.#taker = undefined;
    };
  }

  take(socket: tls.TLSSocket, from: string, peer: PeerIdentity | undefined): void {
    const link = new Link(socket, from, this.#clock);
    try {
      if (this.#taker === undefined) throw new SwarmError('unavailable', 'no links are taken here');
      this.#judge(peer, this.#taker.method, from);
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      link.close(error);
      return;
    }
    this.#taker.accept(link);
  }
}

export interface DialOptions {
  readonly credentials: NodeCredentials;
  readonly expect: ExpectedServer;
  readonly clock: Clock;
  /** Something of this cluster listens there that knows no links. */
  readonly onOtherProtocol: () => void;
}

/** 'host:port', also with the host in brackets. */
function endOf(address: string): { host: string; port: number } {
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  return { host, port: Number(address.slice(colon + 1)) };
}

/** Errors, also of dialling, come through onClose. */
export function dialLink(address: string, options: DialOptions): Link {
  const { credentials, expect, clock, onOtherProtocol } = options;
  const socket = tls.connect({
    ...endOf(address),
    minVersion: 'TLSv1.3',
    ca: credentials.rootCertificate,
    cert: credentials.certificate,
    key: credentials.privateKey,
    ALPNProtocols: [LINK_PROTOCOL],
    servername: TLS_SERVER_NAME,
    checkServerIdentity: (_host, certificate) => checkServer(certificate, expect),
  });
  socket.on('error', (error) => {
    if (OTHER_PROTOCOL.test(error.message)) onOtherProtocol();
  });
  const link = new Link(socket, address, clock);
  const timer = clock.afterIdle(CONNECT_TIMEOUT_MS, () => {
    const why = `cannot reach ${address}: nothing answers there`;
    link.fail(new SwarmError('unavailable', why, { detail: { reason: 'unreachable' } }));
  });
  socket.once('close', () => timer.cancel());
  socket.once('secureConnect', () => {
    timer.cancel();
    if (socket.alpnProtocol === LINK_PROTOCOL) return;
    onOtherProtocol();
    link.fail(new SwarmError('unsupported', `${address} knows no ${LINK_PROTOCOL}`));
  });
  return link;
}
