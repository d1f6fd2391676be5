/**
 * What Docker's clients ask for and tsswarm does not do: one line each that says what to do
 * instead. Lists of such things are truly empty.
 */
import { SwarmError } from '../../../base/errors.ts';
import { json, type Router } from '../http.ts';

const BUILD =
  'building images is not supported by tsswarm: build with docker buildx or podman elsewhere, ' +
  'then push to a registry, or docker save there and docker load here';

export function addInsteadRoutes(router: Router): void {
  for (const path of ['/build', '/session', '/grpc', '/build/cancel']) {
    router.post(path, refusing(BUILD));
  }
  router.post('/build/prune', async () => json({ CachesDeleted: null, SpaceReclaimed: 0 }));
  router.get('/plugins', async () => json([]));
  const plugins = refusing('plugins are not supported by tsswarm: drivers are built in');
  router.get('/plugins/{name...}', plugins);
  router.post('/plugins/{name...}', plugins);
  router.delete('/plugins/{name...}', plugins);
  router.post('/containers/{id}/checkpoints', refusing('checkpoints are not supported by tsswarm'));
  router.get('/containers/{id}/checkpoints', refusing('checkpoints are not supported by tsswarm'));
}

function refusing(message: string): () => Promise<never> {
  return async () => {
    throw new SwarmError('unsupported', message);
  };
}
