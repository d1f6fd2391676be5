/** Networks of this host alone as Docker's JSON, both ways: bridge, host, none, users' bridges. */
import { SwarmError } from '../../../base/errors.ts';
import type { LocalNetwork, LocalNetworkRequest } from '../../containers/networks.ts';
import type { ContainerView } from '../../containers/types.ts';
import type { Fields } from '../fields.ts';
import { timeOf } from './common.ts';
import type { DockerNetwork } from './network.ts';

export function localToDocker(
  network: LocalNetwork,
  containers: Readonly<Record<string, object>>,
): DockerNetwork {
  return {
    Name: network.name,
    Id: network.id,
    Created: timeOf(network.createdAtMs),
    Scope: 'local',
    Driver: network.driver,
    EnableIPv4: true,
    EnableIPv6: network.subnets.some(({ subnet }) => subnet.includes(':')),
    IPAM: {
      Driver: 'default',
      Options: null,
      Config: network.subnets.map(({ subnet, gateway, range, reserved }) => ({
        Subnet: subnet,
        ...(range === '' ? {} : { IPRange: range }),
        Gateway: gateway,
        ...(reserved === undefined ? {} : { AuxiliaryAddresses: reserved }),
      })),
    },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: containers,
    Options: network.options,
    Labels: network.labels,
  };
}

/** Containers of an inspected network, by id, that run now. */
export function containersOn(
  networkId: string,
  views: readonly ContainerView[],
): Record<string, object> {
  const out: Record<string, object> = {};
  for (const { container, networks } of views) {
    const on = networks.find((each) => each.networkId === networkId);
    if (on === undefined || container.state !== 'running') continue;
    out[container.config.id] = {
      Name: container.config.name,
      EndpointID: on.endpointId,
      MacAddress: on.macAddress,
      IPv4Address: on.address === '' ? '' : `${on.address}/${on.prefixLength}`,
      IPv6Address: on.address6 === '' ? '' : `${on.address6}/${on.prefixLength6}`,
    };
  }
  return out;
}

/** The body of POST /networks/create for a bridge of this host. */
export function localNetworkFromDocker(body: Fields): LocalNetworkRequest {
  const name = body.text('Name');
  if (name.trim() === '') {
    throw new SwarmError('invalid', 'invalid network name: name is empty');
  }
  if (!['', 'local'].includes(body.text('Scope'))) {
    body.refused('Scope', 'use --driver overlay for a network of the swarm');
  }
  body.refuse('Ingress', 'ConfigOnly', 'ConfigFrom');
  if (body.raw('EnableIPv4') === false) body.refused('EnableIPv4', 'networks always have IPv4');
  const ipam = body.objectOrEmpty('IPAM');
  ipam.refuse('Options');
  if (!['', 'default'].includes(ipam.text('Driver'))) ipam.refused('Driver', 'use default');
  const pools = ipam.objects('Config').map((pool) => {
    pool.refuse('AuxAddress');
    const reserved = pool.labels('AuxiliaryAddresses');
    return {
      subnet: pool.text('Subnet'),
      gateway: pool.text('Gateway'),
      range: pool.text('IPRange'),
      ...(Object.keys(reserved).length === 0 ? {} : { reserved }),
    };
  });
  const empty = { subnet: '', gateway: '', range: '' };
  const ipv4Pools = pools.filter((pool) => !pool.subnet.includes(':'));
  const ipv6Pools = pools.filter((pool) => pool.subnet.includes(':'));
  const ipv6 = body.flag('EnableIPv6') || ipv6Pools.length > 0;
  return {
    name,
    labels: body.labels('Labels'),
    attachable: body.flag('Attachable'),
    ipv6,
    internal: body.flag('Internal'),
    subnets: [
      ...(ipv4Pools.length === 0 ? [empty] : ipv4Pools),
      ...(ipv6 && ipv6Pools.length === 0 ? [empty] : ipv6Pools),
    ],
    options: body.labels('Options'),
  };
}
