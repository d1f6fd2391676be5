/** manager: how the managers are, each as it tells itself to the one that is asked. */
import { formatDuration } from '../base/duration.ts';
import { addCommand, type Command } from './command.ts';
import { type Context, EXIT_ERROR, type Run } from './context.ts';
import { type Column, printList } from './output/list.ts';

interface ManagerJson {
  readonly NodeID: string;
  readonly Hostname: string;
  readonly Address: string;
  readonly RaftID: number;
  readonly Self: boolean;
  readonly Reachable: boolean;
  readonly Error?: string;
  readonly Role: string;
  readonly Lag?: number;
  readonly LastContactMs?: number;
  readonly Term?: number;
  readonly Commit?: number;
  readonly Applied?: number;
  readonly SnapshotIndex?: number;
  readonly StoreVersion?: number;
  readonly StoreHash?: string;
  readonly StoreDiffers?: boolean;
  readonly DiskFull?: boolean;
  readonly Version?: string;
}

interface ManagersJson {
  readonly Quorum: boolean;
  readonly Problems: readonly string[];
  readonly Managers: readonly ManagerJson[];
}

interface StatusFlags {
  readonly format?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

/** Of a hash, as many digits as tell two apart by eye. */
const HASH_DIGITS = 8;

export function registerManager(program: Command, run: Run): void {
  const manager = addCommand(program, 'manager', 'how the managers are');
  addCommand(manager, 'status', 'Raft and the store of every manager; exit status 1 without quorum')
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-q, --quiet', 'only ids of nodes')
    .option('--json', 'the API’s objects')
    .action((flags: StatusFlags) => run((context) => status(context, flags)));
}

function text(value: string | number | undefined): string {
  return value === undefined || value === '' ? '-' : String(value);
}

function truth(value: boolean | undefined): string {
  return value === undefined ? '-' : value ? 'yes' : 'no';
}

function contact({ LastContactMs }: ManagerJson): string {
  return LastContactMs === undefined ? '-' : `${formatDuration(LastContactMs)} ago`;
}

function hash({ StoreHash = '', StoreDiffers }: ManagerJson): string {
  return text(`${StoreHash.slice(0, HASH_DIGITS)}${StoreDiffers === true ? ' (differs)' : ''}`);
}

const hidden = true;
const COLUMNS: readonly Column<ManagerJson>[] = [
  {
    header: 'NAME',
    field: 'Name',
    value: (each) => `${text(each.Hostname)}${each.Self ? ' *' : ''}`,
  },
  { header: 'ID', field: 'ID', value: (each) => each.NodeID, hidden },
  { header: 'RAFT ID', field: 'RaftID', value: (each) => String(each.RaftID), hidden },
  { header: 'ADDRESS', field: 'Address', value: (each) => each.Address },
  { header: 'ROLE', field: 'Role', value: (each) => text(each.Role) },
  { header: 'REACHABLE', field: 'Reachable', value: (each) => truth(each.Reachable) },
  { header: 'TERM', field: 'Term', value: (each) => text(each.Term) },
  { header: 'COMMIT', field: 'Commit', value: (each) => text(each.Commit) },
  { header: 'APPLIED', field: 'Applied', value: (each) => text(each.Applied) },
  { header: 'LAG', field: 'Lag', value: (each) => text(each.Lag) },
  { header: 'LAST CONTACT', field: 'LastContact', value: contact },
  { header: 'SNAPSHOT', field: 'Snapshot', value: (each) => text(each.SnapshotIndex), hidden },
  { header: 'STORE', field: 'Store', value: (each) => text(each.StoreVersion) },
  { header: 'HASH', field: 'Hash', value: hash },
  { header: 'DISK FULL', field: 'DiskFull', value: (each) => truth(each.DiskFull) },
  { header: 'VERSION', field: 'Version', value: (each) => text(each.Version) },
  { header: 'ERROR', field: 'Error', value: (each) => each.Error ?? '', hidden },
];

async function status(context: Context, flags: StatusFlags): Promise<void> {
  const { Quorum, Problems, Managers } =
    await context.client.get<ManagersJson>('/tsswarm/managers');
  if (flags.json === true) {
    context.out.write(`${JSON.stringify({ Quorum, Problems, Managers }, undefined, 2)}\n`);
  } else {
    const byName = [...Managers].sort((left, right) => (left.Hostname < right.Hostname ? -1 : 1));
    printList(context, byName, COLUMNS, flags, (each) => each.NodeID);
  }
  for (const problem of Problems) context.err.write(`tsswarm: ${problem}\n`);
  if (!Quorum) context.exitCode = EXIT_ERROR;
}
