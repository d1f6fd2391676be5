/**
 * Where compatibility cases run: a lab of two hosts with an image of BusyBox, and the ways to look
 * at what is true there: containers' processes and their namespaces, cgroups, answers on the
 * network.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { inside, lab, type Outcome, outcome, raise, until } from '../support/lab.ts';
import { processesOf } from '../support/labProbe.ts';
import { type Client, clientOf, scriptArguments } from '../support/terminal.ts';

export const BOX = 'box:1';
const BUSYBOX = '/bin/busybox';
export const SOON_MS = 20_000;

/** For files that cases write; gone with the lab. */
export let work = '';

export async function open(): Promise<void> {
  work = mkdtempSync(join(tmpdir(), 'compat-'));
  await raise(2, 1);
  const root = join(work, 'root');
  for (const name of ['bin', 'tmp', 'etc', 'root'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'bin', 'busybox'));
  for (const name of execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
  }
  execFileSync('tar', ['-C', root, '-cf', join(work, 'root.tar'), '.']);
  for (const host of ['h1', 'h2']) {
    const change = ['--change', 'CMD ["sh"]', '--change', 'ENV PATH=/bin'];
    await docker(host, 'image', 'import', ...change, join(work, 'root.tar'), BOX);
  }
}

export async function close(): Promise<void> {
  await lab('down');
  rmSync(work, { recursive: true, force: true });
}

/** Docker on a host, wanted to succeed; its standard output without the last newline. */
export async function docker(host: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await tried(host, ...args);
  assert.equal(code, 0, `docker ${args.join(' ')}: ${stderr}`);
  return stdout.trimEnd();
}

export function tried(host: string, ...args: string[]): Promise<Outcome> {
  return outcome('docker', onHost(host, args));
}

function onHost(host: string, args: readonly string[]): string[] {
  return ['-H', `unix://${hostLayout(Number(host.slice(1))).socket}`, ...args];
}

/** It fails, and says something that fits. */
export async function refused(host: string, args: readonly string[], says: RegExp): Promise<void> {
  const { code, stderr } = await tried(host, ...args);
  assert.notEqual(code, 0, `docker ${args.join(' ')} was not refused`);
  assert.match(stderr, says);
}

/** A field of `docker inspect`, by Go template. */
export function field(host: string, name: string, format: string): Promise<string> {
  return docker(host, 'inspect', '--format', format, name);
}

/**
 * The pid, on this machine, of a container's first process: what the kernel says is asked of it.
 */
export async function pidOf(host: string, container: string): Promise<number> {
  const pid = Number(await field(host, container, '{{.State.Pid}}'));
  assert.ok(pid > 0, `${container} has no process`);
  const found = machinePid(host, pid);
  assert.ok(found !== undefined, `process ${pid} of ${host} is not on this machine`);
  return found;
}

/** The process of this machine that has this pid in its host's namespace. */
function machinePid(host: string, pid: number): number | undefined {
  const processes = processesOf([host]).get(host) ?? [];
  return processes.find((each) => namespacedPid(each.pid) === pid)?.pid;
}

function namespacedPid(pid: number): number | undefined {
  try {
    const pids = /^NSpid:\s+(.*)$/m.exec(procFile(pid, 'status'))?.[1].split(/\s+/);
    return Number(pids?.[1]);
  } catch {
    return undefined; // it ended meanwhile
  }
}

/** A file of a process of this machine: '/proc/<pid>/<name>'. */
export function procFile(pid: number, name: string): string {
  return readFileSync(`/proc/${pid}/${name}`, 'utf8');
}

/** The value of a control file of the process's cgroup, v1 or v2. */
export function cgroupValue(pid: number, controller: string, v1: string, v2: string): string {
  const groups = procFile(pid, 'cgroup').trim().split('\n');
  const line = groups.find((each) => each.split(':')[1].split(',').includes(controller));
  if (line !== undefined) {
    return readFileSync(`/sys/fs/cgroup/${controller}${line.split(':')[2]}/${v1}`, 'utf8').trim();
  }
  const path = groups.find((each) => each.startsWith('0::'))?.slice(3) ?? '';
  return readFileSync(`/sys/fs/cgroup${path}/${v2}`, 'utf8').trim();
}

