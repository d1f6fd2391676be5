/**
 * A member's durable state in one directory: `wal/` (log) and `snap/` (snapshots). What the driver
 * needs of a disk is RaftDisk; DiskStore is the real one. It reads at open only; later it writes,
 * in the order given. It decides nothing: when to snapshot or to purge is the driver's.
 */
import * as path from 'node:path';
import { assert } from '../../../base/assert.ts';
import type { Clock } from '../../../base/clock.ts';
import { SwarmError } from '../../../base/errors.ts';
import type { Log } from '../../../base/log.ts';
import type { Signal } from '../../../base/queue.ts';
import type { Random } from '../../../base/random.ts';
import { Seal } from '../../../base/seal.ts';
import type { Entry, EntryId, HardState, SnapshotMeta } from '../core/types.ts';
import { type Files, hostFiles } from './files.ts';
import {
  recoverWal,
  type SegmentInfo,
  segmentName,
  tornCopyOf,
  type WalState,
} from './recovery.ts';
import { DEFAULT_SEGMENT_BYTES } from './segmentWriter.ts';
import {
  otherSnapshots,
  removeOlderSnapshots,
  removeOtherSnapshots,
  SnapshotReader,
  writeSnapshot,
} from './snapshotFile.ts';
import { type StartThread, Wal, type WalAppend } from './wal.ts';

/** What was found at open. */
export interface Recovered {
  /** Nothing was ever written: a first start. */
  readonly isNew: boolean;
  readonly hardState: HardState;
  readonly snapshot: SnapshotMeta | undefined;
  readonly base: EntryId;
  readonly entries: readonly Entry[];
}

export interface OpenSnapshot {
  readonly meta: SnapshotMeta;
  /** Its bytes from `fromByte` on, checked as they are read; may be called again. */
  chunks(fromByte?: number): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** The disk of one member. Errors of append go to the fatal callback given at open. */
export interface RaftDisk {
  readonly recovered: Recovered;
  /** No room for the next segment: nothing new is to be proposed. */
  readonly full: boolean;
  /** Whether entries from the leader still find room; votes always do. */
  takes(entries: readonly Entry[]): boolean;
  readonly spaceChanged: Signal<boolean>;
  append(append: WalAppend): void;
  /** Writes a snapshot's file; it counts once its mark is appended. */
  writeSnapshot(meta: SnapshotMeta, chunks: AsyncIterable<Uint8Array>, own: boolean): Promise<void>;
  openSnapshot(id: EntryId): Promise<OpenSnapshot>;
  /**
   * Snapshots older than `keep`, but for the newest `old`, and segments up to `index` go; resolves
   * when they are gone.
   */
  release(keep: EntryId, index: number, old?: number): Promise<void>;
  /** What is written from now on is sealed with `key`; what is there stays readable. */
  rekey(key: Uint8Array): void;
  /**
   * Up to this entry of the log (or, at 0, without one) something is sealed with an older key, or
   * not at all though there is one; undefined = nothing is.
   */
  readonly staleUntil: number | undefined;
  /**
   * Whether nothing but `keep`, a snapshot that was begun after the last rekey, and what the log
   * still has is there, and nothing of it stale: older keys are needed no more.
   */
  settled(keep: EntryId): boolean;
  close(): Promise<void>;
}

export interface SealOptions {
  readonly key: Uint8Array;
  /** What they sealed is read; nothing is sealed with them. */
  readonly olderKeys?: readonly Uint8Array[];
  readonly random: Random;
}

export interface DiskOptions {
  readonly directory: string;
  readonly nodeId: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly onFatal: (error: SwarmError) => void;
  /** Told how long each batch of the log took to be written and synced. */
  readonly onSynced?: (tookMs: number, bytes: number) => void;
  /** Default 16 MiB; tests use less. */
  readonly segmentBytes?: number;
  /** What is written is sealed with it, and what is sealed is read with it. */
  readonly seal?: SealOptions;
  /** Where it all lies; default: this host's files. */
  readonly files?: Files;
  /** What runs the log's writer on `files`; default: a thread of its own. */
  readonly startThread?: StartThread;
}

export class DiskStore implements RaftDisk {
  readonly recovered: Recovered;
  readonly #files: Files;
  readonly #wal: Wal;
  readonly #snapshots: string;
  #given: SealOptions | undefined;
  #seal: Seal | undefined;
  /** Snapshots may be sealed with older keys. */
  #oldSnapshots: boolean;

  private constructor(
    files: Files,
    recovered: Recovered,
    wal: Wal,
    snapshots: string,
    given: SealOptions | undefined,
  ) {
    this.#files = files;
    this.#given = given;
    this.#seal = sealOf(given);
    this.#oldSnapshots = (given?.olderKeys ?? []).length > 0;
    this.recovered = recovered;
    this.#wal = wal;
    this.#snapshots = snapshots;
  }

