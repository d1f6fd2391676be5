/** Tasks as 'service ps' and 'node ps' list them, and the resolving of ids to names for that. */
import { formatAge } from '../base/duration.ts';
import type { Context } from './context.ts';
import type { NodeJson, PortJson, ServiceJson, TaskJson } from './docker.ts';
import { type Column, type ListOptions, printList } from './output/list.ts';

export interface TaskListOptions extends ListOptions {
  readonly noTrunc?: boolean;
  readonly noResolve?: boolean;
}

const ID_LENGTH = 12;
const ERROR_LENGTH = 40;

/** Docker's titles: 'Running', 'Shutdown'. */
export function titled(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

function ports(list: readonly PortJson[] | undefined): string {
  return (list ?? [])
    .map((port) => `*:${port.PublishedPort ?? 0}->${port.TargetPort}/${port.Protocol}`)
    .join(',');
}

interface Row {
  readonly task: TaskJson;
  readonly name: string;
  readonly node: string;
}

function imageText(task: TaskJson, full: boolean): string {
  const { Image } = task.Spec.ContainerSpec;
  return full ? Image : Image.replace(/@sha256:[0-9a-f]+$/, '');
}

function columns(options: TaskListOptions, nowMs: number): Column<Row>[] {
  const full = options.noTrunc === true;
  const cut = (text: string, length: number): string =>
    full || text.length <= length ? text : `${text.slice(0, length - 1)}…`;
  return [
    {
      header: 'ID',
      field: 'ID',
      value: (row) => (full ? row.task.ID : row.task.ID.slice(0, ID_LENGTH)),
    },
    { header: 'NAME', field: 'Name', value: (row) => row.name },
    { header: 'IMAGE', field: 'Image', value: (row) => imageText(row.task, full) },
    { header: 'NODE', field: 'Node', value: (row) => row.node },
    {
      header: 'DESIRED STATE',
      field: 'DesiredState',
      value: (row) => titled(row.task.DesiredState),
    },
    {
      header: 'CURRENT STATE',
      field: 'CurrentState',
      value: ({ task }) => {
        const ageMs = nowMs - Date.parse(task.Status.Timestamp);
        return `${titled(task.Status.State)} ${formatAge(ageMs).toLowerCase()} ago`;
      },
    },
    {
      header: 'ERROR',
      field: 'Error',
      value: ({ task }) => {
        const { Err } = task.Status;
        return Err === undefined || Err === '' ? '' : `"${cut(Err, ERROR_LENGTH)}"`;
      },
    },
    { header: 'PORTS', field: 'Ports', value: (row) => ports(row.task.Status.PortStatus?.Ports) },
  ];
}

/** Sorted by name, newest first in a slot; older ones of a slot are set off with ' \_ '. */
export async function printTasks(
  context: Context,
  tasks: readonly TaskJson[],
  options: TaskListOptions,
): Promise<void> {
  const { client } = context;
  const resolve = options.noResolve !== true;
  const [services, nodes] = resolve
    ? await Promise.all([client.get<ServiceJson[]>('/services'), client.get<NodeJson[]>('/nodes')])
    : [[], []];
  const jobs = new Set(
    services.filter((item) => item.Spec.Mode?.ReplicatedJob !== undefined).map((item) => item.ID),
  );
  const serviceNames = new Map(services.map((item) => [item.ID, item.Spec.Name]));
  const hostnames = new Map(nodes.map((item) => [item.ID, item.Description.Hostname]));
  const rows = tasks.map((task): Row => {
    const service = serviceNames.get(task.ServiceID) ?? task.ServiceID;
    // The first slot of a job is 0, which the API leaves out.
    const slot = task.Slot ?? (jobs.has(task.ServiceID) ? 0 : (task.NodeID ?? task.ID));
    const name = `${service}.${slot}`;
    return { task, name, node: hostnames.get(task.NodeID ?? '') ?? task.NodeID ?? '' };
  });
  const collator = new Intl.Collator('en', { numeric: true });
  rows.sort(
    (left, right) =>
      collator.compare(left.name, right.name) ||
      Date.parse(right.task.CreatedAt) - Date.parse(left.task.CreatedAt),
  );
  const plain = options.format !== undefined || options.quiet === true;
  let previous = '';
  const shown = rows.map((row) => {
    const repeated = row.name === previous;
    previous = row.name;
    return repeated && !plain ? { ...row, name: ` \\_ ${row.name}` } : row;
  });
  if (options.json === true) {
    printList(context, tasks, [], options, (task) => task.ID);
    return;
  }
  const list = columns(options, context.clock.wallMs());
  printList(context, shown, list, options, (row) => row.task.ID);
}
