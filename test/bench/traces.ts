/**
 * What a daemon has on the host at one moment: mounts, cgroups, processes, links, rules, files and
 * descriptors, a line each, without what differs from one time to the next; so that a benchmark
 * can tell what was left behind. And its resident memory.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { outcome } from '../support/lab.ts';
import type { Standalone } from '../support/standalone.ts';
import { until } from '../support/until.ts';
import { daemonPid, ownProcesses } from './daemons.ts';

const SETTLE_LIMIT_MS = 60_000;
const KB_PER_MB = 1000;
const CGROUPS = '/sys/fs/cgroup';

export function rssMb(ours: Standalone): number {
  const status = readFileSync(`/proc/${daemonPid(ours)}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / KB_PER_MB;
}

/** Everything a container could leave, a line each; the same twice in a row, or as `wanted`. */
export async function settled(
  ours: Standalone,
  wanted: readonly string[] | undefined,
): Promise<string[]> {
  let last: string[] = [];
  try {
    await until('what there is to settle', SETTLE_LIMIT_MS, async () => {
      const before = wanted ?? last;
      last = await traces(ours);
      return difference(before, last).length === 0 && difference(last, before).length === 0;
    });
  } catch (error) {
    if (wanted === undefined) throw error;
    // It does not become as it was: the caller tells the difference.
  }
  return last;
}

export async function traces(ours: Standalone): Promise<string[]> {
  const pid = daemonPid(ours);
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n');
  const namespaces = mounts
    .filter((line) => line.includes(' - nsfs '))
    .map((line) => line.split(' ')[4])
    .filter((path) => path.startsWith(ours.directory)) // others' were there before it
    .map((path) => `/proc/${pid}/root${path}`);
  const descriptors = readdirSync(`/proc/${pid}/fd`).flatMap((name) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${name}`).replace(/\[\d+\]$/, '')];
    } catch {
      return []; // closed while the list was read
    }
  });
  return [
    ...mounts.map((line) => `mount ${line.split(' ')[4]}`),
    ...ownProcesses(ours).map(({ args }) => `process ${args}`),
    ...readdirSync(CGROUPS).flatMap((each) => groups(join(CGROUPS, each, ours.cgroupParent))),
    ...groups(join(CGROUPS, ours.cgroupParent)),
    ...files(ours.directory),
    ...(await networkTraces(`/proc/${pid}/ns/net`)),
    ...(await Promise.all(namespaces.map((path) => networkTraces(path)))).flat(),
    ...descriptors.map((target) => `descriptor ${target}`),
  ];
}

/** Of a network namespace: the bridges have one of their own. */
async function networkTraces(path: string): Promise<string[]> {
  const rules = await outcome('nsenter', [`--net=${path}`, 'nft', 'list', 'ruleset']);
  const links = await outcome('nsenter', [`--net=${path}`, 'ip', '-brief', 'link']);
  return [
    ...rules.stdout.split('\n').map((line) => `rule ${line.replace(/packets \d+ bytes \d+/, '')}`),
    ...links.stdout.split('\n').map((line) => `link ${line.split(' ')[0].replace(/@.*/, '')}`),
  ];
}

function groups(path: string): string[] {
  try {
    const names = readdirSync(path, { recursive: true, withFileTypes: true });
    const inside = names.filter((entry) => entry.isDirectory());
    return inside.map((entry) => `cgroup ${join(entry.parentPath, entry.name)}`);
  } catch {
    return []; // a hierarchy that it does not use
  }
}

function files(directory: string): string[] {
  return readdirSync(directory, { recursive: true }).map((name) => `file ${String(name)}`);
}

/** What is in `now` more often than in `before`. */
export function difference(before: readonly string[], now: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of before) counts.set(line, (counts.get(line) ?? 0) + 1);
  return now.filter((line) => {
    const left = counts.get(line) ?? 0;
    counts.set(line, left - 1);
    return left <= 0;
  });
}
