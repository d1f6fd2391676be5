/**
 * Overlay networks of the cluster as Docker's JSON. Networks of one host are in localNetwork.ts.
 */
import { SwarmError } from '../../../base/errors.ts';
import { bareAddress, canonicalAddress } from '../../../base/ipAddress.ts';
import { firstAddress, parseRange } from '../../../base/ipRange.ts';
import type { View } from '../../../manager/store/types.ts';
import { address6Of, subnet6Of } from '../../../model/subnet6.ts';
import { taskName } from '../../../model/taskName.ts';
import { isTerminal } from '../../../model/taskState.ts';
import type { Network, NetworkSpec, Task, TaskNetwork } from '../../../model/types.ts';
import type { Fields } from '../fields.ts';
import { timeOf } from './common.ts';

const VNI_OPTION = 'com.docker.network.driver.overlay.vxlanid_list';

export interface DockerNetwork {
  readonly Name: string;
  readonly Id: string;
  readonly Scope: 'swarm' | 'local';
  readonly Driver: string;
  readonly Labels: Readonly<Record<string, string>>;
  readonly [field: string]: unknown;
}

export function networkToDocker(network: Network): DockerNetwork {
  const { spec } = network;
  const pool = {
    Subnet: network.subnet === '' ? spec.subnet : network.subnet,
    ...(spec.range === '' ? {} : { IPRange: spec.range }),
    Gateway: network.gateway === '' ? spec.gateway : network.gateway,
  };
  const subnet6 = subnet6Of(network);
  const pools = [
    ...(pool.Subnet === '' ? [] : [pool]),
    ...(subnet6 === '' ? [] : [{ Subnet: subnet6, Gateway: firstAddress(parseRange(subnet6)) }]),
  ];
  return {
    Name: spec.name,
    Id: network.id,
    Created: timeOf(network.createdAtMs),
    Scope: 'swarm',
    Driver: spec.driver,
    EnableIPv4: true,
    EnableIPv6: spec.ipv6,
    IPAM: { Driver: 'default', Options: null, Config: pools },
    Internal: spec.internal,
    Attachable: spec.attachable,
    Ingress: false,
    ConfigFrom: { Network: '' },
    ConfigOnly: false,
    Containers: null,
    Options: { ...spec.options, ...(network.vni === 0 ? {} : { [VNI_OPTION]: `${network.vni}` }) },
    Labels: spec.labels,
  };
}

/** The network as a task's attachment shows it. */
export function attachedNetworkToDocker(network: Network): object {
  return {
    ID: network.id,
    Version: { Index: network.version },
    CreatedAt: timeOf(network.createdAtMs),
    UpdatedAt: timeOf(network.updatedAtMs),
    Spec: {
      Name: network.spec.name,
      Labels: network.spec.labels,
      DriverConfiguration: { Name: network.spec.driver, Options: network.spec.options },
      Attachable: network.spec.attachable,
      Internal: network.spec.internal,
      Scope: 'swarm',
    },
    DriverState: { Name: network.spec.driver, Options: { [VNI_OPTION]: `${network.vni}` } },
    IPAMOptions: {
      Driver: { Name: 'default' },
      Configs: [{ Subnet: network.subnet, Gateway: network.gateway }],
    },
  };
}

/** Containers of an inspected network, keyed by container as Docker does. */
export function attachedTasks(network: Network, tasks: Iterable<Task>): Record<string, object> {
  const out: Record<string, object> = {};
  for (const task of tasks) {
    const attachment = attachmentOf(task, network);
    if (attachment === undefined || task.status.containerId === '') continue;
    out[task.status.containerId] = {
      Name: taskName(task),
      EndpointID: task.id,
      MacAddress: '',
      IPv4Address: attachment.address,
      IPv6Address: withLength(address6Of(network, attachment.address), subnet6Of(network)),
    };
  }
  return out;
}

/** Undefined once the task has ended: its address may be another's by now. */
function attachmentOf(task: Task, network: Network): TaskNetwork | undefined {
  if (isTerminal(task.status.state)) return undefined;
  return task.networks.find((item) => item.networkId === network.id);
}

/** What `--verbose` adds: services on the network by name, with their tasks on all hosts. */
export function servicesOn(network: Network, store: View): Record<string, object> {
  const out: Record<string, { VIP: string; Tasks: object[] }> = {};
  for (const task of store.tasksOfNetwork(network.id)) {
    const attachment = attachmentOf(task, network);
    const service = store.get('service', task.serviceId);
    if (attachment === undefined || service === undefined) continue;
    const virtual = service.virtualAddresses.find((item) => item.networkId === network.id);
    const { name } = service.spec;
    const found = out[name] ?? { VIP: bareAddress(virtual?.address ?? ''), Tasks: [] };
    out[name] = found;
    found.Tasks.push({
      Name: taskName(task),
      EndpointID: task.id,
      EndpointIP: bareAddress(attachment.address),
      Info: { 'Host IP': store.get('node', task.nodeId)?.address ?? '' },
    });
  }
  return Object.fromEntries(
    Object.entries(out).map(([name, found]) => [name, { ...found, Ports: [], LocalLBIndex: 0 }]),
  );
}

function withLength(address: string, subnet: string): string {
  return address === '' ? '' : `${address}/${parseRange(subnet).prefixLength}`;
}

/** The body of POST /networks/create for one of the cluster's. */
export function networkSpecFromDocker(body: Fields): NetworkSpec {
  const name = body.text('Name');
  if (name === '') throw new SwarmError('invalid', 'Name must not be empty: name the network');
  const driver = body.text('Driver', 'overlay');
  if (driver !== 'overlay' && driver !== '') {
    throw new SwarmError(
      'unsupported',
      `Driver: "${driver}" networks cannot be created: use --driver bridge or overlay`,
    );
  }
  const scope = body.text('Scope');
  if (scope !== '' && scope !== 'swarm') {
    throw new SwarmError('unsupported', `Scope: "${scope}" is not supported: use swarm`);
  }
  body.refuse('Ingress', 'ConfigOnly', 'ConfigFrom');
  if (body.raw('EnableIPv4') === false) body.refused('EnableIPv4', 'networks always have IPv4');
  const ipam = body.objectOrEmpty('IPAM');
  ipam.refuse('Options');
  if (!['', 'default'].includes(ipam.text('Driver'))) ipam.refused('Driver', 'use default');
  const given = ipam.objects('Config');
  for (const pool of given) pool.refuse('AuxiliaryAddresses', 'AuxAddress');
  const pools = given.filter((pool) => !pool.text('Subnet').includes(':'));
  const pools6 = given.filter((pool) => pool.text('Subnet').includes(':'));
  if (pools.length > 1 || pools6.length > 1) {
    ipam.refused('Config', 'give one subnet of each address family');
  }
  pools6[0]?.refuse('IPRange');
  const subnet6 = pools6[0]?.text('Subnet') ?? '';
  const gateway6 = pools6[0]?.text('Gateway') ?? '';
  if (gateway6 !== '' && canonicalAddress(gateway6) !== firstAddress(parseRange(subnet6))) {
    pools6[0].refused('Gateway', 'it is the first address of an IPv6 subnet');
  }
  return {
    name,
    labels: body.labels('Labels'),
    driver: 'overlay',
    internal: body.flag('Internal'),
    attachable: body.flag('Attachable'),
    ipv6: body.flag('EnableIPv6'),
    subnet: pools[0]?.text('Subnet') ?? '',
    subnet6,
    gateway: pools[0]?.text('Gateway') ?? '',
    range: pools[0]?.text('IPRange') ?? '',
    options: body.labels('Options'),
  };
}
