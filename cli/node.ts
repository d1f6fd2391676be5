/** node: the hosts of the swarm. */
import { formatBytes } from '../base/bytes.ts';
import { messageOf, SwarmError } from '../base/errors.ts';
import { filtersText, type Query } from './client.ts';
import { addCommand, type Command, collect } from './command.ts';
import { type Context, forEachName, parseFilters, patiently, type Run } from './context.ts';
import type { InfoJson, NodeJson, NodeSpecJson, TaskJson } from './docker.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  pairsText,
  prettyText,
  printList,
  printObjects,
} from './output/list.ts';
import { printTasks, type TaskListOptions, titled } from './tasks.ts';

interface ListFlags extends ListOptions {
  readonly filter?: string[];
}

export function registerNode(program: Command, run: Run): void {
  const node = addCommand(program, 'node', 'the hosts of the swarm');
  addCommand(node, 'ls', 'list them')
    .alias('list')
    .option('-f, --filter <key=value>', 'id, name, label, role, membership, node.label', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((flags: ListFlags) => run((context) => list(context, flags)));
  addCommand(node, 'inspect [node...]', 'details of hosts (default: this one)')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('--pretty', 'for people')
    .action((names: string[], flags: InspectFlags) =>
      run((context) => inspect(context, names, flags)),
    );
  addCommand(node, 'ps [node...]', 'tasks on hosts (default: this one)')
    .option('-f, --filter <key=value>', 'id, name, desired-state', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-resolve', 'ids instead of names')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((names: string[], flags: PsFlags) => run((context) => ps(context, names, flags)));
  addCommand(node, 'update <node>', 'change a host')
    .option('--availability <word>', 'active, pause or drain')
    .option('--label-add <key=value>', 'add or change a label', collect)
    .option('--label-rm <key>', 'remove a label', collect)
    .option('--role <word>', 'worker or manager')
    .action((name: string, flags: UpdateFlags) =>
      run(async (context) => {
        await change(context, name, (spec) => apply(spec, flags));
        context.out.write(`${name}\n`);
      }),
    );
  registerRoles(node, run);
}

interface RoleFlags {
  readonly detach?: boolean;
  readonly replace?: string;
}

function registerRoles(node: Command, run: Run): void {
  const roles = [
    ['promote', 'manager', 'make hosts managers'],
    ['demote', 'worker', 'make managers workers'],
  ] as const;
  for (const [word, role, about] of roles) {
    const command = addCommand(node, `${word} <node...>`, about);
    if (word === 'promote') {
      command.option('--replace <manager>', 'which becomes a worker in the same step');
    }
    command
      .option('-d, --detach', 'do not wait until it has happened')
      .action((names: string[], flags: RoleFlags) =>
        run((context) =>
          forEachName(context, names, async (name) => {
            if (flags.replace !== undefined && names.length > 1) {
              throw new SwarmError('invalid', '--replace goes with one node to be promoted');
            }
            const query = flags.replace === undefined ? {} : { replace: flags.replace };
            const edit = (spec: NodeSpecJson): boolean => {
              if (spec.Role === role) return false;
              spec.Role = role;
              return true;
            };
            const done = await change(context, name, edit, query);
            if (done && flags.detach !== true) await roleReached(context, name, role);
            if (flags.replace !== undefined && flags.detach !== true) {
              await roleReached(context, flags.replace, 'worker');
            }
            const what = word === 'promote' ? 'promoted to a manager' : 'demoted to a worker';
            context.out.write(`Node ${name} ${done ? what : `is already a ${role}`}.\n`);
          }),
        ),
      );
  }
  addCommand(node, 'rm <node...>', 'forget hosts that are down')
    .alias('remove')
    .option('-f, --force', 'even if they are not down')
    .action((names: string[], flags: { force?: boolean }) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          const query = { force: flags.force === true };
          await context.client.delete(`/nodes/${encodeURIComponent(name)}`, query);
          context.out.write(`${name}\n`);
        }),
      ),
    );
}

function managerStatus(node: NodeJson): string {
  if (node.ManagerStatus === undefined) return '';
  return node.ManagerStatus.Leader === true ? 'Leader' : titled(node.ManagerStatus.Reachability);
}

