/**
 * Services as compatibility cases need them: made quickly, their tasks with the pids of their
 * programs, and what the kernel says of those: environment, limits, start times.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import { layoutOf } from '../support/labHosts.ts';
import { startedTicks } from '../support/processes.ts';
import {
  BOX,
  docker,
  pidOf,
  procFile,
  runningTasks,
  type ServiceTask,
  SOON_MS,
  tried,
} from './world.ts';

/** Ends at once, is not monitored and starts again soon: cases are many. */
export const QUICK = ['--stop-signal', 'KILL', '--restart-delay', '100ms'];
const UNWATCHED = ['--update-monitor', '1ms'];
export const ASLEEP = ['sleep', '1000'];

export interface Program extends ServiceTask {
  /** Of its first process, on this machine. */
  readonly pid: number;
}

/** Creates a service of BusyBox without waiting for it. */
export function create(name: string, flags: readonly string[], ...command: string[]) {
  const isJob = flags.some((flag) => flag.endsWith('-job'));
  const brief = isJob ? [] : [...UNWATCHED, '--rollback-monitor', '1ms'];
  const quick = ['--detach', '--quiet', '--name', name, ...QUICK, ...brief];
  return docker('h1', 'service', 'create', ...quick, ...flags, BOX, ...command);
}

/** Creates it and waits for its tasks. */
export async function serve(
  name: string,
  count: number,
  flags: readonly string[],
  ...command: string[]
): Promise<Program[]> {
  await create(name, flags, ...command);
  return programs(name, count);
}

/** Updates it, waits until that is over, and tells its tasks. */
export async function change(name: string, count: number, ...flags: string[]): Promise<Program[]> {
  await docker('h1', 'service', 'update', '--quiet', ...UNWATCHED, ...flags, name);
  return programs(name, count);
}

/** The running tasks of a service, those that started first first. */
export async function programs(service: string, count: number): Promise<Program[]> {
  const tasks = await runningTasks(service, count);
  const found = await Promise.all(
    tasks.map(async (task) => ({ ...task, pid: await pidOf(task.node, task.container) })),
  );
  return found.sort((a, b) => startedTicks(a.pid) - startedTicks(b.pid));
}

/** Removes services, and waits until none of their containers is left on any host. */
export async function remove(...services: string[]): Promise<void> {
  await docker('h1', 'service', 'rm', ...services);
  await until(`nothing is left of ${services.join(' and ')}`, SOON_MS, async () => {
    const left = await Promise.all(services.map((service) => containersOf(service)));
    return left.flat().length === 0 ? true : undefined;
  });
}

/** Ids of a service's containers, on both hosts, running or not. */
export async function containersOf(service: string): Promise<string[]> {
  const filter = ['--filter', `label=com.docker.swarm.service.name=${service}`];
  const listed = await Promise.all(
    ['h1', 'h2'].map((host) => docker(host, 'ps', '-aq', '--no-trunc', ...filter)),
  );
  return listed.flatMap((text) => text.split('\n')).filter((id) => id !== '');
}

/** A field of the service, by Go template. */
export function ofService(service: string, format: string): Promise<string> {
  return docker('h1', 'service', 'inspect', '--format', format, service);
}

/** Waits until the service's update has come to `state`. */
export function updateState(service: string, state: string): Promise<true> {
  return until(`the update of ${service} is ${state}`, SOON_MS, async () => {
    const status = '{{with .UpdateStatus}}{{.State}}{{end}}';
    return (await ofService(service, status)) === state ? true : undefined;
  });
}

export function environment(pid: number): string[] {
  return procFile(pid, 'environ').split('\0');
}

/** The words of a process's command line. */
export function words(pid: number): string[] {
  return procFile(pid, 'cmdline').split('\0').slice(0, -1);
}

/** A line of /proc/<pid>/status: its text behind the name. */
export function statusOf(pid: number, name: string): string {
  return new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(procFile(pid, 'status'))?.[1] ?? '';
}

/** The process's first child. */
export function childOf(pid: number): number {
  return Number(procFile(pid, `task/${pid}/children`).trim().split(' ')[0]);
}

/** A file as a container has it in its own root. */
export function fileOf(pid: number, path: string): string {
  return procFile(pid, join('root', path));
}

/** The line of a container's mount table for `target`. */
export function mountAt(pid: number, target: string): string {
  const lines = procFile(pid, 'mountinfo').split('\n');
  return lines.find((line) => line.split(' ')[4] === target) ?? '';
}

/** The directory of a volume on its host. */
export function volumeOf(host: string, name: string): string {
  return join(layoutOf(host).dataRoot, 'volumes', name, '_data');
}

/** The lines that programs have written into a file; none when there is no such file yet. */
export function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch {
    return []; // nothing has been written yet
  }
}

/** What is said of a service's newest tasks that do not run, once something is. */
export function troubleOf(service: string, fits: RegExp): Promise<string> {
  return until(`${service}: ${fits}`, SOON_MS, async () => {
    const format = '{{.CurrentState}}: {{.Error}}';
    const { stdout } = await tried(
      'h1',
      'service',
      'ps',
      '--no-trunc',
      '--format',
      format,
      service,
    );
    return stdout.split('\n').find((line) => fits.test(line));
  });
}

/** Other groups count what is there: volumes that nobody uses, and images by these names, go. */
export async function leave(...images: string[]): Promise<void> {
  for (const host of ['h1', 'h2']) {
    await docker(host, 'volume', 'prune', '--all', '--force');
    for (const image of images) {
      const format = ['--digests', '--format', '{{.Tag}} {{.Digest}}', image];
      const found = (await docker(host, 'image', 'ls', ...format)).split('\n').filter(Boolean);
      const [name] = image.split(/:(?=[^:/]*$)/);
      for (const line of found) {
        const [tag, digest] = line.split(' ');
        const reference = tag === '<none>' ? `${name}@${digest}` : `${name}:${tag}`;
        await docker(host, 'image', 'rm', reference);
      }
    }
  }
}
