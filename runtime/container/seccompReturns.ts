/**
 * Makes a classic BPF program shorter: jumps to a return go to a later one with the same value, as
 * far as they reach, and returns that nobody needs then are left out. The kernel converts and
 * compiles a filter anew for each process that loads it, in a time that grows with its length.
 * What a program answers stays the same; nothing is known here of what it is about.
 */

export interface Instruction<T = number> {
  readonly code: number;
  readonly ifTrue: T;
  readonly ifFalse: T;
  readonly value: number;
}

// linux/bpf_common.h
export const JUMP = 0x05;
export const RETURN_VALUE = 0x06;
export const JUMP_REACH = 255;
const CLASS_MASK = 0x07;
/** Each leaves out what the one before has brought into reach. */
const PASSES_MAX = 8;

/** A jump's way to an instruction. */
interface Way {
  readonly from: number;
  readonly side: 'ifTrue' | 'ifFalse' | 'value';
}

export function shareReturns(program: readonly Instruction[]): readonly Instruction[] {
  let shorter = program;
  for (let pass = 0; pass < PASSES_MAX; pass += 1) {
    const before = shorter.length;
    shorter = shareOnce(shorter);
    if (shorter.length === before) break;
  }
  return shorter;
}

function shareOnce(program: readonly Instruction[]): readonly Instruction[] {
  const targets = program.map((instruction, at) => ({
    ...instruction,
    ...targetsOf(instruction, at),
  }));
  const ways = waysTo(program);
  /** Of each value, the returns from the last to the one at hand. */
  const later = new Map<number, number[]>();
  program.forEach(({ code, value }, at) => {
    if (code === RETURN_VALUE) later.set(value, [at, ...(later.get(value) ?? [])]);
  });
  const isLeftOut = program.map(() => false);
  program.forEach(({ code, value }, at) => {
    if (code !== RETURN_VALUE || fallsInto(program, at)) return;
    const first = Math.min(...ways[at].map(({ from, side }) => (side === 'value' ? at : from)));
    const other = later.get(value)?.find((one) => one > at && one - first - 1 <= JUMP_REACH);
    if (other === undefined) return;
    for (const way of ways[at]) {
      targets[way.from][way.side] = other;
      ways[other].push(way);
    }
    isLeftOut[at] = true;
  });
  return closeUp(program, targets, isLeftOut);
}

function isJump({ code }: Instruction): boolean {
  return (code & CLASS_MASK) === JUMP;
}

/** As places in the program, for a jump. */
function targetsOf(
  { code, ifTrue, ifFalse, value }: Instruction,
  at: number,
): { ifTrue: number; ifFalse: number; value: number } {
  if (code === JUMP) return { ifTrue, ifFalse, value: at + 1 + value };
  return { ifTrue: at + 1 + ifTrue, ifFalse: at + 1 + ifFalse, value };
}

function waysTo(program: readonly Instruction[]): Way[][] {
  const ways: Way[][] = program.map(() => []);
  program.forEach((instruction, from) => {
    if (!isJump(instruction)) return;
    const to = targetsOf(instruction, from);
    if (instruction.code === JUMP) {
      ways[to.value].push({ from, side: 'value' });
      return;
    }
    ways[to.ifTrue].push({ from, side: 'ifTrue' });
    ways[to.ifFalse].push({ from, side: 'ifFalse' });
  });
  return ways;
}

/** Not by a jump, which may go elsewhere as well. */
function fallsInto(program: readonly Instruction[], at: number): boolean {
  const before = program[at - 1];
  return before === undefined || !(isJump(before) || before.code === RETURN_VALUE);
}

/** Without what is left out; where jumps lead has moved along. */
function closeUp(
  program: readonly Instruction[],
  targets: readonly Instruction[],
  isLeftOut: readonly boolean[],
): readonly Instruction[] {
  const places: number[] = [];
  let place = 0;
  for (const left of isLeftOut) {
    places.push(place);
    if (!left) place += 1;
  }
  const shorter: Instruction[] = [];
  program.forEach((instruction, at) => {
    if (isLeftOut[at]) return;
    const next = places[at] + 1;
    const { ifTrue, ifFalse, value } = targets[at];
    if (!isJump(instruction)) shorter.push(instruction);
    else if (instruction.code === JUMP)
      shorter.push({ ...instruction, value: places[value] - next });
    else {
      shorter.push({
        ...instruction,
        ifTrue: places[ifTrue] - next,
        ifFalse: places[ifFalse] - next,
      });
    }
  });
  return shorter;
}
