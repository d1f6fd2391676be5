/**
 * Compiles the seccomp profile to classic BPF, the form the kernel loads: per architecture the
 * call numbers become ranges with one outcome each, and a balanced tree of comparisons finds the
 * range. Calls younger than our table get ENOSYS, and C libraries fall back as on an old kernel.
 * Loads nothing; the shim does.
 */
import { arch } from 'node:process';
import { SwarmError } from '../../base/errors.ts';
import { type Capability, capabilityMask } from './capabilities.ts';
import {
  type Architecture,
  type ArgumentTest,
  DEFAULT_PROFILE,
  type SeccompRule,
} from './seccompProfile.ts';
import {
  AARCH64_NUMBERS,
  COMMON_NUMBERS,
  I386_NUMBERS,
  LAST_KNOWN_NUMBER,
  X32_OWN_NUMBERS,
  X86_64_NUMBERS,
} from './syscallNumbers.ts';

// linux/seccomp.h
const ALLOW = 0x7fff0000;
const KILL_PROCESS = 0x80000000;
const REFUSE = 0x00050000; // SECCOMP_RET_ERRNO; the errno is or-ed in
const EPERM = 1;
const ENOSYS = 38;
const DATA_NUMBER = 0;
const DATA_ARCHITECTURE = 4;
const DATA_ARGUMENTS = 16; // 64 bits each, the low half first on every architecture here
const X32_BIT = 0x40000000;
const X32_LAST_OWN = 547;
const NUMBER_END = 0x1_0000_0000;

// linux/audit.h
const AUDIT_ARCH: Readonly<Record<'x86_64' | 'i386' | 'aarch64', number>> = {
  x86_64: 0xc000003e,
  i386: 0x40000003,
  aarch64: 0xc00000b7,
};

// linux/bpf_common.h
const LOAD = 0x20;
const AND = 0x54;
const JUMP = 0x05;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_ABOVE = 0x25;
const RETURN = 0x06;
const JUMP_REACH = 255;
const INSTRUCTION_BYTES = 8;
/** BPF_MAXINSNS. */
const PROGRAM_MAX = 4096;

interface Instruction {
  readonly code: number;
  readonly ifTrue: number;
  readonly ifFalse: number;
  readonly value: number;
}

/** What becomes of a call: a return value, or allowed if one of the tests holds. */
type Outcome = number | readonly ArgumentTest[];

interface Range {
  readonly from: number;
  readonly outcome: Outcome;
}

const compiled = new Map<string, Uint8Array>();

/** The default profile for a container with `capabilities` on this host; compiled once a set. */
export function seccompProgram(capabilities: ReadonlySet<Capability>): Uint8Array {
  const key = capabilityMask(capabilities).toString();
  let program = compiled.get(key);
  if (program === undefined) {
    program = compileProfile(DEFAULT_PROFILE, capabilities, hostArchitecture());
    compiled.set(key, program);
  }
  return program;
}

function hostArchitecture(): 'x86_64' | 'aarch64' {
  if (arch === 'x64') return 'x86_64';
  if (arch === 'arm64') return 'aarch64';
  throw new SwarmError('unsupported', `no seccomp profile for ${arch}: use x86_64 or aarch64`);
}

/** The filter for a `host`: struct sock_filter's, as seccomp(2) takes them. */
export function compileProfile(
  profile: readonly SeccompRule[],
  capabilities: ReadonlySet<Capability>,
  host: 'x86_64' | 'aarch64',
): Uint8Array {
  const tree = (architecture: Architecture): Instruction[] =>
    rangeTree(rangesOf(outcomes(profile, capabilities, architecture), architecture));
  const program: Instruction[] = [load(DATA_ARCHITECTURE)];
  if (host === 'aarch64') {
    program.push(...unlessEqual(AUDIT_ARCH.aarch64, [load(DATA_NUMBER), ...tree('aarch64')]));
  } else {
    const x32 = tree('x32');
    const x86 = [load(DATA_NUMBER), ...choose(X32_BIT, tree('x86_64'), x32)];
    program.push(...unlessEqual(AUDIT_ARCH.x86_64, x86));
    program.push(...unlessEqual(AUDIT_ARCH.i386, [load(DATA_NUMBER), ...tree('i386')]));
  }
  program.push(result(KILL_PROCESS));
  if (program.length > PROGRAM_MAX) {
    throw new SwarmError('internal', `the seccomp filter has ${program.length} instructions`);
  }
  return encode(program);
}

