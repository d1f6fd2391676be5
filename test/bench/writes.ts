/**
 * Writes through the API, 16 clients at once: services of no replicas created, with one manager and
 * with three, beside dockerd doing the same in the same run, in turns.
 */
import { Agent, request } from 'node:http';
import { hasDockerd, startDockerds } from '../support/dockerd.ts';
import { lab, raise } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { clock, socketOf } from './swarmClient.ts';

const CLIENTS = 16;
const ROUNDS = 5;
const ROUND_MS = 2000;
const API = '/v1.40';

interface Target {
  readonly socket: string;
  readonly agent: Agent;
  /** Writes a second, by round. */
  readonly rates: number[];
}

function target(socket: string): Target {
  return { socket, agent: new Agent({ keepAlive: true, maxSockets: CLIENTS }), rates: [] };
}

export async function benchmark(): Promise<Figure[]> {
  return [...(await compare(1, 1.5)), ...(await compare(3, 3))];
}

async function compare(managers: number, wanted: number): Promise<Figure[]> {
  await raise(managers, managers);
  const peers = hasDockerd() ? await startDockerds(managers) : undefined;
  try {
    const ours = target(socketOf('h1'));
    const theirs = peers === undefined ? undefined : target(peers.hosts[0].socket);
    if (peers !== undefined) {
      const [first, ...rest] = peers.hosts;
      await first.docker('swarm', 'init', '--advertise-addr', first.address);
      const token = (await first.docker('swarm', 'join-token', '-q', 'manager')).trim();
      const join = ['swarm', 'join', '--token', token, `${first.address}:2377`];
      for (const host of rest) await host.docker(...join);
    }
    const all = theirs === undefined ? [ours] : [ours, theirs];
    for (const each of all) await round(each, 'warm');
    for (let index = 0; index < ROUNDS; index += 1) {
      for (const each of all) each.rates.push(await round(each, `r${index}`));
    }
    return report(managers, wanted, ours, theirs);
  } finally {
    await peers?.stop();
    await lab('down');
  }
}

function report(
  managers: number,
  wanted: number,
  ours: Target,
  theirs: Target | undefined,
): Figure[] {
  const name = `API writes, ${CLIENTS} clients, ${managers} manager${managers > 1 ? 's' : ''}`;
  const figures = [figure(name, '/s', ours.rates, { text: '' })];
  if (theirs === undefined) return figures;
  const ratios = ours.rates.map((rate, index) => rate / theirs.rates[index]);
  return [
    ...figures,
    figure(`${name}: dockerd`, '/s', theirs.rates, { text: '' }),
    figure(`${name}: ratio`, 'x', ratios, { text: `> ${wanted}`, least: wanted }),
  ];
}

/** Writes a second. */
async function round(where: Target, name: string): Promise<number> {
  const started = clock.nowMs();
  const end = started + ROUND_MS;
  const made: string[] = [];
  const client = async (index: number): Promise<void> => {
    for (let count = 0; clock.nowMs() < end; count += 1) {
      made.push(await create(where, `${name}-${index}-${count}`));
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index)));
  const rate = (made.length * 1000) / (clock.nowMs() - started);
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      for (let id = made.pop(); id !== undefined; id = made.pop()) {
        await call(where, 'DELETE', `/services/${id}`);
      }
    }),
  );
  return rate;
}

async function create(where: Target, name: string): Promise<string> {
  const answer = await call(where, 'POST', '/services/create', {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: 'tsswarm/web:latest' } },
    Mode: { Replicated: { Replicas: 0 } },
  });
  return (JSON.parse(answer) as { ID: string }).ID;
}

function call(where: Target, method: string, path: string, body?: unknown): Promise<string> {
  const { socket: socketPath, agent } = where;
  const headers = { 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const options = { socketPath, agent, method, path: `${API}${path}`, headers };
    const asked = request(options, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      answer.on('end', () => {
        if ((answer.statusCode ?? 500) < 400) resolve(text);
        else reject(new Error(`${method} ${path}: ${text}`));
      });
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
