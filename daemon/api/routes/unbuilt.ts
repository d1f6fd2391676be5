/**
 * Objects that Docker has and tsswarm does not yet: volumes by name. Lists are truly empty, so that
 * clients which look first (stack deploy) go on; making one is refused.
 */
import { SwarmError } from '../../../base/errors.ts';
import { json, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

export function addUnbuiltRoutes(router: Router, _parts: ApiParts): void {
  router.get('/volumes', async () => json({ Volumes: [], Warnings: null }));
  router.post('/volumes/create', async () => {
    throw new SwarmError('unsupported', 'volumes are not supported by tsswarm: use a bind mount');
  });
}
