/**
 * The faults of the tests of linearizability: managers' processes killed, paused, cut off from each
 * other in one way or both, and a manager's disk filled. Each is chosen with a seeded source, done
 * to the lab, and comes with what ends it. Quorum may be lost by them; data never is.
 */
import { messageOf } from '../../base/errors.ts';
import type { Random } from '../../base/random.ts';
import { daemonPid, startDaemon, stopDaemon } from '../../deploy/hosts/host.ts';
import { call, clock } from '../bench/swarmClient.ts';
import type { ApiNode } from './killWorld.ts';
import { layoutOf } from './labProbe.ts';
import { cutPairs, healPairs, into, outOf, type Pair } from './pairCuts.ts';
import type { SmallDisk } from './smallDisk.ts';
import { until } from './until.ts';

export const MANAGERS: readonly string[] = ['h1', 'h2', 'h3'];
const WHOLE_MS = 90_000;
const PROBE_MS = 20_000;
const ASK_MS = 6_000;
/** More than twice the longest election timeout (2 s). */
const PAUSE_MIN_MS = 4_500;
const PAUSE_MORE_MS = 3_000;
const CUT_MIN_MS = 2_000;
const CUT_MORE_MS = 6_000;
const DOWN_MORE_MS = 3_000;
/** The log's segment and its spare, twice over: then no manager with a full disk has any left. */
const BULK_WRITES = 70;
const BULK = Buffer.alloc(700_000, 'bulk').toString('base64');
const FULL_MS = 60_000;

export interface ManagerFault {
  readonly told: string;
  readonly holdMs: number;
  readonly end: () => Promise<void>;
}

type Maker = (site: Site) => Promise<ManagerFault | undefined>;

/** What faults are done to: one at a time of the same kind. */
export interface Site {
  readonly random: Random;
  readonly disk: SmallDisk;
  /** Kinds of faults that are there now. */
  readonly under: Set<string>;
}

/** As any of them that answers tells it. */
export async function leading(): Promise<string> {
  return until('a manager leads', WHOLE_MS, askLeader);
}

async function askLeader(): Promise<string | undefined> {
  const asked = MANAGERS.map(async (host) => {
    const nodes = await call<readonly ApiNode[]>(host, 'GET', '/nodes', undefined, ASK_MS);
    return nodes.find((node) => node.ManagerStatus?.Leader === true)?.Description.Hostname;
  });
  const told = await Promise.allSettled(asked);
  return told.map((each) => (each.status === 'fulfilled' ? each.value : undefined)).find(Boolean);
}

function any(random: Random): string {
  return MANAGERS[random.below(MANAGERS.length)];
}

/** Under another fault it may be that nobody leads. */
async function leaderUnder(site: Site): Promise<string | undefined> {
  return site.under.size === 0 ? leading() : askLeader();
}

/** The one that leads half of the time. */
async function victim(site: Site): Promise<string> {
  const chosen = any(site.random);
  return site.random.below(2) === 0 ? ((await leaderUnder(site)) ?? chosen) : chosen;
}

export function signal(host: string, name: 'SIGSTOP' | 'SIGCONT'): void {
  const pid = daemonPid(layoutOf(host));
  if (pid === undefined) throw new Error(`${host} has no daemon`);
  process.kill(pid, name);
}

async function killed(hosts: readonly string[], { random }: Site): Promise<ManagerFault> {
  await Promise.all(hosts.map((host) => stopDaemon(layoutOf(host))));
  const end = async (): Promise<void> => {
    await Promise.all(hosts.map((host) => startDaemon(layoutOf(host))));
  };
  const holdMs = random.below(DOWN_MORE_MS);
  return { told: `kill -9 of ${hosts.join(', ')}`, holdMs, end };
}

async function paused(hosts: readonly string[], { random }: Site): Promise<ManagerFault> {
  for (const host of hosts) signal(host, 'SIGSTOP');
  const end = async (): Promise<void> => {
    for (const host of hosts) signal(host, 'SIGCONT');
  };
  const holdMs = PAUSE_MIN_MS + random.below(PAUSE_MORE_MS);
  return { told: `SIGSTOP of ${hosts.join(', ')}`, holdMs, end };
}

function apart(told: string, pairs: readonly Pair[], { random }: Site): ManagerFault {
  cutPairs(pairs);
  const end = async (): Promise<void> => healPairs();
  return { told, holdMs: CUT_MIN_MS + random.below(CUT_MORE_MS), end };
}

