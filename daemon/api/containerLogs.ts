/** GET /containers/{id}/logs: what a container wrote, in Docker's wire form. */
import type { Writable } from 'node:stream';
import { SwarmError } from '../../base/errors.ts';
import type { Container, LogQuery, LogRecord } from '../../runtime/container/types.ts';
import { type ApiRequest, type Reply, STREAMED } from './http.ts';
import { frame, MULTIPLEXED_STREAM, RAW_STREAM, room } from './streams.ts';

const NANOSECONDS_PER_SECOND = 1_000_000_000n;
const NANOSECONDS_PER_MS = 1_000_000n;
const NEWLINE = Buffer.from('\n');

export async function sendContainerLogs(request: ApiRequest, container: Container): Promise<Reply> {
  const { tty = false, log } = container.config;
  const query = queryOf(request);
  if (log.driver === 'none') {
    throw new SwarmError('unsupported', 'configured logging driver does not support reading');
  }
  const shown = { timestamps: request.flag('timestamps'), details: request.flag('details') };
  const out = request.stream(tty ? RAW_STREAM : MULTIPLEXED_STREAM);
  for await (const record of container.logs(query)) {
    const bytes = bytesOf(record, shown);
    await out.write(tty ? bytes : frame(record.stream, bytes));
  }
  out.end();
  return STREAMED;
}

/** What has been written so far, for a client that attaches and wants it first. */
export async function writeLogs(
  output: Writable,
  container: Container,
  wanted: { readonly tty: boolean; readonly stdout: boolean; readonly stderr: boolean },
): Promise<void> {
  const { tty, stdout, stderr } = wanted;
  for await (const record of container.logs({ stdout, stderr })) {
    if (output.destroyed) return; // nobody reads the rest
    const bytes = bytesOf(record, { timestamps: false, details: false });
    const isTaken = output.write(tty ? bytes : frame(record.stream, bytes));
    if (!isTaken) await room(output);
  }
}

function bytesOf(
  record: LogRecord,
  { timestamps, details }: { readonly timestamps: boolean; readonly details: boolean },
): Buffer {
  const parts: Uint8Array[] = timestamps ? [Buffer.from(`${timestamp(record.timeNs)} `)] : [];
  if (details) parts.push(Buffer.from(`${detailsOf(record)} `));
  parts.push(record.data);
  if (!record.partial) parts.push(NEWLINE);
  return Buffer.concat(parts);
}

/** 'name=value,...' by name, each as in a query; Docker's client takes them apart again. */
function detailsOf({ attributes = {} }: LogRecord): string {
  const names = Object.keys(attributes).sort();
  const text = (word: string): string => new URLSearchParams({ '': word }).toString().slice(1);
  return names.map((name) => `${text(name)}=${text(attributes[name])}`).join(',');
}

/** RFC 3339 with nine digits. */
function timestamp(timeNs: bigint): string {
  const seconds = Number(timeNs / NANOSECONDS_PER_SECOND);
  const fraction = String(timeNs % NANOSECONDS_PER_SECOND).padStart(9, '0');
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${fraction}Z`;
}

function queryOf(request: ApiRequest): LogQuery {
  const stdout = request.flag('stdout');
  const stderr = request.flag('stderr');
  if (!stdout && !stderr) {
    throw new SwarmError('invalid', 'Bad parameters: you must choose at least one stream');
  }
  const tail = request.text('tail');
  const sinceNs = timeNs(request.text('since'), 'since');
  const untilNs = timeNs(request.text('until'), 'until');
  return {
    follow: request.flag('follow'),
    stdout,
    stderr,
    signal: request.signal,
    // As Docker: what is no number means all of it.
    ...(/^\d+$/.test(tail) ? { tail: Number(tail) } : {}),
    ...(sinceNs > 0n ? { sinceNs } : {}),
    ...(untilNs > 0n ? { untilNs } : {}),
  };
}

/** 'seconds[.nanoseconds]' or RFC 3339; 0 when absent. */
function timeNs(text: string, name: string): bigint {
  if (text === '') return 0n;
  const match = /^(\d+)(?:\.(\d{1,9}))?$/.exec(text);
  if (match !== null) {
    return BigInt(match[1]) * NANOSECONDS_PER_SECOND + BigInt((match[2] ?? '').padEnd(9, '0'));
  }
  const ms = Date.parse(text);
  if (Number.isFinite(ms)) return BigInt(ms) * NANOSECONDS_PER_MS;
  throw new SwarmError('invalid', `${name}: "${text}" is no time: use Unix seconds or RFC 3339`);
}
