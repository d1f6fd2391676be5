/**
 * The image store under many interruptions (test/support/imageCrash). COUNT says how many of each
 * (200), SEED repeats a run.
 */
import { test } from 'node:test';
import { SystemRandom } from '../../base/random.ts';
import { crashWorld, fillDisks, killWorkers } from '../support/imageCrash.ts';

const COUNT = Number(process.env['COUNT'] ?? 200);
const SEED = Number(process.env['SEED'] ?? new SystemRandom().below(1_000_000));

test(`${COUNT} kills from seed ${SEED} leave every image whole`, async (t) => {
  await killWorkers(t, await crashWorld(t, SEED), COUNT);
});

test(`${COUNT} full disks from seed ${SEED} cost only what was arriving`, async (t) => {
  await fillDisks(t, await crashWorld(t, SEED), COUNT);
});