/** The same control in cgroup v1 and v2: file and the value it has to have. */
export interface Control {
  readonly controller: string;
  readonly v1: readonly [file: string, value: string];
  readonly v2: readonly [file: string, value: string];
}

export function assertControls(pid: number, controls: readonly Control[]): void {
  const groups = procFile(pid, 'cgroup').trim().split('\n');
  const v1 = new Set(groups.flatMap((line) => line.split(':')[1].split(',')));
  for (const { controller, v1: one, v2: two } of controls) {
    const [file, value] = v1.has(controller) ? one : two;
    if (file === '') continue; // this version has no such control
    assert.equal(cgroupValue(pid, controller, one[0], two[0]), value, file);
  }
}

/** A client that hangs is no reason for the suite to. */
const BOUND = { timeout: 60_000, killSignal: 'SIGKILL' } as const;

export function begun(host: string, ...args: string[]): Client {
  return clientOf(spawn('docker', onHost(host, args), BOUND));
}

/** As `begun`, on a terminal of `rows` and `columns`; arguments have no blanks or quotes. */
export function onTerminal(rows: number, columns: number, host: string, ...args: string[]): Client {
  const line = `docker ${onHost(host, args).join(' ')}`;
  return clientOf(spawn('script', scriptArguments(line, { size: { rows, columns } }), BOUND));
}

/** A container of its own for a case: made, started, looked at, removed with its volumes. */
export async function boxed(
  name: string,
  flags: readonly string[],
  command: readonly string[],
  look: (pid: number) => Promise<void>,
): Promise<void> {
  try {
    await docker('h1', 'container', 'create', '--name', name, ...flags, BOX, ...command);
    await docker('h1', 'container', 'start', name);
    await look(await pidOf('h1', name));
  } finally {
    await tried('h1', 'container', 'rm', '--force', '--volumes', name);
  }
}

/** What keeps a container running. */
export const SLEEP = ['sleep', '600'];

/** Program and arguments of a process. */
export function commandOf(pid: number): string {
  return procFile(pid, 'cmdline').split('\0').join(' ').trim();
}

/** A file of a process's root, read past its daemon. */
export function fileOf(pid: number, path: string): string {
  return procFile(pid, `root${path}`);
}

/** Which namespace of a kind a process is in. */
export function namespaceOf(pid: number, kind: string): string {
  return readlinkSync(`/proc/${pid}/ns/${kind}`);
}

/** A command in the container's namespaces, by this machine's nsenter and not by the daemon. */
export async function within(pid: number, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await outcome('nsenter', ['-t', String(pid), '-a', ...command]);
  assert.equal(code, 0, `${command.join(' ')}: ${stderr}`);
  return stdout.trimEnd();
}

/** From the outside client or a host: the body of an HTTP answer, '' when there is none. */
export async function fetched(from: string, url: string): Promise<string> {
  return (await inside(from, 'curl', '-s', '-m', '2', url)).stdout;
}

export interface ServiceTask {
  readonly id: string;
  readonly node: string;
  readonly container: string;
}

/** The tasks of a service that run, once there are `count`. */
export function runningTasks(service: string, count: number): Promise<ServiceTask[]> {
  return until(`${count} tasks of ${service} run`, SOON_MS, async () => {
    const filter = ['--filter', 'desired-state=running'];
    const listed = await docker('h1', 'service', 'ps', '-q', '--no-trunc', ...filter, service);
    const ids = listed.split('\n').filter((id) => id !== '');
    if (ids.length !== count) return undefined;
    const found: ServiceTask[] = [];
    for (const id of ids) {
      const format =
        '{{.Status.State}} {{.NodeID}} {{with .Status.ContainerStatus}}{{.ContainerID}}{{end}}';
      const [state, nodeId, container] = (await field('h1', id, format)).split(' ');
      if (state !== 'running') return undefined;
      const node = await docker('h1', 'node', 'inspect', '-f', '{{.Description.Hostname}}', nodeId);
      found.push({ id, node, container });
    }
    return found;
  });
}
