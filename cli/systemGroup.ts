/** system df, info, events, prune; and inspect of anything by name or id. */
import { formatSize } from '../base/bytes.ts';
import { SwarmError } from '../base/errors.ts';
import { filtersText } from './client.ts';
import { addCommand, type Command, collect } from './command.ts';
import { type Context, forEachName, parseFilters, type Run } from './context.ts';
import {
  type Column,
  type InspectFlags,
  printList,
  printObjects,
  tableText,
} from './output/list.ts';
import { confirmPrune, printReclaimed } from './prune.ts';
import { refuseCommand } from './refused.ts';
import { registerEvents, registerInfo } from './system.ts';

export function registerSystem(program: Command, run: Run): void {
  const system = addCommand(program, 'system', 'the daemon: what it holds, events, clearing up');
  registerInfo(system, run);
  registerEvents(system, run);
  const stdio = 'name the daemon with -H or TSSWARM_HOST; over ssh, run tsswarm there';
  refuseCommand(system, run, 'dial-stdio', stdio);
  addCommand(system, 'df', 'what takes how much of the disk')
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-v, --verbose', 'each thing')
    .option('--json', 'the API’s object')
    .action((flags: DfFlags) => run((context) => df(context, flags)));
  addCommand(system, 'prune', 'remove what nothing uses')
    .option('-a, --all', 'images with a name too')
    .option('-f, --force', 'do not ask')
    .option('--filter <key=value>', 'until, label', collect)
    .option('--volumes', 'volumes without a name too')
    .action((flags: PruneFlags) => run((context) => prune(context, flags)));
}

interface DfFlags {
  readonly format?: string;
  readonly verbose?: boolean;
  readonly json?: boolean;
}

interface UsageJson {
  readonly LayersSize?: number;
  readonly Images?: readonly {
    readonly Id: string;
    readonly RepoTags: readonly string[] | null;
    readonly Size: number;
    readonly SharedSize: number;
    readonly Containers: number;
  }[];
  readonly Containers?: readonly {
    readonly Id: string;
    readonly Names: readonly string[];
    readonly Image: string;
    readonly State: string;
    readonly Status: string;
    readonly SizeRw?: number;
  }[];
  readonly Volumes?: readonly {
    readonly Name: string;
    readonly UsageData?: { readonly Size: number; readonly RefCount: number } | null;
  }[];
}

interface UsageRow {
  readonly type: string;
  readonly total: number;
  readonly active: number;
  readonly size: number;
  readonly reclaimable: number;
}

/** A size that is not known is -1. */
function sum(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total + Math.max(size, 0), 0);
}

function usage(found: UsageJson): UsageRow[] {
  const { Images, Containers, Volumes } = found;
  const images = Images ?? [];
  const containers = Containers ?? [];
  const volumes = Volumes ?? [];
  const used = images.filter((image) => image.Containers > 0);
  const imageBytes = found.LayersSize ?? sum(images.map((image) => image.Size));
  const isActive = (state: string): boolean => ['running', 'paused', 'restarting'].includes(state);
  const idle = containers.filter((item) => !isActive(item.State));
  const free = volumes.filter((volume) => (volume.UsageData?.RefCount ?? 0) === 0);
  const rw = (list: typeof containers): number => sum(list.map((item) => item.SizeRw ?? 0));
  const held = (list: typeof volumes): number =>
    sum(list.map((volume) => volume.UsageData?.Size ?? 0));
  return [
    {
      type: 'Images',
      total: images.length,
      active: used.length,
      size: imageBytes,
      reclaimable: Math.max(imageBytes - sum(used.map((image) => image.Size)), 0),
    },
    {
      type: 'Containers',
      total: containers.length,
      active: containers.length - idle.length,
      size: rw(containers),
      reclaimable: rw(idle),
    },
    {
      type: 'Local Volumes',
      total: volumes.length,
      active: volumes.length - free.length,
      size: held(volumes),
      reclaimable: held(free),
    },
    { type: 'Build Cache', total: 0, active: 0, size: 0, reclaimable: 0 },
  ];
}

function reclaimText({ size, reclaimable }: UsageRow): string {
  const percent = size === 0 ? '' : ` (${Math.floor((reclaimable / size) * 100)}%)`;
  return `${formatSize(reclaimable)}${percent}`;
}

async function df(context: Context, flags: DfFlags): Promise<void> {
  const found = await context.client.get<UsageJson>('/system/df');
  if (flags.json === true) {
    context.out.write(`${JSON.stringify(found, undefined, 2)}\n`);
    return;
  }
  if (flags.verbose === true) {
    context.out.write(verbose(found));
    return;
  }
  const columns: Column<UsageRow>[] = [
    { header: 'TYPE', field: 'Type', value: (row) => row.type },
    { header: 'TOTAL', field: 'TotalCount', value: (row) => String(row.total) },
    { header: 'ACTIVE', field: 'Active', value: (row) => String(row.active) },
    { header: 'SIZE', field: 'Size', value: (row) => formatSize(row.size) },
    { header: 'RECLAIMABLE', field: 'Reclaimable', value: reclaimText },
  ];
  printList(context, usage(found), columns, flags, (row) => row.type);
}

const ID_LENGTH = 12;

