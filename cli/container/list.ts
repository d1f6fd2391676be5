/** container ls (ps): the containers of the daemon's host, those of tasks among them. */
import { formatShortSize } from '../../base/bytes.ts';
import { formatAge } from '../../base/duration.ts';
import { filtersText } from '../client.ts';
import { addCommand, type Command, collect, whole } from '../command.ts';
import { type Context, parseFilters, type Run } from '../context.ts';
import { type Column, type ListOptions, pairsText, printList } from '../output/list.ts';

interface ContainerJson {
  readonly Id: string;
  readonly Names: readonly string[];
  readonly Image: string;
  readonly Command: string;
  readonly Created: number;
  readonly State: string;
  readonly Status: string;
  readonly Ports: readonly {
    readonly IP?: string;
    readonly PrivatePort: number;
    readonly PublicPort?: number;
    readonly Type: string;
  }[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly SizeRw?: number;
  readonly SizeRootFs?: number;
  readonly Mounts?: readonly { readonly Name?: string; readonly Source: string }[];
  readonly NetworkSettings?: { readonly Networks: Readonly<Record<string, unknown>> | null };
}

interface ListFlags extends ListOptions {
  readonly all?: boolean;
  readonly filter?: readonly string[];
  readonly last?: number;
  readonly latest?: boolean;
  readonly trunc: boolean;
  readonly size?: boolean;
}

const ID_LENGTH = 12;
const COMMAND_LENGTH = 20;

/** `name`: 'ls' of container, or 'ps' at the top. */
export function registerList(parent: Command, run: Run, name: string): void {
  addCommand(parent, name, 'list containers of this host')
    .option('-a, --all', 'also those that do not run')
    .option(
      '-f, --filter <key=value>',
      'id, name, label, status, ancestor, network, volume, exited, health, ...',
      collect,
    )
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-n, --last <count>', 'only so many that were made last', whole)
    .option('-l, --latest', 'only the one that was made last')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('-s, --size', 'with sizes')
    .option('--json', 'the API’s objects')
    .action((flags: ListFlags) => run((context) => list(context, flags)));
}

/** '0.0.0.0:8080->80/tcp, 443/tcp', with ranges of ports that follow each other. */
function portsText(ports: ContainerJson['Ports']): string {
  const texts = [...ports]
    .sort((left, right) => left.PrivatePort - right.PrivatePort)
    .map((port) => {
      const target = `${port.PrivatePort}/${port.Type}`;
      if (port.PublicPort === undefined) return target;
      const address = port.IP?.includes(':') === true ? `[${port.IP}]` : (port.IP ?? '');
      return `${address}:${port.PublicPort}->${target}`;
    });
  return [...new Set(texts)].join(', ');
}

async function list(context: Context, flags: ListFlags): Promise<void> {
  const limit = flags.latest === true ? 1 : flags.last;
  const withSize = flags.size === true || flags.format?.includes('.Size') === true;
  const found = await context.client.get<ContainerJson[]>('/containers/json', {
    all: flags.all === true || limit !== undefined ? true : undefined,
    limit,
    size: withSize ? true : undefined,
    filters: filtersText(parseFilters(flags.filter)),
  });
  const id = ({ Id }: ContainerJson): string => (flags.trunc ? Id.slice(0, ID_LENGTH) : Id);
  const nowMs = context.clock.wallMs();
  const cut = (text: string): string =>
    flags.trunc && text.length > COMMAND_LENGTH ? `${text.slice(0, COMMAND_LENGTH - 1)}…` : text;
  const hide = { hidden: true };
  const columns: Column<ContainerJson>[] = [
    { header: 'CONTAINER ID', field: 'ID', value: id },
    { header: 'IMAGE', field: 'Image', value: (item) => shortImage(item.Image, flags.trunc) },
    { header: 'COMMAND', field: 'Command', value: (item) => `"${cut(item.Command)}"` },
    {
      header: 'CREATED',
      field: 'RunningFor',
      value: (item) => `${formatAge(nowMs - item.Created * 1000)} ago`,
    },
    { header: 'STATUS', field: 'Status', value: (item) => item.Status },
    { header: 'PORTS', field: 'Ports', value: (item) => portsText(item.Ports) },
    { header: 'NAMES', field: 'Names', value: namesText },
    { header: 'SIZE', field: 'Size', value: sizeText, hidden: flags.size !== true },
    { header: 'STATE', field: 'State', value: (item) => item.State, ...hide },
    {
      header: 'CREATED AT',
      field: 'CreatedAt',
      value: (item) => new Date(item.Created * 1000).toISOString(),
      ...hide,
    },
    { header: 'LABELS', field: 'Labels', value: (item) => pairsText(item.Labels), ...hide },
    {
      header: 'MOUNTS',
      field: 'Mounts',
      value: (item) => (item.Mounts ?? []).map((one) => one.Name || one.Source).join(','),
      ...hide,
    },
    {
      header: 'LOCAL VOLUMES',
      field: 'LocalVolumes',
      value: (item) => String((item.Mounts ?? []).filter((one) => (one.Name ?? '') !== '').length),
      ...hide,
    },
    {
      header: 'NETWORKS',
      field: 'Networks',
      value: (item) => Object.keys(item.NetworkSettings?.Networks ?? {}).join(','),
      ...hide,
    },
  ];
  printList(context, found, columns, flags, id);
}

function shortImage(image: string, trunc: boolean): string {
  if (!trunc) return image;
  return /^sha256:[0-9a-f]{64}$/.test(image)
    ? image.slice('sha256:'.length, 'sha256:'.length + ID_LENGTH)
    : image.replace(/@sha256:[0-9a-f]+$/, '');
}

function namesText({ Names }: ContainerJson): string {
  return Names.map((name) => name.replace(/^\//, '')).join(',');
}

function sizeText({ SizeRw = 0, SizeRootFs = 0 }: ContainerJson): string {
  const own = formatShortSize(SizeRw);
  return SizeRootFs === 0 ? own : `${own} (virtual ${formatShortSize(SizeRootFs)})`;
}
