/**
 * A thousand containers started and removed through the API, four at a time, of several kinds: run
 * to their end, removed while they run, on a bridge with a published port, with an exec. What the
 * daemon then has that it had not before is a leak: mounts, cgroups, processes, links, rules, files
 * and descriptors; and its resident memory is looked at on the way.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { askSocket } from '../support/socketClient.ts';
import type { Standalone } from '../support/standalone.ts';
import { until } from '../support/until.ts';
import {
  API,
  daemonPid,
  endOf,
  ownProcesses,
  PROBE,
  removeProbe,
  startProbe,
  withDaemons,
} from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { callAt } from './swarmClient.ts';

const CONTAINERS = 1000;
const WARM_CONTAINERS = 200;
const AT_ONCE = 4;
const RSS_EVERY = 100;
const SETTLE_LIMIT_MS = 60_000;
const MOST_GROWTH = 1.1;
const KB_PER_MB = 1000;
const CGROUPS = '/sys/fs/cgroup';
const BRIDGE = { NetworkMode: 'bridge' };
const FIRST_PORT = 20_000;
/** What each container has on the host. */
const SEEN = ['mount', 'process', 'cgroup', 'file', 'rule', 'link', 'descriptor'];

/** On the bridge with a port of the host's. */
function published(at: number): object {
  return { ...BRIDGE, PortBindings: { '8080/tcp': [{ HostPort: String(FIRST_PORT + at) }] } };
}

type Kind = (ours: Standalone, at: number) => Promise<void>;

const KINDS: readonly Kind[] = [
  async (ours) => {
    const id = await startProbe(ours, ['echo', 'a line']);
    await endOf(ours, id);
    await removeProbe(ours, id);
  },
  async (ours) => removeProbe(ours, await startProbe(ours, ['sleep', '600'])),
  async (ours) => {
    const id = await startProbe(ours, ['echo', 'a line'], BRIDGE);
    await endOf(ours, id);
    await removeProbe(ours, id);
  },
  async (ours, at) => {
    const id = await startProbe(ours, ['ticks', '0'], published(at));
    await execTrue(ours, id);
    await removeProbe(ours, id);
  },
];

export function benchmark(): Promise<Figure[]> {
  return withDaemons(async ({ ours }) => {
    await many(ours, WARM_CONTAINERS, () => {});
    const before = await settled(ours, undefined);
    await checkSeen(ours, before);
    const rss = [rssMb(ours)];
    await many(ours, CONTAINERS, (done) => {
      if (done % RSS_EVERY === 0) rss.push(rssMb(ours));
    });
    const after = await settled(ours, before);
    const left = difference(before, after);
    for (const line of left) process.stderr.write(`left behind: ${line}\n`);
    const growth = rss.slice(1).map((each) => each / rss[0]);
    const last = growth.slice(-1);
    const at = (done: number): Figure =>
      figure(`daemon RSS after ${done} containers`, 'MB', [rss[done / RSS_EVERY]], { text: '' });
    return [
      figure(`left behind by ${CONTAINERS} containers`, 'count', [left.length], {
        text: 'none',
        max: 0,
      }),
      at(0),
      at(CONTAINERS / 2),
      at(CONTAINERS),
      figure(`daemon RSS after ${CONTAINERS}, to before`, 'x', last, {
        text: `flat (<= ${MOST_GROWTH})`,
        median: MOST_GROWTH,
      }),
    ];
  }, false);
}

/** That what is looked at shows a container that is there. */
async function checkSeen(ours: Standalone, before: readonly string[]): Promise<void> {
  const id = await startProbe(ours, ['sleep', '600'], published(0));
  const seen = new Set(difference(before, await traces(ours)).map((line) => line.split(' ')[0]));
  for (const what of SEEN) if (!seen.has(what)) throw new Error(`a container shows no ${what}`);
  await removeProbe(ours, id);
}

async function many(ours: Standalone, count: number, tell: (done: number) => void): Promise<void> {
  let next = 0;
  let done = 0;
  const one = async (): Promise<void> => {
    while (next < count) {
      const at = next;
      next += 1;
      await KINDS[at % KINDS.length](ours, at);
      done += 1;
      tell(done);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

async function execTrue({ socket }: Standalone, container: string): Promise<void> {
  const { Id } = await callAt<{ Id: string }>(
    socket,
    'POST',
    `${API}/containers/${container}/exec`,
    { Cmd: [PROBE, 'exit', '0'], AttachStdout: true },
  );
  const { status } = await askSocket(socket, 'POST', `${API}/exec/${Id}/start`, {});
  if (status !== 200) throw new Error(`exec: ${status}`);
}

function rssMb(ours: Standalone): number {
  const status = readFileSync(`/proc/${daemonPid(ours)}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / KB_PER_MB;
}

/** Everything a container could leave, a line each; the same twice in a row, or as `wanted`. */
async function settled(ours: Standalone, wanted: readonly string[] | undefined): Promise<string[]> {
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

async function traces(ours: Standalone): Promise<string[]> {
  const pid = daemonPid(ours);
  const mounts = readFileSync(`/proc/${pid}/mountinfo`, 'utf8').trim().split('\n');
  const rules = await ours.inside('nft', 'list', 'ruleset');
  const links = await ours.inside('ip', '-brief', 'address');
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
    ...rules.stdout.split('\n').map((line) => `rule ${line.replace(/packets \d+ bytes \d+/, '')}`),
    ...links.stdout.split('\n').map((line) => `link ${line}`),
    ...descriptors.map((target) => `descriptor ${target}`),
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
function difference(before: readonly string[], now: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const line of before) counts.set(line, (counts.get(line) ?? 0) + 1);
  return now.filter((line) => {
    const left = counts.get(line) ?? 0;
    counts.set(line, left - 1);
    return left <= 0;
  });
}
