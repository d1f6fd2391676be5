/**
 * When an image that arrives counts as being on disk: a pull does not wait for that, but says so in
 * the catalog, and takes no image that was on disk with it should the host stop.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../../base/log.ts';
import { type ArrivalParts, Arrivals, type Arrived } from '../../runtime/image/arrivals.ts';
import { Catalog } from '../../runtime/image/catalog.ts';
import type { Jobs } from '../../runtime/image/jobs.ts';
import { Unsynced } from '../../runtime/image/unsynced.ts';
import { ManualClock } from '../support/manualClock.ts';

const digest = (letter: string): string => `sha256:${letter.repeat(64)}`;
const ID = digest('1');
const LAYER = digest('2');
const CONFIG = {
  architecture: 'amd64',
  os: 'linux',
  rootfs: { type: 'layers', diff_ids: [LAYER] },
};

class World {
  readonly directory = fs.mkdtempSync(path.join(tmpdir(), 'image-arrivals-'));
  syncs = 0;
  onSync: () => Promise<void> = async () => {};
  readonly jobs = {
    sync: async () => {
      this.syncs += 1;
      await this.onSync();
    },
  } as unknown as Jobs;

  async open(): Promise<{ arrivals: Arrivals; catalog: Catalog }> {
    const catalog = await Catalog.open(this.directory);
    const parts = {
      directory: this.directory,
      clock: new ManualClock(),
      catalog,
      jobs: this.jobs,
      blobs: { readDocument: async () => Buffer.from(JSON.stringify(CONFIG)) },
      layers: { facts: () => ({ sizeBytes: 1 }) },
    };
    return { arrivals: new Arrivals(parts as unknown as ArrivalParts), catalog };
  }
}

/** The image as the manifest `manifest` has it. */
function arrived(manifest: string): Arrived {
  const blobs = [digest(manifest), ID, LAYER];
  const layers = [{ digest: LAYER, sizeBytes: 1 }];
  const root = digest(manifest);
  return { id: ID, manifest: root, root, layers, blobs, tags: [], pulledAs: [] };
}

test('what is pulled is noted; what is added to an image on disk is waited for, not noted', async (t) => {
  const world = new World();
  t.after(() => fs.rmSync(world.directory, { recursive: true }));
  const { arrivals, catalog } = await world.open();
  const pull = { unsyncedBoot: 'now' };
  const note = (): string | undefined => catalog.state.images.get(ID)?.unsyncedBoot;

  await arrivals.addAll([arrived('a')], () => {}, pull);
  assert.deepEqual([world.syncs, note()], [0, 'now']);
  await arrivals.addAll([arrived('b')], () => {}, pull);
  assert.deepEqual([world.syncs, note()], [0, 'now']);
  // Loaded, it is on disk whatever it was before.
  await arrivals.addAll([arrived('b')], () => {});
  assert.deepEqual([world.syncs, note()], [1, undefined]);
  await arrivals.addAll([arrived('b')], () => {}, pull);
  assert.deepEqual([world.syncs, note()], [1, undefined]);
  await arrivals.addAll([arrived('c')], () => {}, pull);
  assert.deepEqual([world.syncs, note()], [2, undefined]);
});

test('what comes to an image while it is written to disk has the next writing', async (t) => {
  const world = new World();
  t.after(() => fs.rmSync(world.directory, { recursive: true }));
  const { arrivals, catalog } = await world.open();
  const pull = { unsyncedBoot: 'now' };
  await arrivals.addAll([arrived('a')], () => {}, pull);
  world.onSync = async () => {
    if (world.syncs === 1) await arrivals.addAll([arrived('b')], () => {}, pull);
  };
  const unsynced = new Unsynced(world.directory, catalog, world.jobs, silentLog, 'now');
  unsynced.syncSoon();
  await unsynced.ended();
  assert.equal(world.syncs, 2);
  assert.equal(catalog.state.images.get(ID)?.unsyncedBoot, undefined);
});
