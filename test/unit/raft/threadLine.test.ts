/**
 * The log on its real thread: whatever is asked of it in whatever order and rhythm (a thread that
 * sleeps, one that works, batches that fit the shared memory and ones that do not, spares made and
 * other requests meanwhile) is answered, in order, and read back. And the line alone: wake-ups for
 * nothing, answers that are waited for, an end in its sleep.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as aTurn } from 'node:timers/promises';
import { SystemClock } from '../../../base/clock.ts';
import { silentLog } from '../../../base/log.ts';
import { SeededRandom, SystemRandom } from '../../../base/random.ts';
import type { Entry } from '../../../manager/raft/core/types.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import { makeLineMemory, startOnLine } from '../../../manager/raft/disk/threadLine.ts';
import type { ThreadReply, ThreadRequest } from '../../../manager/raft/disk/walThread.ts';
import { until } from '../../support/until.ts';

const clock = new SystemClock();
const SEGMENT_BYTES = 1024 * 1024;
const ROUNDS = 400;

function open(directory: string, key: Uint8Array, olderKeys: Uint8Array[] = []) {
  return DiskStore.open({
    ...{ directory, nodeId: 1, clock, log: silentLog, segmentBytes: SEGMENT_BYTES },
    seal: { key, olderKeys, random: new SystemRandom() },
    onFatal: (error) => assert.fail(error.message),
  });
}

for (const [seed, where] of [tmpdir(), '/dev/shm', tmpdir(), '/dev/shm'].entries()) {
  test(`requests of any kind, size and rhythm are done in order in ${where}, ${seed}`, async () => {
    const directory = mkdtempSync(join(where, 'raft-line-'));
    try {
      const random = new SeededRandom(seed);
      const isOne = (share: number): boolean => random.float() < share;
      const keys = [new Uint8Array(32).fill(1)];
      const disk = await open(directory, keys[0]);
      const done: number[] = [];
      const purges: Promise<void>[] = [];
      let last = 0;
      const write = (): Promise<void> => {
        last += 1;
        const index = last;
        const bytes = isOne(0.1) ? random.below(200_000) : random.below(3000);
        const data = new Uint8Array(bytes + 1).fill(index % 251);
        const entries: Entry[] = [{ index, term: 1, type: 'normal', data }];
        const hardState = { term: 1, vote: 0, commit: index - 1 };
        return new Promise((resolve) => {
          const finish = (): void => {
            done.push(index);
            resolve();
          };
          const append = { entries, hardState, snapshot: undefined, installs: false, sync: true };
          disk.append({ ...append, done: finish });
        });
      };
      for (let round = 0; round < ROUNDS; round += 1) {
        let work = write();
        while (isOne(0.3)) work = write();
        if (isOne(0.1)) purges.push(disk.release({ index: 0, term: 0 }, 0));
        if (isOne(0.05)) {
          keys.unshift(new Uint8Array(32).fill(keys.length + 1));
          disk.rekey(keys[0]);
        }
        // The thread falls asleep, or is just about to, or has work left.
        if (isOne(0.7)) await work;
        if (isOne(0.2)) await aTurn();
      }
      await write();
      await Promise.all(purges);
      assert.deepEqual(
        done,
        Array.from({ length: last }, (_, at) => at + 1),
      );
      await disk.close();
      const again = await open(directory, keys[0], keys.slice(1));
      const { entries } = again.recovered;
      await again.close();
      assert.deepEqual(
        entries.map(({ index }) => index),
        done,
      );
      for (const { index, data } of entries) assert.ok(data.every((byte) => byte === index % 251));
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
}

/** As threadLine.ts has it: the state is the memory's first word. */
const STATE = 0;
const WAIT_MS = 60_000;

/** The thread alone, asleep, with what tests ask of it. */
async function sleepingThread(directory: string) {
  const file = new URL('../../../manager/raft/disk/walThread.js', import.meta.url);
  const segment = { directory, segmentBytes: SEGMENT_BYTES, segments: [], endOffset: 0 };
  const memory = makeLineMemory();
  const start = { ...segment, nextSequence: 1, sealKey: undefined };
  const line = startOnLine(file, start, {}, memory);
  const told = new Set<ThreadReply['kind']>();
  line.on('message', ({ kind }) => told.add(kind));
  const hear = (kind: ThreadReply['kind']): Promise<unknown> =>
    until(`it to tell ${kind}`, WAIT_MS, () => told.delete(kind));
  await hear('space');
  const words = new Int32Array(memory);
  /** Whether it slept: the kernel knows. */
  const wakeForNothing = (): Promise<unknown> =>
    until('it to sleep', WAIT_MS, () => Atomics.notify(words, STATE) === 1);
  await wakeForNothing();
  const head = new Uint8Array(64);
  const request = (): ThreadRequest => {
    return { kind: 'write', batch: { head, body: new Uint8Array(100), maxIndex: 1 } };
  };
  return { line, hear, wakeForNothing, request };
}

test('a wake-up that comes late, after what it was for, takes nothing from the next', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'raft-line-'));
  try {
    const { line, hear, wakeForNothing, request } = await sleepingThread(directory);
    for (let times = 0; times < 20; times += 1) {
      await wakeForNothing();
      line.postMessage(request(), []);
      await hear('written');
      // Twice: it has gone back to sleep.
      await wakeForNothing();
    }
    line.postMessage({ kind: 'purge', index: 0 }, []);
    await hear('purged');
    await wakeForNothing();
    assert.equal(line.ask?.(request(), [], WAIT_MS)?.kind, 'written');
    await line.terminate();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('a thread that sleeps is ended where it is', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'raft-line-'));
  try {
    const { line } = await sleepingThread(directory);
    const exited = new Promise<void>((resolve) => line.on('exit', resolve));
    await line.terminate();
    await exited;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
