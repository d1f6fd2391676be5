/**
 * Reads a container's log while the shim writes it: numbered files of frames (format in
 * runtime/shim/log.h), the highest number being written, old ones vanishing. Memory is bounded by
 * one window whatever the log's size. Writes nothing; a torn last frame counts as not yet there.
 */
import { type FSWatcher, watch } from 'node:fs';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import type { Signal } from '../../base/queue.ts';
import type { LogQuery, LogRecord } from './types.ts';

const HEADER_BYTES = 16;
const TRAILER_BYTES = 4;
const EXTRA_BYTES = HEADER_BYTES + TRAILER_BYTES;
const VERSION = 1;
const STREAMS = ['stdout', 'stderr'] as const;
const FLAG_PARTIAL = 1;
/** The shim's line buffer: no frame holds more. */
const DATA_MAX_BYTES = 16 * 1024;
const WINDOW_BYTES = 64 * 1024;
/** Where the kernel gives no more inotify watches, a followed log is looked at this often. */
const LOOK_AGAIN_MS = 500;

export interface LogSource {
  readonly clock: Clock;
  /** Nothing more will be written. */
  isOver(): boolean;
  /** Told when isOver may have changed. */
  readonly changed: Signal;
}

/** One record as the shim frames it; for tests that play the shim. */
export function encodeLogRecord(record: LogRecord): Uint8Array {
  const length = record.data.length;
  const frame = Buffer.alloc(EXTRA_BYTES + length);
  frame.writeUInt32LE(length, 0);
  frame.writeUInt8(VERSION, 4);
  frame.writeUInt8(STREAMS.indexOf(record.stream) + 1, 5);
  frame.writeUInt8(record.partial ? FLAG_PARTIAL : 0, 6);
  frame.writeBigUInt64LE(record.timeNs, 8);
  frame.set(record.data, HEADER_BYTES);
  frame.writeUInt32LE(length, HEADER_BYTES + length);
  return frame;
}

export function logFileName(number: number): string {
  return `${String(number).padStart(8, '0')}.log`;
}

/** The whole frame at `at`; undefined when it is not (yet) all there or no frame. */
function frameAt(bytes: Buffer, at: number): { record: LogRecord; next: number } | undefined {
  if (at + EXTRA_BYTES > bytes.length) return undefined;
  const length = bytes.readUInt32LE(at);
  const next = at + EXTRA_BYTES + length;
  if (length > DATA_MAX_BYTES || next > bytes.length) return undefined;
  const stream = STREAMS[bytes[at + 5] - 1];
  if (bytes[at + 4] !== VERSION || stream === undefined) return undefined;
  if (bytes.readUInt32LE(next - TRAILER_BYTES) !== length) return undefined;
  const record: LogRecord = {
    timeNs: bytes.readBigUInt64LE(at + 8),
    stream,
    // Copied: the window is used again.
    data: Uint8Array.prototype.slice.call(bytes, at + HEADER_BYTES, next - TRAILER_BYTES),
    partial: (bytes[at + 6] & FLAG_PARTIAL) !== 0,
  };
  return { record, next };
}

async function listNumbers(dir: string): Promise<number[]> {
  const names = await readdir(dir).catch(ignoreMissing);
  return (names ?? [])
    .filter((name) => /^\d+\.log$/.test(name))
    .map((name) => Number.parseInt(name, 10))
    .sort((left, right) => left - right);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined; // rotated away, or the container was removed
  throw error;
}

interface Position {
  readonly number: number;
  readonly offset: number;
}

/** The frames of one file from an offset on, and how far they went. */
class FileReader {
  readonly #file: FileHandle;
  readonly #window = Buffer.alloc(WINDOW_BYTES);
  #offset: number;

  constructor(file: FileHandle, offset: number) {
    this.#file = file;
    this.#offset = offset;
  }

