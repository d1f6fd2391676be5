/** container logs, top, stats, port, diff, inspect: what containers do, also those of tasks. */
import { formatBytes, formatShortSize } from '../../base/bytes.ts';
import { hasCode, SwarmError } from '../../base/errors.ts';
import { shortId } from '../../base/id.ts';
import { jsonLines } from '../client.ts';
import { type Context, forEachName } from '../context.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  printList,
  printObjects,
  tableText,
} from '../output/list.ts';
import { frames } from '../service/logs.ts';
import { timeText } from '../system.ts';
import { targetPath } from './exec.ts';
import { pathOf } from './run.ts';

export interface LogFlags {
  readonly follow?: boolean;
  readonly tail: string;
  readonly since?: string;
  readonly until?: string;
  readonly timestamps?: boolean;
  readonly details?: boolean;
}

export async function logs(context: Context, name: string, flags: LogFlags): Promise<void> {
  const path = await targetPath(context, name);
  const { Config } = await context.client.get<{ Config: { Tty: boolean } }>(`${path}/json`);
  const nowMs = context.clock.wallMs();
  const stream = await context.client.stream('GET', `${path}/logs`, {
    query: {
      stdout: true,
      stderr: true,
      follow: flags.follow === true,
      tail: flags.tail,
      since: timeText(flags.since, nowMs, '--since'),
      until: timeText(flags.until, nowMs, '--until'),
      timestamps: flags.timestamps === true,
      details: flags.details === true,
    },
    signal: context.signal,
  });
  if (Config.Tty) {
    for await (const chunk of stream) context.out.write(chunk as Uint8Array);
    return;
  }
  for await (const { isError, bytes } of frames(stream)) {
    (isError ? context.err : context.out).write(bytes);
  }
}

export async function top(context: Context, name: string, args: readonly string[]): Promise<void> {
  const path = await targetPath(context, name);
  const query = { ps_args: args.length === 0 ? undefined : args.join(' ') };
  const { Titles, Processes } = await context.client.get<{
    Titles: string[];
    Processes: string[][];
  }>(`${path}/top`, query);
  context.out.write(tableText([Titles, ...Processes]));
}

interface PortJson {
  readonly HostIp: string;
  readonly HostPort: string;
}

/** All published ports, or those of one ('80' or '80/udp'). */
export async function port(context: Context, name: string, wanted?: string): Promise<void> {
  const { NetworkSettings } = await context.client.get<{
    NetworkSettings: { Ports: Readonly<Record<string, PortJson[] | null>> | null };
  }>(`${pathOf(name)}/json`);
  const ports = NetworkSettings.Ports ?? {};
  const at = ({ HostIp, HostPort }: PortJson): string =>
    HostIp.includes(':') ? `[${HostIp}]:${HostPort}` : `${HostIp}:${HostPort}`;
  if (wanted !== undefined) {
    const key = wanted.includes('/') ? wanted : `${wanted}/tcp`;
    const found = ports[key] ?? [];
    if (found.length === 0) {
      throw new SwarmError('not_found', `no public port '${key}' published for ${name}`);
    }
    for (const one of found) context.out.write(`${at(one)}\n`);
    return;
  }
  for (const [key, list] of Object.entries(ports)) {
    for (const one of list ?? []) context.out.write(`${key} -> ${at(one)}\n`);
  }
}

const KINDS = ['C', 'A', 'D'];

export async function diff(context: Context, name: string): Promise<void> {
  const path = await targetPath(context, name);
  const changes = await context.client.get<{ Path: string; Kind: number }[] | null>(
    `${path}/changes`,
  );
  for (const { Path, Kind } of changes ?? []) context.out.write(`${KINDS[Kind] ?? '?'} ${Path}\n`);
}

export async function inspect(
  context: Context,
  names: readonly string[],
  flags: InspectFlags & { readonly size?: boolean },
): Promise<void> {
  const found: unknown[] = [];
  await forEachName(context, names, async (name) => {
    const path = await targetPath(context, name);
    found.push(await context.client.get(`${path}/json`, { size: flags.size }));
  });
  printObjects(context, found, flags);
}

interface StatsJson {
  readonly name?: string;
  readonly id?: string;
  readonly cpu_stats: CpuJson;
  readonly precpu_stats: CpuJson;
  readonly memory_stats: {
    readonly usage?: number;
    readonly limit?: number;
    readonly stats?: Readonly<Record<string, number>>;
  };
  readonly networks?: Readonly<Record<string, { rx_bytes: number; tx_bytes: number }>>;
  readonly blkio_stats?: {
    readonly io_service_bytes_recursive?: readonly { op: string; value: number }[] | null;
  };
  readonly pids_stats?: { readonly current?: number };
}

interface CpuJson {
  readonly cpu_usage?: { readonly total_usage: number };
  readonly system_cpu_usage?: number;
  readonly online_cpus?: number;
}

interface StatsRow {
  readonly name: string;
  readonly id: string;
  readonly stats: StatsJson | undefined;
}

function cpuPercent({ cpu_stats: now, precpu_stats: before }: StatsJson): number {
  const used = (now.cpu_usage?.total_usage ?? 0) - (before.cpu_usage?.total_usage ?? 0);
  const all = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0);
  return all <= 0 || used <= 0 ? 0 : (used / all) * (now.online_cpus ?? 1) * 100;
}

