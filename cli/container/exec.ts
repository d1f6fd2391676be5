/**
 * exec: a further program in a container of this host, or in a task's on any host of the swarm. A
 * name is a container's first, then a task's or a service's (its first running task).
 */
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { Context } from '../context.ts';
import { parseEnv } from '../service/parse.ts';
import { readEnvFile } from './envFile.ts';
import { detachKeysOf, EXIT_DAEMON, pathOf, startFailure } from './run.ts';
import { checkTty, converse } from './stream.ts';

export interface ExecFlags {
  readonly detach?: boolean;
  readonly detachKeys?: string;
  readonly env?: readonly string[];
  readonly envFile?: readonly string[];
  readonly interactive?: boolean;
  readonly privileged?: boolean;
  readonly tty?: boolean;
  readonly user?: string;
  readonly workdir?: string;
}

/** Where requests about a container or task go: '/containers/ID' or '/tsswarm/tasks/NAME'. */
export async function targetPath(context: Context, name: string): Promise<string> {
  const task = `/tsswarm/tasks/${encodeURIComponent(name)}`;
  try {
    await context.client.get(`${pathOf(name)}/json`);
    return pathOf(name);
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== 'not_found') throw error;
  }
  try {
    await context.client.get(`${task}/json`);
    return task;
  } catch (error) {
    const isUnknown = error instanceof SwarmError && error.code === 'not_found';
    if (!isUnknown) throw error;
    throw new SwarmError('not_found', `no such container, task or service: ${name}`, {
      cause: error,
    });
  }
}

export async function exec(
  context: Context,
  name: string,
  command: readonly string[],
  flags: ExecFlags,
): Promise<void> {
  const { client } = context;
  const detach = flags.detach === true;
  const tty = flags.tty === true;
  const stdin = flags.interactive === true && !detach;
  if (!detach) checkTty(tty, stdin);
  const detachKeys = await detachKeysOf(flags.detachKeys);
  const path = await targetPath(context, name);
  const env = [
    ...(flags.envFile ?? []).flatMap((file) => readEnvFile(file)),
    ...(flags.env ?? []).flatMap((text) => parseEnv(text) ?? []),
  ];
  const { Id } = await client.post<{ Id: string }>(`${path}/exec`, {
    AttachStdin: stdin,
    AttachStdout: !detach,
    AttachStderr: !detach,
    Detach: detach,
    DetachKeys: detachKeys,
    Tty: tty,
    Cmd: command,
    Env: env,
    User: flags.user ?? '',
    WorkingDir: flags.workdir ?? '',
    Privileged: flags.privileged === true,
  });
  try {
    if (detach) {
      await client.post(`/exec/${Id}/start`, { Detach: true, Tty: tty });
      return;
    }
    const ConsoleSize = tty && context.out.isTty ? [context.out.rows, context.out.columns] : null;
    const body = { Detach: false, Tty: tty, ...(ConsoleSize === null ? {} : { ConsoleSize }) };
    const hijacked = await client.hijack(`/exec/${Id}/start`, { body });
    const resize = (h: number, w: number): Promise<void> =>
      client.post(`/exec/${Id}/resize`, undefined, { h, w });
    const how = await converse(context, hijacked, { tty, stdin, detachKeys, resize });
    if (how === 'detached') return;
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error;
    const code = startFailure(error.message);
    if (code === EXIT_DAEMON) throw error;
    context.err.write(`tsswarm: ${messageOf(error)}\n`);
    context.exitCode = code;
    return;
  }
  const ended = await client.get<{ ExitCode: number | null }>(`/exec/${Id}/json`);
  context.exitCode = ended.ExitCode ?? 0;
}
