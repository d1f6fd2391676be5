/**
 * The calls to one registry on behalf of one user: HTTPS (plain HTTP only where allowed), Basic and
 * Bearer token authentication with a token for each scope, and another try while the registry is
 * busy. Credentials are sent to the registry and to the token server it names, and nowhere else.
 * What an answer means is the caller's business.
 */
import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { errorText, type RequestOptions, type Response, readBody, request } from './http.ts';
import { NO_CERTIFICATES, type RegistryHosts, registryHost } from './registryHosts.ts';
import type { RegistryAuth } from './types.ts';

const MAX_TOKEN_BYTES = 64 * 1024;
const DEFAULT_TOKEN_S = 60;
/** A token is renewed this long before it ends. */
const TOKEN_MARGIN_MS = 5000;
/** Attempts in a row that bring nothing new; any progress starts the count again. */
export const MAX_FRUITLESS = 4;
const RETRY_MS = 250;
const MAX_RETRY_MS = 10_000;
const RETRIED_STATUS: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);
/** What a TLS handshake with a plain HTTP server ends in. */
const NOT_TLS = /EPROTO|ERR_SSL|ECONNRESET|HPE_/;
/** A registry that is there answers a connection in far less, wherever it is. */
const CONNECT_MS = 5000;
/** Names that cannot be looked up, and ports nobody listens on, do not get better in a second. */
const NOT_RETRIED =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|.*CERT.*)$/;

export interface SessionOptions {
  readonly clock: Clock;
  readonly hosts: RegistryHosts;
  readonly auth: RegistryAuth | undefined;
  readonly signal: AbortSignal | undefined;
  /** undefined: as long as any pull waits. */
  readonly connectMs?: number | undefined;
  /** A mirror in place of the registry: where it is. It gets no credentials. */
  readonly mirror?: URL | undefined;
}

export interface Call {
  readonly method?: RequestOptions['method'];
  /** Path and query below the registry's root, or a whole URL it gave. */
  readonly path: string | URL;
  /** 'repository:team/web:pull'; '' asks for a token without any. */
  readonly scope: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  /** Made for each attempt. */
  readonly stream?: () => AsyncIterable<Uint8Array>;
}

export class RegistrySession {
  /** The registry's name in references; what errors say. */
  readonly domain: string;
  readonly options: SessionOptions;
  #base: URL | undefined;
  #basic = false;
  readonly #tokens = new Map<string, { token: string; untilMs: number }>();

  constructor(domain: string, options: SessionOptions) {
    this.domain = domain;
    this.options = options;
  }

  /** The answer, whatever its status, after log-in and waiting where the registry asks for them. */
  async call(call: Call): Promise<Response> {
    const base = await this.base();
    const url = typeof call.path === 'string' ? new URL(call.path, base) : call.path;
    let asked = false;
    for (let attempt = 0; ; attempt += 1) {
      let response: Response;
      try {
        response = await this.#send(url, call);
      } catch (error) {
        if (attempt >= MAX_FRUITLESS || !isWorthAnotherTry(error)) throw error;
        await this.pause(attempt);
        continue;
      }
      if (response.status === 401 && !asked) {
        asked = true;
        await this.#authenticate(response, call.scope);
        continue;
      }
      if (RETRIED_STATUS.has(response.status) && attempt < MAX_FRUITLESS) {
        response.body.destroy();
        await this.pause(attempt, response.headers['retry-after']);
        continue;
      }
      return response;
    }
  }

