/** /services: list, create, inspect, update and rollback, remove, logs. */

import { SwarmError } from '../../../base/errors.ts';
import type { Random } from '../../../base/random.ts';
import type { Slices, Steps } from '../../../base/slices.ts';
import type { View } from '../../../manager/store/types.ts';
import type { Service, ServiceSpec } from '../../../model/types.ts';
import { parseReference } from '../../../runtime/image/reference.ts';
import { countTasks, serviceToDocker } from '../docker/service.ts';
import { serviceSpecFromDocker } from '../docker/serviceSpec.ts';
import type { Fields } from '../fields.ts';
import { Filters } from '../filters.ts';
import { controlOf, find } from '../find.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import { sendServiceLogs } from '../logs.ts';
import type { ApiParts } from '../parts.ts';
import { registryAuthHeader } from '../registryAuth.ts';

/** Enough that two services of one image hardly ever meet; a name taken is refused as any is. */
const CHOSEN_LETTERS = 6;
const CHOSEN_BASE_LENGTH = 40;
const FILTERS = ['id', 'label', 'name', 'mode', 'runtime'];

export function addServiceRoutes(router: Router, parts: ApiParts, slices: Slices): void {
  router.get('/services', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const store = await controlOf(parts.node).read();
    return json(await slices.run(listed(store, filters, request.flag('status'))));
  });
  router.post('/services/create', async (request) => {
    const control = controlOf(parts.node);
    const asked = requestedSpec(await request.body(), registryAuthHeader(request));
    const spec = asked.name === '' ? { ...asked, name: chosenName(asked, parts.random) } : asked;
    const service = await control.createService(spec);
    return json({ ID: service.id, Warnings: null }, 201);
  });
  router.get('/services/{id}', async (request) => {
    const store = await controlOf(parts.node).read();
    const service = find(store, 'service', request.params.id);
    const counts = request.flag('status') ? countTasks(store, service) : undefined;
    return json(serviceToDocker(service, counts, request.flag('insertDefaults')));
  });
  router.post('/services/{id}/update', (request) => update(request, parts));
  router.delete('/services/{id}', async (request) => {
    const control = controlOf(parts.node);
    const service = find(await control.read(), 'service', request.params.id);
    await control.removeService(service.id);
    return empty();
  });
  router.get('/services/{id}/logs', async (request) => {
    const store = await controlOf(parts.node).read();
    const service = find(store, 'service', request.params.id);
    return sendServiceLogs(request, parts, store, service);
  });
}

function* listed(store: View, filters: Filters, status: boolean): Steps<object[]> {
  const out: object[] = [];
  for (const service of store.all('service')) {
    if (!filters.startsWith('id', service.id)) continue;
    if (!filters.startsWith('name', service.spec.name)) continue;
    if (!filters.is('mode', service.spec.mode.kind)) continue;
    if (!filters.is('runtime', 'container')) continue;
    if (!filters.labels('label', service.spec.labels)) continue;
    const counts = status ? countTasks(store, service) : undefined;
    out.push(serviceToDocker(service, counts));
    yield;
  }
  return out;
}

/** The specification in a request. SwarmError invalid when its image cannot be a reference. */
function requestedSpec(body: Fields, registryAuth: string): ServiceSpec {
  const spec = serviceSpecFromDocker(body);
  if (spec.task.container.image !== '') parseReference(spec.task.container.image);
  return withRegistryAuth(spec, registryAuth);
}

function withRegistryAuth(spec: ServiceSpec, registryAuth: string): ServiceSpec {
  return { ...spec, task: { ...spec.task, container: { ...spec.task.container, registryAuth } } };
}

/** Credentials that an update without its own goes on with: those of now, or of before. */
function earlierAuth(request: ApiRequest, service: Service): string {
  const from = request.text('registryAuthFrom');
  if (!['', 'spec', 'previous-spec'].includes(from)) {
    throw new SwarmError('invalid', `registryAuthFrom=${from}: use spec or previous-spec`);
  }
  if (from !== 'previous-spec') return service.spec.task.container.registryAuth;
  if (service.previousSpec === undefined) {
    throw new SwarmError('invalid', 'registryAuthFrom=previous-spec: there is no previous spec');
  }
  return service.previousSpec.task.container.registryAuth;
}

/** A service may be left unnamed: 'web-k3xq' of the image 'tsswarm/web:1'. */
function chosenName(spec: ServiceSpec, random: Random): string {
  const base = (spec.task.container.image.split('/').at(-1) ?? '').replace(/[:@].*$/, '');
  const letters = Array.from({ length: CHOSEN_LETTERS }, () => random.below(36).toString(36));
  const name = base.replace(/[^a-zA-Z0-9]+/g, '-').replace(/^-+|-+$/g, '');
  return `${name.slice(0, CHOSEN_BASE_LENGTH) || 'service'}-${letters.join('')}`;
}

async function update(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const control = controlOf(parts.node);
  const version = request.version();
  const rollback = request.text('rollback');
  if (!['', 'previous'].includes(rollback)) {
    throw new SwarmError('invalid', `rollback=${rollback} is unknown: use rollback=previous`);
  }
  const body = await request.body();
  if (rollback === 'previous') {
    const service = find(await control.read(), 'service', request.params.id);
    await control.rollbackService(service.id, version);
    return json({ Warnings: null });
  }
  const spec = requestedSpec(body, registryAuthHeader(request));
  const service = find(await control.read(), 'service', request.params.id);
  const given = spec.task.container.registryAuth !== '';
  const whole = given ? spec : withRegistryAuth(spec, earlierAuth(request, service));
  await control.updateService(service.id, version, whole);
  return json({ Warnings: null });
}
