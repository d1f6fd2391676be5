/**
 * The log on disk: what was acknowledged comes back, a torn end is cleared with a copy kept, any
 * other damage is refused by file and offset, a full disk refuses entries and leaves room for
 * votes.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../../base/clock.ts';
import { hasCode, SwarmError } from '../../../base/errors.ts';
import { silentLog } from '../../../base/log.ts';
import { SystemRandom } from '../../../base/random.ts';
import { SEAL_BYTES, SEAL_KEY_BYTES, Seal } from '../../../base/seal.ts';
import { ByteWriter } from '../../../manager/raft/bytes.ts';
import { EMPTY_CONF_STATE, type Entry } from '../../../manager/raft/core/types.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import { hostFiles } from '../../../manager/raft/disk/files.ts';
import { frameBytes } from '../../../manager/raft/disk/frame.ts';
import {
  encodeHead,
  writeEntryRecord,
  writeHardState,
} from '../../../manager/raft/disk/records.ts';
import { recoverWal, segmentName, type WalState } from '../../../manager/raft/disk/recovery.ts';
import { SegmentWriter } from '../../../manager/raft/disk/segmentWriter.ts';

const NODE = 7;
const ZERO = { index: 0, term: 0 };
const HEAD = encodeHead({
  nodeId: NODE,
  hardState: { term: 0, vote: 0, commit: 0 },
  snapshot: ZERO,
  last: ZERO,
});

function inDirectory<T>(work: (directory: string) => T): T {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'raft-wal-'));
  const remove = (): void => fs.rmSync(directory, { recursive: true, force: true });
  let result: T;
  try {
    result = work(directory);
  } catch (error) {
    remove();
    throw error;
  }
  if (result instanceof Promise) return result.finally(remove) as T;
  remove();
  return result;
}

function entry(index: number, bytes: number, term = 1): Entry {
  const data = new Uint8Array(bytes).map((_, at) => 1 + ((index * 31 + at * 7) % 250));
  return { index, term, type: 'normal', data };
}

function body(entries: readonly Entry[], term = 1): Uint8Array {
  const out = new ByteWriter();
  for (const one of entries) writeEntryRecord(out, one);
  writeHardState(out, { term, vote: 0, commit: 0 });
  return out.take();
}

const random = new SystemRandom();
/** Of the frames that the tests below write and read; undefined = in the clear. */
let sealKey: Uint8Array | undefined;

function sealBytes(): number {
  return sealKey === undefined ? 0 : SEAL_BYTES;
}

/** The same with frames in the clear and sealed. */
function testBoth(name: string, run: () => Promise<void>): void {
  test(name, run);
  test(`${name}, also when it is sealed`, async () => {
    sealKey = random.bytes(SEAL_KEY_BYTES);
    try {
      await run();
    } finally {
      sealKey = undefined;
    }
  });
}

/** Writes batches of entries of the given sizes; returns the end offset of each frame. */
async function writeBatches(
  directory: string,
  sizes: readonly number[],
  segmentBytes = 32_768,
): Promise<number[]> {
  const start = { directory, segmentBytes, segments: [], endOffset: 0, nextSequence: 1, sealKey };
  const writer = new SegmentWriter(start, random, hostFiles);
  const ends: number[] = [];
  let end = 0;
  for (const [at, size] of sizes.entries()) {
    const batch = { head: HEAD, body: body([entry(at + 1, size)]), maxIndex: at + 1 };
    if (!writer.fits(batch)) await writer.makeSpare();
    writer.write(batch);
    end += frameBytes(batch.body.length + (at === 0 ? HEAD.length : 0) + sealBytes());
    ends.push(end);
  }
  await writer.close();
  return ends;
}

function recover(directory: string): WalState {
  const seal = sealKey === undefined ? undefined : new Seal(sealKey, random);
  const state = recoverWal(directory, seal);
  assert.ok(state !== undefined);
  return state;
}

const first = (directory: string): string => path.join(directory, segmentName(1));

