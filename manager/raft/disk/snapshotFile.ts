/**
 * One snapshot, one file: `<index>-<term>.snap`, written aside, synced, renamed, directory synced.
 *   magic u32 · version u8 · flags u8 (bit 0: sealed) · u16 zero · meta length u32 ·
 *   CRC u32 over all before it and meta (version 1: meta only) · meta
 *   then chunks: length u32 (not 0) · CRC u32 · bytes
 *   then the end: 0 u32 · CRC u32 over all chunks' CRCs · total bytes u64
 * A file that fails a check is SwarmError corrupt, naming file and offset; it is never half
 * believed.
 */
import * as path from 'node:path';
import { crc32 } from 'node:zlib';
import { MIB } from '../../../base/bytes.ts';
import { SwarmError } from '../../../base/errors.ts';
import { SEAL_BYTES, type Seal } from '../../../base/seal.ts';
import { ByteReader, ByteWriter } from '../bytes.ts';
import { readSnapshotMeta, writeSnapshotMeta } from '../codec.ts';
import type { EntryId, SnapshotMeta } from '../core/types.ts';
import { type Files, type GrowingFile, isDiskFull, type ReadFile } from './files.ts';
import { ReadAhead } from './readAhead.ts';
import { damage, newer } from './recovery.ts';

const MAGIC = 0x53575354; // "TSWS"
/** The newest version that is read, and the one that is written. */
export const SNAPSHOT_VERSION = 2;
const FLAG_SEALED = 1;
const HEAD_BYTES = 16;
/** Of the head, what its checksum covers. */
const HEAD_COVERED_BYTES = 12;
const CHUNK_HEAD_BYTES = 8;
/** Bound of one chunk, whoever made it. */
export const MAX_CHUNK_BYTES = 4 * MIB;
const MAX_META_BYTES = 16 * MIB;
const PATTERN = /^(\d{16})-\d{16}\.snap$/;

export function snapshotPath(directory: string, id: EntryId): string {
  const pad = (value: number): string => String(value).padStart(16, '0');
  return path.join(directory, `${pad(id.index)}-${pad(id.term)}.snap`);
}

/** Durable and in place when it resolves. SwarmError exhausted when the disk is full. */
export async function writeSnapshot(
  files: Files,
  directory: string,
  meta: SnapshotMeta,
  chunks: AsyncIterable<Uint8Array>,
  unfinishedName: string,
  seal?: Seal,
): Promise<void> {
  const unfinished = path.join(directory, unfinishedName);
  try {
    const file = await files.create(unfinished);
    try {
      await writeAll(file, meta, chunks, seal);
      await file.sync();
    } finally {
      await file.close();
    }
    files.rename(unfinished, snapshotPath(directory, meta));
    files.syncDirectory(directory);
  } catch (error) {
    files.remove(unfinished);
    if (!isDiskFull(error)) throw error;
    throw new SwarmError('exhausted', `no room for a raft snapshot in ${directory}: free space`, {
      cause: error,
    });
  }
}

async function writeAll(
  file: GrowingFile,
  meta: SnapshotMeta,
  chunks: AsyncIterable<Uint8Array>,
  seal: Seal | undefined,
): Promise<void> {
  const out = new ByteWriter();
  writeSnapshotMeta(out, meta);
  const metaBytes = out.take();
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt32LE(MAGIC, 0);
  head[4] = SNAPSHOT_VERSION;
  head[5] = seal === undefined ? 0 : FLAG_SEALED;
  head.writeUInt32LE(metaBytes.length, 8);
  head.writeUInt32LE(crc32(metaBytes, crc32(head.subarray(0, HEAD_COVERED_BYTES))), 12);
  await file.append([head, metaBytes]);
  let total = 0;
  let crcOfCrcs = 0;
  let number = 0;
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; at += MAX_CHUNK_BYTES) {
      const plain = chunk.subarray(at, at + MAX_CHUNK_BYTES);
      const part = seal === undefined ? plain : seal.seal([plain], chunkPlace(meta, number));
      number += 1;
      const chunkHead = Buffer.alloc(CHUNK_HEAD_BYTES);
      chunkHead.writeUInt32LE(part.length, 0);
      chunkHead.writeUInt32LE(crc32(part), 4);
      crcOfCrcs = crc32(chunkHead, crcOfCrcs);
      total += part.length;
      await file.append([chunkHead, part]);
    }
  }
  const end = new ByteWriter(HEAD_BYTES).u32(0).u32(crcOfCrcs).u64(total).take();
  await file.append([end]);
}

/** What a sealed chunk is bound to: its snapshot and its place in it. */
function chunkPlace(id: EntryId, number: number): Uint8Array {
  return new ByteWriter(24).u64(id.index).u64(id.term).u64(number).take();
}

/** An open snapshot; close it. Reading checks everything as it goes. */
export class SnapshotReader {
  readonly meta: SnapshotMeta;
  readonly format: number;
  readonly #handle: ReadFile;
  readonly #file: string;
  /** Opens the chunks; undefined where they are in the clear. */
  readonly #seal: Seal | undefined;
  /** Where its chunks begin. */
  readonly #start: number;

  private constructor(
    handle: ReadFile,
    file: string,
    meta: SnapshotMeta,
    start: number,
    seal: Seal | undefined,
    format: number,
  ) {
    this.format = format;
    this.#seal = seal;
    this.#handle = handle;
    this.#file = file;
    this.meta = meta;
    this.#start = start;
  }

