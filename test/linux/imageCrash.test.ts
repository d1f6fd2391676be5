/**
 * The image store is whole whatever interrupts it (test/support/imageCrash): a few rounds with a
 * fixed seed; test/long has many.
 */
import { test } from 'node:test';
import { crashWorld, fillDisks, killWorkers } from '../support/imageCrash.ts';

const SEED = 5;
const KILLS = 6;
const FULL_DISKS = 6;

test('kill -9 at any moment of pulls, loads and removals leaves every image whole', async (t) => {
  await killWorkers(t, await crashWorld(t, SEED), KILLS);
});

test('a disk that fills up at any moment costs only the image that was arriving', async (t) => {
  await fillDisks(t, await crashWorld(t, SEED), FULL_DISKS);
});
