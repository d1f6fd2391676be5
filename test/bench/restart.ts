/** A container is killed until its replacement runs, restart delay 0. */
import { lab, loadImage, raise, WEB_IMAGE } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { clock, createService, poll, removeService, runningTasks } from './swarmClient.ts';
import { prepareKill } from './tools.ts';

const ROUNDS = 20;

export async function benchmark(): Promise<Figure[]> {
  await raise(3, 3);
  try {
    await loadImage('h1', 'h2', 'h3');
    const id = await createService('h1', { name: 'victim', replicas: 3, image: WEB_IMAGE });
    const values: number[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const before = await poll('3 run', 30_000, async () => {
        const found = await runningTasks('h1', id);
        return found.length === 3 ? found : undefined;
      });
      const task = before[round % before.length];
      const kill = await prepareKill('h1', task);
      const started = clock.nowMs();
      await kill();
      await poll('replaced', 30_000, async () => {
        const found = await runningTasks('h1', id);
        const heir = found.find((each) => each.Slot === task.Slot);
        return heir !== undefined && heir.ID !== task.ID ? heir : undefined;
      });
      values.push(clock.nowMs() - started);
    }
    await removeService('h1', id);
    const target = { text: '<= 150 ms', median: 150 };
    return [figure('container killed until its replacement runs', 'ms', values, target)];
  } finally {
    await lab('down');
  }
}
