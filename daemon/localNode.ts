/** This host's place in the swarm as the API tells it, also where it has none. Reads only. */
import { SwarmError } from '../base/errors.ts';
import type { SwarmNode } from './swarmNode.ts';
import type { LocalNode } from './types.ts';

/** Docker's words. */
export const LOCKED =
  'Swarm is encrypted and needs to be unlocked before it can be used. ' +
  'Please use "docker swarm unlock" to unlock it.';

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

/** `error`: why a host that is in a swarm does not take its place; '' otherwise. */
export function notManager(swarm: SwarmNode | undefined, error: string): SwarmError {
  if (swarm === undefined && error !== '') return new SwarmError('not_manager', error);
  if (swarm === undefined) {
    return new SwarmError(
      'not_manager',
      'This node is not a swarm manager: it is in no swarm. ' +
        'Use "tsswarm init" to make one, or "tsswarm join" to join one.',
    );
  }
  const managers = swarm.membership.managers.join(', ');
  return new SwarmError(
    'not_manager',
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster " +
      `state. Run this on a manager (${managers}), or promote this node there.`,
  );
}
