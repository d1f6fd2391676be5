/**
 * What the log asks of the disk and in which order, and what becomes of a disk that fails: one
 * write and one sync a batch, segments made whole before they have a name, directories synced, and
 * an error inside a segment ends the member before anything more is acknowledged.
 */
import assert from 'node:assert/strict';
import * as path from 'node:path';
import { test } from 'node:test';
import { SystemClock } from '../../../base/clock.ts';
import type { SwarmError } from '../../../base/errors.ts';
import { silentLog } from '../../../base/log.ts';
import { EMPTY_CONF_STATE, type Entry } from '../../../manager/raft/core/types.ts';
import { DiskStore } from '../../../manager/raft/disk/disk.ts';
import type { GrowingFile, InPlaceFile } from '../../../manager/raft/disk/files.ts';
import { MemoryFiles } from '../../support/memoryFiles.ts';
import { threadOn } from '../../support/memoryThread.ts';
import { until } from '../../support/until.ts';
import { runEntry } from '../../support/walRun.ts';

const DIRECTORY = '/swarm/raft';
const SEGMENT_BYTES = 16_384;
const clock = new SystemClock();
const WAIT_MS = 10_000;

/** Notes every call; fails those that `fails` picks, with the code it gives. */
class WatchedFiles extends MemoryFiles {
  calls: string[] = [];
  fails: (call: string) => string | undefined = () => undefined;

  #note(what: string, file: string): void {
    const call = `${what} ${path.basename(file)}`;
    this.calls.push(call);
    const code = this.fails(call);
    if (code !== undefined) throw Object.assign(new Error(`${code}: ${call}`), { code });
  }

  override syncDirectory(directory: string): void {
    this.#note('syncDirectory', directory);
  }

  override rename(from: string, to: string): void {
    this.#note(`rename ${path.basename(from)}`, to);
    super.rename(from, to);
  }

  override remove(file: string): void {
    if (this.sizeOf(file) !== undefined) this.#note('remove', file);
    super.remove(file);
  }

  override openInPlace(file: string): InPlaceFile {
    const inner = super.openInPlace(file);
    return {
      ...inner,
      write: (bytes, at) => {
        this.#note('write', file);
        inner.write(bytes, at);
      },
      syncData: () => this.#note('syncData', file),
    };
  }

  override async create(file: string): Promise<GrowingFile> {
    const inner = await super.create(file);
    return {
      ...inner,
      append: async (parts) => {
        this.#note('append', file);
        await inner.append(parts);
      },
      sync: async () => this.#note('sync', file),
    };
  }
}

interface Opened {
  readonly disk: DiskStore;
  readonly fatal: SwarmError[];
}

async function open(files: WatchedFiles): Promise<Opened> {
  const fatal: SwarmError[] = [];
  const disk = await DiskStore.open({
    ...{ directory: DIRECTORY, nodeId: 1, clock, log: silentLog, segmentBytes: SEGMENT_BYTES },
    ...{ files, startThread: threadOn(files) },
    onFatal: (error) => fatal.push(error),
  });
  return { disk, fatal };
}

function append(disk: DiskStore, entries: readonly Entry[], done: () => void): void {
  const hardState = { term: 1, vote: 0, commit: 0 };
  disk.append({ entries, hardState, snapshot: undefined, installs: false, sync: true, done });
}

function appended(disk: DiskStore, entries: readonly Entry[]): Promise<void> {
  return new Promise((done) => append(disk, entries, done));
}

const spareMade = (files: WatchedFiles): Promise<boolean> =>
  until('a spare', WAIT_MS, () => files.list(`${DIRECTORY}/wal`).includes('spare'));

test('what comes together is one write and one sync', async () => {
  const files = new WatchedFiles();
  const { disk } = await open(files);
  await appended(disk, [runEntry(1, 10, 1)]);
  await spareMade(files);
  files.calls = [];
  const work = Array.from({ length: 40 }, (_, at) => appended(disk, [runEntry(at + 2, 40, 1)]));
  await Promise.all(work);
  const inSegment = files.calls.filter((call) => call.endsWith('.wal'));
  // The first goes at once, alone; all the others wait for it together.
  const once = ['write 0000000000000001.wal', 'syncData 0000000000000001.wal'];
  assert.deepEqual(inSegment, [...once, ...once]);
  await disk.close();
});

