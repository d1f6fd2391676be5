/** network: overlay networks of the swarm, and the host's own. */
import { BlockList, isIP } from 'node:net';
import { SwarmError } from '../base/errors.ts';
import { filtersText } from './client.ts';
import { addCommand, type Command, collect, refused } from './command.ts';
import { forEachName, parseFilters, type Run } from './context.ts';
import type { NetworkJson } from './docker.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  printList,
  printObjects,
} from './output/list.ts';
import { confirmPrune, printReclaimed } from './prune.ts';

interface CreateFlags {
  readonly driver: string;
  readonly subnet?: string[];
  readonly gateway?: string[];
  readonly ipRange?: string[];
  readonly auxAddress?: string[];
  readonly ipamDriver?: string;
  readonly ipamOpt?: string[];
  readonly internal?: boolean;
  readonly attachable?: boolean;
  readonly ingress?: boolean;
  readonly ipv4?: boolean;
  readonly ipv6?: boolean;
  readonly scope?: string;
  readonly label?: string[];
  readonly opt?: string[];
}

const ID_LENGTH = 12;

export function registerNetwork(program: Command, run: Run): void {
  const network = addCommand(program, 'network', 'networks that span hosts, and those of this one');
  registerCreate(network, run);
  registerUse(network, run);
  addCommand(network, 'ls', 'list them')
    .alias('list')
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
  addCommand(network, 'rm <network...>', 'remove networks')
    .alias('remove')
    .option('-f, --force', 'no error when there is none')
    .action((names: string[], flags: { force?: boolean }) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          try {
            await context.client.delete(`/networks/${encodeURIComponent(name)}`);
          } catch (error) {
            const isGone = error instanceof SwarmError && error.code === 'not_found';
            if (!isGone || flags.force !== true) throw error;
          }
          context.out.write(`${name}\n`);
        }),
      ),
    );
}

function registerCreate(network: Command, run: Run): void {
  const create = addCommand(network, 'create <name>', 'make a network')
    .option('-d, --driver <name>', 'overlay, or bridge for this host alone', 'overlay')
    .option('--subnet <cidr>', 'addresses of the network (default: from the pools)', collect)
    .option('--gateway <address>', 'the gateway of a subnet', collect)
    .option('--ip-range <cidr>', 'part of a subnet that addresses are taken from', collect)
    .option('--aux-address <name=address>', 'an address that is never given', collect)
    .option('--internal', 'no way to the outside')
    .option('--attachable', 'containers outside services may use it')
    .option('--ingress', 'the network of published ports')
    .option('--ipv4', 'also IPv4, which is the default')
    .option('--no-ipv4', 'without IPv4')
    .option('--ipv6', 'also IPv6')
    .option('--scope <word>', 'swarm, or local for this host alone')
    .option('--ipam-driver <name>', 'only default')
    .option('--ipam-opt <key=value>', 'options of the address driver', collect)
    .option('--label <key=value>', 'may be repeated', collect)
    .option('-o, --opt <key=value>', 'options of the driver; may be repeated', collect);
  const why = 'write the settings of each network with its own create';
  refused(create, '--config-from <network>', why);
  refused(create, '--config-only', why);
  create.action((name: string, flags: CreateFlags) =>
    run(async (context) => {
      const body = networkJson(name, flags);
      const made = await context.client.post<{ Id: string; Warning?: string }>(
        '/networks/create',
        body,
      );
      if ((made.Warning ?? '') !== '') context.err.write(`warning: ${made.Warning}\n`);
      context.out.write(`${made.Id}\n`);
    }),
  );
}

interface ConnectFlags {
  readonly alias?: string[];
  readonly driverOpt?: string[];
  readonly ip?: string;
  readonly ip6?: string;
  readonly gwPriority?: string;
}

