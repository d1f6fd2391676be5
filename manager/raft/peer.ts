/**
 * The way to one other member: one stream, opened when there is something to say, on which messages
 * go in batches. Loss is allowed, so nothing waits for a connection: without one, or with the queue
 * full, messages are dropped and the core told. States: idle (no stream; perhaps backing off) ->
 * open (stream; each batch is acknowledged) -> idle (closed, or unacknowledged for too long).
 */
import { MIB } from '../../base/bytes.ts';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Random } from '../../base/random.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { encodeHello } from './hello.ts';
import type { MemberAddress } from './types.ts';
import type { PeerDialer, PeerStream } from './wire.ts';

/** Waiting for the stream to drain; beyond it messages are dropped. */
const MAX_QUEUE_BYTES = 16 * MIB;
/** One batch; bounds what a heartbeat can wait behind. */
const MAX_BATCH_BYTES = 1 * MIB;
const MIN_BACK_OFF_MS = 50;
const MAX_BACK_OFF_MS = 500;
/**
 * A batch unacknowledged for this long means a dead path: TCP itself would wait far longer, and
 * after a long cut would find out of its healing only after minutes.
 */
const MAX_SILENCE_MS = 2_000;

export const ACK: Uint8Array = Uint8Array.of(1);

export interface PeerOptions {
  readonly self: MemberAddress;
  readonly dialer: PeerDialer;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly onUnreachable: (id: number) => void;
  /** The other end closed a stream with a reason. */
  readonly onRefused: (error: SwarmError) => void;
}

export class Peer {
  readonly #options: PeerOptions;
  readonly #id: number;
  #address: string;
  #stream: PeerStream | undefined = undefined;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writable = true;
  #flushQueued = false;
  #backOffMs = 0;
  #retryAtMs = Number.NEGATIVE_INFINITY;
  #unackedSinceMs: number | undefined = undefined;
  #closed = false;

  constructor(id: number, address: string, options: PeerOptions) {
    this.#id = id;
    this.#address = address;
    this.#options = options;
  }

  send(address: string, message: Uint8Array): void {
    if (this.#closed) return;
    const nowMs = this.#options.clock.nowMs();
    if (address !== this.#address) {
      this.#address = address;
      this.#backOffMs = 0;
      this.#retryAtMs = nowMs;
      this.#drop(undefined, false);
    }
    if (this.#unackedSinceMs !== undefined && nowMs - this.#unackedSinceMs > MAX_SILENCE_MS) {
      this.#drop(new Error(`no answer for ${MAX_SILENCE_MS} ms`), true);
    }
    if (this.#stream === undefined && !this.#dial(nowMs)) return;
    if (this.#queuedBytes + message.length > MAX_QUEUE_BYTES) {
      this.#options.onUnreachable(this.#id);
      return;
    }
    this.#queue.push(message);
    this.#queuedBytes += message.length;
    this.#scheduleFlush();
  }

  #dial(nowMs: number): boolean {
    if (nowMs < this.#retryAtMs) return false;
    const stream = this.#options.dialer.openStream(this.#address, 'messages');
    this.#stream = stream;
    this.#writable = true;
    stream.onDrain(() => {
      if (this.#stream !== stream) return;
      this.#writable = true;
      this.flush();
    });
    stream.onData(() => {
      if (this.#stream !== stream) return;
      this.#unackedSinceMs = undefined;
      this.#backOffMs = 0;
    });
    stream.onClose((error) => {
      if (this.#stream !== stream) return;
      if (error instanceof SwarmError) this.#options.onRefused(error);
      this.#drop(error, true);
    });
    this.#write(encodeHello({ from: this.#options.self, to: this.#id }));
    return this.#stream === stream;
  }

  #drop(error: Error | undefined, report: boolean): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    this.#stream = undefined;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#unackedSinceMs = undefined;
    stream.close();
    if (!report || this.#closed) return;
    const { clock, random, log } = this.#options;
    const nextMs = Math.max(MIN_BACK_OFF_MS, this.#backOffMs * 2);
    if (this.#backOffMs === 0) {
      const why = error === undefined ? 'closed by the other end' : messageOf(error);
      log.info('raft: connection lost', { to: this.#id, address: this.#address, why });
    }
    this.#backOffMs = Math.min(MAX_BACK_OFF_MS, nextMs);
    this.#retryAtMs = clock.nowMs() + this.#backOffMs * (0.5 + random.float() / 2);
    this.#options.onUnreachable(this.#id);
  }

  /** At the end of the turn, so that what is sent together goes in one batch. */
  #scheduleFlush(): void {
    if (this.#flushQueued || !this.#writable) return;
    this.#flushQueued = true;
    queueMicrotask(() => {
      this.#flushQueued = false;
      this.flush();
    });
  }

  /** Now, what the stream takes. */
  flush(): void {
    while (this.#stream !== undefined && this.#writable && this.#queue.length > 0) {
      let bytes = 0;
      let count = 0;
      for (const message of this.#queue) {
        bytes += 4 + message.length;
        if (count > 0 && bytes > MAX_BATCH_BYTES) break;
        count += 1;
      }
      const out = new ByteWriter(bytes);
      for (const message of this.#queue.splice(0, count)) {
        this.#queuedBytes -= message.length;
        out.bytes(message);
      }
      this.#write(out.take());
    }
  }

  #write(bytes: Uint8Array): void {
    const stream = this.#stream;
    if (stream === undefined) return;
    this.#unackedSinceMs ??= this.#options.clock.nowMs();
    this.#writable = stream.write(bytes);
  }

  close(): void {
    this.#closed = true;
    this.#drop(undefined, false);
  }
}

/** The messages of a batch; throws SwarmError corrupt. */
export function* readBatch(batch: Uint8Array): Generator<Uint8Array> {
  const source = new ByteReader(batch, 'raft batch');
  while (!source.done) yield source.bytes();
}
