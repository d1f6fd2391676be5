/**
 * The daemon's API as the commands use it: JSON requests and streams over its unix socket (or TCP).
 * Answers other than 2xx become a SwarmError with the daemon's own line.
 */
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ErrorCode, SwarmError } from '../base/errors.ts';
import { sendTo, type Target, targetOf, type Variables } from './transport.ts';

export const DEFAULT_HOST = 'unix:///run/tsswarm/tsswarm.sock';
const API_PREFIX = '/v1.50';
/** A line or an answer larger than this is not ours. */
const ANSWER_LIMIT_BYTES = 512 * 1024 * 1024;

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface RequestOptions {
  readonly query?: Query;
  readonly body?: unknown;
  /** Sent as it comes instead of a JSON body. */
  readonly upload?: AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal;
  readonly headers?: Readonly<Record<string, string>>;
}

const CODES: Readonly<Record<number, ErrorCode>> = {
  400: 'invalid',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  409: 'conflict',
  501: 'unsupported',
  503: 'unavailable',
  504: 'timeout',
  507: 'exhausted',
};

export interface Hijacked {
  readonly socket: Duplex;
  readonly framed: boolean;
}

const RAW_STREAM = 'application/vnd.docker.raw-stream';

export class ApiClient {
  readonly address: string;
  readonly #target: Target;

  constructor(address: string, variables: Variables = {}) {
    this.address = address;
    this.#target = targetOf(address, variables);
  }

  get<T>(path: string, query?: Query): Promise<T> {
    return this.json<T>('GET', path, { query });
  }

  post<T>(path: string, body?: unknown, query?: Query): Promise<T> {
    return this.json<T>('POST', path, { body, query });
  }

  async delete<T>(path: string, query?: Query): Promise<T> {
    return this.json<T>('DELETE', path, { query });
  }

  /** The parsed answer; undefined when it has no body. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const text = await readAll(await this.stream(method, path, options));
    return (text === '' ? undefined : JSON.parse(text)) as T;
  }

  /** The answer's body as it comes, once its status is known to be good. */
  async stream(
    method: string,
    path: string,
    options: RequestOptions = {},
  ): Promise<IncomingMessage> {
    const answer = await this.#send(method, path, options);
    const status = answer.statusCode ?? 500;
    if (status < 300) return answer;
    const text = await readAll(answer);
    throw new SwarmError(CODES[status] ?? 'internal', messageIn(text, status));
  }

  /**
   * A request whose connection becomes a stream both ways (attach, exec). `framed`: output comes in
   * frames that say which stream it is of.
   */
  hijack(path: string, options: RequestOptions = {}): Promise<Hijacked> {
    return new Promise((resolve, reject) => {
      const body = options.body === undefined ? '' : JSON.stringify(options.body);
      const request = sendTo(this.#target, {
        method: 'POST',
        path: `${prefixOf(path)}${path}${queryText(options.query)}`,
        headers: {
          Host: 'tsswarm',
          Connection: 'Upgrade',
          Upgrade: 'tcp',
          'Content-Type': 'application/json',
          'Content-Length': String(Buffer.byteLength(body)),
        },
      });
      request.on('upgrade', (answer, socket, head) => {
        if (head.length > 0) socket.unshift(head);
        const framed = answer.headers['content-type'] !== RAW_STREAM;
        resolve({ socket, framed });
      });
      request.on('response', (answer) => {
        readAll(answer).then((text) => {
          const status = answer.statusCode ?? 500;
          reject(new SwarmError(CODES[status] ?? 'internal', messageIn(text, status)));
        }, reject);
      });
      request.on('error', (error) => reject(this.#unreachable(error)));
      request.end(body);
    });
  }

  #send(method: string, path: string, options: RequestOptions): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers: Record<string, string> = { Host: 'tsswarm', ...options.headers };
      const body = options.body === undefined ? undefined : JSON.stringify(options.body);
      if (body !== undefined) {
        headers['Content-Type'] = 'application/json';
        headers['Content-Length'] = String(Buffer.byteLength(body));
      }
      if (options.upload !== undefined) headers['Content-Type'] ??= 'application/x-tar';
      const request = sendTo(
        this.#target,
        {
          method,
          path: `${prefixOf(path)}${path}${queryText(options.query)}`,
          headers,
          signal: options.signal,
        },
        resolve,
      );
      request.on('error', (error) => reject(this.#unreachable(error)));
      if (options.upload === undefined) request.end(body);
      else upload(request, options.upload).catch(reject);
    });
  }

