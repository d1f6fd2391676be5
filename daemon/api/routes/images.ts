/** /images and /distribution: what this host's image store holds, load, import, pull. */
import { messageOf, SwarmError } from '../../../base/errors.ts';
import type { Image, ImageProgress } from '../../../runtime/image/types.ts';
import {
  distribution,
  familiar,
  imageHistory,
  imageSummary,
  imageToDocker,
} from '../docker/image.ts';
import { Filters } from '../filters.ts';
import {
  type ApiRequest,
  type BodyWriter,
  empty,
  json,
  type Reply,
  type Router,
  STREAMED,
} from '../http.ts';
import type { ApiParts } from '../parts.ts';

const FILTERS = ['reference', 'label', 'dangling', 'before', 'since', 'until'];
const JSON_STREAM = 'application/json';

export function addImageRoutes(router: Router, parts: ApiParts): void {
  const { images } = parts.node;
  router.get('/images/json', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    return json(selected(images.list(), filters).map((image) => imageSummary(image, -1)));
  });
  router.post('/images/load', (request) => load(request, parts));
  router.post('/images/create', (request) =>
    request.query.has('fromSrc') ? importTar(request, parts) : pull(request, parts),
  );
  router.get('/images/get', (request) => save(request, parts, request.query.getAll('names')));
  router.get('/images/{name...}/get', (request) => save(request, parts, [request.params.name]));
  router.get('/images/{name...}/json', async (request) =>
    json(imageToDocker(imageNamed(parts, request.params.name))),
  );
  router.get('/images/{name...}/history', async (request) =>
    json(imageHistory(imageNamed(parts, request.params.name))),
  );
  router.post('/images/{name...}/tag', async (request) => {
    const repository = request.text('repo');
    if (repository === '') throw new SwarmError('invalid', 'repo is missing: name the new tag');
    await images.tag(request.params.name, withTag(repository, request.text('tag')));
    return empty(201);
  });
  router.delete('/images/{name...}', async (request) => {
    const removed = await images.remove(request.params.name, { force: request.flag('force') });
    return json(
      removed.map((item) => ({
        ...(item.untagged === undefined ? {} : { Untagged: familiar(item.untagged) }),
        ...(item.deleted === undefined ? {} : { Deleted: item.deleted }),
      })),
    );
  });
  router.get('/distribution/{name...}/json', async (request) => {
    const { name } = request.params;
    const image = images.find(name);
    const found = image === undefined ? undefined : distribution(image);
    if (found === undefined) {
      throw new SwarmError('not_found', `no digest is known for ${name}: no such image here`);
    }
    return json(found);
  });
}

function imageNamed(parts: ApiParts, name: string): Image {
  const image = parts.node.images.find(name);
  if (image === undefined) throw new SwarmError('not_found', `No such image: ${name}`);
  return image;
}

function withTag(repository: string, tag: string): string {
  if (tag === '') return repository;
  return tag.includes(':') ? `${repository}@${tag}` : `${repository}:${tag}`;
}

function selected(all: readonly Image[], filters: Filters): readonly Image[] {
  for (const name of ['before', 'since', 'until']) {
    if (filters.has(name)) {
      throw new SwarmError('unsupported', `the filter ${name} is not supported for images`);
    }
  }
  const dangling = filters.flag('dangling');
  return all.filter(
    (image) =>
      filters.labels('label', image.config.labels) &&
      (dangling === undefined || (image.tags.length === 0) === dangling) &&
      (!filters.has('reference') ||
        image.tags.some((tag) =>
          filters.some('reference', (wanted) => referenceFits(familiar(tag), wanted)),
        )),
  );
}

/** 'web' and 'web:1' fit 'web:1'; '*' stands for anything but a slash. */
function referenceFits(tag: string, wanted: string): boolean {
  return [tag, tag.slice(0, tag.lastIndexOf(':'))].some((name) => {
    const parts = name.split('/');
    const patterns = wanted.split('/');
    return (
      parts.length === patterns.length && parts.every((part, at) => globFits(part, patterns[at]))
    );
  });
}

