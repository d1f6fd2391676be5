/**
 * The loop driver: when loops are called, with what, and what happens to what they propose.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AssertionError, assert as insist } from '../../base/assert.ts';
import { type ErrorCode, SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { SLICE_MS, type Steps } from '../../base/slices.ts';
import { LoopDriver } from '../../manager/loop.ts';
import { Store } from '../../manager/store/store.ts';
import type {
  ApplyResult,
  Change,
  DirtySet,
  Loop,
  PlanResult,
  Proposer,
  Transaction,
  View,
} from '../../manager/store/types.ts';
import { ManualClock, settle } from '../support/manualClock.ts';
import { network, service } from '../support/objects.ts';

type Plan = (view: View, dirty: DirtySet, nowMs: number) => PlanResult;

/** One loop called 'test' under a driver, with a proposer that applies after `latencyMs`. */
class Bench implements Proposer {
  readonly clock = new ManualClock();
  readonly store = new Store();
  readonly calls: { atMs: number; everything: boolean; services: string[] }[] = [];
  readonly proposed: Transaction[] = [];
  readonly fatal: unknown[] = [];
  readonly driver: LoopDriver;
  readonly isLeader = true;
  plan: Plan = () => ({ changes: [] });
  fail: ErrorCode | undefined;
  latencyMs = 0;
  /** How often a plan may pause, and how long each step takes. */
  pauses = 0;
  stepMs = 0;
  /** Larger transactions are refused as too large. */
  changesMax = 1_000;
  /** How far plans that take time have moved the clock that the driver reads. */
  aheadMs = 0;
  underWay = 0;
  mostUnderWay = 0;

  constructor() {
    const loop: Loop = {
      name: 'test',
      tables: ['service'],
      plan: (view, dirty, nowMs) => this.#steps(view, dirty, nowMs),
    };
    this.driver = new LoopDriver({
      store: this.store,
      proposer: this,
      clock: {
        nowMs: () => this.clock.nowMs() + this.aheadMs,
        wallMs: () => this.clock.wallMs(),
        after: (delayMs, callback) => this.clock.after(delayMs, callback),
        afterIdle: (delayMs, callback) => this.clock.afterIdle(delayMs, callback),
        defer: (callback) => this.clock.defer(callback),
        sleep: (delayMs) => this.clock.sleep(delayMs),
      },
      log: silentLog,
      loops: [loop],
      onFatal: (error) => this.fatal.push(error),
    });
  }

  *#steps(view: View, dirty: DirtySet, nowMs: number): Steps<PlanResult> {
    this.calls.push({
      atMs: this.clock.nowMs(),
      everything: dirty.everything,
      services: [...dirty.ids.service],
    });
    const plan = this.plan(view, dirty, nowMs);
    for (let pause = 0; pause < this.pauses; pause += 1) {
      this.aheadMs += this.stepMs;
      yield;
    }
    return plan;
  }

  async propose(transaction: Transaction): Promise<ApplyResult> {
    this.proposed.push(transaction);
    this.underWay += 1;
    this.mostUnderWay = Math.max(this.mostUnderWay, this.underWay);
    if (this.latencyMs > 0) await this.clock.sleep(this.latencyMs);
    this.underWay -= 1;
    if (transaction.changes.length > this.changesMax) throw new SwarmError('exhausted', 'large');
    if (this.fail !== undefined) throw new SwarmError(this.fail, 'refused by the test');
    return this.apply(...transaction.changes);
  }

  barrier(): Promise<void> {
    return Promise.resolve();
  }

  apply(...changes: Change[]): ApplyResult {
    return this.store.apply(this.store.version + 1, this.clock.wallMs(), {
      atomic: false,
      changes,
    });
  }

  create(name: string): void {
    this.apply({ kind: 'create', table: 'service', object: service(name) });
  }
}

test('the first pass is over everything, at once', async () => {
  const bench = new Bench();
  bench.create('web');
  await bench.clock.advance(100);
  assert.deepEqual(bench.calls, []);
  bench.driver.start();
  await bench.clock.advance(0);
  assert.deepEqual(bench.calls, [{ atMs: 100, everything: true, services: [] }]);
});

test('after a quiet time a change is looked at without delay', async () => {
  const bench = new Bench();
  bench.driver.start();
  await bench.clock.advance(1_000);
  bench.create('web');
  await bench.clock.advance(0);
  assert.deepEqual(bench.calls.at(-1), { atMs: 1_000, everything: false, services: ['web-id'] });
});

