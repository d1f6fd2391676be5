/**
 * Appends frames to preallocated segments: one write and one fdatasync a batch. One spare segment
 * is kept ready, so that a full disk is met when the next spare is made, not in the middle of a
 * batch: from then on `full` holds and the room left is for votes. Space is taken by writing zeros,
 * as sparse files promise nothing. Runs on the log's own thread; keeps no time and no queue.
 */
import * as path from 'node:path';
import { assert } from '../../../base/assert.ts';
import { MIB } from '../../../base/bytes.ts';
import type { Random } from '../../../base/random.ts';
import { SEAL_BYTES, Seal } from '../../../base/seal.ts';
import { type Files, type InPlaceFile, isDiskFull } from './files.ts';
import { buildFrame, frameBytes, MAX_FRAME_BYTES } from './frame.ts';
import { encodeLength, LENGTH_RECORD_BYTES } from './records.ts';
import { SEGMENT_UNIT_BYTES, type SegmentInfo, SPARE_NAME, segmentName } from './recovery.ts';

/** Twice the largest frame, so that any batch fits an empty segment with its head. */
export const DEFAULT_SEGMENT_BYTES = 2 * MAX_FRAME_BYTES;
/** Spares are filled in steps, so that batches can go between. */
const FILL_STEP_BYTES = MIB / 4;

export interface WriterStart {
  readonly directory: string;
  readonly segmentBytes: number;
  readonly segments: readonly SegmentInfo[];
  readonly endOffset: number;
  readonly nextSequence: number;
  /** Frames are sealed with it; undefined = in the clear. */
  readonly sealKey: Uint8Array | undefined;
}

export interface WriterBatch {
  /** A head record, used when this batch opens a segment: the state before it. */
  readonly head: Uint8Array;
  readonly body: Uint8Array;
  /** Highest entry index in it; 0 = none. */
  readonly maxIndex: number;
}

/** undefined = none is stale. */
export function staleUntil(segments: readonly SegmentInfo[]): number | undefined {
  const stale = segments.filter((segment) => segment.stale);
  return stale.length === 0 ? undefined : Math.max(...stale.map(({ maxIndex }) => maxIndex));
}

export class SegmentWriter {
  readonly #files: Files;
  readonly #directory: string;
  readonly #segmentBytes: number;
  readonly #segments: SegmentInfo[];
  readonly #random: Random;
  #seal: Seal | undefined;
  #file: InPlaceFile | undefined;
  #offset: number;
  #sequence: number;
  #spareReady: boolean;
  #making: Promise<boolean> | undefined = undefined;
  #closed = false;

  constructor(start: WriterStart, random: Random, files: Files) {
    this.#files = files;
    const { sealKey } = start;
    this.#random = random;
    this.#seal = sealKey === undefined ? undefined : new Seal(sealKey, random);
    this.#directory = start.directory;
    this.#segmentBytes = start.segmentBytes;
    this.#segments = start.segments.map((segment) => ({ ...segment }));
    this.#offset = start.endOffset;
    this.#sequence = start.nextSequence;
    files.remove(this.#sparePath(true));
    this.#spareReady = this.#soundSpare();
    assert(start.segmentBytes % SEGMENT_UNIT_BYTES === 0, 'wal: segments are whole pages', {
      segmentBytes: start.segmentBytes,
    });
    const last = this.#segments[this.#segments.length - 1];
    if (last !== undefined) this.#open(last.number);
  }

  #sparePath(unfinished: boolean): string {
    return path.join(this.#directory, unfinished ? `${SPARE_NAME}.tmp` : SPARE_NAME);
  }

  #soundSpare(): boolean {
    return this.#files.sizeOf(this.#sparePath(false)) === this.#segmentBytes;
  }

  /** No spare: the disk had no room for one when last tried, or it is being made. */
  get spareReady(): boolean {
    return this.#spareReady;
  }

  /** Left in the segment that is open. */
  get roomBytes(): number {
    return this.#file === undefined ? 0 : this.#file.sizeBytes - this.#offset;
  }

