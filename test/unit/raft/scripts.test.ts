/**
 * etcd-io/raft's recorded conversations, replayed on our core: every Ready, message, entry, state
 * and log must be the same, in the same order; log prose is left out. The files come from
 * a checkout of it (RAFT_CHECKOUT); they are not part of
 * this tree.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { parseScript, ScriptEnv } from '../../support/raftScript.ts';

const checkout = process.env['RAFT_CHECKOUT'] ?? '';
const directory = path.join(checkout, 'testdata');
const present = checkout !== '' && fs.existsSync(directory);
const files = present ? fs.readdirSync(directory).filter((name) => name.endsWith('.txt')) : [];

const PROSE = /^\s*(DEBUG|INFO|WARN|ERROR) /;

function comparable(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trimEnd());
  return lines
    .filter((line) => line !== '' && line !== 'ok' && !PROSE.test(line))
    .map((line) => line.replace('EntryConfChangeV2', 'EntryConfChange'));
}

test('the recorded conversations are there', {
  skip: present ? false : 'RAFT_CHECKOUT names no checkout of etcd-io/raft',
}, () => {
  assert.ok(files.length > 0);
});

for (const name of files) {
  test(`the conversation ${name} is the same, word for word`, () => {
    const env = new ScriptEnv();
    let quiet = false;
    for (const directive of parseScript(fs.readFileSync(path.join(directory, name), 'utf8'))) {
      const actual = env.run(directive);
      if (directive.command === 'log-level') quiet = directive.args.has('none');
      const level = directive.args.get('log-level')?.[0];
      if (quiet || level === 'none') continue;
      const at = `${name}:${directive.line} ${directive.command}`;
      assert.deepEqual(comparable(actual), comparable(directive.expected), at);
    }
  });
}
