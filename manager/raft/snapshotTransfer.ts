/**
 * Receiving a snapshot, over as many streams as it takes. States of a transfer: attached (a stream
 * feeds it) -> detached (the stream was cut; it waits SNAPSHOT_RESUME_MS for the next one, which
 * goes on at its offset) -> attached again, or over (stored, refused, or given up). A stream that
 * brings nothing for SNAPSHOT_STALL_MS is cut: its sender may have vanished without a word. Knows
 * chunks and offsets; what is done with them is the taker's.
 */
import { crc32 } from 'node:zlib';
import type { Clock, Timer } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { SNAPSHOT_RESUME_MS, SNAPSHOT_STALL_MS } from './limits.ts';
import {
  ACKED,
  CHUNK,
  END,
  FROM,
  GIVEN_UP,
  HEAD,
  MAX_CHUNK_BYTES,
  REFUSED,
  STORED,
  WINDOW_BYTES,
} from './snapshotStream.ts';
import type { PeerStream } from './wire.ts';

/** Chunks buffered at the receiver cannot exceed the window by more than one. */
const MAX_BUFFERED_BYTES = WINDOW_BYTES + MAX_CHUNK_BYTES;

const encoder = new TextEncoder();

/** The raft message of a stream's first bytes after the hello. Throws SwarmError corrupt. */
export function readSnapshotHead(bytes: Uint8Array): Uint8Array {
  const source = new ByteReader(bytes, 'snapshot stream');
  if (source.u8() !== HEAD) throw source.corrupt('no head');
  const crc = source.u32();
  const message = bytes.subarray(source.at);
  if (crc32(message) !== crc) throw source.corrupt('checksum of the head');
  return message;
}

export type StoreSnapshot = (
  message: Uint8Array,
  chunks: AsyncIterable<Uint8Array>,
) => Promise<void>;

export class SnapshotTransfer {
  readonly from: number;
  /** Settles when it is over, well or not. */
  readonly over: Promise<void>;
  readonly #message: Uint8Array;
  readonly #clock: Clock;
  #stream: PeerStream | undefined = undefined;
  #queue: Uint8Array[] = [];
  #buffered = 0;
  #received = 0;
  #consumed = 0;
  #ended = false;
  #outcome: 'stored' | { readonly refused: string } | undefined = undefined;
  /** A sender was there to hear the outcome. */
  #told = false;
  #failure: Error | undefined = undefined;
  #wake: (() => void) | undefined = undefined;
  #patience: Timer | undefined = undefined;
  #stall: Timer | undefined = undefined;

  /** `store` is given the raft message and the chunks; when it resolves the sender is told. */
  constructor(from: number, message: Uint8Array, clock: Clock, store: StoreSnapshot) {
    this.from = from;
    this.#message = Uint8Array.from(message);
    this.#clock = clock;
    this.over = this.#run(store);
  }

  isOf(from: number, message: Uint8Array): boolean {
    return this.from === from && Buffer.compare(this.#message, message) === 0;
  }

  /** It waits for a stream that may never come. */
  get isDetached(): boolean {
    return this.#stream === undefined && this.#outcome === undefined;
  }

  /** It can be gone on with, or was stored while no sender was there to be told. */
  get isUsable(): boolean {
    if (this.#outcome !== undefined) return this.#outcome === 'stored' && !this.#told;
    return this.#failure === undefined;
  }

  /** From now on `stream` feeds it; a former one is closed. */
  attach(stream: PeerStream): void {
    const former = this.#stream;
    this.#stream = stream;
    this.#patience?.cancel();
    former?.close();
    if (this.#outcome !== undefined) this.#tell();
    else stream.write(new ByteWriter(17).u8(FROM).u64(this.#received).u64(this.#consumed).take());
    this.#expect();
  }

  /** Unless it is this side that is slow. */
  #expect(): void {
    this.#stall?.cancel();
    this.#stall = this.#clock.afterIdle(SNAPSHOT_STALL_MS, () => {
      const stream = this.#stream;
      if (stream === undefined || this.#outcome !== undefined) return;
      if (this.#buffered > 0 || this.#ended) {
        this.#expect();
        return;
      }
      this.detach(stream);
      stream.close();
    });
  }

  /** The stream closed. */
  detach(stream: PeerStream): void {
    if (this.#stream !== stream) return;
    this.#stream = undefined;
    if (this.#outcome !== undefined) return;
    this.#patience = this.#clock.afterIdle(SNAPSHOT_RESUME_MS, () =>
      this.fail(
        new SwarmError(
          'unavailable',
          `a snapshot broke off after ${this.#received} bytes, and its sender did not come back`,
        ),
      ),
    );
  }

  /** What follows the head. Throws SwarmError corrupt: close that stream then. */
  take(stream: PeerStream, bytes: Uint8Array): void {
    if (this.#stream !== stream) return;
    this.#expect();
    const source = new ByteReader(bytes, 'snapshot stream');
    const kind = source.u8();
    if (kind === CHUNK && !this.#ended) {
      const offset = source.u64();
      const crc = source.u32();
      const chunk = bytes.subarray(source.at);
      if (offset !== this.#received) throw source.corrupt(`chunk at ${offset}`);
      if (crc32(chunk) !== crc) throw source.corrupt(`checksum of the chunk at ${offset}`);
      if (this.#buffered + chunk.length > MAX_BUFFERED_BYTES) {
        throw source.corrupt('sent past the window');
      }
      this.#received += chunk.length;
      this.#buffered += chunk.length;
      this.#queue.push(chunk);
    } else if (kind === END) {
      if (source.u64() !== this.#received) throw source.corrupt('its end is missing');
      this.#ended = true;
    } else if (kind === GIVEN_UP) {
      this.fail(new SwarmError('unavailable', 'the sender gave the snapshot up'));
    } else {
      throw source.corrupt(`unexpected message ${kind}`);
    }
    this.#wake?.();
  }

  async #run(store: StoreSnapshot): Promise<void> {
    try {
      await store(this.#message, this.#chunks());
      if (this.#failure !== undefined) throw this.#failure;
      this.#outcome = 'stored';
    } catch (error) {
      this.#outcome = { refused: messageOf(error) };
    }
    this.#patience?.cancel();
    this.#stall?.cancel();
    this.#tell();
  }

  #tell(): void {
    const stream = this.#stream;
    if (stream === undefined || this.#outcome === undefined) return;
    this.#told = true;
    if (this.#outcome === 'stored') {
      stream.write(new ByteWriter(1).u8(STORED).take());
    } else {
      const why = encoder.encode(this.#outcome.refused);
      stream.write(new ByteWriter().u8(REFUSED).bytes(why).take());
    }
    stream.close();
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const chunk = this.#queue.shift();
      if (chunk !== undefined) {
        yield chunk;
        this.#buffered -= chunk.length;
        this.#consumed += chunk.length;
        this.#stream?.write(new ByteWriter(9).u8(ACKED).u64(this.#consumed).take());
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** Gives it up: whoever reads the chunks is told. */
  fail(error: Error): void {
    this.#patience?.cancel();
    this.#failure ??= error;
    this.#wake?.();
  }
}