  #unreachable(error: NodeJS.ErrnoException): SwarmError {
    if (error.name === 'AbortError') {
      return new SwarmError('cancelled', 'interrupted', { cause: error });
    }
    if (error.code === 'EACCES') {
      return new SwarmError(
        'forbidden',
        `no permission to use ${this.address}: run as root, or join the group tsswarm`,
        { cause: error },
      );
    }
    if (error.code === 'ECONNRESET' || error.code === 'EPIPE') {
      return new SwarmError('unavailable', `the daemon at ${this.address} broke the connection`, {
        cause: error,
      });
    }
    if (/CERT|TLS|SSL|UNABLE_TO/.test(error.code ?? '')) {
      const why = `no trust between this client and ${this.address}: ${error.message}`;
      return new SwarmError('unauthorized', why, { cause: error });
    }
    return new SwarmError(
      'unavailable',
      `cannot reach the daemon at ${this.address}: start it with "systemctl start tsswarm" or ` +
        '"tsswarm daemon"',
      { cause: error },
    );
  }
}

/** Our own paths have no version. */
function prefixOf(path: string): string {
  return path.startsWith('/tsswarm/') ? '' : API_PREFIX;
}

async function upload(
  request: NodeJS.WritableStream & { destroy(): unknown },
  source: AsyncIterable<Uint8Array>,
): Promise<void> {
  const { pipeline } = await import('node:stream/promises');
  try {
    await pipeline(source, request);
  } catch (error) {
    // The daemon may refuse early and close: its answer, already on its way, says more.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EPIPE' && code !== 'ECONNRESET' && code !== 'ERR_STREAM_PREMATURE_CLOSE') {
      throw error;
    }
  }
}

function queryText(query: Query | undefined): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === '' ? '' : `?${text}`;
}

async function readAll(answer: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of answer) {
    size += chunk.length;
    if (size > ANSWER_LIMIT_BYTES) {
      throw new SwarmError('exhausted', `the answer is larger than ${ANSWER_LIMIT_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Commands of docker's that a message names, as this command has them. */
export function inOurWords(message: string): string {
  return message
    .replace(/"docker swarm (init|join|join-token|leave)\b/g, '"tsswarm $1')
    .replace(
      /"docker ((?:swarm|node|service|stack|secret|config|network|volume|image) )/g,
      '"tsswarm $1',
    );
}

function messageIn(text: string, status: number): string {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null && 'message' in parsed) {
      return inOurWords(String(parsed.message));
    }
  } catch {
    // Not the API's answer (a proxy's, say): its text is all there is.
  }
  return text.trim() === '' ? `the daemon answered with status ${status}` : text.trim();
}

/** Lines of a stream of JSON values, one a line. */
export async function* jsonLines<T>(stream: AsyncIterable<Uint8Array>): AsyncGenerator<T> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of stream) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line.trim() !== '') yield JSON.parse(line) as T;
  }
  if (rest.trim() !== '') yield JSON.parse(rest) as T;
}

/** `{"name":["a"]}` as the API reads filters; undefined for none. */
export function filtersText(
  filters: Readonly<Record<string, readonly string[]>>,
): string | undefined {
  return Object.keys(filters).length === 0 ? undefined : JSON.stringify(filters);
}
