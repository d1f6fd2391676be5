/**
 * A digest of everything the store holds, kept up as records change: the sum of one digest a
 * record, so a change costs the record before it and the one after, and the order of records,
 * changes or fields does not matter. Equal on replicas that applied the same entries. It finds
 * faults, not forgers: 64 bits, no key. A field that is undefined counts as absent. Records are
 * digested as they are stored: another form of the same task has another digest.
 */
import { PackedStatus } from '../../model/packedStatus.ts';
import type { AnyObject, TableName } from '../../model/types.ts';
import { TABLES } from './contents.ts';
import type { View } from './types.ts';

/** Changes with how digests are made; only digests of one scheme can be compared. */
export const HASH_SCHEME = 1;

/** Two lanes of 32 bits: as much as JavaScript multiplies at a time. */
type Lanes = readonly [high: number, low: number];

const TEXT: Lanes = [0x3c6ef372, 0x1b873593];
const BYTES: Lanes = [0x510e527f, 0x5be0cd19];
const NUMBER: Lanes = [0x243f6a88, 0x13198a2e];
const TRUE: Lanes = [0x452821e6, 0x38d01377];
const FALSE: Lanes = [0x3f84d5b5, 0x47c2ef0d];
const NOTHING: Lanes = [0x2ffd72db, 0x71574e69];
const LIST: Lanes = [0x61c88647, 0x7fb5d329];
const FIELDS: Lanes = [0x2c1b3c6d, 0x297a2d39];
const HIGH_PRIME = 0x01000193;
const LOW_PRIME = 0x5bd1e995;

/** Records share these by reference (a thousand tasks, one specification): worked out once each. */
const SHARED = new Set(['spec', 'serviceLabels']);

const float = new Float64Array(1);
const words = new Uint32Array(float.buffer);

function spread(lane: number): number {
  let mixed = Math.imul(lane ^ (lane >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** Digests of values, one after another: `high` and `low` are those of the last. */
class Digester {
  high = 0;
  low = 0;
  readonly #shared = new WeakMap<object, Lanes>();

  record(table: TableName, object: AnyObject): void {
    this.#text(table);
    const { high, low } = this;
    this.#fields(object as unknown as Record<string, unknown>);
    this.#set(this.high ^ high, this.low ^ low);
  }

  #set(high: number, low: number): void {
    this.high = spread(high);
    this.low = spread(low);
  }

  #take(lanes: Lanes): void {
    this.high = lanes[0];
    this.low = lanes[1];
  }

  #value(value: unknown): void {
    if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'number') this.#number(value);
    else if (typeof value === 'boolean') this.#take(value ? TRUE : FALSE);
    else if (value === null || value === undefined) this.#take(NOTHING);
    else if (Array.isArray(value)) this.#list(value);
    else if (value instanceof Uint8Array) this.#bytes(value);
    else this.#fields(value as Record<string, unknown>);
  }

  #text(text: string): void {
    let high = TEXT[0];
    let low = TEXT[1];
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      high = Math.imul(high ^ code, HIGH_PRIME);
      low = Math.imul(((low << 5) | (low >>> 27)) ^ code, LOW_PRIME);
    }
    this.#set(high, low);
  }

  #bytes(bytes: Uint8Array): void {
    let high = BYTES[0];
    let low = BYTES[1];
    for (const byte of bytes) {
      high = Math.imul(high ^ byte, HIGH_PRIME);
      low = Math.imul(((low << 5) | (low >>> 27)) ^ byte, LOW_PRIME);
    }
    this.#set(high, low);
  }

  #number(value: number): void {
    // One zero: it has a sign here and none on the wire.
    float[0] = value === 0 ? 0 : value;
    const high = Math.imul(NUMBER[0] ^ words[0], HIGH_PRIME) ^ words[1];
    const low = Math.imul(NUMBER[1] ^ words[1], LOW_PRIME) ^ words[0];
    this.#set(high, low);
  }

  #list(items: readonly unknown[]): void {
    let high = LIST[0];
    let low = LIST[1];
    for (const item of items) {
      this.#value(item);
      high = Math.imul(high, HIGH_PRIME) ^ this.high;
      low = Math.imul((low << 5) | (low >>> 27), LOW_PRIME) ^ this.low;
    }
    this.#set(high ^ items.length, low ^ items.length);
  }

  #fields(fields: Record<string, unknown>): void {
    let high = FIELDS[0];
    let low = FIELDS[1];
    const packed = fields instanceof PackedStatus ? PackedStatus.packed(fields) : undefined;
    for (const name in fields) {
      // Packed once, and never unpacked for this: one stands for both.
      if (packed !== undefined && name === 'containerId') continue;
      const value = packed !== undefined && name === 'phases' ? packed : fields[name];
      if (value === undefined) continue;
      if (SHARED.has(name) && typeof value === 'object' && value !== null) this.#sharedValue(value);
      else this.#value(value);
      const valueHigh = this.high;
      const valueLow = this.low;
      this.#text(name);
      high = (high + spread(Math.imul(this.high, HIGH_PRIME) ^ valueHigh)) | 0;
      low = (low + spread(Math.imul(this.low, LOW_PRIME) ^ valueLow)) | 0;
    }
    this.#set(high, low);
  }

  #sharedValue(value: object): void {
    const known = this.#shared.get(value);
    if (known === undefined) {
      this.#value(value);
      this.#shared.set(value, [this.high, this.low]);
    } else {
      this.#take(known);
    }
  }
}

const digester = new Digester();

/** The digest of a growing and shrinking set of records. */
export class RecordsHash {
  #high = 0;
  #low = 0;

  add(table: TableName, object: AnyObject): void {
    digester.record(table, object);
    this.#high = (this.#high + digester.high) | 0;
    this.#low = (this.#low + digester.low) | 0;
  }

  /** `object` was added before. */
  drop(table: TableName, object: AnyObject): void {
    digester.record(table, object);
    this.#high = (this.#high - digester.high) | 0;
    this.#low = (this.#low - digester.low) | 0;
  }

  /** 16 hex digits. */
  get text(): string {
    return hex(this.#high) + hex(this.#low);
  }
}

function hex(lane: number): string {
  return (lane >>> 0).toString(16).padStart(8, '0');
}

/** Of everything a view holds, worked out anew: reads every record. */
export function hashView(view: View): string {
  const hash = new RecordsHash();
  for (const table of TABLES) for (const object of view.all(table)) hash.add(table, object);
  return hash.text;
}
