/**
 * A container's start: from the agent's call to the program executed, no network. The runtime
 * alone, in one process, as the agent uses it.
 */
import { makeTestHost } from '../support/rootfs.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';

const ROUNDS = 200;
const WARM_ROUNDS = 30;
const PAUSE_MS = 10;

export async function benchmark(): Promise<Figure[]> {
  const host = makeTestHost('bench');
  const table = await host.open();
  const values: number[] = [];
  try {
    for (let round = -WARM_ROUNDS; round < ROUNDS; round += 1) {
      const started = clock.nowMs();
      const container = await table.create(host.config(['/bin/probe', 'sleep', '60']));
      await container.start();
      if (round >= 0) values.push(clock.nowMs() - started);
      await container.remove();
      await clock.sleep(PAUSE_MS);
    }
  } finally {
    await host.end(table);
  }
  const target = { text: 'p50 <= 6 ms', median: 6 };
  return [figure('container start, no network', 'ms', values, target)];
}