/** With the kind: two of one kind are not done at once. */
const MAKERS: Readonly<Record<string, readonly [kind: string, maker: Maker]>> = {
  killOne: ['process', async (site) => killed([await victim(site)], site)],
  killTwo: [
    'process',
    async (site) => {
      const spared = await victim(site);
      const hosts = MANAGERS.filter((host) => host !== spared);
      return killed(hosts, site);
    },
  ],
  killAll: ['process', (site) => killed(MANAGERS, site)],
  pauseLeader: [
    'process',
    async (site) => {
      const host = await leaderUnder(site);
      return host === undefined ? undefined : paused([host], site);
    },
  ],
  pauseOne: ['process', async (site) => paused([any(site.random)], site)],
  pauseTwo: [
    'process',
    async (site) => {
      const spared = any(site.random);
      const hosts = MANAGERS.filter((host) => host !== spared);
      return paused(hosts, site);
    },
  ],
  leaderAlone: [
    'network',
    async (site) => {
      const host = await leaderUnder(site);
      if (host === undefined) return undefined;
      const pairs = [...outOf(host, MANAGERS), ...into(host, MANAGERS)];
      return apart(`the leader ${host} alone`, pairs, site);
    },
  ],
  oneAlone: [
    'network',
    async (site) => {
      const host = any(site.random);
      const pairs = [...outOf(host, MANAGERS), ...into(host, MANAGERS)];
      return apart(`${host} alone`, pairs, site);
    },
  ],
  nothingOut: [
    'network',
    async (site) => {
      const host = await victim(site);
      return apart(`nothing out of ${host}`, outOf(host, MANAGERS), site);
    },
  ],
  nothingIn: [
    'network',
    async (site) => {
      const host = await victim(site);
      return apart(`nothing into ${host}`, into(host, MANAGERS), site);
    },
  ],
  bridge: [
    'network',
    async (site) => {
      const middle = any(site.random);
      const [left, right] = MANAGERS.filter((host) => host !== middle);
      const pairs: Pair[] = [
        [left, right],
        [right, left],
      ];
      return apart(`${left} and ${right} see ${middle} only`, pairs, site);
    },
  ],
  allApart: [
    'network',
    async (site) => {
      const pairs = MANAGERS.flatMap((host) => outOf(host, MANAGERS));
      return apart('all apart', pairs, site);
    },
  ],
  fullDisk: ['disk', fullDisk],
};
export const FAULT_NAMES: readonly string[] = Object.keys(MAKERS);

/** Filled up, then so much written that the log's spare room is used as well. */
async function fullDisk(site: Site): Promise<ManagerFault | undefined> {
  const { disk, random } = site;
  if (site.under.size > 0) return undefined;
  const others = MANAGERS.filter((host) => host !== disk.host);
  await disk.fill();
  const end = async (): Promise<void> => {
    await disk.makeRoom();
    await until(
      `the log of ${disk.host} has room`,
      FULL_MS,
      async () => !(await isFull(disk.host)),
    );
  };
  let writes = 0;
  try {
    await until(`the log of ${disk.host} is full`, FULL_MS, async () => {
      if (await isFull(disk.host)) return true;
      if (writes >= BULK_WRITES) throw new Error(`${disk.host} is not full after all`);
      writes += 1;
      await bulk(others[writes % others.length]);
      return undefined;
    });
  } catch (error) {
    await end();
    throw error;
  }
  const told = `the disk of ${disk.host} is full after ${writes} writes`;
  return { told, holdMs: CUT_MIN_MS + random.below(CUT_MORE_MS), end };
}

async function isFull(host: string): Promise<boolean> {
  interface Picture {
    readonly Managers: readonly { readonly Hostname: string; readonly DiskFull?: boolean }[];
  }
  const { Managers } = await call<Picture>(host, 'GET', '/tsswarm/managers');
  return Managers.some(({ Hostname, DiskFull }) => Hostname === host && DiskFull === true);
}

let bulks = 0;

/** May fail: faults are there, and the leader hands over. */
async function bulk(host: string): Promise<void> {
  bulks += 1;
  const body = { Name: `bulk-${bulks}`, Data: BULK };
  try {
    const { ID } = await call<{ ID: string }>(host, 'POST', '/configs/create', body);
    await call(host, 'DELETE', `/configs/${ID}`);
  } catch (error) {
    if (!/leads|not known|not made|full|try again|exists|quorum/.test(String(error))) throw error;
  }
}

/** Does the fault of that name; undefined where one of its kind is there. */
export async function fault(name: string, site: Site): Promise<ManagerFault | undefined> {
  const [kind, maker] = MAKERS[name] ?? [];
  if (maker === undefined || kind === undefined) throw new Error(`no fault "${name}"`);
  if (site.under.has(kind)) return undefined;
  const made = await maker(site);
  if (made === undefined) return undefined;
  site.under.add(kind);
  const end = async (): Promise<void> => {
    await made.end();
    site.under.delete(kind);
  };
  return { ...made, end };
}

let probes = 0;

/** Resolves once every manager takes a write and shows it; the time that took. */
export async function untilWhole(): Promise<number> {
  const fromMs = clock.nowMs();
  for (const host of MANAGERS) {
    let last = '';
    await until(
      () => `${host} takes writes (${last})`,
      WHOLE_MS,
      async () => {
        probes += 1;
        const body = { Name: `probe-${probes}`, Data: 'ZGF0YQ==' };
        try {
          await call(host, 'POST', '/configs/create', body, PROBE_MS);
          await call(host, 'DELETE', `/configs/probe-${probes}`, undefined, PROBE_MS);
          return true;
        } catch (error) {
          last = messageOf(error);
          return undefined;
        }
      },
    );
  }
  return clock.nowMs() - fromMs;
}
