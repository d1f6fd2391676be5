/**
 * What stands in a frame's body: a run of records. Each segment's first record is a head, which
 * repeats the state at that point, so that older segments can be dropped.
 *   1 head · 2 entry · 3 hard state · 4 snapshot mark (that snapshot's file is complete and synced)
 *   5 the length that the segment was made with (from frame version 2 on, after the head)
 */
import { type ByteReader, ByteWriter } from '../bytes.ts';
import { readEntry, writeEntry } from '../codec.ts';
import type { Entry, EntryId, HardState } from '../core/types.ts';

const HEAD = 1;
const ENTRY = 2;
const HARD_STATE = 3;
const SNAPSHOT = 4;
const LENGTH = 5;
/** How long a record of the segment's length is. */
export const LENGTH_RECORD_BYTES = 9;

/** The state before the segment's first batch. */
export interface SegmentHead {
  readonly nodeId: number;
  readonly hardState: HardState;
  readonly snapshot: EntryId;
  readonly last: EntryId;
}

export type WalRecord =
  | { readonly kind: 'head'; readonly head: SegmentHead }
  | { readonly kind: 'entry'; readonly entry: Entry }
  | { readonly kind: 'hardState'; readonly hardState: HardState }
  | { readonly kind: 'snapshot'; readonly snapshot: EntryId }
  | { readonly kind: 'length'; readonly bytes: number };

export function encodeHead(head: SegmentHead): Uint8Array {
  const out = new ByteWriter(128).u8(HEAD).u64(head.nodeId);
  out.u64(head.hardState.term).u64(head.hardState.vote).u64(head.hardState.commit);
  out.u64(head.snapshot.index).u64(head.snapshot.term);
  return out.u64(head.last.index).u64(head.last.term).take();
}

export function writeEntryRecord(out: ByteWriter, entry: Entry): void {
  out.u8(ENTRY);
  writeEntry(out, entry);
}

export function writeHardState(out: ByteWriter, state: HardState): void {
  out.u8(HARD_STATE).u64(state.term).u64(state.vote).u64(state.commit);
}

export function writeSnapshotMark(out: ByteWriter, snapshot: EntryId): void {
  out.u8(SNAPSHOT).u64(snapshot.index).u64(snapshot.term);
}

export function encodeLength(bytes: number): Uint8Array {
  return new ByteWriter(LENGTH_RECORD_BYTES).u8(LENGTH).u64(bytes).take();
}

/** Throws SwarmError corrupt. */
export function* readRecords(source: ByteReader): Generator<WalRecord> {
  while (!source.done) {
    const kind = source.u8();
    if (kind === HEAD) {
      const nodeId = source.u64();
      const hardState = readHardState(source);
      const snapshot = readId(source);
      yield { kind: 'head', head: { nodeId, hardState, snapshot, last: readId(source) } };
    } else if (kind === ENTRY) {
      yield { kind: 'entry', entry: readEntry(source) };
    } else if (kind === HARD_STATE) {
      yield { kind: 'hardState', hardState: readHardState(source) };
    } else if (kind === SNAPSHOT) {
      yield { kind: 'snapshot', snapshot: readId(source) };
    } else if (kind === LENGTH) {
      yield { kind: 'length', bytes: source.u64() };
    } else {
      throw source.corrupt(`unknown record ${kind}`);
    }
  }
}

function readHardState(source: ByteReader): HardState {
  return { term: source.u64(), vote: source.u64(), commit: source.u64() };
}

function readId(source: ByteReader): EntryId {
  const index = source.u64();
  return { index, term: source.u64() };
}