  /** Throws SwarmError corrupt, also when the file is missing. */
  static async open(
    files: Files,
    directory: string,
    id: EntryId,
    seal?: Seal,
  ): Promise<SnapshotReader> {
    const file = snapshotPath(directory, id);
    let handle: ReadFile;
    try {
      handle = await files.openToRead(file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw damage(file, 0, 'the snapshot that the log counts on is missing');
    }
    try {
      const head = await readExactly(handle, file, 0, HEAD_BYTES);
      if (head.readUInt32LE(0) !== MAGIC) throw damage(file, 0, 'this is no snapshot');
      const length = head.readUInt32LE(8);
      if (length > MAX_META_BYTES) throw damage(file, 8, 'a damaged header');
      const metaBytes = await readExactly(handle, file, HEAD_BYTES, length);
      const covered = head[4] === 1 ? 0 : crc32(head.subarray(0, HEAD_COVERED_BYTES));
      if (crc32(metaBytes, covered) !== head.readUInt32LE(12)) {
        throw damage(file, 0, 'a damaged header');
      }
      const isKnown = head[4] <= SNAPSHOT_VERSION && (head[5] & ~FLAG_SEALED) === 0;
      if (!isKnown) throw newer(file, 'snapshot format', head[4], SNAPSHOT_VERSION);
      const isSealed = (head[5] & FLAG_SEALED) !== 0;
      if (isSealed && seal === undefined) throw damage(file, 5, 'sealed, and there is no key');
      const meta = readSnapshotMeta(new ByteReader(metaBytes, file));
      if (meta.index !== id.index || meta.term !== id.term) {
        throw damage(file, HEAD_BYTES, `it is snapshot ${meta.index} of term ${meta.term}`);
      }
      const opens = isSealed ? seal : undefined;
      return new SnapshotReader(handle, file, meta, HEAD_BYTES + length, opens, head[4]);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * From `fromByte` on; chunks wholly before it are passed over unread. Throws SwarmError corrupt
   * on the first bad chunk, or a missing end.
   */
  async *chunks(fromByte = 0): AsyncGenerator<Uint8Array> {
    const ahead = new ReadAhead(this.#handle);
    const sealBytes = this.#seal === undefined ? 0 : SEAL_BYTES;
    let fileAt = this.#start;
    let skip = fromByte;
    let total = 0;
    let crcOfCrcs = 0;
    for (let number = 0; ; number += 1) {
      const head = await readExactly(ahead, this.#file, fileAt, CHUNK_HEAD_BYTES);
      const length = head.readUInt32LE(0);
      const crc = head.readUInt32LE(4);
      const start = fileAt + CHUNK_HEAD_BYTES;
      if (length === 0) {
        const end = await readExactly(ahead, this.#file, start, 8);
        const expected = end.readUInt32LE(4) * 4_294_967_296 + end.readUInt32LE(0);
        if (crc !== crcOfCrcs || expected !== total) {
          throw damage(this.#file, fileAt, 'chunks are missing');
        }
        return;
      }
      if (length > MAX_CHUNK_BYTES + SEAL_BYTES)
        throw damage(this.#file, fileAt, 'a damaged chunk');
      crcOfCrcs = crc32(head, crcOfCrcs);
      total += length;
      fileAt = start + length;
      const plainBytes = length - sealBytes;
      if (skip >= plainBytes) {
        skip -= plainBytes;
        continue;
      }
      const bytes = await readExactly(ahead, this.#file, start, length);
      if (crc32(bytes) !== crc) throw damage(this.#file, start, 'a damaged chunk');
      const place = chunkPlace(this.meta, number);
      const plain = this.#seal === undefined ? bytes : this.#seal.open(bytes, place);
      if (plain === undefined) throw damage(this.#file, start, 'a chunk sealed with another key');
      yield skip === 0 ? plain : plain.subarray(skip);
      skip = 0;
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

async function readExactly(
  handle: Pick<ReadFile, 'read'>,
  file: string,
  at: number,
  length: number,
): Promise<Buffer> {
  const bytes = await handle.read(at, length);
  if (bytes.length < length) throw damage(file, at + bytes.length, 'it ends early');
  return bytes;
}

/**
 * At open: removes every snapshot but `keep` and older ones, which the user may want kept, and
 * leftovers of unfinished ones.
 */
export function removeOtherSnapshots(files: Files, directory: string, keep: EntryId): void {
  for (const name of otherSnapshots(files, directory, keep)) {
    if (indexOf(name) >= keep.index) files.remove(path.join(directory, name));
  }
}

/** Complete or arriving snapshots that are not `keep`. */
export function otherSnapshots(files: Files, directory: string, keep: EntryId): string[] {
  const kept = path.basename(snapshotPath(directory, keep));
  const isSnapshot = (name: string): boolean => PATTERN.test(name) || name.endsWith('.part');
  return files.list(directory).filter((name) => name !== kept && isSnapshot(name));
}

/**
 * Later: only those before `keep`, and of those not the newest `old`; one that is newer has arrived
 * and is about to be installed.
 */
export function removeOlderSnapshots(
  files: Files,
  directory: string,
  keep: EntryId,
  old: number,
): void {
  const older = files.list(directory).filter((name) => indexOf(name) < keep.index);
  older.sort((left, right) => indexOf(right) - indexOf(left));
  for (const name of older.slice(old)) files.remove(path.join(directory, name));
}

function indexOf(name: string): number {
  return Number(PATTERN.exec(name)?.[1] ?? Number.POSITIVE_INFINITY);
}
