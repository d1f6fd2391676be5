/** Security labels on a kernel that has AppArmor; this machine's own may have none. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';

interface Report {
  readonly failed?: string;
  readonly enabled: string;
  readonly absent: { readonly exitCode: number; readonly error: string };
  readonly unconfined: string;
}

test('a program gets its AppArmor profile, and one that is not loaded fails the start', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-labels-'));
  try {
    const probe = join(directory, 'probe');
    buildProbe(probe);
    const found = await runInGuest<Report>('test/support/guestScripts/labels.js', { probe });
    assert.equal(found.failed, undefined, JSON.stringify(found));
    assert.equal(found.enabled, 'Y');
    assert.deepEqual(found.absent, {
      exitCode: 128,
      error: 'cannot apply the AppArmor profile "no-such-profile": No such file or directory',
    });
    assert.equal(found.unconfined, 'unconfined');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
