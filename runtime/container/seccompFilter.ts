/**
 * Compiles rules on system calls to classic BPF, the form the kernel loads: per architecture the
 * call numbers become ranges with one outcome each, and a balanced tree of comparisons finds the
 * range. Decides nothing about what the rules are, and loads nothing; the shim does.
 */
import { SwarmError } from '../../base/errors.ts';
import {
  type Instruction,
  JUMP,
  JUMP_REACH,
  RETURN_VALUE,
  shareReturns,
} from './seccompReturns.ts';
import {
  type Architecture,
  AUDIT_ARCH,
  callNumbers,
  HAS_SHORT_ARGUMENTS,
  type HostArchitecture,
  multiplexedCall,
  X32_BIT,
} from './syscalls.ts';

/** linux/seccomp.h; what a program returns. */
export const RETURN = {
  killThread: 0x00000000,
  killProcess: 0x80000000,
  trap: 0x00030000,
  errno: 0x00050000, // the errno is or-ed in
  notify: 0x7fc00000,
  trace: 0x7ff00000, // a message is or-ed in
  log: 0x7ffc0000,
  allow: 0x7fff0000,
} as const;

export const EPERM = 1;
export const ENOSYS = 38;

export type Operator = 'ne' | 'lt' | 'le' | 'eq' | 'ge' | 'gt' | 'masked';

export interface ArgumentTest {
  /** 0 to 5. */
  readonly index: number;
  readonly is: Operator;
  /** Compared with, without a sign. */
  readonly value: bigint;
  /** For 'masked': the bits of the argument that count. */
  readonly mask?: bigint;
  /** Only the low 32 bits are looked at, as the kernel does with an int. */
  readonly isShort?: boolean;
}

export interface FilterRule {
  readonly names: readonly string[];
  readonly action: number;
  /** All must hold; none: always. */
  readonly tests: readonly ArgumentTest[];
}

export interface Filter {
  readonly defaultAction: number;
  readonly architectures: readonly Architecture[];
  /** The first one without tests decides; else the first whose tests hold; else the default. */
  readonly rules: readonly FilterRule[];
  /**
   * Numbers above get ENOSYS, as from an older kernel, so that C libraries fall back: of names, the
   * largest number they have. undefined: they get the default.
   */
  readonly lastKnown: readonly string[] | undefined;
}

const DATA_NUMBER = 0;
const DATA_ARCHITECTURE = 4;
const DATA_ARGUMENTS = 16; // 64 bits each, the low half first on every architecture here
/** Above every architecture's ordinary calls; 32-bit ARM has some of its own far above. */
const NUMBER_END = 0x1_0000_0000;
const PRIVATE_FROM = 0xf0000;

// linux/bpf_common.h
const LOAD = 0x20;
const AND = 0x54;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_ABOVE = 0x25;
const INSTRUCTION_BYTES = 8;
/** BPF_MAXINSNS. */
export const PROGRAM_MAX = 4096;

/** Where a jump within a test leads: on to what follows the test, or past the alternative. */
type Target = number | 'holds' | 'fails';

interface Alternative {
  readonly tests: readonly ArgumentTest[];
  readonly action: number;
}

/** What becomes of a call: a return value, or that of the first alternative that holds. */
type Outcome = number | readonly Alternative[];

interface Range {
  readonly from: number;
  readonly outcome: Outcome;
}

/** The filter for a `host`: struct sock_filter's, as seccomp(2) takes them. */
export function compileFilter(filter: Filter, host: HostArchitecture): Uint8Array {
  const has = (architecture: Architecture): boolean => filter.architectures.includes(architecture);
  const tree = (architecture: Architecture): Instruction[] => {
    // A call of an architecture that is not in the filter is nothing it could judge.
    if (!has(architecture)) return [result(RETURN.killProcess)];
    const ranges = rangesOf(filter, outcomes(filter, architecture), architecture);
    const isShort = HAS_SHORT_ARGUMENTS[architecture];
    return rangeTree(ranges, filter.defaultAction, isShort);
  };
  const program: Instruction[] = [load(DATA_ARCHITECTURE)];
  const add = (architecture: keyof typeof AUDIT_ARCH, body: Instruction[]): void => {
    program.push(...unlessEqual(AUDIT_ARCH[architecture], [load(DATA_NUMBER), ...body]));
  };
  if (host === 'x86_64') {
    add('x86_64', choose(X32_BIT, tree('x86_64'), tree('x32')));
    if (has('i386')) add('i386', tree('i386'));
  } else {
    add('aarch64', tree('aarch64'));
    if (has('arm')) add('arm', tree('arm'));
  }
  program.push(result(RETURN.killProcess));
  const shorter = shareReturns(program);
  if (shorter.length > PROGRAM_MAX) {
    throw new SwarmError(
      'invalid',
      `the seccomp profile takes ${shorter.length} instructions, the kernel takes ` +
        `${PROGRAM_MAX}: name fewer architectures, or fewer arguments`,
    );
  }
  return encode(shorter);
}

