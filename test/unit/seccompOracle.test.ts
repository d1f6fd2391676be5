/**
 * Our seccomp filters beside libseccomp's: both run on every architecture, every call number from 0
 * to 600 and numbers that are none, with arguments at and around what the rules compare with, for
 * Docker's default profile and for random ones.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { effectiveCapabilities } from '../../runtime/container/capabilities.ts';
import { compileProfile } from '../../runtime/container/seccomp.ts';
import { ENOSYS, type Operator, RETURN } from '../../runtime/container/seccompFilter.ts';
import {
  compileSeccomp,
  type OciSeccomp,
  type OciSeccompArgument,
} from '../../runtime/container/seccompOci.ts';
import { DEFAULT_PROFILE } from '../../runtime/container/seccompProfile.ts';
import {
  type Architecture,
  callNumbers,
  type HostArchitecture,
} from '../../runtime/container/syscalls.ts';
import { AUDIT, bpfMachine } from '../support/classicBpf.ts';
import { type OracleRule, oracleProgram, resolveCall } from '../support/libseccomp.ts';

const X32_BIT = 0x40000000;
const YOUNG = RETURN.errno | ENOSYS;
const LAST_NUMBER = 600;
/** No call on any architecture. */
const STRANGE = [5000, 0x3fffffff, 0x7fffffff, 0xfffffffe];

const ACTION_VALUES: Readonly<Record<string, number>> = {
  SCMP_ACT_KILL: RETURN.killThread,
  SCMP_ACT_KILL_PROCESS: RETURN.killProcess,
  SCMP_ACT_TRAP: RETURN.trap,
  SCMP_ACT_ERRNO: RETURN.errno,
  SCMP_ACT_TRACE: RETURN.trace,
  SCMP_ACT_LOG: RETURN.log,
  SCMP_ACT_NOTIFY: RETURN.notify,
  SCMP_ACT_ALLOW: RETURN.allow,
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
const OCI_ARCHITECTURES: Readonly<Record<Architecture, string>> = {
  x86_64: 'SCMP_ARCH_X86_64',
  i386: 'SCMP_ARCH_X86',
  x32: 'SCMP_ARCH_X32',
  aarch64: 'SCMP_ARCH_AARCH64',
  arm: 'SCMP_ARCH_ARM',
};

function returnOf(action: string, errno: number | undefined): number {
  const takesErrno = action === 'SCMP_ACT_ERRNO' || action === 'SCMP_ACT_TRACE';
  return ACTION_VALUES[action] | (takesErrno ? (errno ?? 1) : 0);
}

const unsigned = (value: number): number => value >>> 0;

/** As runc and crun hand an OCI configuration to libseccomp. */
function oracleRules(seccomp: OciSeccomp): readonly OracleRule[] {
  return (seccomp.syscalls ?? []).flatMap(({ names, action, errnoRet, args = [] }) => {
    const value = returnOf(action, errnoRet);
    const parts = args.map(({ index, value: first, valueTwo = 0, op }) => {
      return { index, is: OPERATORS[op], first: BigInt(first), second: BigInt(valueTwo) };
    });
    const isRepeated = new Set(parts.map(({ index }) => index)).size < parts.length;
    return names.flatMap((name): OracleRule[] =>
      isRepeated
        ? parts.map((part) => ({ name, action: value, args: [part] }))
        : [{ name, action: value, args: parts }],
    );
  });
}

/** The largest number the rules name, above which calls are unknown rather than refused. */
function lastNamed(seccomp: OciSeccomp, architecture: Architecture): number {
  const numbers = (seccomp.syscalls ?? [])
    .flatMap(({ names }) => names.map((name) => callNumbers(architecture).get(name) ?? -1))
    .filter((number) => number >= 0 && number < X32_BIT + LAST_NUMBER)
    .filter((number) => architecture !== 'arm' || number < 0xf0000);
  return numbers.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...numbers);
}

/** What the default profile knows: to removexattrat, and x32's own to pwritev2. */
const LAST_OF_PROFILE: Readonly<Record<Architecture, number>> = {
  x86_64: 466,
  i386: 466,
  x32: X32_BIT + 547,
  aarch64: 466,
  arm: 466,
};

interface Comparison {
  readonly ours: Uint8Array;
  readonly theirs: Uint8Array;
  readonly architectures: readonly Architecture[];
  readonly samples: readonly (readonly bigint[])[];
  /** Of the other calls two samples show enough. */
  readonly takesAll: (architecture: Architecture, number: number) => boolean;
  /** What the oracle's answer is to be instead. */
  readonly adjust: (architecture: Architecture, number: number, theirs: number) => number;
}

