/**
 * Messages as protobuf's bytes, for the log and for every call: the same bytes as the library's
 * toBinary, of which it took a third of a leader's time. For each message type a list of its
 * fields' writers is made once; they write from the end of one buffer towards its start, so that a
 * length is known when it is written and nothing is copied on the way. Takes messages and plain
 * objects of their shape alike. Decodes nothing.
 */
import {
  type DescField,
  type DescMessage,
  type MessageInitShape,
  ScalarType,
} from '@bufbuild/protobuf';
import { AssertionError, assert } from '../base/assert.ts';
import { KIB } from '../base/bytes.ts';

const VARINT = 0;
const BITS_64 = 1;
const LENGTH_DELIMITED = 2;
const FIRST_CAPACITY_BYTES = 64 * KIB;
/** A buffer that one huge message made larger is not kept. */
const KEPT_CAPACITY_BYTES = 1024 * KIB;
/** Below it a loop is quicker than a call into native code. */
const SHORT_STRING = 24;
const UINT32_MAX = 0xffff_ffff;
const INT32_MIN = -0x8000_0000;
const INT32_MAX = 0x7fff_ffff;
const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;
const MAX_SAFE = BigInt(Number.MAX_SAFE_INTEGER);

/** Written from the end: `at` is where the bytes written so far begin. */
let buffer = Buffer.allocUnsafeSlow(FIRST_CAPACITY_BYTES);
let at = buffer.length;

type Fields = Readonly<Record<string, unknown>>;
type Write = (message: Fields) => void;
type WriteValue = (value: never) => void;

const writers = new Map<DescMessage, readonly Write[]>();

/** The message's bytes, in a buffer of their own. Throws where a value is none of its type. */
export function encodeMessage<D extends DescMessage>(
  type: D,
  message: MessageInitShape<D>,
): Uint8Array {
  const length = write(type, message);
  const bytes = Buffer.allocUnsafeSlow(length);
  bytes.set(buffer.subarray(at), 0);
  tidy();
  return bytes;
}

/** The same for bytes that are sent and forgotten: small ones share the pool of buffers. */
export function encodeBriefly<D extends DescMessage>(
  type: D,
  message: MessageInitShape<D>,
): Buffer {
  const length = write(type, message);
  const bytes = Buffer.allocUnsafe(length);
  bytes.set(buffer.subarray(at), 0);
  tidy();
  return bytes;
}

/**
 * What `write` writes by hand, from its last field to its first, with the writers below: `take` is
 * given a buffer that ends with the bytes, and where they begin. The next message changes it.
 */
export function encodeByHand(write: () => void, take: TakeBytes): void {
  tidy();
  at = buffer.length;
  write();
  take(buffer, at);
}

export type TakeBytes = (bytes: Buffer, start: number) => void;

/** For encodeByHand: how much is written, by which the length of a part is known. */
export function written(): number {
  return buffer.length - at;
}

function write(type: DescMessage, message: unknown): number {
  at = buffer.length;
  writeFields(writersOf(type), message as Fields);
  return buffer.length - at;
}

function tidy(): void {
  if (buffer.length > KEPT_CAPACITY_BYTES) buffer = Buffer.allocUnsafeSlow(FIRST_CAPACITY_BYTES);
}

function writeFields(fields: readonly Write[], message: Fields): void {
  const unknown = message['$unknown'];
  if (unknown !== undefined) writeUnknown(unknown as readonly UnknownField[]);
  for (const each of fields) each(message);
}

interface UnknownField {
  readonly no: number;
  readonly wireType: number;
  readonly data: Uint8Array;
}

/** Of a newer version: kept as it came, behind the fields that are known. */
function writeUnknown(fields: readonly UnknownField[]): void {
  for (const { no, wireType, data } of [...fields].reverse()) {
    raw(data);
    varint(no * 8 + wireType);
  }
}

function writersOf(type: DescMessage): readonly Write[] {
  let found = writers.get(type);
  if (found === undefined) {
    const made: Write[] = [];
    // Before the fields are looked at: a type may hold itself.
    writers.set(type, made);
    const descending = [...type.fields].sort((left, right) => right.number - left.number);
    for (const field of descending) made.push(fieldWriter(field));
    found = made;
  }
  return found;
}

// ---- fields ------------------------------------------------------------------------------------