function verbose({ Images, Containers, Volumes }: UsageJson): string {
  const images = (Images ?? []).map((image) => [
    image.RepoTags?.[0] ?? '<none>',
    image.Id.replace('sha256:', '').slice(0, ID_LENGTH),
    formatSize(image.Size),
    formatSize(Math.max(image.SharedSize, 0)),
    String(Math.max(image.Containers, 0)),
  ]);
  const containers = (Containers ?? []).map((item) => [
    item.Id.slice(0, ID_LENGTH),
    item.Image,
    formatSize(item.SizeRw ?? 0),
    item.Status,
    item.Names.map((name) => name.replace(/^\//, '')).join(','),
  ]);
  const volumes = (Volumes ?? []).map((volume) => [
    volume.Name,
    String(volume.UsageData?.RefCount ?? 0),
    formatSize(Math.max(volume.UsageData?.Size ?? 0, 0)),
  ]);
  const tables: readonly (readonly [string, readonly string[], readonly string[][]])[] = [
    ['Images', ['IMAGE', 'IMAGE ID', 'SIZE', 'SHARED SIZE', 'CONTAINERS'], images],
    ['Containers', ['CONTAINER ID', 'IMAGE', 'SIZE', 'STATUS', 'NAMES'], containers],
    ['Local Volumes', ['VOLUME NAME', 'LINKS', 'SIZE'], volumes],
  ];
  return tables
    .map(([title, header, rows]) => `${title} space usage:\n\n${tableText([header, ...rows])}\n`)
    .join('');
}

interface PruneFlags {
  readonly all?: boolean;
  readonly force?: boolean;
  readonly filter?: readonly string[];
  readonly volumes?: boolean;
}

async function prune(context: Context, flags: PruneFlags): Promise<void> {
  const what = [
    '  - all stopped containers',
    '  - all networks not used by at least one container',
    ...(flags.volumes === true
      ? ['  - all anonymous volumes not used by at least one container']
      : []),
    flags.all === true
      ? '  - all images without at least one container associated to them'
      : '  - all dangling images',
  ];
  const warning = `This will remove:\n${what.join('\n')}\n`;
  await confirmPrune(context, warning, flags.force);
  const filters = parseFilters(flags.filter);
  interface Pruned {
    readonly ContainersDeleted?: string[] | null;
    readonly NetworksDeleted?: string[] | null;
    readonly VolumesDeleted?: string[] | null;
    readonly ImagesDeleted?: { Untagged?: string; Deleted?: string }[] | null;
    readonly SpaceReclaimed?: number;
  }
  const post = (path: string, more: Record<string, string[]> = {}): Promise<Pruned> =>
    context.client.post(path, undefined, { filters: filtersText({ ...filters, ...more }) });
  let bytes = 0;
  const told = (title: string, names: string[] | null | undefined, one: Pruned): void => {
    printReclaimed(context, title, names ?? null);
    bytes += one.SpaceReclaimed ?? 0;
  };
  const containers = await post('/containers/prune');
  told('Deleted Containers', containers.ContainersDeleted, containers);
  const networks = await post('/networks/prune');
  told('Deleted Networks', networks.NetworksDeleted, networks);
  if (flags.volumes === true) {
    const volumes = await post('/volumes/prune');
    told('Deleted Volumes', volumes.VolumesDeleted, volumes);
  }
  const images = await post('/images/prune', { dangling: [String(flags.all !== true)] });
  const lines = (images.ImagesDeleted ?? []).map(({ Untagged, Deleted }) =>
    Untagged === undefined ? `deleted: ${Deleted}` : `untagged: ${Untagged}`,
  );
  told('Deleted Images', lines, images);
  context.out.write(`Total reclaimed space: ${formatSize(bytes)}\n`);
}

/** In this order, as docker looks. */
const KINDS: Readonly<Record<string, (name: string) => string>> = {
  container: (name) => `/containers/${name}/json`,
  image: (name) => `/images/${name}/json`,
  network: (name) => `/networks/${name}`,
  volume: (name) => `/volumes/${name}`,
  service: (name) => `/services/${name}`,
  task: (name) => `/tasks/${name}`,
  node: (name) => `/nodes/${name}`,
  secret: (name) => `/secrets/${name}`,
  config: (name) => `/configs/${name}`,
};

export function registerInspect(program: Command, run: Run): void {
  addCommand(program, 'inspect <name...>', 'details of anything, by name or id')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('-s, --size', 'sizes of containers')
    .option('--type <kind>', Object.keys(KINDS).join(', '))
    .action((names: string[], flags: InspectFlags & { size?: boolean; type?: string }) =>
      run(async (context) => {
        const { type } = flags;
        if (type !== undefined && !Object.hasOwn(KINDS, type)) {
          const known = Object.keys(KINDS).join(', ');
          throw new SwarmError('invalid', `--type: "${type}" is none of ${known}`);
        }
        const found: unknown[] = [];
        await forEachName(context, names, async (name) => {
          found.push(await find(context, name, type, flags.size));
        });
        printObjects(context, found, flags);
      }),
    );
}

async function find(
  context: Context,
  name: string,
  type: string | undefined,
  size: boolean | undefined,
): Promise<unknown> {
  for (const kind of type === undefined ? Object.keys(KINDS) : [type]) {
    try {
      return await context.client.get(KINDS[kind](encodeURIComponent(name)), { size });
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error;
      // A worker does not know what only managers do: it may still be of another kind.
      const isElsewhere = error.code === 'unavailable' && type === undefined;
      if (error.code !== 'not_found' && !isElsewhere) throw error;
    }
  }
  throw new SwarmError('not_found', `no such object: ${name}`);
}
