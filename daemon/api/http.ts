/**
 * The small part of HTTP that the API needs: requests with parsed query and bounded bodies,
 * replies, streams that wait for a slow reader, and a router over path patterns
 * ('/nodes/{id}/update'; '{name...}' also matches slashes). It knows nothing of Docker beyond the
 * shape of an error.
 */
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readable, Writable } from 'node:stream';
import { MIB } from '../../base/bytes.ts';
import { SwarmError } from '../../base/errors.ts';
import { Fields } from './fields.ts';

/** Specifications are small; more than this is refused before it is parsed. */
export const BODY_LIMIT_BYTES = 4 * MIB;
/** JSON has it as an escape only; a backslash is written as two. */
const NUL = /(?<!\\)(?:\\\\)*\\u0000/;
const SURROGATE = /\\u[dD][89abAB][0-9a-fA-F]{2}|\\u[dD][c-fC-F][0-9a-fA-F]{2}/;
/** JSON.stringify writes what is no whole character as an escape; a backslash as two. */
const HALF_CHARACTER = /(?<!\\)(?:\\\\)*\\ud[89a-f][0-9a-f]{2}/;

export type Reply =
  | { readonly kind: 'json'; readonly status: number; readonly value: unknown }
  | { readonly kind: 'empty'; readonly status: number }
  | { readonly kind: 'streamed' };

export function json(value: unknown, status = 200): Reply {
  return { kind: 'json', status, value };
}

export function empty(status = 200): Reply {
  return { kind: 'empty', status };
}

/** The handler has written the answer itself. */
export const STREAMED: Reply = { kind: 'streamed' };

export class ApiRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly params: Readonly<Record<string, string>>;
  /** Of the API version asked for: 43 of /v1.43/info; the newest where none was named. */
  readonly minor: number;
  readonly incoming: IncomingMessage;
  readonly response: ServerResponse;
  #gone: AbortController | undefined;

  constructor(
    incoming: IncomingMessage,
    response: ServerResponse,
    path: string,
    query: URLSearchParams,
    params: Readonly<Record<string, string>>,
    minor: number,
  ) {
    this.incoming = incoming;
    this.response = response;
    this.method = incoming.method ?? 'GET';
    this.path = path;
    this.query = query;
    this.params = params;
    this.minor = minor;
  }

  /** Aborted when the caller has gone. Made when it is asked for: most requests never do. */
  get signal(): AbortSignal {
    const gone = this.#gone ?? new AbortController();
    if (this.#gone === undefined) {
      this.#gone = gone;
      if (this.response.destroyed || this.response.closed) gone.abort();
      else this.response.once('close', () => gone.abort());
    }
    return gone.signal;
  }

  /** As Docker reads flags: anything but '', 0, no, false and none is true. */
  flag(name: string): boolean {
    const value = (this.query.get(name) ?? '').trim().toLowerCase();
    return !['', '0', 'no', 'false', 'none'].includes(value);
  }

  text(name: string): string {
    return this.query.get(name) ?? '';
  }

  /** The version an update was decided from. */
  version(): number {
    const value = this.text('version');
    if (!/^\d+$/.test(value)) {
      throw new SwarmError('invalid', `invalid version "${value}": pass ?version=<Version.Index>`);
    }
    return Number(value);
  }

  /** The body as it comes; giving up on it leaves the connection able to carry the answer. */
  upload(): AsyncIterable<Buffer> {
    return this.incoming.iterator({ destroyOnReturn: false });
  }

  /** The body as a JSON object; an empty body is an empty object. */
  async body(): Promise<Fields> {
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.upload()) {
      size += chunk.length;
      if (size > BODY_LIMIT_BYTES) {
        throw new SwarmError(
          'invalid',
          `the request body is larger than ${BODY_LIMIT_BYTES} bytes`,
        );
      }
      chunks.push(chunk);
    }
    const text = Buffer.concat(chunks).toString('utf8').trim();
    if (text === '') return new Fields({});
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      throw new SwarmError('invalid', 'the request body is not valid JSON', { cause });
    }
    // Programs, files and the kernel end a text there.
    if (NUL.test(text)) throw new SwarmError('invalid', 'the request body holds a NUL character');
    // UTF-8 cannot carry half a character: it would not be the same on every manager.
    if (SURROGATE.test(text) && !isWellFormed(value)) {
      throw new SwarmError('invalid', 'the request body holds half a character (a lone surrogate)');
    }
    return new Fields(value);
  }

  /**
   * Gives up HTTP on this connection: from now on both directions are the caller's bytes. A caller
   * that asked for an upgrade gets 101, any other a body without an end of its own.
   */
  takeConnection(contentType: string): Connection {
    this.response.writeHead(200, { 'Content-Type': contentType });
    this.response.flushHeaders();
    return { input: this.incoming, output: this.response };
  }

  /** Starts a streamed answer with status 200. */
  stream(contentType: string): BodyWriter {
    this.response.writeHead(200, { 'Content-Type': contentType });
    this.response.flushHeaders();
    return new BodyWriter(this.response, this.signal);
  }
}