  /** The next frames, as many as one window holds; none at the present end (or a torn frame). */
  async next(): Promise<readonly LogRecord[]> {
    const { bytesRead } = await this.#file.read(this.#window, 0, WINDOW_BYTES, this.#offset);
    const bytes = this.#window.subarray(0, bytesRead);
    const records: LogRecord[] = [];
    let at = 0;
    for (let frame = frameAt(bytes, at); frame !== undefined; frame = frameAt(bytes, at)) {
      records.push(frame.record);
      at = frame.next;
    }
    this.#offset += at;
    return records;
  }
}

/** Where reading must start to give the last `count` records that `accept` takes. */
async function findTail(
  dir: string,
  count: number,
  accept: (record: LogRecord) => boolean,
): Promise<Position | undefined> {
  let wanted = count;
  let start: Position | undefined;
  for (const number of (await listNumbers(dir)).reverse()) {
    const file = await open(join(dir, logFileName(number))).catch(ignoreMissing);
    if (file === undefined) break; // rotated away: nothing older is there either
    try {
      let end = await lastWholeEnd(file);
      start ??= { number, offset: end };
      while (end > 0 && wanted > 0) {
        const windowStart = Math.max(0, end - WINDOW_BYTES);
        const window = Buffer.alloc(end - windowStart);
        await file.read(window, 0, window.length, windowStart);
        for (let at = window.length; wanted > 0; ) {
          const from = at < EXTRA_BYTES ? -1 : at - EXTRA_BYTES - window.readUInt32LE(at - 4);
          const frame = from < 0 ? undefined : frameAt(window, from);
          if (frame === undefined) break;
          if (accept(frame.record)) {
            wanted -= 1;
            start = { number, offset: windowStart + from };
          }
          at = from;
          end = windowStart + from;
        }
        // A window without a frame at its end: damaged there (a power failure); it starts after.
        if (end === windowStart + window.length) return start;
      }
    } finally {
      await file.close();
    }
    if (wanted === 0) break;
  }
  return start;
}

/** The end of the last whole frame: the file's, unless the shim is just writing one. */
async function lastWholeEnd(file: FileHandle): Promise<number> {
  const { size } = await file.stat();
  const window = Buffer.alloc(Math.min(size, DATA_MAX_BYTES + EXTRA_BYTES));
  await file.read(window, 0, window.length, size - window.length);
  const length = window.length < EXTRA_BYTES ? -1 : window.readUInt32LE(window.length - 4);
  const from = window.length - EXTRA_BYTES - length;
  const isWhole = length >= 0 && from >= 0 && frameAt(window, from)?.next === window.length;
  if (isWhole || size === 0) return size;
  const reader = Buffer.alloc(WINDOW_BYTES);
  for (let end = 0; ; ) {
    const { bytesRead } = await file.read(reader, 0, WINDOW_BYTES, end);
    const bytes = reader.subarray(0, bytesRead);
    let at = 0;
    for (let frame = frameAt(bytes, at); frame; frame = frameAt(bytes, at)) at = frame.next;
    if (at === 0) return end;
    end += at;
  }
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
    const start =
      query.tail === undefined ? undefined : await findTail(dir, Math.max(0, query.tail), accept);
    for await (const record of readFrom(dir, start, source, waker, query.signal)) {
      if (query.untilNs !== undefined && record.timeNs > query.untilNs) return;
      if (accept(record)) yield record;
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
  const file = await open(join(dir, logFileName(number))).catch(ignoreMissing);
  if (file === undefined) return;
  try {
    const reader = new FileReader(file, offset);
    // Without follow, what is written after this point is left out.
    let bytesLeft = waker === undefined ? (await file.stat()).size - offset : Infinity;
    for (;;) {
      // Asked before reading: what was written before the end is then surely read.
      const isLast = source.isOver() || (await listNumbers(dir)).some((other) => other > number);
      for (let records = await reader.next(); records.length > 0; records = await reader.next()) {
        for (const record of records) {
          bytesLeft -= record.data.length + EXTRA_BYTES;
          if (bytesLeft < 0 || signal?.aborted === true) return;
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
