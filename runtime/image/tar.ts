/**
 * Reading and writing tar streams; tar-stream's only door. Reading yields entries one by one with
 * the PAX fields applied (owner, times, extended attributes as raw bytes); what is not read of an
 * entry is skipped. Names are given as they stand in the archive: whoever unpacks decides what is
 * safe. Nothing here touches the file system.
 */
import type { EventEmitter } from 'node:events';
import { extract, pack } from 'tar-stream';
import { assert } from '../../base/assert.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';

export type TarType =
  | 'file'
  | 'link'
  | 'symlink'
  | 'character-device'
  | 'block-device'
  | 'directory'
  | 'fifo';

export interface TarHeader {
  readonly name: string;
  readonly type: TarType;
  readonly sizeBytes: number;
  /** Permission bits including set-id and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeMs: number;
  /** Target of a link or symlink, else ''. */
  readonly linkName: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly xattrs: ReadonlyMap<string, Uint8Array>;
}

export interface TarEntry {
  readonly header: TarHeader;
  readonly body: AsyncIterable<Uint8Array>;
}

/** Linux: names and values of one inode's attributes are at most this together, with room. */
const MAX_XATTR_BYTES = 1024 * 1024;
const MAX_NAME_BYTES = 4096; // PATH_MAX
const MODE_BITS = 0o7777;
const HEADER_BYTES = 512;
/** Of an archive being written, before its reader has taken them. */
const MAX_AHEAD_BYTES = 1024 * 1024;
const XATTR_KEY = 'SCHILY.xattr.';
const SPARSE_KEY = 'GNU.sparse.';

interface RawHeader {
  name: string;
  type: string | null;
  size: number;
  mode: number;
  uid: number;
  gid: number;
  mtime: Date;
  linkname: string | null;
  devmajor: number;
  devminor: number;
  pax: (Record<string, string> & { [RAW]?: Map<string, Uint8Array> }) | null;
}

const RAW = Symbol('raw extended attributes');

/** tar-stream's streams as they are used here: its own types leave out what Node's streams have. */
interface Ending extends EventEmitter {
  readonly destroyed: boolean;
  destroy(error?: Error): void;
}

interface Sink extends Ending {
  write(chunk: Uint8Array): boolean;
  end(): void;
}

interface EntryStream extends AsyncIterable<Uint8Array> {
  readonly header: RawHeader;
  resume(): void;
}

interface Extractor extends Sink, AsyncIterable<EntryStream> {
  /** Not part of its interface: the place where PAX records can be seen as bytes. */
  _decodeLongHeader(payload: Uint8Array): void;
  _header: { type: string };
  _pax: RawHeader['pax'];
}

interface Packer extends Ending, AsyncIterable<Uint8Array> {
  /** Not part of its interface: the place where PAX records can be written as bytes. */
  _encodePax(header: { readonly pax?: RawHeader['pax'] }): void;
  push(chunk: Uint8Array): boolean;
  entry(header: object, body: Uint8Array): Sink;
  entry(header: object, done?: (error?: Error | null) => void): Sink;
  finalize(): void;
}

/**
 * The entries of `source` in order. A broken archive: SwarmError invalid. Errors of `source` pass
 * through unchanged.
 */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const options: object = { allowUnknownFormat: true };
  const reader = extract(options) as unknown as Extractor;
  keepRawXattrs(reader);
  let sourceFailure: { readonly error: unknown } | undefined;
  const pump = async (): Promise<void> => {
    try {
      for await (const chunk of source) {
        if (reader.destroyed) return;
        if (!reader.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))) {
          await either(reader, 'drain', 'close');
        }
      }
      reader.end();
    } catch (error) {
      if (reader.destroyed) return; // its own failure was told to the reader of entries
      sourceFailure = { error };
      reader.destroy(error instanceof Error ? error : new Error(messageOf(error)));
    }
  };
  const failed = (error: unknown): unknown => {
    if (sourceFailure !== undefined) return sourceFailure.error;
    if (error instanceof SwarmError) return error;
    return new SwarmError('invalid', `not a whole tar archive: ${messageOf(error)}`, {
      cause: error,
    });
  };
  const entries = reader[Symbol.asyncIterator]();
  const pumped = pump();
  try {
    for (;;) {
      const next = await entries.next();
      if (next.done === true) break;
      const entry = next.value;
      yield { header: headerOf(entry.header), body: bodyOf(entry, failed) };
      entry.resume();
    }
    await pumped;
  } catch (error) {
    throw failed(error);
  } finally {
    if (!reader.destroyed) reader.destroy();
  }
}

