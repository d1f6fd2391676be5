/** /networks: overlay networks of the cluster, and those of this host (bridge, host, none, ...). */
import { SwarmError } from '../../../base/errors.ts';
import { shortId } from '../../../base/id.ts';
import type { View } from '../../../manager/store/types.ts';
import { NODE_LOCAL_NETWORKS } from '../../../model/defaults.ts';
import type { Connectable } from '../../containers/connections.ts';
import type { LocalNetwork } from '../../containers/networks.ts';
import { NO_WISHES } from '../../containers/types.ts';
import { endpointFromDocker } from '../docker/containerNetwork.ts';
import { containersOn, localNetworkFromDocker, localToDocker } from '../docker/localNetwork.ts';
import {
  attachedTasks,
  type DockerNetwork,
  networkSpecFromDocker,
  networkToDocker,
  servicesOn,
} from '../docker/network.ts';
import { Filters } from '../filters.ts';
import { controlIfManager, controlOf, find, findOptional } from '../find.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { readTimeOrAge } from '../times.ts';

const FILTERS = ['id', 'name', 'driver', 'scope', 'label', 'type', 'dangling'];
const PRUNE_FILTERS = ['until', 'label', 'label!'];

export function addNetworkRoutes(router: Router, parts: ApiParts): void {
  router.get('/networks', (request) => list(request, parts));
  router.post('/networks/create', (request) => create(request, parts));
  router.post('/networks/prune', (request) => prune(request, parts));
  router.post('/networks/{id}/connect', (request) => connect(request, parts));
  router.post('/networks/{id}/disconnect', (request) => disconnect(request, parts));
  router.get('/networks/{id}', (request) => inspect(request, parts));
  router.delete('/networks/{id}', (request) => remove(request, parts));
}

function bookOf(parts: ApiParts) {
  return parts.node.host.containers.networks;
}

/** '' is what Docker's client sends for its default, a bridge of this host. */
async function create(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const body = await request.body();
  const driver = body.text('Driver');
  const isLocal = driver === 'bridge' || (driver === '' && body.text('Scope') !== 'swarm');
  if (isLocal) {
    const network = await bookOf(parts).create(localNetworkFromDocker(body));
    return json({ Id: network.id, Warning: '' }, 201);
  }
  const control = controlOf(parts.node);
  const spec = networkSpecFromDocker(body);
  if (bookOf(parts).find(spec.name)?.name === spec.name) {
    throw new SwarmError('conflict', `network with name ${spec.name} already exists`);
  }
  const network = await control.createNetwork(spec);
  return json({ Id: network.id, Warning: '' }, 201);
}

function usedBy(store: View): ReadonlySet<string> {
  const used = new Set<string>();
  for (const service of store.all('service')) {
    for (const item of service.spec.task.networks) used.add(item.target);
  }
  for (const { id } of store.all('network')) {
    if (hasAny(store.tasksOfNetwork(id))) used.add(id);
  }
  return used;
}

function hasAny(items: Iterable<unknown>): boolean {
  for (const _item of items) return true;
  return false;
}

async function list(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const filters = Filters.parse(request.query.get('filters'), FILTERS);
  const store = await controlIfManager(parts.node)?.read();
  const used = new Set(store === undefined ? [] : usedBy(store));
  const networks: DockerNetwork[] = [];
  if (store !== undefined) {
    for (const network of store.all('network')) networks.push(networkToDocker(network));
  }
  const builtin = new Set<string>();
  const views = parts.node.host.containers.list().map((each) => each.view());
  for (const network of bookOf(parts).list()) {
    if (network.builtin) builtin.add(network.id);
    if (isInUse(network, parts)) used.add(network.id);
    networks.push(localToDocker(network, containersOn(network.id, views)));
  }
  const dangling = filters.flag('dangling');
  return json(
    networks.filter(
      (network) =>
        filters.startsWith('id', network.Id) &&
        filters.some('name', (value) => network.Name.includes(value)) &&
        filters.is('driver', network.Driver) &&
        filters.is('scope', network.Scope) &&
        filters.is('type', builtin.has(network.Id) ? 'builtin' : 'custom') &&
        filters.labels('label', network.Labels) &&
        (dangling === undefined || (!builtin.has(network.Id) && used.has(network.Id) !== dangling)),
    ),
  );
}

/** Containers that run on it. */
function activeOn(network: LocalNetwork, parts: ApiParts): readonly string[] {
  return parts.node.host.containers
    .standalone()
    .filter((each) => each.container.state === 'running')
    .filter(({ record }) => record.networks[network.id] !== undefined)
    .map(({ name, id }) => `name:"${name}" id:"${shortId(id)}"`);
}

