/** What several benchmarks do to the lab: signals inside hosts, who leads, memory of a process. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { lab } from '../support/lab.ts';
import { parentOf } from '../support/processes.ts';
import { type ApiTask, call } from './swarmClient.ts';

const run = promisify(execFile);

interface ApiNode {
  readonly ID: string;
  readonly Description: { readonly Hostname: string };
  readonly Status: { readonly State: string };
  readonly ManagerStatus?: { readonly Leader?: boolean };
}

export function nodesOf(host: string): Promise<ApiNode[]> {
  return call(host, 'GET', '/nodes');
}

export async function hostnameOf(host: string, nodeId: string): Promise<string> {
  const node = (await nodesOf(host)).find((each) => each.ID === nodeId);
  if (node === undefined) throw new Error(`no node ${nodeId}`);
  return node.Description.Hostname;
}

export async function leaderOf(host: string): Promise<string | undefined> {
  const nodes = await nodesOf(host);
  return nodes.find((each) => each.ManagerStatus?.Leader === true)?.Description.Hostname;
}

interface LabHost {
  readonly name: string;
  readonly pid: number;
  readonly daemon: number;
}

export async function labHosts(): Promise<LabHost[]> {
  const status = JSON.parse(await lab('status', '--json')) as { hosts: LabHost[] };
  return status.hosts;
}

/** Pids of this machine's processes below `pid`, itself included. */
export function descendants(pid: number): number[] {
  const parents = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const parent = parentOf(Number(name));
      parents.set(parent, [...(parents.get(parent) ?? []), Number(name)]);
    } catch {
      // it ended while the list was read
    }
  }
  const found = [pid];
  for (let at = 0; at < found.length; at += 1) found.push(...(parents.get(found[at]) ?? []));
  return found;
}

/** A function that does kill -9 of a task's first process, in its host's pid namespace. */
export async function prepareKill(host: string, task: ApiTask): Promise<() => Promise<void>> {
  const hostname = await hostnameOf(host, task.NodeID);
  const found = (await labHosts()).find((each) => each.name === hostname);
  const pid = task.Status.ContainerStatus?.PID;
  if (found === undefined || pid === undefined) throw new Error(`task ${task.ID} has no process`);
  return async () => {
    await run('nsenter', ['-t', String(found.pid), '-p', 'kill', '-9', String(pid)]);
  };
}

/**
 * Proportional set size of a process, kB, as if no other Node ran on the machine: what it shares
 * with this benchmark's own process (Node's program and addons) counts whole.
 */
export function pssKb(pid: number): number {
  let total = 0;
  let shared = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const mapping = /^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (mapping !== null) shared = /\/node$|\.node$/.test(mapping[1]);
    const size = /^(Rss|Pss):\s+(\d+) kB/.exec(line);
    if (size !== null && size[1] === (shared ? 'Rss' : 'Pss')) total += Number(size[2]);
  }
  return total;
}
