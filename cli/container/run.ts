/**
 * create, run, start and attach: making a container, and being with it while it runs. The exit code
 * is the program's; 125 when the daemon refused, 126 and 127 when the program could not be started
 * or is not there, as docker's.
 */
import { writeFileSync } from 'node:fs';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { type Context, EXIT_ERROR } from '../context.ts';
import { pullImage } from '../image/transfer.ts';
import { readConfig } from '../registryAuth.ts';
import { bodyJson, newBody } from './body.ts';
import { applyCreateFlags } from './flags.ts';
import {
  type ConverseOptions,
  checkTty,
  converse,
  DETACH_KEYS,
  parseDetachKeys,
  passSignals,
} from './stream.ts';

export const EXIT_DAEMON = 125;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;

export interface RunFlags {
  readonly detach?: boolean;
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly attach?: readonly string[];
  readonly name?: string;
  readonly cidfile?: string;
  readonly platform?: string;
  readonly pull?: string;
  readonly quiet?: boolean;
  readonly rm?: boolean;
  readonly sigProxy?: boolean;
  readonly detachKeys?: string;
}

interface InspectJson {
  readonly Id: string;
  readonly Name: string;
  readonly Config: { readonly Tty: boolean; readonly OpenStdin: boolean; readonly Image: string };
  readonly State: { readonly Running: boolean; readonly Status: string; readonly ExitCode: number };
  readonly HostConfig: { readonly AutoRemove?: boolean };
}

export function pathOf(name: string): string {
  return `/containers/${encodeURIComponent(name)}`;
}

export async function detachKeysOf(flag: string | undefined): Promise<string> {
  const keys = flag ?? (await readConfig()).detachKeys ?? DETACH_KEYS;
  parseDetachKeys(keys);
  return keys;
}

/** What a failed start's exit code is, by what the daemon says of it. */
export function startFailure(message: string): number {
  if (/not found|no such file or directory|cannot be found|does not exist/i.test(message)) {
    return EXIT_NOT_FOUND;
  }
  const isRefused = /permission denied|not executable|is a directory|exec format/i.test(message);
  return isRefused ? EXIT_NOT_EXECUTABLE : EXIT_DAEMON;
}

/** Tells an error and ends with `code`, for commands whose exit code says what went wrong. */
async function withExit(
  context: Context,
  codeOf: (message: string) => number,
  act: () => Promise<void>,
): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code === 'cancelled') throw error;
    context.err.write(`tsswarm: ${messageOf(error)}\n`);
    context.exitCode = codeOf(error.message);
  }
}

/** The new container's id. Its image is pulled when it is not here. */
export async function createContainer(
  context: Context,
  image: string,
  command: readonly string[],
  flags: RunFlags,
  attach: { stdin: boolean; stdout: boolean; stderr: boolean },
): Promise<string> {
  const body = newBody(image, command);
  applyCreateFlags(body, flags as Readonly<Record<string, unknown>>);
  body.Tty = flags.tty === true;
  body.OpenStdin = flags.interactive === true;
  body.StdinOnce = flags.interactive === true && attach.stdin;
  body.AttachStdin = attach.stdin;
  body.AttachStdout = attach.stdout;
  body.AttachStderr = attach.stderr;
  if (body.Tty && context.out.isTty) {
    body.HostConfig.ConsoleSize = [context.out.rows, context.out.columns];
  }
  const pull = flags.pull ?? 'missing';
  if (!['always', 'missing', 'never'].includes(pull)) {
    throw new SwarmError('invalid', `--pull: "${pull}" is none of always, missing, never`);
  }
  const get = (): Promise<void> =>
    pullImage(context, image, {
      quiet: flags.quiet === true,
      platform: flags.platform,
      toStderr: true,
    });
  if (pull === 'always') await get();
  const query = { name: flags.name, platform: flags.platform };
  const make = (): Promise<{ Id: string; Warnings?: string[] | null }> =>
    context.client.post('/containers/create', bodyJson(body), query);
  let made: Awaited<ReturnType<typeof make>>;
  try {
    made = await make();
  } catch (error) {
    const isImage =
      error instanceof SwarmError && error.code === 'not_found' && /image/i.test(error.message);
    if (!isImage || pull !== 'missing') throw error;
    context.err.write(`Unable to find image '${image}' locally\n`);
    await get();
    made = await make();
  }
  for (const warning of made.Warnings ?? []) context.err.write(`warning: ${warning}\n`);
  if (flags.cidfile !== undefined) {
    try {
      writeFileSync(flags.cidfile, made.Id, { flag: 'wx' });
    } catch (cause) {
      throw new SwarmError('invalid', `--cidfile ${flags.cidfile}: ${messageOf(cause)}`, { cause });
    }
  }
  return made.Id;
}

/** Which streams are attached: what was named, else all but an input that was not asked for. */
function attached(flags: RunFlags): { stdin: boolean; stdout: boolean; stderr: boolean } {
  const named = (flags.attach ?? []).map((word) => word.toLowerCase());
  for (const word of named) {
    if (!['stdin', 'stdout', 'stderr'].includes(word)) {
      throw new SwarmError('invalid', `--attach: "${word}" is none of stdin, stdout, stderr`);
    }
  }
  if (named.length === 0) {
    return { stdin: flags.interactive === true, stdout: true, stderr: true };
  }
  return {
    stdin: named.includes('stdin'),
    stdout: named.includes('stdout'),
    stderr: named.includes('stderr'),
  };
}

export async function create(
  context: Context,
  image: string,
  command: readonly string[],
  flags: RunFlags,
): Promise<void> {
  await withExit(
    context,
    () => EXIT_ERROR,
    async () => {
      const id = await createContainer(context, image, command, flags, attached(flags));
      context.out.write(`${id}\n`);
    },
  );
}

