/**
 * Writing to one registry (distribution-spec v1.1, push): whether a blob is there, taking it over
 * from another repository, uploading it in one stream that is begun again when it is cut, and the
 * manifest at the end. Never uploads what the registry has.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import { errorText, type Response } from './http.ts';
import { MAX_FRUITLESS, RegistrySession, type SessionOptions } from './registrySession.ts';

const OCTETS = 'application/octet-stream';

export interface UploadedBlob {
  readonly digest: string;
  readonly sizeBytes: number;
}

export class RegistryUpload {
  readonly #session: RegistrySession;
  readonly #repository: string;
  readonly #scope: string;

  constructor(domain: string, repository: string, options: SessionOptions) {
    this.#session = new RegistrySession(domain, options);
    this.#repository = repository;
    this.#scope = `repository:${repository}:pull,push`;
  }

  async hasBlob(digest: string): Promise<boolean> {
    const response = await this.#session.call({
      method: 'HEAD',
      path: `/v2/${this.#repository}/blobs/${digest}`,
      scope: this.#scope,
    });
    if (response.status === 404) {
      response.body.destroy();
      return false;
    }
    if (response.status !== 200) throw await this.#refusal(response);
    response.body.destroy();
    return true;
  }

  /** Takes the blob over from another repository of this registry; false where that cannot be. */
  async mount(digest: string, from: string): Promise<boolean> {
    const query = new URLSearchParams({ mount: digest, from });
    try {
      const response = await this.#session.call({
        method: 'POST',
        path: `/v2/${this.#repository}/blobs/uploads/?${query}`,
        scope: `${this.#scope} repository:${from}:pull`,
      });
      response.body.destroy();
      return response.status === 201;
    } catch (error) {
      // A user who may not read the other repository uploads.
      if (hasCode(error, 'unauthorized')) return false;
      throw error;
    }
  }

  /** Sends the blob; `open` gives its bytes from the start, again for each attempt. */
  async uploadBlob(
    blob: UploadedBlob,
    open: () => AsyncIterable<Uint8Array>,
    onProgress: (doneBytes: number) => void,
  ): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      const failure = await this.#uploadOnce(blob, open, onProgress);
      if (failure === undefined) return;
      if (attempt >= MAX_FRUITLESS) throw failure;
      await this.#session.pause(attempt);
    }
  }

  /** The failure when the upload's place at the registry was lost: it is begun again. */
  async #uploadOnce(
    blob: UploadedBlob,
    open: () => AsyncIterable<Uint8Array>,
    onProgress: (doneBytes: number) => void,
  ): Promise<SwarmError | undefined> {
    const begun = await this.#session.call({
      method: 'POST',
      path: `/v2/${this.#repository}/blobs/uploads/`,
      scope: this.#scope,
    });
    if (begun.status !== 202) throw await this.#refusal(begun);
    const sent = await this.#session.call({
      method: 'PATCH',
      path: locationOf(begun),
      scope: this.#scope,
      headers: { 'Content-Type': OCTETS, 'Content-Length': String(blob.sizeBytes) },
      stream: () => counted(open(), onProgress),
    });
    if (sent.status === 404 || sent.status === 416) return this.#refusal(sent);
    if (sent.status !== 202 && sent.status !== 204) throw await this.#refusal(sent);
    const end = locationOf(sent);
    end.searchParams.set('digest', blob.digest);
    const done = await this.#session.call({
      method: 'PUT',
      path: end,
      scope: this.#scope,
      headers: { 'Content-Type': OCTETS, 'Content-Length': '0' },
      body: '',
    });
    if (done.status === 404) return this.#refusal(done);
    if (done.status !== 201 && done.status !== 204) throw await this.#refusal(done);
    done.body.destroy();
    return undefined;
  }

  async putManifest(reference: string, mediaType: string, bytes: Uint8Array): Promise<void> {
    const response = await this.#session.call({
      method: 'PUT',
      path: `/v2/${this.#repository}/manifests/${reference}`,
      scope: this.#scope,
      headers: { 'Content-Type': mediaType, 'Content-Length': String(bytes.byteLength) },
      body: bytes,
    });
    if (response.status !== 201 && response.status !== 200) throw await this.#refusal(response);
    response.body.destroy();
  }

  async #refusal(response: Response): Promise<SwarmError> {
    const why = (await errorText(response)) || `status ${response.status}`;
    const name = `${this.#session.domain}/${this.#repository}`;
    switch (response.status) {
      case 401:
      case 403:
        return new SwarmError(
          'unauthorized',
          `push access denied for ${name}, repository does not exist or may require ` +
            `'docker login': ${why}`,
        );
      case 413:
        return new SwarmError('exhausted', `${name}: the registry takes no blob so large: ${why}`);
      default:
        return new SwarmError('unavailable', `push to ${name}: the registry answers: ${why}`);
    }
  }
}

function locationOf(response: Response): URL {
  response.body.destroy();
  const { location } = response.headers;
  if (location === undefined || !URL.canParse(location, response.url.href)) {
    throw new SwarmError('unavailable', `${response.url.host} does not say where to upload to`);
  }
  const url = new URL(location, response.url);
  if (url.protocol === 'http:' && response.url.protocol === 'https:') {
    throw new SwarmError('forbidden', `${response.url.host} wants an unencrypted upload: refused`);
  }
  return url;
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  onProgress: (doneBytes: number) => void,
): AsyncGenerator<Uint8Array> {
  let doneBytes = 0;
  for await (const chunk of source) {
    yield chunk;
    doneBytes += chunk.byteLength;
    onProgress(doneBytes);
  }
}
