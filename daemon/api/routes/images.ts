/**
 * /images and /distribution: what this host's image store holds, and what a registry has under a
 * name. What moves images in and out is imageTransfer.ts's.
 */
import { hasCode, SwarmError } from '../../../base/errors.ts';
import { familiarReference } from '../../../runtime/image/reference.ts';
import type { Distribution, Image } from '../../../runtime/image/types.ts';
import {
  distributionToDocker,
  imageHistory,
  imageSummary,
  imageToDocker,
} from '../docker/image.ts';
import { Filters } from '../filters.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { registryAuthOf } from '../registryAuth.ts';
import { readTimeOrAge } from '../times.ts';
import {
  addImageTransferRoutes,
  imageNamed,
  platformOf,
  requirePlatform,
  withTag,
} from './imageTransfer.ts';

const FILTERS = ['reference', 'label', 'dangling', 'before', 'since', 'until'];
const PRUNE_FILTERS = ['dangling', 'until', 'label', 'label!'];
/** A registry is waited for no longer than that before `service create` goes on without it. */
const CONNECT_MS = 1000;
/** Less where the image is here: the digest it was pulled as will do. */
const CONNECT_WITH_LOCAL_MS = 400;
/** One that is there but does not answer. */
const RESOLVE_MS = 5000;
const RESOLVE_WITH_LOCAL_MS = 2000;

export function addImageRoutes(router: Router, parts: ApiParts): void {
  const { images } = parts.node;
  router.get('/images/json', (request) => list(request, parts));
  router.get('/images/search', async (request) => {
    const page = `https://hub.docker.com/search?q=${encodeURIComponent(request.text('term'))}`;
    throw new SwarmError(
      'unsupported',
      'searching registries is not supported by tsswarm: look for the image on its ' +
        `registry's web page (${page}) and get it with: docker pull NAME`,
    );
  });
  router.post('/images/prune', (request) => prune(request, parts));
  addImageTransferRoutes(router, parts);
  router.get('/images/{name...}/json', async (request) => {
    const image = imageNamed(parts, request.params.name);
    requirePlatform(image, platformOf(request));
    const [configuration, layers] = await Promise.all([
      images.configuration(image.id),
      images.layers(image.id),
    ]);
    return json(imageToDocker(image, configuration, layers));
  });
  router.get('/images/{name...}/history', async (request) => {
    const image = imageNamed(parts, request.params.name);
    requirePlatform(image, platformOf(request));
    const configuration = await images.configuration(image.id);
    return json(imageHistory(image, configuration, images.layerUse(image.id)));
  });
  router.post('/images/{name...}/tag', async (request) => {
    const repository = request.text('repo');
    if (repository === '') throw new SwarmError('invalid', 'repo is missing: name the new tag');
    await images.tag(request.params.name, withTag(repository, request.text('tag')));
    return empty(201);
  });
  router.delete('/images/{name...}', async (request) => {
    const platform = platformOf(request, 'platforms');
    if (platform !== undefined) requirePlatform(imageNamed(parts, request.params.name), platform);
    const removed = await images.remove(request.params.name, { force: request.flag('force') });
    return json(removed.map(removalToDocker));
  });
  router.get('/distribution/{name...}/json', (request) => distribution(request, parts));
}

function removalToDocker(item: { untagged?: string; deleted?: string }): object {
  return {
    ...(item.untagged === undefined ? {} : { Untagged: familiarReference(item.untagged) }),
    ...(item.deleted === undefined ? {} : { Deleted: item.deleted }),
  };
}

async function list(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { images } = parts.node;
  const filters = Filters.parse(request.query.get('filters'), FILTERS);
  // Clients before 1.25 send a name to match.
  const matched = request.text('filter');
  const usage = new Map(images.usage().images.map((use) => [use.id, use]));
  const shared = request.flag('shared-size');
  const found = selected(images.list(), filters, parts).filter(
    (image) =>
      matched === '' || image.tags.some((tag) => referenceFits(familiarReference(tag), matched)),
  );
  return json(
    found.map((image) => {
      const use = usage.get(image.id);
      return imageSummary(image, use?.containers ?? 0, shared ? (use?.sharedBytes ?? 0) : -1);
    }),
  );
}

