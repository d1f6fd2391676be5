/**
 * The content store: blobs/sha256/<hex>, each file exactly the bytes of its name. A blob arrives in
 * ingest/, is checked by size and digest, and only then renamed into place. It is on disk once the
 * file system was synchronised, which the store sees to before it relies on that. ingest/ is
 * emptied on opening. Which blobs are kept is the store's decision, not this file's.
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { diskError, emptyDirectory, ensureDirectory } from './disk.ts';
import { hexOf } from './reference.ts';

/** Manifests and configurations; the registries' own bound on manifests is 4 MiB. */
export const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

/** Written at a time: each write is a way to another thread and back. */
const GATHERED_BYTES = 1024 * 1024;

export class BlobStore {
  readonly #directory: string;
  readonly #ingest: string;
  #lastIngest = 0;

  private constructor(directory: string) {
    this.#directory = path.join(directory, 'blobs', 'sha256');
    this.#ingest = path.join(directory, 'ingest');
  }

  /** `directory`: the image store's; made where missing. Removes what was left half arrived. */
  static async open(directory: string): Promise<BlobStore> {
    const store = new BlobStore(directory);
    await ensureDirectory(store.#directory);
    await emptyDirectory(store.#ingest);
    return store;
  }

  path(digest: string): string {
    return path.join(this.#directory, hexOf(digest));
  }

  async has(digest: string): Promise<boolean> {
    return (await this.sizeBytes(digest)) !== undefined;
  }

  async sizeBytes(digest: string): Promise<number | undefined> {
    try {
      return (await stat(this.path(digest))).size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** A manifest or configuration, checked against its digest. */
  async readDocument(digest: string): Promise<Buffer> {
    const sizeBytes = await this.sizeBytes(digest);
    if (sizeBytes === undefined) {
      throw new SwarmError('not_found', `blob ${digest} is not in the image store`);
    }
    checkDocumentSize(sizeBytes, digest);
    const bytes = await readFile(this.path(digest));
    if (digestOf(bytes) !== digest) {
      throw new SwarmError(
        'corrupt',
        `${this.path(digest)} is damaged: remove the images that use it and get them again`,
      );
    }
    return bytes;
  }

  /** An empty directory of its own inside ingest/, and its removal. */
  async scratch(): Promise<{ directory: string; remove: () => Promise<void> }> {
    const directory = this.#nextIngest();
    await mkdir(directory, { mode: 0o700 });
    return { directory, remove: () => rm(directory, { recursive: true, force: true }) };
  }

  /** Takes over a file of scratch(), whose digest was computed when it was written. */
  async adopt(file: string, digest: string): Promise<void> {
    if (await this.has(digest)) return;
    await rename(file, this.path(digest));
  }

  /** Stores a small blob; returns its digest. */
  async put(bytes: Uint8Array): Promise<string> {
    const digest = digestOf(bytes);
    if (await this.has(digest)) return digest;
    const writer = await this.write({ digest, sizeBytes: bytes.byteLength });
    try {
      await writer.append(bytes);
      await writer.commit();
    } finally {
      await writer.abandon();
    }
    return digest;
  }

  write(expected: ExpectedBlob): Promise<BlobWriter> {
    return BlobWriter.open(this.#nextIngest(), this.path(expected.digest), expected);
  }

  /** Digests of all blobs. */
  async list(): Promise<string[]> {
    const names = await readdir(this.#directory);
    return names.filter((name) => /^[a-f0-9]{64}$/.test(name)).map((name) => `sha256:${name}`);
  }

  async remove(digest: string): Promise<void> {
    await rm(this.path(digest), { force: true });
  }

  #nextIngest(): string {
    this.#lastIngest += 1;
    return path.join(this.#ingest, String(this.#lastIngest));
  }
}

export interface ExpectedBlob {
  readonly digest: string;
  readonly sizeBytes: number;
}

/** A blob that arrives piece by piece. After commit or abandon nothing more is written. */
export class BlobWriter {
  readonly #file: string;
  readonly #target: string;
  readonly #expected: ExpectedBlob;
  readonly #handle: Awaited<ReturnType<typeof open>>;
  #hash: Hash = createHash('sha256');
  #doneBytes = 0;
  /** Taken in and not yet given to the kernel. */
  #gathered: Uint8Array[] = [];
  #gatheredBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  #open = true;

  private constructor(
    file: string,
    target: string,
    expected: ExpectedBlob,
    handle: Awaited<ReturnType<typeof open>>,
  ) {
    this.#file = file;
    this.#target = target;
    this.#expected = expected;
    this.#handle = handle;
  }

  static async open(file: string, target: string, expected: ExpectedBlob): Promise<BlobWriter> {
    try {
      return new BlobWriter(file, target, expected, await open(file, 'wx', 0o600));
    } catch (error) {
      throw diskError(error, path.dirname(file));
    }
  }

  /** Bytes that have arrived; where a cut download goes on. */
  get doneBytes(): number {
    return this.#doneBytes;
  }

  /** SwarmError corrupt when more comes than was promised, exhausted on a full disk. */
  async append(chunk: Uint8Array): Promise<void> {
    const { digest, sizeBytes } = this.#expected;
    if (this.#doneBytes + chunk.byteLength > sizeBytes) {
      throw new SwarmError(
        'corrupt',
        `blob ${digest} is longer than the ${sizeBytes} bytes promised`,
      );
    }
    this.#hash.update(chunk);
    this.#doneBytes += chunk.byteLength;
    this.#gathered.push(chunk);
    this.#gatheredBytes += chunk.byteLength;
    if (this.#gatheredBytes < GATHERED_BYTES) return;
    // The last write has to end before the next: at most two are in memory.
    await this.#writing;
    this.#flush();
  }

  /** Begins to write what was gathered; its failure is the next wait's. */
  #flush(): void {
    const chunks = this.#gathered;
    const at = this.#doneBytes - this.#gatheredBytes;
    this.#gathered = [];
    this.#gatheredBytes = 0;
    if (chunks.length === 0) return;
    this.#writing = this.#write(chunks, at);
    this.#writing.catch(() => {}); // told by the next `await this.#writing`, 'unhandled' till then
  }

  async #write(chunks: readonly Uint8Array[], from: number): Promise<void> {
    const bytes = chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
    try {
      for (let at = 0; at < bytes.byteLength; ) {
        const left = bytes.byteLength - at;
        const { bytesWritten } = await this.#handle.write(bytes, at, left, from + at);
        at += bytesWritten;
      }
    } catch (error) {
      throw diskError(error, path.dirname(this.#target));
    }
  }

  /** Starts again from nothing. */
  async restart(): Promise<void> {
    await this.#writing;
    this.#gathered = [];
    this.#gatheredBytes = 0;
    await this.#handle.truncate(0);
    this.#hash = createHash('sha256');
    this.#doneBytes = 0;
  }

  /** Checks size and digest and puts the blob in place. SwarmError corrupt when they differ. */
  async commit(): Promise<void> {
    const { digest, sizeBytes } = this.#expected;
    await this.#writing;
    this.#flush();
    await this.#writing;
    if (this.#doneBytes !== sizeBytes) {
      throw new SwarmError(
        'corrupt',
        `blob ${digest} has ${this.#doneBytes} bytes instead of the ${sizeBytes} promised`,
      );
    }
    const found = `sha256:${this.#hash.digest('hex')}`;
    if (found !== digest) {
      throw new SwarmError('corrupt', `blob ${digest} arrived with other content (${found})`);
    }
    try {
      await rename(this.#file, this.#target);
    } catch (error) {
      throw diskError(error, path.dirname(this.#target));
    }
    await this.#close();
  }

  /** Closes, and removes what was not committed. Idempotent. */
  async abandon(): Promise<void> {
    if (!this.#open) return;
    await this.#writing.catch(() => {}); // what it failed with was told already
    await this.#close();
    await rm(this.#file, { force: true });
  }

  async #close(): Promise<void> {
    this.#open = false;
    await this.#handle.close();
  }
}

export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

export function checkDocumentSize(sizeBytes: number, what: string): void {
  if (sizeBytes > MAX_DOCUMENT_BYTES) {
    throw new SwarmError(
      'invalid',
      `${what} has ${sizeBytes} bytes; a manifest or configuration has at most 4 MiB`,
    );
  }
}
