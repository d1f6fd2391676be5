/**
 * An OCI configuration's linux.seccomp (config-linux.md, "Seccomp"; constants of libseccomp) as a
 * filter and the flags it is loaded with. What is not in the specification is refused by its name;
 * calls an architecture has not are passed over, as libseccomp's users do.
 */
import { SwarmError } from '../../base/errors.ts';
import {
  type ArgumentTest,
  compileFilter,
  ENOSYS,
  EPERM,
  type Filter,
  type FilterRule,
  type Operator,
  RETURN,
} from './seccompFilter.ts';
import { type Architecture, type HostArchitecture, hostArchitecture } from './syscalls.ts';

export interface OciSeccompArgument {
  readonly index: number;
  /** 64 bits without a sign. JSON loses some of those above 2^53. */
  readonly value: number | bigint;
  readonly valueTwo?: number | bigint;
  readonly op: string;
}

export interface OciSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls?: readonly {
    readonly names: readonly string[];
    readonly action: string;
    readonly errnoRet?: number;
    readonly args?: readonly OciSeccompArgument[];
  }[];
}

export interface SeccompProgram {
  /** struct sock_filter's. */
  readonly program: Uint8Array;
  /** For seccomp(2). */
  readonly flags: number;
  /** Someone is to be handed the calls: SCMP_ACT_NOTIFY is among the actions. */
  readonly needsListener: boolean;
}

const ACTIONS: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: RETURN.killThread,
  SCMP_ACT_KILL_THREAD: RETURN.killThread,
  SCMP_ACT_KILL_PROCESS: RETURN.killProcess,
  SCMP_ACT_TRAP: RETURN.trap,
  SCMP_ACT_ERRNO: RETURN.errno,
  SCMP_ACT_TRACE: RETURN.trace,
  SCMP_ACT_ALLOW: RETURN.allow,
  SCMP_ACT_LOG: RETURN.log,
  SCMP_ACT_NOTIFY: RETURN.notify,
};
const OPERATORS: Readonly<Record<string, Operator>> = {
  SCMP_CMP_NE: 'ne',
  SCMP_CMP_LT: 'lt',
  SCMP_CMP_LE: 'le',
  SCMP_CMP_EQ: 'eq',
  SCMP_CMP_GE: 'ge',
  SCMP_CMP_GT: 'gt',
  SCMP_CMP_MASKED_EQ: 'masked',
};
/** undefined: no program of it can run on a host we run on, so nothing needs to be said of it. */
const ARCHITECTURES: Readonly<Record<string, Architecture | undefined>> = {
  SCMP_ARCH_X86_64: 'x86_64',
  SCMP_ARCH_X86: 'i386',
  SCMP_ARCH_X32: 'x32',
  SCMP_ARCH_AARCH64: 'aarch64',
  SCMP_ARCH_ARM: 'arm',
  ...Object.fromEntries(
    (
      'MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE S390 S390X PARISC ' +
      'PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB'
    )
      .split(' ')
      .map((name) => [`SCMP_ARCH_${name}`, undefined]),
  ),
};
/** linux/seccomp.h */
const FLAGS: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
  SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV: 32,
};
const FAMILIES: Readonly<Record<HostArchitecture, readonly Architecture[]>> = {
  x86_64: ['x86_64', 'i386', 'x32'],
  aarch64: ['aarch64', 'arm'],
};
const ARGUMENTS = 6;
/** The kernel's MAX_ERRNO, and the 16 bits of a tracer's message. */
const ERRNO_MAX = 4095;
const MESSAGE_MAX = 0xffff;
/** Programs kept, under their configurations: few profiles are in use on a host. */
const CACHE_MAX = 16;

const compiled = new Map<string, SeccompProgram>();

/** Compiled once for equal configurations. SwarmError invalid names what cannot be. */
export function compileSeccomp(
  seccomp: OciSeccomp,
  host: HostArchitecture = hostArchitecture(),
): SeccompProgram {
  const key = host + JSON.stringify(seccomp, asText);
  const known = compiled.get(key);
  if (known !== undefined) return known;
  const filter = toFilter(seccomp, host);
  const flags = (seccomp.flags ?? []).map((name) => find(FLAGS, name, 'flag'));
  const result: SeccompProgram = {
    program: compileFilter(filter, host),
    flags: flags.reduce((sum, flag) => sum | flag, 0),
    needsListener: filter.rules.some(({ action }) => action === RETURN.notify),
  };
  if (compiled.size === CACHE_MAX) compiled.delete(compiled.keys().next().value ?? '');
  compiled.set(key, result);
  return result;
}

