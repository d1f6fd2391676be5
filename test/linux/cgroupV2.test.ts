/**
 * Limits under pure cgroup v2, on Debian's own kernel in an emulated machine: a real process is
 * limited, killed for memory and told apart, refused forks, throttled and killed.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ExitRecord } from '../../runtime/container/types.ts';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';

interface Run {
  readonly exit: ExitRecord;
  readonly output: string;
}

interface Report {
  readonly failed?: string;
  readonly plain: Run;
  readonly memory: Run;
  readonly enough: Run;
  readonly pids: Run;
  readonly cpuMax: string;
  readonly cpuWeight: string;
  readonly own: string;
  readonly stopped: number;
  readonly exec: { readonly group: string; readonly output: string; readonly code: number };
  readonly inGroups: string;
  readonly updatedCpuMax: string;
  readonly memoryLimitBytes: number;
  readonly frozen: boolean;
  readonly copied: unknown;
  readonly changes: unknown;
  readonly restarted: string;
}

test('containers run and are limited on a kernel with cgroup v2 only', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-v2-'));
  try {
    const probe = join(directory, 'probe');
    buildProbe(probe);
    const found = await runInGuest<Report>('test/support/guestScripts/limits.js', { probe });
    assert.equal(found.failed, undefined, JSON.stringify(found));
    assert.equal(found.plain.exit.exitCode, 0);
    assert.equal(found.plain.output, 'hello\n');
    assert.equal(found.memory.exit.exitCode, 137);
    assert.equal(found.memory.exit.oomKilled, true);
    assert.equal(found.enough.exit.exitCode, 0);
    assert.equal(found.enough.exit.oomKilled, false);
    assert.match(found.pids.output, /^\d of 20 Resource temporarily unavailable/);
    assert.equal(found.cpuMax, '50000 100000');
    assert.equal(found.cpuWeight, '59');
    assert.match(found.own, /^\/tsswarm\//);
    assert.equal(found.stopped, 9);
    assert.deepEqual(found.exec, { group: found.own, output: 'throughend of input\n', code: 7 });
    assert.equal(found.inGroups, '0::/init');
    assert.equal(found.updatedCpuMax, '25000 100000');
    assert.equal(found.memoryLimitBytes, 32 << 20);
    assert.equal(found.frozen, true);
    assert.deepEqual(found.copied, ['copied', 4]);
    assert.deepEqual(found.changes, [
      { path: '/tmp', kind: 'modified' },
      { path: '/tmp/copied', kind: 'added' },
    ]);
    assert.equal(found.restarted, 'running');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