function isInUse(network: LocalNetwork, parts: ApiParts): boolean {
  return activeOn(network, parts).length > 0;
}

async function inspect(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { id } = request.params;
  const scope = request.text('scope');
  const store = scope === 'local' ? undefined : await controlIfManager(parts.node)?.read();
  // A whole id or name of the cluster's goes before a beginning of one of ours.
  const exact = store?.get('network', id) ?? store?.byName('network', id);
  const isHere = ['', 'local'].includes(scope) && exact === undefined;
  const local = isHere ? bookOf(parts).find(id) : undefined;
  if (local !== undefined) {
    const views = parts.node.host.containers.list().map((each) => each.view());
    return json(localToDocker(local, containersOn(local.id, views)));
  }
  // Services may name a host's own networks too; the cluster knows those by name alone.
  const builtin = NODE_LOCAL_NETWORKS.includes(id) ? bookOf(parts).find(id) : undefined;
  if (builtin !== undefined && exact === undefined && store !== undefined) {
    return json({ ...localToDocker(builtin, {}), Id: builtin.name, Scope: 'swarm' });
  }
  const network = store === undefined ? undefined : findOptional(store, 'network', id);
  if (store === undefined || network === undefined) {
    throw new SwarmError('not_found', `network ${id} not found`);
  }
  const { nodeId } = parts.node.local();
  const verbose = request.flag('verbose');
  const tasks = verbose ? store.tasksOfNetwork(network.id) : store.tasksOfNode(nodeId);
  return json({
    ...networkToDocker(network),
    Containers: attachedTasks(network, tasks),
    ...(verbose ? { Services: servicesOn(network, store) } : {}),
  });
}

async function remove(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { id } = request.params;
  const local = bookOf(parts).find(id);
  if (local !== undefined) {
    const active = activeOn(local, parts);
    if (active.length > 0 && !local.builtin) {
      throw new SwarmError(
        'forbidden',
        `error while removing network: network ${local.name} has active endpoints ` +
          `(${active.join(', ')})`,
      );
    }
    await bookOf(parts).remove(local);
    return empty(204);
  }
  const control = controlIfManager(parts.node);
  if (control === undefined) throw new SwarmError('not_found', `network ${id} not found`);
  const network = find(await control.read(), 'network', id);
  await control.removeNetwork(network.id);
  return empty(204);
}

/** The network of the path. SwarmError not_found. */
async function connectableOf(request: ApiRequest, parts: ApiParts): Promise<Connectable> {
  const { id } = request.params;
  const found = await parts.node.host.containers.connectable(id);
  if (found !== undefined) return found;
  throw new SwarmError('not_found', `network ${id} not found`);
}

async function connect(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const network = await connectableOf(request, parts);
  const body = await request.body();
  const config = body.object('EndpointConfig');
  const wish = config === undefined ? NO_WISHES : endpointFromDocker(config);
  await parts.node.host.containers.connect(body.text('Container'), network, wish);
  return empty();
}

async function disconnect(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const network = await connectableOf(request, parts);
  const body = await request.body();
  const { containers } = parts.node.host;
  await containers.disconnect(body.text('Container'), network);
  return empty();
}

async function prune(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const filters = Filters.parse(request.query.get('filters'), PRUNE_FILTERS);
  const [until] = filters.values('until');
  const nowMs = parts.clock.wallMs();
  const untilMs = until === undefined ? nowMs : readTimeOrAge(until, 'until', nowMs);
  const isAsked = (labels: Readonly<Record<string, string>>, createdAtMs: number): boolean =>
    createdAtMs <= untilMs && filters.prunes(labels);
  const deleted: string[] = [];
  for (const network of bookOf(parts).list()) {
    if (network.builtin || !isAsked(network.labels, network.createdAtMs)) continue;
    if (isInUse(network, parts)) continue;
    await bookOf(parts).remove(network);
    deleted.push(network.name);
  }
  const control = controlIfManager(parts.node);
  if (control === undefined) return json({ NetworksDeleted: deleted });
  const store = await control.read();
  const used = usedBy(store);
  for (const network of [...store.all('network')]) {
    if (used.has(network.id) || !isAsked(network.spec.labels, network.createdAtMs)) continue;
    await control.removeNetwork(network.id);
    deleted.push(network.spec.name);
  }
  return json({ NetworksDeleted: deleted });
}
