/**
 * A recorded run of the log on disk for the crash matrix: after each acknowledged append the bytes
 * of all segments, and what a member that was told so far must find again. The model of what must
 * be found is kept here by hand, apart from the code that is tested.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import {
  EMPTY_CONF_STATE,
  type Entry,
  type EntryId,
  type HardState,
} from '../../manager/raft/core/types.ts';
import { DiskStore } from '../../manager/raft/disk/disk.ts';
import type { WalState } from '../../manager/raft/disk/recovery.ts';
import type { WalAppend } from '../../manager/raft/disk/wal.ts';

export const RUN_NODE = 7;
export const RUN_SEGMENT_BYTES = 4096;

/** What has to be found again. */
export interface Promised {
  readonly hardState: HardState;
  readonly snapshot: EntryId;
  readonly last: EntryId;
  /** By index; those below the snapshot may be gone. */
  readonly entries: ReadonlyMap<number, Entry>;
}

export interface Moment {
  readonly what: string;
  readonly promised: Promised;
  /** Segments by name. */
  readonly files: ReadonlyMap<string, Buffer>;
}

/** Data without a zero, but for a run of them that fills whole sectors where `zeros` is given. */
export function runEntry(index: number, bytes: number, term: number, zeros = 0): Entry {
  const data = new Uint8Array(bytes).map((_, at) => 1 + ((index * 31 + at * 7 + term) % 250));
  data.fill(0, 60, 60 + zeros);
  return { index, term, type: 'normal', data };
}

/** Undefined when `state` is what was promised, else what differs. */
export function differs(state: WalState, promised: Promised): string | undefined {
  const { hardState, snapshot, base, entries } = state;
  const { term, vote, commit } = promised.hardState;
  const same = (left: EntryId, right: EntryId): boolean =>
    left.index === right.index && left.term === right.term;
  if (hardState.term !== term || hardState.vote !== vote) return 'the vote';
  if (hardState.commit !== Math.max(commit, snapshot.index)) return 'the commit index';
  if (!same(snapshot, promised.snapshot)) return 'the snapshot';
  if (!same(entries.at(-1) ?? base, promised.last)) return 'the last entry';
  if (base.index > snapshot.index) return 'entries after the snapshot';
  for (const [at, { index, term: its, data }] of entries.entries()) {
    const wanted = promised.entries.get(index);
    if (index !== base.index + at + 1 || wanted?.term !== its) return `entry ${index}`;
    if (Buffer.compare(data, wanted.data) !== 0) return `the data of entry ${index}`;
  }
  return undefined;
}

class Recorder {
  readonly moments: Moment[] = [];
  readonly #disk: DiskStore;
  readonly #wal: string;
  #hardState: HardState = { term: 0, vote: 0, commit: 0 };
  #snapshot: EntryId = { index: 0, term: 0 };
  #last: EntryId = { index: 0, term: 0 };
  #entries = new Map<number, Entry>();

  constructor(disk: DiskStore, wal: string) {
    this.#disk = disk;
    this.#wal = wal;
  }

  async step(what: string, append: Partial<Omit<WalAppend, 'done' | 'sync'>>): Promise<void> {
    const nothing = { entries: [], hardState: undefined, snapshot: undefined, installs: false };
    const { entries, hardState, snapshot, installs } = { ...nothing, ...append };
    if (snapshot !== undefined) {
      const meta = { ...snapshot, confState: EMPTY_CONF_STATE, data: new Uint8Array() };
      await this.#disk.writeSnapshot(meta, oneChunk(), !installs);
      this.#snapshot = snapshot;
      if (installs) {
        this.#entries = new Map();
        this.#last = snapshot;
      }
    }
    await new Promise<void>((done) =>
      this.#disk.append({ ...nothing, ...append, sync: true, done }),
    );
    if (hardState !== undefined) this.#hardState = hardState;
    for (const entry of entries) {
      for (const index of this.#entries.keys()) {
        if (index >= entry.index) this.#entries.delete(index);
      }
      this.#entries.set(entry.index, entry);
      this.#last = { index: entry.index, term: entry.term };
    }
    const promised = {
      hardState: this.#hardState,
      snapshot: this.#snapshot,
      last: this.#last,
      entries: new Map(this.#entries),
    };
    const names = fs.readdirSync(this.#wal).filter((name) => name.endsWith('.wal'));
    const files = names.sort().map((name): [string, Buffer] => {
      return [name, fs.readFileSync(path.join(this.#wal, name))];
    });
    this.moments.push({ what, promised, files: new Map(files) });
  }
}

async function* oneChunk(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('a state');
}

/** Entries, hard states, a truncation, marks of snapshots, segments filled and dropped. */
export async function recordRun(directory: string, key: Uint8Array | undefined): Promise<Moment[]> {
  const disk = await DiskStore.open({
    directory,
    nodeId: RUN_NODE,
    clock: new SystemClock(),
    log: silentLog,
    segmentBytes: RUN_SEGMENT_BYTES,
    ...(key === undefined ? {} : { seal: { key, random: new SystemRandom() } }),
    onFatal: (error) => {
      throw error;
    },
  });
  const run = new Recorder(disk, path.join(directory, 'wal'));
  try {
    await run.step('the first entries', {
      entries: [runEntry(1, 30, 1), runEntry(2, 200, 1)],
      hardState: { term: 1, vote: 0, commit: 2 },
    });
    await run.step('a small entry', { entries: [runEntry(3, 5, 1)] });
    await run.step('a vote', { hardState: { term: 2, vote: 3, commit: 2 } });
    await run.step('several entries', {
      entries: [runEntry(4, 300, 2), runEntry(5, 301, 2), runEntry(6, 20, 2)],
    });
    await run.step('entries in the place of others', {
      entries: [runEntry(5, 120, 3)],
      hardState: { term: 3, vote: 0, commit: 4 },
    });
    await run.step('a large entry', { entries: [runEntry(6, 1700, 3)] });
    await run.step('an entry that opens a segment', { entries: [runEntry(7, 1000, 3)] });
    await run.step('zeros over whole sectors', { entries: [runEntry(8, 1900, 3, 1300)] });
    await run.step('the commit index', { hardState: { term: 3, vote: 0, commit: 8 } });
    await run.step('the mark of an own snapshot', { snapshot: { index: 6, term: 3 } });
    await run.step('entries in the place of others, over two segments', {
      entries: [runEntry(9, 900, 4)],
      hardState: { term: 4, vote: 1, commit: 8 },
    });
    await run.step('the mark of a second snapshot', { snapshot: { index: 8, term: 3 } });
    disk.release({ index: 8, term: 3 }, 8);
    await run.step('an entry after segments were dropped', { entries: [runEntry(10, 600, 4)] });
    await run.step('a snapshot in the place of the log', {
      snapshot: { index: 40, term: 5 },
      installs: true,
      hardState: { term: 5, vote: 0, commit: 40 },
    });
    await run.step('entries after it', { entries: [runEntry(41, 100, 5), runEntry(42, 100, 5)] });
    await run.step('and another', { entries: [runEntry(43, 1500, 5)] });
  } finally {
    await disk.close();
  }
  for (const { what, files } of run.moments) assert.ok(files.size > 0, what);
  return run.moments;
}
