/**
 * etcd-io/raft's recorded conversations, replayed on our core: tables of status, state and log,
 * and every Ready, message, entry, hard state and change of configuration must be the same, step by
 * step and in the same order; prose of the log is left out. The files: see checkout.ts.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { after, test } from 'node:test';
import { isOlder, recorded } from './checkout.ts';
import { parseScript, ScriptEnv } from './script.ts';

const PROSE = /^\s*(DEBUG|INFO|WARN|ERROR) /;
/** Of etcd 3.4's, those that do not depend on what raft itself did otherwise then: no others run. */
const SAME_IN_OLDER = ['campaign.txt', 'confchange_v1_remove_leader.txt'];

const files = recorded('testdata');
const compared = files.filter((file) => !isOlder || SAME_IN_OLDER.includes(path.basename(file)));
const verbs = new Map<string, number>();
let same = 0;
let steps = 0;

function comparable(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trimEnd());
  return lines
    .filter((line) => line !== '' && line !== 'ok' && !PROSE.test(line))
    .map((line) => line.replace('EntryConfChangeV2', 'EntryConfChange'));
}

test('the recorded conversations are there', () => {
  assert.ok(compared.length >= SAME_IN_OLDER.length);
});

for (const file of compared) {
  const name = path.basename(file);
  test(`the conversation ${name} is the same, word for word`, () => {
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
  const older = isOlder ? "; the others are of what etcd 3.4's raft did otherwise" : '';
  process.stderr.write(
    `conversations: ${same} of ${files.length} are the same (${steps} steps compared, ` +
      `${verbs.size} verbs${older})\n`,
  );
});
