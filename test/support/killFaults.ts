/**
 * The faults of the long test. Each is chosen with a seeded source, done to the lab, and told in a
 * few words; one that lasts comes with what ends it. None takes more managers than quorum can bear.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../base/random.ts';
import { boot, daemonPid, powerOff, startDaemon, stopDaemon } from '../../deploy/hosts/host.ts';
import { cut, heal } from '../../deploy/hosts/underlay.ts';
import { clock } from '../bench/swarmClient.ts';
import { type ApiNode, HOSTS, services, type World } from './killWorld.ts';
import { layoutOf, liveContainers } from './labProbe.ts';

export interface Fault {
  readonly told: string;
  /** Hosts are lost while it lasts: their tasks are to be replaced when it lasts long enough. */
  readonly takesHosts: boolean;
  /** How long it lasts at least; 0 for one that is over at once. */
  readonly holdMs: number;
  readonly end: () => Promise<void>;
}

type Maker = (world: World, random: Random) => Promise<Fault | undefined>;

const MAX_REPLICAS = 9;
const PAUSE_MAX_MS = 6_000;
const CUT_MAX_MS = 9_000;
const MEMBERSHIP_MAX_MS = 20_000;
const DAEMON_DOWN_MAX_MS = 3_000;

const nothing = async (): Promise<void> => {};

function over(told: string): Fault {
  return { told, takesHosts: false, holdMs: 0, end: nothing };
}

function one<T>(random: Random, from: readonly T[]): T | undefined {
  return from.length === 0 ? undefined : from[random.below(from.length)];
}

function quorumBearsOneLess(world: World): boolean {
  const quorum = Math.floor(world.managers.size / 2) + 1;
  return world.reachable().length - 1 >= quorum;
}

/** A host that may be lost now: a manager only while the others are a quorum. */
function victim(world: World, random: Random): string | undefined {
  const spare = quorumBearsOneLess(world);
  const may = HOSTS.filter((host) => !world.lost.has(host) && (spare || !world.managers.has(host)));
  return one(random, may);
}

async function leading(world: World): Promise<string | undefined> {
  return quorumBearsOneLess(world) ? world.leader() : undefined;
}

function killContainer(which: 'container' | 'shim'): Maker {
  return async (world, random) => {
    const found = liveContainers(HOSTS.filter((host) => !world.lost.has(host)));
    const target = one(random, found);
    if (target === undefined) return undefined;
    try {
      process.kill(which === 'container' ? target.pid : target.shim, 'SIGKILL');
    } catch {
      return undefined; // it ended by itself in between
    }
    return over(`kill -9 of a ${which} on ${target.host} (task ${target.taskId})`);
  };
}

function daemonDown(host: string | undefined, world: World, random: Random, told: string) {
  return async (): Promise<Fault | undefined> => {
    if (host === undefined) return undefined;
    world.lost.add(host);
    await stopDaemon(layoutOf(host));
    const end = async (): Promise<void> => {
      await startDaemon(layoutOf(host));
      world.lost.delete(host);
    };
    const holdMs = random.below(DAEMON_DOWN_MAX_MS);
    return { told: `${told} ${host} for ${holdMs} ms`, takesHosts: false, holdMs, end };
  };
}

function isolate(host: string | undefined, world: World, random: Random, told: string) {
  return async (): Promise<Fault | undefined> => {
    if (host === undefined) return undefined;
    world.lost.add(host);
    cut(layoutOf(host));
    const end = async (): Promise<void> => {
      heal(layoutOf(host));
      world.lost.delete(host);
    };
    const holdMs = random.below(CUT_MAX_MS);
    return { told: `${told} ${host} for ${holdMs} ms`, takesHosts: true, holdMs, end };
  };
}

const killDaemon: Maker = async (world, random) =>
  daemonDown(victim(world, random), world, random, 'kill -9 of the daemon of')();

const killLeadingDaemon: Maker = async (world, random) =>
  daemonDown(await leading(world), world, random, 'kill -9 of the daemon of the leader')();

const cutHost: Maker = async (world, random) =>
  isolate(victim(world, random), world, random, 'cut')();

const cutLeader: Maker = async (world, random) =>
  isolate(await leading(world), world, random, 'cut the leader')();

const killHost: Maker = async (world, random) => {
  const host = victim(world, random);
  if (host === undefined) return undefined;
  world.lost.add(host);
  await powerOff(layoutOf(host));
  const end = async (): Promise<void> => {
    await boot(layoutOf(host));
    world.lost.delete(host);
  };
  const holdMs = random.below(CUT_MAX_MS);
  return { told: `kill host ${host} for ${holdMs} ms`, takesHosts: true, holdMs, end };
};

/** The daemon is killed and Raft's files are lost: the manager joins anew, with a new id. */
const loseRaftFiles: Maker = async (world, random) => {
  if (world.lost.size > 0 || !quorumBearsOneLess(world)) return undefined;
  const host = one(random, [...world.managers]);
  if (host === undefined) return undefined;
  const told = "kill -9 of the daemon, and loss of Raft's files, of";
  const fault = await daemonDown(host, world, random, told)();
  rmSync(join(layoutOf(host).dataRoot, 'swarm', 'raft'), { recursive: true });
  return fault;
};

/** Taken out of the managers and wanted back among them, all while its daemon is down. */
const demoteWhileAway: Maker = async (world, random) => {
  if (world.lost.size > 0 || !quorumBearsOneLess(world)) return undefined;
  const host = one(random, [...world.managers]);
  const told = 'demoted and promoted while its daemon is down:';
  const fault = await daemonDown(host, world, random, told)();
  if (fault === undefined || host === undefined) return undefined;
  await world.changeNode(host, () => ({ Role: 'worker' }));
  const end = clock.nowMs() + MEMBERSHIP_MAX_MS;
  while ((await world.nodes()).some((node) => isManager(node, host))) {
    if (clock.nowMs() > end) throw new Error(`${host} is still a manager`);
    await clock.sleep(200);
  }
  await world.changeNode(host, () => ({ Role: 'manager' }));
  return fault;
};

