/**
 * Reads a write-ahead log back: every frame of every segment in order, checked. A last frame that
 * shows a torn write (its end missing, or a sector of it never written, and nothing sound after it)
 * is copied aside and cleared: it was never acknowledged. Any other damage is refused with
 * SwarmError corrupt: the state may be only partly there, and this member would break promises it
 * has made. One thing it cannot know: a disk that returns zeros for a whole sector of the last
 * frame, although it said that it was durable, looks like one that was torn.
 */
import * as path from 'node:path';
import { SwarmError } from '../../../base/errors.ts';
import type { Seal } from '../../../base/seal.ts';
import { ByteReader } from '../bytes.ts';
import type { Entry, EntryId, HardState } from '../core/types.ts';
import { type Files, hostFiles } from './files.ts';
import {
  alignSector,
  allZero,
  countZeroSectors,
  FLAG_SEALED,
  FRAME_HEADER_BYTES,
  FRAME_VERSION,
  type FrameHeader,
  frameAfter,
  frameEnd,
  framePlace,
  isKnown,
  readBody,
  readHeader,
} from './frame.ts';
import { readRecords, type WalRecord } from './records.ts';

export const SEGMENT_PATTERN = /^(\d{16})\.wal$/;
export const SPARE_NAME = 'spare';
/** Segments are whole pages: one of another length was cut short. */
export const SEGMENT_UNIT_BYTES = 4096;

export interface SegmentInfo {
  readonly number: number;
  /** Highest entry index in it; 0 = none. */
  maxIndex: number;
  /** There is a key, and something in it was sealed with an older one, or not at all. */
  stale: boolean;
}

export interface WalState {
  readonly nodeId: number;
  readonly hardState: HardState;
  /** Newest snapshot mark; index 0 = none. */
  readonly snapshot: EntryId;
  /** The entry before the first of `entries`. */
  readonly base: EntryId;
  readonly entries: Entry[];
  readonly segments: SegmentInfo[];
  /** Where the newest frame of the last segment begins; where the next one goes if it has none. */
  readonly lastOffset: number;
  /** Where the next frame goes in the last segment. */
  readonly endOffset: number;
  readonly nextSequence: number;
  /** Path of the copy kept of a torn frame, if one was found. */
  readonly tornCopy: string | undefined;
}

const ADVICE =
  'this manager cannot prove what it promised: remove its raft directory and let it join again, ' +
  'or restore the disk';

export function segmentName(number: number): string {
  return `${String(number).padStart(16, '0')}.wal`;
}

export function damage(file: string, offset: number, why: string): SwarmError {
  return new SwarmError('corrupt', `${file}: ${why} at byte ${offset}; ${ADVICE}`, {
    detail: { file, offset: String(offset) },
  });
}

export function newer(file: string, what: string, found: number, known: number): SwarmError {
  return new SwarmError(
    'unsupported',
    `${file} was written by a newer version of tsswarm (${what} ${found}; this one knows up to ` +
      `${known}): start that version again; nothing was changed`,
    { detail: { file } },
  );
}

/** Undefined when there is no log. `seal` opens what is sealed. SwarmError corrupt, unsupported. */
export function recoverWal(
  directory: string,
  seal?: Seal,
  files = hostFiles,
): WalState | undefined {
  const replay = new Replay();
  const last = readSegments(files, directory, replay, seal, (file, bytes, offset) =>
    repair(files, file, bytes, offset, replay),
  );
  return last === undefined ? undefined : replay.finish(last);
}

/** What is in a log, for people. */
export interface WalSurvey {
  /** As far as it is sound; undefined when there is none. */
  readonly state: WalState | undefined;
  /** Of the newest frame; 0 = none. */
  readonly format: number;
  /** Where a torn last batch begins, which the next start of the member clears. */
  readonly torn: { readonly file: string; readonly offset: number } | undefined;
  /** The first damage, or a version that is not known; nothing after it was read. */
  readonly damage: SwarmError | undefined;
}

