/**
 * What every part of a manager says to a node that the cluster does not have any more, with the way
 * out. Words only.
 */
import { SwarmError } from '../base/errors.ts';
import { REMOVED_NODE } from './raft/hello.ts';

/**
 * `forGood`: its removal is on record here, so that it may act on this word alone. That it is not
 * known is less: a leader that was paused may not have heard yet of one that has just joined.
 */
export function removedNode(nodeId: string, forGood = false): SwarmError {
  return new SwarmError(
    'forbidden',
    `node ${nodeId} was removed from the cluster: run "tsswarm leave --force" on it`,
    forGood ? { detail: { [REMOVED_NODE]: nodeId } } : {},
  );
}
