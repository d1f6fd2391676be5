/**
 * Networks and ports of a container in Docker's JSON, both ways: NetworkingConfig, PortBindings,
 * ExposedPorts as requests have them, NetworkSettings as inspection shows them.
 */
import { isIP } from 'node:net';
import { SwarmError } from '../../../base/errors.ts';
import type { PublishedPort } from '../../../runtime/net/types.ts';
import { parseLink } from '../../containers/links.ts';
import {
  type ContainerNetwork,
  type ContainerView,
  type EndpointSpec,
  NO_WISHES,
  type PortRequest,
  type StandaloneSpec,
} from '../../containers/types.ts';
import { type Fields, isRecord } from '../fields.ts';

const PORT_MAX = 65_535;

function endpointFields(body: Fields): readonly (readonly [string, Fields])[] {
  const config = body.objectOrEmpty('NetworkingConfig').objectOrEmpty('EndpointsConfig');
  const raw = body.objectOrEmpty('NetworkingConfig').raw('EndpointsConfig');
  return isRecord(raw) ? Object.keys(raw).map((name) => [name, config.objectOrEmpty(name)]) : [];
}

export function endpointsFromDocker(body: Fields): Readonly<Record<string, EndpointSpec>> {
  const out: Record<string, EndpointSpec> = {};
  for (const [name, config] of endpointFields(body)) out[name] = endpointFromDocker(config, true);
  const macAddress = body.text('MacAddress');
  if (macAddress === '') return out;
  const mode = body.objectOrEmpty('HostConfig').text('NetworkMode');
  const network = ['', 'default'].includes(mode) ? 'bridge' : mode;
  const named = Object.keys(out).length === 1 ? Object.keys(out)[0] : network;
  return { ...out, [named]: { ...(out[named] ?? NO_WISHES), macAddress: mac(body, macAddress) } };
}

/** Clients say it twice where the network is a user's. */
export function linksFromDocker(body: Fields): Pick<StandaloneSpec, 'links'> {
  const ofEndpoints = endpointFields(body).flatMap(([, config]) => config.texts('Links'));
  const given = [...body.objectOrEmpty('HostConfig').lines('Links'), ...ofEndpoints];
  const links = [...new Set(given)].map(parseLink);
  return links.length === 0 ? {} : { links };
}

/** Also the body of /networks/{id}/connect has one. */
export function endpointFromDocker(fields: Fields, mayLink = false): EndpointSpec {
  if (!mayLink && fields.texts('Links').length > 0) fields.refused('Links', 'use network aliases');
  fields.refuse('GwPriority');
  const driverOptions = fields.labels('DriverOpts');
  // What Docker's own drivers would act upon.
  const acting = Object.keys(driverOptions).find((name) => name.startsWith('com.docker.network.'));
  if (acting !== undefined) fields.refused(`DriverOpts.${acting}`);
  const ipam = fields.objectOrEmpty('IPAMConfig');
  if (ipam.texts('LinkLocalIPs').length > 0) ipam.refused('LinkLocalIPs');
  const macAddress = fields.text('MacAddress');
  return {
    aliases: fields.texts('Aliases'),
    address: ipam.text('IPv4Address'),
    address6: ipam.text('IPv6Address'),
    macAddress: macAddress === '' ? '' : mac(fields, macAddress),
    ...(Object.keys(driverOptions).length === 0 ? {} : { driverOptions }),
  };
}

function mac(fields: Fields, text: string): string {
  if (/^([0-9a-f]{2}[:-]){5}[0-9a-f]{2}$/i.test(text))
    return text.toLowerCase().replaceAll('-', ':');
  throw new SwarmError('invalid', `${fields.at('MacAddress')}: invalid MAC address: ${text}`);
}

/** '80', '80/udp', '8000-8002/tcp' -> '80/tcp' ... */
export function exposedFromDocker(body: Fields): readonly string[] {
  const raw = body.raw('ExposedPorts');
  if (raw === undefined) return [];
  if (!isRecord(raw))
    throw new SwarmError('invalid', `${body.at('ExposedPorts')} must be an object`);
  return Object.keys(raw).flatMap((text) => {
    const { first, last, protocol } = portRange(text, body.at('ExposedPorts'));
    return Array.from({ length: last - first + 1 }, (_, at) => `${first + at}/${protocol}`);
  });
}

function portRange(
  text: string,
  path: string,
): { first: number; last: number; protocol: 'tcp' | 'udp' } {
  const match = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(text);
  const first = Number(match?.[1] ?? 0);
  const last = Number(match?.[2] ?? first);
  const protocol = match?.[3] ?? 'tcp';
  if (protocol === 'sctp') {
    throw new SwarmError('unsupported', `${path}.${text}: sctp is not supported: use tcp or udp`);
  }
  if (match === null || first < 1 || last > PORT_MAX || last < first) {
    throw new SwarmError('invalid', `${path}: invalid port specification: "${text}"`);
  }
  if (protocol === 'tcp' || protocol === 'udp') return { first, last, protocol };
  throw new SwarmError('invalid', `${path}: invalid protocol: "${protocol}"`);
}