  /** Throws SwarmError corrupt when what is there fails its checks or is another member's. */
  static async open(options: DiskOptions): Promise<DiskStore> {
    const { seal: given, files = hostFiles, startThread } = options;
    const walDirectory = path.join(options.directory, 'wal');
    const snapshots = path.join(options.directory, 'snap');
    for (const directory of [options.directory, walDirectory, snapshots]) {
      files.makeDirectory(directory);
    }
    files.syncDirectory(options.directory);
    files.syncDirectory(path.dirname(options.directory));
    const seal = sealOf(given);
    const state = recoverWal(walDirectory, seal, files);
    if (state !== undefined && state.nodeId !== options.nodeId) {
      throw new SwarmError(
        'corrupt',
        `${walDirectory} belongs to raft member ${state.nodeId}, not to ${options.nodeId}: ` +
          'was this state directory copied from another machine?',
        { detail: { file: walDirectory } },
      );
    }
    if (state?.tornCopy !== undefined) {
      options.log.warn('raft log: dropped a torn last batch, copy kept', { file: state.tornCopy });
    }
    makeDurable(files, walDirectory, state);
    const recovered = await recoveredFrom(files, state, snapshots, seal);
    const wal = new Wal({
      start: {
        directory: walDirectory,
        segmentBytes: options.segmentBytes ?? DEFAULT_SEGMENT_BYTES,
        segments: state?.segments ?? existingEmpty(files, walDirectory),
        endOffset: state?.endOffset ?? 0,
        nextSequence: state?.nextSequence ?? 1,
        sealKey: given?.key,
      },
      state: {
        nodeId: options.nodeId,
        hardState: recovered.hardState,
        snapshot: state?.snapshot ?? { index: 0, term: 0 },
        base: recovered.base,
        entries: state?.entries ?? [],
      },
      clock: options.clock,
      onFatal: options.onFatal,
      ...(options.onSynced === undefined ? {} : { onSynced: options.onSynced }),
      ...(startThread === undefined ? {} : { startThread }),
    });
    return new DiskStore(files, recovered, wal, snapshots, given);
  }

  get full(): boolean {
    return this.#wal.full;
  }

  takes(entries: readonly Entry[]): boolean {
    return this.#wal.takes(entries);
  }

  get spaceChanged(): Signal<boolean> {
    return this.#wal.spaceChanged;
  }

  append(append: WalAppend): void {
    this.#wal.append(append);
  }

  writeSnapshot(
    meta: SnapshotMeta,
    chunks: AsyncIterable<Uint8Array>,
    own: boolean,
  ): Promise<void> {
    const name = own ? 'own.part' : 'received.part';
    return writeSnapshot(this.#files, this.#snapshots, meta, chunks, name, this.#seal);
  }

  openSnapshot(id: EntryId): Promise<OpenSnapshot> {
    return SnapshotReader.open(this.#files, this.#snapshots, id, this.#seal);
  }

  rekey(key: Uint8Array): void {
    const given = this.#given;
    assert(given !== undefined, 'raft disk: a new key for what is in the clear');
    this.#given = { ...given, key, olderKeys: [given.key, ...(given.olderKeys ?? [])] };
    this.#seal = sealOf(this.#given);
    this.#oldSnapshots = true;
    this.#wal.rekey(key);
  }

  get staleUntil(): number | undefined {
    return this.#wal.staleUntil ?? (this.#oldSnapshots ? 0 : undefined);
  }

  settled(keep: EntryId): boolean {
    const others = otherSnapshots(this.#files, this.#snapshots, keep);
    if (this.#wal.staleUntil !== undefined || others.length > 0) return false;
    this.#oldSnapshots = false;
    return true;
  }

  release(keep: EntryId, index: number, old = 0): Promise<void> {
    removeOlderSnapshots(this.#files, this.#snapshots, keep, old);
    return this.#wal.purge(index);
  }

  close(): Promise<void> {
    return this.#wal.close();
  }
}

function sealOf(given: SealOptions | undefined): Seal | undefined {
  return given && new Seal(given.key, given.random, given.olderKeys);
}

/**
 * What a process wrote that died before its sync is read back all the same, from the system's
 * memory: it must be on the disk before anything is promised on the strength of it. A sync alone
 * would not do: after one that failed, Linux takes what it could not write for written. So the
 * newest batch, the only one that can be concerned, is written once more.
 */
function makeDurable(files: Files, walDirectory: string, state: WalState | undefined): void {
  const last = state?.segments.at(-1);
  if (state === undefined || last === undefined) return;
  const file = path.join(walDirectory, segmentName(last.number));
  const bytes = files.read(file);
  // Where a torn batch was cleared, that too may be so in memory only.
  const isCleared = files.sizeOf(tornCopyOf(file)) !== undefined;
  const newest = bytes.subarray(state.lastOffset, isCleared ? bytes.length : state.endOffset);
  const segment = files.openInPlace(file);
  try {
    segment.write(newest, state.lastOffset);
    segment.syncData();
  } finally {
    segment.close();
  }
  files.syncDirectory(walDirectory);
}

/** A crash between naming the first segment and writing it leaves one that holds nothing. */
function existingEmpty(files: Files, walDirectory: string): SegmentInfo[] {
  const found = files.list(walDirectory).filter((name) => name.endsWith('.wal'));
  return found.map((name) => ({ number: Number.parseInt(name, 10), maxIndex: 0, stale: false }));
}

async function recoveredFrom(
  files: Files,
  state: WalState | undefined,
  snapshots: string,
  seal: Seal | undefined,
): Promise<Recovered> {
  const none: EntryId = { index: 0, term: 0 };
  if (state === undefined) {
    removeOtherSnapshots(files, snapshots, none);
    const hardState = { term: 0, vote: 0, commit: 0 };
    return { isNew: true, hardState, snapshot: undefined, base: none, entries: [] };
  }
  const { hardState, base, entries } = state;
  let snapshot: SnapshotMeta | undefined;
  if (state.snapshot.index > 0) {
    const reader = await SnapshotReader.open(files, snapshots, state.snapshot, seal);
    snapshot = reader.meta;
    await reader.close();
  }
  removeOtherSnapshots(files, snapshots, state.snapshot);
  return { isNew: false, hardState, snapshot, base, entries };
}
