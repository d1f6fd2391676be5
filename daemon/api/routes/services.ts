/** /services: list, create, inspect, update and rollback, remove, logs. */

import { SwarmError } from '../../../base/errors.ts';
import type { Random } from '../../../base/random.ts';
import type { ServiceSpec } from '../../../model/types.ts';
import { parseReference } from '../../../runtime/image/reference.ts';
import { countTasks, serviceToDocker } from '../docker/service.ts';
import { serviceSpecFromDocker } from '../docker/serviceSpec.ts';
import type { Fields } from '../fields.ts';
import { Filters } from '../filters.ts';
import { controlOf, find } from '../find.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import { sendServiceLogs } from '../logs.ts';
import type { ApiParts } from '../parts.ts';

/** Enough that two services of one image hardly ever meet; a name taken is refused as any is. */
const CHOSEN_LETTERS = 6;
const CHOSEN_BASE_LENGTH = 40;
const FILTERS = ['id', 'label', 'name', 'mode', 'runtime'];

export function addServiceRoutes(router: Router, parts: ApiParts): void {
  router.get('/services', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const store = await controlOf(parts.node).read();
    const out = [];
    for (const service of store.all('service')) {
      if (!filters.startsWith('id', service.id)) continue;
      if (!filters.startsWith('name', service.spec.name)) continue;
      if (!filters.is('mode', service.spec.mode.kind)) continue;
      if (!filters.is('runtime', 'container')) continue;
      if (!filters.labels('label', service.spec.labels)) continue;
      const counts = request.flag('status') ? countTasks(store, service) : undefined;
      out.push(serviceToDocker(service, counts));
    }
    return json(out);
  });
  router.post('/services/create', async (request) => {
    const control = controlOf(parts.node);
    const asked = requestedSpec(await request.body());
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

/** The specification in a request. SwarmError invalid when its image cannot be a reference. */
function requestedSpec(body: Fields): ServiceSpec {
  const spec = serviceSpecFromDocker(body);
  if (spec.task.container.image !== '') parseReference(spec.task.container.image);
  return spec;
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
  const spec = requestedSpec(body);
  const service = find(await control.read(), 'service', request.params.id);
  await control.updateService(service.id, version, spec);
  return json({ Warnings: null });
}
