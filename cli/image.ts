/** image: what the host of the daemon holds; load, import, pull. */
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { formatBytes } from '../base/bytes.ts';
import { formatAge } from '../base/duration.ts';
import { SwarmError } from '../base/errors.ts';
import { filtersText, jsonLines } from './client.ts';
import { addCommand, type Command, collect } from './command.ts';
import { type Context, forEachName, parseFilters, type Run } from './context.ts';
import type { ImageJson } from './docker.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  printList,
  printObjects,
} from './output/list.ts';

const ID_LENGTH = 12;

export function registerImage(program: Command, run: Run): void {
  const image = addCommand(program, 'image', 'images on this host');
  registerReads(image, run);
  addCommand(image, 'load', 'load images from a tar of "docker save" or an OCI layout')
    .option('-i, --input <file>', 'the tar, may be compressed (default: standard input)')
    .option('-q, --quiet', 'no progress')
    .action((flags: { input?: string }) =>
      run((context) => sendTar(context, '/images/load', {}, source(context, flags.input ?? '-'))),
    );
  addCommand(image, 'save <image...>', 'write images to one tar that "image load" takes')
    .option('-o, --output <file>', 'where to (default: standard output)')
    .action((names: string[], flags: { output?: string }) =>
      run((context) => save(context, names, flags.output)),
    );
  addCommand(
    image,
    'import <file> [reference]',
    'make an image of a root file system tar ("-": stdin)',
  )
    .option('-c, --change <line>', 'CMD, ENTRYPOINT, ENV, EXPOSE, USER, WORKDIR, LABEL', collect)
    .action((file: string, reference: string | undefined, flags: { change?: string[] }) =>
      run(async (context) => {
        if (reference === undefined) {
          throw new SwarmError('invalid', 'name the image: tsswarm image import FILE NAME[:TAG]');
        }
        const changes = (flags.change ?? []).map((line) => `&changes=${encodeURIComponent(line)}`);
        const repository = encodeURIComponent(reference);
        const path = `/images/create?fromSrc=-&repo=${repository}${changes.join('')}`;
        await sendTar(context, path, {}, source(context, file));
      }),
    );
  addCommand(image, 'pull <reference>', 'get an image from a registry')
    .option('-q, --quiet', 'only the reference')
    .action((reference: string, flags: { quiet?: boolean }) =>
      run((context) => pull(context, reference, flags.quiet === true)),
    );
  addCommand(image, 'tag <image> <reference>', 'give an image another name').action(
    (name: string, reference: string) =>
      run(async (context) => {
        const query = { repo: reference };
        await context.client.post(`/images/${encodeURIComponent(name)}/tag`, undefined, query);
      }),
  );
  addCommand(image, 'rm <image...>', 'remove names, and images without any')
    .option('-f, --force', 'even if it has several names')
    .action((names: string[], flags: { force?: boolean }) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          const removed = await context.client.delete<{ Untagged?: string; Deleted?: string }[]>(
            `/images/${encodeURIComponent(name)}`,
            { force: flags.force === true },
          );
          for (const item of removed) {
            if (item.Untagged !== undefined) context.out.write(`Untagged: ${item.Untagged}\n`);
            if (item.Deleted !== undefined) context.out.write(`Deleted: ${item.Deleted}\n`);
          }
        }),
      ),
    );
}

async function save(context: Context, names: readonly string[], file?: string): Promise<void> {
  if (file === undefined && context.out.isTty) {
    throw new SwarmError('invalid', 'a tar is not for a terminal: redirect it, or use -o FILE');
  }
  const query = names.map((name) => `names=${encodeURIComponent(name)}`).join('&');
  const { signal } = context;
  const stream = await context.client.stream('GET', `/images/get?${query}`, { signal });
  await pipeline(stream, file === undefined ? process.stdout : createWriteStream(file));
}

interface ListFlags extends ListOptions {
  readonly filter?: string[];
  readonly trunc: boolean;
}

