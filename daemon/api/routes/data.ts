/** /secrets and /configs: list, create, inspect, update (labels), remove. */
import type { DataTable, Tables } from '../../../model/types.ts';
import { configToDocker, dataSpecFromDocker, secretToDocker } from '../docker/data.ts';
import { Filters } from '../filters.ts';
import { controlOf, find } from '../find.ts';
import { empty, json, type Router } from '../http.ts';
import type { ApiParts } from '../parts.ts';

const FILTERS = ['id', 'name', 'names', 'label'];

export function addDataRoutes(router: Router, parts: ApiParts): void {
  addTable(router, parts, 'secret', secretToDocker);
  addTable(router, parts, 'config', configToDocker);
}

function addTable<T extends DataTable>(
  router: Router,
  { node }: ApiParts,
  table: T,
  toDocker: (object: Tables[T]) => object,
): void {
  const root = `/${table}s`;
  router.get(root, async (request) => {
    const filters = Filters.parse(request.query.get('filters'), FILTERS);
    const store = await controlOf(node).read();
    const found = [];
    for (const object of store.all(table)) {
      const { name, labels } = object.spec;
      if (!filters.startsWith('id', object.id) || !filters.startsWith('name', name)) continue;
      if (filters.is('names', name) && filters.labels('label', labels)) found.push(object);
    }
    return json(found.map(toDocker));
  });
  router.post(`${root}/create`, async (request) => {
    const control = controlOf(node);
    const created = await control.createData(table, dataSpecFromDocker(await request.body()));
    return json({ ID: created.id }, 201);
  });
  router.get(`${root}/{id}`, async (request) => {
    const store = await controlOf(node).read();
    return json(toDocker(find(store, table, request.params.id)));
  });
  router.post(`${root}/{id}/update`, async (request) => {
    const control = controlOf(node);
    const version = request.version();
    const spec = dataSpecFromDocker(await request.body());
    const object = find(await control.read(), table, request.params.id);
    await control.updateData(table, object.id, version, spec);
    return empty();
  });
  router.delete(`${root}/{id}`, async (request) => {
    const control = controlOf(node);
    const object = find(await control.read(), table, request.params.id);
    await control.removeData(table, object.id);
    return empty(204);
  });
}
