/**
 * One HTTP(S) request to a registry: connect and idle time-outs, redirects with credentials kept
 * from other hosts, bounded bodies, errors that name the host and the reason. Knows nothing of
 * registries and never retries; what a status means is the caller's business.
 */
import http from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream/promises';
import { rootCertificates } from 'node:tls';
import type { Clock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { HostCertificates } from './registryHosts.ts';

export interface RequestOptions {
  readonly method?: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
  /** Trusted besides the built-in ones and shown, for the first host only. */
  readonly certificates?: HostCertificates | undefined;
  /** The operator wants no certificate from the first host. */
  readonly unverified?: boolean;
  /** How long the connection (name, TCP, TLS) may take; without it as long as any silence. */
  readonly connect?: { readonly clock: Clock; readonly timeoutMs: number } | undefined;
  /** Whether plain HTTP to this host is allowed. */
  readonly plainAllowed: (host: string) => boolean;
}

export interface Response {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  /** Must be read to its end or destroyed. */
  readonly body: http.IncomingMessage;
  /** After redirects. */
  readonly url: URL;
}

/** Nothing heard for that long: the registry counts as gone. */
const IDLE_TIMEOUT_MS = 30_000;
const MAX_REDIRECTS = 5;
const MAX_ERROR_BYTES = 64 * 1024;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const CERTIFICATE_ERRORS =
  /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|ALTNAME|DEPTH_ZERO/;

/** Sends the request and follows redirects. SwarmError unavailable, timeout or cancelled. */
export async function request(url: URL, options: RequestOptions): Promise<Response> {
  let at = url;
  let headers = { ...options.headers };
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const first = at.host === url.host;
    const response = await requestOnce(
      at,
      headers,
      first ? options : { ...options, certificates: undefined, unverified: false },
    );
    const { location } = response.headers;
    if (!REDIRECTS.has(response.status) || location === undefined) return { ...response, url: at };
    response.body.destroy();
    if (!URL.canParse(location, at.href)) {
      throw new SwarmError('unavailable', `${at.host} redirects to nowhere: "${location}"`);
    }
    const next = new URL(location, at);
    if (options.body !== undefined && !isReplayable(options.body)) {
      throw new SwarmError('unavailable', `${at.host} redirects an upload: this is not supported`);
    }
    if (options.body !== undefined && next.host !== at.host) {
      // What is posted is a credential, and it is for the host it was given to.
      throw new SwarmError('forbidden', `${at.host} redirects a log-in to ${next.host}: refused`);
    }
    if (
      next.protocol !== 'https:' &&
      !(next.protocol === 'http:' && options.plainAllowed(next.host))
    ) {
      throw new SwarmError(
        'forbidden',
        `${at.host} redirects to ${next.protocol}//${next.host}, which is not encrypted: refused`,
      );
    }
    if (next.host !== at.host || next.protocol !== at.protocol) {
      // Credentials are for the host they were given to.
      headers = Object.fromEntries(
        Object.entries(headers).filter(([name]) => name.toLowerCase() !== 'authorization'),
      );
    }
    at = next;
  }
  throw new SwarmError('unavailable', `${url.host} redirects more than ${MAX_REDIRECTS} times`);
}

function requestOnce(
  url: URL,
  headers: Readonly<Record<string, string>>,
  options: RequestOptions,
): Promise<Omit<Response, 'url'>> {
  const { signal } = options;
  return new Promise((resolve, reject) => {
    const refuse = (error: unknown): void => reject(transportError(url, error, signal));
    const settings: https.RequestOptions = {
      method: options.method ?? 'GET',
      headers: { 'User-Agent': 'tsswarm', ...headers },
      timeout: IDLE_TIMEOUT_MS,
      agent: false,
      ...(signal === undefined ? {} : { signal }),
      ...tlsSettings(options),
    };
    const outgoing = (url.protocol === 'https:' ? https : http).request(url, settings);
    limitConnect(url, outgoing, options.connect);
    outgoing.on('timeout', () => {
      outgoing.destroy(
        new SwarmError('timeout', `${url.host} has not answered for ${IDLE_TIMEOUT_MS / 1000} s`),
      );
    });
    outgoing.on('error', refuse);
    outgoing.on('response', (body) => {
      body.on('error', () => {}); // told to whoever reads the body; an unread one has no reader
      resolve({ status: body.statusCode ?? 0, headers: body.headers, body });
    });
    const { body } = options;
    if (body === undefined || isReplayable(body)) {
      outgoing.end(body);
      return;
    }
    // An answer that comes before the whole body was sent is what counts, not the cut.
    pipeline(body, outgoing).catch(refuse);
  });
}

