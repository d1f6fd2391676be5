/**
 * Every kind of limit under pure cgroup v2, on Debian's own kernel in an emulated machine with a
 * disk and swap: each counts only because a real program was held to it there.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runInGuest } from '../support/guest.ts';
import { buildProbe } from '../support/rootfs.ts';

const MIB = 1024 * 1024;
/** The guest's 40 s or so, on a machine that has much else to do. */
const TIMEOUT_MS = 780_000;

interface Outcome {
  readonly code: number;
  readonly output: string;
}

interface Moved {
  readonly ms: number;
  readonly output: string;
}

interface Report {
  readonly failed?: string;
  readonly memory: {
    readonly swapped: number;
    readonly pagesOut: number;
    readonly tooMuch: readonly unknown[];
    readonly low: string;
    readonly notes: readonly string[];
    readonly refused: string;
    readonly unchanged: string;
    readonly updated: readonly string[];
  };
  readonly processor: {
    readonly throttledPeriods: number;
    readonly share: number;
    readonly weights: readonly string[];
    readonly times: readonly number[];
    readonly allowed: string;
  };
  readonly disk: {
    readonly free: Moved;
    readonly readBytes: Moved;
    readonly written: Moved;
    readonly operations: Moved;
    readonly weights: readonly string[];
  };
  readonly life: {
    readonly frozen: string;
    readonly before: number;
    readonly after: number;
    readonly resumed: number;
    readonly signal: number;
  };
  readonly devices: { readonly none: string; readonly read: string; readonly all: string };
  readonly oci: {
    readonly written: Outcome;
    readonly forks: Outcome;
    readonly huge: readonly Outcome[];
    readonly noController: Outcome;
    readonly noKey: Outcome;
    readonly devices: readonly Outcome[];
  };
}

test('every limit of cgroup v2 holds a real program', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-limits-'));
  let found: Report;
  try {
    const probe = join(directory, 'probe');
    buildProbe(probe);
    found = await runInGuest<Report>(
      'test/support/guestScripts/everyLimit.js',
      { probe },
      {
        diskBytes: [64 * MIB, 64 * MIB],
        timeoutMs: TIMEOUT_MS,
      },
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  assert.equal(found.failed, undefined, JSON.stringify(found));
  const { memory, processor, disk, life, devices, oci } = found;

  await t.test('memory beyond its limit goes to swap, as far as that is allowed', () => {
    assert.equal(memory.swapped, 0);
    assert(memory.pagesOut > 1000, `${memory.pagesOut}`);
    assert.deepEqual(memory.tooMuch, [137, true]);
  });

  await t.test('a reservation is written, and what v2 has not is said', () => {
    assert.equal(memory.low, String(16 * MIB));
    assert.match(memory.notes.join(), /memory swappiness has no effect/);
  });

  await t.test(
    'an update below what is in use is refused when asked for, and changes nothing',
    () => {
      assert.match(memory.refused, /limit of 4096 bytes is below the \d+ bytes in use/);
      assert.equal(memory.unchanged, String(64 * MIB));
      assert.deepEqual(memory.updated, [String(32 * MIB), 'max']);
    },
  );

  await t.test('a cpu limit throttles, weights share, a set binds', () => {
    assert(processor.throttledPeriods >= 5, `${processor.throttledPeriods}`);
    assert(processor.share < 0.3, `${processor.share}`);
    assert.deepEqual(processor.weights, ['532', '35']);
    const [heavy, light] = processor.times;
    assert(heavy > 2 * light, `${heavy} and ${light}`);
    assert.equal(processor.allowed, '1');
  });

  await t.test('bytes and operations of a disk are throttled', () => {
    // At 1 MiB/s, and at 40 operations of 16 KiB a second.
    assert(disk.readBytes.ms > 2500, JSON.stringify(disk));
    assert(disk.written.ms > 1700, JSON.stringify(disk));
    assert(disk.operations.ms > 1500, JSON.stringify(disk));
    assert(disk.free.ms * 2 < disk.readBytes.ms, JSON.stringify(disk));
  });

  await t.test('weights reach the scheduler that knows them, also by device', () => {
    assert.deepEqual(disk.weights, ['default 750', '254:0 300']);
  });

  await t.test('a frozen program does nothing, goes on when thawed, and is killed frozen', () => {
    assert.match(life.frozen, /frozen 1/);
    assert.equal(life.before, life.after);
    assert(life.resumed > life.after);
    assert.equal(life.signal, 9);
  });

  await t.test('a device may be used as its rules say, and no other', () => {
    assert.equal(devices.none, 'mknod done open Operation not permitted');
    assert.equal(devices.read, 'mknod done open Operation not permitted');
    assert.equal(devices.all, 'mknod done open No such device or address');
    // A list that takes one device out of all of a kind: only v2 can.
    assert.match(oci.devices[0].output, /mknod done open Operation not permitted/);
    assert.match(oci.devices[1].output, /mknod done open No such device or address/);
  });

  await t.test('an OCI configuration has what Docker has no option for', () => {
    assert.deepEqual(oci.written.output.trim().split('\n'), [
      String(48 * MIB),
      String(64 * MIB),
      String(8 * MIB),
      '60000 120000',
      '20000',
      '1',
      '30',
      String(4 * MIB),
      String(4 * MIB),
    ]);
    assert.match(oci.forks.output, /^\d of 20 Resource temporarily unavailable/);
    assert.match(oci.huge[0].output, /1 huge pages: mapped/);
    assert.match(oci.huge[1].output, /4 huge pages: Out of memory/);
  });

  await t.test('what the kernel has not is refused by its name', () => {
    assert.notEqual(oci.noController.code, 0);
    assert.match(oci.noController.output, /requested cgroup controller `foo` is not available/);
    assert.notEqual(oci.noKey.code, 0);
    assert.match(oci.noKey.output, /no such file or directory/i);
  });
});
