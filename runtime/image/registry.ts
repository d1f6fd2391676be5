/**
 * A client of one registry (distribution-spec v1.1, pull): HTTPS, plain HTTP only to loopback and
 * to hosts the operator allowed; anonymous, Basic and Bearer token authentication. Manifests are
 * checked against their digest, blobs by the writer they go to; a cut download goes on where it
 * stopped. Credentials are sent to the registry and to the token server it names, and nowhere else.
 */
import type { Clock } from '../../base/clock.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { type BlobWriter, digestOf, MAX_DOCUMENT_BYTES } from './blobs.ts';
import { errorText, type Response, readBody, request, transportError } from './http.ts';
import { DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from './manifest.ts';
import { DEFAULT_DOMAIN } from './reference.ts';
import type { RegistryAuth } from './types.ts';

const DOCKER_HUB = 'registry-1.docker.io';
const ACCEPT = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST].join(', ');
const MAX_TOKEN_BYTES = 64 * 1024;
const DEFAULT_TOKEN_S = 60;
/** A token is renewed this long before it ends. */
const TOKEN_MARGIN_MS = 5000;
/** Attempts in a row that bring nothing new; any progress starts the count again. */
const MAX_FRUITLESS = 4;
const RETRY_MS = 250;
const MAX_RETRY_MS = 10_000;
const RETRIED_STATUS: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);
/** What a TLS handshake with a plain HTTP server ends in. */
const NOT_TLS = /EPROTO|ERR_SSL|ECONNRESET|HPE_/;

export interface RegistryOptions {
  readonly clock: Clock;
  readonly insecureRegistries: readonly string[];
  /** PEM certificates for this registry. */
  readonly ca: readonly string[];
  readonly auth: RegistryAuth | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface FetchedManifest {
  readonly digest: string;
  readonly bytes: Buffer;
}

export class Registry {
  readonly #domain: string;
  readonly #options: RegistryOptions;
  #base: URL | undefined;
  #basic = false;
  readonly #tokens = new Map<string, { token: string; untilMs: number }>();

  constructor(domain: string, options: RegistryOptions) {
    this.#domain = domain;
    this.#options = options;
  }

  /** By tag or digest. SwarmError not_found, unauthorized, unavailable, corrupt. */
  async manifest(repository: string, reference: string): Promise<FetchedManifest> {
    const what = `${this.#domain}/${repository}:${reference}`.replace(/:sha256:/, '@sha256:');
    const response = await this.#get(repository, `manifests/${reference}`, { Accept: ACCEPT });
    if (response.status !== 200) throw await this.#refusal(response, what);
    const bytes = await readBody(response, MAX_DOCUMENT_BYTES);
    const digest = digestOf(bytes);
    const stated = response.headers['docker-content-digest'];
    const wanted = reference.startsWith('sha256:') ? reference : stated;
    if (typeof wanted === 'string' && wanted.startsWith('sha256:') && wanted !== digest) {
      throw new SwarmError(
        'corrupt',
        `the manifest of ${what} arrived with other content (${digest} instead of ${wanted})`,
      );
    }
    return { digest, bytes };
  }

  /** Brings the rest of a blob to `writer`, which checks it; does not commit. */
  async blob(
    repository: string,
    expected: { readonly digest: string; readonly sizeBytes: number },
    writer: BlobWriter,
    onProgress: (doneBytes: number) => void,
  ): Promise<void> {
    const { digest, sizeBytes } = expected;
    let fruitless = 0;
    while (writer.doneBytes < sizeBytes || sizeBytes === 0) {
      const before = writer.doneBytes;
      const failure = await this.#blobPart(repository, digest, sizeBytes, writer, onProgress);
      if (failure === undefined) return;
      fruitless = writer.doneBytes > before ? 0 : fruitless + 1;
      if (fruitless >= MAX_FRUITLESS) throw failure;
      await this.#pause(fruitless);
    }
  }

