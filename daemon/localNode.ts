/** This host's place in the swarm as the API tells it. Reads only. */
import type { SwarmNode } from './swarmNode.ts';
import type { LocalNode } from './types.ts';

/** `apart`: what there is to say; the id only where the node does not run. */
export function localNode(
  swarm: SwarmNode | undefined,
  apart: Pick<LocalNode, 'state' | 'error' | 'nodeId'>,
): LocalNode {
  if (swarm === undefined) return { ...apart, address: '', role: undefined, managers: [] };
  const { nodeId, advertiseHost, role, managers } = swarm.membership;
  const summary = swarm.manager?.control.raftStatus();
  const known = summary?.managers.map((each) => ({
    nodeId: each.nodeId,
    address: each.address,
    isLeader: each.isLeader,
  }));
  return {
    state: apart.state,
    error: apart.error,
    nodeId,
    address: advertiseHost,
    role,
    managers: known ?? managers.map((address) => ({ nodeId: '', address })),
  };
}
