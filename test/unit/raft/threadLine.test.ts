/**
 * The log on its real thread: whatever is asked of it in whatever order and rhythm (a thread that
 * sleeps, one that works, batches that fit the shared memory and ones that do not, spares made and
 * other requests meanwhile) is answered, in order, and read back. On files in memory the answers
 * come while they are waited for.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../../base/clock.ts';
import { silentLog } from '../../../base/log.ts';
import { SeededRandom, SystemRandom } from '../../../base/random.ts';
import type { Entry } from '../../../manager/raft/core/types.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import { startOnLine } from '../../../manager/raft/disk/threadLine.ts';
import type { ThreadReply } from '../../../manager/raft/disk/walThread.ts';

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
        if (isOne(0.2)) await clock.sleep(1);
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

test('a thread that sleeps is ended where it is', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'raft-line-'));
  try {
    const file = new URL('../../../manager/raft/disk/walThread.js', import.meta.url);
    const start = { directory, segmentBytes: SEGMENT_BYTES, segments: [], endOffset: 0 };
    const line = startOnLine(file, { ...start, nextSequence: 1, sealKey: undefined }, {});
    const exited = new Promise<void>((resolve) => line.on('exit', resolve));
    let heard = (_reply: ThreadReply): void => {};
    line.on('message', (reply) => heard(reply));
    const told = (kind: ThreadReply['kind']): Promise<void> =>
      new Promise((resolve) => {
        heard = (reply) => {
          if (reply.kind === kind) resolve();
        };
      });
    await told('space');
    const purged = told('purged');
    line.postMessage({ kind: 'purge', index: 0 }, []);
    await purged;
    await line.terminate();
    await exited;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
