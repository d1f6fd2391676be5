/**
 * What a program of this project could leave on the machine: processes, network namespaces, mounts,
 * cgroups, files, links and tables. Tests compare it before and after. Only looks, never cleans.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const CGROUP_ROOT = '/sys/fs/cgroup';
const PLACES = ['/run', '/var/lib', '/run/netns', '/tmp'];

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}

/** Processes whose arguments name the text, as "pid arguments"; without this one. */
export function processesNaming(text: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (line.includes(text)) found.push(`${pid} ${line}`);
    } catch {
      // it ended while the list was read
    }
  }
  return found;
}

/** Everything on this machine whose name or arguments contain `name`, one line each. */
export function leftovers(name: string): string[] {
  const found = processesNaming(name).map((line) => `process ${line}`);
  for (const place of PLACES.filter((each) => existsSync(each))) {
    const entries = readdirSync(place).filter((entry) => entry.includes(name));
    found.push(...entries.map((entry) => `file ${join(place, entry)}`));
  }
  const mounts = lines(readFileSync('/proc/mounts', 'utf8')).filter((line) => line.includes(name));
  found.push(...mounts.map((line) => `mount ${line}`));
  for (const entry of readdirSync(CGROUP_ROOT, { withFileTypes: true })) {
    const inside = entry.isDirectory() ? readdirSync(join(CGROUP_ROOT, entry.name)) : [];
    if (entry.name.includes(name)) found.push(`cgroup ${entry.name}`);
    const matching = inside.filter((each) => each.includes(name));
    found.push(...matching.map((each) => `cgroup ${entry.name}/${each}`));
  }
  return found;
}

/** Links and tables of the network namespace this runs in, one line each. */
export function networkObjects(): string[] {
  const links = lines(execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' }));
  const tables = lines(execFileSync('nft', ['list', 'tables'], { encoding: 'utf8' }));
  return [...links.map((line) => line.split(': ')[1]), ...tables].sort();
}
