/** The request that makes a container: its shape, and the parts of it that several flags share. */
import { SwarmError } from '../../base/errors.ts';
import { csvFields } from '../service/mount.ts';
import { parsePublish } from '../service/parse.ts';

export interface EndpointBody {
  Aliases?: string[];
  IPAMConfig?: { IPv4Address?: string; IPv6Address?: string };
  MacAddress?: string;
  DriverOpts?: Record<string, string>;
  GwPriority?: number;
}

export interface CreateBody {
  Image: string;
  Cmd?: string[];
  Entrypoint?: string[];
  Env?: string[];
  Labels?: Record<string, string>;
  Hostname?: string;
  Domainname?: string;
  User?: string;
  WorkingDir?: string;
  StopSignal?: string;
  StopTimeout?: number;
  Tty?: boolean;
  OpenStdin?: boolean;
  StdinOnce?: boolean;
  AttachStdin?: boolean;
  AttachStdout?: boolean;
  AttachStderr?: boolean;
  Healthcheck?: object;
  ExposedPorts?: Record<string, object>;
  Volumes?: Record<string, object>;
  HostConfig: Record<string, unknown>;
  /** What --ip, --network-alias and the like say of the first network. Not sent as it is. */
  endpoint: EndpointBody;
  /** By network, in order. Not sent as it is. */
  networks: Map<string, EndpointBody>;
}

export function newBody(image: string, command: readonly string[]): CreateBody {
  return {
    Image: image,
    ...(command.length === 0 ? {} : { Cmd: [...command] }),
    HostConfig: {},
    endpoint: {},
    networks: new Map(),
  };
}

/** 'front' or 'name=front,alias=web,ip=10.0.0.5,driver-opt=key=value'. */
export function addNetwork(body: CreateBody, text: string): void {
  if (!text.includes('=')) {
    body.networks.set(text, {});
    return;
  }
  const endpoint: EndpointBody = {};
  let network = '';
  for (const [name, value] of csvFields(text)) {
    if (name === 'name') network = value;
    else if (name === 'alias') endpoint.Aliases = [...(endpoint.Aliases ?? []), value];
    else if (name === 'ip') endpoint.IPAMConfig = { ...endpoint.IPAMConfig, IPv4Address: value };
    else if (name === 'ip6') endpoint.IPAMConfig = { ...endpoint.IPAMConfig, IPv6Address: value };
    else if (name === 'mac-address') endpoint.MacAddress = value;
    else if (name === 'gw-priority') endpoint.GwPriority = Number(value);
    else if (name === 'driver-opt') {
      const [key, ...rest] = value.split('=');
      endpoint.DriverOpts = { ...endpoint.DriverOpts, [key]: rest.join('=') };
    } else {
      const known = 'name, alias, ip, ip6, mac-address, driver-opt, gw-priority';
      throw new SwarmError('invalid', `"${name}" is not supported: use ${known}`);
    }
  }
  if (network === '') throw new SwarmError('invalid', `"${text}": name is missing`);
  body.networks.set(network, endpoint);
}

interface Binding {
  readonly HostIp: string;
  readonly HostPort: string;
}

/** '8080:80', '127.0.0.1::80', '8000-8005:80' (any free one), '80/udp'. */
export function addPublish(body: CreateBody, text: string): void {
  const bindings = { ...(body.HostConfig.PortBindings as Record<string, Binding[]>) };
  const put = (target: string, binding: Binding): void => {
    bindings[target] = [...(bindings[target] ?? []), binding];
    body.ExposedPorts = { ...body.ExposedPorts, [target]: {} };
  };
  // A range on the host for one port: any of them.
  const choice = /^((?:\[[^\]]+\]|[\d.]+):)?(\d+-\d+):(\d+)(\/\w+)?$/.exec(text);
  if (choice !== null) {
    const HostIp = (choice[1] ?? '').replace(/:$/, '').replace(/^\[|\]$/g, '');
    put(`${choice[3]}${choice[4] ?? '/tcp'}`, { HostIp, HostPort: choice[2] });
  } else {
    for (const port of parsePublish(text)) {
      put(`${port.TargetPort}/${port.Protocol}`, {
        HostIp: port.HostIP ?? '',
        HostPort: port.PublishedPort === undefined ? '' : String(port.PublishedPort),
      });
    }
  }
  body.HostConfig.PortBindings = bindings;
}

/** What is sent: the networks in the API's form. */
export function bodyJson({ endpoint, networks, ...body }: CreateBody): object {
  const [first] = networks.keys();
  const isAsked = Object.keys(endpoint).length > 0;
  if (first !== undefined) networks.set(first, { ...networks.get(first), ...endpoint });
  else if (isAsked) networks.set('default', endpoint);
  return {
    ...body,
    HostConfig: { ...body.HostConfig, NetworkMode: first ?? 'default' },
    NetworkingConfig: { EndpointsConfig: Object.fromEntries(networks) },
  };
}