/** Call number -> outcome for all calls the profile says something about. */
function outcomes(
  profile: readonly SeccompRule[],
  capabilities: ReadonlySet<Capability>,
  architecture: Architecture,
): ReadonlyMap<number, Outcome> {
  const numbers = callNumbers(architecture);
  const found = new Map<number, Outcome>();
  for (const rule of profile) {
    const applies =
      (rule.with === undefined || capabilities.has(rule.with)) &&
      (rule.without === undefined || !capabilities.has(rule.without)) &&
      (rule.architectures === undefined || rule.architectures.includes(architecture));
    if (!applies) continue;
    for (const name of rule.names.split(' ')) {
      const number = numbers.get(name);
      if (number !== undefined) found.set(number, join(found.get(number), rule));
    }
  }
  return found;
}

/** An unconditional permission is the strongest, then one with tests, then a refusal. */
function join(before: Outcome | undefined, rule: SeccompRule): Outcome {
  if (before === ALLOW) return ALLOW;
  if (rule.errno !== undefined) return before ?? REFUSE | rule.errno;
  if (rule.tests === undefined) return ALLOW;
  return typeof before === 'object' ? [...before, ...rule.tests] : rule.tests;
}

/** Name -> number as the architecture's programs pass it. */
export function callNumbers(architecture: Architecture): ReadonlyMap<string, number> {
  const own = {
    x86_64: X86_64_NUMBERS,
    x32: X86_64_NUMBERS,
    i386: I386_NUMBERS,
    aarch64: AARCH64_NUMBERS,
  }[architecture];
  const numbers = new Map<string, number>();
  addRuns(numbers, own);
  addRuns(numbers, COMMON_NUMBERS);
  if (architecture !== 'x32') return numbers;
  addRuns(numbers, X32_OWN_NUMBERS);
  return new Map([...numbers].map(([name, number]) => [name, number + X32_BIT]));
}

function addRuns(numbers: Map<string, number>, text: string): void {
  let next = 0;
  for (const word of text.split(' ')) {
    const colon = word.indexOf(':');
    if (colon > 0) next = Number(word.slice(0, colon));
    numbers.set(word.slice(colon + 1), next);
    next += 1;
  }
}

/** Every possible number falls into one range; neighbours differ in outcome. */
function rangesOf(known: ReadonlyMap<number, Outcome>, architecture: Architecture): Range[] {
  const start = architecture === 'x32' ? X32_BIT : 0;
  const last = start + LAST_KNOWN_NUMBER;
  const edges = new Set([start, last + 1]);
  for (const number of known.keys()) {
    edges.add(number);
    edges.add(number + 1);
  }
  if (architecture === 'x32') edges.add(start + X32_LAST_OWN + 1);
  const ranges: Range[] = [];
  for (const from of [...edges].sort((left, right) => left - right)) {
    if (from >= NUMBER_END) continue;
    const isYoung = from > last;
    const outcome = known.get(from) ?? REFUSE | (isYoung ? ENOSYS : EPERM);
    if (ranges.at(-1)?.outcome !== outcome) ranges.push({ from, outcome });
  }
  return ranges;
}

function rangeTree(ranges: readonly Range[]): Instruction[] {
  if (ranges.length === 1) return leaf(ranges[0].outcome);
  const middle = ranges.length >> 1;
  return choose(
    ranges[middle].from,
    rangeTree(ranges.slice(0, middle)),
    rangeTree(ranges.slice(middle)),
  );
}

function leaf(outcome: Outcome): Instruction[] {
  if (typeof outcome === 'number') return [result(outcome)];
  const tests = outcome.flatMap(testInstructions);
  return [...tests, result(REFUSE | EPERM)];
}

/** Allows when the test holds, else goes on behind it. */
function testInstructions(test: ArgumentTest): Instruction[] {
  const argument = load(DATA_ARGUMENTS + 8 * test.argument);
  const value = test.value >>> 0;
  const allow = result(ALLOW);
  switch (test.is) {
    case 'equal':
      return [argument, jump(JUMP_EQUAL, value, 0, 1), allow];
    case 'above':
      return [argument, jump(JUMP_ABOVE, value, 0, 1), allow];
    case 'below':
      return [argument, jump(JUMP_AT_LEAST, value, 1, 0), allow];
    case 'masked-zero':
      return [
        argument,
        { code: AND, ifTrue: 0, ifFalse: 0, value },
        jump(JUMP_EQUAL, 0, 0, 1),
        allow,
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
  return { code: RETURN, ifTrue: 0, ifFalse: 0, value };
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
