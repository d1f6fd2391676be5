/**
 * Bytes between a client's connection and a program: standard input one way, output the other, bare
 * for a terminal, else in Docker's frames (stream, 0, 0, 0, length). It ends when the output has
 * ended, the client has gone, or the client typed the keys to detach.
 */
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import type { Streams } from '../../runtime/container/types.ts';
import type { ApiRequest, Connection } from './http.ts';

const HEADER_BYTES = 8;
const STREAM_NUMBER = { stdout: 1, stderr: 2 } as const;

export const RAW_STREAM = 'application/vnd.docker.raw-stream';
export const MULTIPLEXED_STREAM = 'application/vnd.docker.multiplexed-stream';

export interface StreamOptions {
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Bytes that detach; empty = none. Looked for on a terminal only. */
  readonly detachKeys: readonly number[];
}

/** Long enough for a client on a busy machine to have read a few lines. */
const HEAD_MS = 30;

/**
 * Docker's SDK for Python reads the head of the answer into a buffer and goes on with the bare
 * socket: what comes in one piece with the head is lost to it. It is given the time to read.
 */
export async function headTaken(request: ApiRequest, clock: Clock): Promise<void> {
  const agent = request.incoming.headers['user-agent'] ?? '';
  if (/^docker-(sdk-)?py/.test(agent)) await clock.sleep(HEAD_MS);
}

/** Resolves with how it ended; the connection is closed then. */
export async function joinStreams(
  connection: Connection,
  streams: Streams,
  options: StreamOptions,
): Promise<'ended' | 'detached' | 'gone'> {
  const { input, output } = connection;
  let leave: (how: 'detached' | 'gone') => void = () => {};
  const left = new Promise<'detached' | 'gone'>((resolve) => {
    leave = resolve;
  });
  const gone = (): void => leave('gone');
  input.on('error', gone);
  output.on('error', gone);
  output.on('close', gone);
  // It may have gone before anybody listened.
  if (input.destroyed || output.destroyed) gone();
  sendInput(input, options.stdin ? streams.stdin : undefined, options, () => leave('detached'));
  const bare = options.tty;
  const done = Promise.all([
    pump(streams.stdout, output, options.stdout, bare ? undefined : 'stdout'),
    pump(streams.stderr, output, options.stderr, bare ? undefined : 'stderr'),
  ]).then(() => 'ended' as const);
  const how = await Promise.race([done, left]);
  streams.close();
  output.end();
  // What the client still sends has no reader any more.
  input.resume();
  return how;
}

function sendInput(
  input: Readable,
  stdin: Writable | undefined,
  options: StreamOptions,
  detached: () => void,
): void {
  if (stdin === undefined) {
    input.resume();
    return;
  }
  const keys = options.tty ? new KeyWatch(options.detachKeys) : undefined;
  stdin.on('error', () => {
    // The program has closed its input, or has ended: its output tells.
  });
  stdin.on('drain', () => input.resume());
  input.on('data', (chunk: Buffer) => {
    const seen = keys?.take(chunk) ?? { bytes: chunk, isDetached: false };
    if (seen.bytes.length > 0 && !stdin.destroyed && !stdin.write(seen.bytes)) input.pause();
    if (seen.isDetached) detached();
  });
  input.on('end', () => stdin.end());
  input.resume();
}

/** Until `to` takes more, or will take nothing ever. */
export async function room(to: Writable): Promise<void> {
  if (to.destroyed) return;
  const settled = new AbortController();
  const { signal } = settled;
  try {
    await Promise.race([once(to, 'drain', { signal }), once(to, 'close', { signal })]);
  } finally {
    settled.abort();
  }
}

async function pump(
  from: Readable,
  to: Writable,
  wanted: boolean,
  stream: 'stdout' | 'stderr' | undefined,
): Promise<void> {
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      if (!wanted || to.destroyed) continue;
      const bytes = stream === undefined ? chunk : frame(stream, chunk);
      if (!to.write(bytes)) await room(to);
    }
  } catch {
    // Either side went away in the middle: the other end of the race has it.
  }
}

export function frame(stream: 'stdout' | 'stderr', payload: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(HEADER_BYTES + payload.length);
  out.writeUInt32BE(STREAM_NUMBER[stream] * 0x1000000, 0);
  out.writeUInt32BE(payload.length, 4);
  out.set(payload, HEADER_BYTES);
  return out;
}

/** Finds a sequence of keys in what is typed; what may be its beginning is held back. */
class KeyWatch {
  readonly #keys: readonly number[];
  #matched = 0;

  constructor(keys: readonly number[]) {
    this.#keys = keys;
  }

  take(chunk: Buffer): { readonly bytes: Buffer; readonly isDetached: boolean } {
    if (this.#keys.length === 0) return { bytes: chunk, isDetached: false };
    const out: number[] = [];
    for (const byte of chunk) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched += 1;
        if (this.#matched === this.#keys.length) {
          this.#matched = 0;
          return { bytes: Buffer.from(out), isDetached: true };
        }
        continue;
      }
      out.push(...this.#keys.slice(0, this.#matched));
      this.#matched = byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) out.push(byte);
    }
    return { bytes: Buffer.from(out), isDetached: false };
  }
}

const DEFAULT_DETACH_KEYS = 'ctrl-p,ctrl-q';
const CONTROL = '@abcdefghijklmnopqrstuvwxyz[\\]^_';

/** 'ctrl-p,ctrl-q' -> [16, 17]; '' = Docker's default. SwarmError invalid. */
export function parseDetachKeys(text: string): readonly number[] {
  return (text === '' ? DEFAULT_DETACH_KEYS : text).split(',').map((key) => {
    const control = /^ctrl-(.)$/.exec(key)?.[1].toLowerCase();
    const number = control === undefined ? key.charCodeAt(0) : CONTROL.indexOf(control);
    if (key.length > 0 && number >= 0 && (control !== undefined || key.length === 1)) return number;
    throw new SwarmError('invalid', `Invalid detach keys (${text}) provided`);
  });
}
