/**
 * A host network that has no bridges of users and publishes no ports: what asks for them is told
 * so. The default bridge is the host network's own.
 */
import { SwarmError } from '../../base/errors.ts';
import type { HostNetwork, LocalNetworks } from '../../runtime/net/types.ts';

export function withLocalNetworks(network: HostNetwork): HostNetwork & LocalNetworks {
  if ('createBridge' in network) return network as HostNetwork & LocalNetworks;
  const refuse = async (): Promise<never> => {
    throw new SwarmError('unsupported', 'this host makes no bridges and publishes no ports');
  };
  const local: LocalNetworks = {
    createBridge: refuse,
    removeBridge: refuse,
    bridges: () => [],
    connect: refuse,
    disconnect: refuse,
    endpoints: () => [],
    publish: refuse,
  };
  return Object.assign(network, local);
}
