/** create 1 / 8 / 40 / 100 replicas until all run: three hosts, no network. */
import { lab, loadImage, raise, WEB_IMAGE } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { clock, createService, poll, removeService, runningTasks } from './swarmClient.ts';

const ROUNDS = 5;
const SIZES: readonly (readonly [number, number])[] = [
  [1, 100],
  [8, 250],
  [40, 1000],
  [100, 2500],
];

export async function benchmark(): Promise<Figure[]> {
  await raise(3, 3);
  try {
    await loadImage('h1', 'h2', 'h3');
    const figures: Figure[] = [];
    // One round nobody counts: code is compiled and files are cached.
    await once(8, 'warm');
    for (const [replicas, targetMs] of SIZES) {
      const values: number[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        values.push(await once(replicas, `bench-${replicas}-${round}`));
      }
      const target = { text: `${targetMs} ms`, median: targetMs };
      figures.push(figure(`create ${replicas} until all run`, 'ms', values, target));
    }
    return figures;
  } finally {
    await lab('down');
  }
}

async function once(replicas: number, name: string): Promise<number> {
  const started = clock.nowMs();
  const id = await createService('h1', { name, replicas, image: WEB_IMAGE });
  await poll(`${replicas} run`, 120_000, async () => {
    const found = await runningTasks('h1', id);
    return found.length === replicas ? true : undefined;
  });
  const took = clock.nowMs() - started;
  await removeService('h1', id);
  return took;
}
