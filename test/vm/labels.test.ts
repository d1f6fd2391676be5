/** Security labels on a kernel that has AppArmor; this machine's own may have none. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';

interface Judged {
  readonly profile: string;
  readonly mount: string;
  readonly write: string;
}

interface Report {
  readonly failed?: string;
  readonly usual: Judged;
  readonly open: Judged;
  readonly privileged: Judged;
  readonly mine: Judged;
  readonly exec: string;
  readonly unloaded: readonly string[];
  readonly absent: string;
}

test('containers get AppArmor’s default profile, none, the one asked for, or no start', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-labels-'));
  try {
    const probe = join(directory, 'probe');
    buildProbe(probe);
    const programs = ['/sbin/apparmor_parser'];
    const script = 'test/support/guestScripts/labels.js';
    const found = await runInGuest<Report>(script, { probe }, { programs });
    assert.equal(found.failed, undefined, JSON.stringify(found));
    const [refused, allowed] = ['mount: Permission denied', 'mount: allowed'];
    const usual = 'tsswarm-default (enforce)';
    assert.deepEqual(found.usual, { profile: usual, mount: refused, write: '' });
    assert.deepEqual(found.open, { profile: 'unconfined', mount: allowed, write: '' });
    assert.deepEqual(found.privileged, { profile: 'unconfined', mount: allowed, write: '' });
    assert.deepEqual(found.mine, {
      profile: 'mine (enforce)',
      mount: refused,
      write: '/tmp/file: Permission denied',
    });
    assert.equal(found.exec, usual);
    assert.deepEqual(found.unloaded, ['unconfined', 'unconfined', usual]);
    const refusal =
      'cannot apply the AppArmor profile "no-such-profile": No such file or directory';
    assert.ok(found.absent.includes(refusal), found.absent);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