export function portsFromDocker(host: Fields): readonly PortRequest[] {
  const raw = host.raw('PortBindings');
  if (raw === undefined) return [];
  if (!isRecord(raw))
    throw new SwarmError('invalid', `${host.at('PortBindings')} must be an object`);
  const bindings = host.objectOrEmpty('PortBindings');
  return Object.keys(raw).flatMap((name) => {
    const { first, protocol } = portRange(name, bindings.path);
    const wanted = bindings.objects(name);
    const each = wanted.length === 0 ? [undefined] : wanted;
    return each.map((binding) => ({
      containerPort: first,
      protocol,
      hostAddress: hostAddress(binding),
      ...hostPorts(binding),
    }));
  });
}

function hostAddress(binding: Fields | undefined): string {
  const address = binding?.text('HostIp') ?? '';
  if (['', '0.0.0.0', '::'].includes(address)) return '';
  if (isIP(address) !== 0) return address;
  throw new SwarmError('invalid', `${binding?.at('HostIp')}: invalid IP address: ${address}`);
}

function hostPorts(binding: Fields | undefined): {
  hostPortFirst: number;
  hostPortLast: number;
} {
  const text = binding?.text('HostPort') ?? '';
  if (text === '' || text === '0') return { hostPortFirst: 0, hostPortLast: 0 };
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  const hostPortFirst = Number(match?.[1] ?? 0);
  const hostPortLast = Number(match?.[2] ?? hostPortFirst);
  if (
    match === null ||
    hostPortFirst < 1 ||
    hostPortLast > PORT_MAX ||
    hostPortLast < hostPortFirst
  ) {
    throw new SwarmError('invalid', `${binding?.at('HostPort')}: invalid port "${text}"`);
  }
  return { hostPortFirst, hostPortLast };
}

/** Published on every address shows as Docker shows it: for IPv4 and IPv6. */
export function portsToDocker(
  ports: readonly PublishedPort[],
  exposed: readonly string[],
): Record<string, object[] | null> {
  const out: Record<string, object[] | null> = Object.fromEntries(
    exposed.map((port) => [port, null]),
  );
  for (const port of ports) {
    const key = `${port.containerPort}/${port.protocol}`;
    const addresses = port.hostAddress === '' ? ['0.0.0.0', '::'] : [port.hostAddress];
    out[key] = [
      ...(out[key] ?? []),
      ...addresses.map((HostIp) => ({ HostIp, HostPort: String(port.hostPort) })),
    ];
  }
  return out;
}

/** As lists of containers have them. */
export function portListToDocker(
  ports: readonly PublishedPort[],
  exposed: readonly string[],
): object[] {
  const published = new Set(ports.map((port) => `${port.containerPort}/${port.protocol}`));
  const bare = exposed
    .filter((port) => !published.has(port))
    .map((port) => {
      const [number, protocol] = port.split('/');
      return { PrivatePort: Number(number), Type: protocol };
    });
  return [
    ...bare,
    ...ports.flatMap(({ containerPort, protocol, hostAddress: address, hostPort }) =>
      (address === '' ? ['0.0.0.0', '::'] : [address]).map((IP) => ({
        IP,
        PrivatePort: containerPort,
        PublicPort: hostPort,
        Type: protocol,
      })),
    ),
  ];
}

export function endpointToDocker(network: ContainerNetwork): object {
  const { spec } = network;
  const isStatic = spec.address !== '' || spec.address6 !== '';
  return {
    IPAMConfig: isStatic
      ? {
          ...(spec.address === '' ? {} : { IPv4Address: spec.address }),
          ...(spec.address6 === '' ? {} : { IPv6Address: spec.address6 }),
        }
      : null,
    Links: null,
    Aliases: spec.aliases.length === 0 ? null : spec.aliases,
    MacAddress: network.macAddress,
    DriverOpts: spec.driverOptions ?? null,
    GwPriority: 0,
    NetworkID: network.networkId,
    EndpointID: network.endpointId,
    Gateway: network.gateway,
    IPAddress: network.address,
    IPPrefixLen: network.prefixLength,
    IPv6Gateway: network.gateway6,
    GlobalIPv6Address: network.address6,
    GlobalIPv6PrefixLen: network.prefixLength6,
    DNSNames: network.dnsNames.length === 0 ? null : network.dnsNames,
  };
}

export function networkSettingsToDocker(view: ContainerView, exposed: readonly string[]): object {
  const { networks, container } = view;
  const bridge = networks.find((each) => each.networkName === 'bridge');
  const { networkNamespace } = container.config;
  const isRunning = container.state === 'running';
  return {
    Bridge: '',
    SandboxID: isRunning && typeof networkNamespace === 'object' ? container.config.id : '',
    SandboxKey: isRunning && typeof networkNamespace === 'object' ? networkNamespace.path : '',
    Ports: isRunning ? portsToDocker(view.ports, exposed) : {},
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge?.endpointId ?? '',
    Gateway: bridge?.gateway ?? '',
    GlobalIPv6Address: bridge?.address6 ?? '',
    GlobalIPv6PrefixLen: bridge?.prefixLength6 ?? 0,
    IPAddress: bridge?.address ?? '',
    IPPrefixLen: bridge?.prefixLength ?? 0,
    IPv6Gateway: bridge?.gateway6 ?? '',
    MacAddress: bridge?.macAddress ?? '',
    Networks: Object.fromEntries(
      networks.map((each) => [each.networkName, endpointToDocker(each)]),
    ),
  };
}