function columns(selfId: string): Column<NodeJson>[] {
  return [
    { header: 'ID', field: 'ID', value: (node) => `${node.ID}${node.ID === selfId ? ' *' : ''}` },
    { header: 'HOSTNAME', field: 'Hostname', value: (node) => node.Description.Hostname },
    { header: 'STATUS', field: 'Status', value: (node) => titled(node.Status.State) },
    {
      header: 'AVAILABILITY',
      field: 'Availability',
      value: (node) => titled(node.Spec.Availability),
    },
    { header: 'MANAGER STATUS', field: 'ManagerStatus', value: managerStatus },
    {
      header: 'ENGINE VERSION',
      field: 'EngineVersion',
      value: (node) => node.Description.Engine.EngineVersion,
    },
    {
      header: 'TLS STATUS',
      field: 'TLSStatus',
      hidden: true,
      value: (node) => (node.Description.TLSInfo === undefined ? 'Unknown' : 'Ready'),
    },
    { header: 'SELF', field: 'Self', hidden: true, value: (node) => String(node.ID === selfId) },
  ];
}

async function list(context: Context, flags: ListFlags): Promise<void> {
  const { client } = context;
  const filters = filtersText(parseFilters(flags.filter));
  const [nodes, info] = await Promise.all([
    client.get<NodeJson[]>('/nodes', { filters }),
    client.get<InfoJson>('/info'),
  ]);
  nodes.sort((left, right) => (left.Description.Hostname < right.Description.Hostname ? -1 : 1));
  const table = flags.format === undefined || flags.format.startsWith('table');
  const shown = columns(info.Swarm.NodeID);
  if (!table) shown[0] = { header: 'ID', field: 'ID', value: (node) => node.ID };
  printList(context, nodes, shown, flags, (node) => node.ID);
}

/** 'self' and nothing mean the host of the daemon. */
async function named(context: Context, names: readonly string[]): Promise<string[]> {
  const wanted = names.length === 0 ? ['self'] : names;
  if (!wanted.includes('self')) return [...wanted];
  const info = await context.client.get<InfoJson>('/info');
  if (info.Swarm.NodeID === '') {
    throw new SwarmError(
      'not_found',
      'this host is part of no swarm: use "tsswarm init" or "join"',
    );
  }
  return wanted.map((name) => (name === 'self' ? info.Swarm.NodeID : name));
}

function getNode(context: Context, name: string): Promise<NodeJson> {
  return context.client.get<NodeJson>(`/nodes/${encodeURIComponent(name)}`);
}

async function inspect(
  context: Context,
  names: readonly string[],
  flags: InspectFlags,
): Promise<void> {
  const nodes: NodeJson[] = [];
  await forEachName(context, await named(context, names), async (name) => {
    nodes.push(await getNode(context, name));
  });
  if (flags.pretty !== true || flags.json === true) {
    printObjects(context, nodes, flags);
    return;
  }
  for (const node of nodes) context.out.write(`${pretty(node)}\n`);
}

const NANO = 1_000_000_000;

function pretty(node: NodeJson): string {
  const { Description, Spec, Status, ManagerStatus } = node;
  return prettyText([
    ['ID', node.ID],
    ['Labels', pairsText(Spec.Labels, ', ')],
    ['Hostname', Description.Hostname],
    ['Joined at', node.CreatedAt],
    ['State', titled(Status.State)],
    ['State message', Status.Message],
    ['Availability', titled(Spec.Availability)],
    ['Address', Status.Addr],
    ['Manager address', ManagerStatus?.Addr],
    ['Raft status', ManagerStatus === undefined ? '' : titled(ManagerStatus.Reachability)],
    ['Leader', ManagerStatus === undefined ? '' : ManagerStatus.Leader === true ? 'Yes' : 'No'],
    ['Platform', `${Description.Platform.OS}/${Description.Platform.Architecture}`],
    ['CPUs', Description.Resources.NanoCPUs / NANO],
    ['Memory', formatBytes(Description.Resources.MemoryBytes)],
    ['Engine version', Description.Engine.EngineVersion],
    ['Engine labels', pairsText(Description.Engine.Labels, ', ')],
    [
      'Plugins',
      (Description.Engine.Plugins ?? []).map((one) => `${one.Type}/${one.Name}`).join(' '),
    ],
    ['Issuer subject', Description.TLSInfo?.CertIssuerSubject],
    ['Issuer public key', Description.TLSInfo?.CertIssuerPublicKey],
    ['Root certificate', Description.TLSInfo?.TrustRoot?.trimEnd().replaceAll('\n', '\n  ')],
  ]);
}

