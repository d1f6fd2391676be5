/**
 * What the store has to say when one manager goes on alone, after the others were lost or in a
 * cluster brought back from a backup: their nodes are out for good, as if they had been removed,
 * and this one is a manager. Workers, services and all else stay. Pure: a view in, changes out.
 */
import type { Cluster, Node } from '../model/types.ts';
import { withRemoved } from './control/writes.ts';
import { generationAbove } from './raft/memberTable.ts';
import type { Change, View } from './store/types.ts';

/** Managers, and nodes that are on their way to be one. */
export function otherManagers(view: View, nodeId: string): Node[] {
  const isOther = (node: Node): boolean =>
    node.id !== nodeId && (node.role === 'manager' || node.manager !== undefined);
  return [...view.all('node')].filter(isOther);
}

function usedRaftIds(view: View): number[] {
  const used = [...(view.cluster()?.removedRaftIds ?? [])];
  for (const node of view.all('node')) used.push(node.manager?.raftId ?? 0);
  return used;
}

/** Above every Raft id that was ever used. */
export function freeRaftId(view: View, more: readonly number[] = []): number {
  return Math.max(0, ...more, ...usedRaftIds(view)) + 1;
}

/** For a new manager that goes on alone: also above those that this state never heard of. */
export function raftIdAlone(view: View): number {
  return generationAbove(usedRaftIds(view)) + 1;
}

export function soleManagerChanges(view: View, cluster: Cluster, self: Node, nowMs: number) {
  const others = otherManagers(view, self.id);
  const raftIds = others.flatMap(({ manager }) => (manager === undefined ? [] : [manager.raftId]));
  const generation = generationAbove(usedRaftIds(view));
  let removed = cluster;
  for (const { id } of others) {
    removed = { ...removed, removedNodes: withRemoved(removed, id, nowMs) };
  }
  const object = {
    ...removed,
    removedRaftIds: [...new Set([...cluster.removedRaftIds, ...raftIds, generation])],
  };
  const spec = { ...self.spec, role: 'manager' as const };
  const kind = view.get('node', self.id) === undefined ? 'create' : 'update';
  const changes: Change[] = [
    { kind: 'update', table: 'cluster', object },
    ...others.map(({ id }): Change => ({ kind: 'remove', table: 'node', id })),
    { kind, table: 'node', object: { ...self, role: 'manager', spec } },
  ];
  return changes;
}
