/**
 * The file of a backup, its one place: a head that can be read by anybody who has the file, then
 * the objects of the store as snapshots carry them, in chunks; then the end.
 *   magic 8 · format u32 · head length u32 · head (JSON)
 *   chunks: length u32 (not 0) · CRC-32 u32 · bytes, sealed or in the clear
 *   end: 0 u32 · CRC-32 u32 · length u32 · bytes (the number of chunks, u64, sealed as they are)
 *   SHA-256 (32) of all that comes before
 * Little endian. A file that fails a check is SwarmError corrupt with the offset, never half
 * believed: what comes of chunks() counts only once it has come to its end.
 */
import { createHash, type Hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { KIB, MIB } from '../base/bytes.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { SEAL_BYTES, type Seal } from '../base/seal.ts';
import type { TableName } from '../model/types.ts';

export const BACKUP_FORMAT = 1;
const MAGIC = Buffer.from('TSSWMBAK');
const HEAD_BYTES_MAX = 64 * KIB;
/** Bound of one chunk; those of the store are far smaller. */
const CHUNK_BYTES_MAX = 4 * MIB;
const DIGEST_BYTES = 32;
const COUNT_BYTES = 8;

export interface BackupHead {
  readonly clusterId: string;
  /** Unix ms. */
  readonly savedAtMs: number;
  /** Of the host that wrote it. */
  readonly hostname: string;
  /** Of the program. */
  readonly product: string;
  /** The store's version: the Raft index, and the term of that entry or a later one. */
  readonly version: number;
  readonly term: number;
  readonly counts: Readonly<Record<TableName, number>>;
  /** With the unlock key that the managers had when it was written. */
  readonly sealed: boolean;
}

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [at, value] of values.entries()) bytes.writeUInt32LE(value, 4 * at);
  return bytes;
}

/** What a sealed part is bound to: this file (by its head), and its place in it. */
function placeOf(head: Uint8Array, part: number | 'end'): Uint8Array {
  return Buffer.concat([createHash('sha256').update(head).digest(), Buffer.from(String(part))]);
}

/** The whole file. `seal` must be given exactly when the head says sealed. */
export async function* writeBackup(
  head: BackupHead,
  chunks: AsyncIterable<Uint8Array>,
  seal: Seal | undefined,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  const headBytes = Buffer.from(JSON.stringify(head));
  const hashed = (bytes: Buffer): Buffer => {
    hash.update(bytes);
    return bytes;
  };
  const part = (plain: Uint8Array, number: number | 'end'): Uint8Array =>
    seal === undefined ? plain : seal.seal([plain], placeOf(headBytes, number));
  yield hashed(Buffer.concat([MAGIC, u32(BACKUP_FORMAT, headBytes.length), headBytes]));
  let count = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += CHUNK_BYTES_MAX) {
      const bytes = part(chunk.subarray(at, at + CHUNK_BYTES_MAX), count);
      count += 1;
      yield hashed(Buffer.concat([u32(bytes.length, crc32(bytes)), bytes]));
    }
  }
  const total = Buffer.alloc(COUNT_BYTES);
  total.writeBigUInt64LE(BigInt(count));
  const bytes = part(total, 'end');
  yield hashed(Buffer.concat([u32(0, crc32(bytes), bytes.length), bytes]));
  yield hash.digest();
}

/** What is relied on before the checksum at the end has been seen. */
function isHead(head: Partial<BackupHead> | null): head is BackupHead {
  const { version = -1, term = -1, counts, savedAtMs, sealed, clusterId } = head ?? {};
  const isCounted = typeof counts === 'object' && counts !== null;
  const isTimed = typeof savedAtMs === 'number' && Number.isSafeInteger(savedAtMs);
  const isPlaced = Number.isSafeInteger(version) && version >= 0 && Number.isSafeInteger(term);
  return (
    isPlaced && isCounted && isTimed && typeof sealed === 'boolean' && typeof clusterId === 'string'
  );
}

export class BackupReader {
  readonly head: BackupHead;
  readonly #source: Source;
  readonly #headBytes: Uint8Array;

  private constructor(head: BackupHead, headBytes: Uint8Array, source: Source) {
    this.head = head;
    this.#headBytes = headBytes;
    this.#source = source;
  }

