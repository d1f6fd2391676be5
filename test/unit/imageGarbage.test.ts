/** Which unused images a policy takes away, and in which order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../base/duration.ts';
import { silentLog } from '../../base/log.ts';
import { ImageGarbage } from '../../daemon/imageGarbage.ts';
import type { ImageRecord } from '../../runtime/image/catalog.ts';
import { garbage } from '../../runtime/image/garbage.ts';
import type { GarbagePolicy } from '../../runtime/image/types.ts';
import { ManualClock } from '../support/manualClock.ts';

const NOW_MS = 100 * DAY_MS;

/** 100 bytes for each layer and blob. */
function record(id: string, usedMsAgo: number, more: Partial<ImageRecord> = {}): ImageRecord {
  return {
    id,
    manifest: id,
    roots: [id],
    pulledAs: [`reg/${id}@sha256:0`],
    config: {} as ImageRecord['config'],
    sizeBytes: 100,
    diffIds: [`layer-${id}`],
    layers: [`blob-${id}`],
    blobs: [`blob-${id}`],
    doomed: false,
    usedAtMs: NOW_MS - usedMsAgo,
    ...more,
  };
}

function gone(
  records: readonly ImageRecord[],
  policy: GarbagePolicy,
  more: { readonly held?: string; readonly named?: string } = {},
): string[] {
  const facts = {
    isHeld: (id: string) => id === more.held,
    isNamed: (id: string) => id === more.named,
    usedAtMs: ({ usedAtMs = 0 }: ImageRecord) => usedAtMs,
    layerBytes: () => 100,
    blobBytes: () => 100,
  };
  return garbage(records, policy, facts, NOW_MS).map(({ id }) => id);
}

const old = record('old', 3 * DAY_MS);
const older = record('older', 5 * DAY_MS);
const recent = record('recent', HOUR_MS);

test('the longest unused go until what is left fits', () => {
  const all = [recent, old, older];
  assert.deepEqual(gone(all, {}), []);
  assert.deepEqual(gone(all, { maxBytes: 600 }), []);
  assert.deepEqual(gone(all, { maxBytes: 599 }), ['older']);
  assert.deepEqual(gone(all, { maxBytes: 300 }), ['older', 'old']);
  assert.deepEqual(gone(all, { maxBytes: 0 }), ['older', 'old', 'recent']);
});

test('what was unused for too long goes, whatever it takes', () => {
  assert.deepEqual(gone([recent, old, older], { maxUnusedMs: 2 * DAY_MS }), ['older', 'old']);
});

test('what is used, was just used, or cannot be had again stays', () => {
  const policy = { maxBytes: 0 };
  assert.deepEqual(gone([old, older], policy, { held: 'older' }), ['old']);
  const fresh = record('fresh', MINUTE_MS);
  assert.deepEqual(gone([old, fresh], policy), ['old']);
  assert.deepEqual(gone([old, fresh], { ...policy, restMs: 0 }), ['old', 'fresh']);
  const made = record('made', 3 * DAY_MS, { pulledAs: [] });
  assert.deepEqual(gone([made], policy, { named: 'made' }), []);
  assert.deepEqual(gone([made], policy), ['made']);
  assert.deepEqual(gone([{ ...old, doomed: true }], policy), [], 'it goes with its container');
});

test('what several images have counts once, and goes with the last of them', () => {
  const shares = { diffIds: ['layer-base'], blobs: ['blob-base'] };
  const one = record('one', 5 * DAY_MS, shares);
  const two = record('two', 4 * DAY_MS, shares);
  assert.deepEqual(gone([one, two], { maxBytes: 200 }), []);
  assert.deepEqual(gone([one, two, old], { maxBytes: 399 }), ['one', 'two']);
});

test('a daemon with a bound looks now and then, also after a look that failed', async () => {
  const clock = new ManualClock();
  const asked: GarbagePolicy[] = [];
  const images = {
    collect: async (policy: GarbagePolicy) => {
      asked.push(policy);
      if (asked.length === 1) throw new Error('the disk is full');
      return { removed: [], reclaimedBytes: 0 };
    },
  };
  const idle = new ImageGarbage(images, {}, clock, silentLog);
  idle.start();
  const looking = new ImageGarbage(images, { maxUnusedMs: MINUTE_MS }, clock, silentLog);
  looking.start();
  for (let turn = 0; turn < 3; turn += 1) {
    await clock.advance(30_000);
  }
  assert.equal(asked.length, 3);
  assert.deepEqual(asked[0], { maxUnusedMs: MINUTE_MS, restMs: MINUTE_MS });
  looking.close();
  await clock.advance(HOUR_MS);
  assert.equal(asked.length, 3);
});
