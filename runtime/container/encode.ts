/**
 * The launch specification's bytes (runtime/shim/protocol.md): a header, then records of a tag and
 * a payload, in the order they are to be carried out. Only puts numbers and strings where the shim
 * reads them; what goes in is decided in spec.ts.
 */
import { SwarmError } from '../../base/errors.ts';

const MAGIC = 0x50535354; // 'TSSP'
const VERSION = 1;
const HEADER_BYTES = 16;
const RECORD_HEADER_BYTES = 8;
/** As in the shim: a specification beyond this is refused. */
const MAX_BYTES = 8 << 20;

export const TAG = {
  id: 1,
  execDir: 2,
  logDir: 3,
  logLimits: 4,
  shimCgroup: 5,
  cgroup: 6,
  cgroupWrite: 7,
  deviceProgram: 8,
  lower: 9,
  upper: 10,
  flags: 11,
  mount: 13,
  mask: 14,
  readOnly: 15,
  device: 16,
  symlink: 17,
  sysctl: 18,
  hostname: 19,
  arg: 20,
  env: 21,
  cwd: 22,
  user: 23,
  group: 24,
  capabilities: 25,
  seccomp: 26,
  rlimit: 27,
  oomScore: 28,
  drain: 29,
  domain: 30,
  terminal: 31,
  namespace: 32,
  uidMap: 33,
  gidMap: 34,
  timeOffset: 35,
  root: 36,
  rootPropagation: 37,
  mountMap: 38,
  layerMap: 39,
  umask: 40,
  personality: 41,
  scheduler: 42,
  ioPriority: 43,
  hook: 44,
  hookState: 45,
  label: 46,
  seccompListener: 47,
  preserved: 48,
  console: 49,
  gate: 50,
  memoryPolicy: 51,
  cpuAffinity: 52,
  execTarget: 53,
} as const;

export type Tag = (typeof TAG)[keyof typeof TAG];

/** A field of a record: u32 as a number, u64 as a bigint, a string (NUL-terminated), or bytes. */
export type Field = number | bigint | string | Uint8Array;

const FIRST_BUFFER_BYTES = 32 * 1024;

export class SpecWriter {
  #buffer = Buffer.allocUnsafe(FIRST_BUFFER_BYTES);
  #at = HEADER_BYTES;
  #records = 0;

  /** Appends one record. SwarmError invalid for a string with a NUL byte. */
  add(tag: Tag, ...fields: readonly Field[]): void {
    const start = this.#at;
    this.#reserve(RECORD_HEADER_BYTES);
    this.#at += RECORD_HEADER_BYTES;
    for (const field of fields) this.#put(field);
    this.#buffer.writeUInt32LE(tag, start);
    this.#buffer.writeUInt32LE(this.#at - start - RECORD_HEADER_BYTES, start + 4);
    this.#records += 1;
  }

  /** The whole specification. SwarmError invalid when it is beyond 8 MiB. */
  finish(): Uint8Array {
    if (this.#at > MAX_BYTES) {
      throw new SwarmError(
        'invalid',
        `the container's configuration takes ${this.#at} bytes, at most ${MAX_BYTES} are ` +
          'possible: shorten its arguments or environment',
      );
    }
    this.#buffer.writeUInt32LE(MAGIC, 0);
    this.#buffer.writeUInt32LE(VERSION, 4);
    this.#buffer.writeUInt32LE(this.#at, 8);
    this.#buffer.writeUInt32LE(this.#records, 12);
    return this.#buffer.subarray(0, this.#at);
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.#at + bytes));
    this.#buffer.copy(larger, 0, 0, this.#at);
    this.#buffer = larger;
  }

  #put(field: Field): void {
    if (typeof field === 'number') {
      this.#reserve(4);
      this.#at = this.#buffer.writeInt32LE(field | 0, this.#at);
    } else if (typeof field === 'bigint') {
      this.#reserve(8);
      this.#at = this.#buffer.writeBigUInt64LE(field, this.#at);
    } else if (typeof field === 'string') {
      if (field.includes('\0')) {
        throw new SwarmError('invalid', `"${field.replaceAll('\0', '\\0')}" contains a NUL byte`);
      }
      this.#reserve(Buffer.byteLength(field) + 1);
      this.#at += this.#buffer.write(field, this.#at);
      this.#at = this.#buffer.writeUInt8(0, this.#at);
    } else {
      this.#reserve(field.length);
      this.#buffer.set(field, this.#at);
      this.#at += field.length;
    }
  }
}

/** One record as read back: for tests and for looking at a specification. */
export interface SpecRecord {
  readonly tag: number;
  readonly payload: Uint8Array;
}

/** The records of a specification. SwarmError corrupt when it is not one. */
export function readSpec(bytes: Uint8Array): readonly SpecRecord[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isSpec =
    view.length >= HEADER_BYTES &&
    view.readUInt32LE(0) === MAGIC &&
    view.readUInt32LE(4) === VERSION &&
    view.readUInt32LE(8) === view.length;
  if (!isSpec) throw new SwarmError('corrupt', 'not a launch specification of version 1');
  const records: SpecRecord[] = [];
  let at = HEADER_BYTES;
  while (at < view.length) {
    const end = at + RECORD_HEADER_BYTES <= view.length ? view.readUInt32LE(at + 4) : Infinity;
    const next = at + RECORD_HEADER_BYTES + end;
    if (next > view.length) {
      throw new SwarmError('corrupt', 'the launch specification is cut short');
    }
    const payload = view.subarray(at + RECORD_HEADER_BYTES, next);
    records.push({ tag: view.readUInt32LE(at), payload });
    at = next;
  }
  return records;
}
