/**
 * Whether the ports and addresses that a service asks for can be had at all, told when it is asked
 * for: who has a port, whether a network has an address. That two services with one ingress port
 * are never both there is the store's to enforce; this only says more, sooner.
 */
import { SwarmError } from '../../base/errors.ts';
import { contains, parseAddress, parseBlock } from '../../model/address.ts';
import type { PortConfig, ServiceSpec } from '../../model/types.ts';
import { portHolder } from '../placement/publishedPorts.ts';
import type { View } from '../store/types.ts';

/**
 * `serviceId`: the service itself, '' for a new one. Networks by id. SwarmError conflict, invalid.
 */
export function checkCanHave(view: View, serviceId: string, spec: ServiceSpec): void {
  for (const port of spec.ports) checkPort(view, serviceId, port);
  for (const { target, addresses } of spec.task.networks) {
    const network = view.get('network', target);
    const subnet = parseBlock(network?.subnet ?? '');
    if (network === undefined || subnet === undefined) continue;
    for (const address of addresses) {
      const value = parseAddress(address);
      const isHost =
        value !== undefined &&
        contains(subnet, value) &&
        value !== subnet.first &&
        value !== subnet.last;
      if (!isHost || address === network.gateway) {
        throw new SwarmError(
          'invalid',
          `address ${address} is not one that tasks can have on network ${network.spec.name} ` +
            `(${network.subnet}, gateway ${network.gateway})`,
        );
      }
      checkAddress(view, serviceId, target, address, network.spec.name);
    }
  }
}

function checkPort(view: View, serviceId: string, port: PortConfig): void {
  const holder = portHolder(view, serviceId, port);
  if (holder === undefined) return;
  throw new SwarmError(
    'conflict',
    `port ${port.publishedPort}/${port.protocol} is already published by service ` +
      `"${holder.spec.name}": choose another one`,
  );
}

function checkAddress(
  view: View,
  serviceId: string,
  networkId: string,
  address: string,
  networkName: string,
): void {
  for (const other of view.all('service')) {
    const virtual = other.virtualAddresses.some(
      (item) => item.networkId === networkId && item.address.split('/')[0] === address,
    );
    const asked =
      other.id !== serviceId &&
      other.spec.task.networks.some(
        (item) => item.target === networkId && item.addresses.includes(address),
      );
    if (!virtual && !asked) continue;
    throw new SwarmError(
      'conflict',
      `address ${address} of network ${networkName} belongs to service "${other.spec.name}": ` +
        'choose another one',
    );
  }
}
