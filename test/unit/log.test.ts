/** The log when it cannot be written: what it tells about goes on. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLog } from '../../base/log.ts';

test('a full disk under the log throws nothing and takes no memory', () => {
  const fd = openSync('/dev/full', 'w');
  const log = createLog('info', fd);
  const before = process.memoryUsage().rss;
  for (let at = 0; at < 20_000; at += 1) log.info('a line that cannot be written', { at });
  assert(process.memoryUsage().rss - before < 64 * 1024 * 1024);
  closeSync(fd);
});

test('a line of the log is one JSON object with its fields', () => {
  const directory = mkdtempSync(join(tmpdir(), 'log-'));
  const fd = openSync(join(directory, 'log'), 'w');
  const log = createLog('info', fd).with({ node: 'n1' });
  log.warn('what happened', { count: 3 });
  log.debug('not at this level');
  const { time, ...line } = JSON.parse(readFileSync(join(directory, 'log'), 'utf8'));
  assert.deepEqual(line, { level: 40, node: 'n1', count: 3, msg: 'what happened' });
  assert(Number.isFinite(Date.parse(time)));
  closeSync(fd);
  rmSync(directory, { recursive: true });
});
