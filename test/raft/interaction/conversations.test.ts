/**
 * etcd-io/raft's recorded conversations, replayed on our core: tables of status, state and log,
 * and every Ready, message, entry, hard state and change of configuration must be the same, step by
 * step and in the same order; prose of the log is left out. The files: see checkout.ts.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { isOlder, recorded, SKIP } from './checkout.ts';
import { parseScript, ScriptEnv } from './script.ts';

const PROSE = /^\s*(DEBUG|INFO|WARN|ERROR) /;
/** Of etcd 3.4's, those that do not depend on what raft itself did otherwise then. */
const SAME_IN_OLDER = ['campaign.txt', 'confchange_v1_remove_leader.txt'];

const files = recorded('testdata');
const verbs = new Map<string, number>();
let same = 0;
let steps = 0;

function comparable(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trimEnd());
  return lines
    .filter((line) => line !== '' && line !== 'ok' && !PROSE.test(line))
    .map((line) => line.replace('EntryConfChangeV2', 'EntryConfChange'));
}

test('the recorded conversations are there', { skip: SKIP }, () => {
  assert.ok(files.length > 0);
});

for (const file of files) {
  const name = path.basename(file);
  const differs = isOlder && !SAME_IN_OLDER.includes(name);
  const skip = differs ? "raft itself acted otherwise in etcd 3.4: see a newer checkout's" : false;
  test(`the conversation ${name} is the same, word for word`, { skip }, () => {
    const env = new ScriptEnv();
    let quiet = false;
    for (const directive of parseScript(fs.readFileSync(file, 'utf8'))) {
      const actual = env.run(directive);
      verbs.set(directive.command, (verbs.get(directive.command) ?? 0) + 1);
      if (directive.command === 'log-level') quiet = directive.args.has('none');
      const level = directive.args.get('log-level')?.[0];
      if (quiet || level === 'none') continue;
      const at = `${name}:${directive.line} ${directive.command}`;
      assert.deepEqual(comparable(actual), comparable(directive.expected), at);
      steps += 1;
    }
    same += 1;
  });
}

after(() => {
  if (files.length === 0) return;
  const compared = `${steps} steps compared, ${verbs.size} verbs`;
  process.stderr.write(`conversations: ${same} of ${files.length} are the same (${compared})\n`);
});
