/**
 * Reading from one registry (distribution-spec v1.1, pull): manifests checked against their digest,
 * blobs by the writer they go to, a cut download continued where it stopped; tags; and what the
 * refusals mean, in Docker's words. The calls themselves are registrySession.ts's.
 */
import { SwarmError } from '../../base/errors.ts';
import { type BlobWriter, digestOf, MAX_DOCUMENT_BYTES } from './blobs.ts';
import { errorText, type Response, readBody, transportError } from './http.ts';
import { DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from './manifest.ts';
import { DEFAULT_DOMAIN, familiarReference } from './reference.ts';
import { MAX_FRUITLESS, RegistrySession, type SessionOptions } from './registrySession.ts';

const ACCEPT = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST].join(', ');
/** A fast network would otherwise keep this thread from everything else for milliseconds. */
const TURN_BYTES = 256 * 1024;
const MAX_TAG_PAGES = 100;
/** `pull --all-tags` of more was not meant. */
const MAX_TAGS = 10_000;

export interface FetchedManifest {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export class Registry {
  readonly session: RegistrySession;

  constructor(domain: string, options: SessionOptions) {
    this.session = new RegistrySession(domain, options);
  }

  /** By tag or digest. SwarmError not_found, unauthorized, unavailable, corrupt. */
  async manifest(repository: string, reference: string): Promise<FetchedManifest> {
    const what = this.#name(repository, reference);
    const path = `manifests/${reference}`;
    const response = await this.#get(repository, path, { Accept: ACCEPT });
    if (response.status !== 200) throw await manifestRefusal(response, what);
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
    return { digest, bytes, mediaType: String(response.headers['content-type'] ?? '') };
  }

  /** A small blob, checked: an image's configuration. */
  async document(repository: string, digest: string): Promise<Buffer> {
    const response = await this.#get(repository, `blobs/${digest}`, {});
    const what = `blob ${digest} of ${this.session.domain}/${repository}`;
    if (response.status !== 200) throw await refusal(response, what);
    const bytes = await readBody(response, MAX_DOCUMENT_BYTES);
    if (digestOf(bytes) === digest) return bytes;
    throw new SwarmError('corrupt', `${what} arrived with other content`);
  }