function asText(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

export function toFilter(seccomp: OciSeccomp, host: HostArchitecture): Filter {
  const { syscalls = [], architectures: named = [], listenerMetadata = '' } = seccomp;
  if (listenerMetadata !== '' && (seccomp.listenerPath ?? '') === '') {
    throw invalid('listenerMetadata needs a listenerPath');
  }
  const defaultAction = actionOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
  if (defaultAction === RETURN.notify) {
    throw invalid('SCMP_ACT_NOTIFY cannot be used as default action');
  }
  const asked = named.map((name) => find(ARCHITECTURES, name, 'architecture'));
  return {
    defaultAction,
    // The host's own is always meant, whatever else is named.
    architectures: FAMILIES[host].filter((one) => one === host || asked.includes(one)),
    rules: syscalls.flatMap((call) => rulesOf(call, defaultAction)),
    lastKnown: isOpen(defaultAction) ? undefined : syscalls.flatMap(({ names }) => names),
  };
}

/** New calls are for the program, or a tracer, to use: "not there" would be a restriction. */
function isOpen(action: number): boolean {
  const open = [RETURN.allow, RETURN.log, RETURN.errno | ENOSYS] as readonly number[];
  return open.includes(action) || (action & 0xffff0000) === RETURN.trace;
}

function rulesOf(
  { names, action: actionName, errnoRet, args = [] }: NonNullable<OciSeccomp['syscalls']>[number],
  defaultAction: number,
): readonly FilterRule[] {
  if (names.some((name) => name === '')) throw invalid('a syscall has an empty name');
  const action = actionOf(actionName, errnoRet);
  if (action === RETURN.notify && names.includes('write')) {
    // The launcher itself writes that the filter is there.
    throw invalid('SCMP_ACT_NOTIFY cannot be used for the write syscall');
  }
  const tests = args.map(testOf);
  if (action === defaultAction) return [];
  const indexes = new Set(tests.map(({ index }) => index));
  if (indexes.size === tests.length) return [{ names, action, tests }];
  // Of tests on one argument, one is enough: what libseccomp's users have always made of it.
  return tests.map((test) => ({ names, action, tests: [test] }));
}

function actionOf(name: string, errnoRet: number | undefined): number {
  const action = find(ACTIONS, name, 'action');
  const takesErrno = action === RETURN.errno || action === RETURN.trace;
  if (!takesErrno) {
    if (errnoRet === undefined) return action;
    throw invalid(`${name} takes no errnoRet`);
  }
  const most = action === RETURN.errno ? ERRNO_MAX : MESSAGE_MAX;
  const value = errnoRet ?? EPERM;
  if (Number.isInteger(value) && value >= 0 && value <= most) return action | value;
  throw invalid(`errnoRet ${value} is out of range: 0 to ${most}`);
}

function testOf({ index, value, valueTwo = 0, op }: OciSeccompArgument): ArgumentTest {
  if (!Number.isInteger(index) || index < 0 || index >= ARGUMENTS) {
    throw invalid(`argument ${index} is out of range: 0 to ${ARGUMENTS - 1}`);
  }
  const is = find(OPERATORS, op, 'operator');
  if (is === 'masked') return { index, is, mask: toWord(value), value: toWord(valueTwo) };
  return { index, is, value: toWord(value) };
}

const WORD_MAX = 2n ** 64n - 1n;

/** A double near 2^64 stands for all bits set. */
function toWord(value: number | bigint): bigint {
  if (typeof value === 'number' && !Number.isInteger(value)) {
    throw invalid(`value ${value} is no whole number`);
  }
  const word = BigInt(value);
  if (word < 0n) return BigInt.asUintN(64, word);
  return word > WORD_MAX ? WORD_MAX : word;
}

function find<T>(table: Readonly<Record<string, T>>, name: string, what: string): T {
  if (Object.hasOwn(table, name)) return table[name];
  throw invalid(`"${name}" is no ${what}: ${Object.keys(table).join(', ')}`);
}

function invalid(message: string): SwarmError {
  return new SwarmError('invalid', `seccomp: ${message}`);
}
