/**
 * The two sides of `bench state` as one interface: three members that can be killed and started
 * again, who of them leads, and client processes (stateClient) in the members' network namespaces.
 * Measures nothing.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { daemonPid, pidOf, startDaemon, stopDaemon } from '../../deploy/hosts/host.ts';
import { GRPC_PORT, hostLayout } from '../../deploy/hosts/layout.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { type Etcds, startEtcds } from '../support/etcd.ts';
import { raise, until } from '../support/lab.ts';
import type { Order, Ran, Reply, Side } from './stateClient.ts';
import { leaderOf } from './tools.ts';

const PROGRAM = fileURLToPath(new URL('./stateClient.js', import.meta.url));
const FLOOR_PROGRAM = fileURLToPath(new URL('./stateFloor.js', import.meta.url));
const LEADER_LIMIT_MS = 30_000;

export interface SideMember {
  /** host:port for gRPC. */
  readonly address: string;
  pid(): number;
  /** kill -9; resolves once it is gone. */
  kill(): Promise<void>;
  /** After kill. */
  start(): Promise<void>;
}

export interface Cluster {
  readonly members: readonly SideMember[];
  /** Index of the member that leads; waits for one. */
  leader(): Promise<number>;
  /** A client process beside `member`, or beside the leader. */
  client(name: string, member?: SideMember): Promise<Client>;
  stop(): Promise<void>;
}

/** One process of stateClient; one order at a time. */
export class Client {
  readonly #child: ChildProcess;
  #waiting: ((reply: Reply) => void) | undefined;

  constructor(enter: readonly string[]) {
    const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const;
    const command = [...enter, process.execPath, PROGRAM];
    this.#child = spawn('nsenter', command, { stdio: [...stdio] });
    this.#child.on('message', (reply: Reply) => this.#waiting?.(reply));
    this.#child.on('exit', () => this.#waiting?.({ error: 'the client process ended' }));
  }

  async ask(order: Order): Promise<unknown> {
    const answer = new Promise<Reply>((resolve) => {
      this.#waiting = resolve;
    });
    this.#child.send(order);
    const { result, error } = await answer;
    if (error !== undefined) throw new Error(error);
    return result;
  }

  async run(order: Omit<Order & { kind: 'run' }, 'kind'>): Promise<Ran> {
    return (await this.ask({ kind: 'run', ...order })) as Ran;
  }

  close(): void {
    this.#child.disconnect();
  }

  /** Resolves once the process has ended. */
  async ended(): Promise<void> {
    if (this.#child.exitCode === null) await once(this.#child, 'exit');
  }
}

async function open(
  enter: readonly string[],
  side: Side,
  credentials: NodeCredentials,
  name: string,
): Promise<Client> {
  const client = new Client(enter);
  // Keys of another run are not met: what is stored does not outlive the run.
  await client.ask({ kind: 'open', side, credentials, prefix: name });
  return client;
}

export async function raiseTsswarm(count: number): Promise<Cluster> {
  await raise(count, count);
  const layouts = Array.from({ length: count }, (_, at) => hostLayout(at + 1));
  const members = layouts.map(
    (layout): SideMember => ({
      address: `${layout.address}:${GRPC_PORT}`,
      pid: () => daemonPid(layout) ?? 0,
      kill: () => stopDaemon(layout),
      start: () => startDaemon(layout),
    }),
  );
  const leader = (): Promise<number> =>
    until('a tsswarm manager leads', LEADER_LIMIT_MS, async () => {
      const name = await leaderOf(layouts[0].name);
      const at = layouts.findIndex((layout) => layout.name === name);
      return at < 0 ? undefined : at;
    });
  return {
    members,
    leader,
    client: async (name, beside) => {
      const layout = layouts[beside === undefined ? await leader() : members.indexOf(beside)];
      const file = (of: string): string => readFileSync(join(layout.dataRoot, 'swarm', of), 'utf8');
      const credentials = {
        rootCertificate: file('root.crt'),
        certificate: file('node.crt'),
        privateKey: file('node.key'),
      };
      return open(['-t', String(pidOf(layout)), '-n'], 'tsswarm', credentials, name);
    },
    stop: async () => {}, // the lab is taken down by who raised both
  };
}

export interface EtcdCluster extends Cluster {
  /** What grpc-js itself costs (stateFloor), served beside the members. */
  floor(): Promise<Cluster>;
}

/** On the hosts that raiseTsswarm has raised. */
export async function raiseEtcd(count: number): Promise<EtcdCluster> {
  const layouts = Array.from({ length: count }, (_, at) => hostLayout(at + 1));
  const places = layouts.map((layout) => ({ address: layout.address, pid: pidOf(layout) ?? 0 }));
  const etcds: Etcds = await startEtcds(places);
  const { credentials, stop } = etcds;
  const [{ enter }] = etcds.members;
  const members = etcds.members.map(
    (member): SideMember => ({ ...member, start: () => Promise.resolve(member.start()) }),
  );
  const addresses = members.map((member) => member.address);
  const scout = await open(enter, 'etcd', credentials, 'scout');
  const leader = (): Promise<number> =>
    until('an etcd member leads', LEADER_LIMIT_MS, async () => {
      const at = addresses.indexOf((await scout.ask({ kind: 'leader', addresses })) as string);
      return at < 0 ? undefined : at;
    });
  return {
    members,
    leader,
    client: async (name) => {
      const beside = etcds.members[await leader()];
      return open(beside.enter, 'etcd', credentials, name);
    },
    floor: () => raiseFloor(enter, credentials),
    stop: async () => {
      scout.close();
      await stop();
    },
  };
}

async function raiseFloor(
  enter: readonly string[],
  credentials: NodeCredentials,
): Promise<Cluster> {
  const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const;
  const server = spawn('nsenter', [...enter, process.execPath, FLOOR_PROGRAM], {
    stdio: [...stdio],
  });
  server.send(credentials);
  const [port] = (await once(server, 'message')) as [number];
  const never = (): Promise<void> => Promise.reject(new Error('it has no leader to lose'));
  // nsenter becomes the program.
  const pid = (): number => server.pid ?? 0;
  return {
    members: [{ address: `127.0.0.1:${port}`, pid, kill: never, start: never }],
    leader: () => Promise.resolve(0),
    client: (name) => open(enter, 'tsswarm', credentials, name),
    stop: async () => {
      server.disconnect();
      if (server.exitCode === null) await once(server, 'exit');
    },
  };
}