/** Goes back to the last star only: no pattern takes longer than both lengths multiplied. */
function globFits(text: string, pattern: string): boolean {
  let star = -1;
  let resume = 0;
  let at = 0;
  for (let read = 0; read < text.length; ) {
    if (pattern[at] === '*') {
      star = at;
      resume = read;
      at += 1;
    } else if (pattern[at] === text[read]) {
      at += 1;
      read += 1;
    } else if (star >= 0) {
      resume += 1;
      read = resume;
      at = star + 1;
    } else {
      return false;
    }
  }
  return /^\**$/.test(pattern.slice(at));
}

async function load(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const loaded = await parts.node.images.load(request.upload());
  const out = request.stream(JSON_STREAM);
  for (const image of loaded) {
    const names = image.tags.length === 0 ? [`ID: ${image.id}`] : image.tags.map(familiar);
    for (const name of names) {
      const colon = image.tags.length === 0 ? ' ' : ': ';
      await out.line({ stream: `Loaded image${colon}${name}\n` });
    }
  }
  out.end();
  return STREAMED;
}

async function save(
  request: ApiRequest,
  parts: ApiParts,
  names: readonly string[],
): Promise<Reply> {
  if (names.length === 0) throw new SwarmError('invalid', 'names is missing: name an image');
  for (const name of names) imageNamed(parts, name);
  const out = request.stream('application/x-tar');
  for await (const chunk of parts.node.images.save(names)) await out.write(chunk);
  out.end();
  return STREAMED;
}

async function importTar(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  if (request.text('fromSrc') !== '-') {
    throw new SwarmError('unsupported', 'fromSrc: only "-" (the request body) is supported');
  }
  const reference = withTag(request.text('repo'), request.text('tag'));
  if (reference === '') throw new SwarmError('invalid', 'repo is missing: name the new image');
  const changes = request.query.getAll('changes');
  const image = await parts.node.images.import(request.upload(), reference, changes);
  const out = request.stream(JSON_STREAM);
  await out.line({ status: image.id });
  out.end();
  return STREAMED;
}

async function pull(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const name = request.text('fromImage');
  if (name === '') throw new SwarmError('invalid', 'fromImage is missing: name an image');
  const reference = withTag(name, request.text('tag'));
  const progress = new ProgressStream(request);
  try {
    const image = await parts.node.images.pull(reference, {
      onProgress: (step) => progress.push(step),
      signal: request.signal,
    });
    const [digest] = image.digests;
    if (digest !== undefined) {
      await progress.line({ status: `Digest: ${digest.slice(digest.indexOf('@') + 1)}` });
    }
    await progress.line({ status: `Status: Image is up to date for ${familiar(reference)}` });
  } catch (error) {
    // Before anything was sent the status code tells; after it only the stream can.
    if (!progress.started) throw error;
    const message = messageOf(error);
    await progress.line({ errorDetail: { message }, error: message });
  }
  progress.end();
  return STREAMED;
}

/** Progress lines in order; while the reader is behind, only the latest of each layer is kept. */
class ProgressStream {
  readonly #request: ApiRequest;
  readonly #latest = new Map<string, ImageProgress>();
  #out: BodyWriter | undefined;
  #sending: Promise<void> = Promise.resolve();
  #busy = false;

  constructor(request: ApiRequest) {
    this.#request = request;
  }

  get started(): boolean {
    return this.#out !== undefined;
  }

  push(step: ImageProgress): void {
    this.#latest.set(step.id, step);
    if (this.#busy) return;
    this.#busy = true;
    // A caller that has gone ends the pull through the request's signal.
    this.#sending = this.#drain().catch(() => this.#latest.clear());
  }

  async #drain(): Promise<void> {
    for (const [id, step] of this.#latest) {
      this.#latest.delete(id);
      await this.#write(progressLine(step));
    }
    this.#busy = false;
  }

  async line(value: object): Promise<void> {
    await this.#sending;
    await this.#write(value);
  }

  async #write(value: object): Promise<void> {
    this.#out ??= this.#request.stream(JSON_STREAM);
    await this.#out.line(value);
  }

  end(): void {
    this.#out?.end();
  }
}

function progressLine(step: ImageProgress): object {
  return {
    status: step.status,
    id: step.id,
    progressDetail:
      step.currentBytes === undefined
        ? {}
        : { current: step.currentBytes, total: step.totalBytes ?? 0 },
  };
}
