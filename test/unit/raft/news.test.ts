/** Messages that only tell the commit index: held for a moment, and overtaken by entries. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Message, makeMessage } from '../../../manager/raft/core/types.ts';
import { CommitNews } from '../../../manager/raft/news.ts';
import { ManualClock } from '../../support/manualClock.ts';

function scene() {
  const clock = new ManualClock();
  const sent: string[] = [];
  const news = new CommitNews(clock, ({ to, commit }) => sent.push(`${to}:${commit}`));
  return { clock, sent, news };
}

function append(to: number, commit: number, ...entries: Message['entries']): Message {
  return makeMessage('append', to, { commit, entries });
}

const ENTRY = { term: 1, index: 5, type: 'normal', data: new Uint8Array(1) } as const;

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