  #open(number: number): void {
    this.#file = this.#files.openInPlace(path.join(this.#directory, segmentName(number)));
  }

  /** Whether `batch` can be written now; if not, a spare is wanted first. */
  fits(batch: WriterBatch): boolean {
    return this.#fitsCurrent(batch) || this.#spareReady;
  }

  #fitsCurrent(batch: WriterBatch): boolean {
    if (this.#file === undefined) return false;
    // What is sealed with another key goes sooner when nothing new stands beside it.
    if (this.#segments[this.#segments.length - 1].stale && this.#spareReady) return false;
    const head = this.#offset === 0 ? batch.head.length + LENGTH_RECORD_BYTES : 0;
    const sealBytes = this.#seal === undefined ? 0 : SEAL_BYTES;
    const bodyBytes = batch.body.length + head + sealBytes;
    return this.#offset + frameBytes(bodyBytes) <= this.#file.sizeBytes;
  }

  /** Durable when it returns. Any error thrown leaves the log unknown: the process has to end. */
  write(batch: WriterBatch): void {
    if (!this.#fitsCurrent(batch)) this.#rotate();
    assert(this.#file !== undefined, 'wal: no open segment');
    const opening = [batch.head, encodeLength(this.#file.sizeBytes)];
    const bodies = this.#offset === 0 ? [...opening, batch.body] : [batch.body];
    const frame = buildFrame(bodies, this.#sequence, this.#offset, this.#seal);
    assert(this.#offset + frame.length <= this.#file.sizeBytes, 'wal: batch exceeds a segment', {
      bytes: frame.length,
    });
    this.#file.write(frame, this.#offset);
    this.#file.syncData();
    this.#offset += frame.length;
    this.#sequence += 1;
    const segment = this.#segments[this.#segments.length - 1];
    segment.maxIndex = Math.max(segment.maxIndex, batch.maxIndex);
  }

  #rotate(): void {
    assert(this.#spareReady, 'wal: rotation without a spare');
    const previous = this.#segments[this.#segments.length - 1]?.number ?? 0;
    this.#file?.close();
    const next = previous + 1;
    const file = path.join(this.#directory, segmentName(next));
    this.#files.rename(this.#sparePath(false), file);
    this.#files.syncDirectory(this.#directory);
    this.#spareReady = false;
    this.#segments.push({ number: next, maxIndex: 0, stale: false });
    this.#offset = 0;
    this.#open(next);
  }

  /** Makes the spare if there is none; false = no room on the disk. Other errors are thrown. */
  makeSpare(): Promise<boolean> {
    if (this.#spareReady || this.#closed) return Promise.resolve(true);
    this.#making ??= this.#fillSpare().finally(() => {
      this.#making = undefined;
    });
    return this.#making;
  }

  async #fillSpare(): Promise<boolean> {
    const unfinished = this.#sparePath(true);
    try {
      const file = await this.#files.create(unfinished);
      try {
        const zeros = new Uint8Array(FILL_STEP_BYTES);
        for (let at = 0; at < this.#segmentBytes && !this.#closed; ) {
          const step = Math.min(FILL_STEP_BYTES, this.#segmentBytes - at);
          await file.append([zeros.subarray(0, step)]);
          at += step;
        }
        await file.sync();
      } finally {
        await file.close();
      }
      if (this.#closed) return true;
      this.#files.rename(unfinished, this.#sparePath(false));
      this.#files.syncDirectory(this.#directory);
      this.#spareReady = true;
      return true;
    } catch (error) {
      this.#files.remove(unfinished);
      if (isDiskFull(error)) return false;
      throw error;
    }
  }

  /** What is written from now on is sealed with `key`. */
  rekey(key: Uint8Array): void {
    this.#seal = new Seal(key, this.#random);
    const last = this.#segments[this.#segments.length - 1];
    for (const segment of this.#segments) {
      if (segment !== last || this.#offset > 0) segment.stale = true;
    }
  }

  /** Highest entry index of the segments that hold something not sealed with the present key. */
  get staleUntil(): number | undefined {
    return staleUntil(this.#segments);
  }

  /** Removes the oldest segments as long as all their entries are at or below `index`. */
  purge(index: number): number {
    let removed = 0;
    while (this.#segments.length > 1 && this.#segments[0].maxIndex <= index) {
      const [oldest] = this.#segments.splice(0, 1);
      this.#files.remove(path.join(this.#directory, segmentName(oldest.number)));
      // One by one: a crash must not bring back a segment without the one after it.
      this.#files.syncDirectory(this.#directory);
      removed += 1;
    }
    return removed;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#making;
    this.#file?.close();
    this.#file = undefined;
  }
}
