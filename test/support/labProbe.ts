/**
 * What really is on the lab's hosts, looked up in this machine's /proc and cgroups and in each
 * host's namespaces: processes, links, rules, files, descriptors. It never asks the product, so
 * that the product's word can be held against it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { daemonPid, pidOf } from '../../deploy/hosts/host.ts';
import { type HostLayout, hostLayout } from '../../deploy/hosts/layout.ts';

export interface HostProcess {
  readonly pid: number;
  readonly parent: number;
  /** R, S, D, Z ... as the kernel tells it. */
  readonly state: string;
  readonly arguments: readonly string[];
}

export function layoutOf(host: string): HostLayout {
  return hostLayout(Number(host.slice(1)));
}

function parseProcess(pid: number): HostProcess | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return { pid, parent: Number(parent), state, arguments: command };
  } catch {
    return undefined; // it ended meanwhile
  }
}

/** Every process of each host that is on, PID 1 first. One walk of /proc for all hosts. */
export function processesOf(hosts: readonly string[]): Map<string, HostProcess[]> {
  const firsts = hosts.map((host) => pidOf(layoutOf(host)));
  const found = processesBelow(firsts);
  return new Map(hosts.map((host, at) => [host, found[at]]));
}

/** Each of these processes with all that came from it, itself first. One walk of /proc. */
export function processesBelow(firsts: readonly (number | undefined)[]): HostProcess[][] {
  const children = new Map<number, HostProcess[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const found = parseProcess(Number(name));
    if (found === undefined) continue;
    children.set(found.parent, [...(children.get(found.parent) ?? []), found]);
  }
  return firsts.map((first) => {
    const top = first === undefined ? undefined : parseProcess(first);
    const found = top === undefined ? [] : [top];
    for (let at = 0; at < found.length; at += 1) found.push(...(children.get(found[at].pid) ?? []));
    return found;
  });
}

/** A variable of a process's environment; '' when it has none. */
export function environmentOf(pid: number, name: string): string {
  try {
    const lines = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
    return lines.find((line) => line.startsWith(`${name}=`))?.slice(name.length + 1) ?? '';
  } catch {
    return ''; // it ended meanwhile
  }
}

export interface LiveContainer {
  readonly host: string;
  readonly taskId: string;
  readonly pid: number;
  readonly shim: number;
}

/** The containers' first processes, told by the TASK_ID in their environment. */
export function liveContainers(hosts: readonly string[]): LiveContainer[] {
  const found: LiveContainer[] = [];
  for (const [host, processes] of processesOf(hosts)) {
    for (const { pid, parent, state, arguments: words } of processes) {
      if (words[0] !== '/web' || state === 'Z') continue;
      const taskId = environmentOf(pid, 'TASK_ID');
      if (taskId !== '') found.push({ host, taskId, pid, shim: parent });
    }
  }
  return found;
}

/** A command in namespaces of a process; its standard output, or undefined when it fails. */
export function within(
  pid: number,
  namespaces: string,
  ...command: string[]
): { readonly ok: boolean; readonly text: string } {
  const flags = [...namespaces].map((letter) => `-${letter}`);
  const result = spawnSync('nsenter', ['-t', String(pid), ...flags, ...command], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  const text = result.status === 0 ? result.stdout : `${result.stdout}${result.stderr}`;
  return { ok: result.status === 0, text: text.trim() };
}

function filesBelow(directory: string, depth: number): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() && depth > 0 ? [path, ...filesBelow(path, depth - 1)] : [path];
  });
}

/** Every group below `parent`, in each hierarchy. */
export function cgroupsBelow(parent: string): string[] {
  const root = '/sys/fs/cgroup';
  return readdirSync(root)
    .map((name) => join(root, name, parent))
    .filter((path) => existsSync(path))
    .flatMap((path) => directoriesBelow(path));
}

function directoriesBelow(directory: string): string[] {
  const below = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(directory, entry.name));
  return [...below, ...below.flatMap(directoriesBelow)];
}

/** What may grow with use, each as lines that can be compared with those of another moment. */
export interface Traces {
  readonly processes: readonly string[];
  readonly zombies: readonly string[];
  readonly namespaces: readonly string[];
  readonly links: readonly string[];
  readonly rules: readonly string[];
  readonly routes: readonly string[];
  readonly mounts: readonly string[];
  readonly cgroups: readonly string[];
  readonly execFiles: readonly string[];
  readonly containers: readonly string[];
}

