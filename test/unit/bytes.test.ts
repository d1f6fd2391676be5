/** Sizes are shown as Docker shows them: memory by 1024, images and traffic by 1000. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, formatShortSize, formatSize } from '../../base/bytes.ts';

test('memory is shown in powers of 1024', () => {
  assert.equal(formatBytes(0), '0B');
  assert.equal(formatBytes(1536), '1.5KiB');
  assert.equal(formatBytes(64 * 1024 * 1024), '64MiB');
});

test('sizes of images and files are shown in powers of 1000, with 3 digits in lists', () => {
  assert.equal(formatSize(2_074_179), '2.074MB');
  assert.equal(formatShortSize(91_897), '91.9kB');
  assert.equal(formatShortSize(999), '999B');
  assert.equal(formatShortSize(0), '0B');
});
