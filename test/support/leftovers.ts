/**
 * What a program of this project could leave on the machine: processes, network namespaces, mounts,
 * cgroups and files. Tests compare it before and after. Only looks, never cleans.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const CGROUP_ROOT = '/sys/fs/cgroup';
const PLACES = ['/run', '/var/lib', '/run/netns', '/tmp'];

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** Processes whose arguments are so, as "pid arguments"; without this one. */
export function processesNaming(isNamed: (args: string) => boolean): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (isNamed(line)) found.push(`${pid} ${line}`);
    } catch {
      // it ended while the list was read
    }
  }
  return found;
}

/**
 * Everything on this machine whose name or arguments contain one of the names, one line each. Only
 * whole names count: what is of "lab-a", "lab-a2" or "lab-a-b" is told apart.
 */
export function leftovers(...names: string[]): string[] {
  const whole = new RegExp(`(?<![\\w-])(${names.join('|')})(?![\\w-])`);
  const isNamed = (text: string): boolean => whole.test(text);
  const found = processesNaming(isNamed).map((line) => `process ${line}`);
  for (const place of PLACES.filter((each) => existsSync(each))) {
    const entries = readdirSync(place).filter(isNamed);
    found.push(...entries.map((entry) => `file ${join(place, entry)}`));
  }
  const mounts = lines(readFileSync('/proc/mounts', 'utf8')).filter(isNamed);
  found.push(...mounts.map((line) => `mount ${line}`));
  for (const entry of readdirSync(CGROUP_ROOT, { withFileTypes: true })) {
    const inside = entry.isDirectory() ? readdirSync(join(CGROUP_ROOT, entry.name)) : [];
    if (isNamed(entry.name)) found.push(`cgroup ${entry.name}`);
    const matching = inside.filter(isNamed);
    found.push(...matching.map((each) => `cgroup ${entry.name}/${each}`));
  }
  return found;
}
