/**
 * The lab as tests use it: `deploy/lab` driven as a user drives it, commands inside its hosts, HTTP
 * from the outside client, and waiting for conditions with a bound. Never reads another host's
 * files to learn what the product should have told.
 */
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SystemClock } from '../../base/clock.ts';
import { TOP } from '../tidy/sources.ts';
import { until as untilAnswer } from './until.ts';

const execFileAsync = promisify(execFile);
export const clock = new SystemClock();
const LAB = join(TOP, 'deploy', 'lab');
const POLL_MS = 50;
export const WEB_IMAGE = 'tsswarm/web:latest';
export const WEB_TAR = join(TOP, 'dist', 'images', 'web.tar');

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end; never throws for a non-zero exit. */
export async function outcome(
  command: string,
  args: readonly string[],
  timeoutMs = 300_000,
): Promise<Outcome> {
  try {
    const { stdout, stderr } = await execFileAsync(command, [...args], {
      timeout: timeoutMs,
      maxBuffer: 64 * 1024 * 1024,
    });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const failed = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof failed.code !== 'number') throw error;
    return { code: failed.code, stdout: failed.stdout ?? '', stderr: failed.stderr ?? '' };
  }
}

/** As `until` elsewhere, of hosts that may not answer yet: an error of `ask` means "not yet". */
export function until<T>(
  what: string,
  timeoutMs: number,
  ask: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  let last = '';
  const tell = (): string => `${what}${last}`;
  const tolerant = async (): Promise<T | undefined> => {
    try {
      return await ask();
    } catch (error) {
      last = ` (last error: ${String(error)})`;
      return undefined;
    }
  };
  return untilAnswer(tell, timeoutMs, tolerant, POLL_MS);
}

export async function lab(...args: string[]): Promise<string> {
  const result = await outcome(LAB, args);
  if (result.code !== 0) throw new Error(`lab ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

/** Raises the lab anew. */
export async function raise(hosts = 3, managers = 3): Promise<void> {
  await lab('down');
  await lab('up', '--hosts', String(hosts), '--managers', String(managers));
}

/** A command inside a host (or 'client'); its outcome. */
export function inside(host: string, ...command: string[]): Promise<Outcome> {
  return outcome(LAB, ['exec', host, ...command]);
}

/** `tsswarm ...` on a host; its standard output. Fails with what it said. */
export async function swarm(host: string, ...args: string[]): Promise<string> {
  const result = await inside(host, 'tsswarm', ...args);
  if (result.code !== 0) {
    throw new Error(`${host}: tsswarm ${args.join(' ')}: exit ${result.code}: ${result.stderr}`);
  }
  return result.stdout.trim();
}

/** One line of `service ps`, by the fields that tests ask for. */
export interface TaskRow {
  readonly id: string;
  readonly name: string;
  readonly node: string;
  readonly state: string;
}

/** The tasks of a service that should run, with the state they are in. */
export async function tasks(host: string, service: string): Promise<TaskRow[]> {
  const format = '{{.ID}}|{{.Name}}|{{.Node}}|{{.CurrentState}}';
  const filter = ['--filter', 'desired-state=running'];
  const text = await swarm(host, 'service', 'ps', service, ...filter, '--format', format);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [id, name, node, state] = line.split('|');
      return { id, name, node, state: state.split(' ')[0] };
    });
}

export async function running(host: string, service: string): Promise<TaskRow[]> {
  return (await tasks(host, service)).filter((task) => task.state === 'Running');
}

/** Waits until exactly `count` tasks of the service run, as `host` sees it. */
export function untilRunning(
  host: string,
  service: string,
  count: number,
  timeoutMs = 30_000,
): Promise<TaskRow[]> {
  return until(`${count} of ${service} run`, timeoutMs, async () => {
    const rows = await running(host, service);
    const all = await tasks(host, service);
    return rows.length === count && all.length === count ? rows : undefined;
  });
}

/** Loads the project's web image on every host given. */
export async function loadImage(...hosts: string[]): Promise<void> {
  await Promise.all(hosts.map((host) => swarm(host, 'image', 'load', '--input', WEB_TAR)));
}

const FETCH = `fetch(process.argv[1], { signal: AbortSignal.timeout(10_000) })
  .then((answer) => answer.text())
  .then((text) => process.stdout.write(text), (error) => {
    process.stderr.write(String(error.cause ?? error)); process.exit(1);
  })`;

/** GET from inside a host or from the outside client; the body. */
export async function get(from: string, url: string): Promise<string> {
  const result = await inside(from, 'node', '-e', FETCH, url);
  if (result.code !== 0) throw new Error(`GET ${url} from ${from}: ${result.stderr}`);
  return result.stdout.trim();
}

export interface NodeRow {
  readonly hostname: string;
  readonly status: string;
  readonly availability: string;
  readonly manager: string;
}

export async function nodes(host: string): Promise<NodeRow[]> {
  const format = '{{.Hostname}}|{{.Status}}|{{.Availability}}|{{.ManagerStatus}}';
  const text = await swarm(host, 'node', 'ls', '--format', format);
  return text.split('\n').map((line) => {
    const [hostname, status, availability, manager] = line.split('|');
    return { hostname, status, availability, manager };
  });
}

/** The host that leads, as `host` sees it. */
export async function leader(host: string): Promise<string> {
  const row = (await nodes(host)).find((node) => node.manager === 'Leader');
  if (row === undefined) throw new Error('nobody leads');
  return row.hostname;
}

export function untilReady(host: string, count: number, timeoutMs = 30_000): Promise<NodeRow[]> {
  return until(`${count} nodes ready`, timeoutMs, async () => {
    const rows = await nodes(host);
    const ready = rows.filter((row) => row.status === 'Ready');
    return ready.length === count && rows.some((row) => row.manager === 'Leader')
      ? rows
      : undefined;
  });
}

/** Host-side process id of a task's container, as the API on the task's own host tells it. */
export async function containerPid(host: string, taskId: string): Promise<number> {
  const text = await api(host, `/tasks/${taskId}`);
  const task = JSON.parse(text) as {
    Status: { ContainerStatus?: { PID?: number } };
  };
  return task.Status.ContainerStatus?.PID ?? 0;
}

const API = `require('node:http').get({ socketPath: process.env.TSSWARM_HOST.slice(7),
  path: process.argv[1] }, (answer) => answer.pipe(process.stdout))`;

export async function api(host: string, path: string): Promise<string> {
  const result = await inside(host, 'node', '-e', API, path);
  if (result.code !== 0) throw new Error(`GET ${path} on ${host}: ${result.stderr}`);
  return result.stdout;
}

/** `deploy/lab exec` in the background; lines of its standard output until stopped. */
export function follow(host: string, ...command: string[]): { lines: string[]; stop(): void } {
  const child = spawn(LAB, ['exec', host, ...command], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const lines: string[] = [];
  let rest = '';
  child.stdout.on('data', (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  });
  const stop = (): void => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  };
  return { lines, stop };
}

/** Field 22 of a process's stat, through a host's own /proc: unchanged = never restarted. */
export async function startTimeInside(host: string, pid: number): Promise<string> {
  const result = await inside(host, 'cat', `/proc/${pid}/stat`);
  return result.code === 0
    ? result.stdout.slice(result.stdout.lastIndexOf(')') + 2).split(' ')[19]
    : '';
}

export function readText(path: string): string {
  return readFileSync(path, 'utf8');
}
