/**
 * Which devices a container may use: an ordered list in which, for each of reading, writing and
 * making, the last entry that speaks of a device decides; what no entry speaks of is denied. And
 * the two forms the kernel takes it in: lines for cgroup v1's devices controller, whose own order
 * means less, and a BPF program for cgroup v2.
 */
import { SwarmError } from '../../base/errors.ts';
import type { DeviceAccess } from './resources.ts';

/** -1 stands for every number. */
export const ANY = -1;

/** A permission, as Docker's options give it. */
export interface DeviceRule {
  readonly type: 'char' | 'block';
  readonly major: number;
  readonly minor: number;
  /** Some of 'r', 'w', 'm' (mknod). */
  readonly access: string;
}

export function allowed({ type, major, minor, access }: DeviceRule): DeviceAccess {
  return { allow: true, type: type === 'char' ? 'c' : 'b', major, minor, access };
}

/** glibc's major() and minor(), for the numbers Linux has: 12 and 20 bits. */
export function splitDevice(device: number): { readonly major: number; readonly minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}

const ACCESS_BITS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const ALL_ACCESS = 7;

interface Entry {
  readonly allow: boolean;
  readonly type: 'a' | 'b' | 'c';
  readonly major: number;
  readonly minor: number;
  readonly bits: number;
}

function toEntry({ allow, type = 'a', major = ANY, minor = ANY, access }: DeviceAccess): Entry {
  const numbers = { major: Math.max(ANY, major), minor: Math.max(ANY, minor) };
  return { allow, type, ...numbers, bits: bitsOf(access) };
}

function bitsOf(access: string): number {
  return [...access].reduce((sum, letter) => sum | (ACCESS_BITS[letter] ?? 0), 0);
}

function accessOf(bits: number): string {
  return ['r', 'w', 'm'].filter((letter) => (bits & ACCESS_BITS[letter]) !== 0).join('');
}

function isEverything({ type, major, minor, bits }: Entry): boolean {
  return type === 'a' && major === ANY && minor === ANY && bits === ALL_ACCESS;
}

// Cgroup v1: a group either denies all but its exceptions, or allows all but them. An exception
// is taken back only by exactly its own numbers, so the list is worked out here beforehand.

export interface DeviceLine {
  readonly file: 'devices.allow' | 'devices.deny';
  /** e.g. 'c 1:3 rwm', or 'a'. */
  readonly value: string;
}

interface Exception {
  readonly type: 'b' | 'c';
  readonly major: number;
  readonly minor: number;
  bits: number;
}

/**
 * What is written to a new v1 group, in order. SwarmError unsupported for a list that v1 cannot
 * express: one that takes a part out of a wildcard.
 */
export function deviceLines(list: readonly DeviceAccess[]): readonly DeviceLine[] {
  let allowsAll = false;
  let exceptions: Exception[] = [];
  for (const entry of list.map(toEntry)) {
    if (isEverything(entry)) {
      allowsAll = entry.allow;
      exceptions = [];
      continue;
    }
    const { major, minor, bits } = entry;
    for (const type of entry.type === 'a' ? (['b', 'c'] as const) : [entry.type]) {
      const one = { type, major, minor, bits };
      if (entry.allow === allowsAll) takeBack(exceptions, one);
      else addException(exceptions, one);
    }
  }
  const rest = exceptions.filter(({ bits }) => bits !== 0);
  return [
    { file: allowsAll ? 'devices.allow' : 'devices.deny', value: 'a' },
    ...rest.map((exception): DeviceLine => {
      return { file: allowsAll ? 'devices.deny' : 'devices.allow', value: lineOf(exception) };
    }),
  ];
}

/**
 * What is written to a v1 group in use, whose devices.list is `now`, so that it has the rules of
 * `list`: only what differs, and more is allowed before anything is denied. A group that allows all
 * but its exceptions does not tell them: it is denied all for a moment.
 */
export function deviceChanges(list: readonly DeviceAccess[], now: string): readonly DeviceLine[] {
  const wanted = deviceLines(list);
  const lines = now.trim() === '' ? [] : now.trim().split('\n');
  const allowsAll = lines.some((line) => line.startsWith('a '));
  if (allowsAll || wanted[0].file === 'devices.allow') return wanted;
  const before = bitsByDevice(lines);
  const after = bitsByDevice(wanted.slice(1).map(({ value }) => value));
  const changes = (
    file: DeviceLine['file'],
    from: ReadonlyMap<string, number>,
    to: ReadonlyMap<string, number>,
  ): DeviceLine[] =>
    [...to].flatMap(([device, bits]) => {
      const more = bits & ~(from.get(device) ?? 0);
      return more === 0 ? [] : [{ file, value: `${device} ${accessOf(more)}` }];
    });
  return [...changes('devices.allow', before, after), ...changes('devices.deny', after, before)];
}

/** 'c 1:3 rw' -> 'c 1:3' and its bits. */
function bitsByDevice(lines: readonly string[]): ReadonlyMap<string, number> {
  return new Map(
    lines.map((line) => {
      const [type, numbers, access] = line.split(' ');
      return [`${type} ${numbers}`, bitsOf(access)];
    }),
  );
}

