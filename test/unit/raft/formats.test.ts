/**
 * What earlier versions wrote is read: a state directory of each format of log and snapshot, kept
 * under test/fixtures, is replayed, written to, and replayed again. What a newer version wrote is
 * refused by name.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { hasCode } from '../../../base/errors.ts';
import { FRAME_VERSION } from '../../../manager/raft/disk/frame.ts';
import { SNAPSHOT_VERSION } from '../../../manager/raft/disk/snapshotFile.ts';
import { decodeLogEntry, encodeLogEntry } from '../../../proto/convert.ts';
import { network } from '../../support/objects.ts';
import { contentsOf, type Expected, FIXTURES, openFixture } from '../../support/raftFixture.ts';

/** Everything in `wanted` is in `found`; later versions of the model may know more. */
function assertHolds(found: unknown, wanted: unknown, at: string): void {
  if (typeof wanted !== 'object' || wanted === null) {
    assert.equal(found, wanted, at);
    return;
  }
  assert.ok(typeof found === 'object' && found !== null, at);
  if (Array.isArray(wanted)) assert.equal((found as unknown[]).length, wanted.length, at);
  for (const [key, value] of Object.entries(wanted)) {
    assertHolds((found as Record<string, unknown>)[key], value, `${at}.${key}`);
  }
}

async function withCopy(name: string, work: (state: string) => Promise<void>): Promise<void> {
  const root = fs.mkdtempSync(path.join(os.tmpdir(), 'raft-format-'));
  try {
    fs.cpSync(path.join(FIXTURES, name, 'state'), root, { recursive: true });
    await work(root);
  } finally {
    fs.rmSync(root, { recursive: true, force: true });
  }
}

const fixtures = fs.readdirSync(FIXTURES);
const newestFixture = `v${Math.max(FRAME_VERSION, SNAPSHOT_VERSION)}`;

test('there is a state directory of every format, in the clear and sealed', () => {
  for (let version = 1; version <= FRAME_VERSION; version += 1) {
    for (const name of [`v${version}`, `v${version}-sealed`]) assert.ok(fixtures.includes(name));
  }
});

for (const name of fixtures) {
  test(`the state directory ${name} holds what it was told, and goes on`, () =>
    withCopy(name, async (state) => {
      const sealed = name.endsWith('-sealed');
      const text = fs.readFileSync(path.join(FIXTURES, name, 'expected.json'), 'utf8');
      const expected = JSON.parse(text) as Expected;
      let open = await openFixture(state, sealed);
      assertHolds(contentsOf(open.replica).tables, expected.tables, name);
      assert.ok(open.replica.store.version >= expected.version);
      const change = { kind: 'create', table: 'network', object: network('later') } as const;
      await open.replica.propose({ atomic: true, changes: [change] });
      const after = contentsOf(open.replica).tables;
      await open.stop();
      open = await openFixture(state, sealed);
      assert.deepEqual(contentsOf(open.replica).tables, after);
      await open.stop();
    }));
}

function refusedAsNewer(error: unknown): boolean {
  assert.ok(hasCode(error, 'unsupported'), String(error));
  assert.match(error.message, /written by a newer version of tsswarm \(.* 9; this one knows/);
  return true;
}

test('a log of a newer format is refused by name, and left as it is', () =>
  withCopy(newestFixture, async (state) => {
    const wal = path.join(state, 'wal');
    const file = path.join(wal, fs.readdirSync(wal).sort()[0]);
    const bytes = fs.readFileSync(file);
    bytes[4] = 9;
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
    fs.writeFileSync(file, bytes);
    await assert.rejects(openFixture(state, false), refusedAsNewer);
    assert.deepEqual(fs.readFileSync(file), bytes);
  }));

test('a snapshot of a newer format is refused by name', () =>
  withCopy(newestFixture, async (state) => {
    const snap = path.join(state, 'snap');
    const file = path.join(snap, fs.readdirSync(snap)[0]);
    const bytes = fs.readFileSync(file);
    bytes[4] = 9;
    const meta = bytes.subarray(16, 16 + bytes.readUInt32LE(8));
    bytes.writeUInt32LE(crc32(meta, crc32(bytes.subarray(0, 12))), 12);
    fs.writeFileSync(file, bytes);
    await assert.rejects(openFixture(state, false), refusedAsNewer);
  }));

test('an entry, or a snapshot of the store, of a newer format is refused by name', () => {
  const entry = encodeLogEntry({ atomic: true, atMs: 1, changes: [] });
  // Field 4, a varint: 9.
  assert.throws(
    () => decodeLogEntry(Buffer.concat([entry, Uint8Array.of(4 << 3, 9)])),
    refusedAsNewer,
  );
});
