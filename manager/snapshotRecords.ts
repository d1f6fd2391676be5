/**
 * Records in a stream of chunks: each is its length (4 bytes, big-endian) and its bytes, and chunks
 * may be cut anywhere. Snapshots are written and read this way. Integrity is the carrier's (each
 * stored or sent chunk has its checksum there); here only shape and bounds are checked.
 */
import { KIB, MIB } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';

const LENGTH_BYTES = 4;
const FIRST_CHUNK_BYTES = 4 * KIB;
/** Above any object: the largest are services with long environments, well below 1.5 MiB. */
const RECORD_BYTES_MAX = 4 * MIB;

export class RecordWriter {
  readonly #chunkBytes: number;
  #chunk: Buffer;
  #bytes = 0;

  /** `chunkBytes`: room for so much at first; more is taken where records need it. */
  constructor(chunkBytes = FIRST_CHUNK_BYTES) {
    this.#chunkBytes = chunkBytes;
    this.#chunk = Buffer.allocUnsafeSlow(chunkBytes);
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(record: Uint8Array): void {
    this.addFrom(bufferOf(record), 0);
  }

  /** The bytes from `start` on are a record. It is copied: the bytes may change afterwards. */
  addFrom(bytes: Buffer, start: number): void {
    const length = bytes.length - start;
    const end = this.#bytes + LENGTH_BYTES + length;
    if (end > this.#chunk.length) this.#grow(end);
    this.#chunk.writeUInt32BE(length, this.#bytes);
    bytes.copy(this.#chunk, this.#bytes + LENGTH_BYTES, start);
    this.#bytes = end;
  }

  #grow(needed: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, 2 * this.#chunk.length));
    this.#chunk.copy(larger, 0, 0, this.#bytes);
    this.#chunk = larger;
  }

  /** Everything added since the last call, joined. */
  take(): Uint8Array {
    const chunk = this.#chunk.subarray(0, this.#bytes);
    this.#chunk = Buffer.allocUnsafeSlow(this.#chunkBytes);
    this.#bytes = 0;
    return chunk;
  }
}

export class RecordReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #held: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /**
   * The next records, as many as have come, at least one: a turn for each would cost as much as
   * reading it. undefined at the end. SwarmError corrupt when the stream ends within one.
   */
  async next(): Promise<readonly Uint8Array[] | undefined> {
    for (;;) {
      const records = this.#whole();
      if (records.length > 0) return records;
      const { done, value } = await this.#chunks.next();
      if (done !== true) {
        this.#held = this.#held.length === 0 ? bufferOf(value) : Buffer.concat([this.#held, value]);
      } else if (this.#held.length === 0) {
        return undefined;
      } else {
        throw new SwarmError('corrupt', 'a snapshot ends within a record');
      }
    }
  }

  #whole(): Uint8Array[] {
    const held = this.#held;
    const records: Uint8Array[] = [];
    let at = 0;
    while (held.length - at >= LENGTH_BYTES) {
      const length = held.readUInt32BE(at);
      if (length > RECORD_BYTES_MAX) {
        throw new SwarmError('corrupt', `a snapshot holds a record of ${length} bytes`);
      }
      const end = at + LENGTH_BYTES + length;
      if (end > held.length) break;
      records.push(held.subarray(at + LENGTH_BYTES, end));
      at = end;
    }
    this.#held = held.subarray(at);
    return records;
  }
}

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
