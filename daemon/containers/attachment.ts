/**
 * A standalone container's networks from start to end: which of them it asks for, the request to
 * runtime/net, published ports with their ranges tried in order. It holds nothing: what is attached
 * is known by runtime/net.
 */
import { assert } from '../../base/assert.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import type { Container, ContainerTable, NetworkNamespace } from '../../runtime/container/types.ts';
import { attachmentPaths } from '../../runtime/net/paths.ts';
import type {
  AttachRequest,
  Endpoint,
  EndpointRequest,
  HostNetwork,
  PublishedPort,
} from '../../runtime/net/types.ts';
import { hostFilePaths, removeHostFiles, writeHostFiles } from './hostFiles.ts';
import { type LinkContext, linkedFor, tellLinked } from './links.ts';
import type { LocalNetwork, NetworkBook } from './networks.ts';
import {
  type AttachableNetworks,
  type ContainerNetwork,
  type ContainerRecord,
  type EndpointSpec,
  NO_WISHES,
  type PortRequest,
  type StandaloneSpec,
} from './types.ts';

export interface AttachmentContext {
  readonly execRoot: string;
  readonly containers: ContainerTable;
  readonly network: HostNetwork;
  readonly networks: NetworkBook;
  readonly attachable: AttachableNetworks | undefined;
}

/** Ports of a range that are tried before giving up. */
const PORT_TRIES = 1024;

/**
 * The networks a new container is to be on, by id: its mode's and those of its endpoints.
 * SwarmError not_found, invalid for what cannot be combined.
 */
export async function networksOf(
  context: AttachmentContext,
  spec: StandaloneSpec,
): Promise<Readonly<Record<string, EndpointSpec>>> {
  const { networkMode, endpoints } = spec;
  if (isShared(networkMode)) return {};
  const wishes = new Map<string, EndpointSpec>();
  const names = Object.keys(endpoints).map((name) => (name === 'default' ? 'bridge' : name));
  for (const name of new Set([networkMode, ...names])) {
    const given = endpoints[name] ?? (name === 'bridge' ? endpoints['default'] : undefined);
    const id = await findNetwork(context, name);
    // The same network by name and by id.
    wishes.set(id, given ?? wishes.get(id) ?? NO_WISHES);
  }
  if (['host', 'none'].includes(networkMode)) {
    if (wishes.size > 1) {
      throw new SwarmError(
        'invalid',
        `conflicting options: network ${networkMode} cannot be combined with other networks`,
      );
    }
    return Object.fromEntries(wishes);
  }
  for (const [id, wish] of wishes) checkWish(context.networks.find(id), wish);
  return Object.fromEntries(wishes);
}

async function findNetwork(context: AttachmentContext, name: string): Promise<string> {
  const local = context.networks.find(name);
  if (local !== undefined) return local.id;
  const attachable = await context.attachable?.find(name);
  if (attachable !== undefined) return attachable.id;
  // Not 'not_found': Docker's client would take it for the image, and pull that.
  throw new SwarmError('invalid', `network ${name} not found`);
}

export function checkWish(network: LocalNetwork | undefined, wish: EndpointSpec): void {
  if (network?.builtin !== true) return;
  if (wish.address !== '' || wish.address6 !== '') {
    throw new SwarmError(
      'invalid',
      'invalid endpoint settings: user specified IP address is supported on user defined ' +
        'networks only',
    );
  }
  if (wish.aliases.length > 0) {
    throw new SwarmError(
      'invalid',
      'network-scoped aliases are only supported for user-defined networks',
    );
  }
}

const SHARED = 'container:';

/** The network is another container's. */
export function isShared(networkMode: string): boolean {
  return networkMode.startsWith(SHARED);
}

/** Whose it is, as it was asked for; '' when it is not another's. */
export function sharedWith(networkMode: string): string {
  return isShared(networkMode) ? networkMode.slice(SHARED.length) : '';
}

/** It has a network that is attached and detached with it. */
export function isOwn(networkMode: string): boolean {
  return networkMode !== 'host' && networkMode !== 'none' && !isShared(networkMode);
}

/** Of a container that shares it; SwarmError conflict unless the other has one to share. */
export function shareNetwork(other: Container): Network {
  const { networkNamespace, hostsFile, hostnameFile, resolvConfFile } = other.config;
  const files = { hostsFile, hostnameFile, resolvConfFile };
  if (networkNamespace !== 'new') return { networkNamespace, ...files };
  throw new SwarmError(
    'conflict',
    `container ${other.config.name} has no network to share: run it on one (not none)`,
  );
}

