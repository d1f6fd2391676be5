/**
 * Records in a stream of chunks: each is its length (4 bytes, big-endian) and its bytes, and chunks
 * may be cut anywhere. Snapshots are written and read this way. Integrity is the carrier's (each
 * stored or sent chunk has its checksum there); here only shape and bounds are checked.
 */
import { MIB } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';

const LENGTH_BYTES = 4;
/** Above any object: the largest are services with long environments, well below 1.5 MiB. */
const RECORD_BYTES_MAX = 4 * MIB;

export class RecordWriter {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(record: Uint8Array): void {
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt32BE(record.length);
    this.#parts.push(length, record);
    this.#bytes += LENGTH_BYTES + record.length;
  }

  /** Everything added since the last call, joined. */
  take(): Uint8Array {
    const chunk = Buffer.concat(this.#parts, this.#bytes);
    this.#parts = [];
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
