/** network: overlay networks of the swarm, and the host's own. */
import { SwarmError } from '../base/errors.ts';
import { filtersText } from './client.ts';
import { addCommand, type Command, collect } from './command.ts';
import { forEachName, parseFilters, type Run } from './context.ts';
import type { NetworkJson } from './docker.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  printList,
  printObjects,
} from './output/list.ts';

interface CreateFlags {
  readonly driver: string;
  readonly subnet?: string;
  readonly gateway?: string;
  readonly ipRange?: string;
  readonly internal?: boolean;
  readonly attachable?: boolean;
  readonly ipv6?: boolean;
  readonly label?: string[];
  readonly opt?: string[];
}

const ID_LENGTH = 12;

export function registerNetwork(program: Command, run: Run): void {
  const network = addCommand(program, 'network', 'networks that span hosts');
  addCommand(network, 'create <name>', 'make an overlay network')
    .option('-d, --driver <name>', 'only overlay', 'overlay')
    .option('--subnet <cidr>', 'addresses of the network (default: from the swarm’s pools)')
    .option('--gateway <address>', 'its gateway')
    .option('--ip-range <cidr>', 'part of the subnet that tasks get addresses from')
    .option('--internal', 'no way to the outside')
    .option('--attachable', 'containers outside services may use it')
    .option('--ipv6', 'also IPv6')
    .option('--label <key=value>', 'may be repeated', collect)
    .option('-o, --opt <key=value>', 'options of the driver; may be repeated', collect)
    .action((name: string, flags: CreateFlags) =>
      run(async (context) => {
        const created = await context.client.post<{ Id: string }>(
          '/networks/create',
          networkJson(name, flags),
        );
        context.out.write(`${created.Id}\n`);
      }),
    );
  addCommand(network, 'ls', 'list them')
    .option('-f, --filter <key=value>', 'id, name, driver, scope, label, type', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((flags: ListOptions & { filter?: string[]; trunc: boolean }) =>
      run(async (context) => {
        const query = { filters: filtersText(parseFilters(flags.filter)) };
        const networks = await context.client.get<NetworkJson[]>('/networks', query);
        networks.sort((left, right) => (left.Name < right.Name ? -1 : 1));
        const id = (item: NetworkJson): string =>
          flags.trunc ? item.Id.slice(0, ID_LENGTH) : item.Id;
        printList(context, networks, columns(id), flags, id);
      }),
    );
  addCommand(network, 'inspect <network...>', 'details of networks')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('-v, --verbose', 'tasks of all hosts')
    .action((names: string[], flags: InspectFlags & { verbose?: boolean }) =>
      run(async (context) => {
        const found: unknown[] = [];
        await forEachName(context, names, async (name) => {
          const query = { verbose: flags.verbose === true };
          found.push(await context.client.get(`/networks/${encodeURIComponent(name)}`, query));
        });
        printObjects(context, found, flags);
      }),
    );
  addCommand(network, 'rm <network...>', 'remove networks').action((names: string[]) =>
    run((context) =>
      forEachName(context, names, async (name) => {
        await context.client.delete(`/networks/${encodeURIComponent(name)}`);
        context.out.write(`${name}\n`);
      }),
    ),
  );
}

function columns(id: (item: NetworkJson) => string): Column<NetworkJson>[] {
  return [
    { header: 'NETWORK ID', field: 'ID', value: id },
    { header: 'NAME', field: 'Name', value: (item) => item.Name },
    { header: 'DRIVER', field: 'Driver', value: (item) => item.Driver },
    { header: 'SCOPE', field: 'Scope', value: (item) => item.Scope },
    { header: 'IPV6', field: 'IPv6', hidden: true, value: (item) => String(item.EnableIPv6) },
    { header: 'INTERNAL', field: 'Internal', hidden: true, value: (item) => String(item.Internal) },
    { header: 'CREATED', field: 'CreatedAt', hidden: true, value: (item) => item.Created },
  ];
}

function networkJson(name: string, flags: CreateFlags): object {
  if (flags.subnet === undefined && (flags.gateway ?? flags.ipRange) !== undefined) {
    throw new SwarmError('invalid', '--gateway and --ip-range need a --subnet');
  }
  const pool = { Subnet: flags.subnet, Gateway: flags.gateway, IPRange: flags.ipRange };
  return {
    Name: name,
    Driver: flags.driver,
    Internal: flags.internal === true,
    Attachable: flags.attachable === true,
    EnableIPv6: flags.ipv6 === true,
    Labels: pairs(flags.label ?? []),
    Options: pairs(flags.opt ?? []),
    IPAM: flags.subnet === undefined ? undefined : { Config: [pool] },
  };
}

/** 'key=value' texts -> an object; a text without '=' has the value ''. */
export function pairs(texts: readonly string[]): Record<string, string> {
  const out: Record<string, string> = {};
  for (const text of texts) {
    const equals = text.indexOf('=');
    out[equals < 0 ? text : text.slice(0, equals)] = equals < 0 ? '' : text.slice(equals + 1);
  }
  return out;
}
