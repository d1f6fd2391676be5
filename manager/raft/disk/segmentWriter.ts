/**
 * Appends frames to preallocated segments: one write and one fdatasync a batch. One spare segment
 * is kept ready, so that a full disk is met when the next spare is made, not in the middle of a
 * batch: from then on `full` holds and the room left is for votes. Space is taken by writing zeros,
 * as sparse files promise nothing. Runs on the log's own thread; keeps no time and no queue.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { assert } from '../../../base/assert.ts';
import { MIB } from '../../../base/bytes.ts';
import type { Random } from '../../../base/random.ts';
import { SEAL_BYTES, Seal } from '../../../base/seal.ts';
import { buildFrame, frameBytes, MAX_FRAME_BYTES } from './frame.ts';
import { type SegmentInfo, SPARE_NAME, segmentName } from './recovery.ts';

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

export class SegmentWriter {
  readonly #directory: string;
  readonly #segmentBytes: number;
  readonly #segments: SegmentInfo[];
  readonly #seal: Seal | undefined;
  #handle: number | undefined;
  #offset: number;
  #capacity = 0;
  #sequence: number;
  #spareReady: boolean;
  #making: Promise<boolean> | undefined = undefined;
  #closed = false;

  constructor(start: WriterStart, random: Random) {
    const { sealKey } = start;
    this.#seal = sealKey === undefined ? undefined : new Seal(sealKey, random);
    this.#directory = start.directory;
    this.#segmentBytes = start.segmentBytes;
    this.#segments = start.segments.map((segment) => ({ ...segment }));
    this.#offset = start.endOffset;
    this.#sequence = start.nextSequence;
    fs.rmSync(this.#sparePath(true), { force: true });
    this.#spareReady = this.#soundSpare();
    const last = this.#segments[this.#segments.length - 1];
    if (last !== undefined) this.#open(last.number);
  }

  #sparePath(unfinished: boolean): string {
    return path.join(this.#directory, unfinished ? `${SPARE_NAME}.tmp` : SPARE_NAME);
  }

  #soundSpare(): boolean {
    const found = fs.statSync(this.#sparePath(false), { throwIfNoEntry: false });
    return found !== undefined && found.size === this.#segmentBytes;
  }

  /** No spare: the disk had no room for one when last tried, or it is being made. */
  get spareReady(): boolean {
    return this.#spareReady;
  }

  #open(number: number): void {
    this.#handle = fs.openSync(path.join(this.#directory, segmentName(number)), 'r+');
    this.#capacity = fs.fstatSync(this.#handle).size;
  }

  /** Whether `batch` can be written now; if not, a spare is wanted first. */
  fits(batch: WriterBatch): boolean {
    return this.#fitsCurrent(batch) || this.#spareReady;
  }

  #fitsCurrent(batch: WriterBatch): boolean {
    if (this.#handle === undefined) return false;
    const head = this.#offset === 0 ? batch.head.length : 0;
    const sealBytes = this.#seal === undefined ? 0 : SEAL_BYTES;
    const bodyBytes = batch.body.length + head + sealBytes;
    return this.#offset + frameBytes(bodyBytes) <= this.#capacity;
  }

  /** Durable when it returns. Any error thrown leaves the log unknown: the process has to end. */
  write(batch: WriterBatch): void {
    if (!this.#fitsCurrent(batch)) this.#rotate();
    assert(this.#handle !== undefined, 'wal: no open segment');
    const bodies = this.#offset === 0 ? [batch.head, batch.body] : [batch.body];
    const frame = buildFrame(bodies, this.#sequence, this.#offset, this.#seal);
    assert(this.#offset + frame.length <= this.#capacity, 'wal: batch exceeds a segment', {
      bytes: frame.length,
    });
    let written = 0;
    while (written < frame.length) {
      const rest = frame.length - written;
      written += fs.writeSync(this.#handle, frame, written, rest, this.#offset + written);
    }
    fs.fdatasyncSync(this.#handle);
    this.#offset += frame.length;
    this.#sequence += 1;
    const segment = this.#segments[this.#segments.length - 1];
    segment.maxIndex = Math.max(segment.maxIndex, batch.maxIndex);
  }

  #rotate(): void {
    assert(this.#spareReady, 'wal: rotation without a spare');
    const previous = this.#segments[this.#segments.length - 1]?.number ?? 0;
    if (this.#handle !== undefined) fs.closeSync(this.#handle);
    const next = previous + 1;
    fs.renameSync(this.#sparePath(false), path.join(this.#directory, segmentName(next)));
    syncDirectory(this.#directory);
    this.#spareReady = false;
    this.#segments.push({ number: next, maxIndex: 0 });
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
      const handle = await fs.promises.open(unfinished, 'w', 0o600);
      try {
        const zeros = new Uint8Array(FILL_STEP_BYTES);
        for (let at = 0; at < this.#segmentBytes && !this.#closed; ) {
          const step = Math.min(FILL_STEP_BYTES, this.#segmentBytes - at);
          const { bytesWritten } = await handle.write(zeros, 0, step, at);
          at += bytesWritten;
        }
        await handle.sync();
      } finally {
        await handle.close();
      }
      if (this.#closed) return true;
      fs.renameSync(unfinished, this.#sparePath(false));
      syncDirectory(this.#directory);
      this.#spareReady = true;
      return true;
    } catch (error) {
      await fs.promises.rm(unfinished, { force: true });
      if (isDiskFull(error)) return false;
      throw error;
    }
  }

  /** Removes the oldest segments as long as all their entries are at or below `index`. */
  purge(index: number): number {
    let removed = 0;
    while (this.#segments.length > 1 && this.#segments[0].maxIndex <= index) {
      const [oldest] = this.#segments.splice(0, 1);
      fs.rmSync(path.join(this.#directory, segmentName(oldest.number)));
      removed += 1;
    }
    if (removed > 0) syncDirectory(this.#directory);
    return removed;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#making;
    if (this.#handle !== undefined) fs.closeSync(this.#handle);
    this.#handle = undefined;
  }
}

/** No space, or a quota: what an operator can mend without a restart. */
export function isDiskFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG';
}

/** Makes created, renamed and removed names durable. */
export function syncDirectory(directory: string): void {
  const handle = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(handle);
  } finally {
    fs.closeSync(handle);
  }
}
