/**
<<<<<<< HEAD
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
=======
 * Hosts of the lab beyond the swarm that `deploy/lab up` makes: one that is on but in no swarm,
 * daemons that are started to see them refuse, and commands that must be refused with one line. For
 * end-to-end tests of what users and hosts get wrong; it never reaches into a running daemon.
 */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import {
  boot,
  daemonPid,
  environment,
  pidOf,
  startDaemon,
  stopDaemon,
} from '../../deploy/hosts/host.ts';
import { type HostLayout, hostLayout } from '../../deploy/hosts/layout.ts';
import { TOP } from '../tidy/sources.ts';
import { inside, type Outcome, outcome } from './lab.ts';

export const MAIN = join(TOP, 'dist', 'cli', 'main.js');
/** A daemon that is refused ends by itself within this. */
const REFUSAL_SECONDS = '20';
>>>>>>> main

export function layoutOf(host: string): HostLayout {
  return hostLayout(Number(host.slice(1)));
}

<<<<<<< HEAD
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
  const children = new Map<number, HostProcess[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const found = parseProcess(Number(name));
    if (found === undefined) continue;
    children.set(found.parent, [...(children.get(found.parent) ?? []), found]);
  }
  const all = new Map<string, HostProcess[]>();
  for (const host of hosts) {
    const first = pidOf(layoutOf(host));
    const top = first === undefined ? undefined : parseProcess(first);
    const found = top === undefined ? [] : [top];
    for (let at = 0; at < found.length; at += 1) found.push(...(children.get(found[at].pid) ?? []));
    all.set(host, found);
  }
  return all;
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

function cgroupsBelow(parent: string): string[] {
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

/** Numbers the kernel gives out anew are not part of a trace. */
const link = (line: string): string => line.split(/\s+/)[0].split('@')[0];

export function tracesOf(host: string): Traces {
  const layout = layoutOf(host);
  const first = pidOf(layout);
  if (first === undefined) throw new Error(`${host} is off`);
  const processes = processesOf([host]).get(host) ?? [];
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
    ].sort(),
    mounts: readFileSync(`/proc/${first}/mountinfo`, 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.includes('tsswarm'))
      .sort(),
    cgroups: cgroupsBelow(layout.cgroupParent).sort(),
    execFiles: filesBelow(layout.execRoot, 4)
      .filter((path) => !MADE_ONCE.test(path))
      .sort(),
    containers: filesBelow(join(layout.dataRoot, 'containers'), 0).sort(),
  };
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
=======
/** Powers on a host that is in no swarm; `deploy/lab down` takes it away with the rest. */
export async function bootSpare(host: string): Promise<void> {
  await boot(layoutOf(host));
}

export async function stopDaemonOf(host: string): Promise<void> {
  await stopDaemon(layoutOf(host));
}

export async function startDaemonOf(host: string): Promise<void> {
  await startDaemon(layoutOf(host));
}

export function hasDaemon(host: string): boolean {
  return daemonPid(layoutOf(host)) !== undefined;
}

/** The command line of a daemon on `host`, with some flags replaced. */
export function daemonCommand(host: string, replaced: Record<string, string> = {}): string[] {
  const { socket, dataRoot, execRoot, cgroupParent } = layoutOf(host);
  const flags = {
    '--data-root': dataRoot,
    '--exec-root': execRoot,
    '--cgroup-parent': cgroupParent,
    '--host': `unix://${socket}`,
    ...replaced,
  };
  return [
    'timeout',
    '-s',
    'KILL',
    REFUSAL_SECONDS,
    'node',
    MAIN,
    'daemon',
    ...Object.entries(flags).flat(),
  ];
}

/** The one line a refused command says. Fails unless it is one, on standard error alone. */
export function refusal(what: string, result: Outcome, code = 1): string {
  assert.equal(result.code, code, `${what}: exit ${result.code}: ${result.stderr}`);
  const lines = result.stderr.trimEnd().split('\n');
  assert.equal(lines.length, 1, `${what}: more than one line: ${result.stderr}`);
  assert.match(lines[0], /^tsswarm: \S/, what);
  assert.doesNotMatch(lines[0], /\bat .*\.js:\d+|undefined|\[object/, what);
  return lines[0];
}

/** As `inside`, without the lab's own program in between: for tests of many short commands. */
export function within(host: string, ...command: string[]): Promise<Outcome> {
  const layout = layoutOf(host);
  const own = environment(layout);
  const set = ['PATH', 'TSSWARM_HOST', 'DOCKER_HOST'].map((name) => `${name}=${own[name]}`);
  const target = ['-t', String(pidOf(layout)), '-n', '-p', '-m', '-u'];
  return outcome('nsenter', [...target, 'env', ...set, ...command]);
}

/** Runs `tsswarm args` on `host`: status 1, nothing on standard output, one line that fits. */
export async function refused(host: string, args: readonly string[], line: RegExp): Promise<void> {
  const result = await within(host, 'tsswarm', ...args);
  const what = `tsswarm ${args.join(' ')}`;
  assert.match(refusal(what, result), line);
  assert.equal(result.stdout, '', what);
}

/** Starts a daemon that must refuse: it ends with status 1 and its last line fits. */
export async function daemonRefused(
  host: string,
  replaced: Record<string, string>,
  line: RegExp,
): Promise<void> {
  const result = await inside(host, ...daemonCommand(host, replaced));
  // Its log comes before, as JSON.
  const said = result.stderr
    .trimEnd()
    .split('\n')
    .filter((each) => !each.startsWith('{'));
  assert.equal(result.code, 1, `exit ${result.code}: ${result.stderr}`);
  assert.equal(said.length, 1, result.stderr);
  assert.match(said[0], line);
}

/** Runs every job, `width` at a time (each is a process or two); fails with all that failed. */
export async function inTurns(
  width: number,
  jobs: readonly (() => Promise<void>)[],
): Promise<void> {
  const waiting = [...jobs];
  const failures: string[] = [];
  const worker = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      await job().catch((error: unknown) => failures.push(String(error)));
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  assert.deepEqual(failures, []);
>>>>>>> main
}
