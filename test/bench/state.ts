/**
 * The replicated state beside Debian's etcd, three members each, in turns: committed writes of 1 KB
 * and linearizable reads a second at 1, 32 and 256 clients with p50 and p99, the processor time a
 * write costs all members, and how long after kill -9 of the leader a write is acknowledged. Both
 * sides: mutual TLS, every write fdatasync'ed by a majority, members in the network namespaces of
 * the lab's three hosts, the same client processes with one connection each, in the leader's. (Two
 * tsswarm daemons refuse to share a host's network, so a loopback is no place for three of them.)
 * tsswarm's members are the lab's daemons, a write is a config's label through Control.UpdateData,
 * which answers with the object. For a quick look, STATE_CLIENTS=1 (or 1,32) measures those alone,
 * without failovers, and STATE_ROUNDS=n.
 */
import { readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { messageOf } from '../../base/errors.ts';
import { hasEtcd } from '../support/etcd.ts';
import { lab } from '../support/lab.ts';
import { until } from '../support/until.ts';
import { type Figure, figure } from './report.ts';
import {
  type Client,
  type Cluster,
  type EtcdCluster,
  raiseEtcd,
  raiseTsswarm,
} from './stateSides.ts';
import { clock } from './swarmClient.ts';

const MEMBERS = 3;
const LOADS = [1, 32, 256];
const ONLY = process.env['STATE_CLIENTS']?.split(',').map(Number);
const ROUNDS = Number(process.env['STATE_ROUNDS'] ?? 5);
const WRITE_MS = 2000;
const READ_MS = 1000;
/** Daemons that just started have compiled nothing yet: with few clients passes, with many calls. */
const WARM_MS = 4000;
const WARM_LOADS = [4, 64] as const;
const FAILOVERS = 7;
/** More than one, so that the client is not what is measured; more would crowd two processors. */
const PROCESSES = 2;
const TICKS_PER_SECOND = 100;
const SETTLE_LIMIT_MS = 30_000;
const CONNECT_EVERY_MS = 100;
const AHEAD = { text: '> 1', least: 1 };
/** Where grpc-js itself costs most. */
const NEAR = { text: '>= 0.8', least: 0.8 };

/** Of one side at one load; each list has one value a round. */
interface Measured {
  readonly rate: number[];
  readonly p50: number[];
  readonly p99: number[];
  /** Processor time of all members a call, ms. */
  readonly cpu: number[];
}

interface Pair<T> {
  readonly ours: T;
  readonly peer: T;
}

export async function benchmark(): Promise<Figure[]> {
  if (!hasEtcd()) throw new Error('etcd is missing: apt-get install etcd-server');
  const sides: Cluster[] = [];
  try {
    const ours = await raiseTsswarm(MEMBERS);
    sides.push(ours);
    const peer = await raiseEtcd(MEMBERS);
    sides.push(peer);
    say(`load average ${loadavg().map(two).join(' ')}`);
    const figures = await throughput({ ours, peer });
    figures.push(...(await floor(peer)));
    if (ONLY === undefined) figures.push(...(await failover({ ours, peer })));
    say(`load average ${loadavg().map(two).join(' ')}`);
    return figures;
  } finally {
    for (const side of sides) await side.stop();
    await lab('down');
  }
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function two(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)];
}

// ---- throughput --------------------------------------------------------------------------------

async function throughput(sides: Pair<Cluster>): Promise<Figure[]> {
  const figures: Figure[] = [];
  const clients = { ours: await openClients(sides.ours), peer: await openClients(sides.peer) };
  try {
    for (const side of ['ours', 'peer'] as const) {
      for (const load of WARM_LOADS) {
        await round(sides[side], clients[side], load, 'write', WARM_MS);
        await round(sides[side], clients[side], load, 'read', WARM_MS / 2);
      }
    }
    for (const load of ONLY ?? LOADS) {
      figures.push(...(await compare(sides, clients, load, 'write')));
      figures.push(...(await compare(sides, clients, load, 'read')));
    }
  } finally {
    for (const client of [...clients.ours, ...clients.peer]) client.close();
  }
  return figures;
}

async function openClients(side: Cluster): Promise<Client[]> {
  const clients: Client[] = [];
  for (let at = 0; at < PROCESSES; at += 1) clients.push(await side.client(`p${at}`));
  return clients;
}

async function compare(
  sides: Pair<Cluster>,
  clients: Pair<Client[]>,
  load: number,
  operation: 'write' | 'read',
): Promise<Figure[]> {
  const all: Pair<Measured> = { ours: empty(), peer: empty() };
  const durationMs = operation === 'write' ? WRITE_MS : READ_MS;
  for (let index = 0; index < ROUNDS; index += 1) {
    for (const side of ['ours', 'peer'] as const) {
      const measured = await round(sides[side], clients[side], load, operation, durationMs);
      for (const [key, value] of Object.entries(measured)) {
        all[side][key as keyof Measured].push(value);
      }
    }
  }
  const name = `${operation}s, ${load} client${load > 1 ? 's' : ''}`;
  const target = load === Math.max(...LOADS) ? NEAR : AHEAD;
  return [
    ...report(`${name}: per second`, '/s', all.ours.rate, all.peer.rate, target, true),
    ...report(`${name}: p50`, 'ms', all.ours.p50, all.peer.p50, target, false),
    ...report(`${name}: p99`, 'ms', all.ours.p99, all.peer.p99, target, false),
    ...report(`${name}: CPU each`, 'ms', all.ours.cpu, all.peer.cpu, { text: '' }, false),
  ];
}

function empty(): Measured {
  return { rate: [], p50: [], p99: [], cpu: [] };
}

