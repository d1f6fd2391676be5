/** volume: named volumes of the daemon's host. */
import { filtersText } from './client.ts';
import { addCommand, type Command, collect, refused } from './command.ts';
import { type Context, forEachName, parseFilters, type Run } from './context.ts';
import { pairs } from './network.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  pairsText,
  printList,
  printObjects,
} from './output/list.ts';
import { confirmPrune, printReclaimed } from './prune.ts';
import { refuseCommand } from './refused.ts';

interface VolumeJson {
  readonly Name: string;
  readonly Driver: string;
  readonly Mountpoint: string;
  readonly Scope: string;
  readonly Labels: Readonly<Record<string, string>> | null;
}

const CLUSTER = 'cluster volumes (CSI) are not supported: make a volume of a driver, without it';

export function registerVolume(program: Command, run: Run): void {
  const volume = addCommand(program, 'volume', 'named volumes of this host');
  const create = addCommand(volume, 'create [name]', 'make a volume (default: a made-up name)')
    .option('-d, --driver <name>', 'only local', 'local')
    .option('--label <key=value>', 'may be repeated', collect)
    .option('-o, --opt <key=value>', 'options of the driver; may be repeated', collect);
  for (const flag of [
    ...['availability', 'group', 'limit-bytes', 'required-bytes', 'scope', 'secret', 'sharing'],
    ...['topology-preferred', 'topology-required', 'type'],
  ]) {
    refused(create, `--${flag} <value>`, CLUSTER);
  }
  create.action(
    (name: string | undefined, flags: { driver: string; label?: string[]; opt?: string[] }) =>
      run(async (context) => {
        const made = await context.client.post<VolumeJson>('/volumes/create', {
          Name: name ?? '',
          Driver: flags.driver,
          Labels: pairs(flags.label ?? []),
          DriverOpts: pairs(flags.opt ?? []),
        });
        context.out.write(`${made.Name}\n`);
      }),
  );
  refuseCommand(volume, run, 'update', CLUSTER);
  const ls = addCommand(volume, 'ls', 'list them')
    .alias('list')
    .option('-f, --filter <key=value>', 'name, driver, label, dangling', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-q, --quiet', 'only names')
    .option('--json', 'the API’s objects')
    .action((flags: ListOptions & { filter?: string[] }) => run((context) => list(context, flags)));
  refused(ls, '--cluster', CLUSTER);
  addCommand(volume, 'inspect <volume...>', 'details of volumes')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .action((names: string[], flags: InspectFlags) =>
      run(async (context) => {
        const found: unknown[] = [];
        await forEachName(context, names, async (name) => {
          found.push(await context.client.get(`/volumes/${encodeURIComponent(name)}`));
        });
        printObjects(context, found, flags);
      }),
    );
  addCommand(volume, 'rm <volume...>', 'remove volumes and what is in them')
    .alias('remove')
    .option('-f, --force', 'no error when there is none')
    .action((names: string[], flags: { force?: boolean }) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          const query = { force: flags.force === true };
          await context.client.delete(`/volumes/${encodeURIComponent(name)}`, query);
          context.out.write(`${name}\n`);
        }),
      ),
    );
  addCommand(volume, 'prune', 'remove volumes that no container uses')
    .option('-a, --all', 'named ones too, not only those without a name')
    .option('-f, --force', 'do not ask')
    .option('--filter <key=value>', 'label, label!', collect)
    .action((flags: { all?: boolean; force?: boolean; filter?: string[] }) =>
      run(async (context) => {
        const what = flags.all === true ? 'all' : 'all anonymous';
        const warning = `This will remove ${what} local volumes that no container uses.`;
        await confirmPrune(context, warning, flags.force);
        const filters = parseFilters(flags.filter);
        if (flags.all === true) filters.all = ['true'];
        const done = await context.client.post<{
          VolumesDeleted: string[] | null;
          SpaceReclaimed: number;
        }>('/volumes/prune', undefined, { filters: filtersText(filters) });
        printReclaimed(context, 'Deleted Volumes', done.VolumesDeleted, done.SpaceReclaimed);
      }),
    );
}

async function list(
  context: Context,
  flags: ListOptions & { readonly filter?: readonly string[] },
): Promise<void> {
  const query = { filters: filtersText(parseFilters(flags.filter)) };
  const answer = await context.client.get<{ Volumes: VolumeJson[] | null }>('/volumes', query);
  const volumes = [...(answer.Volumes ?? [])].sort((left, right) =>
    left.Name < right.Name ? -1 : 1,
  );
  const columns: Column<VolumeJson>[] = [
    { header: 'DRIVER', field: 'Driver', value: (item) => item.Driver },
    { header: 'VOLUME NAME', field: 'Name', value: (item) => item.Name },
    { header: 'SCOPE', field: 'Scope', hidden: true, value: (item) => item.Scope },
    { header: 'MOUNTPOINT', field: 'Mountpoint', hidden: true, value: (item) => item.Mountpoint },
    {
      header: 'LABELS',
      field: 'Labels',
      hidden: true,
      value: (item) => pairsText(item.Labels),
    },
  ];
  printList(context, volumes, columns, flags, (item) => item.Name);
}
