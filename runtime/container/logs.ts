/**
 * Reads a container's log while the shim writes it: numbered files of records (logFormats.ts), the
 * highest number being written, old ones packed (logPacking.ts) or vanishing. Memory is bounded by
 * one window whatever the log's size. Writes nothing; a torn last record counts as not yet there.
 */
import { existsSync, type FSWatcher, readdirSync, watch } from 'node:fs';
import { type FileHandle, readdir } from 'node:fs/promises';
import type { Clock } from '../../base/clock.ts';
import type { Signal } from '../../base/queue.ts';
import type { LogFormat } from './logFormats.ts';
import { numbersAmong, openLogFile } from './logPacking.ts';
import type { LogQuery, LogRecord } from './types.ts';

/** Where the kernel gives no more inotify watches, a followed log is looked at this often. */
const LOOK_AGAIN_MS = 500;

export interface LogSource {
  readonly format: LogFormat;
  readonly clock: Clock;
  /** Nothing more will be written. */
  isOver(): boolean;
  /** Told when isOver may have changed. */
  readonly changed: Signal;
}

/** The number of the file that was written last; 1 before there is one. */
export function newestLogNumber(dir: string): number {
  return existsSync(dir) ? (numbersAmong(readdirSync(dir)).at(-1) ?? 1) : 1;
}

async function listNumbers(dir: string): Promise<number[]> {
  return numbersAmong((await readdir(dir).catch(ignoreMissing)) ?? []);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined; // rotated away, or the container was removed
  throw error;
}

interface Position {
  readonly number: number;
  readonly offset: number;
}

/** The records of one file from an offset on, and how far they went. */
class FileReader {
  readonly #file: FileHandle;
  readonly #format: LogFormat;
  readonly #window: Buffer;
  #offset: number;

  constructor(file: FileHandle, format: LogFormat, offset: number) {
    this.#file = file;
    this.#format = format;
    this.#window = Buffer.alloc(format.windowBytes);
    this.#offset = offset;
  }

  /** Up to where it has read. */
  get offset(): number {
    return this.#offset;
  }

  /** The next records, as many as one window holds; none at the present end (or a torn one). */
  async next(endOffset: number): Promise<readonly LogRecord[]> {
    const wanted = Math.min(this.#window.length, endOffset - this.#offset);
    if (wanted <= 0) return [];
    const { bytesRead } = await this.#file.read(this.#window, 0, wanted, this.#offset);
    const bytes = this.#window.subarray(0, bytesRead);
    const records: LogRecord[] = [];
    let at = 0;
    for (let found = this.#format.at(bytes, at); found; found = this.#format.at(bytes, at)) {
      records.push(found.record);
      at = found.next;
    }
    this.#offset += at;
    return records;
  }
}

/** Where reading must start to give the last `count` records that `accept` takes. */
async function findTail(
  dir: string,
  format: LogFormat,
  count: number,
  accept: (record: LogRecord) => boolean,
): Promise<Position | undefined> {
  let wanted = count;
  let start: Position | undefined;
  for (const number of (await listNumbers(dir)).reverse()) {
    const file = await openLogFile(dir, number);
    if (file === undefined) break; // rotated away: nothing older is there either
    try {
      let end = await lastWholeEnd(file, format);
      start ??= { number, offset: end };
      while (end > 0 && wanted > 0) {
        const windowStart = Math.max(0, end - format.windowBytes);
        const window = Buffer.alloc(end - windowStart);
        await file.read(window, 0, window.length, windowStart);
        for (let at = window.length; wanted > 0; ) {
          const from = format.startBefore(window, at, windowStart === 0);
          const found = from < 0 ? undefined : format.at(window, from);
          if (found === undefined) break;
          if (accept(found.record)) {
            wanted -= 1;
            start = { number, offset: windowStart + from };
          }
          at = from;
          end = windowStart + from;
        }
        // A window without a record at its end: damaged there (a power failure); it starts after.
        if (end === windowStart + window.length) return start;
      }
    } finally {
      await file.close();
    }
    if (wanted === 0) break;
  }
  return start;
}

/** The end of the last whole record: the file's, unless the shim is just writing one. */
async function lastWholeEnd(file: FileHandle, format: LogFormat): Promise<number> {
  const { size } = await file.stat();
  if (size === 0) return 0;
  const window = Buffer.alloc(Math.min(size, format.windowBytes));
  await file.read(window, 0, window.length, size - window.length);
  const from = format.startBefore(window, window.length, window.length === size);
  if (from >= 0 && format.at(window, from)?.next === window.length) return size;
  const reader = new FileReader(file, format, 0);
  while ((await reader.next(size)).length > 0);
  return reader.offset;
}

/** Wakes a reader that waits for more: the directory changed, the container ended, or abort. */
class Waker {
  readonly #source: LogSource;
  readonly #signal: AbortSignal | undefined;
  readonly #stops: (() => void)[] = [];
  #isDirty = false;
  #wake: () => void = () => {};