async function round(
  side: Cluster,
  clients: readonly Client[],
  load: number,
  operation: 'write' | 'read',
  durationMs: number,
): Promise<{ rate: number; p50: number; p99: number; cpu: number }> {
  const address = side.members[await side.leader()].address;
  const used = clients.slice(0, load);
  const before = cpuMs(side);
  const ran = await Promise.all(
    used.map((client) =>
      client.run({ address, operation, clients: load / used.length, durationMs }),
    ),
  );
  const latencies = ran.flatMap((each) => each.latencies).sort((left, right) => left - right);
  const part = (share: number): number => latencies[Math.floor(latencies.length * share)];
  return {
    rate: ran.reduce((sum, each) => sum + (each.latencies.length * 1000) / each.tookMs, 0),
    p50: part(0.5),
    p99: part(0.99),
    cpu: (cpuMs(side) - before) / latencies.length,
  };
}

/** Of all members until now, in user and system mode. */
function cpuMs(side: Cluster): number {
  let ticks = 0;
  for (const member of side.members) {
    const stat = readFileSync(`/proc/${member.pid()}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return (ticks * 1000) / TICKS_PER_SECOND;
}

// ---- what grpc-js itself costs ------------------------------------------------------------------

/** The same calls to a server that has its answers ready, beside etcd's: no ratio exceeds these. */
async function floor(etcd: EtcdCluster): Promise<Figure[]> {
  const bare = await etcd.floor();
  const figures: Figure[] = [];
  const clients: Pair<Client[]> = { ours: [], peer: [] };
  try {
    clients.ours.push(await bare.client('floor'));
    clients.peer.push(await etcd.client('floor'));
    await round(bare, clients.ours, 4, 'write', WARM_MS);
    await round(bare, clients.ours, 4, 'read', WARM_MS);
    for (const operation of ['write', 'read'] as const) {
      const took: Pair<number[]> = { ours: [], peer: [] };
      for (let index = 0; index < ROUNDS; index += 1) {
        took.ours.push((await round(bare, clients.ours, 1, operation, READ_MS)).p50);
        took.peer.push((await round(etcd, clients.peer, 1, operation, READ_MS)).p50);
      }
      const name = `grpc-js answering nothing, to ${operation}s, 1 client: p50`;
      figures.push(...report(name, 'ms', took.ours, took.peer, { text: '' }, false));
    }
  } finally {
    for (const client of [...clients.ours, ...clients.peer]) client.close();
    await bare.stop();
  }
  return figures;
}

// ---- failover ----------------------------------------------------------------------------------

async function failover(sides: Pair<Cluster>): Promise<Figure[]> {
  const took: Pair<number[]> = { ours: [], peer: [] };
  for (let index = 0; index < FAILOVERS; index += 1) {
    for (const side of ['ours', 'peer'] as const) {
      took[side].push(await failOnce(sides[side], `f${index}`));
    }
  }
  const target = { text: '> 1', least: 1 };
  const name = 'leader killed until a write is acknowledged';
  const figures = report(name, 'ms', took.ours, took.peer, target, false);
  const bound = figure(`${name}: tsswarm, p50`, 'ms', took.ours, {
    text: '<= 1 s',
    median: 1000,
  });
  say(line(bound.name, two(bound.median), '', '', bound.target, bound.met));
  return [...figures, bound];
}

async function failOnce(side: Cluster, name: string): Promise<number> {
  const leader = await side.leader();
  const survivors = side.members.filter((_, at) => at !== leader);
  const client = await side.client(name, survivors[0]);
  try {
    const addresses = survivors.map((each) => each.address);
    await client.ask({ kind: 'connect', addresses });
    const killed = side.members[leader].kill();
    const startMs = clock.nowMs();
    await client.ask({ kind: 'first', addresses });
    const tookMs = clock.nowMs() - startMs;
    await killed;
    await side.members[leader].start();
    const all = side.members.map((each) => each.address);
    await connected(client, all);
    return tookMs;
  } finally {
    client.close();
  }
}

/** Once all of them answer a linearizable read. */
async function connected(client: Client, addresses: readonly string[]): Promise<void> {
  let last = '';
  const ask = async (): Promise<boolean> => {
    try {
      await client.ask({ kind: 'connect', addresses });
      return true;
    } catch (error) {
      last = messageOf(error);
      return false;
    }
  };
  await until(() => `a connection (${last})`, SETTLE_LIMIT_MS, ask, CONNECT_EVERY_MS);
}

// ---- report ------------------------------------------------------------------------------------

/** Prints the line and gives its figures. The ratio is above 1 where tsswarm is ahead. */
function report(
  name: string,
  unit: Figure['unit'],
  ours: readonly number[],
  peer: readonly number[],
  target: { readonly text: string; readonly least?: number },
  moreIsBetter: boolean,
): Figure[] {
  const ratios = ours.map((value, at) => (moreIsBetter ? value / peer[at] : peer[at] / value));
  const ratio = figure(`${name}: ratio`, 'x', ratios, target);
  const [a, b] = [two(median(ours)), two(median(peer))];
  say(line(`${name} (${unit})`, a, b, ratio.median.toFixed(2), target.text, ratio.met));
  return [
    figure(`${name}: tsswarm`, unit, ours, { text: '' }),
    figure(`${name}: etcd`, unit, peer, { text: '' }),
    ratio,
  ];
}

function line(
  name: string,
  ours: string,
  peer: string,
  ratio: string,
  target: string,
  met: boolean | undefined,
): string {
  const verdict = met === undefined ? '' : met ? 'met' : 'MISSED';
  const cells = [ours, peer, ratio, target].map((cell) => cell.padStart(8));
  return `${name.padEnd(52)}${cells.join(' ')}  ${verdict}`;
}