/** How many calls were compared. */
function compare({ ours, theirs, architectures, samples, takesAll, adjust }: Comparison): number {
  const [own, oracle] = [bpfMachine(ours), bpfMachine(theirs)];
  let compared = 0;
  for (const architecture of architectures) {
    const start = architecture === 'x32' ? X32_BIT : 0;
    const numbers = Array.from({ length: LAST_NUMBER + 1 }, (_, at) => start + at);
    if (architecture === 'arm') numbers.push(0xf0001, 0xf0002, 0xf0005);
    for (const number of numbers) {
      for (const args of takesAll(architecture, number) ? samples : samples.slice(0, 2)) {
        const call = { audit: AUDIT[architecture], number, args };
        const wanted = unsigned(adjust(architecture, number, oracle(call)));
        const got = own(call);
        if (got !== wanted) {
          assert.fail(
            `${architecture} ${number} (${args.join()}): ${got.toString(16)} instead of ` +
              wanted.toString(16),
          );
        }
        compared += 1;
      }
    }
  }
  return compared;
}

const FAMILIES: Readonly<Record<HostArchitecture, readonly Architecture[]>> = {
  x86_64: ['x86_64', 'i386', 'x32'],
  aarch64: ['aarch64', 'arm'],
};

test("Docker's default profile decides as libseccomp's filter of the same rules", () => {
  const sets = [
    effectiveCapabilities([], []),
    effectiveCapabilities(['ALL'], []),
    effectiveCapabilities([], ['ALL']),
    effectiveCapabilities(['SYS_ADMIN', 'BPF'], []),
  ];
  const samples = [
    ...[0n, 1n, 8n, 37n, 38n, 39n, 40n, 41n, 0x20000n, 0x20008n, 0xffffffffn],
    ...[0x10000n, 0x20000n, 0x2000000n, 0x7e020000n, 0x3d0f00n],
  ].map((value) => [value]);
  for (const host of ['x86_64', 'aarch64'] as const) {
    for (const capabilities of sets) {
      const rules = DEFAULT_PROFILE.filter(
        (rule) =>
          (rule.host === undefined || rule.host === host) &&
          (rule.with === undefined || capabilities.has(rule.with)) &&
          (rule.without === undefined || !capabilities.has(rule.without)),
      );
      const always = new Set(
        rules
          .filter(({ tests, errno }) => tests === undefined && errno === undefined)
          .flatMap(({ names: some }) => some.split(' ')),
      );
      const theirs = oracleProgram(
        RETURN.errno | 1,
        FAMILIES[host],
        rules.flatMap(({ names, tests, errno }): OracleRule[] =>
          names.split(' ').flatMap((name) => {
            const action = errno === undefined ? RETURN.allow : RETURN.errno | errno;
            if (tests === undefined) return [{ name, action, args: [] }];
            return tests.map(({ index, is, value, mask }) => {
              const [first, second] = is === 'masked' ? [mask ?? 0n, value] : [value, 0n];
              return { name, action, args: [{ index, is, first, second }] };
            });
          }),
        ),
      );
      const compared = compare({
        ours: compileProfile(DEFAULT_PROFILE, capabilities, host),
        theirs,
        architectures: FAMILIES[host],
        samples,
        takesAll: (architecture, number) =>
          /^(socket|socketcall|personality|clone)$/.test(nameOf(architecture, number) ?? ''),
        adjust: (architecture, number, answer) => {
          const name = nameOf(architecture, number);
          // Calls younger than the profile are refused there, here they are unknown.
          if (number > LAST_OF_PROFILE[architecture] && !always.has(name ?? '')) return YOUNG;
          const isNew = name !== undefined && resolveCall(name, architecture) < 0;
          return isNew && always.has(name) ? RETURN.allow : answer;
        },
      });
      assert(compared > 2000, `${compared}`);
    }
  }
});

const names = new Map<Architecture, ReadonlyMap<number, string>>();

function nameOf(architecture: Architecture, number: number): string | undefined {
  let table = names.get(architecture);
  if (table === undefined) {
    table = new Map([...callNumbers(architecture)].map(([name, value]) => [value, name]));
    names.set(architecture, table);
  }
  return table.get(number);
}

const NAMES = [
  ...['read', 'write', 'openat', 'clone', 'mmap', 'mkdir', 'chown32', 'socket', 'bind', 'accept4'],
  ...['recvmmsg', 'send', 'semop', 'semget', 'shmat', 'msgsnd', 'execve', 'ioctl', 'futex_time64'],
  ...['clone3', 'set_tls', 'preadv', 'arch_prctl', 'fchmodat2', 'no_such_call', 'personality'],
];
/** Whose rules would be others' too on 32-bit x86. */
const UNCONDITIONAL = ['socketcall', 'ipc', 'fcntl', 'stat', 'prctl', 'mount', 'sendmmsg'];