export async function run(
  context: Context,
  image: string,
  command: readonly string[],
  flags: RunFlags,
): Promise<void> {
  const detach = flags.detach === true;
  if (detach && flags.attach !== undefined) {
    throw new SwarmError('invalid', '--attach and --detach exclude each other');
  }
  const streams = detach ? { stdin: false, stdout: false, stderr: false } : attached(flags);
  const tty = flags.tty === true;
  if (!detach) checkTty(tty, flags.interactive === true && streams.stdin);
  let id = '';
  await withExit(
    context,
    () => EXIT_DAEMON,
    async () => {
      id = await createContainer(context, image, command, flags, streams);
    },
  );
  if (id === '') return;
  if (detach) {
    await withExit(context, startFailure, async () => {
      await context.client.post(`${pathOf(id)}/start`);
      context.out.write(`${id}\n`);
    });
    return;
  }
  await startAttached(context, id, {
    tty,
    stdin: streams.stdin && flags.interactive === true,
    stdout: streams.stdout,
    stderr: streams.stderr,
    detachKeys: await detachKeysOf(flags.detachKeys),
    removes: flags.rm === true,
    sigProxy: flags.sigProxy !== false && !tty,
  });
}

interface StartOptions extends ConverseOptions {
  readonly removes: boolean;
  readonly sigProxy: boolean;
}

/** Attaches, starts, and is with it until it has ended; its exit code is the command's. */
async function startAttached(context: Context, id: string, options: StartOptions): Promise<void> {
  const { client } = context;
  const path = pathOf(id);
  const hijacked = await client.hijack(`${path}/attach`, {
    query: {
      stream: true,
      stdin: options.stdin,
      stdout: options.stdout !== false,
      stderr: options.stderr !== false,
      detachKeys: options.detachKeys,
    },
  });
  const waiting = new AbortController();
  const condition = options.removes ? 'removed' : 'next-exit';
  const ending = waitFor(context, id, condition, waiting.signal);
  ending.catch(() => {}); // told by its await below; a start that fails before it is told instead
  const stopPassing = options.sigProxy ? passSignals(context, path) : () => {};
  try {
    let started = false;
    await withExit(context, startFailure, async () => {
      await client.post(`${path}/start`);
      started = true;
    });
    if (!started) {
      hijacked.socket.destroy();
      return;
    }
    const resize = (h: number, w: number): Promise<void> =>
      client.post(`${path}/resize`, undefined, { h, w });
    const how = await converse(context, hijacked, { ...options, resize });
    if (how === 'ended') context.exitCode = await ending;
  } finally {
    stopPassing();
    waiting.abort();
  }
}

/** The exit code, once it has ended. */
export async function waitFor(
  context: Context,
  id: string,
  condition: string,
  signal?: AbortSignal,
): Promise<number> {
  const answer = await context.client.json<{
    StatusCode: number;
    Error?: { Message: string } | null;
  }>('POST', `${pathOf(id)}/wait`, { query: { condition }, signal });
  const why = answer.Error?.Message ?? '';
  if (why !== '') throw new SwarmError('internal', why);
  return answer.StatusCode;
}

interface StartFlags {
  readonly attach?: boolean;
  readonly interactive?: boolean;
  readonly detachKeys?: string;
}

export async function start(
  context: Context,
  names: readonly string[],
  flags: StartFlags,
): Promise<void> {
  if (flags.attach !== true && flags.interactive !== true) {
    for (const name of names) {
      await withExit(
        context,
        () => EXIT_ERROR,
        async () => {
          await context.client.post(`${pathOf(name)}/start`);
          context.out.write(`${name}\n`);
        },
      );
    }
    return;
  }
  if (names.length > 1) throw new SwarmError('invalid', 'only one container can be attached to');
  const found = await context.client.get<InspectJson>(`${pathOf(names[0])}/json`);
  const { Tty } = found.Config;
  const stdin = flags.interactive === true && found.Config.OpenStdin;
  await startAttached(context, found.Id, {
    tty: Tty,
    stdin,
    detachKeys: await detachKeysOf(flags.detachKeys),
    removes: found.HostConfig.AutoRemove === true,
    sigProxy: !Tty,
  });
}

interface AttachFlags {
  readonly detachKeys?: string;
  readonly stdin: boolean;
  readonly sigProxy?: boolean;
}

export async function attach(context: Context, name: string, flags: AttachFlags): Promise<void> {
  const { client } = context;
  const found = await client.get<InspectJson>(`${pathOf(name)}/json`);
  if (!found.State.Running) {
    throw new SwarmError('conflict', `${name} does not run: "tsswarm start -a ${name}" starts it`);
  }
  const path = pathOf(found.Id);
  const { Tty } = found.Config;
  const stdin = flags.stdin && found.Config.OpenStdin;
  checkTty(Tty, stdin);
  const detachKeys = await detachKeysOf(flags.detachKeys);
  const hijacked = await client.hijack(`${path}/attach`, {
    query: { stream: true, stdin, stdout: true, stderr: true, detachKeys },
  });
  const waiting = new AbortController();
  const ending = waitFor(context, found.Id, 'not-running', waiting.signal);
  ending.catch(() => {}); // told by its await below, which who detaches never comes to
  const stopPassing = flags.sigProxy !== false && !Tty ? passSignals(context, path) : () => {};
  try {
    const resize = (h: number, w: number): Promise<void> =>
      client.post(`${path}/resize`, undefined, { h, w });
    const how = await converse(context, hijacked, { tty: Tty, stdin, detachKeys, resize });
    if (how === 'ended') context.exitCode = await ending;
    else context.err.write('read escape sequence\n');
  } finally {
    stopPassing();
    waiting.abort();
  }
}
