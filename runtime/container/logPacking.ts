/**
 * Rotated files of a container's log, packed: <number>.log becomes <number>.log.gz once the shim
 * writes another, and is read as if it were not. The shim removes both when they are too old; what
 * it removed while it was being packed is not left behind.
 */
import { constants, createReadStream, createWriteStream, type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';

const FILE = /^(\d+)\.log(?:\.gz)?$/;
const PLAIN = /^\d+\.log$/;
const PACKED = '.gz';
/** Being packed; begun anew by the next daemon. */
const UNFINISHED = '.packing';
const MODE = 0o640;

export function logFileName(number: number): string {
  return `${String(number).padStart(8, '0')}.log`;
}

/** Of the log's files, packed or not, oldest first. */
export function numbersAmong(names: readonly string[]): number[] {
  const numbers = names.filter((name) => FILE.test(name)).map((name) => Number.parseInt(name, 10));
  return [...new Set(numbers)].sort((left, right) => left - right);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined; // rotated away, or the container was removed
  throw error;
}

/** What file `number` says, packed or not; undefined when it is gone. */
export async function openLogFile(dir: string, number: number): Promise<FileHandle | undefined> {
  const path = join(dir, logFileName(number));
  const plain = await open(path).catch(ignoreMissing);
  if (plain !== undefined) return plain;
  const packed = await open(`${path}${PACKED}`).catch(ignoreMissing);
  return packed === undefined ? undefined : await unpacked(dir, packed);
}

const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** In a file without a name, which goes with its descriptor. */
async function unpacked(dir: string, packed: FileHandle): Promise<FileHandle | undefined> {
  const file = await open(dir, O_TMPFILE | constants.O_RDWR, MODE).catch(ignoreMissing);
  if (file === undefined) {
    await packed.close();
    return undefined;
  }
  try {
    let at = 0;
    for await (const chunk of packed.createReadStream().pipe(createGunzip())) {
      at += (await file.write(chunk as Buffer, 0, chunk.length, at)).bytesWritten;
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Packs what is rotated, one file at a time, for as long as it is not closed. */
export class LogPacker {
  readonly #dir: string;
  readonly #maxFiles: number;
  readonly #log: Log;
  #watcher: FSWatcher | undefined;
  #working: Promise<void> | undefined;
  #isWanted = false;
  #isClosed = false;

  constructor(dir: string, maxFiles: number, log: Log) {
    this.#dir = dir;
    this.#maxFiles = maxFiles;
    this.#log = log;
  }

  /** Also for what was rotated before. */
  start(): void {
    try {
      this.#watcher ??= watch(this.#dir);
      this.#watcher.on('change', (kind) => {
        if (kind === 'rename') this.look(); // a file has come or gone
      });
      this.#watcher.on('error', () => {
        // the directory went away with its container
      });
    } catch (error) {
      // No inotify watch is left: rotated files stay as they are until its end.
      this.#log.warn('a log cannot be watched', { directory: this.#dir, error: messageOf(error) });
    }
    this.look();
  }

  /** Nothing more is written. */
  finish(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.look();
  }

  look(): void {
    this.#isWanted = true;
    this.#working ??= this.#work()
      .catch((error: unknown) => {
        // What is not packed stays readable; the next rotation tries again.
        this.#log.warn('a log cannot be packed', { dir: this.#dir, error: messageOf(error) });
      })
      .finally(() => {
        this.#working = undefined;
      });
  }

  /** Resolves when nothing is being packed any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#watcher?.close();
    await this.#working;
  }

  async #work(): Promise<void> {
    while (this.#isWanted && !this.#isClosed) {
      this.#isWanted = false;
      const names = (await readdir(this.#dir).catch(ignoreMissing)) ?? [];
      const newest = numbersAmong(names).at(-1) ?? 0;
      for (const name of names.filter((each) => each.endsWith(UNFINISHED))) {
        await rm(join(this.#dir, name), { force: true }); // of a daemon that was killed
      }
      for (const name of names.filter((each) => PLAIN.test(each)).sort()) {
        if (Number.parseInt(name, 10) < newest && !this.#isClosed) await this.#pack(name);
      }
    }
  }

  async #pack(name: string): Promise<void> {
    const path = join(this.#dir, name);
    const target = `${path}${PACKED}`;
    const source = createReadStream(path);
    try {
      await pipeline(
        source,
        createGzip(),
        createWriteStream(`${path}${UNFINISHED}`, { mode: MODE }),
      );
      await rename(`${path}${UNFINISHED}`, target);
      await rm(path, { force: true });
    } catch (error) {
      await rm(`${path}${UNFINISHED}`, { force: true });
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // rotated away
      return;
    }
    const names = (await readdir(this.#dir).catch(ignoreMissing)) ?? [];
    const newest = numbersAmong(names).at(-1) ?? 0;
    if (Number.parseInt(name, 10) <= newest - this.#maxFiles) await rm(target, { force: true });
  }
}