function either(stream: Ending, one: string, other: string): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      stream.off(one, wake);
      stream.off(other, wake);
      resolve();
    };
    stream.on(one, wake);
    stream.on(other, wake);
  });
}

async function* bodyOf(
  entry: EntryStream,
  failed: (error: unknown) => unknown,
): AsyncGenerator<Uint8Array> {
  const chunks = entry[Symbol.asyncIterator]();
  for (;;) {
    let next: IteratorResult<Uint8Array>;
    try {
      next = await chunks.next();
    } catch (error) {
      throw failed(error);
    }
    if (next.done === true) return;
    yield next.value;
  }
}

/**
 * tar-stream turns PAX values into text, which damages binary ones (file capabilities). This keeps
 * the bytes of the extended attributes beside them.
 */
function keepRawXattrs(reader: Extractor): void {
  assert(typeof reader._decodeLongHeader === 'function', 'tar-stream has another inside now');
  const decode = reader._decodeLongHeader.bind(reader);
  reader._decodeLongHeader = (payload) => {
    decode(payload);
    if (reader._header.type !== 'pax-header' || reader._pax === null) return;
    const raw = decodeXattrs(payload);
    if (raw.size > 0) reader._pax[RAW] = raw;
  };
}

/** PAX records are `<length> <key>=<value>\n`, length counting itself (POSIX pax, 4.18). */
function decodeXattrs(payload: Uint8Array): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  let at = 0;
  let total = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(0x20, at);
    const length =
      space < 0 ? Number.NaN : Number.parseInt(bytes.toString('latin1', at, space), 10);
    const end = at + length;
    if (!(length > space - at + 1) || end > bytes.length) break;
    const equals = bytes.indexOf(0x3d, space);
    if (equals > 0 && equals < end) {
      const key = bytes.toString('utf8', space + 1, equals);
      if (key.startsWith(XATTR_KEY)) {
        total += end - at;
        if (total > MAX_XATTR_BYTES) {
          throw new SwarmError('invalid', 'a tar entry has more than 1 MiB of extended attributes');
        }
        found.set(key.slice(XATTR_KEY.length), Buffer.from(bytes.subarray(equals + 1, end - 1)));
      }
    }
    at = end;
  }
  return found;
}

function headerOf(raw: RawHeader): TarHeader {
  const type = raw.type === 'contiguous-file' ? 'file' : raw.type;
  if (type === null || !isTarType(type)) {
    throw new SwarmError(
      'unsupported',
      `tar entry "${raw.name}" has a type this reader does not know (sparse or multi-volume?): ` +
        'make the archive again without it',
    );
  }
  if (
    Buffer.byteLength(raw.name) > MAX_NAME_BYTES ||
    Buffer.byteLength(raw.linkname ?? '') > MAX_NAME_BYTES
  ) {
    throw new SwarmError('invalid', `a name of more than ${MAX_NAME_BYTES} bytes in a tar archive`);
  }
  if (Object.keys(raw.pax ?? {}).some((key) => key.startsWith(SPARSE_KEY))) {
    // Its body is a map and pieces: taken as it stands it would be another file.
    throw new SwarmError(
      'unsupported',
      `tar entry "${raw.name}" is a sparse file: make the archive again without --sparse`,
    );
  }
  if (!Number.isSafeInteger(raw.size) || raw.size < 0) {
    throw new SwarmError('invalid', `tar entry "${raw.name}" has the impossible size ${raw.size}`);
  }
  const pax = raw.pax;
  return {
    name: raw.name,
    type,
    sizeBytes: raw.size,
    mode: raw.mode & MODE_BITS,
    uid: wholeOr(pax?.['uid'], raw.uid),
    gid: wholeOr(pax?.['gid'], raw.gid),
    mtimeMs: timeOr(pax?.['mtime'], raw.mtime.getTime()),
    linkName: raw.linkname ?? '',
    deviceMajor: raw.devmajor,
    deviceMinor: raw.devminor,
    xattrs: pax?.[RAW] ?? new Map(),
  };
}

const TYPES: ReadonlySet<string> = new Set<TarType>([
  'file',
  'link',
  'symlink',
  'character-device',
  'block-device',
  'directory',
  'fifo',
]);

function isTarType(type: string): type is TarType {
  return TYPES.has(type);
}

function wholeOr(text: string | undefined, otherwise: number): number {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : otherwise;
}

function timeOr(seconds: string | undefined, otherwise: number): number {
  const ms = seconds === undefined ? otherwise : Number(seconds) * 1000;
  return Number.isFinite(ms) ? ms : 0;
}