  /** All tags of a repository, as the registry orders them. */
  async tags(repository: string): Promise<string[]> {
    const tags: string[] = [];
    let path: string | URL = `/v2/${repository}/tags/list`;
    for (let page = 0; page < MAX_TAG_PAGES; page += 1) {
      const scope = pullScope(repository);
      const response: Response = await this.session.call({ path, scope });
      if (response.status !== 200) {
        throw await manifestRefusal(response, this.#name(repository, ''));
      }
      tags.push(...tagsIn(await readBody(response, MAX_DOCUMENT_BYTES), response.url.host));
      const next = /<([^>]+)>\s*;\s*rel="?next"?/.exec(String(response.headers['link'] ?? ''));
      if (next === null || !URL.canParse(next[1], response.url.href)) break;
      path = new URL(next[1], response.url);
    }
    if (tags.length <= MAX_TAGS) return tags;
    throw new SwarmError('exhausted', `more than ${MAX_TAGS} tags: pull those you need by name`);
  }

  /** Whether the registry lets this user in: 'unauthorized' with its reason when not. */
  async checkLogin(): Promise<void> {
    const response = await this.session.call({ path: '/v2/', scope: '' });
    if (response.status === 200) {
      response.body.destroy();
      return;
    }
    const why = (await errorText(response)) || `status ${response.status}`;
    const code = [401, 403].includes(response.status) ? 'unauthorized' : 'unavailable';
    throw new SwarmError(code, `login attempt to ${response.url.href} failed: ${why}`);
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
    // The furthest so far: a download that begins anew again and again comes nowhere.
    let furthest = writer.doneBytes;
    while (writer.doneBytes < sizeBytes || sizeBytes === 0) {
      const failure = await this.#blobPart(repository, digest, sizeBytes, writer, onProgress);
      if (failure === undefined) return;
      fruitless = writer.doneBytes > furthest ? 0 : fruitless + 1;
      furthest = Math.max(furthest, writer.doneBytes);
      if (fruitless >= MAX_FRUITLESS) throw failure;
      await this.session.pause(fruitless);
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
      return new SwarmError(
        'unavailable',
        `${this.session.domain} does not continue blob ${digest}`,
      );
    }
    if (response.status !== 200 && response.status !== 206) {
      throw await refusal(response, `blob ${digest} of ${this.session.domain}/${repository}`);
    }
    const continues = String(response.headers['content-range'] ?? '').startsWith(`bytes ${from}-`);
    if (from > 0 && !(response.status === 206 && continues)) await writer.restart();
    const { body } = response;
    let turnEnd = from + TURN_BYTES;
    try {
      for (;;) {
        const next = await nextChunk(body, response);
        if (next instanceof SwarmError) return this.#cancelledOr(next);
        if (next === undefined) break;
        await writer.append(next);
        onProgress(writer.doneBytes);
        if (writer.doneBytes < turnEnd) continue;
        turnEnd = writer.doneBytes + TURN_BYTES;
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    } finally {
      body.destroy();
    }
    if (writer.doneBytes === sizeBytes) return undefined;
    return new SwarmError(
      'corrupt',
      `blob ${digest} of ${this.session.domain}/${repository} ends after ${writer.doneBytes} of ` +
        `${sizeBytes} bytes`,
    );
  }

  #cancelledOr(error: SwarmError): SwarmError {
    if (this.session.options.signal?.aborted !== true) return error;
    throw new SwarmError('cancelled', 'the transfer was cancelled', { cause: error });
  }

  #get(
    repository: string,
    path: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<Response> {
    return this.session.call({
      path: `/v2/${repository}/${path}`,
      scope: pullScope(repository),
      headers,
    });
  }

  /** As people write it: 'host:5000/team/web:1', 'web@sha256:...'. */
  #name(repository: string, reference: string): string {
    const { domain } = this.session;
    const name = familiarReference(`${domain || DEFAULT_DOMAIN}/${repository}`);
    if (reference === '') return name;
    return reference.startsWith('sha256:') ? `${name}@${reference}` : `${name}:${reference}`;
  }
}

/** distribution-spec, "Listing Tags"; a repository without any may say null. */
function tagsIn(body: Buffer, host: string): string[] {
  let answer: { readonly tags?: unknown } | null;
  try {
    answer = JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new SwarmError('unavailable', `${host} sent a list of tags that is not JSON`, { cause });
  }
  const tags = answer?.tags;
  return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : [];
}

function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

/** Docker's words for a manifest that is not given. */
async function manifestRefusal(response: Response, what: string): Promise<SwarmError> {
  const why = (await errorText(response)) || `status ${response.status}`;
  switch (response.status) {
    case 404:
      return new SwarmError('not_found', `manifest for ${what} not found: ${why}`);
    case 401:
    case 403:
      return new SwarmError(
        'unauthorized',
        `pull access denied for ${what}, repository does not exist or may require ` +
          `'docker login': ${why}`,
      );
    default:
      return busy(response, what, why);
  }
}

async function refusal(response: Response, what: string): Promise<SwarmError> {
  const why = (await errorText(response)) || `status ${response.status}`;
  if (response.status === 404) return new SwarmError('not_found', `${what} not found: ${why}`);
  if (response.status === 401 || response.status === 403) {
    return new SwarmError('unauthorized', `${what}: access denied: ${why}`);
  }
  return busy(response, what, why);
}

function busy(response: Response, what: string, why: string): SwarmError {
  return response.status === 429
    ? new SwarmError('unavailable', `${response.url.host} limits requests: ${why}`)
    : new SwarmError('unavailable', `${what}: the registry answers: ${why}`);
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