/** Call number -> outcome for all calls the rules say something about. */
function outcomes(filter: Filter, architecture: Architecture): ReadonlyMap<number, Outcome> {
  const numbers = callNumbers(architecture);
  const found = new Map<number, Outcome>();
  const add = (number: number | undefined, alternative: Alternative): void => {
    if (number !== undefined) found.set(number, join(found.get(number), alternative));
  };
  for (const { names, action, tests } of filter.rules) {
    for (const name of names) {
      add(numbers.get(name), { tests, action });
      const other = architecture === 'i386' ? multiplexedCall(name) : undefined;
      if (other === undefined) continue;
      // Its arguments are in memory then, where no filter can look: only which call it is counts.
      const which: ArgumentTest = { index: 0, is: 'eq', value: BigInt(other.call) };
      const rest = tests.filter(({ index }) => index !== 0);
      add(numbers.get(other.through), { tests: [which, ...rest], action });
    }
  }
  return found;
}

function join(before: Outcome | undefined, alternative: Alternative): Outcome {
  if (typeof before === 'number') return before;
  if (alternative.tests.length === 0) return alternative.action;
  return [...(before ?? []), alternative];
}

/** Every possible number falls into one range; neighbours differ in outcome. */
function rangesOf(
  { defaultAction, lastKnown }: Filter,
  known: ReadonlyMap<number, Outcome>,
  architecture: Architecture,
): Range[] {
  const start = architecture === 'x32' ? X32_BIT : 0;
  let last = NUMBER_END;
  if (lastKnown !== undefined) {
    const numbers = lastKnown.map((name) => callNumbers(architecture).get(name) ?? -1);
    const ordinary = numbers.filter((number) => number - start < PRIVATE_FROM);
    if (Math.max(...ordinary) >= 0) last = Math.max(...ordinary);
  }
  const edges = new Set([start, last + 1]);
  for (const number of known.keys()) {
    edges.add(number);
    edges.add(number + 1);
  }
  const ranges: Range[] = [];
  for (const from of [...edges].sort((left, right) => left - right)) {
    if (from >= NUMBER_END) continue;
    const outcome = known.get(from) ?? (from > last ? RETURN.errno | ENOSYS : defaultAction);
    if (ranges.at(-1)?.outcome !== outcome) ranges.push({ from, outcome });
  }
  return ranges;
}

function rangeTree(
  ranges: readonly Range[],
  defaultAction: number,
  isShort: boolean,
): Instruction[] {
  if (ranges.length === 1) return leaf(ranges[0].outcome, defaultAction, isShort);
  const middle = ranges.length >> 1;
  return choose(
    ranges[middle].from,
    rangeTree(ranges.slice(0, middle), defaultAction, isShort),
    rangeTree(ranges.slice(middle), defaultAction, isShort),
  );
}

function leaf(outcome: Outcome, defaultAction: number, isShort: boolean): Instruction[] {
  if (typeof outcome === 'number') return [result(outcome)];
  return [
    ...outcome.flatMap((alternative) => alternativeInstructions(alternative, isShort)),
    result(defaultAction),
  ];
}

/** Returns the action when all tests hold, else goes on behind it. */
function alternativeInstructions(
  { tests, action }: Alternative,
  isShort: boolean,
): readonly Instruction[] {
  const blocks = tests.map((test) => testInstructions(test, isShort || test.isShort === true));
  const length = blocks.reduce((sum, block) => sum + block.length, 1);
  const program: Instruction[] = [];
  for (const block of blocks) {
    const blockEnd = program.length + block.length;
    for (const { code, ifTrue, ifFalse, value } of block) {
      const next = program.length + 1;
      const resolve = (target: Target): number =>
        target === 'holds' ? blockEnd - next : target === 'fails' ? length - next : target;
      program.push({ code, ifTrue: resolve(ifTrue), ifFalse: resolve(ifFalse), value });
    }
  }
  return [...program, result(action)];
}

