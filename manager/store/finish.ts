/**
 * What apply itself writes into a record: id and times and version from the entry, a service's
 * specVersion when its specification changed (and allocatedVersion with it where there is nothing
 * to allocate, which saves a second write), and since when a node can take tasks. Deterministic:
 * only old and new record count.
 */
import { NODE_LOCAL_NETWORKS } from '../../model/defaults.ts';
import { sameValue } from '../../model/equal.ts';
import type { AnyObject, Node, Secret, Service, TableName, Task } from '../../model/types.ts';
import type { Contents } from './contents.ts';
import { taskRecord } from './taskRecord.ts';

export interface Stamp {
  readonly version: number;
  readonly atMs: number;
}

/** The record as it is stored. */
export function finish(
  contents: Contents,
  table: TableName,
  before: AnyObject | undefined,
  after: AnyObject,
  { version, atMs }: Stamp,
): AnyObject {
  const createdAtMs = before?.createdAtMs ?? atMs;
  const updatedAtMs = atMs;
  // Field by field: a second object spread into one costs as much as all the rest.
  if (table === 'task') {
    const base = { version, createdAtMs, updatedAtMs };
    return taskRecord(contents, before as Task, after as Task, base);
  }
  return {
    ...finishPart(table, before, after, { version, atMs }),
    version,
    createdAtMs,
    updatedAtMs,
  };
}

function finishPart(
  table: Exclude<TableName, 'task'>,
  before: AnyObject | undefined,
  after: AnyObject,
  stamp: Stamp,
): AnyObject {
  switch (table) {
    case 'service':
      return finishService(before as Service | undefined, after as Service, stamp);
    case 'node':
      return finishNode(before as Node | undefined, after as Node, stamp);
    case 'secret':
    case 'config':
      return finishData(before as Secret | undefined, after as Secret);
    default:
      return after;
  }
}

/** For records that are restored as they were: shares references, changes nothing. */
export function restored(contents: Contents, table: TableName, object: AnyObject): AnyObject {
  return table === 'task' ? taskRecord(contents, undefined, object as Task, object) : object;
}

/**
 * A node that is only in doubt keeps its time: it is not new, and may have been there all along.
 */
function finishNode(before: Node | undefined, after: Node, stamp: Stamp): Node {
  const isNewSpec = before === undefined || !sameValue(before.spec, after.spec);
  const specVersion = isNewSpec ? stamp.version : before.specVersion;
  return { ...after, specVersion, availableSinceMs: availableSince(after, stamp) };
}

function availableSince({ state, spec, availableSinceMs }: Node, stamp: Stamp): number {
  if (state === 'down' || spec.availability !== 'active') return 0;
  return state !== 'ready' || availableSinceMs > 0 ? availableSinceMs : stamp.atMs;
}

/**
 * A changed specification gets the entry's version, and a progress report made for the one before
 * it is dropped unless the same change replaces it (a rollback reports itself).
 */
function finishService(before: Service | undefined, after: Service, stamp: Stamp): Service {
  if (before === undefined) {
    const allocatedVersion = needsNothing(after) ? stamp.version : 0;
    return { ...after, specVersion: stamp.version, allocatedVersion };
  }
  if (sameValue(before.spec, after.spec)) {
    return { ...after, spec: before.spec, specVersion: before.specVersion };
  }
  const task = sameValue(before.spec.task, after.spec.task) ? before.spec.task : after.spec.task;
  return {
    ...after,
    spec: { ...after.spec, task },
    specVersion: stamp.version,
    allocatedVersion: needsNothing(after) ? stamp.version : after.allocatedVersion,
    update: sameValue(before.update, after.update) ? undefined : after.update,
  };
}

/** Only labels change: the data stays the same bytes, also in memory. */
function finishData(before: Secret | undefined, after: Secret): Secret {
  if (before === undefined) return after;
  return { ...after, spec: { ...before.spec, labels: after.spec.labels } };
}

/** Neither has nor wants an address or a port. */
function needsNothing({ spec, virtualAddresses, ports }: Service): boolean {
  if (virtualAddresses.length > 0 || ports.length > 0 || spec.ports.length > 0) return false;
  return spec.task.networks.every(({ target }) => NODE_LOCAL_NETWORKS.includes(target));
}
