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

  /** The next record; undefined at the end. SwarmError corrupt when the stream ends within one. */
  async next(): Promise<Uint8Array | undefined> {
    if (!(await this.#fill(LENGTH_BYTES))) {
      if (this.#held.length === 0) return undefined;
      throw new SwarmError('corrupt', 'a snapshot ends within a record');
    }
    const length = this.#held.readUInt32BE(0);
    if (length > RECORD_BYTES_MAX) {
      throw new SwarmError('corrupt', `a snapshot holds a record of ${length} bytes`);
    }
    if (!(await this.#fill(LENGTH_BYTES + length))) {
      throw new SwarmError('corrupt', 'a snapshot ends within a record');
    }
    const record = this.#held.subarray(LENGTH_BYTES, LENGTH_BYTES + length);
    this.#held = this.#held.subarray(LENGTH_BYTES + length);
    return record;
  }

  /** Whether at least `count` bytes are held, after reading as many chunks as it takes. */
  async #fill(count: number): Promise<boolean> {
    while (this.#held.length < count) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return false;
      this.#held = Buffer.concat([this.#held, value]);
    }
    return true;
  }
}
