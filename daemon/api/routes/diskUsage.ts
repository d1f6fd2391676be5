/** GET /system/df: what images, containers and volumes of this host take on its disk. */
import { SwarmError } from '../../../base/errors.ts';
import { summaryToDocker } from '../docker/containerInspect.ts';
import { imageSummary } from '../docker/image.ts';
import { volumeToDocker } from '../docker/volume.ts';
import { type ApiRequest, json, type Reply, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';
import { sizesOf } from './containers.ts';

const TYPES = ['container', 'image', 'volume', 'build-cache'];

export function addDiskUsageRoutes(router: Router, parts: ApiParts): void {
  router.get('/system/df', (request) => diskUsage(request, parts));
}

async function diskUsage(request: ApiRequest, parts: ApiParts): Promise<Reply> {
  const asked = request.query.getAll('type');
  const unknown = asked.find((type) => !TYPES.includes(type));
  if (unknown !== undefined) {
    throw new SwarmError('invalid', `unknown object type: ${unknown}: use ${TYPES.join(', ')}`);
  }
  const wants = (type: string): boolean => asked.length === 0 || asked.includes(type);
  const { layersBytes } = parts.node.images.usage();
  return json({
    LayersSize: wants('image') ? layersBytes : 0,
    Images: wants('image') ? images(parts) : null,
    Containers: wants('container') ? await containers(parts) : null,
    Volumes: wants('volume') ? await volumes(parts) : null,
    BuildCache: wants('build-cache') ? [] : null,
  });
}

function images(parts: ApiParts): readonly object[] {
  const usage = new Map(parts.node.images.usage().images.map((each) => [each.id, each]));
  return parts.node.images.list().map((image) => {
    const use = usage.get(image.id);
    return imageSummary(image, use?.containers ?? 0, use?.sharedBytes ?? 0);
  });
}

async function containers(parts: ApiParts): Promise<readonly object[]> {
  const out: object[] = [];
  for (const managed of parts.node.host.containers.list()) {
    const view = managed.view();
    const image = parts.node.images.find(view.container.config.image.id);
    const sizes = await sizesOf(view, parts);
    out.push(summaryToDocker(view, image, parts.clock.wallMs(), sizes));
  }
  return out;
}

async function volumes(parts: ApiParts): Promise<readonly object[]> {
  const { volumes } = parts.node.host;
  const out: object[] = [];
  for (const volume of volumes.list()) {
    const sizeBytes = await volumes.sizeBytes(volume.name);
    const users = volumes.users(volume.name).length;
    out.push(volumeToDocker(volume, { sizeBytes, users }));
  }
  return out;
}