/** As recoverWal, but nothing is written, and damage is told with what comes before it. */
export function surveyWal(directory: string, seal?: Seal): WalSurvey {
  const replay = new Replay();
  let torn: WalSurvey['torn'];
  try {
    const last = readSegments(hostFiles, directory, replay, seal, (file, _bytes, offset) => {
      torn = { file, offset };
    });
    const state = last === undefined ? undefined : replay.finish(last);
    return { state, format: replay.format, torn, damage: undefined };
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error;
    const state = replay.nodeId === 0 ? undefined : replay.soFar();
    return { state, format: replay.format, torn, damage: error };
  }
}

/** What is done about a torn last frame. */
type OnTorn = (file: string, bytes: Buffer, offset: number) => void;

/** All of them in order; the last one's path, undefined when there is none. */
function readSegments(
  files: Files,
  directory: string,
  replay: Replay,
  seal: Seal | undefined,
  onTorn: OnTorn,
): string | undefined {
  const numbers = files
    .list(directory)
    .map((name) => SEGMENT_PATTERN.exec(name))
    .filter((match) => match !== null)
    .map((match) => Number(match[1]))
    .sort((left, right) => left - right);
  let last: string | undefined;
  for (const [at, number] of numbers.entries()) {
    const file = path.join(directory, segmentName(number));
    if (at > 0 && number !== numbers[at - 1] + 1) {
      throw damage(file, 0, `segment ${numbers[at - 1] + 1} before it is missing`);
    }
    readSegment(files, file, number, at === numbers.length - 1, replay, seal, onTorn);
    last = file;
  }
  return last;
}

/** Builds the state from records in order. */
class Replay {
  nodeId = 0;
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  snapshot: EntryId = { index: 0, term: 0 };
  base: EntryId = { index: 0, term: 0 };
  entries: Entry[] = [];
  segments: SegmentInfo[] = [];
  lastOffset = 0;
  endOffset = 0;
  nextSequence: number | undefined = undefined;
  format = 0;
  /** The length that the newest segment was made with; 0 = not said. */
  segmentBytes = 0;
  tornCopy: string | undefined = undefined;

  last(): EntryId {
    return this.entries[this.entries.length - 1] ?? this.base;
  }

  /** Returns why the record cannot follow what came before, or undefined. */
  take(record: WalRecord): string | undefined {
    if (record.kind === 'head') return this.#takeHead(record.head);
    if (this.nodeId === 0) return 'no segment head before the first record';
    if (record.kind === 'hardState') this.hardState = record.hardState;
    else if (record.kind === 'snapshot') this.#takeMark(record.snapshot);
    else if (record.kind === 'length') this.segmentBytes = record.bytes;
    else return this.#takeEntry(record.entry);
    return undefined;
  }