function selected(all: readonly Image[], filters: Filters, parts: ApiParts): readonly Image[] {
  const dangling = filters.flag('dangling');
  const edge = (name: string): number | undefined => {
    if (!filters.has(name)) return undefined;
    const times = filters.values(name).map((text) => imageNamed(parts, text).config.createdAtMs);
    return name === 'since' ? Math.min(...times) : Math.max(...times);
  };
  const since = edge('since');
  const before = edge('before');
  const until = untilOf(filters, parts);
  const fitting = all.filter(
    (image) =>
      filters.labels('label', image.config.labels) &&
      (dangling === undefined || (image.tags.length === 0) === dangling) &&
      (since === undefined || image.config.createdAtMs > since) &&
      (before === undefined || image.config.createdAtMs < before) &&
      (until === undefined || image.config.createdAtMs < until),
  );
  if (!filters.has('reference')) return fitting;
  return fitting
    .map((image) => named(image, filters))
    .filter((image) => image.tags.length + image.digests.length > 0);
}

/** With the names that were asked for alone, as a list has one line for each. */
function named(image: Image, filters: Filters): Image {
  const isAsked = (name: string): boolean =>
    filters.some('reference', (wanted) => referenceFits(familiarReference(name), wanted));
  const tags = image.tags.filter(isAsked);
  const repositories = new Set(tags.map(repositoryOf));
  const digests = image.digests.filter(
    (name) => isAsked(name) || repositories.has(repositoryOf(name)),
  );
  return { ...image, tags, digests };
}

/** 'host:5000/a:1' and 'host:5000/a@sha256:...' -> 'host:5000/a'. */
function repositoryOf(name: string): string {
  return name.replace(/@.*$/, '').replace(/:[^/:]*$/, '');
}

/** The time that `until` stands for; the earliest of several. */
function untilOf(filters: Filters, parts: ApiParts): number | undefined {
  if (!filters.has('until')) return undefined;
  const nowMs = parts.clock.wallMs();
  return Math.min(...filters.values('until').map((text) => readTimeOrAge(text, 'until', nowMs)));
}

async function prune(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const filters = Filters.parse(request.query.get('filters'), PRUNE_FILTERS);
  const danglingOnly = filters.flag('dangling') ?? true;
  const until = untilOf(filters, parts);
  const pruned = await parts.node.images.prune(
    (image) =>
      (!danglingOnly || image.tags.length === 0) &&
      (until === undefined || image.config.createdAtMs < until) &&
      filters.prunes(image.config.labels),
  );
  return json({
    ImagesDeleted: pruned.removed.length === 0 ? null : pruned.removed.map(removalToDocker),
    SpaceReclaimed: pruned.reclaimedBytes,
  });
}

/**
 * The digest a service pins. The registry's word counts; while it is away, what is here will do,
 * and a client that gets an error goes on without.
 */
async function distribution(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { images } = parts.node;
  const { name } = request.params;
  const auth = registryAuthOf(request);
  const local = await images.local(name);
  const limit = new AbortController();
  const limitMs = local === undefined ? RESOLVE_MS : RESOLVE_WITH_LOCAL_MS;
  const timer = parts.clock.after(limitMs, () => limit.abort());
  let found: Distribution;
  try {
    found = await images.resolve(name, {
      connectMs: local === undefined ? CONNECT_MS : CONNECT_WITH_LOCAL_MS,
      signal: AbortSignal.any([limit.signal, request.signal]),
      ...(auth === undefined ? {} : { auth }),
    });
  } catch (error) {
    if (local === undefined) throw lateError(error, limit.signal, name);
    found = local;
  } finally {
    timer.cancel();
  }
  return json(distributionToDocker(found));
}

function lateError(error: unknown, limit: AbortSignal, name: string): unknown {
  if (!limit.aborted || !hasCode(error, 'cancelled')) return error;
  const seconds = RESOLVE_MS / 1000;
  const message = `the registry of ${name} has not answered within ${seconds} s`;
  return new SwarmError('timeout', message, { cause: error });
}

/** 'web' and 'web:1' fit 'web:1'; '*' stands for anything but a slash. */
function referenceFits(reference: string, wanted: string): boolean {
  return [reference, repositoryOf(reference)].some((name) => {
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