interface PsFlags extends ListFlags, Omit<TaskListOptions, 'noTrunc' | 'noResolve'> {
  readonly resolve: boolean;
  readonly trunc: boolean;
}

async function ps(context: Context, names: readonly string[], flags: PsFlags): Promise<void> {
  const tasks: TaskJson[] = [];
  const filters = parseFilters(flags.filter);
  let found = 0;
  await forEachName(context, await named(context, names), async (name) => {
    const node = await getNode(context, name);
    const query = { filters: filtersText({ ...filters, node: [node.ID] }) };
    tasks.push(...(await context.client.get<TaskJson[]>('/tasks', query)));
    found += 1;
  });
  // Nothing was found: the errors have been told already.
  if (found === 0) return;
  const options = { ...flags, noTrunc: !flags.trunc, noResolve: !flags.resolve };
  await printTasks(context, tasks, options);
}

interface UpdateFlags {
  readonly availability?: string;
  readonly labelAdd?: string[];
  readonly labelRm?: string[];
  readonly role?: string;
}

function apply(spec: NodeSpecJson, flags: UpdateFlags): boolean {
  if (flags.availability !== undefined) {
    spec.Availability = flags.availability as NodeSpecJson['Availability'];
  }
  if (flags.role !== undefined) spec.Role = flags.role as NodeSpecJson['Role'];
  for (const key of flags.labelRm ?? []) {
    if (!Object.hasOwn(spec.Labels, key)) {
      throw new SwarmError('not_found', `the node has no label "${key}"`);
    }
    delete spec.Labels[key];
  }
  for (const label of flags.labelAdd ?? []) {
    const equals = label.indexOf('=');
    spec.Labels[equals < 0 ? label : label.slice(0, equals)] =
      equals < 0 ? '' : label.slice(equals + 1);
  }
  return true;
}

const RETRIES = 5;

/** Reads, changes and writes a node's specification; again when somebody else was faster. */
async function change(
  context: Context,
  name: string,
  edit: (spec: NodeSpecJson) => boolean,
  more: Query = {},
): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    const node = await getNode(context, name);
    const spec: NodeSpecJson = { ...node.Spec, Labels: { ...node.Spec.Labels } };
    if (!edit(spec)) return false;
    try {
      const query = { ...more, version: node.Version.Index };
      await context.client.post(`/nodes/${node.ID}/update`, spec, query);
      return true;
    } catch (error) {
      const stale = error instanceof SwarmError && error.message.includes('out of sequence');
      if (!stale || attempt === RETRIES) throw error;
    }
  }
}

/** A change of role takes a certificate, a restart of parts and a change of Raft's members. */
const ROLE_LIMIT_MS = 30_000;
const ROLE_POLL_MS = 100;

/** Waits until a node really is a manager that answers, or no longer one. */
async function roleReached(
  context: Context,
  name: string,
  role: 'worker' | 'manager',
): Promise<void> {
  const { clock } = context;
  const endMs = clock.nowMs() + ROLE_LIMIT_MS;
  while (!context.signal.aborted) {
    try {
      const { ManagerStatus } = await patiently(context, () => getNode(context, name));
      const isManager = ManagerStatus?.Reachability === 'reachable';
      if (role === 'manager' ? isManager : ManagerStatus === undefined) return;
    } catch (error) {
      // The daemon that is asked may be the one that stops being a manager.
      const outside = messageOf(error).includes('not a swarm manager');
      if (role === 'worker' && outside) return;
      throw error;
    }
    if (clock.nowMs() > endMs) {
      throw new SwarmError('timeout', `${name} is not a ${role} yet; "tsswarm node ls" shows it`);
    }
    await clock.sleep(ROLE_POLL_MS);
  }
}