  /** One request for what is missing; the failure when it is worth another try. */
  async #blobPart(
    repository: string,
    digest: string,
    sizeBytes: number,
    writer: BlobWriter,
    onProgress: (doneBytes: number) => void,
  ): Promise<SwarmError | undefined> {
    const from = writer.doneBytes;
    const range = from > 0 ? { Range: `bytes=${from}-` } : undefined;
    const response = await this.#get(repository, `blobs/${digest}`, { ...range });
    if (response.status === 416 && from > 0) {
      response.body.destroy();
      await writer.restart();
      return new SwarmError('unavailable', `${this.#domain} does not continue blob ${digest}`);
    }
    if (response.status !== 200 && response.status !== 206) {
      throw await this.#refusal(response, `blob ${digest} of ${this.#domain}/${repository}`);
    }
    const continues = String(response.headers['content-range'] ?? '').startsWith(`bytes ${from}-`);
    if (from > 0 && !(response.status === 206 && continues)) await writer.restart();
    const { body } = response;
    try {
      for (;;) {
        const next = await nextChunk(body, response);
        if (next instanceof SwarmError) return this.#cancelledOr(next);
        if (next === undefined) break;
        await writer.append(next);
        onProgress(writer.doneBytes);
      }
    } finally {
      body.destroy();
    }
    if (writer.doneBytes === sizeBytes) return undefined;
    return new SwarmError(
      'corrupt',
      `blob ${digest} of ${this.#domain}/${repository} ends after ${writer.doneBytes} of ` +
        `${sizeBytes} bytes`,
    );
  }

  #cancelledOr(error: SwarmError): SwarmError {
    if (this.#options.signal?.aborted !== true) return error;
    throw new SwarmError('cancelled', 'the pull was cancelled', { cause: error });
  }

  /** GET with authentication, tried again while the registry is busy. */
  async #get(
    repository: string,
    path: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<Response> {
    const scope = `repository:${repository}:pull`;
    const base = await this.#findBase();
    const url = new URL(`/v2/${repository}/${path}`, base);
    let asked = false;
    for (let attempt = 0; ; attempt += 1) {
      const authorization = this.#authorization(scope);
      const sent = authorization === undefined ? headers : { ...headers, ...authorization };
      let response: Response;
      try {
        response = await this.#send(url, sent);
      } catch (error) {
        if (!hasCode(error, 'unavailable') || attempt >= MAX_FRUITLESS) throw error;
        await this.#pause(attempt);
        continue;
      }
      if (response.status === 401 && !asked) {
        asked = true;
        await this.#authenticate(response, scope);
        continue;
      }
      if (RETRIED_STATUS.has(response.status) && attempt < MAX_FRUITLESS) {
        response.body.destroy();
        await this.#pause(attempt, response.headers['retry-after']);
        continue;
      }
      return response;
    }
  }

