/**
 * What the log and the snapshots ask of a file system: every call of this folder that reaches a
 * disk goes through Files, so that one page says what is asked and tests can stand a simulated disk
 * beneath. hostFiles is the real one. Errors are the system's (`code`: ENOENT, ENOSPC, EIO); what
 * is created is the owner's alone. It keeps nothing and decides nothing.
 */
import * as fs from 'node:fs';
import { SwarmError } from '../../../base/errors.ts';

export interface Files {
  /** With its parents; nothing where it is there. */
  makeDirectory(directory: string): void;
  list(directory: string): string[];
  /** Makes created, renamed and removed names durable. */
  syncDirectory(directory: string): void;
  /** The whole file. */
  read(file: string): Buffer;
  /** undefined = there is none. */
  sizeOf(file: string): number | undefined;
  /** Takes the place of what has that name. */
  rename(from: string, to: string): void;
  /** Nothing where there is none. */
  remove(file: string): void;
  /** A small file with this content, synced. Its name is durable with its directory. */
  writeSynced(file: string, bytes: Uint8Array): void;
  /** A file that exists, to be written in place by the log's own thread. */
  openInPlace(file: string): InPlaceFile;
  /** A new empty file; one of that name is emptied. */
  create(file: string): Promise<GrowingFile>;
  openToRead(file: string): Promise<ReadFile>;
}

/** Synchronous: on the log's thread that is quickest. */
export interface InPlaceFile {
  readonly sizeBytes: number;
  /** All of `bytes`. */
  write(bytes: Uint8Array, at: number): void;
  /** What was written is durable when it returns. */
  syncData(): void;
  close(): void;
}

export interface GrowingFile {
  /** All of `parts`, at the end. */
  append(parts: readonly Uint8Array[]): Promise<void>;
  /** What was appended, and the size, are durable when it resolves. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface ReadFile {
  /** Fewer than `length` bytes only at the end of the file. */
  read(at: number, length: number): Promise<Buffer>;
  close(): Promise<void>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

export const hostFiles: Files = {
  makeDirectory: (directory) => {
    fs.mkdirSync(directory, { recursive: true, mode: DIRECTORY_MODE });
  },
  list: (directory) => fs.readdirSync(directory),
  syncDirectory: (directory) => withDescriptor(directory, 'r', fs.fsyncSync),
  read: (file) => fs.readFileSync(file),
  sizeOf: (file) => fs.statSync(file, { throwIfNoEntry: false })?.size,
  rename: (from, to) => fs.renameSync(from, to),
  remove: (file) => fs.rmSync(file, { force: true }),
  writeSynced: (file, bytes) =>
    withDescriptor(file, 'w', (descriptor) => {
      writeAll(descriptor, bytes, 0);
      fs.fsyncSync(descriptor);
    }),
  openInPlace: (file) => new HostInPlaceFile(fs.openSync(file, 'r+')),
  create: async (file) => new HostGrowingFile(await fs.promises.open(file, 'w', FILE_MODE)),
  openToRead: async (file) => new HostReadFile(await fs.promises.open(file, 'r')),
};

/** No space, or a quota: what an operator can mend without a restart. */
export function isDiskFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
}

/** What those are told who want what a full disk cannot give. */
export function diskFull(directory: string, outcome: string): SwarmError {
  const what = `the disk that holds ${directory} is full: free space; ${outcome}`;
  return new SwarmError('exhausted', what);
}

function withDescriptor(file: string, flags: string, work: (descriptor: number) => void): void {
  const descriptor = fs.openSync(file, flags, FILE_MODE);
  try {
    work(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

function writeAll(descriptor: number, bytes: Uint8Array, at: number): void {
  let written = 0;
  while (written < bytes.length) {
    written += fs.writeSync(descriptor, bytes, written, bytes.length - written, at + written);
  }
}

class HostInPlaceFile implements InPlaceFile {
  readonly sizeBytes: number;
  readonly #descriptor: number;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
    this.sizeBytes = fs.fstatSync(descriptor).size;
  }

  write(bytes: Uint8Array, at: number): void {
    writeAll(this.#descriptor, bytes, at);
  }

  syncData(): void {
    fs.fdatasyncSync(this.#descriptor);
  }

  close(): void {
    fs.closeSync(this.#descriptor);
  }
}

class HostGrowingFile implements GrowingFile {
  readonly #handle: fs.promises.FileHandle;
  #at = 0;

  constructor(handle: fs.promises.FileHandle) {
    this.#handle = handle;
  }

  async append(parts: readonly Uint8Array[]): Promise<void> {
    let { bytesWritten: written } = await this.#handle.writev(parts, this.#at);
    // A disk about to be full takes a part of it and says so by the count alone.
    for (const part of parts) {
      const whole = written >= part.length;
      let at = whole ? part.length : written;
      written -= at;
      while (at < part.length) {
        const rest = part.length - at;
        at += (await this.#handle.write(part, at, rest, this.#at + at)).bytesWritten;
      }
      this.#at += part.length;
    }
  }

  sync(): Promise<void> {
    return this.#handle.sync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

class HostReadFile implements ReadFile {
  readonly #handle: fs.promises.FileHandle;

  constructor(handle: fs.promises.FileHandle) {
    this.#handle = handle;
  }

  async read(at: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    let count = 0;
    while (count < length) {
      const { bytesRead } = await this.#handle.read(buffer, count, length - count, at + count);
      if (bytesRead === 0) break;
      count += bytesRead;
    }
    return buffer.subarray(0, count);
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}
