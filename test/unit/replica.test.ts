/**
 * The replica between Raft and store, over a log that is a list: what is proposed is applied on
 * every replica from the same bytes, snapshots carry everything, bounds hold.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { LoopDriver } from '../../manager/loop.ts';
import type { AppliedEntry } from '../../manager/raft/types.ts';
import { Replica } from '../../manager/replica.ts';
import type { Change, Loop } from '../../manager/store/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { ManualClock } from '../support/manualClock.ts';
import { service } from '../support/objects.ts';

/** One list of entries, applied to every replica as soon as it is proposed. */
class Log {
  readonly entries: AppliedEntry[] = [];
  readonly replicas: Replica[] = [];

  add(clock = new ManualClock()): Replica {
    const replica = new Replica({ clock });
    replica.apply(this.entries);
    replica.attach({
      isLeader: true,
      readIndex: () => Promise.resolve(),
      propose: async (data) => {
        await Promise.resolve();
        const entry = { index: this.entries.length + 1, term: 3, data };
        this.push(entry);
        return entry;
      },
    });
    this.replicas.push(replica);
    return replica;
  }

  push(entry: AppliedEntry): void {
    this.entries.push(entry);
    for (const replica of this.replicas) replica.apply([entry]);
  }
}

function create(name: string): Change {
  return { kind: 'create', table: 'service', object: service(name) };
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

async function* inPieces(bytes: Buffer, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

test('a proposal is answered with what apply said, and every replica has the same', async () => {
  const log = new Log();
  const [left, right] = [log.add(), log.add()];
  const first = await left.propose({ atomic: true, changes: [create('web')] });
  assert.deepEqual(first, { version: 1, rejected: [] });
  const second = await right.propose({ atomic: false, changes: [create('web'), create('db')] });
  assert.deepEqual([second.version, second.rejected.map(({ index }) => index)], [2, [0]]);
  assert.equal(left.store.hash(), right.store.hash());
  assert.equal(left.store.count('service'), 2);
});

test('text that has no bytes of its own is the same on who proposed it and on the others', async () => {
  const log = new Log();
  const [left, right] = [log.add(), log.add()];
  for (const [at, text] of ['half \ud83d', '\udc00'].entries()) {
    const object = service(`s${at}`, { labels: { [text]: 'a', b: text } });
    await left.propose({ atomic: true, changes: [{ kind: 'create', table: 'service', object }] });
    assert.equal(left.store.hash(), right.store.hash());
  }
  const labels = JSON.parse('{"__proto__":"a"}') as Record<string, string>;
  const object = service('odd', { labels });
  await left.propose({ atomic: true, changes: [{ kind: 'create', table: 'service', object }] });
  assert.equal(left.store.hash(), right.store.hash());
});

test('proposals that overlap get their own answers', async () => {
  const log = new Log();
  const replica = log.add();
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, at) =>
      replica.propose({ atomic: true, changes: [create(`s${at % 10}`)] }),
    ),
  );
  assert.deepEqual(
    answers.map(({ version, rejected }) => [version, rejected.length]),
    Array.from({ length: 20 }, (_, at) => [at + 1, at < 10 ? 0 : 1]),
  );
});

test('stamps never go back when another leader has a slower clock', async () => {
  const log = new Log();
  const ahead = new ManualClock();
  await ahead.advance(60_000);
  const [fast, slow] = [log.add(ahead), log.add()];
  await fast.propose({ atomic: true, changes: [create('a')] });
  await slow.propose({ atomic: true, changes: [create('b')] });
  const [a, b] = [slow.store.get('service', 'a-id'), slow.store.get('service', 'b-id')];
  assert.ok(a && b && b.createdAtMs >= a.createdAtMs);
});

