/**
 * A snapshot on a stream of its own: head (the raft message), chunks with their offset and
 * checksum, end with the total; back come acknowledged offsets and at last "stored". The sender
 * keeps a bounded window ahead of what the receiver has written down, so neither side's memory
 * grows. An interrupted transfer is started again; offsets are there so that a later version may
 * resume it.
 */
import { crc32 } from 'node:zlib';
import { KIB, MIB } from '../../base/bytes.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import type { PeerStream } from './wire.ts';

const HEAD = 1;
const CHUNK = 2;
const END = 3;
const ACKED = 4;
const STORED = 5;
const REFUSED = 6;

/** One chunk on the wire: about a millisecond of work for either side. */
const MAX_CHUNK_BYTES = 256 * KIB;
const WINDOW_BYTES = 4 * MIB;
/** Chunks buffered at the receiver cannot exceed the window by more than one. */
const MAX_BUFFERED_BYTES = WINDOW_BYTES + MAX_CHUNK_BYTES;
/** No progress for this long fails the transfer. */
const STALL_MS = 10_000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Sends all of it after a hello; resolves when the receiver has stored it. */
export async function sendSnapshotStream(
  stream: PeerStream,
  clock: Clock,
  message: Uint8Array,
  chunks: AsyncIterable<Uint8Array>,
): Promise<void> {
  const sender = new Sender(stream, clock);
  try {
    stream.write(new ByteWriter().u8(HEAD).u32(crc32(message)).raw(message).take());
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length; at += MAX_CHUNK_BYTES) {
        await sender.chunk(chunk.subarray(at, at + MAX_CHUNK_BYTES));
      }
    }
    await sender.end();
  } finally {
    sender.dispose();
    stream.close();
  }
}

class Sender {
  readonly #stream: PeerStream;
  readonly #clock: Clock;
  #sent = 0;
  #acked = 0;
  #stored = false;
  #failure: Error | undefined = undefined;
  #wake: (() => void) | undefined = undefined;
  #stall: Timer | undefined = undefined;

  constructor(stream: PeerStream, clock: Clock) {
    this.#stream = stream;
    this.#clock = clock;
    stream.onData((bytes) => this.#onData(bytes));
    stream.onClose((error) => {
      if (!this.#stored) this.#fail(error ?? new Error('the other end closed the stream'));
    });
    this.#progress();
  }

  #onData(bytes: Uint8Array): void {
    try {
      const source = new ByteReader(bytes, 'snapshot reply');
      const kind = source.u8();
      if (kind === ACKED) this.#acked = source.u64();
      else if (kind === STORED) this.#stored = true;
      else if (kind === REFUSED) this.#failure = new Error(decoder.decode(source.bytes()));
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(messageOf(error));
    }
    this.#progress();
    this.#wake?.();
  }

  #progress(): void {
    this.#stall?.cancel();
    this.#stall = this.#clock.afterIdle(STALL_MS, () =>
      this.#fail(new SwarmError('timeout', `no progress for ${STALL_MS} ms`)),
    );
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (this.#failure === undefined && !condition()) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure !== undefined) throw this.#failure;
  }

  async chunk(bytes: Uint8Array): Promise<void> {
    await this.#until(() => this.#sent - this.#acked < WINDOW_BYTES);
    const out = new ByteWriter(bytes.length + 16);
    this.#stream.write(out.u8(CHUNK).u64(this.#sent).u32(crc32(bytes)).raw(bytes).take());
    this.#sent += bytes.length;
  }

  async end(): Promise<void> {
    this.#stream.write(new ByteWriter().u8(END).u64(this.#sent).take());
    await this.#until(() => this.#stored);
  }

  dispose(): void {
    this.#stall?.cancel();
  }
}

/**
 * The receiving side, fed with the messages after the hello. `store` is given the raft message and
 * the chunks; when it resolves the sender is told.
 */
export class SnapshotReceiver {
  readonly #stream: PeerStream;
  readonly #store: (message: Uint8Array, chunks: AsyncIterable<Uint8Array>) => Promise<void>;
  #queue: Uint8Array[] = [];
  #buffered = 0;
  #received = 0;
  #consumed = 0;
  #ended = false;
  #failure: Error | undefined = undefined;
  #wake: (() => void) | undefined = undefined;
  #started = false;

  constructor(
    stream: PeerStream,
    store: (message: Uint8Array, chunks: AsyncIterable<Uint8Array>) => Promise<void>,
  ) {
    this.#stream = stream;
    this.#store = store;
  }

  take(bytes: Uint8Array): void {
    try {
      this.#take(new ByteReader(bytes, 'snapshot stream'), bytes);
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(messageOf(error)));
    }
  }

  #take(source: ByteReader, bytes: Uint8Array): void {
    const kind = source.u8();
    if (kind === HEAD && !this.#started) {
      const crc = source.u32();
      const message = bytes.subarray(source.at);
      if (crc32(message) !== crc) throw source.corrupt('checksum of the head');
      this.#started = true;
      void this.#run(message);
    } else if (kind === CHUNK && this.#started && !this.#ended) {
      const offset = source.u64();
      const crc = source.u32();
      const chunk = bytes.subarray(source.at);
      if (offset !== this.#received) throw source.corrupt(`chunk at ${offset}`);
      if (crc32(chunk) !== crc) throw source.corrupt(`checksum of the chunk at ${offset}`);
      this.#received += chunk.length;
      this.#buffered += chunk.length;
      if (this.#buffered > MAX_BUFFERED_BYTES) throw source.corrupt('sent past the window');
      this.#queue.push(chunk);
      this.#wake?.();
    } else if (kind === END && this.#started) {
      if (source.u64() !== this.#received) throw source.corrupt('its end is missing');
      this.#ended = true;
      this.#wake?.();
    } else {
      throw source.corrupt(`unexpected message ${kind}`);
    }
  }

  async #run(message: Uint8Array): Promise<void> {
    try {
      await this.#store(message, this.#chunks());
      if (this.#failure !== undefined) throw this.#failure;
      this.#stream.write(new ByteWriter(1).u8(STORED).take());
    } catch (error) {
      const why = encoder.encode(messageOf(error));
      this.#stream.write(new ByteWriter().u8(REFUSED).bytes(why).take());
    }
    this.#stream.close();
  }

  async *#chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const chunk = this.#queue.shift();
      if (chunk !== undefined) {
        yield chunk;
        this.#buffered -= chunk.length;
        this.#consumed += chunk.length;
        this.#stream.write(new ByteWriter(9).u8(ACKED).u64(this.#consumed).take());
      } else if (this.#ended) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }

  /** The stream closed or is broken: whoever reads the chunks is told. */
  fail(error: Error): void {
    this.#failure ??= error;
    this.#wake?.();
    if (!this.#started) this.#stream.close();
  }
}