interface Network {
  readonly networkNamespace: NetworkNamespace;
  readonly hostsFile: string | undefined;
  readonly hostnameFile: string | undefined;
  readonly resolvConfFile: string | undefined;
}

/** What the runtime's configuration says of the network, known before it is attached. */
export function namespaceOf(execRoot: string, containerId: string, networkMode: string): Network {
  if (!isOwn(networkMode)) {
    const networkNamespace = networkMode === 'host' ? 'host' : 'new';
    return { networkNamespace, ...hostFilePaths(execRoot, containerId) };
  }
  const paths = attachmentPaths(execRoot, containerId);
  const { hostsFile, hostnameFile, resolvConfFile } = paths;
  return {
    networkNamespace: { path: paths.namespacePath },
    hostsFile,
    hostnameFile,
    resolvConfFile,
  };
}

const NOTHING: Attached = { ports: [], env: [] };

/** What a start gets of its networks: the ports as published, and variables about who is linked. */
export interface Attached {
  readonly ports: readonly PublishedPort[];
  readonly env: readonly string[];
}

/** Before a start; undone whole when it fails. */
export async function attachContainer(
  context: AttachmentContext & LinkContext,
  record: ContainerRecord,
  hostname: string,
  exposed: readonly string[],
): Promise<Attached> {
  const { network, networks, execRoot } = context;
  const { spec, id } = record;
  if (isShared(spec.networkMode)) {
    mustRun(context, spec.networkMode.slice(SHARED.length));
    return NOTHING;
  }
  const extraHosts = spec.extraHosts.map((entry) => extraHost(entry, networks));
  if (!isOwn(spec.networkMode)) {
    const lines = extraHosts.map(({ name, address }) => `${address}\t${name}`);
    writeHostFiles(execRoot, record, hostname, lines);
    return NOTHING;
  }
  const linked = linkedFor(context, record);
  const bridges: EndpointRequest[] = [];
  let defaultBridge = false;
  const overlays: AttachRequest['overlays'][number][] = [];
  for (const [networkId, wish] of orderedNetworks(record, networks)) {
    const local = networks.find(networkId);
    if (local?.builtin === true && wish.macAddress === '') defaultBridge = true;
    else if (local !== undefined) bridges.push(endpointRequest(networks, local, record, wish));
    else overlays.push(await attachOverlay(context, record, networkId, wish));
  }
  const request: AttachRequest = {
    containerId: id,
    hostname,
    overlays,
    gateway: overlays.length > 0 && bridges.length === 0 && !defaultBridge,
    defaultBridge,
    bridges,
    name: record.name,
    extraHosts: [...extraHosts, ...linked.hosts],
    dns: { servers: spec.dnsServers, search: spec.dnsSearch, options: spec.dnsOptions },
  };
  const ports = await attachWithPorts(network, request, wantedPorts(spec, exposed));
  await tellLinked(context, record);
  return { ports, env: linked.env };
}

function mustRun({ containers }: AttachmentContext, containerId: string): void {
  if (containers.get(containerId)?.state === 'running') return;
  throw new SwarmError(
    'conflict',
    `cannot join network of a non running container: ${containerId}: start it first`,
  );
}

/** The network it was run with first: it gives the default route. */
function orderedNetworks(
  record: ContainerRecord,
  networks: NetworkBook,
): readonly (readonly [string, EndpointSpec])[] {
  const first = networks.find(record.spec.networkMode)?.id;
  return Object.entries(record.networks).toSorted(
    ([left], [right]) => Number(right === first) - Number(left === first),
  );
}

export function endpointRequest(
  networks: NetworkBook,
  local: LocalNetwork,
  record: ContainerRecord,
  wish: EndpointSpec,
): EndpointRequest {
  return {
    networkId: networks.runtimeId(local),
    endpointId: endpointId(record.id, local.id),
    address: wish.address,
    address6: wish.address6,
    aliases: [...wish.aliases, shortId(record.id)],
    macAddress: wish.macAddress,
  };
}

/** The same for each start, so that nothing has to be kept. */
function endpointId(containerId: string, networkId: string): string {
  return containerId.slice(0, 32) + networkId.slice(0, 32);
}

/** A place on a network of the cluster, asked of its managers. */
export async function attachOverlay(
  context: AttachmentContext,
  record: ContainerRecord,
  networkId: string,
  wish: EndpointSpec,
): Promise<AttachRequest['overlays'][number]> {
  if (context.attachable === undefined) {
    throw new SwarmError('not_found', `network ${networkId} not found`);
  }
  const aliases = [...wish.aliases, record.name];
  const attached = await context.attachable.attach(record.id, networkId, { ...wish, aliases });
  return { networkId, ...attached, aliases };
}

