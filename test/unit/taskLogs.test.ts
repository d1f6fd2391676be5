/**
 * Logs of several tasks as one: merged by time, held back by the reader, a silent host waited for.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { Merge } from '../../daemon/merge.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { fc } from '../support/properties.ts';

interface Line {
  readonly timeNs: bigint;
  readonly from: string;
}

const clock = new SystemClock();
const NEVER = new AbortController().signal;

async function fill(merge: Merge<Line>, from: string, times: readonly number[]): Promise<void> {
  const stream = merge.open();
  for (const time of times) await stream.push({ timeNs: BigInt(time), from });
  stream.end();
}

async function all(lines: AsyncIterable<Line>): Promise<Line[]> {
  const out: Line[] = [];
  for await (const line of lines) out.push(line);
  return out;
}

test('whatever streams say, what comes out is in order by time and whole (random)', async () => {
  const stream = fc.array(fc.nat({ max: 1000 }), { maxLength: 400 });
  await fc.assert(
    fc.asyncProperty(fc.array(stream, { maxLength: 5 }), async (streams) => {
      const merge = new Merge<Line>(clock, 60_000);
      const sorted = streams.map((times) => [...times].sort((left, right) => left - right));
      for (const [at, times] of sorted.entries()) void fill(merge, `s${at}`, times);
      const got = (await all(merge.read(NEVER))).map(({ timeNs }) => Number(timeNs));
      const wanted = sorted.flat().sort((left, right) => left - right);
      assert.deepEqual(got, wanted);
    }),
    { numRuns: 40 },
  );
});

test('a stream that says nothing holds the others back no longer than the bound', async () => {
  const time = new ManualClock();
  const merge = new Merge<Line>(time, 60);
  const silent = merge.open();
  void fill(merge, 'busy', [1, 2, 3]);
  const reader = merge.read(NEVER);
  const first = reader.next();
  let came = false;
  void first.then(() => {
    came = true;
  });
  await time.advance(59);
  assert.equal(came, false, 'before the bound');
  await time.advance(1);
  assert.equal((await first).value?.timeNs, 1n);
  assert.equal((await reader.next()).value?.timeNs, 2n);
  await silent.push({ timeNs: 0n, from: 'late' });
  assert.equal((await reader.next()).value?.from, 'late');
  silent.end();
  assert.equal((await reader.next()).value?.timeNs, 3n);
  assert.equal((await reader.next()).done, true);
});

test('a stream that is ahead is held back, and let go when the reader leaves', async () => {
  const merge = new Merge<Line>(clock, 10);
  const stream = merge.open();
  let pushed = 0;
  const filling = (async () => {
    for (let time = 0; time < 10_000; time += 1) {
      const moved = stream.push({ timeNs: BigInt(time), from: 'a' });
      pushed += 1;
      await moved;
      if (merge.size === 0) return;
    }
  })();
  await settle();
  assert.ok(pushed < 1000, `${pushed} records wait for nobody`);
  merge.close();
  await filling;
});

test('it stays open while streams may be added, and ends when its reader wants', async () => {
  const merge = new Merge<Line>(clock, 10);
  const more = merge.keepOpen();
  const gone = new AbortController();
  const got: string[] = [];
  const reading = (async () => {
    for await (const { from } of merge.read(gone.signal)) got.push(from);
  })();
  await fill(merge, 'later', [5]);
  await settle();
  assert.deepEqual(got, ['later']);
  gone.abort();
  await reading;
  more.end();
  assert.deepEqual(await all(merge.read(NEVER)), []);
});
