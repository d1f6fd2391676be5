/**
 * The same through the swarm: a service on an overlay network with a published port goes to twenty
 * tasks and back to none, again and again; what the daemon, manager and agent in one, has left
 * then.
 */
import { askSocket } from '../support/socketClient.ts';
import type { Standalone } from '../support/standalone.ts';
import { until } from '../support/until.ts';
import { API, IMAGE, PROBE } from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { difference, rssMb, settled } from './traces.ts';

const REPLICAS = 20;
const TURNS = 10;
/** Tasks that have ended are remembered, a few for each slot. */
const WARM_TURNS = 6;
const LIMIT_MS = 120_000;
const MOST_GROWTH = 1.1;
const SERVICE = 'bench';

interface ApiTask {
  readonly Status: { readonly State: string };
}

/** Leaves the daemon in a swarm of its own, without tasks. */
export async function tasksLeft(ours: Standalone): Promise<Figure[]> {
  await ours.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
  await ours.docker('network', 'create', '--driver', 'overlay', SERVICE);
  await ours.docker(
    ...['service', 'create', '--detach', '--name', SERVICE, '--replicas', '0'],
    ...['--network', SERVICE, '--publish', '8081:80', '--restart-delay', '1s'],
    ...['--no-resolve-image', '--stop-grace-period', '1s', IMAGE, PROBE, 'ticks', '0', '500'],
  );
  for (let turn = 0; turn < WARM_TURNS; turn += 1) await upAndDown(ours);
  const before = await settled(ours, undefined);
  const rss = rssMb(ours);
  for (let turn = 0; turn < TURNS; turn += 1) await upAndDown(ours);
  const left = difference(before, await settled(ours, before));
  for (const line of left) process.stderr.write(`left behind: ${line}\n`);
  const growth = { text: `flat (<= ${MOST_GROWTH})`, median: MOST_GROWTH };
  const name = `${REPLICAS * TURNS} tasks of a service`;
  return [
    figure(`left behind by ${name}`, 'count', [left.length], { text: 'none', max: 0 }),
    figure(`daemon RSS after ${name}, to before`, 'x', [rssMb(ours) / rss], growth),
  ];
}

async function upAndDown(ours: Standalone): Promise<void> {
  for (const replicas of [REPLICAS, 0]) {
    await ours.docker('service', 'scale', '--detach', `${SERVICE}=${replicas}`);
    await until(`${replicas} tasks to run`, LIMIT_MS, async () => {
      const path = `${API}/tasks?filters=${encodeURIComponent('{"service":["bench"]}')}`;
      // A connection of its own each time: a daemon that was held up cuts those that rested.
      const { body } = await askSocket(ours.socket, 'GET', path);
      const tasks = JSON.parse(body.toString()) as ApiTask[];
      return tasks.filter((task) => task.Status.State === 'running').length === replicas;
    });
  }
}