test('changes in quick succession share a pass and none waits long', async () => {
  const bench = new Bench();
  bench.driver.start();
  await bench.clock.advance(0);
  for (let at = 0; at < 100; at += 1) {
    bench.create(`s${at}`);
    await bench.clock.advance(1);
  }
  await bench.clock.advance(50);
  const passes = bench.calls.slice(1);
  assert.ok(passes.length <= 55, `${passes.length} passes`);
  assert.equal(passes.flatMap(({ services }) => services).length, 100);
  const gaps = passes.slice(1).map(({ atMs }, at) => atMs - passes[at].atMs);
  assert.ok(gaps.every((gapMs) => gapMs <= 3));
});

test('a loop whose plans take long rests four times as long, up to 40 ms', async () => {
  for (const [planMs, restMs] of [
    [5, 20],
    [60, 40],
  ]) {
    const bench = new Bench();
    bench.plan = () => {
      bench.aheadMs += planMs;
      return { changes: [] };
    };
    bench.driver.start();
    await bench.clock.advance(0);
    bench.create('web');
    await bench.clock.advance(restMs - 1);
    assert.equal(bench.calls.length, 1);
    await bench.clock.advance(1);
    assert.equal(bench.calls.length, 2);
  }
});

test('changes of tables that a loop does not name do not wake it', async () => {
  const bench = new Bench();
  bench.driver.start();
  await bench.clock.advance(0);
  bench.apply({ kind: 'create', table: 'network', object: network('one') });
  await bench.clock.advance(100);
  assert.equal(bench.calls.length, 1);
});

test('a loop is called at the time it asked for, with nothing dirty', async () => {
  const bench = new Bench();
  bench.plan = (_view, dirty, nowMs) =>
    dirty.everything ? { changes: [], wakeAtMs: nowMs + 5_000 } : { changes: [] };
  bench.driver.start();
  await bench.clock.advance(4_999);
  assert.equal(bench.calls.length, 1);
  await bench.clock.advance(60_000);
  assert.deepEqual(bench.calls.slice(1), [{ atMs: 5_000, everything: false, services: [] }]);
});

test('a loop has one proposal under way; what happens meanwhile waits for it', async () => {
  const bench = new Bench();
  bench.latencyMs = 100;
  bench.create('web');
  bench.plan = (view) => {
    const web = view.serviceByName('web');
    insist(web, 'web is there');
    if (web.allocatedVersion === 9) return { changes: [] };
    const object = { ...web, allocatedVersion: 9 };
    return { changes: [{ kind: 'update', table: 'service', object }] };
  };
  bench.driver.start();
  await bench.clock.advance(50);
  bench.create('other');
  await bench.clock.advance(49);
  assert.equal(bench.calls.length, 1);
  await bench.clock.advance(200);
  assert.equal(bench.mostUnderWay, 1);
  assert.deepEqual(bench.calls[1].services.sort(), ['other-id', 'web-id']);
});

test('a change refused as stale makes its object dirty again', async () => {
  const bench = new Bench();
  bench.create('web');
  let plans = 0;
  bench.plan = (view) => {
    const web = view.serviceByName('web');
    insist(web, 'web is there');
    plans += 1;
    if (plans > 3) return { changes: [] };
    const version = plans === 1 ? web.version - 1 : web.version;
    const object = { ...web, version, allocatedVersion: plans };
    return { changes: [{ kind: 'update', table: 'service', object }] };
  };
  bench.driver.start();
  await bench.clock.advance(1_000);
  assert.deepEqual(bench.calls[1].services, ['web-id']);
  assert.equal(bench.store.serviceByName('web')?.allocatedVersion, 3);
});

test('a large plan goes in chunks of 64, or smaller ones when those are too large', async () => {
  const bench = new Bench();
  bench.changesMax = 60;
  const changes = Array.from(
    { length: 450 },
    (_, at): Change => ({ kind: 'create', table: 'service', object: service(`s${at}`) }),
  );
  bench.plan = (_view, dirty) => ({ changes: dirty.everything ? changes : [] });
  bench.driver.start();
  await bench.clock.advance(1_000);
  assert.equal(bench.store.count('service'), 450);
  assert.equal(bench.proposed[0].changes.length, 64);
  assert.ok(bench.proposed.every(({ atomic }) => !atomic));
});

test('a proposal that fails is planned anew, ever less often', async () => {
  const bench = new Bench();
  bench.fail = 'unavailable';
  bench.plan = () => ({
    changes: [{ kind: 'create', table: 'service', object: service('web') }],
  });
  bench.driver.start();
  await bench.clock.advance(10_000);
  assert.ok(bench.calls.length > 10 && bench.calls.length < 20, `${bench.calls.length} passes`);
  assert.ok(bench.calls.every(({ everything }) => everything));
  bench.fail = undefined;
  await bench.clock.advance(1_000);
  assert.equal(bench.store.count('service'), 1);
});

