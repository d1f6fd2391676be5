/** Messages of a leader that may wait: news of the commit index, and what spare members are sent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Entry, type Message, makeMessage } from '../../../manager/raft/core/types.ts';
import { Holdback } from '../../../manager/raft/holdback.ts';
import { ManualClock } from '../../support/manualClock.ts';

/** `able`: members that can be asked, of whom one is needed. */
function scene(able: number[] = []) {
  const clock = new ManualClock();
  const sent: string[] = [];
  const entriesOf = ({ entries }: Message): string =>
    entries.length === 0 ? '' : `+${entries.map(({ index }) => index).join(',')}`;
  const news = new Holdback({
    clock,
    send: (message) => {
      const kind = message.type === 'heartbeat' ? '?' : ':';
      sent.push(`${message.to}${kind}${message.commit}${entriesOf(message)}`);
    },
    quorum: () => ({ able, needed: 1 }),
  });
  return { clock, sent, news };
}

function append(to: number, commit: number, ...entries: Message['entries']): Message {
  return makeMessage('append', to, { commit, entries, index: (entries[0]?.index ?? 1) - 1 });
}

function entry(index: number): Entry {
  return { term: 1, index, type: 'normal', data: new Uint8Array(1) };
}

function question(to: number, commit: number): Message {
  return makeMessage('heartbeat', to, { commit, context: new Uint8Array(8) });
}

const ENTRY = entry(5);

test('mere news goes a moment later, the latest of it, once to each member', async () => {
  const { clock, sent, news } = scene();
  assert.ok(news.takes(append(2, 3)));
  assert.ok(news.takes(append(2, 4)));
  assert.ok(news.takes(append(3, 4)));
  await clock.advance(4);
  assert.deepEqual(sent, []);
  await clock.advance(1);
  assert.deepEqual(sent, ['2:4', '3:4']);
  await clock.advance(10);
  assert.equal(sent.length, 2);
});

test('entries overtake the news, for the member they go to only', async () => {
  const { clock, sent, news } = scene();
  news.takes(append(2, 4));
  news.takes(append(3, 4));
  assert.equal(news.takes(append(2, 4, ENTRY)), false);
  await clock.advance(5);
  assert.deepEqual(sent, ['3:4']);
});

test('who waits for the news is told at once, and the others in their time', async () => {
  const { clock, sent, news } = scene();
  news.takes(append(2, 4));
  news.takes(append(3, 4));
  news.tell(2);
  news.tell(2);
  assert.deepEqual(sent, ['2:4']);
  await clock.advance(5);
  assert.deepEqual(sent, ['2:4', '3:4']);
});

test('all that is held can be told at once, and the timer tells nothing again', async () => {
  const { clock, sent, news } = scene();
  news.takes(append(2, 4));
  news.takes(append(3, 4));
  news.tellAll();
  assert.deepEqual(sent, ['2:4', '3:4']);
  news.takes(append(2, 5));
  await clock.advance(4);
  assert.equal(sent.length, 2);
  await clock.advance(1);
  assert.deepEqual(sent.slice(2), ['2:5']);
});

test('everything else passes, and what is held when it stops is not sent', async () => {
  const { clock, sent, news } = scene();
  assert.equal(news.takes(makeMessage('heartbeat', 2, { commit: 4 })), false);
  assert.equal(news.takes(makeMessage('appendResp', 2, { index: 4 })), false);
  news.takes(append(2, 4));
  news.stop();
  await clock.advance(10);
  assert.deepEqual(sent, []);
});

test('a majority is asked at once, the others a moment later and all together', async () => {
  const { clock, sent, news } = scene([2, 3]);
  assert.equal(news.takes(append(2, 4, entry(5))), false);
  assert.equal(news.takes(append(3, 4, entry(5))), true);
  news.heard(2);
  assert.equal(news.takes(append(2, 5, entry(6))), false);
  assert.equal(news.takes(append(3, 5, entry(6))), true);
  await clock.advance(5);
  assert.deepEqual(sent, ['3:5+5,6']);
});

test('who is silent for that moment is spared next, and the others are asked', async () => {
  const { clock, sent, news } = scene([2, 3]);
  news.takes(append(3, 4, entry(5)));
  await clock.advance(5);
  assert.deepEqual(sent, ['3:4+5']);
  assert.equal(news.takes(append(3, 4, entry(6))), false);
  assert.equal(news.takes(append(2, 4, entry(6))), true);
  await clock.advance(5);
  assert.deepEqual(sent, ['3:4+5', '2:4+6']);
  assert.equal(news.takes(append(2, 4, entry(7))), false, 'both are late now: 2 was so first');
});

test('silence is nothing to a member that was asked nothing', async () => {
  const { clock, news } = scene([2, 3]);
  news.takes(append(2, 4));
  await clock.advance(5);
  assert.equal(news.takes(append(2, 4, entry(5))), false);
});

test('of questions the latest is asked, and entries keep their place', async () => {
  const { clock, sent, news } = scene([2, 3]);
  assert.equal(news.takes(question(2, 1)), false);
  assert.equal(news.takes(question(3, 1)), true);
  assert.equal(news.takes(append(3, 2, entry(5))), true);
  assert.equal(news.takes(question(3, 2)), true);
  await clock.advance(5);
  assert.deepEqual(sent, ['3:2+5', '3?2']);
});

test('whoever is no voter that follows, or one of too few, is told everything at once', () => {
  const { news } = scene([2]);
  assert.equal(news.takes(append(2, 4, ENTRY)), false);
  assert.equal(news.takes(append(3, 4, ENTRY)), false);
  assert.equal(news.takes(question(3, 4)), false);
});

test('what cannot wait goes after what was held for its receiver', () => {
  const { sent, news } = scene([2, 3]);
  news.takes(append(3, 4, ENTRY));
  assert.equal(news.takes(makeMessage('timeoutNow', 3, {})), false);
  assert.deepEqual(sent, ['3:4+5']);
});

test('a member that is asked again gets its held entries first, and no stale news', () => {
  const able = [2, 3];
  const { sent, news } = scene(able);
  news.takes(append(3, 4, entry(5)));
  able.splice(0, 1);
  assert.equal(news.takes(append(3, 5, entry(6))), false);
  assert.deepEqual(sent, ['3:4+5']);
});

test('appends that do not follow on each other stay apart', async () => {
  const { clock, sent, news } = scene([2, 3]);
  news.takes(append(3, 4, entry(5)));
  news.takes(append(3, 4, entry(9)));
  await clock.advance(5);
  assert.deepEqual(sent, ['3:4+5', '3:4+9']);
});
