/**
 * The frame: one batch of log records in a segment, written with one write and covered by
 * checksums. It begins with a sector of 512 bytes and shares none with another frame: whatever a
 * crash makes of a frame under way, those before it stay as they are.
 *   0 magic u32 · 4 version u8 · 5 flags u8 (bit 0: sealed) · 6 u16 zero sectors of the frame
 *   8 body length u32 · 12 CRC-32 of the body · 16 sequence u64 · 24 u32 zero · 28 CRC-32 of 0..28
 *   32 body · end byte · zeros up to the next sector
 * Torn (part of it never reached the disk) is a frame without its end byte, without its header, or
 * with more all-zero sectors than it was written with. Version 1 had no end byte, and frames began
 * at any multiple of 32 bytes.
 */
import { crc32 } from 'node:zlib';
import { assert } from '../../../base/assert.ts';
import { MIB } from '../../../base/bytes.ts';
import type { Seal } from '../../../base/seal.ts';

export const FRAME_HEADER_BYTES = 32;
export const SECTOR_BYTES = 512;
/** Where frames of version 1 may begin. */
const FIRST_ALIGN_BYTES = 32;
/** Bound of one batch; the largest single entry (node.ts) is well below it. */
export const MAX_FRAME_BYTES = 8 * MIB;
const MAGIC = 0x4c575354; // "TSWL"
/** The newest version that is read, and the one that is written. */
export const FRAME_VERSION = 2;
const END_BYTE = 0xe5;
/** Set on bodies sealed with the member's key (base/seal), bound to the frame's sequence. */
export const FLAG_SEALED = 1;
const KNOWN_FLAGS = FLAG_SEALED;
const TWO_TO_32 = 4_294_967_296;

export interface FrameHeader {
  readonly version: number;
  readonly flags: number;
  readonly zeroSectors: number;
  readonly bodyBytes: number;
  readonly bodyCrc: number;
  readonly sequence: number;
}

export function alignSector(offset: number): number {
  return Math.ceil(offset / SECTOR_BYTES) * SECTOR_BYTES;
}

/** Bytes a frame with this body, as it stands on disk, takes in a segment. */
export function frameBytes(bodyBytes: number): number {
  return alignSector(FRAME_HEADER_BYTES + bodyBytes + 1);
}

/** Where the frame that has this header ends, without padding. */
export function frameEnd(offset: number, { version, bodyBytes }: FrameHeader): number {
  return offset + FRAME_HEADER_BYTES + bodyBytes + (version === 1 ? 0 : 1);
}

/** Where a frame of its version would follow it. */
export function frameAfter(offset: number, header: FrameHeader): number {
  const end = frameEnd(offset, header);
  if (header.version !== 1) return alignSector(end);
  return Math.ceil(end / FIRST_ALIGN_BYTES) * FIRST_ALIGN_BYTES;
}

/** What a sealed body is bound to. */
export function framePlace(sequence: number): Uint8Array {
  const place = Buffer.alloc(8);
  place.writeBigUInt64LE(BigInt(sequence));
  return place;
}

/** A frame to be written at `offset`, where a sector begins, of its segment. */
export function buildFrame(
  plain: readonly Uint8Array[],
  sequence: number,
  offset: number,
  seal?: Seal,
): Buffer {
  const bodies = seal === undefined ? plain : [seal.seal(plain, framePlace(sequence))];
  assert(offset % SECTOR_BYTES === 0, 'wal: unaligned frame', { offset });
  let bodyBytes = 0;
  for (const body of bodies) bodyBytes += body.length;
  assert(bodyBytes > 0 && bodyBytes <= MAX_FRAME_BYTES, 'wal: frame size', { bodyBytes });
  const frame = Buffer.alloc(frameBytes(bodyBytes));
  let at = FRAME_HEADER_BYTES;
  for (const body of bodies) {
    frame.set(body, at);
    at += body.length;
  }
  frame[at] = END_BYTE;
  frame.writeUInt32LE(MAGIC, 0);
  frame[4] = FRAME_VERSION;
  frame[5] = seal === undefined ? 0 : FLAG_SEALED;
  frame.writeUInt16LE(countZeroSectors(frame, offset, at + 1), 6);
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

/** Of a version, or with a property, that this program knows. */
export function isKnown({ version, flags }: FrameHeader): boolean {
  return version >= 1 && version <= FRAME_VERSION && (flags & ~KNOWN_FLAGS) === 0;
}

/** The body, or undefined when it is not whole, its checksum fails, or it reaches past the end. */
export function readBody(
  segment: Uint8Array,
  offset: number,
  header: FrameHeader,
): Uint8Array | undefined {
  const start = offset + FRAME_HEADER_BYTES;
  const end = frameEnd(offset, header);
  if (end > segment.length) return undefined;
  if (header.version !== 1 && segment[end - 1] !== END_BYTE) return undefined;
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