test('changes that are refused again and again do not spin', async () => {
  const bench = new Bench();
  bench.create('web');
  bench.plan = () => ({
    changes: [{ kind: 'create', table: 'service', object: { ...service('web'), id: 'other' } }],
  });
  bench.driver.start();
  await bench.clock.advance(10_000);
  assert.ok(bench.calls.length < 20, `${bench.calls.length} passes`);
});

test('after a loss of leadership nothing is proposed, and a new term starts anew', async () => {
  const bench = new Bench();
  bench.latencyMs = 50;
  const changes = Array.from(
    { length: 500 },
    (_, at): Change => ({ kind: 'create', table: 'service', object: service(`s${at}`) }),
  );
  bench.plan = () => ({ changes, wakeAtMs: 1 });
  bench.driver.start();
  await bench.clock.advance(10);
  bench.driver.stop();
  await bench.clock.advance(10_000);
  assert.equal(bench.calls.length, 1);
  assert.equal(bench.proposed.length, 1);
  bench.plan = () => ({ changes: [] });
  bench.driver.start();
  await bench.clock.advance(0);
  assert.deepEqual(bench.calls.at(-1)?.everything, true);
  assert.equal(bench.clock.waiting, 0);
});

test('a failed invariant in a loop is fatal', async () => {
  const bench = new Bench();
  bench.plan = () => insistNever();
  bench.driver.start();
  await bench.clock.advance(1_000);
  assert.equal(bench.fatal.length, 1);
  assert.ok(bench.fatal[0] instanceof AssertionError);
  assert.equal(bench.calls.length, 1);
});

test('any other exception in a loop is tried again', async () => {
  const bench = new Bench();
  bench.plan = (_view, dirty) => {
    if (bench.calls.length < 3) throw new TypeError('broken');
    return { changes: [], ...(dirty.everything ? {} : { wakeAtMs: 1 }) };
  };
  bench.driver.start();
  await bench.clock.advance(10_000);
  assert.equal(bench.calls.length, 3);
  assert.ok(bench.calls[2].everything);
  assert.deepEqual(bench.fatal, []);
});

test('a loop that fell out of the ring of changes looks at everything', async () => {
  const bench = new Bench();
  bench.driver.start();
  await bench.clock.advance(0);
  await bench.store.restore(50, 0, []);
  await settle();
  await bench.clock.advance(100);
  assert.equal(bench.calls.at(-1)?.everything, true);
  bench.create('web');
  await bench.clock.advance(100);
  assert.deepEqual(bench.calls.at(-1)?.services, ['web-id']);
});

function insistNever(): PlanResult {
  insist(false, 'never');
}

test('a plan that takes long is made in slices, and the thread rests between them', async () => {
  const bench = new Bench();
  bench.driver.start();
  await bench.clock.advance(100);
  Object.assign(bench, { pauses: 4, stepMs: SLICE_MS });
  bench.plan = () => ({ changes: [{ kind: 'create', table: 'service', object: service('api') }] });
  bench.create('web');
  await bench.clock.advance(0);
  const startedMs = bench.aheadMs;
  assert.equal(startedMs, SLICE_MS, 'one slice, not the whole plan');
  bench.create('db');
  await bench.clock.advance(3 * SLICE_MS);
  assert.equal(bench.aheadMs, 4 * SLICE_MS);
  assert.deepEqual(bench.proposed, [], 'nothing is proposed of half a plan');
  await bench.clock.advance(SLICE_MS);
  assert.equal(bench.proposed.length, 1);
  assert.deepEqual(bench.calls.at(-1)?.services, ['web-id'], 'planned once, of what it began with');
  bench.pauses = 0;
  bench.plan = () => ({ changes: [] });
  await bench.clock.advance(1_000);
  assert.deepEqual(
    bench.calls.at(-1)?.services,
    ['db-id', 'api-id'],
    'what came meanwhile follows',
  );
});

test('a plan under way when leadership is lost is given up', async () => {
  const bench = new Bench();
  bench.create('web');
  Object.assign(bench, { pauses: 4, stepMs: SLICE_MS });
  bench.plan = () => ({ changes: [{ kind: 'create', table: 'service', object: service('api') }] });
  bench.driver.start();
  await bench.clock.advance(SLICE_MS);
  bench.driver.stop();
  await bench.clock.advance(1_000);
  assert.deepEqual(bench.proposed, []);
});