function isReplayable(body: NonNullable<RequestOptions['body']>): body is string | Uint8Array {
  return typeof body === 'string' || body instanceof Uint8Array;
}

function tlsSettings({ certificates, unverified }: RequestOptions): https.RequestOptions {
  const { authorities = [], client } = certificates ?? {};
  return {
    ...(authorities.length === 0 ? {} : { ca: [...rootCertificates, ...authorities] }),
    ...(client === undefined ? {} : { cert: client.certificate, key: client.key }),
    // A host with an authority of its own is held to it.
    ...(unverified === true && authorities.length === 0 ? { rejectUnauthorized: false } : {}),
  };
}

function limitConnect(
  url: URL,
  outgoing: http.ClientRequest,
  connect: RequestOptions['connect'],
): void {
  if (connect === undefined) return;
  const { clock, timeoutMs } = connect;
  const timer = clock.after(timeoutMs, () => {
    const seconds = timeoutMs / 1000;
    const why = `cannot reach registry ${url.host}: no connection within ${seconds} s`;
    outgoing.destroy(new SwarmError('unavailable', why, { detail: { transport: 'ETIMEDOUT' } }));
  });
  const connected = url.protocol === 'https:' ? 'secureConnect' : 'connect';
  outgoing.once('socket', (socket) => socket.once(connected, () => timer.cancel()));
  outgoing.once('response', () => timer.cancel());
  outgoing.once('close', () => timer.cancel());
}

/** A failed connection as people should read it. */
export function transportError(url: URL, error: unknown, signal?: AbortSignal): SwarmError {
  if (signal?.aborted === true) {
    return new SwarmError('cancelled', 'the transfer was cancelled', { cause: error });
  }
  if (error instanceof SwarmError) return error;
  const code = String((error as NodeJS.ErrnoException).code ?? '');
  const detail = { transport: code };
  if (CERTIFICATE_ERRORS.test(code)) {
    return new SwarmError(
      'unavailable',
      `${url.host} shows a certificate that is not trusted (${messageOf(error)}): put its CA ` +
        'where the daemon looks for registry certificates',
      { cause: error, detail },
    );
  }
  return new SwarmError('unavailable', `cannot reach registry ${url.host}: ${messageOf(error)}`, {
    cause: error,
    detail,
  });
}

/** The whole body, at most `maxBytes`. SwarmError invalid when longer, unavailable when cut off. */
export async function readBody(response: Response, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let totalBytes = 0;
  try {
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      totalBytes += chunk.byteLength;
      if (totalBytes > maxBytes) {
        response.body.destroy();
        throw new SwarmError('invalid', `${response.url.host} sent more than ${maxBytes} bytes`);
      }
      chunks.push(chunk);
    }
  } catch (error) {
    throw transportError(response.url, error);
  }
  return Buffer.concat(chunks);
}

/** The first message of a registry's error answer (distribution-spec, "Error Codes"), or ''. */
export async function errorText(response: Response): Promise<string> {
  try {
    const body = await readBody(response, MAX_ERROR_BYTES);
    const parsed = JSON.parse(body.toString('utf8')) as {
      errors?: { code?: string; message?: string }[];
      message?: string;
    };
    const first = parsed.errors?.[0];
    if (first === undefined) return parsed.message ?? '';
    const code = (first.code ?? '').toLowerCase().replaceAll('_', ' ');
    return [code, first.message ?? ''].filter((part) => part !== '').join(': ');
  } catch {
    return ''; // no readable explanation came with the status, which the caller reports
  }
}