testBoth('a batch of which any sectors were never written is dropped and a copy of it kept', () =>
  inDirectory(async (directory) => {
    const ends = await writeBatches(directory, [40, 700, 3000]);
    const whole = fs.readFileSync(first(directory));
    const start = ends[1];
    const sectors: [number, number][] = [];
    for (let at = start; at < ends[2]; ) {
      const end = Math.min(ends[2], at + 512 - (at % 512));
      sectors.push([at, end]);
      at = end;
    }
    for (let mask = 1; mask < 1 << sectors.length; mask += 1) {
      const torn = Buffer.from(whole);
      let lost = 0;
      for (const [at, [from, until]] of sectors.entries()) {
        if ((mask & (1 << at)) === 0) continue;
        if (whole.subarray(from, until).some((byte) => byte !== 0)) lost += 1;
        torn.fill(0, from, until);
      }
      fs.writeFileSync(first(directory), torn);
      const state = recover(directory);
      assert.equal(state.entries.length, lost === 0 ? 3 : 2, `mask ${mask}`);
      if (lost < sectors.length && lost > 0) {
        assert.ok(fs.existsSync(`${first(directory)}.torn`), `mask ${mask}: no copy`);
      }
      fs.rmSync(`${first(directory)}.torn`, { force: true });
      assert.equal(recover(directory).tornCopy, undefined, 'repaired once and for all');
    }
  }),
);

testBoth('a flipped bit anywhere in what was written is refused, naming file and offset', () =>
  inDirectory(async (directory) => {
    const ends = await writeBatches(directory, [40, 600, 30]);
    const whole = fs.readFileSync(first(directory));
    let refused = 0;
    for (let at = 0; at < ends[2]; at += 1) {
      const damaged = Buffer.from(whole);
      damaged[at] ^= 1 << (at % 8);
      fs.writeFileSync(first(directory), damaged);
      try {
        const state = recover(directory);
        // Padding between frames carries nothing.
        assert.equal(state.entries.length, 3, `flip at ${at} lost entries`);
        assert.deepEqual(Uint8Array.from(state.entries[2].data), entry(3, 30).data);
      } catch (error) {
        assert.ok(hasCode(error, 'corrupt'), `flip at ${at}: ${error}`);
        assert.ok(error.message.includes(first(directory)));
        assert.match(error.message, /at byte \d+; .*remove its raft directory/);
        refused += 1;
      }
    }
    assert.ok(refused > ends[2] * 0.9);
  }),
);

test('damage before the last batch is never taken for a torn write', () =>
  inDirectory(async (directory) => {
    const ends = await writeBatches(directory, [40, 2000, 30]);
    const whole = fs.readFileSync(first(directory));
    const damaged = Buffer.from(whole);
    damaged.fill(0, ends[0] + 512, ends[0] + 1536);
    fs.writeFileSync(first(directory), damaged);
    assert.throws(() => recover(directory), /damaged frame, with later frames after it/);
  }));

test('a missing segment, and a damaged end of one that is not the last, are refused', () =>
  inDirectory(async (directory) => {
    await writeBatches(directory, [1500, 1500, 1500, 1500, 1500], 4096);
    const files = fs.readdirSync(directory).filter((name) => name.endsWith('.wal'));
    assert.ok(files.length >= 3);
    const second = path.join(directory, segmentName(2));
    const kept = fs.readFileSync(second);
    fs.rmSync(second);
    assert.throws(() => recover(directory), /segment 2 before it is missing/);
    fs.writeFileSync(second, kept.subarray(0, 1000));
    assert.throws(
      () => recover(directory),
      (error) => hasCode(error, 'corrupt'),
    );
  }));

async function openDisk(
  directory: string,
  segmentBytes = 65_536,
  key?: Uint8Array,
): Promise<DiskStore> {
  return DiskStore.open({
    directory,
    nodeId: NODE,
    clock: new SystemClock(),
    log: silentLog,
    segmentBytes,
    ...(key === undefined ? {} : { seal: { key, random } }),
    onFatal: (error) => {
      throw error;
    },
  });
}

