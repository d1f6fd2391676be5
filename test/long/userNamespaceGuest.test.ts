/** User namespaces with mapped layers on Debian's own kernel, in an emulated machine. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';

const DISK_BYTES = 16 << 20;

test('layers, volumes, files and secrets are the container’s own on Linux 6.1', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-userns-'));
  try {
    const probe = join(directory, 'probe');
    const disk = join(directory, 'disk');
    buildProbe(probe);
    writeFileSync(disk, '');
    truncateSync(disk, DISK_BYTES);
    execFileSync('mkfs.ext4', ['-q', disk]);
    const found = await runInGuest<Record<string, unknown>>(
      'test/support/guestScripts/userNamespace.js',
      { probe, disk },
    );
    assert.deepEqual(found, {
      files:
        '755 0:0 /bin/probe\n755 1000:1000 /home\n644 0:0 /etc/hosts\n400 0:0 /run/secrets/one',
      secret: 'secret',
      written: ['', ''],
      ownersOnDisk: [0, 0],
      map: '         0     100000      65536',
      status: 100_000,
      device: '/dev/null char 1:3 666 opens',
      left: [],
    });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
