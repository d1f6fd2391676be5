/**
 * The frame: one batch of log records in a segment, written with one write and covered by
 * checksums.
 *   0 magic u32 · 4 version u8 · 5 flags u8 (bit 0: sealed) · 6 u16 zero sectors of the body
 *   8 body length u32 · 12 CRC-32 of the body · 16 sequence u64 · 24 u32 zero · 28 CRC-32 of 0..28
 * Frames start at multiples of 32 bytes, so a header never straddles a 512-byte sector: a sector
 * reaches the disk whole or not at all, hence a damaged header is damage, an absent one a torn
 * write. "Zero sectors" counts what the body itself holds as all-zero sectors; more of them = torn.
 */
import { crc32 } from 'node:zlib';
import { assert } from '../../../base/assert.ts';
import { MIB } from '../../../base/bytes.ts';
import type { Seal } from '../../../base/seal.ts';

export const FRAME_HEADER_BYTES = 32;
export const FRAME_ALIGN_BYTES = 32;
export const SECTOR_BYTES = 512;
/** Bound of one batch; the largest single entry (node.ts) is well below it. */
export const MAX_FRAME_BYTES = 8 * MIB;
const MAGIC = 0x4c575354; // "TSWL"
const VERSION = 1;
/** Set on bodies sealed with the member's key (base/seal), bound to the frame's sequence. */
export const FLAG_SEALED = 1;
const TWO_TO_32 = 4_294_967_296;

export interface FrameHeader {
  readonly version: number;
  readonly flags: number;
  readonly zeroSectors: number;
  readonly bodyBytes: number;
  readonly bodyCrc: number;
  readonly sequence: number;
}

export function alignFrame(offset: number): number {
  return Math.ceil(offset / FRAME_ALIGN_BYTES) * FRAME_ALIGN_BYTES;
}

/** Bytes a frame with this body, as it stands on disk, takes in a segment. */
export function frameBytes(bodyBytes: number): number {
  return alignFrame(FRAME_HEADER_BYTES + bodyBytes);
}

/** What a sealed body is bound to. */
export function framePlace(sequence: number): Uint8Array {
  const place = Buffer.alloc(8);
  place.writeBigUInt64LE(BigInt(sequence));
  return place;
}

/** A frame to be written at `offset` (a multiple of 32) of its segment. */
export function buildFrame(
  plain: readonly Uint8Array[],
  sequence: number,
  offset: number,
  seal?: Seal,
): Buffer {
  const bodies = seal === undefined ? plain : [seal.seal(plain, framePlace(sequence))];
  assert(offset % FRAME_ALIGN_BYTES === 0, 'wal: unaligned frame', { offset });
  let bodyBytes = 0;
  for (const body of bodies) bodyBytes += body.length;
  assert(bodyBytes > 0 && bodyBytes <= MAX_FRAME_BYTES, 'wal: frame size', { bodyBytes });
  const frame = Buffer.alloc(frameBytes(bodyBytes));
  let at = FRAME_HEADER_BYTES;
  for (const body of bodies) {
    frame.set(body, at);
    at += body.length;
  }
  frame.writeUInt32LE(MAGIC, 0);
  frame[4] = VERSION;
  frame[5] = seal === undefined ? 0 : FLAG_SEALED;
  frame.writeUInt16LE(countZeroSectors(frame, offset, FRAME_HEADER_BYTES + bodyBytes), 6);
  frame.writeUInt32LE(bodyBytes, 8);
  frame.writeUInt32LE(crc32(frame.subarray(FRAME_HEADER_BYTES, at)), 12);
  frame.writeUInt32LE(sequence % TWO_TO_32, 16);
  frame.writeUInt32LE(Math.floor(sequence / TWO_TO_32), 20);
  frame.writeUInt32LE(crc32(frame.subarray(0, 28)), 28);
  return frame;
}

/** Undefined when the 32 bytes at `offset` are no sound header. */
export function readHeader(segment: Uint8Array, offset: number): FrameHeader | undefined {
  if (offset + FRAME_HEADER_BYTES > segment.length) return undefined;
  const view = Buffer.from(segment.buffer, segment.byteOffset + offset, FRAME_HEADER_BYTES);
  if (view.readUInt32LE(0) !== MAGIC) return undefined;
  if (crc32(view.subarray(0, 28)) !== view.readUInt32LE(28)) return undefined;
  return {
    version: view[4],
    flags: view[5],
    zeroSectors: view.readUInt16LE(6),
    bodyBytes: view.readUInt32LE(8),
    bodyCrc: view.readUInt32LE(12),
    sequence: view.readUInt32LE(20) * TWO_TO_32 + view.readUInt32LE(16),
  };
}

export function supportedVersion(header: FrameHeader): boolean {
  return header.version === VERSION;
}

/** The body, or undefined when its checksum fails or it reaches past the end. */
export function readBody(
  segment: Uint8Array,
  offset: number,
  header: FrameHeader,
): Uint8Array | undefined {
  const start = offset + FRAME_HEADER_BYTES;
  if (start + header.bodyBytes > segment.length) return undefined;
  const body = segment.subarray(start, start + header.bodyBytes);
  return crc32(body) === header.bodyCrc ? body : undefined;
}

/** Sectors of the segment, cut to [offset, offset + length), that hold zeros only. */
export function countZeroSectors(frame: Uint8Array, offset: number, length: number): number {
  let count = 0;
  let at = 0;
  while (at < length) {
    const end = Math.min(length, at + SECTOR_BYTES - ((offset + at) % SECTOR_BYTES));
    if (allZero(frame, at, end)) count += 1;
    at = end;
  }
  return count;
}

export function allZero(bytes: Uint8Array, from: number, until: number): boolean {
  for (let at = from; at < until; at += 1) if (bytes[at] !== 0) return false;
  return true;
}