function registerUse(network: Command, run: Run): void {
  const connect = addCommand(network, 'connect <network> <container>', 'put a container on one')
    .option('--alias <name>', 'a further name of it there; may be repeated', collect)
    .option('--driver-opt <key=value>', 'options of the driver; may be repeated', collect)
    .option('--gw-priority <number>', 'the network of the highest gives the way out')
    .option('--ip <address>', 'its IPv4 address there')
    .option('--ip6 <address>', 'its IPv6 address there');
  refused(connect, '--link <container>', 'containers of a network find each other by name');
  refused(connect, '--link-local-ip <address>', 'link-local addresses cannot be given');
  connect.action((name: string, container: string, flags: ConnectFlags) =>
    run(async (context) => {
      await context.client.post(`/networks/${encodeURIComponent(name)}/connect`, {
        Container: container,
        EndpointConfig: {
          IPAMConfig: { IPv4Address: flags.ip, IPv6Address: flags.ip6 },
          Aliases: flags.alias,
          DriverOpts: flags.driverOpt === undefined ? undefined : pairs(flags.driverOpt),
          GwPriority: flags.gwPriority === undefined ? undefined : Number(flags.gwPriority),
        },
      });
    }),
  );
  addCommand(network, 'disconnect <network> <container>', 'take a container off one')
    .option('-f, --force', 'even if it does not run')
    .action((name: string, container: string, flags: { force?: boolean }) =>
      run(async (context) => {
        const path = `/networks/${encodeURIComponent(name)}/disconnect`;
        await context.client.post(path, { Container: container, Force: flags.force === true });
      }),
    );
  addCommand(network, 'prune', 'remove networks that nothing uses')
    .option('-f, --force', 'do not ask')
    .option('--filter <key=value>', 'until, label', collect)
    .action((flags: { force?: boolean; filter?: string[] }) =>
      run(async (context) => {
        const warning = 'This will remove all custom networks not used by at least one container.';
        await confirmPrune(context, warning, flags.force);
        const done = await context.client.post<{ NetworksDeleted: string[] | null }>(
          '/networks/prune',
          undefined,
          { filters: filtersText(parseFilters(flags.filter)) },
        );
        printReclaimed(context, 'Deleted Networks', done.NetworksDeleted);
      }),
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

interface Pool {
  readonly Subnet: string;
  Gateway?: string;
  IPRange?: string;
  AuxiliaryAddresses?: Record<string, string>;
}

function contains(subnet: string, address: string): boolean {
  const [base, bits] = subnet.split('/');
  const family = base.includes(':') ? 'ipv6' : 'ipv4';
  const [plain] = address.split('/');
  if (isIP(base) === 0 || isIP(plain) !== isIP(base)) return false;
  const block = new BlockList();
  block.addSubnet(base, Number(bits), family);
  return block.check(plain, family);
}

/** Each gateway, range and address goes with the subnet that it is in. */
function pools(flags: CreateFlags): Pool[] {
  const all = (flags.subnet ?? [])
    .flatMap((text) => text.split(','))
    .map((Subnet): Pool => {
      const [base, bits = ''] = Subnet.split('/');
      if (isIP(base) === 0 || !/^\d+$/.test(bits)) {
        throw new SwarmError('invalid', `--subnet: "${Subnet}" is no subnet: write 10.5.0.0/24`);
      }
      return { Subnet };
    });
  const poolOf = (flag: string, address: string): Pool => {
    const pool = all.find((item) => contains(item.Subnet, address));
    if (pool !== undefined) return pool;
    if (all.length === 0) throw new SwarmError('invalid', `${flag} needs a --subnet`);
    throw new SwarmError('invalid', `${flag}: "${address}" is in no --subnet`);
  };
  for (const gateway of flags.gateway ?? []) poolOf('--gateway', gateway).Gateway = gateway;
  for (const range of flags.ipRange ?? []) poolOf('--ip-range', range).IPRange = range;
  for (const [name, address] of Object.entries(pairs(flags.auxAddress ?? []))) {
    const pool = poolOf('--aux-address', address);
    pool.AuxiliaryAddresses = { ...pool.AuxiliaryAddresses, [name]: address };
  }
  return all;
}

function networkJson(name: string, flags: CreateFlags): object {
  const Config = pools(flags);
  const isPlain = Config.length === 0 && flags.ipamDriver === undefined;
  return {
    Name: name,
    Driver: flags.driver,
    Internal: flags.internal === true,
    Attachable: flags.attachable === true,
    Ingress: flags.ingress === true,
    EnableIPv4: flags.ipv4,
    EnableIPv6: flags.ipv6 === true,
    Scope: flags.scope,
    Labels: pairs(flags.label ?? []),
    Options: pairs(flags.opt ?? []),
    IPAM: isPlain
      ? undefined
      : {
          Driver: flags.ipamDriver ?? 'default',
          Options: flags.ipamOpt === undefined ? undefined : pairs(flags.ipamOpt),
          Config,
        },
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