  #send(url: URL, call: Call): Promise<Response> {
    const body = call.stream === undefined ? call.body : call.stream();
    // A URL of another host is one the registry gave for an upload: it carries its own permission.
    const own = url.host === this.#base?.host;
    const authorization = own ? this.#authorization(call.scope) : undefined;
    return this.#request(url, {
      method: call.method ?? 'GET',
      headers: {
        ...call.headers,
        ...(authorization === undefined ? {} : { Authorization: authorization }),
      },
      ...(body === undefined ? {} : { body }),
    });
  }

  async #request(
    url: URL,
    more: Pick<RequestOptions, 'method' | 'headers' | 'body'>,
  ): Promise<Response> {
    const { hosts, signal, clock, connectMs } = this.options;
    const secure = url.protocol === 'https:';
    return request(url, {
      ...more,
      signal,
      certificates: secure ? await hosts.certificates(url.host) : NO_CERTIFICATES,
      unverified: hosts.isInsecure(url.host),
      connect: { clock, timeoutMs: connectMs ?? CONNECT_MS },
      plainAllowed: (host) => this.#plainAllowed(host),
    });
  }

  #plainAllowed(host: string): boolean {
    const { hosts, mirror } = this.options;
    return hosts.isPlainAllowed(host) || (mirror?.protocol === 'http:' && mirror.host === host);
  }

  /** HTTPS; where plain HTTP is allowed and nothing there speaks TLS, that. */
  async base(): Promise<URL> {
    const { mirror } = this.options;
    this.#base ??= mirror;
    if (this.#base !== undefined) return this.#base;
    const host = registryHost(this.domain);
    const secure = new URL(`https://${host}/`);
    if (this.#plainAllowed(host)) {
      try {
        (await this.#request(new URL('/v2/', secure), {})).body.destroy();
      } catch (error) {
        const code = error instanceof SwarmError ? (error.detail['transport'] ?? '') : '';
        if (!NOT_TLS.test(code)) throw error;
        this.#base = new URL(`http://${host}/`);
        return this.#base;
      }
    }
    this.#base = secure;
    return secure;
  }

  #authorization(scope: string): string | undefined {
    const kept = this.#tokens.get(scope);
    if (kept !== undefined && kept.untilMs > this.options.clock.nowMs()) {
      return `Bearer ${kept.token}`;
    }
    return this.#basic ? this.#basicHeader() : undefined;
  }

  #basicHeader(): string | undefined {
    const { username, password } = this.#auth() ?? {};
    if (username === undefined || password === undefined) return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }

  #auth(): RegistryAuth | undefined {
    return this.options.mirror === undefined ? this.options.auth : undefined;
  }

  async #authenticate(response: Response, scope: string): Promise<void> {
    const challenge = parseChallenge(String(response.headers['www-authenticate'] ?? ''));
    response.body.destroy();
    this.#tokens.delete(scope);
    const given = this.#auth()?.registryToken;
    if (given !== undefined && given !== '' && challenge?.scheme === 'bearer') {
      this.#tokens.set(scope, { token: given, untilMs: Number.POSITIVE_INFINITY });
      return;
    }
    if (challenge?.scheme === 'basic' && this.#basicHeader() !== undefined) {
      this.#basic = true;
      return;
    }
    const realm = challenge?.parameters['realm'];
    if (challenge?.scheme !== 'bearer' || realm === undefined) {
      throw new SwarmError(
        'unauthorized',
        `no basic auth credentials: ${this.domain} wants a user name and password: docker login ` +
          `${this.domain}`,
      );
    }
    await this.#fetchToken(realm, challenge.parameters['service'], scope);
  }

  /** docker/distribution "Token Authentication", and its OAuth2 form for identity tokens. */
  async #fetchToken(realm: string, service: string | undefined, scope: string): Promise<void> {
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    const plain = url?.protocol === 'http:' && this.#plainAllowed(url.host);
    if (url === undefined || (url.protocol !== 'https:' && !plain)) {
      throw new SwarmError('forbidden', `${this.domain} names an unsafe token server: "${realm}"`);
    }
    const { identityToken } = this.#auth() ?? {};
    const parameters = new URLSearchParams();
    for (const one of scope.split(' ')) if (one !== '') parameters.append('scope', one);
    if (service !== undefined) parameters.set('service', service);
    let response: Response;
    if (identityToken !== undefined && identityToken !== '') {
      parameters.set('grant_type', 'refresh_token');
      parameters.set('refresh_token', identityToken);
      parameters.set('client_id', 'tsswarm');
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
      response = await this.#request(url, { method: 'POST', headers, body: parameters.toString() });
    } else {
      for (const [key, value] of parameters) url.searchParams.append(key, value);
      const basic = this.#basicHeader();
      const account = this.#auth()?.username;
      if (account !== undefined && account !== '') url.searchParams.set('account', account);
      response = await this.#request(url, {
        headers: basic === undefined ? {} : { Authorization: basic },
      });
    }
    if (response.status !== 200) {
      const why = await errorText(response);
      throw new SwarmError(
        response.status === 401 || response.status === 403 ? 'unauthorized' : 'unavailable',
        `${url.host} gives no token for ${scope === '' ? 'a log-in' : scope}: ` +
          (why || `status ${response.status}`),
      );
    }
    this.#keepToken(scope, url.host, await readBody(response, MAX_TOKEN_BYTES));
  }

  #keepToken(scope: string, host: string, body: Buffer): void {
    let answer: { token?: unknown; access_token?: unknown; expires_in?: unknown };
    try {
      answer = JSON.parse(body.toString('utf8'));
    } catch (error) {
      throw new SwarmError('unavailable', `${host} sent a token answer that is not JSON`, {
        cause: error,
      });
    }
    const token = answer.token ?? answer.access_token;
    if (typeof token !== 'string' || token === '') {
      throw new SwarmError('unavailable', `${host} sent a token answer without a token`);
    }
    const stated = answer.expires_in;
    const seconds = typeof stated === 'number' && stated > 0 ? stated : DEFAULT_TOKEN_S;
    const lifeMs = Math.max(seconds * 1000 - TOKEN_MARGIN_MS, TOKEN_MARGIN_MS);
    this.#tokens.set(scope, { token, untilMs: this.options.clock.nowMs() + lifeMs });
  }

  /** Waits before another attempt. SwarmError cancelled. */
  async pause(attempt: number, retryAfter?: string): Promise<void> {
    const stated = Number(retryAfter) * 1000;
    const delayMs = stated > 0 ? stated : RETRY_MS * 2 ** attempt;
    await this.options.clock.sleep(Math.min(delayMs, MAX_RETRY_MS));
    if (this.options.signal?.aborted === true) {
      throw new SwarmError('cancelled', 'the transfer was cancelled');
    }
  }
}

function isWorthAnotherTry(error: unknown): boolean {
  if (!hasCode(error, 'unavailable')) return false;
  return !NOT_RETRIED.test(error.detail['transport'] ?? '');
}

/** RFC 9110 11.6.1, the first challenge: 'Bearer realm="...",service="..."'. */
export function parseChallenge(
  header: string,
): { scheme: string; parameters: Record<string, string> } | undefined {
  const match = /^\s*([A-Za-z]+)\s*(.*)$/s.exec(header);
  if (match === null) return undefined;
  const parameters: Record<string, string> = {};
  const pair = /([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g;
  for (const [, key, quoted, bare] of match[2].matchAll(pair)) {
    parameters[key.toLowerCase()] = quoted === undefined ? bare : quoted.replace(/\\(.)/g, '$1');
  }
  return { scheme: match[1].toLowerCase(), parameters };
}
