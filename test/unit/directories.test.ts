/** Directories are made, or refused in one line; never tried without end. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeDirectories } from '../../base/directories.ts';
import { hasCode } from '../../base/errors.ts';

test('what is missing above a directory is made too, and twice is once', () => {
  const root = mkdtempSync(join(tmpdir(), 'directories-'));
  try {
    const path = join(root, 'a', 'b');
    makeDirectories(path, 0o711);
    makeDirectories(path, 0o711);
    assert(existsSync(path));
    assert.equal(statSync(path).mode & 0o777, 0o711);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('a place where the kernel lets nobody make directories is refused by name', () => {
  assert.throws(
    () => makeDirectories('/proc/nope/deeper', 0o755),
    (error) =>
      hasCode(error, 'invalid') && /cannot make the directory \/proc\/nope/.test(error.message),
  );
});
