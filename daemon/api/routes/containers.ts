/** /containers: making, listing, inspecting, and what moves one from state to state. */
import { hasCode, SwarmError } from '../../../base/errors.ts';
import type { Managed } from '../../containers/managed.ts';
import type { ContainerView, StandaloneSpec, WaitCondition } from '../../containers/types.ts';
import { fits, LIST_FILTERS } from '../containerFilters.ts';
import { createFromDocker, restartFromDocker } from '../docker/containerCreate.ts';
import { containerToDocker, type Sizes, summaryToDocker } from '../docker/containerInspect.ts';
import { resourcesFromDocker } from '../docker/hostConfig.ts';
import { Filters } from '../filters.ts';
import { type ApiRequest, empty, json, type Reply, type Router, STREAMED } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { readTimeOrAge } from '../times.ts';

export function addContainerRoutes(router: Router, parts: ApiParts): void {
  router.get('/containers/json', (request) => list(request, parts));
  router.post('/containers/create', (request) => create(request, parts));
  router.post('/containers/prune', (request) => prune(request, parts));
  router.get('/containers/{id}/json', (request) => inspect(request, parts));
  router.post('/containers/{id}/start', async (request) => {
    const started = await found(parts, request).start();
    return empty(started ? 204 : 304);
  });
  router.post('/containers/{id}/stop', async (request) => {
    const stopped = await found(parts, request).stop(grace(request), request.text('signal'));
    return empty(stopped ? 204 : 304);
  });
  router.post('/containers/{id}/restart', async (request) => {
    await found(parts, request).restart(grace(request), request.text('signal'));
    return empty(204);
  });
  router.post('/containers/{id}/kill', async (request) => {
    await found(parts, request).kill(request.text('signal') || 'SIGKILL');
    return empty(204);
  });
  router.post('/containers/{id}/pause', async (request) => {
    await found(parts, request).pause();
    return empty(204);
  });
  router.post('/containers/{id}/unpause', async (request) => {
    await found(parts, request).unpause();
    return empty(204);
  });
  router.post('/containers/{id}/rename', async (request) => {
    await hostOf(parts).rename(found(parts, request), request.text('name'));
    return empty(204);
  });
  router.post('/containers/{id}/update', (request) => update(request, parts));
  router.post('/containers/{id}/wait', (request) => wait(request, parts));
  router.delete('/containers/{id}', (request) => remove(request, parts));
}

function hostOf(parts: ApiParts) {
  return parts.node.host.containers;
}

/** The container that the path names. */
export function found(parts: ApiParts, request: ApiRequest): Managed {
  return hostOf(parts).find(request.params.id);
}

/** ?t=seconds; -1 = for ever; undefined = the container's own. */
function grace(request: ApiRequest): number | undefined {
  const text = request.text('t');
  if (text === '') return undefined;
  const seconds = Number(text);
  if (!Number.isSafeInteger(seconds)) {
    throw new SwarmError('invalid', `t: "${text}" is no number of seconds`);
  }
  return seconds < 0 ? Number.POSITIVE_INFINITY : seconds * 1000;
}

async function create(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  refusePlatform(request.text('platform'));
  const body = await request.body();
  const wanted = createFromDocker(request.text('name'), body);
  const container = await hostOf(parts).create(wanted);
  const warnings = [...warningsOf(wanted.spec), ...container.container.notes];
  return json({ Id: container.id, Warnings: warnings }, 201);
}

/** What Docker does without, and says so. */
function warningsOf({ networkMode, ports, publishAll }: StandaloneSpec): string[] {
  if (networkMode !== 'host' || (ports.length === 0 && !publishAll)) return [];
  return ['Published ports are discarded when using host network mode'];
}

/** What does not run here is told before an image of it is looked for. */
function refusePlatform(platform: string): void {
  const machine = process.arch === 'x64' ? 'amd64' : process.arch;
  if (['', 'linux', `linux/${machine}`, machine].includes(platform)) return;
  if (machine === 'arm64' && platform === 'linux/arm64/v8') return;
  throw new SwarmError('unsupported', `platform ${platform} does not run on this linux/${machine}`);
}

