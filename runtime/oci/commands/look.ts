/** state, list, ps: what there is. */
import { spawnSync } from 'node:child_process';
import { messageOf, SwarmError } from '../../../base/errors.ts';
import { firstWord, type OciCommand } from '../command.ts';
import { rootPath } from '../launchRootfs.ts';
import type { StoredContainer } from '../store.ts';

const COLUMN_LEAST = 12;
const COLUMN_GAP = 3;
/** What `ps` may print: some 100,000 processes. */
const PS_MAX_BYTES = 64 << 20;

function describe(container: StoredContainer): Record<string, unknown> {
  const { config, id, kept, status } = container;
  const hasAnnotations = Object.keys(config.annotations).length > 0;
  return {
    ociVersion: config.ociVersion,
    id,
    pid: status === 'stopped' ? 0 : container.pid,
    status,
    bundle: kept.bundle,
    rootfs: rootPath(config, kept.bundle),
    created: kept.created,
    ...(hasAnnotations && { annotations: config.annotations }),
    owner: '',
  };
}

export const state: OciCommand = {
  name: 'state',
  summary: 'output the state of a container',
  words: '<container-id>',
  flags: [],
  least: 1,
  most: 1,
  run: (context, args) => {
    const text = JSON.stringify(describe(context.store.load(firstWord(args))), null, 2);
    process.stdout.write(`${text}\n`);
    return 0;
  },
};

/** Columns as wide as their widest cell. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(COLUMN_LEAST, ...rows.map((row) => (row[column] ?? '').length + COLUMN_GAP)),
  );
  const lines = rows.map((row) =>
    row.map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0))).join(''),
  );
  return `${lines.join('\n')}\n`;
}

export const list: OciCommand = {
  name: 'list',
  summary: 'lists containers started with the given root',
  words: '',
  description: 'Where the given root is specified via the global option "--root".',
  flags: [
    {
      name: 'format',
      short: 'f',
      value: true,
      help: 'select one of: table or json',
      byDefault: '"table"',
    },
    { name: 'quiet', short: 'q', help: 'display only container IDs' },
  ],
  least: 0,
  most: 0,
  run: (context, args) => {
    const format = formatOf(args.text('format'));
    const containers = context.store.list();
    if (args.flag('quiet')) {
      for (const { id } of containers) process.stdout.write(`${id}\n`);
    } else if (format === 'json') {
      const all = containers.map((one) => ({ ...describe(one), owner: 'root' }));
      process.stdout.write(`${JSON.stringify(all)}\n`);
    } else {
      const head = ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'];
      const rows = containers.map((one) => {
        const { id, pid, status, bundle, created } = describe(one);
        return [id, pid, status, bundle, created, 'root'].map(String);
      });
      process.stdout.write(table([head, ...rows]));
    }
    return 0;
  },
};

function formatOf(text = 'table'): 'table' | 'json' {
  if (text === 'table' || text === 'json') return text;
  throw new SwarmError('invalid', `invalid format option "${text}": one of table, json`);
}

export const ps: OciCommand = {
  name: 'ps',
  summary: 'ps displays the processes running inside a container',
  words: '<container-id> [ps options]',
  flags: [
    {
      name: 'format',
      short: 'f',
      value: true,
      help: 'select one of: table or json',
      byDefault: '"table"',
    },
  ],
  stopsEarly: true,
  least: 1,
  most: Number.POSITIVE_INFINITY,
  run: (context, args) => {
    const pids = context.store.load(firstWord(args)).cgroups.pids();
    if (formatOf(args.text('format')) === 'json') {
      process.stdout.write(`${JSON.stringify(pids)}\n`);
    } else {
      const given = args.words.slice(1);
      process.stdout.write(psLines(given.length === 0 ? ['-ef'] : given, new Set(pids)));
    }
    return 0;
  },
};

/** The host's ps knows the columns; which lines are ours, the column PID says. */
function psLines(args: readonly string[], pids: ReadonlySet<number>): string {
  const result = spawnSync('ps', args, { encoding: 'utf8', maxBuffer: PS_MAX_BYTES });
  if (result.error !== undefined || result.status !== 0) {
    const why = result.error === undefined ? result.stderr.trim() : messageOf(result.error);
    throw new SwarmError('invalid', `ps: ${why}`);
  }
  const [head = '', ...lines] = result.stdout.split('\n');
  const column = head.trim().split(/\s+/).indexOf('PID');
  if (column < 0) throw new SwarmError('invalid', "couldn't find PID field in ps output");
  const ours = lines.filter((line) => pids.has(Number(line.trim().split(/\s+/)[column])));
  return `${[head, ...ours].join('\n')}\n`;
}