  #send(url: URL, headers: Readonly<Record<string, string>>): Promise<Response> {
    return request(url, {
      headers,
      signal: this.#options.signal,
      ca: this.#options.ca,
      plainAllowed: (host) => this.#plainAllowed(host),
    });
  }

  #plainAllowed(host: string): boolean {
    return isLoopback(host) || this.#options.insecureRegistries.includes(host);
  }

  /** HTTPS; where plain HTTP is allowed and nothing there speaks TLS, that. */
  async #findBase(): Promise<URL> {
    if (this.#base !== undefined) return this.#base;
    const host = this.#domain === DEFAULT_DOMAIN ? DOCKER_HUB : this.#domain;
    const secure = new URL(`https://${host}/`);
    if (this.#plainAllowed(host)) {
      try {
        (await this.#send(new URL('/v2/', secure), {})).body.destroy();
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

  #authorization(scope: string): { Authorization: string } | undefined {
    const kept = this.#tokens.get(scope);
    if (kept !== undefined && kept.untilMs > this.#options.clock.nowMs()) {
      return { Authorization: `Bearer ${kept.token}` };
    }
    return this.#basic ? { Authorization: this.#basicHeader() ?? '' } : undefined;
  }

  #basicHeader(): string | undefined {
    const { username, password } = this.#options.auth ?? {};
    if (username === undefined || password === undefined) return undefined;
    return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  }

  async #authenticate(response: Response, scope: string): Promise<void> {
    const challenge = parseChallenge(String(response.headers['www-authenticate'] ?? ''));
    response.body.destroy();
    if (challenge?.scheme === 'basic' && this.#basicHeader() !== undefined) {
      this.#basic = true;
      return;
    }
    const realm = challenge?.parameters['realm'];
    if (challenge?.scheme !== 'bearer' || realm === undefined) {
      throw new SwarmError('unauthorized', `${this.#domain} wants a user name and password`);
    }
    await this.#fetchToken(realm, challenge.parameters['service'], scope);
  }

  /** docker/distribution "Token Authentication", and its OAuth2 form for identity tokens. */
  async #fetchToken(realm: string, service: string | undefined, scope: string): Promise<void> {
    const url = URL.canParse(realm) ? new URL(realm) : undefined;
    const plain = url?.protocol === 'http:' && this.#plainAllowed(url.host);
    if (url === undefined || (url.protocol !== 'https:' && !plain)) {
      throw new SwarmError('forbidden', `${this.#domain} names an unsafe token server: "${realm}"`);
    }
    const { identityToken } = this.#options.auth ?? {};
    const parameters = new URLSearchParams({
      scope,
      ...(service === undefined ? {} : { service }),
    });
    let response: Response;
    const common = {
      signal: this.#options.signal,
      ca: this.#options.ca,
      plainAllowed: (host: string) => this.#plainAllowed(host),
    };
    if (identityToken !== undefined && identityToken !== '') {
      parameters.set('grant_type', 'refresh_token');
      parameters.set('refresh_token', identityToken);
      parameters.set('client_id', 'tsswarm');
      const headers = { 'Content-Type': 'application/x-www-form-urlencoded' };
      const body = parameters.toString();
      response = await request(url, { ...common, method: 'POST', headers, body });
    } else {
      for (const [key, value] of parameters) url.searchParams.set(key, value);
      const basic = this.#basicHeader();
      response = await request(url, {
        ...common,
        headers: basic === undefined ? {} : { Authorization: basic },
      });
    }
    if (response.status !== 200) {
      const why = await errorText(response);
      throw new SwarmError(
        response.status === 401 || response.status === 403 ? 'unauthorized' : 'unavailable',
        `${url.host} gives no token for ${scope}: ${why || `status ${response.status}`}`,
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
    this.#tokens.set(scope, { token, untilMs: this.#options.clock.nowMs() + lifeMs });
  }

  async #refusal(response: Response, what: string): Promise<SwarmError> {
    const why = await errorText(response);
    const said = why === '' ? `status ${response.status}` : why;
    switch (response.status) {
      case 404:
        return new SwarmError('not_found', `${what} not found: ${said}`);
      case 401:
      case 403:
        return new SwarmError(
          'unauthorized',
          `pull access denied for ${what}: it does not exist or needs a login (${said})`,
        );
      case 429:
        return new SwarmError('unavailable', `${this.#domain} limits pulls: ${said}`);
      default:
        return new SwarmError('unavailable', `${what}: the registry answers: ${said}`);
    }
  }

  async #pause(attempt: number, retryAfter?: string): Promise<void> {
    const stated = Number(retryAfter) * 1000;
    const delayMs = stated > 0 ? stated : RETRY_MS * 2 ** attempt;
    await this.#options.clock.sleep(Math.min(delayMs, MAX_RETRY_MS));
    if (this.#options.signal?.aborted === true) {
      throw new SwarmError('cancelled', 'the pull was cancelled');
    }
  }
}

/** The next piece, undefined at the end, or the failure of the connection. */
async function nextChunk(
  body: Response['body'],
  response: Response,
): Promise<Buffer | undefined | SwarmError> {
  for (;;) {
    if (body.errored !== null && body.errored !== undefined) {
      return transportError(response.url, body.errored);
    }
    const chunk = body.read() as Buffer | null;
    if (chunk !== null) return chunk;
    if (body.readableEnded) return undefined;
    if (body.destroyed) {
      return new SwarmError('unavailable', `${response.url.host} closed the connection`);
    }
    await new Promise<void>((resolve) => {
      const events = ['readable', 'end', 'error', 'close'];
      const wake = (): void => {
        for (const event of events) body.off(event, wake);
        resolve();
      };
      for (const event of events) body.on(event, wake);
    });
  }
}

/** 'localhost:5000', '127.0.0.1', '[::1]:5000'. */
export function isLoopback(host: string): boolean {
  const name = host.startsWith('[') ? host.slice(1, host.indexOf(']')) : host.replace(/:\d+$/, '');
  return name === 'localhost' || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name);
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