test('a clock set back stops no delay and no stamp: time goes on, a little slower', async () => {
  const log = new Log();
  const clock = new ManualClock();
  const replica = log.add(clock);
  const stamp = async (name: string): Promise<number> => {
    await replica.propose({ atomic: true, changes: [create(name)] });
    return replica.store.atMs;
  };
  const beforeMs = await stamp('a');
  clock.stepWall(-3_600_000);
  assert.ok((await stamp('b')) >= beforeMs);
  const loop: Loop = {
    name: 'test',
    tables: ['service'],
    *plan(_view, _dirty, nowMs) {
      yield;
      if (nowMs >= dueMs) ranAtMs ??= clock.nowMs();
      return { changes: [], wakeAtMs: dueMs };
    },
  };
  const dueMs = replica.store.atMs + 5_000;
  let ranAtMs: number | undefined;
  const parts = { store: replica.store, proposer: replica, clock: replica.clock, log: silentLog };
  const driver = new LoopDriver({
    ...parts,
    loops: [loop],
    onFatal: (error) => assert.fail(String(error)),
  });
  driver.start();
  await clock.advance(10_000);
  driver.stop();
  assert.ok(ranAtMs !== undefined && ranAtMs <= 7_000, `${ranAtMs}`);
  const laterMs = await stamp('c');
  assert.ok(laterMs >= beforeMs + 7_000 && laterMs <= beforeMs + 10_000);
  await clock.advance(4 * 3_600_000);
  assert.equal(await stamp('d'), clock.wallMs());
});

test('a leader whose clock is behind the last one’s goes on from its stamps', async () => {
  const log = new Log();
  const ahead = new ManualClock();
  ahead.stepWall(3_600_000);
  const behind = new ManualClock();
  const [first, second] = [log.add(ahead), log.add(behind)];
  await first.propose({ atomic: true, changes: [create('a')] });
  const fromMs = second.store.atMs;
  assert.equal(second.clock.wallMs(), fromMs);
  await behind.advance(1_000);
  assert.ok(second.clock.wallMs() >= fromMs + 700);
});

test('entries without data move the version on', () => {
  const log = new Log();
  const replica = log.add();
  log.push({ index: 1, term: 1, data: new Uint8Array(0) });
  assert.equal(replica.store.version, 1);
});

test('a transaction that is too long or too large is refused and proposes nothing', async () => {
  const log = new Log();
  const replica = log.add();
  const many = Array.from({ length: 201 }, (_, at) => create(`s${at}`));
  const env = [`BIG=${'x'.repeat(1_600_000)}`];
  const large: Change = {
    kind: 'create',
    table: 'service',
    object: service('big', { task: { container: { env } } }),
  };
  for (const changes of [many, [large]]) {
    await assert.rejects(replica.propose({ atomic: false, changes }), (error) =>
      hasCode(error, 'exhausted'),
    );
  }
  assert.equal(log.entries.length, 0);
});

test('a snapshot restores everything, in whatever pieces it arrives', async () => {
  const plane = new ControlPlane({ nodes: 5 });
  plane.create('web', { replicas: 40, task: { container: { env: ['A=1', 'B=ü'] } } });
  plane.settle();
  const from = new Replica({ clock: new ManualClock(), store: plane.store });
  const snapshot = from.takeSnapshot();
  const moment = plane.store.hash();
  plane.update('web', () => ({ mode: { kind: 'replicated', replicas: 3 } }));
  plane.settle();
  const bytes = await collect(snapshot.chunks);
  for (const size of [1, 7, 1_000, bytes.length]) {
    const to = new Replica({ clock: new ManualClock() });
    await to.restore(snapshot.index, inPieces(bytes, size));
    assert.equal(to.store.hash(), moment);
    assert.equal(to.store.version, snapshot.index);
    assert.equal(to.store.atMs, plane.nowMs);
  }
});

test('a snapshot that was cut short is refused and changes nothing', async () => {
  const log = new Log();
  const replica = log.add();
  await replica.propose({ atomic: true, changes: [create('web')] });
  const bytes = await collect(replica.takeSnapshot().chunks);
  const before = replica.store.hash();
  for (const size of [0, 3, bytes.length - 1]) {
    await assert.rejects(replica.restore(9, inPieces(bytes.subarray(0, size), 64)), (error) =>
      hasCode(error, 'corrupt'),
    );
  }
  assert.equal(replica.store.hash(), before);
});

test('a snapshot that nobody reads can be given up', async () => {
  const log = new Log();
  const replica = log.add();
  const { chunks } = replica.takeSnapshot();
  await chunks[Symbol.asyncIterator]().return?.();
  assert.deepEqual(await collect(chunks), Buffer.alloc(0));
});

test('before Raft is there a proposal says that the manager is starting', async () => {
  const replica = new Replica({ clock: new ManualClock() });
  assert.equal(replica.isLeader, false);
  await assert.rejects(replica.propose({ atomic: true, changes: [] }), (error) =>
    hasCode(error, 'unavailable'),
  );
});
