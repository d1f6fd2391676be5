/** Sizes of writable layers where no file system keeps them; that they hold is shown in a guest. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { checkProjects } from '../../runtime/sys/projectQuota.ts';

test('a file system without project quotas is refused with the kernel’s reason', () => {
  assert.throws(
    () => checkProjects('/proc'),
    (error) =>
      hasCode(error, 'unsupported') &&
      /file system of \/proc does not keep \((?!Success)[A-Z].+\): mount ext4/.test(error.message),
  );
});
