/**
 * Whether one change may be applied to the tables as they are: it exists or not, it was decided
 * from the current version, what it refers to exists, nothing unique is held twice, and a task only
 * moves forward. The same answer on every replica; nothing is changed here.
 */
import { NODE_LOCAL_NETWORKS } from '../../model/defaults.ts';
import { taskName } from '../../model/taskName.ts';
import { isTerminal, taskStateName } from '../../model/taskState.ts';
import type {
  AnyObject,
  DataTable,
  FileReference,
  Service,
  TableName,
  Task,
} from '../../model/types.ts';
import type { Contents, Owner } from './contents.ts';
import type { Change, RejectedChange } from './types.ts';
import { conflictMessage, uniqueKeys } from './unique.ts';

/** As clients show ids of containers. */
const SHORT_ID_LENGTH = 12;

export type Rejection = Omit<RejectedChange, 'index'>;

/** undefined = it may be applied. */
export function checkChange(contents: Contents, change: Change): Rejection | undefined {
  switch (change.kind) {
    case 'create': {
      const { id } = change.object;
      if (id === '') return { code: 'invalid', message: `a ${change.table} without an id` };
      if (contents.get(change.table, id) !== undefined) {
        return { code: 'conflict', message: `${change.table} ${id} exists already` };
      }
      return checkContent(contents, change.table, undefined, change.object);
    }
    case 'update': {
      const before = contents.get(change.table, change.object.id);
      const stale = checkVersion(change.table, change.object.id, before, change.object.version);
      return stale ?? checkContent(contents, change.table, before, change.object);
    }
    case 'remove': {
      const before = contents.get(change.table, change.id);
      const stale = checkVersion(change.table, change.id, before, change.version);
      if (stale !== undefined) return stale;
      if (change.table === 'network') return checkUnused(contents, change.id);
      return isData(change.table) ? checkData(contents, change.table, change.id) : undefined;
    }
  }
}

function checkVersion(
  table: TableName,
  id: string,
  before: AnyObject | undefined,
  version: number | undefined,
): Rejection | undefined {
  if (before === undefined) return { code: 'not_found', message: `no such ${table}: ${id}` };
  if (version === undefined || version === before.version) return undefined;
  return {
    code: 'out_of_sequence',
    message:
      `update out of sequence: ${table} ${id} is at version ${before.version}, ` +
      `the change was made from ${version}; read it again and retry`,
  };
}

function checkContent(
  contents: Contents,
  table: TableName,
  before: AnyObject | undefined,
  after: AnyObject,
): Rejection | undefined {
  return (
    (table === 'task' ? checkTask(contents, before as Task, after as Task) : undefined) ??
    (table === 'task' ? checkPlace(contents, after as Task) : undefined) ??
    (table === 'service' ? checkNetworks(contents, after as Service) : undefined) ??
    (table === 'service' ? checkReferences(contents, after as Service) : undefined) ??
    checkUnique(contents, table, after)
  );
}

function checkUnique(
  contents: Contents,
  table: TableName,
  after: AnyObject,
): Rejection | undefined {
  for (const key of uniqueKeys(table, after)) {
    const owner = contents.owner(key);
    if (owner === undefined || (owner.id === after.id && owner.table === table)) continue;
    return { code: 'conflict', message: conflictMessage(key, describe(contents, owner)) };
  }
  return undefined;
}

function checkTask(
  contents: Contents,
  before: Task | undefined,
  after: Task,
): Rejection | undefined {
  if (before === undefined) {
    if (after.serviceId === '' || contents.get('service', after.serviceId) !== undefined) {
      return undefined;
    }
    return { code: 'not_found', message: `no such service: ${after.serviceId}` };
  }
  const [was, is] = [before.status.state, after.status.state];
  if (is < was || after.desiredState < before.desiredState) {
    return {
      code: 'invalid',
      message:
        `task ${after.id} cannot go back from ${taskStateName(was)} to ${taskStateName(is)} ` +
        `(desired ${taskStateName(before.desiredState)} to ${taskStateName(after.desiredState)})`,
    };
  }
  return undefined;
}