  /** Reads the head. SwarmError invalid when it is no backup, unsupported when newer. */
  static async open(file: AsyncIterable<Uint8Array>): Promise<BackupReader> {
    const source = new Source(file);
    const start = await source.take(MAGIC.length, 'no backup of a swarm');
    if (!start.equals(MAGIC)) throw new SwarmError('invalid', 'this is no backup of a swarm');
    const format = (await source.take(4)).readUInt32LE(0);
    if (format !== BACKUP_FORMAT) {
      throw new SwarmError(
        'unsupported',
        `the backup has format ${format}, and this tsswarm knows ${BACKUP_FORMAT}: use the ` +
          'version that wrote it, or a newer one',
      );
    }
    const length = (await source.take(4)).readUInt32LE(0);
    if (length > HEAD_BYTES_MAX) throw source.damaged('a damaged head');
    const bytes = await source.take(length);
    let head: Partial<BackupHead> | null;
    try {
      head = JSON.parse(bytes.toString('utf8'));
    } catch (error) {
      throw source.damaged(`a damaged head (${messageOf(error)})`);
    }
    if (!isHead(head)) throw source.damaged('a damaged head (fields are missing)');
    return new BackupReader(head, bytes, source);
  }

  /**
   * The chunks, to be used once; `seal` opens them where they are sealed. 'sealed': they are
   * checked and given as they are. SwarmError corrupt, also when the file ends early; invalid when
   * the key is another one.
   */
  async *chunks(seal: Seal | undefined | 'sealed'): AsyncGenerator<Uint8Array> {
    for (let number = 0; ; number += 1) {
      const length = (await this.#source.take(4)).readUInt32LE(0);
      if (length > CHUNK_BYTES_MAX + SEAL_BYTES) throw this.#source.damaged('a damaged chunk');
      const crc = (await this.#source.take(4)).readUInt32LE(0);
      const isEnd = length === 0;
      const bytes = await this.#source.take(isEnd ? await this.#endLength() : length);
      if (crc32(bytes) !== crc) throw this.#source.damaged('a damaged chunk');
      const plain = this.#open(bytes, isEnd ? 'end' : number, seal);
      if (!isEnd) {
        yield plain;
        continue;
      }
      const count = seal === 'sealed' ? number : Number(Buffer.from(plain).readBigUInt64LE(0));
      if (count !== number) throw this.#source.damaged('chunks are missing');
      return this.#source.finish();
    }
  }

  async #endLength(): Promise<number> {
    const length = (await this.#source.take(4)).readUInt32LE(0);
    const expected = COUNT_BYTES + (this.head.sealed ? SEAL_BYTES : 0);
    if (length !== expected) throw this.#source.damaged('a damaged end');
    return length;
  }

  #open(bytes: Buffer, part: number | 'end', seal: Seal | undefined | 'sealed'): Uint8Array {
    if (!this.head.sealed || seal === 'sealed') return bytes;
    const plain = seal?.open(bytes, placeOf(this.#headBytes, part));
    if (plain !== undefined) return plain;
    throw new SwarmError(
      'invalid',
      'the backup is sealed with the unlock key that the managers had when it was written: ' +
        (seal === undefined ? 'give that key' : 'this is another key'),
    );
  }
}

/** Exact numbers of bytes out of a stream, hashed as they go. */
class Source {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #hash: Hash = createHash('sha256');
  #held: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  damaged(why: string): SwarmError {
    return new SwarmError('corrupt', `the backup is damaged: ${why} at byte ${this.#at}`, {
      detail: { offset: String(this.#at) },
    });
  }

  async take(count: number, isNot?: string): Promise<Buffer> {
    const bytes = await this.#read(count);
    if (bytes === undefined) {
      if (isNot !== undefined) throw new SwarmError('invalid', `this is ${isNot}`);
      throw this.damaged('it ends early');
    }
    this.#hash.update(bytes);
    this.#at += count;
    return bytes;
  }

  async #read(count: number): Promise<Buffer | undefined> {
    const parts = [this.#held];
    let length = this.#held.length;
    while (length < count) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return undefined;
      parts.push(Buffer.from(value.buffer, value.byteOffset, value.length));
      length += value.length;
    }
    const all = parts.length === 1 ? this.#held : Buffer.concat(parts, length);
    this.#held = all.subarray(count);
    return all.subarray(0, count);
  }

  /** The digest, and nothing after it. */
  async finish(): Promise<void> {
    const expected = this.#hash.digest();
    const found = await this.#read(DIGEST_BYTES);
    if (found === undefined) throw this.damaged('it ends early');
    if (!found.equals(expected)) throw this.damaged('the checksum is wrong');
    this.#at += DIGEST_BYTES;
    if ((await this.#read(1)) !== undefined) throw this.damaged('more follows after the end');
  }
}
