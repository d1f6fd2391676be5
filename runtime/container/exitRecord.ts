/**
 * The record a container leaves: the bytes the shim writes (runtime/shim/protocol.md), and records
 * for ends that no shim could write down. Reads and makes them, decides nothing.
 */
import { SwarmError } from '../../base/errors.ts';
import type { ExitRecord } from './types.ts';

const MAGIC = 0x58455354; // 'TSEX'
const VERSION = 1;
const HEADER_BYTES = 40;
const FLAG_OOM = 1;
const NANOSECONDS_PER_MS = 1_000_000n;

/** Docker's code for what was killed for good. */
export const KILLED_EXIT_CODE = 137;
export const SIGKILL = 9;

/** The record in `bytes`. SwarmError corrupt when it is not one of version 1. */
export function decodeExitRecord(bytes: Uint8Array): ExitRecord {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isWhole =
    view.length >= HEADER_BYTES &&
    view.readUInt32LE(0) === MAGIC &&
    view.readUInt32LE(4) === VERSION &&
    view.length === HEADER_BYTES + view.readUInt32LE(36);
  if (!isWhole) throw new SwarmError('corrupt', 'not an exit record of version 1');
  const record: ExitRecord = {
    exitCode: view.readInt32LE(8),
    signal: view.readInt32LE(12),
    oomKilled: (view.readUInt32LE(16) & FLAG_OOM) !== 0,
    startedAtMs: Number(view.readBigUInt64LE(20) / NANOSECONDS_PER_MS),
    finishedAtMs: Number(view.readBigUInt64LE(28) / NANOSECONDS_PER_MS),
  };
  const error = view.toString('utf8', HEADER_BYTES);
  return error === '' ? record : { ...record, error };
}

/** The same bytes, for a record that this side makes. */
export function encodeExitRecord(record: ExitRecord): Uint8Array {
  const error = Buffer.from(record.error ?? '');
  const bytes = Buffer.alloc(HEADER_BYTES + error.length);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt32LE(VERSION, 4);
  bytes.writeInt32LE(record.exitCode, 8);
  bytes.writeInt32LE(record.signal, 12);
  bytes.writeUInt32LE(record.oomKilled ? FLAG_OOM : 0, 16);
  bytes.writeBigUInt64LE(BigInt(record.startedAtMs) * NANOSECONDS_PER_MS, 20);
  bytes.writeBigUInt64LE(BigInt(record.finishedAtMs) * NANOSECONDS_PER_MS, 28);
  bytes.writeUInt32LE(error.length, 36);
  error.copy(bytes, HEADER_BYTES);
  return bytes;
}

/** For a container whose end nobody could watch: killed, at a time that is only known roughly. */
export function lostRecord(error: string, startedAtMs: number, finishedAtMs: number): ExitRecord {
  return {
    exitCode: KILLED_EXIT_CODE,
    signal: SIGKILL,
    oomKilled: false,
    startedAtMs,
    finishedAtMs,
    error,
  };
}

/** For a container whose program was never executed, by no fault of the program's. */
export function notStartedRecord(error: string, finishedAtMs: number): ExitRecord {
  return { exitCode: 128, signal: 0, oomKilled: false, startedAtMs: 0, finishedAtMs, error };
}
