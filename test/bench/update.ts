/**
 * A rolling update of 12 replicas, two at a time, without a delay, on one host and its own network:
 * from the request until every task is of the new specification and runs, by batch, less what the
 * containers' own start and stop take. The same by dockerd 20.10 as a swarm of one.
 */

import { messageOf } from '../../base/errors.ts';
import { hasDockerd, startDockerds } from '../support/dockerd.ts';
import { lab, loadImage, raise, WEB_IMAGE, WEB_TAR } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { type ApiTask, callAt, clock, poll, socketOf } from './swarmClient.ts';

const REPLICAS = 12;
const PARALLELISM = 2;
const BATCHES = REPLICAS / PARALLELISM;
const ROUNDS = 5;
const PATIENCE_MS = 120_000;
const OVERHEAD_MS = 150;
/** dockerd asks the registry before every task: this one refuses at once. */
const REFUSING = '127.0.0.1:1/web:latest';
/** The newest that dockerd 20.10 speaks. */
const API = '/v1.41';

interface Measured {
  readonly batchesMs: readonly number[];
  readonly ownMs: readonly number[];
}

export async function benchmark(): Promise<Figure[]> {
  const ours = await oursMeasured();
  const own = median(ours.ownMs);
  const beyond = ours.batchesMs.map((ms) => Math.max(0, ms - own));
  const target = { text: `<= ${OVERHEAD_MS} ms`, median: OVERHEAD_MS };
  const figures = [
    figure('rolling update, a batch, beyond start and stop', 'ms', beyond, target),
    figure('a container’s own start and stop', 'ms', ours.ownMs, { text: 'for comparison' }),
  ];
  if (!hasDockerd()) return figures;
  const theirs = await theirsMeasured().catch((error: unknown) => {
    process.stderr.write(`bench: dockerd cannot do it here: ${messageOf(error)}\n`);
    return undefined;
  });
  if (theirs === undefined) return figures;
  const peer = theirs.batchesMs.map((ms) => Math.max(0, ms - median(theirs.ownMs)));
  return [
    ...figures,
    figure('rolling update, a batch, beyond start and stop, dockerd', 'ms', peer, {
      text: 'for comparison',
    }),
  ];
}

async function oursMeasured(): Promise<Measured> {
  await raise(1, 1);
  try {
    await loadImage('h1');
    return await measured(socketOf('h1'), WEB_IMAGE);
  } finally {
    await lab('down');
  }
}

async function theirsMeasured(): Promise<Measured> {
  const daemons = await startDockerds(1);
  try {
    const [{ docker, socket, address }] = daemons.hosts;
    await docker('swarm', 'init', '--advertise-addr', address);
    await docker('load', '-q', '-i', WEB_TAR);
    await docker('tag', WEB_IMAGE, REFUSING);
    return await measured(socket, REFUSING);
  } finally {
    await daemons.stop();
  }
}

async function measured(socket: string, image: string): Promise<Measured> {
  const ask = <T>(method: string, path: string, body?: unknown): Promise<T> =>
    callAt<T>(socket, method, `${API}${path}`, body, PATIENCE_MS);
  const spec = {
    Name: 'rolled',
    TaskTemplate: {
      ContainerSpec: { Image: image, Args: ['sleep', '1000'] },
      RestartPolicy: { Condition: 'any', Delay: 0 },
      Networks: [{ Target: 'host' }],
      ForceUpdate: 0,
    },
    Mode: { Replicated: { Replicas: REPLICAS } },
    UpdateConfig: { Parallelism: PARALLELISM, Delay: 0, Monitor: 1_000_000, Order: 'stop-first' },
  };
  const { ID: id } = await ask<{ ID: string }>('POST', '/services/create', spec);
  const filters = encodeURIComponent(
    JSON.stringify({ service: [id], 'desired-state': ['running'] }),
  );
  const allRun = (force: number): Promise<true> =>
    poll(`update ${force}`, PATIENCE_MS, async () => {
      const tasks = await ask<(ApiTask & { Spec: { ForceUpdate?: number } })[]>(
        'GET',
        `/tasks?filters=${filters}`,
      );
      const done = tasks.filter(
        ({ Spec, Status }) => (Spec.ForceUpdate ?? 0) === force && Status.State === 'running',
      );
      return done.length === REPLICAS && tasks.length === REPLICAS ? true : undefined;
    });
  await allRun(0);
  const batchesMs: number[] = [];
  for (let force = 1; force <= ROUNDS + 1; force += 1) {
    const { Version } = await ask<{ Version: { Index: number } }>('GET', `/services/${id}`);
    const startMs = clock.nowMs();
    const TaskTemplate = { ...spec.TaskTemplate, ForceUpdate: force };
    const path = `/services/${id}/update?version=${Version.Index}`;
    await ask('POST', path, { ...spec, TaskTemplate });
    await allRun(force);
    // One round nobody counts: code is compiled and files are cached.
    if (force > 1) batchesMs.push((clock.nowMs() - startMs) / BATCHES);
    await poll('the update is over', PATIENCE_MS, async () => {
      const { UpdateStatus } = await ask<{ UpdateStatus?: { State: string } }>(
        'GET',
        `/services/${id}`,
      );
      return UpdateStatus?.State === 'completed' ? true : undefined;
    });
  }
  await ask('DELETE', `/services/${id}`);
  return { batchesMs, ownMs: await startAndStop(ask, image) };
}

async function startAndStop(
  ask: (method: string, path: string, body?: unknown) => Promise<unknown>,
  image: string,
): Promise<number[]> {
  const values: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const { Id } = (await ask('POST', '/containers/create', {
      Image: image,
      Cmd: ['sleep', '1000'],
      HostConfig: { NetworkMode: 'host' },
    })) as { Id: string };
    const startMs = clock.nowMs();
    await ask('POST', `/containers/${Id}/start`);
    await ask('POST', `/containers/${Id}/stop`);
    values.push(clock.nowMs() - startMs);
    await ask('DELETE', `/containers/${Id}`);
  }
  return values;
}

function median(values: readonly number[]): number {
  return [...values].sort((left, right) => left - right)[Math.floor(values.length / 2)];
}
