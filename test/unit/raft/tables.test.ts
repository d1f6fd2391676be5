/**
 * etcd-io/raft's tables of quorums and configuration changes, compared exactly. The files come from
 * a checkout of it (RAFT_CHECKOUT); they are not part of this tree.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
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
import { type Directive, parseScript, stepsOf } from '../../support/raftScript.ts';
import { progressLines } from '../../support/raftScriptText.ts';

const checkout = process.env['RAFT_CHECKOUT'] ?? '';

function tables(room: string): { name: string; directives: Directive[] }[] {
  const directory = path.join(checkout, room, 'testdata');
  if (checkout === '' || !fs.existsSync(directory)) return [];
  return fs.readdirSync(directory).map((name) => ({
    name: `${room}/${name}`,
    directives: parseScript(fs.readFileSync(path.join(directory, name), 'utf8')),
  }));
}

const quorums = tables('quorum');
const changes = tables('confchange');

test('the tables are there', {
  skip: quorums.length > 0 ? false : 'RAFT_CHECKOUT is not set',
}, () => {
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
      const expected = directive.expected.split('\n').filter((line) => line !== '');
      assert.deepEqual(answer, expected, `${name}:${directive.line}`);
    }
  });
}
