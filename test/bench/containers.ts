/**
 * Create, start, wait for and remove a container over the HTTP API, beside dockerd with the same
 * image and the same requests, taking turns: without a network, and on the default bridge.
 */
import { type BenchDaemon, endOf, removeProbe, startProbe, withDaemons } from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';

const RUNS = 30;
const WARM_RUNS = 5;
const PART_OF_PEER = 0.1;

export function benchmark(): Promise<Figure[]> {
  return withDaemons(async ({ all }) => {
    const none = await measure(all, 'none');
    const bridge = await measure(all, 'bridge');
    return [...figures('no network', none), ...figures('default bridge', bridge)];
  });
}

/** Of each daemon, the runs' times. */
async function measure(daemons: readonly BenchDaemon[], network: string): Promise<number[][]> {
  const taken: number[][] = daemons.map(() => []);
  for (let run = -WARM_RUNS; run < RUNS; run += 1) {
    for (const [at, daemon] of daemons.entries()) {
      const elapsedMs = await once(daemon, network);
      if (run >= 0) taken[at].push(elapsedMs);
    }
  }
  return taken;
}

async function once(daemon: BenchDaemon, network: string): Promise<number> {
  const beganMs = clock.nowMs();
  const id = await startProbe(daemon, ['exit', '0'], { NetworkMode: network });
  await endOf(daemon, id);
  await removeProbe(daemon, id);
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
