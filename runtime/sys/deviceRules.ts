/**
 * Which devices a container may use, as rules, and the two forms the kernel takes them in: lines
 * for cgroup v1's devices controller, a BPF program for cgroup v2. What is not allowed is denied.
 */

/** -1 stands for every number. */
export const ANY = -1;

export interface DeviceRule {
  readonly type: 'char' | 'block';
  readonly major: number;
  readonly minor: number;
  /** Some of 'r', 'w', 'm' (mknod). */
  readonly access: string;
}

/** glibc's major() and minor(), for the numbers Linux has: 12 and 20 bits. */
export function splitDevice(device: number): { readonly major: number; readonly minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}

/** A value for devices.allow, e.g. 'c 1:3 rwm'. */
export function deviceAllowLine(rule: DeviceRule): string {
  const number = (value: number): string => (value === ANY ? '*' : String(value));
  const type = rule.type === 'char' ? 'c' : 'b';
  return `${type} ${number(rule.major)}:${number(rule.minor)} ${rule.access}`;
}

// linux/bpf.h: struct bpf_cgroup_dev_ctx { u32 access << 16 | type; u32 major; u32 minor; }
const DEVICE_TYPE = { block: 1, char: 2 } as const;
const ACCESS_BITS: Readonly<Record<string, number>> = { m: 1, r: 2, w: 4 };
const ALL_ACCESS = 7;
const CONTEXT_MAJOR = 4;
const CONTEXT_MINOR = 8;

// Instructions of eBPF (kernel Documentation/bpf/standardization/instruction-set.rst).
const LOAD_U32 = 0x61;
const MOVE = 0xbf;
const MOVE_VALUE = 0xb7;
const AND32_VALUE = 0x54;
const SHIFT_RIGHT32_VALUE = 0x74;
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

/** A BPF_PROG_TYPE_CGROUP_DEVICE program that returns 1 for what a rule allows, else 0. */
export function deviceProgram(rules: readonly DeviceRule[]): Uint8Array {
  const program: Buffer[] = [
    instruction(LOAD_U32, R2, R1, 0, 0),
    instruction(AND32_VALUE, R2, 0, 0, 0xffff),
    instruction(LOAD_U32, R3, R1, 0, 0),
    instruction(SHIFT_RIGHT32_VALUE, R3, 0, 0, 16),
    instruction(LOAD_U32, R4, R1, CONTEXT_MAJOR, 0),
    instruction(LOAD_U32, R5, R1, CONTEXT_MINOR, 0),
  ];
  for (const rule of rules) program.push(...ruleInstructions(rule));
  program.push(instruction(MOVE_VALUE, R0, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0));
  return Buffer.concat(program);
}

function ruleInstructions(rule: DeviceRule): readonly Buffer[] {
  const access = [...rule.access].reduce((bits, letter) => bits | (ACCESS_BITS[letter] ?? 0), 0);
  const body: Array<(toNext: number) => Buffer> = [
    (toNext) => instruction(JUMP_NOT_EQUAL_VALUE, R2, 0, toNext, DEVICE_TYPE[rule.type]),
  ];
  if (rule.major !== ANY) {
    body.push((toNext) => instruction(JUMP_NOT_EQUAL_VALUE, R4, 0, toNext, rule.major));
  }
  if (rule.minor !== ANY) {
    body.push((toNext) => instruction(JUMP_NOT_EQUAL_VALUE, R5, 0, toNext, rule.minor));
  }
  if (access !== ALL_ACCESS) {
    // Any asked-for bit that is not allowed leads to the next rule.
    body.push(() => instruction(MOVE, R1, R3, 0, 0));
    body.push(() => instruction(AND32_VALUE, R1, 0, 0, ALL_ACCESS & ~access));
    body.push((toNext) => instruction(JUMP_NOT_EQUAL_VALUE, R1, 0, toNext, 0));
  }
  body.push(() => instruction(MOVE_VALUE, R0, 0, 0, 1));
  body.push(() => instruction(EXIT, 0, 0, 0, 0));
  return body.map((make, index) => make(body.length - index - 1));
}
