/**
 * Sending a snapshot on a stream of its own: head (the raft message), chunks with their offset and
 * checksum, end with the total. Back come: from where to go on (0, or what the receiver has of an
 * earlier stream that was cut), acknowledged offsets, and at last "stored". The sender keeps a
 * bounded window ahead of what the receiver has written down, so neither side's memory grows, and
 * a bounded rate, so that writes and heartbeats have room beside it. snapshotTransfer.ts receives.
 */
import { crc32 } from 'node:zlib';
import { KIB, MIB } from '../../base/bytes.ts';
import type { Clock, Timer } from '../../base/clock.ts';
import { type ErrorCode, messageOf, SwarmError } from '../../base/errors.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import { SNAPSHOT_STALL_MS } from './limits.ts';
import type { SnapshotChunks } from './types.ts';
import type { PeerStream } from './wire.ts';

export const HEAD = 1;
export const CHUNK = 2;
export const END = 3;
export const ACKED = 4;
export const STORED = 5;
export const REFUSED = 6;
/** Answers the head: received so far, and how much of that is written down. */
export const FROM = 7;
/** The sender cannot go on: no other stream will come. */
export const GIVEN_UP = 8;

/** One chunk on the wire: about a millisecond of work for either side. */
export const MAX_CHUNK_BYTES = 256 * KIB;
export const WINDOW_BYTES = 4 * MIB;

/** Who closes a stream with these will close the next one too. */
const FINAL: readonly ErrorCode[] = ['forbidden', 'unauthorized', 'invalid', 'unsupported'];

const decoder = new TextDecoder();

/** The stream broke, or fell silent: what was received stays, and can be gone on with. */
export class SnapshotCut extends Error {
  /** What the receiver had written down when it was cut. */
  readonly ackedBytes: number;

  constructor(cause: Error, ackedBytes: number) {
    super(`the snapshot's stream was cut: ${messageOf(cause)}`, { cause });
    this.ackedBytes = ackedBytes;
  }
}

/** Lets through so many bytes a second, whoever they are for. */
export class ByteRate {
  readonly #clock: Clock;
  readonly #bytesPerS: number;
  #freeAtMs = 0;

  constructor(clock: Clock, bytesPerS: number) {
    this.#clock = clock;
    this.#bytesPerS = bytesPerS;
  }

  /** Resolves when `bytes` may go. */
  async take(bytes: number): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const startMs = Math.max(nowMs, this.#freeAtMs);
    this.#freeAtMs = startMs + (bytes * 1000) / this.#bytesPerS;
    if (startMs > nowMs) await this.#clock.sleep(startMs - nowMs);
  }
}

/**
 * After a hello; resolves when the receiver has stored all of it. SnapshotCut when the stream
 * breaks; other errors are the receiver's refusal, or of reading the chunks.
 */
export async function sendSnapshotStream(
  stream: PeerStream,
  clock: Clock,
  rate: ByteRate,
  message: Uint8Array,
  chunks: SnapshotChunks,
): Promise<void> {
  const sender = new Sender(stream, clock);
  try {
    stream.write(new ByteWriter().u8(HEAD).u32(crc32(message)).raw(message).take());
    const from = await sender.start();
    if (from === undefined) return;
    for await (const chunk of chunks(from)) {
      for (let at = 0; at < chunk.length; at += MAX_CHUNK_BYTES) {
        const part = chunk.subarray(at, at + MAX_CHUNK_BYTES);
        await rate.take(part.length);
        await sender.chunk(part);
      }
    }
    await sender.end();
  } catch (error) {
    if (!(error instanceof SnapshotCut)) stream.write(Uint8Array.of(GIVEN_UP));
    throw error;
  } finally {
    sender.dispose();
    stream.close();
  }
}

class Sender {
  readonly #stream: PeerStream;
  readonly #clock: Clock;
  /** From where to go on, once the receiver has said it. */
  #from: number | undefined = undefined;
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
      if (!this.#stored) this.#cut(error ?? new Error('the other end closed it'));
    });
    this.#progress();
  }

  #onData(bytes: Uint8Array): void {
    try {
      const source = new ByteReader(bytes, 'snapshot reply');
      const kind = source.u8();
      if (kind === FROM) {
        this.#from = source.u64();
        this.#sent = this.#from;
        this.#acked = source.u64();
      } else if (kind === ACKED) {
        this.#acked = source.u64();
      } else if (kind === STORED) {
        this.#stored = true;
      } else if (kind === REFUSED) {
        this.#fail(new SwarmError('unavailable', decoder.decode(source.bytes())));
      }
    } catch (error) {
      this.#cut(error instanceof Error ? error : new Error(messageOf(error)));
    }
    this.#progress();
    this.#wake?.();
  }

  #progress(): void {
    this.#stall?.cancel();
    this.#stall = this.#clock.afterIdle(SNAPSHOT_STALL_MS, () =>
      this.#cut(new Error(`no progress for ${SNAPSHOT_STALL_MS} ms`)),
    );
  }

  #cut(error: Error): void {
    const isFinal = error instanceof SwarmError && FINAL.includes(error.code);
    this.#fail(isFinal ? error : new SnapshotCut(error, this.#acked));
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

  /** From where to send; undefined when the receiver has stored it already. */
  async start(): Promise<number | undefined> {
    await this.#until(() => this.#from !== undefined || this.#stored);
    return this.#stored ? undefined : this.#from;
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
