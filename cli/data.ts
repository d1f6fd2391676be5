/**
 * secret and config: what services get as files. Their content is sent once and never shown again.
 */
import { readFile } from 'node:fs/promises';
import { formatAge } from '../base/duration.ts';
import { SwarmError } from '../base/errors.ts';
import { filtersText } from './client.ts';
import { addCommand, type Command, collect } from './command.ts';
import { type Context, forEachName, parseFilters, type Run } from './context.ts';
import type { FileObjectJson } from './docker.ts';
import { readStdin, unreadable } from './input.ts';
import { pairs } from './network.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  pairsText,
  prettyText,
  printList,
  printObjects,
} from './output/list.ts';

type Kind = 'secret' | 'config';

export function registerSecret(program: Command, run: Run): void {
  register(program, run, 'secret', 'secrets that services get as files in memory');
}

export function registerConfig(program: Command, run: Run): void {
  register(program, run, 'config', 'configurations that services get as files');
}

interface CreateFlags {
  readonly label?: readonly string[];
  readonly templateDriver?: string;
  readonly driver?: string;
}

function register(program: Command, run: Run, kind: Kind, about: string): void {
  const group = addCommand(program, kind, about);
  const create = addCommand(group, 'create <name> [file]', `make a ${kind} of a file or "-"`)
    .option('-l, --label <key=value>', 'may be repeated', collect)
    .option('--template-driver <name>', 'golang: the content is a template');
  if (kind === 'secret') create.option('-d, --driver <name>', 'secrets are kept by the swarm');
  create.action((name: string, file: string | undefined, flags: CreateFlags) =>
    run(async (context) => {
      if (flags.driver !== undefined) {
        throw new SwarmError(
          'unsupported',
          '--driver is not supported: secrets are kept by the swarm, leave it out',
        );
      }
      const created = await context.client.post<{ ID: string }>(`/${kind}s/create`, {
        Name: name,
        Labels: pairs(flags.label ?? []),
        Data: (await content(kind, file)).toString('base64'),
        ...(flags.templateDriver === undefined
          ? {}
          : { Templating: { Name: flags.templateDriver } }),
      });
      context.out.write(`${created.ID}\n`);
    }),
  );
  addCommand(group, 'ls', 'list them')
    .alias('list')
    .option('-f, --filter <key=value>', 'id, name, label', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((flags: ListOptions & { filter?: string[] }) =>
      run((context) => list(context, kind, flags)),
    );
  addCommand(group, `inspect <${kind}...>`, 'details, without the content of secrets')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('--pretty', 'for people')
    .action((names: string[], flags: InspectFlags) =>
      run((context) => inspect(context, kind, names, flags)),
    );
  addCommand(group, `rm <${kind}...>`, 'remove them; services that use one keep it')
    .alias('remove')
    .action((names: string[]) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          await context.client.delete(`/${kind}s/${encodeURIComponent(name)}`);
          context.out.write(`${name}\n`);
        }),
      ),
    );
}

async function content(kind: Kind, file: string | undefined): Promise<Buffer> {
  if (file === undefined) {
    throw new SwarmError(
      'invalid',
      `name a file, or "-" for standard input: tsswarm ${kind} create NAME FILE`,
    );
  }
  if (file === '-') return readStdin();
  try {
    return await readFile(file);
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

async function list(
  context: Context,
  kind: Kind,
  flags: ListOptions & { readonly filter?: readonly string[] },
): Promise<void> {
  const query = { filters: filtersText(parseFilters(flags.filter)) };
  const found = await context.client.get<FileObjectJson[]>(`/${kind}s`, query);
  const collator = new Intl.Collator('en', { numeric: true });
  found.sort((left, right) => collator.compare(left.Spec.Name, right.Spec.Name));
  const nowMs = context.clock.wallMs();
  const ago = (time: string): string => `${formatAge(nowMs - Date.parse(time))} ago`;
  const columns: Column<FileObjectJson>[] = [
    { header: 'ID', field: 'ID', value: (item) => item.ID },
    { header: 'NAME', field: 'Name', value: (item) => item.Spec.Name },
    ...(kind === 'secret'
      ? [
          {
            header: 'DRIVER',
            field: 'Driver',
            value: (item: FileObjectJson) => item.Spec.Driver?.Name ?? '',
          },
        ]
      : []),
    { header: 'CREATED', field: 'CreatedAt', value: (item) => ago(item.CreatedAt) },
    { header: 'UPDATED', field: 'UpdatedAt', value: (item) => ago(item.UpdatedAt) },
    {
      header: 'LABELS',
      field: 'Labels',
      hidden: true,
      value: (item) => pairsText(item.Spec.Labels),
    },
  ];
  printList(context, found, columns, flags, (item) => item.ID);
}

async function inspect(
  context: Context,
  kind: Kind,
  names: readonly string[],
  flags: InspectFlags,
): Promise<void> {
  const found: FileObjectJson[] = [];
  await forEachName(context, names, async (name) => {
    found.push(await context.client.get(`/${kind}s/${encodeURIComponent(name)}`));
  });
  if (flags.pretty !== true || flags.json === true) {
    printObjects(context, found, flags);
    return;
  }
  for (const item of found) {
    const text = prettyText([
      ['ID', item.ID],
      ['Name', item.Spec.Name],
      ['Labels', pairsText(item.Spec.Labels)],
      ['Template driver', item.Spec.Templating?.Name],
      ['Created at', item.CreatedAt],
      ['Updated at', item.UpdatedAt],
    ]);
    const data = Buffer.from(item.Spec.Data ?? '', 'base64').toString('utf8');
    context.out.write(kind === 'config' ? `${text}Data:\n${data}\n` : `${text}\n`);
  }
}
