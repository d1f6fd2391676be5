/**
 * Objects that Docker has and tsswarm does not yet: secrets, configs, volumes by name. Lists are
 * truly empty, so that clients which look first (stack deploy) go on; making one is refused.
 */
import { SwarmError } from '../../../base/errors.ts';
import { controlOf } from '../find.ts';
import { json, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

export function addUnbuiltRoutes(router: Router, parts: ApiParts): void {
  for (const kind of ['secrets', 'configs'] as const) {
    router.get(`/${kind}`, async () => {
      controlOf(parts.node);
      return json([]);
    });
    router.post(`/${kind}/create`, async () => {
      throw new SwarmError('unsupported', `${kind} are not supported by tsswarm`);
    });
    router.get(`/${kind}/{id}`, async ({ params }) => {
      throw new SwarmError('not_found', `${kind.slice(0, -1)} ${params.id} not found`);
    });
  }
  router.get('/volumes', async () => json({ Volumes: [], Warnings: null }));
  router.post('/volumes/create', async () => {
    throw new SwarmError('unsupported', 'volumes are not supported by tsswarm: use a bind mount');
  });
}