function append(disk: DiskStore, entries: readonly Entry[], term = 1): Promise<void> {
  return new Promise((done) => {
    const hardState = { term, vote: 0, commit: 0 };
    disk.append({ entries, hardState, snapshot: undefined, installs: false, sync: true, done });
  });
}

test('entries over many segments come back, replaced ones replaced', () =>
  inDirectory(async (directory) => {
    let disk = await openDisk(directory);
    const work: Promise<void>[] = [];
    for (let index = 1; index <= 300; index += 1) work.push(append(disk, [entry(index, 900)]));
    await Promise.all(work);
    await append(disk, [entry(290, 10, 2), entry(291, 10, 2)], 2);
    await disk.close();
    disk = await openDisk(directory);
    const { entries, hardState } = disk.recovered;
    assert.equal(entries.length, 291);
    assert.deepEqual(
      entries.map(({ index }) => index),
      Array.from({ length: 291 }, (_, at) => at + 1),
    );
    assert.equal(entries[288].term, 1);
    assert.equal(entries[290].term, 2);
    assert.equal(hardState.term, 2);
    await disk.close();
  }));

test('one append larger than any batch is written in parts and done once', () =>
  inDirectory(async (directory) => {
    let disk = await openDisk(directory);
    const entries = Array.from({ length: 400 }, (_, at) => entry(at + 1, 900));
    await append(disk, entries);
    await disk.close();
    disk = await openDisk(directory);
    assert.equal(disk.recovered.entries.length, 400);
    await disk.close();
  }));

test('after a snapshot older segments go, and the log still comes back', () =>
  inDirectory(async (directory) => {
    let disk = await openDisk(directory);
    for (let at = 0; at < 30; at += 1) {
      const batch = Array.from({ length: 10 }, (_, one) => entry(at * 10 + one + 1, 900));
      await append(disk, batch);
    }
    const meta = { index: 250, term: 1, confState: EMPTY_CONF_STATE, data: Buffer.from('members') };
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('one');
      yield Buffer.from('two');
    }
    await disk.writeSnapshot(meta, chunks(), true);
    await new Promise<void>((done) => {
      const mark = { entries: [], hardState: undefined, installs: false, sync: true, done };
      disk.append({ ...mark, snapshot: meta });
    });
    const wal = path.join(directory, 'wal');
    const before = fs.readdirSync(wal).length;
    disk.release(meta, 200);
    await append(disk, [entry(301, 10)]);
    await disk.close();
    assert.ok(fs.readdirSync(wal).length < before, 'segments were removed');
    disk = await openDisk(directory);
    const { snapshot, base, entries } = disk.recovered;
    assert.equal(snapshot?.index, 250);
    assert.equal(Buffer.from(snapshot?.data ?? []).toString(), 'members');
    assert.ok(base.index <= 200 && base.index > 100, `base ${base.index}`);
    assert.equal(entries[0].index, base.index + 1);
    assert.equal(entries[entries.length - 1].index, 301);
    const reader = await disk.openSnapshot(meta);
    const read: string[] = [];
    for await (const chunk of reader.chunks()) read.push(Buffer.from(chunk).toString());
    assert.deepEqual(read, ['one', 'two']);
    await reader.close();
    await disk.close();
    damageSnapshot(path.join(directory, 'snap'));
    disk = await openDisk(directory);
    const damaged = await disk.openSnapshot(meta);
    await assert.rejects(async () => {
      for await (const chunk of damaged.chunks()) assert.ok(chunk.length > 0);
    }, /damaged chunk at byte/);
    await damaged.close();
    await disk.close();
    fs.rmSync(path.join(directory, 'snap'), { recursive: true });
    await assert.rejects(openDisk(directory), /the snapshot that the log counts on is missing/);
  }));

function damageSnapshot(directory: string): void {
  const [name] = fs.readdirSync(directory);
  const file = path.join(directory, name);
  const bytes = fs.readFileSync(file);
  bytes[bytes.indexOf('two')] ^= 1;
  fs.writeFileSync(file, bytes);
}

