/**
 * From what a user typed to one object of the store: its id, its name, or a prefix of its id that
 * fits no other. Also the way to the cluster, for those that need it and those that can do without.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import type { Steps } from '../../base/slices.ts';
import type { Control } from '../../manager/control/types.ts';
import type { View } from '../../manager/store/types.ts';
import type { TableName, Tables, Task } from '../../model/types.ts';
import { tasksById } from '../taskHosts.ts';
import type { DaemonNode } from '../types.ts';

/** SwarmError not_manager, in the node's own words, unless it is a manager. */
export function controlOf(node: DaemonNode): Control {
  const local = node.local();
  if (local.state === 'error' || local.state === 'locked')
    throw new SwarmError('not_manager', local.error);
  return node.control();
}

/** Control when this node is a manager now, else undefined. */
export function controlIfManager(node: DaemonNode): Control | undefined {
  try {
    return node.control();
  } catch (error) {
    if (hasCode(error, 'not_manager')) return undefined;
    throw error;
  }
}

/** Of tasks there may be too many to look at in one go: findTask(). */
type Few = Exclude<TableName, 'task'>;

/** Exact id, then exact name, then a unique prefix of the id. SwarmError not_found otherwise. */
export function find<T extends Few>(view: View, table: T, key: string): Tables[T] {
  const found = findOptional(view, table, key);
  if (found === undefined) throw new SwarmError('not_found', `${table} ${key} not found`);
  return found;
}

/** As find, but undefined when nothing fits; still SwarmError invalid when several do. */
export function findOptional<T extends Few>(
  view: View,
  table: T,
  key: string,
): Tables[T] | undefined {
  const exact = view.get(table, key) ?? view.byName(table, key);
  if (exact !== undefined || key === '') return exact;
  if (table === 'node') refuseAmbiguousName(view, key);
  let found: Tables[T] | undefined;
  for (const object of view.all(table)) {
    if (!object.id.startsWith(key)) continue;
    if (found !== undefined) {
      throw new SwarmError('invalid', `${table} ${key} is ambiguous: give more of the id`);
    }
    found = object;
  }
  return found;
}

/** As find. */
export function* findTask(view: View, key: string): Steps<Task> {
  const exact = view.get('task', key) ?? view.byName('task', key);
  if (exact !== undefined) return exact;
  const [found, another] = yield* tasksById(view, key);
  if (found === undefined) throw new SwarmError('not_found', `task ${key} not found`);
  if (another === undefined) return found;
  throw new SwarmError('invalid', `task ${key} is ambiguous: give more of the id`);
}

/** A host that left and joined again is there twice until the old node is removed. */
function refuseAmbiguousName(view: View, name: string): void {
  const named = [...view.all('node')].filter(
    ({ description, spec }) => description.hostname === name || spec.name === name,
  );
  if (named.length < 2) return;
  const ids = named.map(({ id, state }) => `${id} (${state})`).join(', ');
  throw new SwarmError(
    'invalid',
    `node ${name} is ambiguous: ${named.length} nodes have this name: give the id of one: ${ids}`,
  );
}
