/**
 * The machine under the lab: running commands, waiting for conditions with a bound, namespaces and
 * cgroup subtrees. Everything here is synchronous or bounded; nothing knows what a swarm is.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';

export const clock = new SystemClock();
const POLL_MS = 20;
const CGROUP_ROOT = '/sys/fs/cgroup';

/** Runs a command; its standard output. SwarmError internal with its standard error otherwise. */
export function run(command: string, ...args: string[]): string {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new SwarmError('internal', `${command} ${args.join(' ')}: ${result.stderr.trim()}`);
  }
  return result.stdout;
}

/** Like run, but a failure is an answer. */
export function succeeds(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}

/** Resolves once `condition` holds; SwarmError timeout naming `what` after `timeoutMs`. */
export async function until(
  what: string,
  timeoutMs: number,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const end = clock.nowMs() + timeoutMs;
  while (!(await condition())) {
    if (clock.nowMs() > end) {
      throw new SwarmError('timeout', `${what}: not within ${timeoutMs / 1000} s`);
    }
    await clock.sleep(POLL_MS);
  }
}

/** Field 22 of /proc/PID/stat: tells a process from a later one with the same pid. '' when gone. */
export function startTime(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : fields[19];
  } catch {
    return ''; // no such process
  }
}

/** Ends a process at once; nothing when it is gone already. */
export function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The arguments of a process, each followed by a space; '' when it is gone. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return ''; // it ended by itself
  }
}

/** Every process of this machine but this one. */
export function processes(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid);
}

export function childrenOf(pid: number): number[] {
  try {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return text === '' ? [] : text.split(' ').map(Number);
  } catch {
    return []; // no such process
  }
}

/** Every mounted hierarchy's directory (v1 controllers, the v2 mount, or the v2 root itself). */
function hierarchies(): string[] {
  if (existsSync(join(CGROUP_ROOT, 'cgroup.controllers'))) return [CGROUP_ROOT];
  return readdirSync(CGROUP_ROOT).map((name) => join(CGROUP_ROOT, name));
}

function removeTree(directory: string): boolean {
  if (!existsSync(directory)) return true;
  let gone = true;
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (entry.isDirectory()) gone = removeTree(join(directory, entry.name)) && gone;
  }
  if (!gone) return false;
  try {
    rmdirSync(directory);
    return true;
  } catch {
    return false; // a process in it is still ending: the caller asks again
  }
}

/** Kills what is left in a cgroup subtree and removes it from every hierarchy. */
export async function removeCgroups(subtree: string): Promise<void> {
  const directories = hierarchies()
    .map((root) => join(root, subtree))
    .filter((directory) => existsSync(directory));
  const killAll = (directory: string): void => {
    try {
      for (const entry of readdirSync(directory, { withFileTypes: true })) {
        if (entry.isDirectory()) killAll(join(directory, entry.name));
      }
      for (const line of readFileSync(join(directory, 'cgroup.procs'), 'utf8').split('\n')) {
        if (line === '') continue;
        kill(Number(line));
      }
    } catch (error) {
      // Who made it may be removing it at the same time.
      if (existsSync(directory)) throw error;
    }
  };
  await until(`cgroups ${subtree} empty`, 10_000, () => {
    let gone = true;
    for (const directory of directories) {
      if (!existsSync(directory)) continue;
      killAll(directory);
      gone = removeTree(directory) && gone;
    }
    return gone;
  });
}
