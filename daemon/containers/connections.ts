/**
 * Putting a standalone container on one more network, or taking it off one, while it runs or
 * before. What is changed holds for its next starts too.
 */
import { hasCode, SwarmError } from '../../base/errors.ts';
import { attachOverlay, checkWish, endpointRequest, isOwn, isShared } from './attachment.ts';
import type { HostContext } from './context.ts';
import type { LocalNetwork } from './networks.ts';
import type { StandaloneContainer } from './standalone.ts';
import type { EndpointSpec } from './types.ts';

/** A network of this host, or one of the cluster's that containers may be put on. */
export interface Connectable {
  readonly id: string;
  readonly name: string;
  readonly driver: LocalNetwork['driver'] | 'overlay';
}

/** SwarmError forbidden, conflict, invalid in Docker's words. */
export function connectContainer(
  context: HostContext,
  container: StandaloneContainer,
  network: Connectable,
  wish: EndpointSpec,
): Promise<void> {
  // Not beside a start, which attaches what the record says, nor beside another connection.
  return container.exclusively(() => connect(context, container, network, wish));
}

export function disconnectContainer(
  context: HostContext,
  container: StandaloneContainer,
  network: Connectable,
): Promise<void> {
  return container.exclusively(() => disconnect(context, container, network));
}

async function connect(
  context: HostContext,
  container: StandaloneContainer,
  network: Connectable,
  wish: EndpointSpec,
): Promise<void> {
  const { record } = container;
  mustBeOwn(container);
  if (network.driver === 'host' || network.driver === 'null') {
    throw new SwarmError(
      'forbidden',
      'container cannot be disconnected from host network or connected to host network',
    );
  }
  if (record.networks[network.id] !== undefined) {
    throw new SwarmError(
      'forbidden',
      `endpoint with name ${container.name} already exists in network ${network.name}`,
    );
  }
  const local = context.networks.find(network.id);
  checkWish(local, wish);
  if (container.container.state === 'running') {
    if (local === undefined) await joinOverlay(context, container, network, wish);
    else {
      const request = endpointRequest(context.networks, local, record, wish);
      await context.network.connect(record.id, request);
    }
  }
  container.changeNetworks({ ...record.networks, [network.id]: wish });
  emit(context, container, network, 'connect');
}

async function disconnect(
  context: HostContext,
  container: StandaloneContainer,
  network: Connectable,
): Promise<void> {
  const { record } = container;
  mustBeOwn(container);
  if (record.networks[network.id] === undefined) {
    throw new SwarmError(
      'forbidden',
      `container ${container.id} is not connected to network ${network.name}`,
    );
  }
  if (container.container.state === 'running') {
    const local = context.networks.find(network.id);
    const id = local === undefined ? network.id : context.networks.runtimeId(local);
    try {
      await context.network.disconnect(record.id, id);
    } catch (error) {
      if (!hasCode(error, 'not_found')) throw error; // a daemon died after it, before the record
    }
    if (local === undefined) await context.attachable?.detach(record.id, network.id);
  }
  const { [network.id]: _, ...rest } = record.networks;
  container.changeNetworks(rest);
  emit(context, container, network, 'disconnect');
}

/** A place on a network of the cluster, and the interface there; the place is given back if not. */
async function joinOverlay(
  context: HostContext,
  { record }: StandaloneContainer,
  network: Connectable,
  wish: EndpointSpec,
): Promise<void> {
  const { aliases, ...attached } = await attachOverlay(context, record, network.id, wish);
  const { macAddress, address6 } = wish;
  try {
    const request = { ...attached, address6, aliases, macAddress };
    await context.network.connect(record.id, request);
  } catch (error) {
    await context.attachable?.detach(record.id, network.id);
    throw error;
  }
}

/** Takes a running container off bridges that a daemon put it on and died before that was kept. */
export async function dropUnkept(
  context: HostContext,
  { id, container, record }: StandaloneContainer,
): Promise<void> {
  if (container.state !== 'running') return;
  const { network, networks } = context;
  for (const { networkId } of network.endpoints(id)) {
    const local = networks.list().find((each) => networks.runtimeId(each) === networkId);
    if (local === undefined || record.networks[local.id] !== undefined) continue;
    await network.disconnect(id, networkId);
  }
}

function mustBeOwn(container: StandaloneContainer): void {
  const { networkMode } = container.record.spec;
  if (isOwn(networkMode)) return;
  if (isShared(networkMode)) {
    throw new SwarmError(
      'forbidden',
      'container sharing network namespace with another container or host cannot be connected to ' +
        'any other network',
    );
  }
  throw new SwarmError(
    'forbidden',
    networkMode === 'none'
      ? 'container cannot be connected to multiple networks with one of the networks in private ' +
          '(none) mode'
      : 'container cannot be disconnected from host network or connected to host network',
  );
}

function emit(
  context: HostContext,
  container: StandaloneContainer,
  network: Connectable,
  action: 'connect' | 'disconnect',
): void {
  const { name, driver } = network;
  context.events.emit('network', action, network.id, {
    container: container.id,
    name,
    type: driver,
  });
}