function isManager(node: ApiNode, host: string): boolean {
  return node.Description.Hostname === host && node.ManagerStatus !== undefined;
}

const freezeDaemon: Maker = async (world, random) => {
  const host = victim(world, random);
  const pid = host === undefined ? undefined : daemonPid(layoutOf(host));
  if (host === undefined || pid === undefined) return undefined;
  world.lost.add(host);
  process.kill(pid, 'SIGSTOP');
  const end = async (): Promise<void> => {
    process.kill(pid, 'SIGCONT');
    world.lost.delete(host);
  };
  const holdMs = random.below(PAUSE_MAX_MS);
  return { told: `freeze the daemon of ${host} for ${holdMs} ms`, takesHosts: false, holdMs, end };
};

/** A manager becomes a worker, and that or another worker a manager in its place. */
const changeManagers: Maker = async (world, random) => {
  if (world.lost.size > 0) return undefined;
  const from = one(random, [...world.managers]);
  if (from === undefined) return undefined;
  world.managers.delete(from);
  await world.changeNode(from, () => ({ Role: 'worker' }));
  const end = async (): Promise<void> => {
    const to = one(
      random,
      HOSTS.filter((host) => !world.managers.has(host)),
    );
    if (to === undefined) return;
    await world.changeNode(to, () => ({ Role: 'manager' }));
    world.managers.add(to);
  };
  const holdMs = random.below(4_000);
  return { told: `demote ${from} for ${holdMs} ms`, takesHosts: false, holdMs, end };
};

const drain: Maker = async (world, random) => {
  const host = one(
    random,
    HOSTS.filter((each) => !world.lost.has(each)),
  );
  if (host === undefined || world.drained.size > 0) return undefined;
  await world.changeNode(host, () => ({ Availability: 'drain' }));
  world.drained.add(host);
  const end = async (): Promise<void> => {
    await world.changeNode(host, () => ({ Availability: 'active' }));
    world.drained.delete(host);
  };
  const holdMs = random.below(5_000);
  return { told: `drain ${host} for ${holdMs} ms`, takesHosts: true, holdMs, end };
};

const scale: Maker = async (world, random) => {
  const wanted = one(
    random,
    services.filter(({ replicas }) => replicas !== undefined),
  );
  if (wanted === undefined) return undefined;
  const replicas = 1 + random.below(MAX_REPLICAS);
  await world.update(wanted.name, (spec) => ({
    ...spec,
    Mode: { Replicated: { Replicas: replicas } },
  }));
  wanted.replicas = replicas;
  return over(`scale ${wanted.name} to ${replicas}`);
};

const forceUpdate: Maker = async (world, random) => {
  const wanted = one(random, services);
  if (wanted === undefined) return undefined;
  await world.update(wanted.name, (spec) => {
    const force = (spec.TaskTemplate.ForceUpdate ?? 0) + 1;
    return { ...spec, TaskTemplate: { ...spec.TaskTemplate, ForceUpdate: force } };
  });
  return over(`update --force of ${wanted.name}`);
};

/** With how often each is chosen in proportion. */
const MAKERS: Readonly<Record<string, readonly [maker: Maker, weight: number]>> = {
  killContainer: [killContainer('container'), 2],
  killShim: [killContainer('shim'), 1],
  killDaemon: [killDaemon, 2],
  killLeadingDaemon: [killLeadingDaemon, 1],
  cutHost: [cutHost, 2],
  cutLeader: [cutLeader, 1],
  killHost: [killHost, 1],
  freezeDaemon: [freezeDaemon, 1],
  loseRaftFiles: [loseRaftFiles, 1],
  demoteWhileAway: [demoteWhileAway, 1],
  changeManagers: [changeManagers, 1],
  drain: [drain, 1],
  scale: [scale, 2],
  forceUpdate: [forceUpdate, 1],
};
/** ONLY=name,name: faults of these kinds alone. */
const ONLY = process.env['ONLY']?.split(',') ?? Object.keys(MAKERS);
const CHOICES: readonly Maker[] = ONLY.flatMap((name) => {
  const [maker, weight] = MAKERS[name] ?? [];
  if (maker === undefined) throw new Error(`no fault "${name}": ${Object.keys(MAKERS).join(', ')}`);
  return Array.from({ length: weight ?? 1 }, () => maker);
});
/** One step in so many does two faults at once. */
const DOUBLE_ONE_IN = 4;
const BETWEEN_MAX_MS = 500;

const TRIES = 50;

/** Undefined when none of the kinds can be had now. */
async function single(world: World, random: Random): Promise<Fault | undefined> {
  for (let tries = 0; tries < TRIES; tries += 1) {
    const fault = await CHOICES[random.below(CHOICES.length)](world, random);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** Does the next fault, or the next two shortly one after the other. */
export async function nextFault(world: World, random: Random): Promise<Fault> {
  const first = await single(world, random);
  if (first === undefined) throw new Error('no fault can be had');
  if (random.below(DOUBLE_ONE_IN) > 0) return first;
  await clock.sleep(random.below(BETWEEN_MAX_MS));
  const second = await single(world, random);
  if (second === undefined) return first;
  return {
    told: `${first.told}; ${second.told}`,
    takesHosts: first.takesHosts && second.takesHosts,
    holdMs: Math.max(first.holdMs, second.holdMs),
    end: async () => {
      await first.end();
      await second.end();
    },
  };
}