export interface TarInput {
  readonly name: string;
  readonly type?: TarType;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeMs?: number;
  readonly linkName?: string;
  readonly deviceMajor?: number;
  readonly deviceMinor?: number;
  readonly xattrs?: ReadonlyMap<string, Uint8Array>;
  readonly body?: Uint8Array | { sizeBytes: number; chunks: AsyncIterable<Uint8Array> };
}

/** A tar archive of `inputs`: the same inputs give the same bytes. */
export async function* writeTar(
  inputs: Iterable<TarInput> | AsyncIterable<TarInput>,
): AsyncGenerator<Uint8Array> {
  const writer = pack() as unknown as Packer;
  writeRawXattrs(writer);
  let aheadBytes = 0;
  let wake = (): void => {};
  const feed = async (): Promise<void> => {
    try {
      for await (const input of inputs) {
        await writeEntry(writer, input);
        aheadBytes += HEADER_BYTES + (input.body instanceof Uint8Array ? input.body.byteLength : 0);
        // Entries without a streamed body are taken however slowly the archive is read.
        while (aheadBytes > MAX_AHEAD_BYTES && !writer.destroyed) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      writer.finalize();
    } catch (error) {
      writer.destroy(error instanceof Error ? error : new Error(messageOf(error)));
    }
  };
  const fed = feed();
  try {
    for await (const chunk of writer) {
      yield chunk;
      aheadBytes = Math.max(0, aheadBytes - chunk.byteLength);
      wake();
    }
    await fed;
  } finally {
    if (!writer.destroyed) writer.destroy();
    wake();
    // What `inputs` holds open may be closed when this has ended.
    await fed;
  }
}

async function writeEntry(writer: Packer, input: TarInput): Promise<void> {
  const type = input.type ?? 'file';
  const body = input.body ?? new Uint8Array(0);
  const streamed = !(body instanceof Uint8Array);
  const header = {
    name: input.name,
    type,
    mode: input.mode ?? (type === 'directory' ? 0o755 : 0o644),
    uid: input.uid ?? 0,
    gid: input.gid ?? 0,
    mtime: new Date(input.mtimeMs ?? 0),
    size: streamed ? body.sizeBytes : body.byteLength,
    linkname: input.linkName ?? '',
    devmajor: input.deviceMajor ?? 0,
    devminor: input.deviceMinor ?? 0,
    ...paxOf(input.xattrs ?? new Map()),
  };
  if (!streamed) {
    if (type === 'file') writer.entry(header, Buffer.from(body));
    else writer.entry(header);
    return;
  }
  let sink: Sink | undefined;
  const done = new Promise<void>((resolve, reject) => {
    sink = writer.entry(header, (error) => (error ? reject(error) : resolve()));
  });
  done.catch(() => {}); // awaited below; this keeps an early failure from counting as unhandled
  assert(sink !== undefined, 'tar-stream made no sink');
  for await (const chunk of body.chunks) {
    if (sink.destroyed) break; // nobody reads the archive any more
    if (!sink.write(Buffer.from(chunk)) && !sink.destroyed) await either(sink, 'drain', 'close');
  }
  sink.end();
  await done;
}

/** Attributes as PAX records: placeholders of the values' length, which are not text. */
function paxOf(xattrs: ReadonlyMap<string, Uint8Array>): { readonly pax?: RawHeader['pax'] } {
  if (xattrs.size === 0) return {};
  const pax: NonNullable<RawHeader['pax']> = {};
  for (const [name, value] of xattrs) pax[`${XATTR_KEY}${name}`] = 'x'.repeat(value.byteLength);
  pax[RAW] = new Map(xattrs);
  return { pax };
}

/** tar-stream writes PAX values as text; the bytes take the placeholders' places as it does. */
function writeRawXattrs(writer: Packer): void {
  const encode = writer._encodePax.bind(writer);
  const push = writer.push.bind(writer);
  writer._encodePax = (header) => {
    const xattrs = header.pax?.[RAW] ?? new Map<string, Uint8Array>();
    writer.push = (chunk) => {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      for (const [name, value] of xattrs) {
        const key = ` ${XATTR_KEY}${name}=`;
        // The last one: names of files stand before, and may look like anything.
        const at = bytes.lastIndexOf(key);
        if (at >= 0) bytes.set(value, at + Buffer.byteLength(key));
      }
      return push(chunk);
    };
    try {
      encode(header);
    } finally {
      writer.push = push;
    }
  };
}