function fieldWriter(field: DescField): Write {
  const name = field.localName;
  switch (field.fieldKind) {
    case 'message': {
      const one = delimited(field.number, inner(field.message));
      return present(field, (value) => one(value as never));
    }
    case 'enum':
    case 'scalar': {
      const type = field.fieldKind === 'enum' ? ScalarType.INT32 : field.scalar;
      const one = tagged(field.number, type, `${field.parent.name}.${name}`);
      return present(field, (value) => one(value as never));
    }
    case 'list':
      return listWriter(field);
    case 'map':
      return mapWriter(field);
  }
}

function present(field: DescField, one: (value: unknown) => void): Write {
  const name = field.localName;
  if (field.oneof !== undefined) {
    const group = field.oneof.localName;
    return (message) => {
      const chosen = message[group] as { case?: string; value?: unknown } | undefined;
      if (chosen?.case === name) one(chosen.value);
    };
  }
  const isImplicit = field.fieldKind !== 'message' && field.presence === IMPLICIT;
  // Of the numbers only a floating-point one has a zero that is none: -0.
  const zero =
    field.fieldKind === 'scalar' && field.scalar === ScalarType.DOUBLE ? isPlus0 : isZero;
  return (message) => {
    const value = message[name];
    if (value === undefined || (isImplicit && zero(value))) return;
    one(value);
  };
}

/** google.protobuf.FeatureSet.FieldPresence, of which the library exports no value. */
const IMPLICIT = 2;

function isZero(value: unknown): boolean {
  return value === '' || value === 0 || value === false || value === 0n || isEmpty(value);
}

function isPlus0(value: unknown): boolean {
  return Object.is(value, 0);
}

function isEmpty(value: unknown): boolean {
  return value instanceof Uint8Array && value.length === 0;
}

function inner(type: DescMessage): WriteValue {
  const fields = writersOf(type);
  return (value: Fields) => writeFields(fields, value);
}

/** A message as a field: its length and tag before its bytes. */
function delimited(number: number, one: WriteValue): WriteValue {
  const tag = number * 8 + LENGTH_DELIMITED;
  return (value) => {
    // The buffer may grow meanwhile: distances from its end hold.
    const behind = buffer.length - at;
    one(value);
    varint(buffer.length - at - behind);
    varint(tag);
  };
}

function tagged(number: number, type: ScalarType, where: string): WriteValue {
  const one = scalarWriter(type, where);
  const tag = number * 8 + wireTypeOf(type);
  return (value) => {
    one(value);
    varint(tag);
  };
}

function wireTypeOf(type: ScalarType): number {
  if (type === ScalarType.DOUBLE) return BITS_64;
  return type === ScalarType.STRING || type === ScalarType.BYTES ? LENGTH_DELIMITED : VARINT;
}

function listWriter(field: DescField & { fieldKind: 'list' }): Write {
  const name = field.localName;
  const { number } = field;
  if (field.listKind !== 'message') {
    const type = field.listKind === 'enum' ? ScalarType.INT32 : field.scalar;
    const where = `${field.parent.name}.${name}`;
    if (field.packed) {
      const one = scalarWriter(type, where);
      const all = delimited(number, (values: readonly never[]) => {
        for (let index = values.length - 1; index >= 0; index -= 1) one(values[index]);
      });
      return (message) => {
        const values = message[name] as readonly never[] | undefined;
        if (values !== undefined && values.length > 0) all(values as never);
      };
    }
    return each(name, tagged(number, type, where));
  }
  return each(name, delimited(number, inner(field.message)));
}

function each(name: string, one: WriteValue): Write {
  return (message) => {
    const values = message[name] as readonly never[] | undefined;
    if (values === undefined) return;
    for (let index = values.length - 1; index >= 0; index -= 1) one(values[index]);
  };
}

function mapWriter(field: DescField & { fieldKind: 'map' }): Write {
  const name = field.localName;
  const where = `${field.parent.name}.${name}`;
  const key = tagged(1, field.mapKey, where);
  const value =
    field.mapKind === 'message'
      ? delimited(2, inner(field.message))
      : tagged(2, field.mapKind === 'enum' ? ScalarType.INT32 : field.scalar, where);
  const toKey = keyReader(field.mapKey);
  const entry = delimited(field.number, ([from, to]: readonly [string, never]) => {
    value(to);
    key(toKey(from) as never);
  });
  return (message) => {
    const entries = message[name] as Readonly<Record<string, never>> | undefined;
    if (entries === undefined) return;
    const all = Object.entries(entries);
    for (let index = all.length - 1; index >= 0; index -= 1) entry(all[index] as never);
  };
}

