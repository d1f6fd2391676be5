/**
 * Little-endian reading and writing of byte layouts, for Raft's messages, log records and snapshot
 * headers. A reader past the end, or a number that is no safe whole number, is SwarmError corrupt.
 */
import { SwarmError } from '../../base/errors.ts';

const TWO_TO_32 = 4_294_967_296;
const FIRST_CAPACITY_BYTES = 256;

/** Grows as needed; `take` gives the bytes written, with a buffer of their own. */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacityBytes = FIRST_CAPACITY_BYTES) {
    this.#buffer = Buffer.allocUnsafeSlow(capacityBytes);
  }

  get length(): number {
    return this.#length;
  }

  #reserve(bytes: number): number {
    const at = this.#length;
    const needed = at + bytes;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#length = needed;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeUInt32LE(value, at);
    return this;
  }

  /** A safe whole number in 8 bytes. */
  u64(value: number): this {
    const at = this.#reserve(8);
    this.#buffer.writeUInt32LE(value % TWO_TO_32, at);
    this.#buffer.writeUInt32LE(Math.floor(value / TWO_TO_32), at + 4);
    return this;
  }

  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  /** Length (4 bytes), then the bytes. */
  bytes(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  take(): Uint8Array {
    const taken = this.#buffer.subarray(0, this.#length);
    this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    return taken;
  }
}

export class ByteReader {
  readonly #buffer: Buffer;
  readonly #what: string;
  #at = 0;

  /** `what` names the source in errors. */
  constructor(bytes: Uint8Array, what: string) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  get at(): number {
    return this.#at;
  }

  get done(): boolean {
    return this.#at >= this.#buffer.length;
  }

  #advance(bytes: number): number {
    const at = this.#at;
    if (at + bytes > this.#buffer.length) {
      throw this.corrupt(`ends after ${this.#buffer.length} bytes`);
    }
    this.#at = at + bytes;
    return at;
  }

  corrupt(why: string): SwarmError {
    return new SwarmError('corrupt', `${this.#what}: ${why} (at byte ${this.#at})`);
  }

  u8(): number {
    return this.#buffer[this.#advance(1)];
  }

  u32(): number {
    return this.#buffer.readUInt32LE(this.#advance(4));
  }

  u64(): number {
    const at = this.#advance(8);
    const value = this.#buffer.readUInt32LE(at + 4) * TWO_TO_32 + this.#buffer.readUInt32LE(at);
    if (!Number.isSafeInteger(value)) throw this.corrupt('a number beyond 2^53');
    return value;
  }

  /** A view of the source, not a copy. */
  bytes(): Uint8Array {
    const length = this.u32();
    const at = this.#advance(length);
    return this.#buffer.subarray(at, at + length);
  }
}