/** The two directions of a connection, each with an end of its own. */
export interface Connection {
  readonly input: Readable;
  readonly output: Writable;
}

/** Writes that resolve only when the reader keeps up; SwarmError cancelled once it has gone. */
export class BodyWriter {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;

  constructor(response: ServerResponse, signal: AbortSignal) {
    this.#response = response;
    this.#signal = signal;
  }

  async write(chunk: string | Uint8Array): Promise<void> {
    if (this.#signal.aborted) throw new SwarmError('cancelled', 'the caller has gone');
    if (this.#response.write(chunk)) return;
    try {
      await once(this.#response, 'drain', { signal: this.#signal });
    } catch (cause) {
      throw new SwarmError('cancelled', 'the caller has gone', { cause });
    }
  }

  line(value: unknown): Promise<void> {
    return this.write(`${JSON.stringify(value)}\n`);
  }

  end(): void {
    this.#response.end();
  }
}

function isWellFormed(value: unknown): boolean {
  try {
    return !HALF_CHARACTER.test(JSON.stringify(value));
  } catch {
    return false; // nested too deep to be looked through
  }
}

export type Handler = (request: ApiRequest) => Promise<Reply>;

interface Route {
  readonly method: string;
  readonly pattern: RegExp;
  readonly handler: Handler;
}

export class Router {
  readonly #routes: Route[] = [];

  add(method: string, path: string, handler: Handler): void {
    const source = path
      .replace(/\{(\w+)\.\.\.\}/g, '(?<$1>.+)')
      .replace(/\{(\w+)\}/g, '(?<$1>[^/]+)');
    this.#routes.push({ method, pattern: new RegExp(`^${source}$`), handler });
  }

  get(path: string, handler: Handler): void {
    this.add('GET', path, handler);
  }

  post(path: string, handler: Handler): void {
    this.add('POST', path, handler);
  }

  delete(path: string, handler: Handler): void {
    this.add('DELETE', path, handler);
  }

  /** The first route that fits, in the order added; HEAD is served by GET. */
  find(
    method: string,
    path: string,
  ): { handler: Handler; params: Readonly<Record<string, string>> } | undefined {
    const wanted = method === 'HEAD' ? 'GET' : method;
    for (const route of this.#routes) {
      if (route.method !== wanted) continue;
      const match = route.pattern.exec(path);
      if (match !== null) return { handler: route.handler, params: decoded(match.groups ?? {}) };
    }
    return undefined;
  }
}

function decoded(groups: Readonly<Record<string, string>>): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(groups)) {
    try {
      out[name] = decodeURIComponent(value);
    } catch (cause) {
      throw new SwarmError('invalid', `the path has a bad escape: ${value}`, { cause });
    }
  }
  return out;
}