test('a sealed log and its snapshot show nothing without the key, and all with it', () =>
  inDirectory(async (directory) => {
    const key = random.bytes(SEAL_KEY_BYTES);
    // What was written in the clear before stays readable.
    let disk = await openDisk(directory);
    await append(disk, [entry(1, 100)]);
    await disk.close();
    disk = await openDisk(directory, 65_536, key);
    const word = 'quince-telegraph-77';
    const data = Buffer.from(word);
    const words = Array.from({ length: 40 }, (_, at) => ({ ...entry(at + 2, 1), data }));
    await append(disk, words);
    const meta = { index: 20, term: 1, confState: EMPTY_CONF_STATE, data: Buffer.from('members') };
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield Buffer.from(word);
      yield Buffer.from(`${word} again`);
    }
    await disk.writeSnapshot(meta, chunks(), true);
    await new Promise<void>((done) => {
      const mark = { entries: [], hardState: undefined, installs: false, sync: true, done };
      disk.append({ ...mark, snapshot: meta });
    });
    await disk.close();
    for (const room of ['wal', 'snap']) {
      for (const name of fs.readdirSync(path.join(directory, room))) {
        assert.ok(!fs.readFileSync(path.join(directory, room, name)).includes(word), name);
      }
    }
    disk = await openDisk(directory, 65_536, key);
    assert.equal(Buffer.from(disk.recovered.entries.at(-1)?.data ?? []).toString(), word);
    const reader = await disk.openSnapshot(meta);
    const read: string[] = [];
    for await (const chunk of reader.chunks()) read.push(Buffer.from(chunk).toString());
    assert.deepEqual(read, [word, `${word} again`]);
    await reader.close();
    await disk.close();
    await assert.rejects(openDisk(directory), /the frame is sealed, and there is no key/);
    const other = random.bytes(SEAL_KEY_BYTES);
    await assert.rejects(openDisk(directory, 65_536, other), /sealed with another key/);
  }));

test('so many older snapshots are kept as is asked for', () =>
  inDirectory(async (directory) => {
    const disk = await openDisk(directory);
    await append(
      disk,
      [1, 2, 3, 4].map((index) => entry(index, 10)),
    );
    async function* nothing(): AsyncGenerator<Uint8Array> {}
    const id = (index: number) => ({ index, term: 1 });
    for (const index of [1, 2, 3, 4]) {
      const meta = { ...id(index), confState: EMPTY_CONF_STATE, data: Buffer.from('') };
      await disk.writeSnapshot(meta, nothing(), true);
    }
    const kept = () => fs.readdirSync(path.join(directory, 'snap')).map((name) => Number(name[15]));
    disk.release(id(4), 0, 2);
    assert.deepEqual(kept().sort(), [2, 3, 4]);
    disk.release(id(4), 0);
    assert.deepEqual(kept(), [4]);
    await disk.close();
  }));

test('a snapshot whose mark never reached the log does not count', () =>
  inDirectory(async (directory) => {
    let disk = await openDisk(directory);
    await append(disk, [entry(1, 10), entry(2, 10)]);
    async function* nothing(): AsyncGenerator<Uint8Array> {}
    const meta = { index: 2, term: 1, confState: EMPTY_CONF_STATE, data: new Uint8Array() };
    await disk.writeSnapshot(meta, nothing(), true);
    await disk.close();
    disk = await openDisk(directory);
    assert.equal(disk.recovered.snapshot, undefined);
    assert.equal(disk.recovered.entries.length, 2);
    assert.deepEqual(fs.readdirSync(path.join(directory, 'snap')), []);
    await disk.close();
  }));

test('an unknown frame version is refused by name, not guessed at', () =>
  inDirectory(async (directory) => {
    await writeBatches(directory, [40]);
    const bytes = fs.readFileSync(first(directory));
    bytes[4] = 9;
    const { crc32 } = await import('node:zlib');
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 28)), 28);
    fs.writeFileSync(first(directory), bytes);
    assert.throws(
      () => recover(directory),
      (error) =>
        error instanceof SwarmError &&
        /written by a newer version of tsswarm \(log format 9;/.test(error.message),
    );
  }));