function registerReads(image: Command, run: Run): void {
  addCommand(image, 'ls', 'list them')
    .option('-f, --filter <key=value>', 'reference, label, dangling', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects')
    .action((flags: ListFlags) => run((context) => list(context, flags)));
  addCommand(image, 'inspect <image...>', 'details of images')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .action((names: string[], flags: InspectFlags) =>
      run(async (context) => {
        const found: unknown[] = [];
        await forEachName(context, names, async (name) => {
          found.push(await context.client.get(`/images/${encodeURIComponent(name)}/json`));
        });
        printObjects(context, found, flags);
      }),
    );
}

interface Row {
  readonly image: ImageJson;
  readonly repository: string;
  readonly tag: string;
}

/** One row for each name of an image; an image without one is shown once. */
function rowsOf(image: ImageJson): Row[] {
  if (image.RepoTags.length === 0) {
    const [digest] = image.RepoDigests;
    return [{ image, repository: digest?.split('@')[0] ?? '<none>', tag: '<none>' }];
  }
  return image.RepoTags.map((name) => {
    const colon = name.lastIndexOf(':');
    return { image, repository: name.slice(0, colon), tag: name.slice(colon + 1) };
  });
}

async function list(context: Context, flags: ListFlags): Promise<void> {
  const query = { filters: filtersText(parseFilters(flags.filter)) };
  const images = await context.client.get<ImageJson[]>('/images/json', query);
  images.sort((left, right) => right.Created - left.Created);
  if (flags.json === true) {
    printList(context, images, [], flags, (image) => image.Id);
    return;
  }
  const id = (row: Row): string =>
    flags.trunc ? row.image.Id.replace('sha256:', '').slice(0, ID_LENGTH) : row.image.Id;
  const nowMs = context.clock.wallMs();
  const columns: Column<Row>[] = [
    { header: 'REPOSITORY', field: 'Repository', value: (row) => row.repository },
    { header: 'TAG', field: 'Tag', value: (row) => row.tag },
    { header: 'IMAGE ID', field: 'ID', value: id },
    {
      header: 'CREATED',
      field: 'CreatedSince',
      value: (row) => `${formatAge(nowMs - row.image.Created * 1000)} ago`,
    },
    { header: 'SIZE', field: 'Size', value: (row) => formatBytes(row.image.Size) },
    {
      header: 'DIGEST',
      field: 'Digest',
      hidden: true,
      value: (row) => row.image.RepoDigests[0]?.split('@')[1] ?? '<none>',
    },
  ];
  printList(context, images.flatMap(rowsOf), columns, flags, id);
}

async function* source(context: Context, file: string): AsyncGenerator<Uint8Array> {
  if (file === '-' && process.stdin.isTTY === true) {
    throw new SwarmError(
      'invalid',
      'a tar is wanted on standard input: redirect it, or name a file',
    );
  }
  const input = file === '-' ? process.stdin : createReadStream(file, { signal: context.signal });
  try {
    for await (const chunk of input) yield chunk as Uint8Array;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const why = code === 'ENOENT' ? 'there is no such file' : `cannot be read (${code})`;
    throw new SwarmError('invalid', `${file}: ${why}`, { cause });
  }
}

interface ProgressJson {
  readonly stream?: string;
  readonly status?: string;
  readonly id?: string;
  readonly error?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

async function sendTar(
  context: Context,
  path: string,
  query: Record<string, string>,
  upload: AsyncIterable<Uint8Array>,
): Promise<void> {
  const answer = await context.client.stream('POST', path, {
    query,
    upload,
    signal: context.signal,
  });
  for await (const step of jsonLines<ProgressJson>(answer)) {
    if (step.error !== undefined) throw new SwarmError('invalid', step.error);
    context.out.write(step.stream ?? `${step.status ?? ''}\n`);
  }
}

async function pull(context: Context, reference: string, quiet: boolean): Promise<void> {
  const answer = await context.client.stream('POST', '/images/create', {
    query: { fromImage: reference },
    signal: context.signal,
  });
  const last = new Map<string, string>();
  for await (const step of jsonLines<ProgressJson>(answer)) {
    if (step.error !== undefined) throw new SwarmError('invalid', step.error);
    const status = step.status ?? '';
    // Each change of a layer's status is a line; how far it is would be thousands.
    if (quiet || (step.id !== undefined && last.get(step.id) === status)) continue;
    if (step.id !== undefined) last.set(step.id, status);
    context.out.write(step.id === undefined ? `${status}\n` : `${step.id}: ${status}\n`);
  }
  if (quiet) context.out.write(`${reference}\n`);
}
