/** /networks: overlay networks of the cluster, and the host's own bridge, host and none. */
import { SwarmError } from '../../../base/errors.ts';
import { NODE_LOCAL_NETWORKS } from '../../../model/defaults.ts';
import {
  attachedTasks,
  type DockerNetwork,
  localNetworks,
  networkSpecFromDocker,
  networkToDocker,
} from '../docker/network.ts';
import { Filters } from '../filters.ts';
import { controlIfManager, controlOf, find, findOptional } from '../find.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

const FILTERS = ['id', 'name', 'driver', 'scope', 'label', 'type', 'dangling'];

export function addNetworkRoutes(router: Router, parts: ApiParts): void {
  router.get('/networks', (request) => list(request, parts));
  router.post('/networks/create', async (request) => {
    const control = controlOf(parts.node);
    const spec = networkSpecFromDocker(await request.body());
    const network = await control.createNetwork(spec);
    return json({ Id: network.id, Warning: '' }, 201);
  });
  router.post('/networks/prune', async () => {
    throw new SwarmError('unsupported', 'pruning networks is not supported: remove them by name');
  });
  router.get('/networks/{id}', (request) => inspect(request, parts));
  router.delete('/networks/{id}', async (request) => {
    const { id } = request.params;
    if (findLocal(parts, id) !== undefined) {
      throw new SwarmError('forbidden', `${id} is a pre-defined network and cannot be removed`);
    }
    const control = controlOf(parts.node);
    const network = find(await control.read(), 'network', id);
    await control.removeNetwork(network.id);
    return empty(204);
  });
}

function findLocal(parts: ApiParts, key: string): DockerNetwork | undefined {
  const locals = localNetworks(parts.node.info().id);
  return locals.find((item) => item.Name === key || item.Id === key);
}

async function list(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const filters = Filters.parse(request.query.get('filters'), FILTERS);
  const control = controlIfManager(parts.node);
  const store = await control?.read();
  const used = new Set<string>();
  const networks: DockerNetwork[] = [];
  if (store !== undefined) {
    for (const network of store.all('network')) networks.push(networkToDocker(network));
    if (filters.has('dangling')) {
      for (const service of store.all('service')) {
        for (const item of service.spec.task.networks) used.add(item.target);
      }
    }
  }
  networks.push(...localNetworks(parts.node.info().id));
  const dangling = filters.flag('dangling');
  return json(
    networks.filter((network) => {
      const builtin = NODE_LOCAL_NETWORKS.includes(network.Name);
      return (
        filters.startsWith('id', network.Id) &&
        filters.some('name', (value) => network.Name.includes(value)) &&
        filters.is('driver', network.Driver) &&
        filters.is('scope', network.Scope) &&
        filters.is('type', builtin ? 'builtin' : 'custom') &&
        filters.labels('label', network.Labels) &&
        (dangling === undefined || (!builtin && used.has(network.Id) !== dangling))
      );
    }),
  );
}

async function inspect(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { id } = request.params;
  const scope = request.text('scope');
  const local = scope === 'swarm' ? undefined : findLocal(parts, id);
  if (local !== undefined) return json(local);
  const store = scope === 'local' ? undefined : await controlIfManager(parts.node)?.read();
  const network = store === undefined ? undefined : findOptional(store, 'network', id);
  if (store === undefined || network === undefined) {
    throw new SwarmError('not_found', `network ${id} not found`);
  }
  const { nodeId } = parts.node.local();
  const tasks = request.flag('verbose') ? store.all('task') : store.tasksOfNode(nodeId);
  return json({ ...networkToDocker(network), Containers: attachedTasks(network.id, tasks) });
}