/** The kernel wants one exception that gives all of what is asked for, so they are kept joined. */
function addException(exceptions: Exception[], added: Exception): void {
  let own: Exception | undefined;
  for (const exception of exceptions) {
    if (contains(added, exception)) exception.bits |= added.bits;
    else if (contains(exception, added)) added.bits |= exception.bits;
    if (contains(added, exception) && contains(exception, added)) own = exception;
  }
  if (own === undefined) exceptions.push(added);
  else own.bits |= added.bits;
}

function takeBack(exceptions: readonly Exception[], taken: Exception): void {
  for (const exception of exceptions) {
    if ((exception.bits & taken.bits) === 0 || !meet(exception, taken)) continue;
    if (!contains(taken, exception)) {
      throw new SwarmError(
        'unsupported',
        `devices: "${lineOf(taken)}" takes a part out of "${lineOf(exception)}", which cgroup v1 ` +
          'cannot express: name the devices one by one',
      );
    }
    exception.bits &= ~taken.bits;
  }
}

function contains(wide: Exception, narrow: Exception): boolean {
  return (
    wide.type === narrow.type &&
    (wide.major === ANY || wide.major === narrow.major) &&
    (wide.minor === ANY || wide.minor === narrow.minor)
  );
}

function meet(left: Exception, right: Exception): boolean {
  const numbersMeet = (one: number, other: number): boolean =>
    one === ANY || other === ANY || one === other;
  return (
    left.type === right.type &&
    numbersMeet(left.major, right.major) &&
    numbersMeet(left.minor, right.minor)
  );
}

function lineOf({ type, major, minor, bits }: Exception): string {
  const number = (value: number): string => (value === ANY ? '*' : String(value));
  return `${type} ${number(major)}:${number(minor)} ${accessOf(bits)}`;
}

// Cgroup v2.
// linux/bpf.h: struct bpf_cgroup_dev_ctx { u32 access << 16 | type; u32 major; u32 minor; }
const DEVICE_TYPE = { b: 1, c: 2 } as const;
const CONTEXT_MAJOR = 4;
const CONTEXT_MINOR = 8;

// Instructions of eBPF (kernel Documentation/bpf/standardization/instruction-set.rst).
const LOAD_U32 = 0x61;
const MOVE = 0xbf;
const MOVE_VALUE = 0xb7;
const AND32_VALUE = 0x54;
const SHIFT_RIGHT32_VALUE = 0x74;
const JUMP_EQUAL_VALUE = 0x15;
const JUMP_NOT_EQUAL_VALUE = 0x55;
const EXIT = 0x95;
const [R0, R1, R2, R3, R4, R5] = [0, 1, 2, 3, 4, 5];

function instruction(
  code: number,
  to: number,
  from: number,
  offset: number,
  value: number,
): Buffer {
  const bytes = Buffer.alloc(8);
  bytes[0] = code;
  bytes[1] = (from << 4) | to;
  bytes.writeInt16LE(offset, 2);
  bytes.writeInt32LE(value, 4);
  return bytes;
}

const answer = (isAllowed: boolean): readonly Buffer[] => [
  instruction(MOVE_VALUE, R0, 0, 0, isAllowed ? 1 : 0),
  instruction(EXIT, 0, 0, 0, 0),
];

/**
 * A BPF_PROG_TYPE_CGROUP_DEVICE program that returns 1 for what the list allows, else 0. It goes
 * through the list from its end and drops from R3, the access asked for, what has been allowed.
 */
export function deviceProgram(list: readonly DeviceAccess[]): Uint8Array {
  const program: Buffer[] = [
    instruction(LOAD_U32, R2, R1, 0, 0),
    instruction(AND32_VALUE, R2, 0, 0, 0xffff),
    instruction(LOAD_U32, R3, R1, 0, 0),
    instruction(SHIFT_RIGHT32_VALUE, R3, 0, 0, 16),
    instruction(LOAD_U32, R4, R1, CONTEXT_MAJOR, 0),
    instruction(LOAD_U32, R5, R1, CONTEXT_MINOR, 0),
  ];
  for (const entry of list.map(toEntry).reverse()) {
    if (entry.bits === 0) continue;
    program.push(...entryInstructions(entry));
    // The verifier refuses what can never be reached.
    if (isEverything(entry)) return Buffer.concat(program);
  }
  return Buffer.concat([...program, ...answer(false)]);
}

function entryInstructions({ allow, type, major, minor, bits }: Entry): readonly Buffer[] {
  const body: Array<(toNext: number) => Buffer> = [];
  const unless = (register: number, value: number): void => {
    body.push((toNext) => instruction(JUMP_NOT_EQUAL_VALUE, register, 0, toNext, value));
  };
  const plain = (one: Buffer): number => body.push(() => one);
  if (type !== 'a') unless(R2, DEVICE_TYPE[type]);
  if (major !== ANY) unless(R4, major);
  if (minor !== ANY) unless(R5, minor);
  if (allow && bits !== ALL_ACCESS) {
    plain(instruction(AND32_VALUE, R3, 0, 0, ALL_ACCESS & ~bits));
    unless(R3, 0);
  } else if (!allow && bits !== ALL_ACCESS) {
    plain(instruction(MOVE, R1, R3, 0, 0));
    plain(instruction(AND32_VALUE, R1, 0, 0, bits));
    body.push((toNext) => instruction(JUMP_EQUAL_VALUE, R1, 0, toNext, 0));
  }
  for (const one of answer(allow)) plain(one);
  return body.map((make, index) => make(body.length - index - 1));
}
