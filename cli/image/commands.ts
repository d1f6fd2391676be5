/** image: what the host of the daemon holds; load, import, pull. */
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { formatShortSize } from '../../base/bytes.ts';
import { formatAge } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import { filtersText, type Query } from '../client.ts';
import { addCommand, type Command, collect, refused } from '../command.ts';
import { type Context, forEachName, parseFilters, type Run } from '../context.ts';
import type { ImageJson } from '../docker.ts';
import { unreadable } from '../input.ts';
import {
  type Column,
  type InspectFlags,
  type ListOptions,
  printList,
  printObjects,
} from '../output/list.ts';
import { confirmPrune, printReclaimed } from '../prune.ts';
import { REFUSED, refuseCommand } from '../refused.ts';
import { pullImage, pushImage, showProgress } from './transfer.ts';

const ID_LENGTH = 12;

export function registerImage(program: Command, run: Run): void {
  const image = addCommand(program, 'image', 'images on this host');
  registerReads(image, run);
  registerLoad(image, run);
  registerSave(image, run);
  refuseCommand(image, run, 'build', REFUSED.build);
  registerImport(image, run);
  registerPull(image, run);
  registerPush(image, run);
  registerTag(image, run);
  registerRemove(image, run);
}

export function registerLoad(image: Command, run: Run): void {
  addCommand(image, 'load', 'load images from a tar of "docker save" or an OCI layout')
    .option('-i, --input <file>', 'the tar, may be compressed (default: standard input)')
    .option('--platform <platform>', 'only this one of several')
    .option('-q, --quiet', 'no progress')
    .action((flags: { input?: string; platform?: string; quiet?: boolean }) =>
      run((context) =>
        sendTar(
          context,
          '/images/load',
          { platform: platformJson(flags.platform) },
          source(context, flags.input ?? '-'),
          flags.quiet === true,
        ),
      ),
    );
}

interface ImportFlags {
  readonly change?: string[];
  readonly message?: string;
  readonly platform?: string;
}

export function registerImport(image: Command, run: Run): void {
  addCommand(
    image,
    'import <file> [reference]',
    'make an image of a root file system tar ("-": stdin)',
  )
    .option('-m, --message <text>', 'what its history says of it')
    .option('--platform <platform>', 'what it is for, if not this host')
    .option('-c, --change <line>', 'CMD, ENTRYPOINT, ENV, EXPOSE, USER, WORKDIR, LABEL', collect)
    .action((file: string, reference: string | undefined, flags: ImportFlags) =>
      run(async (context) => {
        if (reference === undefined) {
          throw new SwarmError('invalid', 'name the image: tsswarm image import FILE NAME[:TAG]');
        }
        const changes = (flags.change ?? []).map((line) => `&changes=${encodeURIComponent(line)}`);
        const repository = encodeURIComponent(reference);
        const path = `/images/create?fromSrc=-&repo=${repository}${changes.join('')}`;
        const more = [
          ...(flags.message === undefined ? [] : [`&message=${encodeURIComponent(flags.message)}`]),
          ...(flags.platform === undefined
            ? []
            : [`&platform=${encodeURIComponent(flags.platform)}`]),
        ];
        await sendTar(context, `${path}${more.join('')}`, {}, source(context, file));
      }),
    );
}

export function registerTag(image: Command, run: Run): void {
  addCommand(image, 'tag <image> <reference>', 'give an image another name').action(
    (name: string, reference: string) =>
      run(async (context) => {
        const query = { repo: reference };
        await context.client.post(`/images/${encodeURIComponent(name)}/tag`, undefined, query);
      }),
  );
}

export function registerImages(program: Command, run: Run): void {
  registerList(program, run, 'images [repository]');
}

export function registerRmi(program: Command, run: Run): void {
  registerRemove(program, run, 'rmi <image...>');
}

/** `name`: 'rm' of image, or 'rmi' at the top. */
export function registerRemove(parent: Command, run: Run, name = 'rm <image...>'): void {
  const command = addCommand(parent, name, 'remove names, and images without any')
    .option('-f, --force', 'even if it has several names')
    .option('--no-prune', 'keep what is beneath')
    .action((names: string[], flags: { force?: boolean; prune: boolean }) =>
      run((context) =>
        forEachName(context, names, async (name) => {
          const removed = await context.client.delete<{ Untagged?: string; Deleted?: string }[]>(
            `/images/${encodeURIComponent(name)}`,
            { force: flags.force === true, noprune: !flags.prune },
          );
          for (const item of removed) {
            if (item.Untagged !== undefined) context.out.write(`Untagged: ${item.Untagged}\n`);
            if (item.Deleted !== undefined) context.out.write(`Deleted: ${item.Deleted}\n`);
          }
        }),
      ),
    );
  refused(command, '--platform <platform>', 'a host keeps an image for one platform only');
}

