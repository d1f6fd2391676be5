/** Sizes of writable layers, on a kernel and a file system that count by project. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';

const DISK_BYTES = 64 * 1024 * 1024;

test('a writable layer holds no more than was asked for, or the container is refused', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-quota-'));
  try {
    const [probe, disk] = [join(directory, 'probe'), join(directory, 'disk')];
    buildProbe(probe);
    writeFileSync(disk, '');
    truncateSync(disk, DISK_BYTES);
    execFileSync('mkfs.ext4', ['-q', '-O', 'quota,project', disk]);
    const script = 'test/support/guestScripts/quota.js';
    const { refused, tooMuch, ...found } = await runInGuest<Record<string, string>>(script, {
      probe,
      disk,
    });
    assert.match(refused ?? '', /mount ext4 or XFS with prjquota there/, JSON.stringify(found));
    assert.match(tooMuch ?? '', /^3 MiB, then .*quota exceeded$/i);
    assert.deepEqual(found, {
      fits: '3 MiB',
      larger: '6 MiB',
      free: '12 MiB',
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