  constructor(dir: string, source: LogSource, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#signal = signal;
    const dirty = (): void => {
      this.#isDirty = true;
      this.#wake();
    };
    this.#stops.push(source.changed.listen(dirty));
    signal?.addEventListener('abort', dirty);
    this.#stops.push(() => signal?.removeEventListener('abort', dirty));
    const watcher = watchOrNone(dir);
    watcher?.on('change', dirty);
    watcher?.on('error', () => {
      // the directory went away; the timer in wait() notices
    });
    this.#stops.push(() => watcher?.close());
  }

  async wait(): Promise<void> {
    if (!this.#isDirty && this.#signal?.aborted !== true) {
      await new Promise<void>((resolve) => {
        const timer = this.#source.clock.after(LOOK_AGAIN_MS, resolve);
        this.#wake = () => {
          timer.cancel();
          resolve();
        };
      });
    }
    this.#isDirty = false;
    this.#wake = () => {};
  }

  stop(): void {
    for (const stop of this.#stops) stop();
  }
}

function watchOrNone(dir: string): FSWatcher | undefined {
  try {
    return watch(dir);
  } catch {
    return undefined; // no directory any more, or no inotify watch left: the timer serves
  }
}

/**
 * The records of the log in `dir` that `query` asks for, oldest first. With `follow` it ends when
 * the container is over, `untilNs` is passed, or the signal aborts.
 */
export async function* readLogs(
  dir: string,
  query: LogQuery,
  source: LogSource,
): AsyncGenerator<LogRecord> {
  const accept = (record: LogRecord): boolean =>
    (record.stream === 'stdout' ? query.stdout !== false : query.stderr !== false) &&
    (query.sinceNs === undefined || record.timeNs >= query.sinceNs) &&
    (query.untilNs === undefined || record.timeNs <= query.untilNs);
  const waker = query.follow === true ? new Waker(dir, source, query.signal) : undefined;
  try {
    const count = Math.max(0, query.tail ?? 0);
    const start =
      query.tail === undefined ? undefined : await findTail(dir, source.format, count, accept);
    // What a busy writer adds while the end is looked for is no part of it.
    let left = query.tail === undefined || waker !== undefined ? Infinity : count;
    if (left === 0) return;
    for await (const record of readFrom(dir, start, source, waker, query.signal)) {
      if (query.untilNs !== undefined && record.timeNs > query.untilNs) return;
      if (!accept(record)) continue;
      yield record;
      left -= 1;
      if (left === 0) return;
    }
  } finally {
    waker?.stop();
  }
}

async function* readFrom(
  dir: string,
  start: Position | undefined,
  source: LogSource,
  waker: Waker | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<LogRecord> {
  let number = start?.number ?? 0;
  let offset = start?.offset ?? 0;
  // Without follow, files begun after this one are not waited for: a busy writer has no end.
  const lastNumber = waker === undefined ? ((await listNumbers(dir)).at(-1) ?? 0) : Infinity;
  for (;;) {
    const next = (await listNumbers(dir)).find((candidate) => candidate >= number);
    if (next !== undefined && next <= lastNumber) {
      if (next !== number) offset = 0;
      number = next;
      yield* readFile(dir, number, offset, source, waker, signal);
      number += 1;
      offset = 0;
      if (signal?.aborted !== true) continue;
    }
    if (waker === undefined || signal?.aborted === true || source.isOver()) return;
    await waker.wait();
  }
}

/** One file until nothing more can come in it. */
async function* readFile(
  dir: string,
  number: number,
  offset: number,
  source: LogSource,
  waker: Waker | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<LogRecord> {
  const file = await openLogFile(dir, number);
  if (file === undefined) return;
  try {
    const reader = new FileReader(file, source.format, offset);
    // Without follow, what is written after this point is left out.
    const end = waker === undefined ? (await file.stat()).size : Infinity;
    for (;;) {
      // Asked before reading: what was written before the end is then surely read.
      const isLast = source.isOver() || (await listNumbers(dir)).some((other) => other > number);
      for (;;) {
        const records = await reader.next(end);
        if (records.length === 0) break;
        for (const record of records) {
          if (signal?.aborted === true) return;
          yield record;
        }
      }
      if (isLast || waker === undefined || signal?.aborted === true) return;
      await waker.wait();
    }
  } finally {
    await file.close();
  }
}
