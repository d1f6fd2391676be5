/**
 * cp: files between this machine and a container, or a task on any host, as tars. The other side
 * packs and unpacks; here the system's tar does, so that owners, links and sizes are kept.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, statSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { basename, dirname, resolve } from 'node:path';
import { SwarmError } from '../../base/errors.ts';
import { type Context, orUndefined } from '../context.ts';
import { targetPath } from './exec.ts';

interface Place {
  /** '' = this machine. */
  readonly container: string;
  readonly path: string;
}

/** 'web:/etc/hosts', './file', '-'. */
function parsePlace(text: string): Place {
  const colon = text.indexOf(':');
  const isLocal = colon < 0 || /^[./]/.test(text);
  return isLocal
    ? { container: '', path: text }
    : { container: text.slice(0, colon), path: text.slice(colon + 1) };
}

export interface CopyFlags {
  readonly archive?: boolean;
  readonly followLink?: boolean;
  readonly quiet?: boolean;
}

export async function copy(
  context: Context,
  from: string,
  to: string,
  flags: CopyFlags,
): Promise<void> {
  const source = parsePlace(from);
  const target = parsePlace(to);
  if ((source.container === '') === (target.container === '')) {
    throw new SwarmError(
      'invalid',
      'one side is a container and the other is not: CONTAINER:PATH PATH, or PATH CONTAINER:PATH',
    );
  }
  if (source.container !== '') await copyOut(context, source, target.path, flags);
  else await copyIn(context, source.path, target, flags);
  if (flags.quiet !== true && source.path !== '-' && target.path !== '-') {
    context.err.write(`Successfully copied ${from} to ${to}\n`);
  }
}

interface Stat {
  readonly name: string;
  readonly mode: number;
  readonly linkTarget?: string;
}

/** Go's bit for a directory in a file mode. */
const MODE_DIRECTORY = 0x8000_0000;

async function statIn(context: Context, path: string, file: string): Promise<Stat | undefined> {
  const query = { path: file };
  const answer = await orUndefined(context.client.stream('HEAD', `${path}/archive`, { query }));
  answer?.resume();
  return answer === undefined ? undefined : statOf(answer);
}

function statOf(answer: IncomingMessage): Stat {
  const header = String(answer.headers['x-docker-container-path-stat'] ?? '');
  return JSON.parse(Buffer.from(header, 'base64').toString('utf8')) as Stat;
}

function isDirectory(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}

/** Runs the system's tar; its standard input or output is the stream. */
async function runTar(
  args: readonly string[],
  wire: (child: ReturnType<typeof spawn>) => Promise<void>,
): Promise<void> {
  const child = spawn('tar', [...args], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += String(chunk);
  });
  const ended = once(child, 'close');
  await wire(child);
  const [code] = (await ended) as [number | null];
  if (code !== 0) throw new SwarmError('invalid', said.trim().split('\n')[0] || 'tar failed');
}

/** The argument of tar by which the topmost name becomes another, in hard links too. */
function renaming(from: string, to: string): string {
  const old = from.replace(/[\\/&.^$*[\]|]/g, '\\$&');
  return `--transform=flags=rSh;s|^${old}\\(/\\|$\\)|${to.replace(/[\\&|]/g, '\\$&')}\\1|`;
}

async function copyOut(
  context: Context,
  source: Place,
  target: string,
  flags: CopyFlags,
): Promise<void> {
  const path = await targetPath(context, source.container);
  let file = source.path;
  if (flags.followLink === true) {
    const found = await statIn(context, path, file);
    if ((found?.linkTarget ?? '') !== '') file = found?.linkTarget ?? file;
  }
  const { pipeline } = await import('node:stream/promises');
  const stream = await context.client.stream('GET', `${path}/archive`, { query: { path: file } });
  if (target === '-') {
    if (context.out.isTty) {
      stream.destroy();
      throw new SwarmError('invalid', 'a tar is not for a terminal: redirect it');
    }
    await pipeline(stream, process.stdout, { end: false });
    return;
  }
  const full = resolve(target);
  const { name, mode } = statOf(stream);
  const into = isDirectory(full);
  const isContent = file.endsWith('/.');
  if (!into && !existsSync(dirname(full))) {
    stream.destroy();
    throw new SwarmError('not_found', `${dirname(full)}: there is no such directory`);
  }
  if (!into && target.endsWith('/') && mode < MODE_DIRECTORY) {
    stream.destroy();
    throw new SwarmError('not_found', `${target}: there is no such directory`);
  }
  const [directory, rename] =
    into && !isContent ? [full, ''] : into ? [full, '.'] : [dirname(full), basename(full)];
  const owner = flags.archive === true ? ['--same-owner'] : ['--no-same-owner'];
  const args = ['-x', '-f', '-', '-C', directory, ...owner];
  if (rename !== '') {
    args.push(renaming(name, rename));
  }
  await runTar(args, (child) => pipeline(stream, child.stdin as NodeJS.WritableStream));
}

async function copyIn(
  context: Context,
  source: string,
  target: Place,
  flags: CopyFlags,
): Promise<void> {
  const path = await targetPath(context, target.container);
  const found = await statIn(context, path, target.path);
  const into = found !== undefined && found.mode >= MODE_DIRECTORY;
  const query = (directory: string): Record<string, string | boolean> => ({
    path: directory,
    noOverwriteDirNonDir: true,
    ...(flags.archive === true ? { copyUIDGID: true } : {}),
  });
  const put = async (directory: string, upload: AsyncIterable<Uint8Array>): Promise<void> => {
    await context.client.json('PUT', `${path}/archive`, { query: query(directory), upload });
  };
  if (source === '-') {
    if (!into) throw new SwarmError('invalid', `${target.path}: a tar is unpacked in a directory`);
    await put(target.path, process.stdin);
    return;
  }
  const full = resolve(source);
  if (!existsSync(full)) throw new SwarmError('not_found', `${source}: there is no such file`);
  const isContent = source.endsWith('/.') || source === '.';
  const asIs = into && !isContent;
  const name = asIs || isContent ? basename(full) : basename(target.path);
  const directory = into ? target.path : dirname(target.path.replace(/\/$/, ''));
  if (!into && target.path.endsWith('/') && !lstatSync(full).isDirectory()) {
    throw new SwarmError('not_found', `${target.path}: there is no such directory`);
  }
  const asContent = into ? '.' : basename(target.path);
  const args = [
    ...['-c', '-f', '-', '-C', dirname(full)],
    ...(flags.followLink === true ? ['-h'] : []),
    renaming(basename(full), isContent ? asContent : name),
    ...(flags.archive === true ? [] : ['--owner=0', '--group=0', '--numeric-owner']),
    basename(full),
  ];
  await runTar(args, (child) => put(directory, child.stdout as AsyncIterable<Uint8Array>));
}