test('a segment is whole and synced before it has a name, and its name before it is used', async () => {
  const files = new WatchedFiles();
  const { disk } = await open(files);
  await appended(disk, [runEntry(1, 10, 1)]);
  const { calls } = files;
  const made = calls.filter((call) => !call.startsWith('append'));
  assert.deepEqual(made.slice(0, 8), [
    'syncDirectory raft',
    'syncDirectory swarm',
    'sync spare.tmp',
    'rename spare.tmp spare',
    'syncDirectory wal',
    'rename spare 0000000000000001.wal',
    'syncDirectory wal',
    'write 0000000000000001.wal',
  ]);
  assert.equal(files.sizeOf(`${DIRECTORY}/wal/0000000000000001.wal`), SEGMENT_BYTES);
  await spareMade(files);
  assert.equal(files.sizeOf(`${DIRECTORY}/wal/spare`), SEGMENT_BYTES);
  await disk.close();
});

test('what is found at a start is synced before anything is said of it', async () => {
  const files = new WatchedFiles();
  const { disk } = await open(files);
  await appended(disk, [runEntry(1, 10, 1)]);
  await disk.close();
  files.calls = [];
  const again = await open(files);
  assert.equal(again.disk.recovered.entries.length, 1);
  const synced = files.calls.indexOf('syncData 0000000000000001.wal');
  assert.ok(synced >= 0 && files.calls.indexOf('syncDirectory wal') > synced);
  await again.disk.close();
});

test('segments go oldest first, each for good before the next', async () => {
  const files = new WatchedFiles();
  const { disk } = await open(files);
  for (let index = 1; index <= 20; index += 1) await appended(disk, [runEntry(index, 3000, 1)]);
  const meta = { index: 18, term: 1, confState: EMPTY_CONF_STATE, data: new Uint8Array() };
  async function* nothing(): AsyncGenerator<Uint8Array> {}
  await disk.writeSnapshot(meta, nothing(), true);
  await new Promise<void>((done) => {
    const mark = { entries: [], hardState: undefined, installs: false, sync: true, done };
    disk.append({ ...mark, snapshot: meta });
  });
  await spareMade(files);
  files.calls = [];
  await disk.release(meta, 18);
  const names = files.calls.filter((call) => call.startsWith('remove'));
  assert.ok(names.length >= 3);
  const expected = [...names.keys()].flatMap((at) => [
    `remove ${String(at + 1).padStart(16, '0')}.wal`,
    'syncDirectory wal',
  ]);
  assert.deepEqual(files.calls, expected);
  await disk.close();
});

for (const [what, call, code] of [
  ['a sync', 'syncData', 'EIO'],
  ['a write', 'write', 'EIO'],
  ['a write for want of room, though the room was allocated,', 'write', 'ENOSPC'],
] as const) {
  test(`${what} that fails ends the member, and nothing more is acknowledged`, async () => {
    const files = new WatchedFiles();
    const { disk, fatal } = await open(files);
    await appended(disk, [runEntry(1, 10, 1)]);
    files.fails = (each) => (each === `${call} 0000000000000001.wal` ? code : undefined);
    let acknowledged = 0;
    for (let index = 2; index <= 5; index += 1) {
      append(disk, [runEntry(index, 10, 1)], () => {
        acknowledged += 1;
      });
    }
    await until('it is told', WAIT_MS, () => fatal.length > 0);
    // The disk is well again, but what reached it is not known.
    files.fails = () => undefined;
    append(disk, [runEntry(6, 10, 1)], () => {
      acknowledged += 1;
    });
    await disk.close();
    assert.equal(acknowledged, 0);
    assert.equal(fatal.length, 1);
    assert.match(fatal[0].message, new RegExp(`could not be written: ${code}.*has to end`));
  });
}

test('a sync of a directory or of a spare that fails ends the member too', async () => {
  for (const call of ['syncDirectory wal', 'sync spare.tmp']) {
    const files = new WatchedFiles();
    files.fails = (each) => (each === call ? 'EIO' : undefined);
    const { disk, fatal } = await open(files);
    append(disk, [runEntry(1, 10, 1)], () => assert.fail('acknowledged'));
    await until('it is told', WAIT_MS, () => fatal.length > 0);
    await disk.close();
  }
});

test('no room for the next segment leaves the spare, and is no error', async () => {
  const files = new WatchedFiles();
  const { disk, fatal } = await open(files);
  await appended(disk, [runEntry(1, 10, 1)]);
  await spareMade(files);
  files.fails = (call) => (call === 'append spare.tmp' ? 'ENOSPC' : undefined);
  let index = 2;
  // Until the spare is in use: the next one cannot be made.
  await until('the disk is full', WAIT_MS, async () => {
    await appended(disk, [runEntry(index, 3000, 1)]);
    index += 1;
    return disk.full;
  });
  assert.equal(files.list(`${DIRECTORY}/wal`).filter((name) => name.endsWith('.wal')).length, 2);
  // A vote still goes, into the room that is left.
  await appended(disk, []);
  files.fails = () => undefined;
  await until('it has room again', WAIT_MS, () => !disk.full);
  await appended(disk, [runEntry(index, 3000, 1)]);
  assert.deepEqual(fatal, []);
  await disk.close();
});