/** Made with the first container after a boot, and kept empty. */
const MADE_ONCE = /\/network\/files$/;

/** Made from a random hardware address at each boot. */
const OWN_LINK_LOCAL = /^local fe80:/;

/** Of an empty bridge; the kernel says so some time after the last has left. */
const CARRIER = / (linkdown|dead)\b/g;

/** Numbers the kernel gives out anew are not part of a trace. */
const link = (line: string): string => line.split(/\s+/)[0].split('@')[0];

export function tracesOf(host: string): Traces {
  const layout = layoutOf(host);
  const first = pidOf(layout);
  if (first === undefined) throw new Error(`${host} is off`);
  return tracesAt({ ...layout, first });
}

/** Where a daemon keeps what it makes, and the first process of its namespaces. */
export interface TracedHost {
  readonly first: number;
  readonly execRoot: string;
  readonly dataRoot: string;
  readonly cgroupParent: string;
}

export function tracesAt(layout: TracedHost): Traces {
  const { first } = layout;
  const [processes] = processesBelow([first]);
  const spaces = new Set(processes.map(({ pid }) => namespaceOf(pid)));
  const gateway = ['nsenter', `--net=${join(layout.execRoot, 'netns', 'gateway')}`];
  const lines = (...command: string[]): string[] =>
    within(first, 'mn', ...command)
      .text.split('\n')
      .filter((line) => line !== '');
  return {
    processes: processes
      .filter(({ state }) => state !== 'Z')
      .map(({ arguments: words }) => words.slice(0, 3).join(' '))
      .sort(),
    zombies: processes.filter(({ state }) => state === 'Z').map(({ pid }) => `pid ${pid}`),
    namespaces: [`${spaces.size} network namespaces with a process`],
    links: [
      ...lines('ip', '-br', 'link').map((line) => `host ${link(line)}`),
      ...lines(...gateway, 'ip', '-br', 'link').map((line) => `gateway ${link(line)}`),
    ].sort(),
    rules: [
      ...lines('nft', '-s', 'list', 'ruleset'),
      ...lines(...gateway, 'nft', '-s', 'list', 'ruleset'),
    ],
    routes: [
      ...lines('ip', 'route', 'show', 'table', 'all'),
      ...lines(...gateway, 'ip', 'route', 'show', 'table', 'all'),
    ]
      .filter((line) => !OWN_LINK_LOCAL.test(line))
      .map((line) => line.replace(CARRIER, '').trimEnd())
      .sort(),
    mounts: readFileSync(`/proc/${first}/mountinfo`, 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(layout.execRoot) || path.startsWith(layout.dataRoot))
      .sort(),
    cgroups: cgroupsBelow(layout.cgroupParent).sort(),
    execFiles: filesBelow(layout.execRoot, 4)
      .filter((path) => !MADE_ONCE.test(path))
      .sort(),
    containers: filesBelow(join(layout.dataRoot, 'containers'), 0).sort(),
  };
}

/** What is there now and was not before, and the other way round; '' when nothing differs. */
export function difference(before: Traces, now: Traces): string {
  const found: string[] = [];
  for (const key of Object.keys(now) as (keyof Traces)[]) {
    const more = minus(now[key], before[key]);
    const less = minus(before[key], now[key]);
    if (more.length > 0)
      found.push(`${key}, ${more.length} more: ${more.slice(0, 10).join(' | ')}`);
    if (less.length > 0)
      found.push(`${key}, ${less.length} less: ${less.slice(0, 10).join(' | ')}`);
  }
  return found.join('; ');
}

/** Lines may occur more than once. */
function minus(lines: readonly string[], others: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const other of others) counts.set(other, (counts.get(other) ?? 0) + 1);
  return lines.filter((line) => {
    const count = counts.get(line) ?? 0;
    counts.set(line, count - 1);
    return count <= 0;
  });
}

function namespaceOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return 'ended';
  }
}

export interface DaemonSize {
  readonly descriptors: number;
  readonly residentKb: number;
  readonly threads: number;
}

export function daemonSize(host: string): DaemonSize {
  const pid = daemonPid(layoutOf(host));
  if (pid === undefined) throw new Error(`${host} has no daemon`);
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    residentKb: field('VmRSS'),
    threads: field('Threads'),
  };
}
