/** /volumes: named volumes of this host. */
import { SwarmError } from '../../../base/errors.ts';
import type { Volume } from '../../../runtime/volume/types.ts';
import { volumeToDocker } from '../docker/volume.ts';
import { Filters } from '../filters.ts';
import { type ApiRequest, empty, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

const FILTERS = ['dangling', 'driver', 'label', 'name'];
/** API 1.42: pruning leaves named volumes. */
const ANONYMOUS_ONLY_MINOR = 42;
const PRUNE_FILTERS = ['label', 'label!', 'all'];

export function addVolumeRoutes(router: Router, parts: ApiParts): void {
  const { volumes, containers } = parts.node.host;
  router.get('/volumes', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const fitting = volumes.list().filter((volume) => fits(volume, filters, parts));
    const out = fitting.map((volume) => volumeToDocker(volume));
    return json({ Volumes: out.length === 0 ? null : out, Warnings: null });
  });
  router.post('/volumes/create', (request) => create(request, parts));
  router.post('/volumes/prune', (request) => prune(request, parts));
  router.get('/volumes/{name}', async ({ params }) => {
    const volume = volumes.get(params.name);
    if (volume === undefined) throw noSuch(params.name);
    return json(volumeToDocker(volume));
  });
  router.add('PUT', '/volumes/{name}', async () => {
    throw new SwarmError('unsupported', 'cluster volumes are not supported by tsswarm');
  });
  router.delete('/volumes/{name}', async (request) => {
    const { name } = request.params;
    if (volumes.get(name) === undefined) {
      if (request.flag('force')) return empty(204);
      throw noSuch(name);
    }
    await volumes.remove(name);
    containers.events.emit('volume', 'destroy', name, { driver: 'local' });
    return empty(204);
  });
}

function noSuch(name: string): SwarmError {
  return new SwarmError('not_found', `get ${name}: no such volume`);
}

function fits(volume: Volume, filters: Filters, parts: ApiParts): boolean {
  const dangling = filters.flag('dangling');
  const isUsed = parts.node.host.volumes.users(volume.name).length > 0;
  return (
    filters.some('name', (text) => volume.name.includes(text)) &&
    filters.is('driver', volume.driver) &&
    filters.labels('label', volume.labels) &&
    (dangling === undefined || dangling !== isUsed)
  );
}

async function create(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { volumes, containers } = parts.node.host;
  const body = await request.body();
  if (body.has('ClusterVolumeSpec')) {
    body.refused('ClusterVolumeSpec', 'use a volume of the driver local');
  }
  const name = body.text('Name');
  const isNew = name === '' || volumes.get(name) === undefined;
  const volume = await volumes.create({
    name,
    driver: body.text('Driver'),
    labels: body.labels('Labels'),
    options: body.labels('DriverOpts'),
  });
  if (isNew) containers.events.emit('volume', 'create', volume.name, { driver: volume.driver });
  return json(volumeToDocker(volume), 201);
}

/** Since 1.42 only volumes without a name of their own, unless all are asked for; before, all. */
async function prune(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const { volumes, containers } = parts.node.host;
  const filters = Filters.parse(request.query.get('filters'), PRUNE_FILTERS);
  const all = request.minor < ANONYMOUS_ONLY_MINOR || filters.flag('all') === true;
  const deleted: string[] = [];
  let reclaimed = 0;
  for (const volume of volumes.list()) {
    if (volumes.users(volume.name).length > 0 || !(all || volume.anonymous)) continue;
    if (!filters.prunes(volume.labels)) continue;
    const bytes = await volumes.sizeBytes(volume.name);
    await volumes.remove(volume.name);
    containers.events.emit('volume', 'destroy', volume.name, { driver: 'local' });
    reclaimed += Math.max(0, bytes);
    deleted.push(volume.name);
  }
  containers.events.emit('volume', 'prune', '', { reclaimed: String(reclaimed) });
  return json({ VolumesDeleted: deleted, SpaceReclaimed: reclaimed });
}