  #takeHead(head: Extract<WalRecord, { kind: 'head' }>['head']): string | undefined {
    if (this.nodeId === 0) {
      this.nodeId = head.nodeId;
      this.hardState = head.hardState;
      this.snapshot = head.snapshot;
      this.base = head.last;
      return undefined;
    }
    if (head.nodeId !== this.nodeId) return `it belongs to member ${head.nodeId}`;
    const last = this.last();
    const follows = head.last.index === last.index && head.last.term === last.term;
    return follows ? undefined : 'it does not follow the segment before it';
  }

  #takeMark(mark: EntryId): void {
    // An own snapshot may be finished only after a newer one came from the leader.
    if (mark.index < this.snapshot.index) return;
    this.snapshot = mark;
    const held =
      mark.index === this.base.index
        ? this.base.term
        : this.entries[mark.index - this.base.index - 1]?.term;
    if (mark.index < this.base.index || held === mark.term) return;
    // A snapshot from a leader took the place of the log.
    this.base = mark;
    this.entries = [];
  }

  #takeEntry(entry: Entry): string | undefined {
    const segment = this.segments[this.segments.length - 1];
    segment.maxIndex = Math.max(segment.maxIndex, entry.index);
    if (entry.index <= this.base.index) {
      // Replaces one whose segment was dropped: it lies below a snapshot marked later (finish()).
      this.base = { index: entry.index, term: entry.term };
      this.entries = [];
      return undefined;
    }
    const at = entry.index - this.base.index - 1;
    if (at > this.entries.length) return `entry ${entry.index} follows ${this.last().index}`;
    this.entries.length = at;
    this.entries.push(entry);
    return undefined;
  }

  finish(file: string): WalState | undefined {
    if (this.nodeId === 0) return undefined;
    const state = this.soFar();
    const last = this.last().index;
    const { commit } = state.hardState;
    if (this.base.index > this.snapshot.index) {
      throw damage(file, this.endOffset, `entries up to ${this.base.index} are in no snapshot`);
    }
    if (commit > last) throw damage(file, this.endOffset, `entries ${last + 1}-${commit} missing`);
    return state;
  }

  soFar(): WalState {
    const { term, vote } = this.hardState;
    const commit = Math.max(this.hardState.commit, this.snapshot.index);
    return {
      nodeId: this.nodeId,
      hardState: { term, vote, commit },
      snapshot: this.snapshot,
      base: this.base,
      entries: this.entries,
      segments: this.segments,
      lastOffset: this.lastOffset,
      endOffset: this.endOffset,
      nextSequence: this.nextSequence ?? 1,
      tornCopy: this.tornCopy,
    };
  }
}

function readSegment(
  files: Files,
  file: string,
  number: number,
  isLast: boolean,
  replay: Replay,
  seal: Seal | undefined,
  onTorn: OnTorn,
): void {
  const bytes = files.read(file);
  const segment: SegmentInfo = { number, maxIndex: 0, stale: false };
  const formerBytes = replay.segmentBytes;
  replay.segments.push(segment);
  replay.lastOffset = 0;
  let offset = 0;
  for (;;) {
    const header = readHeader(bytes, offset);
    if (header !== undefined && !isKnown(header)) {
      throw newer(file, 'log format', header.version, FRAME_VERSION);
    }
    const body = header === undefined ? undefined : readBody(bytes, offset, header);
    if (header === undefined || body === undefined) {
      // Before anything is mended: a crash cuts no segment, and what was in the rest is unknown.
      checkLength(file, bytes.length, offset === 0 ? formerBytes : replay.segmentBytes);
      const clean = header === undefined && allZero(bytes, offset, bytes.length);
      if (!clean) {
        if (!isLast) throw damage(file, offset, 'a damaged frame in the middle of the log');
        checkTorn(file, bytes, offset, header, replay);
        onTorn(file, bytes, offset);
      }
      break;
    }
    checkSequence(file, offset, header, replay);
    const { plain, stale } = plainBody(file, offset, header, body, seal);
    segment.stale ||= stale;
    takeBody(file, offset, plain, replay);
    replay.nextSequence = header.sequence + 1;
    replay.format = header.version;
    replay.lastOffset = offset;
    offset = nextFrame(file, bytes, offset, header);
  }
  if (offset === 0 && !isLast) throw damage(file, 0, 'an empty segment in the middle of the log');
  replay.endOffset = alignSector(offset);
}

/** `madeBytes`: what is known of the length it was made with; 0 = nothing. */
function checkLength(file: string, length: number, madeBytes: number): void {
  const whole = length > 0 && length % SEGMENT_UNIT_BYTES === 0;
  if (!whole || length < madeBytes)
    throw damage(file, length, 'the segment was cut short: it ends');
}

/** Where the next frame begins, if there is one: its place depends on both their versions. */
function nextFrame(file: string, bytes: Uint8Array, offset: number, header: FrameHeader): number {
  const end = frameEnd(offset, header);
  const next = frameAfter(offset, header);
  if (header.version !== 1) {
    if (!allZero(bytes, end, next)) throw damage(file, end, 'damage after a frame');
    return next;
  }
  const sector = alignSector(next);
  const newerNext = readHeader(bytes, next) === undefined && readHeader(bytes, sector);
  return newerNext ? sector : next;
}