const word = fc.oneof(
  fc.constantFrom(0n, 1n, 38n, 0xffffffffn, 0x1_0000_0000n, 0x1_0000_0026n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);
const argument = fc.record({
  index: fc.integer({ min: 0, max: 5 }),
  value: word,
  valueTwo: word,
  op: fc.constantFrom(...Object.keys(OPERATORS)),
});
const action = fc.constantFrom(...Object.keys(ACTION_VALUES));

function errnoFor(name: string, errno: number | undefined): { readonly errnoRet?: number } {
  const takesErrno = name === 'SCMP_ACT_ERRNO' || name === 'SCMP_ACT_TRACE';
  return takesErrno && errno !== undefined ? { errnoRet: errno } : {};
}

type Alternatives = readonly (readonly OciSeccompArgument[])[];

/** Rules with arguments have one action a call: which of two wins is libseccomp's own affair. */
function profiles(alternatives: fc.Arbitrary<Alternatives>): fc.Arbitrary<OciSeccomp> {
  const rule = fc.record({
    action,
    errno: fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined }),
    alternatives,
  });
  return fc
    .record({
      defaultAction: action.filter((name) => name !== 'SCMP_ACT_NOTIFY'),
      defaultErrno: fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined }),
      named: fc.shuffledSubarray([...NAMES, ...UNCONDITIONAL], { minLength: 1, maxLength: 20 }),
      rules: fc.array(rule, { minLength: 20, maxLength: 20 }),
    })
    .map(({ defaultAction, defaultErrno, named, rules }) => {
      const { errnoRet } = errnoFor(defaultAction, defaultErrno);
      return {
        defaultAction,
        ...(errnoRet === undefined ? {} : { defaultErrnoRet: errnoRet }),
        syscalls: named.flatMap((name, at) => {
          const { action: asked, errno, alternatives: all } = rules[at];
          const isWrite = asked === 'SCMP_ACT_NOTIFY' && name === 'write';
          const chosen = isWrite ? 'SCMP_ACT_TRAP' : asked;
          const base = { names: [name], action: chosen, ...errnoFor(chosen, errno) };
          if (UNCONDITIONAL.includes(name) || all.length === 0) return [base];
          return all.map((args) => ({ ...base, args }));
        }),
      };
    });
}

/**
 * What libseccomp 2.5 compiles right: one rule of tests on different arguments, or some that each
 * compare one argument for equality. Of others its program is not always what its own listing says.
 */
const oneRule = fc
  .uniqueArray(argument, { minLength: 1, maxLength: 3, selector: ({ index }) => index })
  .map((args) => [args]);
const equalities = fc
  .tuple(fc.integer({ min: 0, max: 5 }), fc.uniqueArray(word, { minLength: 1, maxLength: 4 }))
  .map(([index, values]) => values.map((value) => [{ index, value, op: 'SCMP_CMP_EQ' }]));
const simple = profiles(fc.oneof(oneRule, equalities, fc.constant([])));
const any = profiles(
  fc.array(fc.array(argument, { minLength: 1, maxLength: 3 }), { maxLength: 3 }),
);

/** Around every value, in every argument: none of them, all the same, one of them. */
function samplesOf(seccomp: OciSeccomp): readonly (readonly bigint[])[] {
  const last = 2n ** 64n - 1n;
  const samples: bigint[][] = [new Array<bigint>(6).fill(0n), new Array<bigint>(6).fill(last)];
  for (const { args = [] } of seccomp.syscalls ?? []) {
    const exact = new Array<bigint>(6).fill(0n);
    for (const { index, value, valueTwo = 0, op } of args) {
      const [first, second] = [BigInt(value), BigInt(valueTwo)];
      exact[index] = op === 'SCMP_CMP_MASKED_EQ' ? first & second : first;
    }
    samples.push(exact);
    for (const { index } of args) {
      for (const change of [1n, -1n, 1n << 32n]) {
        samples.push(exact.with(index, BigInt.asUintN(64, exact[index] + change)));
      }
    }
  }
  return samples;
}

/** What a profile says of a call, rule by rule, as the specification and runc read it. */
function byRules(
  seccomp: OciSeccomp,
  architecture: Architecture,
  number: number,
  args: readonly bigint[],
): number {
  const name = nameOf(architecture, number) ?? '';
  const isShort = architecture !== 'x86_64' && architecture !== 'aarch64';
  const defaultValue = returnOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
  const rules = (seccomp.syscalls ?? []).filter(
    ({ names: own, action: one, errnoRet }) =>
      own.includes(name) && returnOf(one, errnoRet) !== defaultValue,
  );
  const unconditional = rules.find(({ args: tests = [] }) => tests.length === 0);
  const found =
    unconditional ??
    rules.find(({ args: tests = [] }) => {
      const isRepeated = new Set(tests.map(({ index }) => index)).size < tests.length;
      const holds = (test: OciSeccompArgument): boolean => testHolds(test, args, isShort);
      return isRepeated ? tests.some(holds) : tests.every(holds);
    });
  return found === undefined ? defaultValue : returnOf(found.action, found.errnoRet);
}

