/**
 * What every part of a manager says to a node that the cluster does not have any more, with the way
 * out. Words only.
 */
import { SwarmError } from '../base/errors.ts';
import { REMOVED_NODE } from './raft/hello.ts';

export function removedNode(nodeId: string): SwarmError {
  return new SwarmError(
    'forbidden',
    `node ${nodeId} was removed from the cluster: run "tsswarm leave --force" on it`,
    { detail: { [REMOVED_NODE]: nodeId } },
  );
}