function checkPlace(contents: Contents, task: Task): Rejection | undefined {
  const holder = contents.holderOfPlace(task);
  if (holder === undefined || holder === task.id) return undefined;
  const place = task.slot > 0 ? `slot ${task.slot}` : `the place on node ${task.nodeId}`;
  const what = `${place} of ${task.serviceName}, generation ${task.generation}`;
  return { code: 'conflict', message: `${what}, has a task: ${holder}` };
}

function checkNetworks(contents: Contents, service: Service): Rejection | undefined {
  for (const { target } of service.spec.task.networks) {
    if (NODE_LOCAL_NETWORKS.includes(target)) continue;
    if (contents.get('network', target) === undefined) {
      return { code: 'not_found', message: `network ${target} not found: create it first` };
    }
  }
  return undefined;
}

function isData(table: TableName): table is DataTable {
  return table === 'secret' || table === 'config';
}

function referencesTo(table: DataTable, service: Service): readonly FileReference[] {
  const { secrets, configs } = service.spec.task.container;
  return table === 'secret' ? secrets : configs;
}

function checkReferences(contents: Contents, service: Service): Rejection | undefined {
  for (const table of ['secret', 'config'] as const) {
    for (const { id, name } of referencesTo(table, service)) {
      if (contents.get(table, id) !== undefined) continue;
      return { code: 'invalid', message: `${table} not found: ${name}: create it first` };
    }
  }
  return undefined;
}

/** Only specifications count: what an older task was given stays with it. */
function checkData(contents: Contents, table: DataTable, id: string): Rejection | undefined {
  const users: string[] = [];
  for (const service of contents.table('service').values()) {
    if (referencesTo(table, service).some((item) => item.id === id)) users.push(service.spec.name);
  }
  if (users.length === 0) return undefined;
  const name = contents.get(table, id)?.spec.name;
  const services = users.length === 1 ? 'service' : 'services';
  return {
    code: 'invalid',
    message: `${table} '${name}' is in use by the following ${services}: ${users.join(', ')}`,
  };
}

function checkUnused(contents: Contents, networkId: string): Rejection | undefined {
  const name = contents.get('network', networkId)?.spec.name ?? networkId;
  const users: string[] = [];
  for (const service of contents.table('service').values()) {
    if (service.spec.task.networks.some(({ target }) => target === networkId)) {
      users.push(service.spec.name);
    }
  }
  if (users.length > 0) {
    const by = users.join(', ');
    return {
      code: 'conflict',
      message: `network ${name} is in use by service ${by}: remove or change it first`,
    };
  }
  // There may be many: looked through only to say which one.
  if (!contents.isNetworkUsed(networkId)) return undefined;
  for (const id of contents.taskIdsOfNetwork(networkId)) {
    const task = contents.get('task', id);
    if (task === undefined || isTerminal(task.status.state)) continue;
    return {
      code: 'conflict',
      message: `network ${name} is in use by ${holder(contents, task)}`,
    };
  }
  return undefined;
}

/** A container that no service owns stays until its user lets it go; a task is on its way out. */
function holder(contents: Contents, task: Task): string {
  const host = contents.table('node').get(task.nodeId)?.description.hostname || task.nodeId;
  if (task.serviceId === '') {
    const id = task.status.containerId.slice(0, SHORT_ID_LENGTH);
    return `container ${id} on ${host}: remove it there, or disconnect it`;
  }
  return `${taskName(task)} on ${host}, which has not stopped yet: try again later`;
}

function describe(contents: Contents, owner: Owner): string {
  const object = contents.get(owner.table, owner.id);
  if (owner.table === 'service') return `service "${(object as Service).spec.name}"`;
  return `${owner.table} ${owner.id}`;
}