/** Without the page cache that the kernel would give up, as docker counts it. */
function memoryBytes({ memory_stats: memory }: StatsJson): number {
  const cache = memory.stats?.total_inactive_file ?? memory.stats?.inactive_file ?? 0;
  const usage = memory.usage ?? 0;
  return cache < usage ? usage - cache : usage;
}

function pair(first: number, second: number): string {
  return `${formatShortSize(first)} / ${formatShortSize(second)}`;
}

function networkText({ networks }: StatsJson): string {
  const all = Object.values(networks ?? {});
  const sum = (field: 'rx_bytes' | 'tx_bytes'): number =>
    all.reduce((total, one) => total + one[field], 0);
  return pair(sum('rx_bytes'), sum('tx_bytes'));
}

function blockText({ blkio_stats: blocks }: StatsJson): string {
  const all = blocks?.io_service_bytes_recursive ?? [];
  const sum = (op: string): number =>
    all.filter((one) => one.op.toLowerCase() === op).reduce((total, one) => total + one.value, 0);
  return pair(sum('read'), sum('write'));
}

function statsColumns(trunc: boolean): Column<StatsRow>[] {
  const of = (text: (stats: StatsJson) => string) => (row: StatsRow) =>
    row.stats === undefined ? '--' : text(row.stats);
  const percent = (part: number, whole: number): string =>
    `${(whole <= 0 ? 0 : (part / whole) * 100).toFixed(2)}%`;
  const limit = ({ memory_stats: memory }: StatsJson): number => memory.limit ?? 0;
  return [
    { header: 'CONTAINER ID', field: 'ID', value: ({ id }) => (trunc ? shortId(id) : id) },
    { header: 'NAME', field: 'Name', value: ({ name }) => name },
    { header: 'CPU %', field: 'CPUPerc', value: of((one) => `${cpuPercent(one).toFixed(2)}%`) },
    {
      header: 'MEM USAGE / LIMIT',
      field: 'MemUsage',
      value: of((one) => `${formatBytes(memoryBytes(one))} / ${formatBytes(limit(one))}`),
    },
    {
      header: 'MEM %',
      field: 'MemPerc',
      value: of((one) => percent(memoryBytes(one), limit(one))),
    },
    { header: 'NET I/O', field: 'NetIO', value: of(networkText) },
    { header: 'BLOCK I/O', field: 'BlockIO', value: of(blockText) },
    { header: 'PIDS', field: 'PIDs', value: of((one) => String(one.pids_stats?.current ?? 0)) },
    { header: 'CONTAINER', field: 'Container', hidden: true, value: ({ name }) => name },
  ];
}

export interface StatsFlags extends ListOptions {
  readonly all?: boolean;
  readonly stream: boolean;
  readonly trunc: boolean;
}

const STATS_REDRAW_MS = 500;

export async function stats(
  context: Context,
  names: readonly string[],
  flags: StatsFlags,
): Promise<void> {
  const { client, clock } = context;
  const rows: { name: string; id: string; path: string; stats: StatsJson | undefined }[] = [];
  if (names.length === 0) {
    const found = await client.get<{ Id: string; Names: string[] }[]>('/containers/json', {
      all: flags.all === true ? true : undefined,
    });
    for (const { Id, Names } of found) {
      const name = (Names[0] ?? Id).replace(/^\//, '');
      rows.push({ name, id: Id, path: pathOf(Id), stats: undefined });
    }
  }
  await forEachName(context, names, async (name) => {
    const path = await targetPath(context, name);
    const found = await client.get<{ Id: string; Name: string }>(`${path}/json`);
    rows.push({ name: found.Name.replace(/^\//, ''), id: found.Id, path, stats: undefined });
  });
  const columns = statsColumns(flags.trunc);
  const print = (): void => printList(context, rows, columns, flags, (row) => row.id);
  if (!flags.stream) {
    await Promise.all(
      rows.map(async (row) => {
        row.stats = await client.get<StatsJson>(`${row.path}/stats`, { stream: false });
      }),
    );
    print();
    return;
  }
  if (rows.length === 0 && names.length > 0) return;
  let open = rows.length;
  let failure: { readonly error: unknown } | undefined;
  for (const row of rows) {
    const follow = async (): Promise<void> => {
      const { signal } = context;
      const stream = await client.stream('GET', `${row.path}/stats`, {
        query: { stream: true },
        signal,
      });
      for await (const one of jsonLines<StatsJson>(stream)) row.stats = one;
    };
    follow()
      .catch((error: unknown) => {
        // A container that is gone, or this command's own end, is a row without figures.
        if (!hasCode(error, 'not_found') && !hasCode(error, 'cancelled')) failure ??= { error };
      })
      .finally(() => {
        open -= 1;
        row.stats = undefined;
      });
  }
  while (!context.signal.aborted && open > 0) {
    await clock.sleep(STATS_REDRAW_MS);
    if (context.out.isTty) context.out.write('\x1b[H\x1b[2J');
    print();
  }
  if (failure !== undefined) throw failure.error;
}