function testHolds(
  { index, value, valueTwo = 0, op }: OciSeccompArgument,
  args: readonly bigint[],
  isShort: boolean,
): boolean {
  const cut = (word64: bigint): bigint => BigInt.asUintN(isShort ? 32 : 64, word64);
  const [left, first, second] = [cut(args[index]), cut(BigInt(value)), cut(BigInt(valueTwo))];
  switch (OPERATORS[op]) {
    case 'ne':
      return left !== first;
    case 'lt':
      return left < first;
    case 'le':
      return left <= first;
    case 'eq':
      return left === first;
    case 'ge':
      return left >= first;
    case 'gt':
      return left > first;
    case 'masked':
      return (left & first) === (second & first);
    default:
      return assert.fail(op);
  }
}

function prepare(
  seccomp: OciSeccomp,
  host: HostArchitecture,
  architectures: readonly Architecture[],
) {
  const defaultValue = returnOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
  const isOpen =
    [RETURN.allow, RETURN.log, YOUNG].includes(defaultValue) ||
    seccomp.defaultAction === 'SCMP_ACT_TRACE';
  const last = new Map(architectures.map((name) => [name, lastNamed(seccomp, name)]));
  const ruled = new Set((seccomp.syscalls ?? []).flatMap((one) => one.names));
  const { program } = compileSeccomp(
    { ...seccomp, architectures: architectures.map((name) => OCI_ARCHITECTURES[name]) },
    host,
  );
  return {
    program,
    isYoung: (architecture: Architecture, number: number): boolean =>
      !isOpen &&
      number > (last.get(architecture) ?? number) &&
      !ruled.has(nameOf(architecture, number) ?? ''),
    isRuled: (architecture: Architecture, number: number): boolean =>
      [...ruled, 'socketcall', 'ipc'].includes(nameOf(architecture, number) ?? ''),
  };
}

test('random profiles decide as the filters libseccomp makes of them', () => {
  let compared = 0;
  fc.assert(
    fc.property(
      simple,
      fc.constantFrom<HostArchitecture>('x86_64', 'aarch64'),
      fc.boolean(),
      (seccomp, host, isAlone) => {
        const architectures = isAlone ? [host] : FAMILIES[host];
        const { program, isYoung, isRuled } = prepare(seccomp, host, architectures);
        const defaultValue = returnOf(seccomp.defaultAction, seccomp.defaultErrnoRet);
        compared += compare({
          ours: program,
          theirs: oracleProgram(defaultValue, architectures, oracleRules(seccomp)),
          architectures: FAMILIES[host],
          samples: samplesOf(seccomp),
          takesAll: isRuled,
          adjust: (architecture, number, answer) =>
            isYoung(architecture, number) ? YOUNG : answer,
        });
      },
    ),
    { seed: 20261121, numRuns: 40, endOnFailure: true },
  );
  assert(compared > 50_000, `${compared}`);
});

test('random profiles decide as their rules read', () => {
  fc.assert(
    fc.property(any, fc.constantFrom<HostArchitecture>('x86_64', 'aarch64'), (seccomp, host) => {
      const { program, isYoung, isRuled } = prepare(seccomp, host, FAMILIES[host]);
      const machine = bpfMachine(program);
      const samples = samplesOf(seccomp);
      for (const architecture of FAMILIES[host]) {
        for (const [name, number] of callNumbers(architecture)) {
          // What reaches 32-bit x86's two is the oracle's matter.
          if (name === 'socketcall' || name === 'ipc') continue;
          const few = isRuled(architecture, number) ? samples : samples.slice(0, 1);
          for (const args of few) {
            const wanted = isYoung(architecture, number)
              ? YOUNG
              : byRules(seccomp, architecture, number, args);
            const got = machine({ audit: AUDIT[architecture], number, args });
            const call = `${architecture} ${name} (${args.join()})`;
            assert.equal(
              `${call}: ${got.toString(16)}`,
              `${call}: ${unsigned(wanted).toString(16)}`,
            );
          }
        }
      }
    }),
    { seed: 20261121, numRuns: 40, endOnFailure: true },
  );
});

test('numbers that are no calls never run anything, whoever compiles', () => {
  const seccomp: OciSeccomp = {
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    syscalls: [{ names: ['read', 'write'], action: 'SCMP_ACT_ALLOW' }],
  };
  const machine = bpfMachine(compileSeccomp(seccomp, 'x86_64').program);
  for (const audit of [...Object.values(AUDIT), 0, 0xffffffff]) {
    for (const number of STRANGE) {
      assert.notEqual(machine({ audit, number }), RETURN.allow);
    }
    assert.notEqual(machine({ audit, number: X32_BIT }), RETURN.allow);
  }
});
