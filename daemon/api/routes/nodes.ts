/** /nodes: list, inspect, update, remove. */
import { nodeSpecFromDocker, nodeToDocker } from '../docker/node.ts';
import { Filters } from '../filters.ts';
import { controlOf, find } from '../find.ts';
import { empty, json, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

const FILTERS = ['id', 'label', 'name', 'role', 'membership', 'node.label'];

export function addNodeRoutes(router: Router, parts: ApiParts): void {
  router.get('/nodes', async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const control = controlOf(parts.node);
    const store = await control.read();
    const raft = control.raftStatus();
    const cluster = store.cluster();
    const out = [];
    for (const node of store.all('node')) {
      if (!filters.startsWith('id', node.id)) continue;
      if (!filters.startsWith('name', node.description.hostname)) continue;
      if (!filters.is('role', node.role) || !filters.is('membership', 'accepted')) continue;
      if (!filters.labels('label', node.description.engineLabels)) continue;
      if (!filters.labels('node.label', node.spec.labels)) continue;
      out.push(nodeToDocker(node, raft, cluster));
    }
    return json(out);
  });
  router.get('/nodes/{id}', async (request) => {
    const control = controlOf(parts.node);
    const store = await control.read();
    const node = find(store, 'node', request.params.id);
    const cluster = store.cluster();
    return json(nodeToDocker(node, control.raftStatus(), cluster));
  });
  router.post('/nodes/{id}/update', async (request) => {
    const control = controlOf(parts.node);
    const version = request.version();
    const spec = nodeSpecFromDocker(await request.body());
    const store = await control.read();
    const node = find(store, 'node', request.params.id);
    const replaces = request.text('replace');
    const replaced = replaces === '' ? '' : find(store, 'node', replaces).id;
    await control.updateNode(node.id, version, spec, replaced);
    return empty();
  });
  router.delete('/nodes/{id}', async (request) => {
    const control = controlOf(parts.node);
    const node = find(await control.read(), 'node', request.params.id);
    await control.removeNode(node.id, request.flag('force'));
    return empty();
  });
}