function checkSequence(file: string, offset: number, header: FrameHeader, replay: Replay): void {
  const expected = replay.nextSequence;
  if (expected !== undefined && header.sequence !== expected) {
    throw damage(file, offset, `frame ${header.sequence} where ${expected} belongs`);
  }
}

function plainBody(
  file: string,
  offset: number,
  header: FrameHeader,
  body: Uint8Array,
  seal: Seal | undefined,
): { readonly plain: Uint8Array; readonly stale: boolean } {
  if ((header.flags & FLAG_SEALED) === 0) return { plain: body, stale: seal !== undefined };
  if (seal === undefined) throw damage(file, offset, 'the frame is sealed, and there is no key');
  const place = framePlace(header.sequence);
  const current = seal.openNew(body, place);
  const plain = current ?? seal.open(body, place);
  if (plain !== undefined) return { plain, stale: current === undefined };
  throw damage(file, offset, 'the frame was sealed with another key than this member has');
}

function takeBody(file: string, offset: number, body: Uint8Array, replay: Replay): void {
  // Entries outlive this buffer: a copy lets the rest of the segment go.
  const source = new ByteReader(Uint8Array.from(body), file);
  let first = true;
  for (const record of readRecords(source)) {
    if (offset === 0 && first && record.kind !== 'head') {
      throw damage(file, offset, 'the segment has no head');
    }
    first = false;
    const wrong = replay.take(record);
    if (wrong !== undefined) throw damage(file, offset, wrong);
  }
}

/** Where what is cleared of a segment is kept. */
export function tornCopyOf(file: string): string {
  return `${file}.torn`;
}

/** The frame at `offset` of the last segment is broken: SwarmError corrupt unless it is torn. */
function checkTorn(
  file: string,
  bytes: Buffer,
  offset: number,
  header: FrameHeader | undefined,
  replay: Replay,
): void {
  if (!isTorn(bytes, offset, header)) throw damage(file, offset, 'a damaged frame');
  if (soundFrameAfter(bytes, offset, replay.nextSequence ?? 0)) {
    throw damage(file, offset, 'a damaged frame, with later frames after it,');
  }
}

/** Clears it, a copy kept. */
function repair(files: Files, file: string, bytes: Buffer, offset: number, replay: Replay): void {
  const copy = tornCopyOf(file);
  files.writeSynced(copy, bytes.subarray(offset));
  files.syncDirectory(path.dirname(file));
  const segment = files.openInPlace(file);
  try {
    segment.write(Buffer.alloc(bytes.length - offset), offset);
    segment.syncData();
  } finally {
    segment.close();
  }
  replay.tornCopy = copy;
}

function isTorn(bytes: Buffer, offset: number, header: FrameHeader | undefined): boolean {
  if (header === undefined) {
    // The header's sector was never written while a later one was; or the write broke off in it.
    const end = Math.min(offset + FRAME_HEADER_BYTES, bytes.length);
    return allZero(bytes, offset, end) || allZero(bytes, end, bytes.length);
  }
  const end = frameEnd(offset, header);
  if (end > bytes.length) return false;
  if (header.version !== 1 && bytes[end - 1] === 0) return true;
  const zero = countZeroSectors(bytes.subarray(offset, end), offset, end - offset);
  return zero > header.zeroSectors;
}

/** A batch is written only after the one before it is synced: a sound successor means damage. */
function soundFrameAfter(bytes: Buffer, offset: number, sequence: number): boolean {
  // Frames of version 1 begin anywhere at this step, and so do those of later ones.
  const step = FRAME_HEADER_BYTES;
  for (let at = offset + step; at + FRAME_HEADER_BYTES <= bytes.length; at += step) {
    const header = readHeader(bytes, at);
    if (header === undefined || header.sequence <= sequence) continue;
    if (readBody(bytes, at, header) !== undefined) return true;
  }
  return false;
}
