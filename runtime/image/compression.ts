/**
 * Decompression of archives and layers: gzip by zlib, zstd by zlib where Node has it and otherwise
 * by fzstd (whose only door this is), told apart by their first bytes. Output is produced in
 * bounded pieces, never gathered. Runs in the worker thread: fzstd computes for long.
 */
import { Readable } from 'node:stream';
import zlib from 'node:zlib';
import { Decompress } from 'fzstd';
import { hasCode, messageOf, SwarmError } from '../../base/errors.ts';

export type Compression = 'none' | 'gzip' | 'zstd';

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b, 0x08]);
const ZSTD_MAGIC = 0xfd2fb528;
const ZSTD_SKIPPABLE_MAGIC = 0x184d2a50; // to ...5f
export const MAGIC_BYTES = 4;
/** Given out at a time: with less the way between threads costs more than the inflating. */
const GUNZIP_BYTES = 1024 * 1024;
/** Fed to fzstd at a time: a block of 4 bytes may grow to 128 KiB, so at most 16 MiB at once. */
const ZSTD_SLICE_BYTES = 512;
/**
 * zstd's own limit for decoders that were not asked to take more (ZSTD_WINDOWLOG_LIMIT_DEFAULT).
 */
const ZSTD_MAX_WINDOW_LOG = 27;

export function detectCompression(head: Uint8Array): Compression {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (bytes.length >= GZIP_MAGIC.length && bytes.subarray(0, 3).equals(GZIP_MAGIC)) return 'gzip';
  if (bytes.length < MAGIC_BYTES) return 'none';
  const magic = bytes.readUInt32LE(0);
  if (magic === ZSTD_MAGIC || (magic & 0xfffffff0) >>> 0 === ZSTD_SKIPPABLE_MAGIC) return 'zstd';
  return 'none';
}

/** `source` uncompressed, whichever of the known forms it has. SwarmError invalid if damaged. */
export async function* decompress(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  let head: Uint8Array = new Uint8Array(0);
  while (head.byteLength < MAGIC_BYTES) {
    const next = await chunks.next();
    if (next.done === true) break;
    head = head.byteLength === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  const whole = rejoin(head, chunks);
  const kind = detectCompression(head);
  if (kind === 'none') {
    yield* whole;
    return;
  }
  let sourceFailure: { readonly error: unknown } | undefined;
  async function* watched(): AsyncGenerator<Uint8Array> {
    try {
      yield* whole;
    } catch (error) {
      sourceFailure = { error };
      throw error;
    }
  }
  try {
    if (kind === 'gzip') yield* through(watched(), zlib.createGunzip({ chunkSize: GUNZIP_BYTES }));
    else yield* zstd(watched());
  } catch (error) {
    if (sourceFailure !== undefined) throw sourceFailure.error;
    if (hasCode(error, 'invalid')) throw error;
    throw new SwarmError('invalid', `the ${kind} data is damaged: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function* rejoin(
  head: Uint8Array,
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    if (head.byteLength > 0) yield head;
    for (;;) {
      const next = await rest.next();
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await rest.return?.();
  }
}

async function* through(
  source: AsyncIterable<Uint8Array>,
  transform: NodeJS.ReadWriteStream,
): AsyncGenerator<Uint8Array> {
  const input = Readable.from(source, { objectMode: false });
  input.on('error', (error) => (transform as zlib.Gunzip).destroy(error));
  input.pipe(transform);
  try {
    for await (const chunk of transform) yield chunk as Buffer;
  } finally {
    input.destroy();
  }
}

type ZstdZlib = {
  createZstdDecompress?: (options: object) => NodeJS.ReadWriteStream;
  constants: { ZSTD_d_windowLogMax?: number };
};

async function* zstd(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const native = zlib as unknown as ZstdZlib;
  if (native.createZstdDecompress !== undefined) {
    const key = native.constants.ZSTD_d_windowLogMax ?? 100;
    yield* through(source, native.createZstdDecompress({ params: { [key]: ZSTD_MAX_WINDOW_LOG } }));
    return;
  }
  const ready: Uint8Array[] = [];
  const decoder = new Decompress((data) => {
    if (data.byteLength > 0) ready.push(data.slice()); // the decoder goes on using its own
  });
  let checked = false;
  for await (const chunk of source) {
    if (!checked) {
      checkWindow(chunk);
      checked = true;
    }
    for (let at = 0; at < chunk.byteLength; at += ZSTD_SLICE_BYTES) {
      decoder.push(chunk.subarray(at, at + ZSTD_SLICE_BYTES));
      yield* ready.splice(0);
    }
  }
  decoder.push(new Uint8Array(0), true);
  yield* ready.splice(0);
}

/** RFC 8878 3.1.1.1.2: the window of the first frame; larger ones would take too much memory. */
function checkWindow(head: Uint8Array): void {
  if (head.byteLength < 6 || detectCompression(head) !== 'zstd') return;
  const singleSegment = (head[4] & 0x20) !== 0;
  if (head[0] !== 0x28 || singleSegment) return;
  const windowLog = 10 + (head[5] >> 3);
  if (windowLog > ZSTD_MAX_WINDOW_LOG) {
    throw new SwarmError(
      'invalid',
      `the zstd data wants a window of 2^${windowLog} bytes: compress it without --ultra --long`,
    );
  }
}
