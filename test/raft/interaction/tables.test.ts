/**
 * etcd-io/raft's tables of quorums and configuration changes, compared exactly. The files: see
 * checkout.ts.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { after, test } from 'node:test';
import {
  type Changer,
  ConfChangeError,
  type ConfResult,
  changerOf,
  enterJoint,
  leaveJoint,
  simple,
} from '../../../manager/raft/core/confchange.ts';
import {
  jointCommitted,
  jointVote,
  majorityCommitted,
  majorityVote,
  sortedIds,
} from '../../../manager/raft/core/quorum.ts';
import { Tracker, type TrackerConfig } from '../../../manager/raft/core/tracker.ts';
import { isOlder, recorded } from './checkout.ts';
import { type Directive, parseScript, stepsOf } from './script.ts';
import { progressLines } from './scriptText.ts';

function tables(room: string): { name: string; directives: Directive[] }[] {
  return recorded(path.join(room, 'testdata')).map((file) => ({
    name: `${room}/${path.basename(file)}`,
    directives: parseScript(fs.readFileSync(file, 'utf8')),
  }));
}

const counts = { quorums: 0, changes: 0 };
const quorums = tables('quorum');
const changes = tables('confchange');

test('the tables are there', () => {
  assert.ok(changes.length > 0);
});

function known(values: readonly string[], ids: readonly number[]): Map<number, string> {
  const unique = [...new Set(ids)];
  const pairs = unique.map((id, at): [number, string] => [id, values[at] ?? '_']);
  return new Map(pairs.filter(([, value]) => value !== '_'));
}

function quorumAnswer({ command, args }: Directive): string {
  const numbers = (key: string): number[] =>
    (args.get(key) ?? []).filter((value) => value !== 'zero' && value !== '').map(Number);
  const halves = [new Set(numbers('cfg')), new Set(numbers('cfgj'))] as const;
  const ids = [...numbers('cfg'), ...numbers('cfgj')];
  const joint = args.has('cfgj');
  if (command === 'committed') {
    const acked = known(args.get('idx') ?? [], ids);
    const ack = (id: number): number | undefined => {
      const value = acked.get(id);
      return value === undefined ? undefined : Number(value);
    };
    const index = joint ? jointCommitted(halves, ack) : majorityCommitted(halves[0], ack);
    return Number.isFinite(index) ? String(index) : '∞';
  }
  const votes = new Map<number, boolean>();
  for (const [id, vote] of known(args.get('votes') ?? [], ids)) votes.set(id, vote === 'y');
  const result = joint ? jointVote(halves, votes) : majorityVote(halves[0], votes);
  return `Vote${result[0].toUpperCase()}${result.slice(1)}`;
}

for (const { name, directives } of quorums) {
  test(`the table ${name} gives the same answers`, () => {
    for (const directive of directives) {
      const expected = directive.expected.trim().split('\n').pop() ?? '';
      const answer = quorumAnswer(directive);
      const at = `${name}:${directive.line}`;
      if (answer === '∞') assert.ok(expected.endsWith('∞'), at);
      else assert.equal(answer, expected, at);
      counts.quorums += 1;
    }
  });
}

function configText(config: TrackerConfig): string {
  const list = (ids: Iterable<number>): string => `(${sortedIds(ids).join(' ')})`;
  let text = `voters=${list(config.voters[0])}`;
  if (config.voters[1].size > 0) text += `&&${list(config.voters[1])}`;
  if (config.learners.size > 0) text += ` learners=${list(config.learners)}`;
  if (config.learnersNext.size > 0) text += ` learners_next=${list(config.learnersNext)}`;
  return config.autoLeave ? `${text} autoleave` : text;
}

function change(directive: Directive, changer: Changer): ConfResult {
  const steps = stepsOf(directive.input);
  if (directive.command === 'simple') return simple(changer, steps);
  if (directive.command === 'leave-joint') return leaveJoint(changer);
  return enterJoint(changer, directive.args.get('autoleave')?.[0] === 'true', steps);
}

for (const { name, directives } of changes) {
  test(`the table ${name} leads to the same configurations`, () => {
    const tracker = new Tracker(10, Number.POSITIVE_INFINITY);
    for (const [lastIndex, directive] of directives.entries()) {
      let answer: string[];
      try {
        const result = change(directive, changerOf(tracker, lastIndex));
        tracker.config = result.config;
        tracker.progress = result.progress;
        answer = [configText(tracker.config), ...progressLines(tracker)];
      } catch (error) {
        if (!(error instanceof ConfChangeError)) throw error;
        answer = [error.message];
      }
      // In etcd 3.4 a new member began at 0, where nothing is.
      const text = isOlder
        ? directive.expected.replaceAll(/next=0\b/g, 'next=1')
        : directive.expected;
      const expected = text.split('\n').filter((line) => line !== '');
      assert.deepEqual(answer, expected, `${name}:${directive.line}`);
      counts.changes += 1;
    }
  });
}

after(() => {
  const total = { quorums: casesOf(quorums), changes: casesOf(changes) };
  process.stderr.write(
    `tables: ${counts.quorums} of ${total.quorums} cases of quorums and ${counts.changes} of ` +
      `${total.changes} changes of configuration are the same\n`,
  );
});

function casesOf(files: readonly { directives: Directive[] }[]): number {
  return files.reduce((sum, { directives }) => sum + directives.length, 0);
}
