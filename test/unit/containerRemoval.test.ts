/**
 * A container's directory is removed: a small one at once, what the kernel takes time to free
 * elsewhere than in the thread that everything waits for.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { removeData, removeRun, removeWhole } from '../../runtime/container/files.ts';
import { treeBytes } from '../../runtime/container/layerDiff.ts';

const MIB = 1024 * 1024;
let work: string;
let doomed: string;

beforeEach(() => {
  work = mkdtempSync(join(tmpdir(), 'container-removal-'));
  doomed = join(work, 'doomed');
  mkdirSync(join(doomed, 'logs'), { recursive: true });
  writeFileSync(join(doomed, 'config.json'), '{}');
});

afterEach(() => {
  rmSync(work, { recursive: true, force: true });
});

test('what a container left that wrote little is removed at once', async () => {
  const removed = removeWhole(doomed);
  assert(!existsSync(doomed));
  await removed;
});

test('large files are not freed in this thread', async () => {
  writeFileSync(join(doomed, 'logs', '1'), Buffer.alloc(4 * MIB, 'x'));
  const removed = removeWhole(doomed);
  assert(existsSync(join(doomed, 'logs', '1')));
  await removed;
  assert(!existsSync(doomed));
});

test('nor are files that have more than they say', async () => {
  const file = join(doomed, 'logs', '1');
  writeFileSync(file, '');
  execFileSync('fallocate', ['--keep-size', '--length', String(4 * MIB), file]);
  const removed = removeWhole(doomed);
  assert(existsSync(file));
  await removed;
  assert(!existsSync(doomed));
});

test('many files are not removed in this thread', async () => {
  for (let at = 0; at < 100; at += 1) writeFileSync(join(doomed, 'logs', String(at)), '');
  const removed = removeWhole(doomed);
  assert(existsSync(doomed));
  await removed;
  assert(!existsSync(doomed));
});

test('a directory that is gone already is as good', async () => {
  rmSync(doomed, { recursive: true });
  await removeWhole(doomed);
});

test('what lies deeper than any path is long is removed, with names that are no text', async () => {
  const script = `
    const { mkdirSync, writeFileSync } = require('node:fs');
    for (const name of ['one', 'two', 'three'])
      mkdirSync(name + '/x'.repeat(900), { recursive: true });
    for (let depth = 0; depth < 1600; depth += 1) {
      mkdirSync('deep');
      if (depth % 100 === 0) writeFileSync(Buffer.from([0x61, 0xff]), '');
      if (depth % 100 === 0) mkdirSync(Buffer.from([0x62, 0xff]));
      process.chdir('deep');
    }`;
  execFileSync(process.execPath, ['-e', script], { cwd: doomed });
  // Counted as far as it can be named; at the least without an error.
  assert((await treeBytes(doomed)) >= 2);
  await removeWhole(doomed);
  assert.deepEqual(readdirSync(work), []);
});

/** What a container has after a run. */
function makeData(log: string): void {
  for (const name of ['upper', 'work/work', 'logs']) {
    mkdirSync(join(doomed, name), { recursive: true });
  }
  writeFileSync(join(doomed, 'logs', '00000001.log'), log);
  writeFileSync(join(doomed, 'exit'), '');
}

test('the directories of what ran once are removed at once', async () => {
  makeData('a line\n');
  const removed = removeData(doomed);
  assert(!existsSync(doomed));
  await removed;
  const run = join(work, 'run');
  mkdirSync(run);
  for (const name of ['control.sock', 'pid', 'exit']) writeFileSync(join(run, name), '');
  const ended = removeRun(run);
  assert(!existsSync(run));
  await ended;
});

test('whatever else is in them goes too', async () => {
  for (const name of ['upper/file', 'work/work/more', 'logs/00000002.log', 'unknown']) {
    makeData('');
    writeFileSync(join(doomed, name), '');
    await removeData(doomed);
    assert(!existsSync(doomed), name);
  }
  makeData('x'.repeat(4 * MIB));
  const removed = removeData(doomed);
  assert(existsSync(join(doomed, 'logs', '00000001.log')), 'not in this thread');
  await removed;
  assert(!existsSync(doomed));
  await removeData(doomed);
  await removeRun(doomed);
});
