/**
 * A container's files in memory, on a real kernel: a tmpfs of its own that nothing can be executed
 * from, owners and modes as asked for, and nothing left when it is dropped or could not be made.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { TmpfsFiles } from '../../runtime/container/memoryFiles.ts';
import { readMounts } from '../../runtime/sys/mount.ts';

const root = mkdtempSync(join(tmpdir(), 'memory-files-'));
const files = new TmpfsFiles(root);

after(() => {
  for (const id of files.ids()) files.drop(id);
  rmSync(root, { recursive: true, force: true });
});

function file(
  path: string,
  text: string,
  more: { uid?: number; gid?: number; mode?: number } = {},
) {
  return { path, data: Buffer.from(text), uid: 0, gid: 0, mode: 0o444, ...more };
}

test('files are there with owner and mode, on a tmpfs without suid, devices or programs', () => {
  const directory = files.make('c1', [
    file('secrets/a/b', 'deep', { uid: 1000, gid: 1001, mode: 0o400 }),
    file('files/0', 'x'.repeat(1_000_000)),
  ]);
  assert.equal(readFileSync(join(directory, 'secrets/a/b'), 'utf8'), 'deep');
  const { uid, gid, mode } = statSync(join(directory, 'secrets/a/b'));
  assert.deepEqual([uid, gid, mode & 0o7777], [1000, 1001, 0o400]);
  assert.equal(statSync(join(directory, 'files/0')).size, 1_000_000);
  const mount = readMounts().find(({ mountPoint }) => mountPoint === directory);
  assert.equal(mount?.type, 'tmpfs');
  const line = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .find((each) => each.includes(` ${directory} `));
  assert.match(line ?? '', / rw,nosuid,nodev,noexec/);
  assert.ok(files.has('c1'));
  assert.deepEqual(new TmpfsFiles(root).ids(), ['c1']);
});

test('what is dropped is gone, mount and directory', () => {
  files.drop('c1');
  files.drop('c1');
  assert.ok(!files.has('c1'));
  assert.deepEqual(readdirSync(join(root, 'memory')), []);
  assert.ok(!readMounts().some(({ mountPoint }) => mountPoint.startsWith(root)));
});

test('files that cannot be made leave nothing', () => {
  assert.throws(() => files.make('c2', [file('a', '1'), file('a/b', '2')]), /EEXIST|ENOTDIR/);
  assert.throws(() => files.make('c2', [file('a', '1'), file('a', '2')]), /EEXIST/);
  assert.ok(!existsSync(join(root, 'memory', 'c2')));
  assert.ok(!readMounts().some(({ mountPoint }) => mountPoint.startsWith(root)));
});

test('made again, only the new files are there; a directory without its mount does not count', () => {
  files.make('c3', [file('old', '1')]);
  const directory = files.make('c3', [file('new', '2')]);
  assert.deepEqual(readdirSync(directory), ['new']);
  files.drop('c3');
  assert.ok(!files.has('c3'));
});
