/**
 * IPv6 of the cluster's networks: nothing of it is allocated. A network that has it has one subnet,
 * given or following from its id, and every address in it follows from the IPv4 one.
 */
import { counterpart, uniqueLocalSubnet } from '../base/ipRange.ts';
import type { Network } from './types.ts';

/** CIDR, '' = the network has no IPv6. */
export function subnet6Of({ id, spec }: Pick<Network, 'id' | 'spec'>): string {
  if (!spec.ipv6) return '';
  return spec.subnet6 === '' ? uniqueLocalSubnet(id) : spec.subnet6;
}

/** The IPv6 address that goes with `address` (with or without prefix length), '' = none. */
export function address6Of(network: Network, address: string): string {
  return counterpart(network.subnet, address.split('/')[0], subnet6Of(network));
}