/** An object's keys are strings; the wire's may be numbers. */
function keyReader(type: ScalarType): (key: string) => unknown {
  switch (type) {
    case ScalarType.STRING:
      return (key) => key;
    case ScalarType.UINT32:
    case ScalarType.INT32:
      return Number;
    default:
      throw new AssertionError(`protobuf: no map is keyed by ${ScalarType[type]} here`);
  }
}

// ---- values ------------------------------------------------------------------------------------

function scalarWriter(type: ScalarType, where: string): WriteValue {
  switch (type) {
    case ScalarType.STRING:
      return (value: string) => text(value, where);
    case ScalarType.BYTES:
      return (value: Uint8Array) => {
        raw(value);
        varint(value.length);
      };
    case ScalarType.BOOL:
      return (value: boolean) => varint(value ? 1 : 0);
    case ScalarType.UINT32:
      return (value: number) => {
        check(Number.isInteger(value) && value >= 0 && value <= UINT32_MAX, where, value);
        varint(value);
      };
    case ScalarType.INT32:
      return (value: number) => {
        check(Number.isInteger(value) && value >= INT32_MIN && value <= INT32_MAX, where, value);
        if (value < 0) bigVarint(BigInt.asUintN(64, BigInt(value)));
        else varint(value);
      };
    case ScalarType.SINT32:
      return (value: number) => {
        check(Number.isInteger(value) && value >= INT32_MIN && value <= INT32_MAX, where, value);
        varint(value < 0 ? -2 * value - 1 : 2 * value);
      };
    case ScalarType.DOUBLE:
      return (value: number) => {
        check(typeof value === 'number', where, value);
        const place = room(8);
        buffer.writeDoubleLE(value, place);
      };
    case ScalarType.SINT64:
      return (value: bigint) => {
        check(typeof value === 'bigint' && value >= INT64_MIN && value < -INT64_MIN, where, value);
        const folded = value < 0n ? -2n * value - 1n : 2n * value;
        if (folded <= MAX_SAFE) varint(Number(folded));
        else bigVarint(folded);
      };
    case ScalarType.UINT64:
    case ScalarType.INT64: {
      const least = type === ScalarType.UINT64 ? 0n : INT64_MIN;
      const most = type === ScalarType.UINT64 ? UINT64_MAX : -INT64_MIN - 1n;
      return (value: bigint) => {
        check(typeof value === 'bigint' && value >= least && value <= most, where, value);
        const short = Number(value);
        if (short >= 0 && short <= Number.MAX_SAFE_INTEGER) varint(short);
        else bigVarint(BigInt.asUintN(64, value));
      };
    }
    default:
      throw new AssertionError(`protobuf: ${where}: no ${ScalarType[type]} is used here`);
  }
}

function check(good: boolean, where: string, value: unknown): void {
  if (!good) throw new Error(`cannot encode ${where}: ${String(value)} is none of its type`);
}

/** Makes room for `length` bytes before what is written; their place. */
function room(length: number): number {
  if (at < length) {
    const written = buffer.length - at;
    const grown = Buffer.allocUnsafeSlow(Math.max(buffer.length * 2, written + 2 * length));
    buffer.copy(grown, grown.length - written, at);
    buffer = grown;
    at = grown.length - written;
  }
  at -= length;
  return at;
}

export function raw(bytes: Uint8Array): void {
  // The place first: making room may change the buffer.
  const place = room(bytes.length);
  buffer.set(bytes, place);
}

export function text(value: string, where: string): void {
  check(typeof value === 'string', where, value);
  if (value.length > SHORT_STRING || !shortAscii(value)) {
    const length = Buffer.byteLength(value);
    const start = room(length);
    const written = buffer.write(value, start, length);
    assert(written === length, 'protobuf: a string took other than its length', { length });
    varint(length);
  }
}

/** False when it holds more than ASCII: nothing was written. */
function shortAscii(value: string): boolean {
  const { length } = value;
  const start = room(length);
  for (let index = 0; index < length; index += 1) {
    const code = value.charCodeAt(index);
    if (code > 0x7f) {
      at += length;
      return false;
    }
    buffer[start + index] = code;
  }
  varint(length);
  return true;
}

/** A safe whole number, not below 0. */
export function varint(value: number): void {
  if (value < 0x80) {
    const place = room(1);
    buffer[place] = value;
    return;
  }
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length += 1;
  let place = room(length);
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) {
    buffer[place] = (rest % 0x80) | 0x80;
    place += 1;
  }
  buffer[place] = rest;
}

function bigVarint(value: bigint): void {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  raw(Uint8Array.from(bytes));
}