const WORD = 0xffffffffn;

/** Goes on behind it when the test holds. The high half decides first, where it counts. */
function testInstructions(test: ArgumentTest, isShort: boolean): readonly Instruction<Target>[] {
  const { is, index } = test;
  const mask = is === 'masked' ? (test.mask ?? 0n) : WORD | (WORD << 32n);
  const value = test.value & mask;
  const at = DATA_ARGUMENTS + 8 * index;
  const half = (offset: number, shift: bigint): readonly Instruction<Target>[] => {
    const part = Number((mask >> shift) & WORD);
    const word = load(at + offset);
    return part === 0xffffffff ? [word] : [word, { ...word, code: AND, value: part }];
  };
  const [low, high] = [Number(value & WORD), Number((value >> 32n) & WORD)];
  const highHalf = isShort ? [] : half(4, 32n);
  const on = (code: number, word: number, ifTrue: Target, ifFalse: Target): Instruction<Target> => {
    return { code, value: word, ifTrue, ifFalse };
  };
  const whenHigh = (...jumps: Instruction<Target>[]): readonly Instruction<Target>[] =>
    isShort ? [] : [...highHalf, ...jumps];
  const lowHalf = half(0, 0n);
  switch (is) {
    case 'eq':
    case 'masked':
      return [
        ...whenHigh(on(JUMP_EQUAL, high, 0, 'fails')),
        ...lowHalf,
        on(JUMP_EQUAL, low, 0, 'fails'),
      ];
    case 'ne':
      return [
        ...whenHigh(on(JUMP_EQUAL, high, 0, 'holds')),
        ...lowHalf,
        on(JUMP_EQUAL, low, 'fails', 0),
      ];
    case 'gt':
    case 'ge':
      return [
        ...whenHigh(on(JUMP_ABOVE, high, 'holds', 0), on(JUMP_EQUAL, high, 0, 'fails')),
        ...lowHalf,
        on(is === 'gt' ? JUMP_ABOVE : JUMP_AT_LEAST, low, 0, 'fails'),
      ];
    case 'lt':
    case 'le':
      return [
        ...whenHigh(on(JUMP_ABOVE, high, 'fails', 0), on(JUMP_EQUAL, high, 0, 'holds')),
        ...lowHalf,
        on(is === 'lt' ? JUMP_AT_LEAST : JUMP_ABOVE, low, 'fails', 0),
      ];
  }
}

/** `high` for a number at or above `value`, else `low`. Both end in a return. */
function choose(value: number, low: Instruction[], high: Instruction[]): Instruction[] {
  if (low.length <= JUMP_REACH) {
    return [jump(JUMP_AT_LEAST, value, low.length, 0), ...low, ...high];
  }
  const far = { code: JUMP, ifTrue: 0, ifFalse: 0, value: low.length };
  return [jump(JUMP_AT_LEAST, value, 0, 1), far, ...low, ...high];
}

/** Runs `body` when the loaded word is `value`, else goes on behind it. */
function unlessEqual(value: number, body: Instruction[]): Instruction[] {
  const far = { code: JUMP, ifTrue: 0, ifFalse: 0, value: body.length };
  return [jump(JUMP_EQUAL, value, 1, 0), far, ...body];
}

function load(offset: number): Instruction {
  return { code: LOAD, ifTrue: 0, ifFalse: 0, value: offset };
}

function jump(code: number, value: number, ifTrue: number, ifFalse: number): Instruction {
  return { code, ifTrue, ifFalse, value };
}

function result(value: number): Instruction {
  return { code: RETURN_VALUE, ifTrue: 0, ifFalse: 0, value };
}

function encode(program: readonly Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(program.length * INSTRUCTION_BYTES);
  program.forEach(({ code, ifTrue, ifFalse, value }, index) => {
    const at = index * INSTRUCTION_BYTES;
    bytes.writeUInt16LE(code, at);
    bytes.writeUInt8(ifTrue, at + 2);
    bytes.writeUInt8(ifFalse, at + 3);
    bytes.writeUInt32LE(value >>> 0, at + 4);
  });
  return bytes;
}