/** 'linux/arm64/v8' as the API has it. */
function platformJson(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const [os, architecture, variant] = text.split('/');
  if (architecture === undefined) {
    throw new SwarmError('invalid', `--platform "${text}": write OS/ARCHITECTURE[/VARIANT]`);
  }
  return JSON.stringify({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}

export function registerPull(image: Command, run: Run): void {
  addCommand(image, 'pull <reference>', 'get an image from a registry')
    .option('-a, --all-tags', 'all tags of it')
    .option('--disable-content-trust', 'signatures are not checked, which is the default')
    .option('--platform <platform>', 'of several, e.g. linux/arm64')
    .option('-q, --quiet', 'only the reference')
    .action((reference: string, flags: { quiet?: boolean; allTags?: boolean; platform?: string }) =>
      run((context) => pullImage(context, reference, { ...flags, quiet: flags.quiet === true })),
    );
}

export function registerPush(image: Command, run: Run): void {
  addCommand(image, 'push <reference>', 'send an image to a registry')
    .option('-a, --all-tags', 'all tags of it')
    .option('--disable-content-trust', 'nothing is signed, which is the default')
    .option('--platform <platform>', 'only this one of several')
    .option('-q, --quiet', 'only the reference')
    .action((reference: string, flags: { quiet?: boolean; allTags?: boolean; platform?: string }) =>
      run((context) =>
        pushImage(context, reference, {
          quiet: flags.quiet === true,
          allTags: flags.allTags === true,
          platform: platformJson(flags.platform),
        }),
      ),
    );
}

export function registerSave(image: Command, run: Run): void {
  addCommand(image, 'save <image...>', 'write images to one tar that "image load" takes')
    .option('-o, --output <file>', 'where to (default: standard output)')
    .option('--platform <platform>', 'only this one of several')
    .action((names: string[], flags: { output?: string; platform?: string }) =>
      run((context) => save(context, names, flags.output, platformJson(flags.platform))),
    );
}

async function save(
  context: Context,
  names: readonly string[],
  file?: string,
  platform?: string,
): Promise<void> {
  if (file === undefined && context.out.isTty) {
    throw new SwarmError('invalid', 'a tar is not for a terminal: redirect it, or use -o FILE');
  }
  const parameters = names.map((name) => `names=${encodeURIComponent(name)}`);
  if (platform !== undefined) parameters.push(`platform=${encodeURIComponent(platform)}`);
  const query = parameters.join('&');
  const { signal } = context;
  const stream = await context.client.stream('GET', `/images/get?${query}`, { signal });
  await pipeline(stream, file === undefined ? process.stdout : createWriteStream(file));
}

/** `name`: 'ls' of image, or 'images' at the top. */
export function registerList(parent: Command, run: Run, name = 'ls [repository]'): void {
  const command = addCommand(parent, name, 'list images of this host')
    .option('-a, --all', 'also those in between, of which there are none here')
    .option('--digests', 'with digests')
    .option('-f, --filter <key=value>', 'reference, label, dangling, before, since', collect)
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('--no-trunc', 'nothing is cut')
    .option('-q, --quiet', 'only ids')
    .option('--json', 'the API’s objects');
  refused(command, '--tree', 'images are shown as a list: leave it out');
  command.action((repository: string | undefined, flags: ListFlags) =>
    run((context) => list(context, repository, flags)),
  );
}

interface HistoryJson {
  readonly Id: string;
  readonly Created: number;
  readonly CreatedBy: string;
  readonly Size: number;
  readonly Comment: string;
}

export function registerHistory(parent: Command, run: Run): void {
  addCommand(parent, 'history <image>', 'how an image was made, layer by layer')
    .option('--format <template>', 'a Go template, "table ..." or "json"')
    .option('-H, --human', 'sizes and times for people', true)
    .option('--no-human', 'sizes in bytes, times as they are')
    .option('--no-trunc', 'nothing is cut')
    .option('--platform <platform>', 'of several')
    .option('-q, --quiet', 'only ids')
    .action((name: string, flags: ListOptions & HistoryFlags) =>
      run((context) => history(context, name, flags)),
    );
}

interface HistoryFlags {
  readonly trunc: boolean;
  readonly human: boolean;
  readonly platform?: string;
}

const CREATED_BY_LENGTH = 45;

async function history(
  context: Context,
  name: string,
  flags: ListOptions & HistoryFlags,
): Promise<void> {
  const path = `/images/${encodeURIComponent(name)}/history`;
  const query = { platform: platformJson(flags.platform) };
  const layers = await context.client.get<HistoryJson[]>(path, query);
  const nowMs = context.clock.wallMs();
  const cut = (text: string): string =>
    flags.trunc && text.length > CREATED_BY_LENGTH
      ? `${text.slice(0, CREATED_BY_LENGTH - 1)}…`
      : text;
  const id = ({ Id }: HistoryJson): string =>
    flags.trunc ? Id.replace('sha256:', '').slice(0, ID_LENGTH) : Id;
  const iso = ({ Created }: HistoryJson): string =>
    new Date(Created * 1000).toISOString().replace('.000Z', 'Z');
  const columns: Column<HistoryJson>[] = [
    { header: 'IMAGE', field: 'ID', value: id },
    {
      header: 'CREATED',
      field: 'CreatedSince',
      value: (item) => (flags.human ? `${formatAge(nowMs - item.Created * 1000)} ago` : iso(item)),
    },
    { header: 'CREATED AT', field: 'CreatedAt', hidden: true, value: iso },
    {
      header: 'CREATED BY',
      field: 'CreatedBy',
      value: (item) => cut(item.CreatedBy.replaceAll('\t', ' ')),
    },
    {
      header: 'SIZE',
      field: 'Size',
      value: (item) => (flags.human ? formatShortSize(item.Size) : String(item.Size)),
    },
    { header: 'COMMENT', field: 'Comment', value: (item) => item.Comment },
  ];
  printList(context, layers, columns, flags, id);
}

interface DeletedJson {
  readonly Untagged?: string;
  readonly Deleted?: string;
}

function registerImagePrune(image: Command, run: Run): void {
  addCommand(image, 'prune', 'remove images that nothing uses')
    .option('-a, --all', 'also those with a name, not only dangling ones')
    .option('-f, --force', 'do not ask')
    .option('--filter <key=value>', 'until, label', collect)
    .action((flags: { all?: boolean; force?: boolean; filter?: string[] }) =>
      run(async (context) => {
        const warning =
          flags.all === true
            ? 'This will remove all images without at least one container associated to them.'
            : 'This will remove all dangling images.';
        await confirmPrune(context, warning, flags.force);
        const filters = { ...parseFilters(flags.filter), dangling: [String(flags.all !== true)] };
        const done = await context.client.post<{
          ImagesDeleted: DeletedJson[] | null;
          SpaceReclaimed: number;
        }>('/images/prune', undefined, { filters: filtersText(filters) });
        const lines = (done.ImagesDeleted ?? []).map(
          ({ Untagged, Deleted }) =>
            (Untagged === undefined ? '' : `untagged: ${Untagged}`) +
            (Deleted === undefined ? '' : `deleted: ${Deleted}`),
        );
        printReclaimed(context, 'Deleted Images', lines, done.SpaceReclaimed);
      }),
    );
}

interface ListFlags extends ListOptions {
  readonly digests?: boolean;
  readonly all?: boolean;
  readonly filter?: string[];
  readonly trunc: boolean;
}

function registerReads(image: Command, run: Run): void {
  registerList(image, run);
  registerHistory(image, run);
  registerImagePrune(image, run);
  addCommand(image, 'inspect <image...>', 'details of images')
    .option('-f, --format <template>', 'a Go template')
    .option('--json', 'as JSON, which is the default')
    .option('--platform <platform>', 'of several, e.g. linux/arm64')
    .action((names: string[], flags: InspectFlags & { platform?: string }) =>
      run(async (context) => {
        const found: unknown[] = [];
        await forEachName(context, names, async (name) => {
          const query = { platform: platformJson(flags.platform) };
          const path = `/images/${encodeURIComponent(name)}/json`;
          found.push(await context.client.get(path, query));
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

async function list(
  context: Context,
  repository: string | undefined,
  flags: ListFlags,
): Promise<void> {
  const filters = parseFilters(flags.filter);
  if (repository !== undefined) filters.reference = [repository];
  const query = { filters: filtersText(filters), all: flags.all };
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
    { header: 'SIZE', field: 'Size', value: (row) => formatShortSize(row.image.Size) },
    {
      header: 'DIGEST',
      field: 'Digest',
      hidden: flags.digests !== true,
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
    throw unreadable(file, cause);
  }
}

async function sendTar(
  context: Context,
  path: string,
  query: Query,
  upload: AsyncIterable<Uint8Array>,
  quiet = false,
): Promise<void> {
  const { signal } = context;
  const answer = await context.client.stream('POST', path, { query, upload, signal });
  await showProgress(answer, context.out, quiet);
}
