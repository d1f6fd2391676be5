/**
 * Create, start, wait for and remove a container over the HTTP API, beside dockerd with the same
 * image and the same requests, taking turns: without a network, and on the default bridge.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { writeTar } from '../../runtime/image/tar.ts';
import { hasDockerd, startDockerds } from '../support/dockerd.ts';
import { collect } from '../support/images.ts';
import { buildProbe } from '../support/rootfs.ts';
import { startStandalone } from '../support/standalone.ts';
import { type Figure, figure } from './report.ts';

const RUNS = 30;
const WARM_RUNS = 5;
const IMAGE = 'bench/true';
const PART_OF_PEER = 0.1;
const VERSION = '/v1.41';
const clock = new SystemClock();

interface Daemon {
  readonly socketPath: string;
  readonly agent: Agent;
}

export async function benchmark(): Promise<Figure[]> {
  const work = mkdtempSync(join(tmpdir(), 'bench-containers-'));
  try {
    buildProbe(join(work, 'true'));
    const body = readFileSync(join(work, 'true'));
    const tar = await collect(writeTar([{ name: 'true', body, mode: 0o755 }]));
    const ours = await startStandalone();
    const theirs = hasDockerd() ? await startDockerds(1) : undefined;
    try {
      const sockets = [ours.socket, ...(theirs?.hosts.map((host) => host.socket) ?? [])];
      const daemons = sockets.map((socketPath) => ({
        socketPath,
        agent: new Agent({ keepAlive: true }),
      }));
      for (const daemon of daemons) {
        await call(daemon, 'POST', `/images/create?fromSrc=-&repo=${IMAGE}`, tar);
      }
      const none = await measure(daemons, 'none');
      const bridge = await measure(daemons, 'bridge');
      for (const daemon of daemons) daemon.agent.destroy();
      return [...figures('no network', none), ...figures('default bridge', bridge)];
    } finally {
      await theirs?.stop();
      await ours.stop();
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Of each daemon, the runs' times. */
async function measure(daemons: readonly Daemon[], network: string): Promise<number[][]> {
  const taken: number[][] = daemons.map(() => []);
  for (let run = -WARM_RUNS; run < RUNS; run += 1) {
    for (const [at, daemon] of daemons.entries()) {
      const elapsedMs = await once(daemon, network);
      if (run >= 0) taken[at].push(elapsedMs);
    }
  }
  return taken;
}

async function once(daemon: Daemon, network: string): Promise<number> {
  const beganMs = clock.nowMs();
  const made = await call(daemon, 'POST', '/containers/create', {
    Image: IMAGE,
    Cmd: ['/true', 'exit', '0'],
    HostConfig: { NetworkMode: network },
  });
  const { Id } = JSON.parse(made) as { Id: string };
  await call(daemon, 'POST', `/containers/${Id}/start`);
  const waited = await call(daemon, 'POST', `/containers/${Id}/wait`);
  const { StatusCode } = JSON.parse(waited) as { StatusCode: number };
  if (StatusCode !== 0) throw new Error(`the container ended with ${StatusCode}`);
  await call(daemon, 'DELETE', `/containers/${Id}`);
  return clock.nowMs() - beganMs;
}

function figures(what: string, [ours, theirs]: readonly number[][]): Figure[] {
  const name = `create, start, wait, remove; ${what}`;
  if (theirs === undefined) {
    return [figure(name, 'ms', ours, { text: 'dockerd is not here' })];
  }
  const peer = figure(`the same by dockerd 20.10; ${what}`, 'ms', theirs, { text: 'the peer' });
  const median = peer.median * PART_OF_PEER;
  const text = `<= ${PART_OF_PEER} x dockerd (${median.toFixed(1)} ms)`;
  return [figure(name, 'ms', ours, { text, median }), peer];
}

function call(daemon: Daemon, method: string, path: string, body?: unknown): Promise<string> {
  const isTar = Buffer.isBuffer(body);
  const bytes = isTar ? body : Buffer.from(body === undefined ? '' : JSON.stringify(body));
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        ...daemon,
        method,
        path: `${VERSION}${path}`,
        headers: {
          'Content-Type': isTar ? 'application/x-tar' : 'application/json',
          'Content-Length': bytes.length,
        },
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          if ((answer.statusCode ?? 500) < 400) resolve(text);
          else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
        });
      },
    );
    sent.on('error', reject);
    sent.end(bytes);
  });
}
