/**
 * What moves images in and out of this host: pull, push, load, save, import, and the log-in to a
 * registry. Each answers with Docker's stream of progress lines.
 */
import { hasCode, messageOf, SwarmError } from '../../../base/errors.ts';
import { credentialsOf } from '../../../runtime/image/credentials.ts';
import { hostPlatform, parsePlatform } from '../../../runtime/image/manifest.ts';
import { familiarReference, parseReference } from '../../../runtime/image/reference.ts';
import type { Image, Platform, PushedImage } from '../../../runtime/image/types.ts';
import { type ApiRequest, json, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { JSON_STREAM, ProgressStream } from '../progress.ts';
import { registryAuthOf, registryOfServer } from '../registryAuth.ts';

export function addImageTransferRoutes(router: Router, parts: ApiParts): void {
  router.post('/auth', (request) => login(request, parts));
  router.post('/images/load', (request) => load(request, parts));
  router.post('/images/create', (request) =>
    request.query.has('fromSrc') ? importTar(request, parts) : pull(request, parts),
  );
  router.get('/images/get', (request) => save(request, parts, namesOf(request)));
  router.get('/images/{name...}/get', (request) => save(request, parts, [request.params.name]));
  router.post('/images/{name...}/push', (request) => push(request, parts));
}

export function withTag(repository: string, tag: string): string {
  if (tag === '') return repository;
  return tag.includes(':') ? `${repository}@${tag}` : `${repository}:${tag}`;
}

/** One or several `names`, each a name or a list of them with commas. */
function namesOf(request: ApiRequest): string[] {
  return request.query.getAll('names').flatMap((names) => names.split(',').filter(Boolean));
}

/** `platform`: 'linux/amd64', or since 1.48 OCI's JSON; several may come, one can be held. */
export function platformOf(request: ApiRequest, name = 'platform'): Platform | undefined {
  const [text = '', ...more] = request.query.getAll(name);
  if (more.length > 0) {
    throw new SwarmError('unsupported', `${name}: an image is kept for one platform: name one`);
  }
  if (text === '') return undefined;
  if (!text.startsWith('{')) return parsePlatform(text);
  try {
    const { os, architecture, variant } = JSON.parse(text) as Record<string, unknown>;
    const parts = [os, architecture, variant].filter((part) => typeof part === 'string');
    return parsePlatform(parts.filter((part) => part !== '').join('/'));
  } catch (cause) {
    if (cause instanceof SwarmError) throw cause;
    throw new SwarmError('invalid', `${name} is not valid JSON`, { cause });
  }
}

async function login(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const body = await request.body();
  const server = registryOfServer(body.text('serveraddress'));
  const names = ['username', 'password', 'auth', 'identitytoken', 'registrytoken'];
  const auth = credentialsOf(Object.fromEntries(names.map((name) => [name, body.raw(name)])));
  if (auth === undefined) throw new SwarmError('invalid', 'username and password are missing');
  await parts.node.images.login(server, auth);
  return json({ Status: 'Login Succeeded', IdentityToken: '' });
}

async function load(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const platform = platformOf(request);
  if (platform !== undefined && platform.architecture !== hostPlatform().architecture) {
    throw new SwarmError(
      'unsupported',
      `platform: of an archive the images for ${hostPlatform().architecture} are loaded: pull ` +
        'the other one from a registry instead',
    );
  }
  const progress = new ProgressStream(request);
  const quiet = request.flag('quiet');
  try {
    const loaded = await parts.node.images.load(
      request.upload(),
      // Only what is unpacked makes lines: what is here already is loaded at once.
      quiet ? undefined : (step) => progress.push({ ...step, status: loadingWords(step.status) }),
    );
    for (const { id, loadedAs } of loaded) {
      const names = loadedAs.map((name) => `: ${familiarReference(name)}`);
      for (const name of names.length === 0 ? [` ID: ${id}`] : names) {
        await progress.line({ stream: `Loaded image${name}\n` });
      }
    }
  } catch (error) {
    // A client that still sends hears it from the status.
    if (!request.incoming.complete && !progress.started) throw error;
    // As Docker's daemon: its SDKs look for it among the lines.
    const message = messageOf(error);
    await progress.line({ errorDetail: { message }, error: message });
  }
  progress.end();
  return STREAMED;
}

function loadingWords(status: string): string {
  return status === 'Extracting' ? 'Loading layer' : status;
}

async function save(
  request: ApiRequest,
  parts: ApiParts,
  names: readonly string[],
): Promise<Reply> {
  const { images } = parts.node;
  if (names.length === 0) throw new SwarmError('invalid', 'names is missing: name an image');
  const platform = platformOf(request);
  // A name without a tag stands for all its tags, as in Docker.
  const wanted: string[] = [];
  for (const name of names) {
    const found = tagsUnder(images.list(), name);
    if (found.length > 0) {
      for (const tag of found) requirePlatform(imageNamed(parts, tag), platform);
      wanted.push(...found);
      continue;
    }
    requirePlatform(imageNamed(parts, name), platform);
    wanted.push(name);
  }
  const out = request.stream('application/x-tar');
  for await (const chunk of images.save(wanted)) await out.write(chunk);
  out.end();
  return STREAMED;
}

export function imageNamed(parts: ApiParts, name: string): Image {
  const image = parts.node.images.find(name);
  if (image === undefined) throw new SwarmError('not_found', `No such image: ${name}`);
  return image;
}

/** An image is kept for one platform. SwarmError not_found when that is another. */
export function requirePlatform(image: Image, platform: Platform | undefined): void {
  const { os, architecture } = image.config;
  if (platform === undefined) return;
  if (platform.os === os && platform.architecture === architecture) return;
  throw new SwarmError(
    'not_found',
    `image with reference ${image.tags.map(familiarReference)[0] ?? image.id} was found but ` +
      `does not provide the specified platform (${platform.os}/${platform.architecture}): ` +
      `it is for ${os}/${architecture}`,
  );
}

/** Tags of the repository `name`, when it is a name without tag or digest. */
function tagsUnder(all: readonly Image[], name: string): string[] {
  let repository: string;
  try {
    const { domain, path, tag, digest } = parseReference(name);
    if (tag !== undefined || digest !== undefined) return [];
    repository = `${domain}/${path}:`;
  } catch {
    return []; // an id, which find knows
  }
  return all.flatMap((image) => image.tags.filter((tag) => tag.startsWith(repository)));
}

async function importTar(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  if (request.text('fromSrc') !== '-') {
    throw new SwarmError(
      'unsupported',
      'fromSrc: only "-" (the request body) is supported: get the file first, then import it',
    );
  }
  const platform = platformOf(request);
  if (platform !== undefined && platform.os !== 'linux') {
    throw new SwarmError('unsupported', `platform: no ${platform.os} containers run here`);
  }
  const reference = withTag(request.text('repo'), request.text('tag'));
  const changes = request.query.getAll('changes');
  const image = await parts.node.images.import(request.upload(), reference, changes, {
    comment: request.text('message'),
    ...(platform === undefined ? {} : { platform }),
  });
  const out = request.stream(JSON_STREAM);
  await out.line({ status: image.id });
  out.end();
  return STREAMED;
}

async function pull(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { images } = parts.node;
  const name = request.text('fromImage');
  if (name === '') throw new SwarmError('invalid', 'fromImage is missing: name an image');
  const reference = withTag(name, request.text('tag'));
  const auth = registryAuthOf(request);
  const platform = platformOf(request);
  const { signal } = request;
  const common = { signal, ...(auth === undefined ? {} : { auth }) };
  const { tag, digest } = parseReference(reference);
  return inStream(request, async (progress) => {
    // Without a tag all of them are meant: clients that want "latest" say so.
    const all = tag === undefined && digest === undefined;
    const names = all
      ? (await images.remoteTags(reference, common)).map((each) => `${reference}:${each}`)
      : [reference];
    for (const each of names) {
      await images.pull(each, {
        ...common,
        ...(platform === undefined ? {} : { platform }),
        onProgress: (step) => progress.push(step),
      });
    }
  });
}

async function push(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { images } = parts.node;
  const name = request.params.name;
  const asked = withTag(name, request.text('tag'));
  const auth = registryAuthOf(request);
  const platform = platformOf(request);
  const { domain, path, tag } = parseReference(asked);
  const tags = tag === undefined ? tagsUnder(images.list(), asked) : [asked];
  const repository = familiarReference(`${domain}/${path}`);
  if (tags.length === 0) {
    throw new SwarmError(
      'not_found',
      `An image does not exist locally with the tag: ${repository}`,
    );
  }
  for (const each of tags) {
    const image = images.find(each);
    if (image !== undefined) {
      requirePlatform(image, platform);
      continue;
    }
    throw new SwarmError(
      'not_found',
      `An image does not exist locally with the tag: ${familiarReference(each)}`,
    );
  }
  return inStream(request, async (progress) => {
    await progress.line({ status: `The push refers to repository [${domain}/${path}]` });
    for (const each of tags) {
      const pushed = await images.push(each, {
        signal: request.signal,
        ...(auth === undefined ? {} : { auth }),
        onProgress: (step) => progress.push(step),
      });
      await progress.line({ status: pushedLine(pushed) });
      const aux = { Tag: pushed.tag, Digest: pushed.digest, Size: pushed.sizeBytes };
      await progress.line({ progressDetail: {}, aux });
    }
  });
}

function pushedLine({ tag, digest, sizeBytes }: PushedImage): string {
  return `${tag}: digest: ${digest} size: ${sizeBytes}`;
}

/** Runs `work`; its failure is the answer's status, or once lines were sent the last of them. */
async function inStream(
  request: ApiRequest,
  work: (progress: ProgressStream) => Promise<void>,
): Promise<Reply> {
  const progress = new ProgressStream(request);
  try {
    await work(progress);
  } catch (error) {
    if (!progress.started) throw withDockerStatus(error);
    const message = messageOf(error);
    await progress.line({ errorDetail: { message }, error: message });
  }
  await progress.flushed();
  progress.end();
  return STREAMED;
}

/**
 * Docker's daemon answers 404 or 500 where a registry refuses: to 401 its client would ask for a
 * password on the terminal and wait.
 */
function withDockerStatus(error: unknown): unknown {
  if (!hasCode(error, 'unauthorized')) return error;
  const code = error.message.startsWith('pull access denied') ? 'not_found' : 'internal';
  return new SwarmError(code, error.message, { cause: error });
}
