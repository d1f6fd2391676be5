/**
 * The core's small parts as properties: quorums, configuration changes, progress, inflights, the
 * unstable log, and the encodings. Random inputs are shrunk by fast-check.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../../base/errors.ts';
import { decodeMessage, encodeMessage } from '../../../manager/raft/codec.ts';
import {
  decodeConfChange,
  decodeConfState,
  encodeConfChange,
  encodeConfState,
} from '../../../manager/raft/core/confCodec.ts';
import {
  applyChange,
  ConfChangeError,
  changerOf,
  restoreConf,
} from '../../../manager/raft/core/confchange.ts';
import { Inflights } from '../../../manager/raft/core/inflights.ts';
import { RaftLog } from '../../../manager/raft/core/log.ts';
import { MemoryLog } from '../../../manager/raft/core/memoryLog.ts';
import { Progress } from '../../../manager/raft/core/progress.ts';
import {
  jointCommitted,
  jointVote,
  majorityCommitted,
  majorityVote,
} from '../../../manager/raft/core/quorum.ts';
import { Tracker, toConfState } from '../../../manager/raft/core/tracker.ts';
import {
  type ConfChange,
  type Entry,
  MESSAGE_TYPES,
  makeMessage,
} from '../../../manager/raft/core/types.ts';
import { fc } from '../../support/properties.ts';

const ids = fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { maxLength: 7 });
const acks = fc.dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.nat(20));

test('what a majority committed is what more than half of it acknowledged, and no more', () => {
  fc.assert(
    fc.property(ids, acks, (voters, acked) => {
      const set = new Set(voters);
      const index = majorityCommitted(set, (id) => acked[String(id)]);
      if (set.size === 0) return index === Number.POSITIVE_INFINITY;
      const atLeast = (bound: number): number =>
        voters.filter((id) => (acked[String(id)] ?? 0) >= bound).length;
      return atLeast(index) * 2 > set.size && atLeast(index + 1) * 2 <= set.size;
    }),
  );
});

test('a joint configuration commits and elects only what both halves do', () => {
  const votes = fc.dictionary(fc.integer({ min: 1, max: 9 }).map(String), fc.boolean());
  fc.assert(
    fc.property(ids, ids, acks, votes, (incoming, outgoing, acked, voted) => {
      const halves = [new Set(incoming), new Set(outgoing)] as const;
      const ack = (id: number): number | undefined => acked[String(id)];
      const committed = jointCommitted(halves, ack);
      assert.equal(
        committed,
        Math.min(majorityCommitted(halves[0], ack), majorityCommitted(halves[1], ack)),
      );
      const map = new Map(Object.entries(voted).map(([id, vote]) => [Number(id), vote]));
      const results = halves.map((half) => majorityVote(half, map));
      const joint = jointVote(halves, map);
      if (results.includes('lost')) assert.equal(joint, 'lost');
      else assert.equal(joint, results.includes('pending') ? 'pending' : 'won');
    }),
  );
});

const ordinary = { noNullPrototype: true } as const;
const step = fc.record(
  {
    type: fc.constantFrom('addVoter', 'addLearner', 'remove', 'update' as const),
    id: fc.integer({ min: 0, max: 6 }),
  },
  ordinary,
);
const change = fc.record(
  {
    transition: fc.constantFrom('auto', 'jointImplicit', 'jointExplicit' as const),
    changes: fc.array(step, { maxLength: 4 }),
    context: fc.uint8Array({ maxLength: 8 }),
  },
  ordinary,
) as fc.Arbitrary<ConfChange>;

test('any changes lead to sound configurations that a stored state restores exactly', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 12 }), (changes) => {
      const tracker = new Tracker(16, 1000);
      const start = restoreConf(changerOf(tracker, 10), {
        voters: [1],
        votersOutgoing: [],
        learners: [],
        learnersNext: [],
        autoLeave: false,
      });
      Object.assign(tracker, start);
      for (const one of changes) {
        const before = new Set(tracker.config.voters[0]);
        try {
          Object.assign(tracker, applyChange(changerOf(tracker, 10), one));
        } catch (error) {
          if (!(error instanceof ConfChangeError)) throw error;
          continue;
        }
        const state = toConfState(tracker.config);
        const again = restoreConf(changerOf(new Tracker(16, 1000), 10), state);
        assert.deepEqual(toConfState(again.config), state);
        assert.deepEqual([...again.progress.keys()].sort(), [...tracker.progress.keys()].sort());
        if (state.votersOutgoing.length > 0 && before.size > 0) {
          const old = [...tracker.config.voters[1]];
          assert.ok(old.length > 0);
        }
        assert.deepEqual(decodeConfState(encodeConfState(state)), state);
      }
    }),
  );
});

test('a change of members survives its encoding; the empty one is no bytes', () => {
  fc.assert(
    fc.property(change, (one) => {
      const again = decodeConfChange(encodeConfChange(one));
      assert.deepEqual(again, { ...one, context: Uint8Array.from(one.context) });
    }),
  );
  const leave: ConfChange = { transition: 'auto', changes: [], context: new Uint8Array() };
  assert.equal(encodeConfChange(leave).length, 0);
});

test('inflights never exceed their bound and are freed in order', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(fc.oneof(fc.constant('add'), fc.nat(40)), { maxLength: 60 }),
      (bound, steps) => {
        const inflights = new Inflights(bound, Number.POSITIVE_INFINITY);
        let model: number[] = [];
        let index = 0;
        for (const one of steps) {
          if (one === 'add') {
            assert.equal(inflights.full(), model.length === bound);
            if (inflights.full()) continue;
            index += 1;
            inflights.add(index, 1);
            model.push(index);
          } else {
            inflights.freeTo(one as number);
            model = model.filter((held) => held > (one as number));
          }
          assert.equal(inflights.count, model.length);
          assert.equal(inflights.bytes, model.length);
        }
      },
    ),
  );
});

test('progress keeps match below next whatever it is told', () => {
  const told = fc.record({ kind: fc.nat(5), index: fc.nat(50), hint: fc.nat(50) });
  fc.assert(
    fc.property(fc.array(told, { maxLength: 80 }), (events) => {
      const progress = Progress.fresh(20, false, 8, 1_000_000);
      for (const { kind, index, hint } of events) {
        const before = progress.match;
        if (kind === 0) progress.maybeUpdate(index);
        else if (kind === 1) progress.maybeDecreaseTo(index, hint);
        else if (kind === 2) progress.becomeProbe();
        else if (kind === 3) progress.becomeReplicate();
        else if (kind === 4 && index > progress.match) progress.becomeSnapshot(index);
        else if (kind === 5 && !progress.isPaused()) progress.sentEntries(hint % 3, 10);
        assert.ok(progress.match < progress.next, `${progress.match} ${progress.next}`);
        assert.ok(progress.match >= before);
        if (progress.state === 'snapshot') assert.ok(progress.isPaused());
      }
    }),
  );
});

function entries(from: number, terms: readonly number[]): Entry[] {
  return terms.map((term, at) => ({
    term,
    index: from + at,
    type: 'normal',
    data: new Uint8Array(at % 3),
  }));
}

test('a log truncates conflicting entries, keeps agreeing ones, and never a committed one', () => {
  const memory = new MemoryLog();
  memory.append(entries(1, [1, 1, 2, 2, 3]));
  const log = new RaftLog(memory, Number.POSITIVE_INFINITY);
  assert.equal(log.maybeAppend({ index: 5, term: 2 }, [], 0), undefined);
  assert.equal(log.maybeAppend({ index: 2, term: 1 }, entries(3, [2]), 2), 3);
  assert.equal(log.lastIndex(), 5, 'agreeing entries cut nothing off');
  assert.equal(log.committed, 2);
  assert.equal(log.maybeAppend({ index: 3, term: 2 }, entries(4, [4, 4]), 9), 5);
  assert.deepEqual(
    log.allEntries().map(({ term }) => term),
    [1, 1, 2, 4, 4],
  );
  assert.equal(log.committed, 5, 'not past what was appended');
  assert.throws(() => log.maybeAppend({ index: 2, term: 1 }, entries(3, [5]), 3), /committed/);
});

test('the hint for a follower that disagrees skips whole terms', () => {
  const memory = new MemoryLog();
  memory.append(entries(1, [1, 1, 3, 3, 3, 5]));
  const log = new RaftLog(memory, Number.POSITIVE_INFINITY);
  assert.deepEqual(log.findConflictByTerm(6, 4), { index: 5, term: 3 });
  assert.deepEqual(log.findConflictByTerm(6, 2), { index: 2, term: 1 });
  assert.deepEqual(log.findConflictByTerm(6, 0), { index: 0, term: 0 });
});

test('durable reports of entries replaced meanwhile are ignored', () => {
  const log = new RaftLog(new MemoryLog(), Number.POSITIVE_INFINITY);
  log.append(entries(1, [1, 1, 1]));
  log.unstable.acceptInProgress();
  log.append(entries(2, [2, 2]));
  log.unstable.stableTo({ index: 3, term: 1 });
  assert.equal(log.unstable.offset, 1);
  assert.deepEqual(
    log.unstable.nextEntries().map(({ index }) => index),
    [2, 3],
    'the successors go to the disk again',
  );
  log.unstable.stableTo({ index: 1, term: 1 });
  assert.equal(log.unstable.offset, 2);
});

test('a message survives its encoding, and cut short it is refused, never misread', () => {
  const whole = fc.nat({ max: 2 ** 31 });
  const one = fc.record({
    term: whole,
    index: whole,
    type: fc.constantFrom('normal', 'confChange' as const),
    data: fc.uint8Array({ maxLength: 20 }),
  }) as fc.Arbitrary<Entry>;
  const message = fc.record({
    type: fc.constantFrom(...MESSAGE_TYPES),
    to: fc.maxSafeNat(),
    from: whole,
    term: fc.maxSafeNat(),
    logTerm: whole,
    index: whole,
    commit: whole,
    rejectHint: whole,
    reject: fc.boolean(),
    entries: fc.array(one, { maxLength: 4 }),
    context: fc.uint8Array({ maxLength: 9 }),
  });
  fc.assert(
    fc.property(message, fc.nat(), ({ type, to, ...fields }, cut) => {
      const original = makeMessage(type, to, fields);
      const bytes = encodeMessage(original);
      const again = decodeMessage(bytes);
      assert.deepEqual(JSON.parse(JSON.stringify(plain(again))), plain(original));
      const short = bytes.subarray(0, cut % bytes.length);
      assert.throws(
        () => decodeMessage(short),
        (error) => hasCode(error, 'corrupt'),
      );
    }),
  );
});

function plain(message: ReturnType<typeof makeMessage>): unknown {
  const bytes = (data: Uint8Array): string => Buffer.from(data).toString('hex');
  return JSON.parse(
    JSON.stringify({
      ...message,
      context: bytes(message.context),
      entries: message.entries.map((entry) => ({ ...entry, data: bytes(entry.data) })),
    }),
  );
}