function extraHost(entry: string, networks: NetworkBook): { name: string; address: string } {
  const colon = entry.indexOf(':');
  const [name, address] = [entry.slice(0, colon), entry.slice(colon + 1)];
  if (address !== 'host-gateway') return { name, address };
  const gateway = networks.hostGateway();
  if (gateway !== '') return { name, address: gateway };
  throw new SwarmError('invalid', `--add-host ${entry}: this host has no default bridge`);
}

function wantedPorts(spec: StandaloneSpec, exposed: readonly string[]): readonly PortRequest[] {
  if (!spec.publishAll) return spec.ports;
  const given = new Set(spec.ports.map((port) => `${port.containerPort}/${port.protocol}`));
  const rest = exposed
    .filter((port) => !given.has(port))
    .map((port): PortRequest => {
      const [number, protocol] = port.split('/');
      return {
        containerPort: Number(number),
        protocol: protocol === 'udp' ? 'udp' : 'tcp',
        hostAddress: '',
        hostPortFirst: 0,
        hostPortLast: 0,
      };
    });
  return [...spec.ports, ...rest];
}

/** A port of a range that is taken gives way to the next; without a range the conflict stands. */
async function attachWithPorts(
  network: HostNetwork,
  request: AttachRequest,
  wanted: readonly PortRequest[],
): Promise<readonly PublishedPort[]> {
  const offsets = wanted.map(() => 0);
  for (let tries = 0; ; tries += 1) {
    const ports = wanted.map((port, at) => portAt(port, offsets[at]));
    try {
      const attachment = await network.attach({ ...request, ports });
      const expected = attachment.namespacePath.endsWith(request.containerId);
      assert(expected, 'an attachment is where it was foretold', { ...attachment });
      return attachment.ports ?? [];
    } catch (error) {
      const next = nextOffset(wanted, offsets, error);
      if (next === undefined || tries >= PORT_TRIES) throw error;
      offsets[next] += 1;
    }
  }
}

/** Which port to move on, after a conflict about one that has more to try. */
function nextOffset(
  wanted: readonly PortRequest[],
  offsets: readonly number[],
  error: unknown,
): number | undefined {
  if (!hasCode(error, 'conflict')) return undefined;
  const taken = wanted.findIndex((port, at) => {
    const { hostPort } = portAt(port, offsets[at]);
    const hasMore = port.hostPortFirst > 0 && hostPort < port.hostPortLast;
    return hasMore && error.message.includes(`${hostPort}/${port.protocol}`);
  });
  return taken < 0 ? undefined : taken;
}

function portAt(port: PortRequest, offset: number): PublishedPort {
  const { protocol, hostAddress, containerPort, hostPortFirst } = port;
  const hostPort = hostPortFirst === 0 ? 0 : hostPortFirst + offset;
  return { protocol, hostAddress, hostPort, containerPort };
}

/** After its end, or when a start failed. Idempotent. */
export async function detachContainer(
  context: AttachmentContext,
  record: ContainerRecord,
): Promise<void> {
  const { spec, id } = record;
  if (!isOwn(spec.networkMode)) return;
  await context.network.detach(id);
  for (const networkId of Object.keys(record.networks)) {
    if (context.networks.find(networkId) !== undefined) continue;
    await context.attachable?.detach(id, networkId);
  }
}

/** Everything on disk that is the network's and outlives an end. */
export function forgetFiles(context: AttachmentContext, record: ContainerRecord): void {
  if (!isOwn(record.spec.networkMode)) removeHostFiles(context.execRoot, record.id);
}

const NO_ENDPOINT: Endpoint = {
  networkId: '',
  endpointId: '',
  address: '',
  prefixLength: 0,
  gateway: '',
  address6: '',
  prefixLength6: 0,
  gateway6: '',
  macAddress: '',
};

/** As inspection shows them. */
export function viewNetworks(
  context: AttachmentContext,
  record: ContainerRecord,
  isRunning: boolean,
): readonly ContainerNetwork[] {
  const endpoints = isRunning ? context.network.endpoints(record.id) : [];
  return orderedNetworks(record, context.networks).map(([networkId, spec]) => {
    const local = context.networks.find(networkId);
    const runtimeId = local === undefined ? networkId : context.networks.runtimeId(local);
    const made = endpoints.find((endpoint) => endpoint.networkId === runtimeId);
    return {
      ...(made ?? NO_ENDPOINT),
      networkId,
      networkName: local?.name ?? context.networks.nameOf(networkId),
      spec,
      dnsNames: local?.builtin === true ? [] : [record.name, shortId(record.id), ...spec.aliases],
    };
  });
}
