/**
 * The two forms a log's records have on disk: the shim's frames (runtime/shim/log.h) and Docker's
 * JSON lines (runtime/shim/json.h). Finds records in bytes, forwards and backwards; reads no file.
 */
import type { LogRecord } from './types.ts';

export interface LogFormat {
  /** Room for the longest record, and for many short ones. */
  readonly windowBytes: number;
  /** The whole record at `at`; undefined when it is not (yet) all there, or none. */
  at(bytes: Buffer, at: number): { readonly record: LogRecord; readonly next: number } | undefined;
  /** Where the record that ends at `end` begins; negative when not in `bytes`. */
  startBefore(bytes: Buffer, end: number, isFileStart: boolean): number;
}

const HEADER_BYTES = 16;
const TRAILER_BYTES = 4;
const EXTRA_BYTES = HEADER_BYTES + TRAILER_BYTES;
const VERSION = 1;
const STREAMS = ['stdout', 'stderr'] as const;
const FLAG_PARTIAL = 1;
/** The shim's line buffer: no record holds more text. */
const DATA_MAX_BYTES = 16 * 1024;
const NEWLINE = 10;
const NS_PER_MS = 1_000_000n;
const LAST_MS = Number((2n ** 63n - 1n) / NS_PER_MS) - 1;

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

export const FRAMES: LogFormat = {
  windowBytes: 64 * 1024,

  at(bytes, at) {
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
  },

  startBefore(bytes, end) {
    return end < EXTRA_BYTES ? -1 : end - EXTRA_BYTES - bytes.readUInt32LE(end - TRAILER_BYTES);
  },
};

export const JSON_LINES: LogFormat = {
  // Every byte of the longest line may be written as six.
  windowBytes: 256 * 1024,

  at(bytes, at) {
    const newline = bytes.indexOf(NEWLINE, at);
    if (newline < 0) return undefined;
    return { record: parseLine(bytes.toString('utf8', at, newline)), next: newline + 1 };
  },

  startBefore(bytes, end, isFileStart) {
    if (end === 0 || bytes[end - 1] !== NEWLINE) return -1;
    const before = end < 2 ? -1 : bytes.lastIndexOf(NEWLINE, end - 2);
    return before >= 0 || isFileStart ? before + 1 : -1;
  },
};

function parseLine(line: string): LogRecord {
  try {
    const { log, stream, time, attrs } = JSON.parse(line) as Record<string, unknown>;
    const text = String(log);
    const partial = !text.endsWith('\n');
    return {
      timeNs: parseTime(String(time)),
      stream: stream === 'stderr' ? 'stderr' : 'stdout',
      data: Buffer.from(partial ? text : text.slice(0, -1)),
      partial,
      ...(isTable(attrs) ? { attributes: attrs } : {}),
    };
  } catch {
    // Written by somebody else, or torn by a power failure: shown as it is, not left out.
    return { timeNs: 0n, stream: 'stdout', data: Buffer.from(line), partial: false };
  }
}

function isTable(value: unknown): value is Record<string, string> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((item) => typeof item === 'string')
  );
}

/** '2026-11-21T12:00:00.123456789Z'; any number of digits. */
function parseTime(text: string): bigint {
  const match = /^(.*?)(?:\.(\d{1,9}))?Z$/.exec(text);
  const ms = Date.parse(`${match?.[1]}Z`);
  // Before 1970, or where 64 bits of nanoseconds end: nothing that was logged.
  if (match === null || Number.isNaN(ms) || ms < 0 || ms > LAST_MS) return 0n;
  return BigInt(ms) * NS_PER_MS + BigInt((match[2] ?? '').padEnd(9, '0'));
}