export async function sizesOf(view: ContainerView, parts: ApiParts): Promise<Sizes> {
  const rwBytes = await view.container.writableBytes();
  const image = parts.node.images.find(view.container.config.image.id);
  return { rwBytes, rootBytes: rwBytes + (image?.sizeBytes ?? 0) };
}

async function list(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const filters = Filters.parse(request.query.get('filters'), LIST_FILTERS);
  const limit = Number(request.text('limit') || 0);
  const all = request.flag('all') || limit > 0 || filters.has('status') || filters.has('exited');
  const out: object[] = [];
  for (const managed of hostOf(parts).list()) {
    const view = managed.view();
    if (!all && !['running', 'paused', 'restarting'].includes(view.status)) continue;
    if (!fits(view, filters, parts)) continue;
    if (limit > 0 && out.length >= limit) break;
    const { image } = view.container.config;
    const sizes = request.flag('size') ? await sizesOf(view, parts) : undefined;
    const known = parts.node.images.find(image.reference);
    const same = known?.id === image.id ? known : undefined;
    out.push(summaryToDocker(view, same, parts.clock.wallMs(), sizes));
  }
  return json(out);
}

async function inspect(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const view = found(parts, request).view();
  const sizes = request.flag('size') ? await sizesOf(view, parts) : undefined;
  const image = parts.node.images.find(view.container.config.image.id);
  return json(containerToDocker(view, image, sizes));
}

const CONDITIONS: readonly WaitCondition[] = ['not-running', 'next-exit', 'removed'];

/** The head is sent at once: the client waits for it before it starts the container. */
async function wait(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const asked = request.text('condition') || 'not-running';
  const condition = CONDITIONS.find((each) => each === asked);
  if (condition === undefined) {
    throw new SwarmError('invalid', `invalid condition: "${asked}"`);
  }
  const waited = found(parts, request).wait(condition, request.signal);
  const out = request.stream('application/json');
  try {
    const { exitCode, error } = await waited;
    await out.line({
      StatusCode: exitCode,
      ...(error === '' ? {} : { Error: { Message: error } }),
    });
  } catch (error) {
    if (!hasCode(error, 'cancelled')) throw error;
  }
  out.end();
  return STREAMED;
}

async function remove(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  if (request.flag('link')) {
    throw new SwarmError(
      'unsupported',
      'a link cannot be removed alone: it goes with the container that was given it',
    );
  }
  const container = found(parts, request);
  await container.remove({ force: request.flag('force'), volumes: request.flag('v') });
  return empty(204);
}

async function update(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const container = found(parts, request);
  const body = await request.body();
  body.refuse('KernelMemory');
  const policy = body.objectOrEmpty('RestartPolicy').text('Name');
  const restart = policy === '' ? undefined : restartFromDocker(body);
  const notes = await container.update(resourcesFromDocker(body, true), restart);
  return json({ Warnings: notes.length === 0 ? null : notes });
}

const PRUNE_FILTERS = ['until', 'label', 'label!'];

async function prune(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const filters = Filters.parse(request.query.get('filters'), PRUNE_FILTERS);
  const [until] = filters.values('until');
  const nowMs = parts.clock.wallMs();
  const untilMs = until === undefined ? nowMs : readTimeOrAge(until, 'until', nowMs);
  const deleted: string[] = [];
  let reclaimed = 0;
  for (const managed of hostOf(parts).standalone()) {
    const view = managed.view();
    if (!['created', 'exited', 'dead'].includes(view.status)) continue;
    if (view.createdAtMs > untilMs) continue;
    if (!filters.prunes(view.container.config.labels)) continue;
    reclaimed += await view.container.writableBytes();
    await managed.remove({ force: false, volumes: false });
    deleted.push(managed.id);
  }
  hostOf(parts).events.emit('container', 'prune', '', { reclaimed: String(reclaimed) });
  return json({ ContainersDeleted: deleted, SpaceReclaimed: reclaimed });
}
