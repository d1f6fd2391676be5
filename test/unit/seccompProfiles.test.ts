/**
 * Seccomp profiles as users give them: Docker's files with rules for some hosts only, and an OCI
 * configuration's. What is not understood is refused by its name.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Capability, effectiveCapabilities } from '../../runtime/container/capabilities.ts';
import { type ProfileHost, readProfile } from '../../runtime/container/seccompFile.ts';
import { compileSeccomp, type OciSeccomp } from '../../runtime/container/seccompOci.ts';
import { callNumbers } from '../../runtime/container/syscalls.ts';
import { AUDIT, bpfMachine } from '../support/classicBpf.ts';

const ALLOW = 0x7fff0000;
const errno = (code: number): number => 0x00050000 | code;

function host(kernel = '6.1.0-18-amd64', ...added: Capability[]): ProfileHost {
  return { architecture: 'x86_64', capabilities: effectiveCapabilities(added, []), kernel };
}

function outcome(seccomp: OciSeccomp, name: string, ...args: bigint[]): number {
  const number = callNumbers('x86_64').get(name) ?? assert.fail(name);
  return bpfMachine(compileSeccomp(seccomp, 'x86_64').program)({
    audit: AUDIT.x86_64,
    number,
    args,
  });
}

const PROFILE = {
  defaultAction: 'SCMP_ACT_ERRNO',
  defaultErrnoRet: 13,
  archMap: [
    {
      architecture: 'SCMP_ARCH_X86_64',
      subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
  ],
  syscalls: [
    { names: ['read', 'futex_waitv'], action: 'SCMP_ACT_ALLOW', comment: '' },
    { name: 'write', action: 'SCMP_ACT_ALLOW', args: [] },
    { names: ['mount'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
    {
      names: ['umount2'],
      action: 'SCMP_ACT_ERRNO',
      errnoRet: 5,
      excludes: { caps: ['CAP_SYS_ADMIN'] },
    },
    { names: ['ptrace'], action: 'SCMP_ACT_ALLOW', includes: { minKernel: '4.8' } },
    { names: ['kcmp'], action: 'SCMP_ACT_ALLOW', excludes: { minKernel: '6.0' } },
    { names: ['arch_prctl'], action: 'SCMP_ACT_ALLOW', includes: { arches: ['amd64', 'x32'] } },
    { names: ['getcpu'], action: 'SCMP_ACT_ALLOW', excludes: { arches: ['amd64'] } },
    {
      names: ['socket'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ' }],
    },
  ],
};

test('a rule of a profile file is there on the hosts and for the capabilities it names', () => {
  const read = (on: ProfileHost): OciSeccomp =>
    readProfile(JSON.stringify(PROFILE), on) ?? assert.fail('empty');
  const plain = read(host());
  assert.deepEqual(plain.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
  for (const name of ['read', 'write', 'ptrace', 'arch_prctl']) {
    assert.equal(outcome(plain, name), ALLOW, name);
  }
  for (const name of ['mount', 'kcmp', 'getcpu', 'mkdir']) {
    assert.equal(outcome(plain, name), errno(13), name);
  }
  assert.equal(outcome(plain, 'umount2'), errno(5));
  assert.deepEqual(
    [outcome(plain, 'socket', 1n), outcome(plain, 'socket', 2n)],
    [ALLOW, errno(13)],
  );
  // Younger than all it names: as unknown as to an older kernel.
  assert.equal(outcome(plain, 'cachestat'), errno(38));
  const admin = read(host('5.10.0', 'SYS_ADMIN'));
  assert.deepEqual([outcome(admin, 'mount'), outcome(admin, 'umount2')], [ALLOW, errno(13)]);
  assert.equal(outcome(admin, 'kcmp'), ALLOW);
  assert.equal(outcome(read(host('4.4.0')), 'ptrace'), errno(13));
});

test('a profile that says nothing filters nothing', () => {
  assert.equal(readProfile('{}', host()), undefined);
});

const WRONG: readonly [unknown, RegExp][] = [
  ['nonsense', /no JSON/],
  [[], /the profile is no object/],
  [{ defaultAction: 7 }, /defaultAction is no text/],
  [{ ...PROFILE, architectures: ['SCMP_ARCH_X86'] }, /'architectures' and 'archMap'/],
  [{ ...PROFILE, syscalls: {} }, /syscalls is no list/],
  [{ ...PROFILE, syscalls: [{ name: 'a', names: ['b'], action: 'x' }] }, /'name' and 'names'/],
  [
    { ...PROFILE, syscalls: [{ names: ['a'], includes: { minKernel: 'new' } }] },
    /"new" is no kernel version/,
  ],
  [{ ...PROFILE, syscalls: [{ names: ['a'], args: [{ index: 'x' }] }] }, /args\[0\].index is no/],
  [{ ...PROFILE, listenerPath: '/x' }, /listenerPath is not supported/],
];

for (const [profile, why] of WRONG) {
  test(`a profile file is refused: ${why.source}`, () => {
    const text = typeof profile === 'string' ? profile : JSON.stringify(profile);
    assert.throws(() => readProfile(text, host()), why);
  });
}

const REFUSED: readonly [Partial<OciSeccomp>, RegExp][] = [
  [{ defaultAction: 'ALLOW' }, /"ALLOW" is no action: SCMP_ACT_KILL/],
  [{ defaultAction: 'SCMP_ACT_NOTIFY' }, /cannot be used as default action/],
  [{ defaultErrnoRet: 3 }, /SCMP_ACT_ALLOW takes no errnoRet/],
  [{ architectures: ['amd64'] }, /"amd64" is no architecture/],
  [{ flags: ['TSYNC'] }, /"TSYNC" is no flag: SECCOMP_FILTER_FLAG_TSYNC/],
  [{ listenerMetadata: 'x' }, /listenerMetadata needs a listenerPath/],
  [
    { syscalls: [{ names: ['write'], action: 'SCMP_ACT_NOTIFY' }] },
    /SCMP_ACT_NOTIFY cannot be used for the write syscall/,
  ],
  [{ syscalls: [{ names: ['read'], action: 'SCMP_ACT_ERRNO', errnoRet: 5000 }] }, /0 to 4095/],
  [{ syscalls: [{ names: [''], action: 'SCMP_ACT_ERRNO' }] }, /a syscall has an empty name/],
  [
    {
      syscalls: [
        { names: ['read'], action: 'SCMP_ACT_TRAP', args: [{ index: 6, value: 0, op: 'x' }] },
      ],
    },
    /argument 6 is out of range/,
  ],
  [
    {
      syscalls: [
        { names: ['read'], action: 'SCMP_ACT_TRAP', args: [{ index: 0, value: 0, op: '==' }] },
      ],
    },
    /"==" is no operator/,
  ],
];

for (const [seccomp, why] of REFUSED) {
  test(`an OCI profile is refused: ${why.source}`, () => {
    assert.throws(
      () => compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', ...seccomp }, 'x86_64'),
      why,
    );
  });
}

test('flags, a listener and architectures of other machines are told from each other', () => {
  const { flags, needsListener } = compileSeccomp(
    {
      defaultAction: 'SCMP_ACT_ALLOW',
      architectures: ['SCMP_ARCH_S390X', 'SCMP_ARCH_MIPS64N32', 'SCMP_ARCH_LOONGARCH64'],
      flags: ['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV'],
      syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }],
    },
    'x86_64',
  );
  assert.deepEqual([flags, needsListener], [2 | 32, true]);
});

test('each action and its number reach the kernel', () => {
  const actions: [string, number | undefined, number][] = [
    ['SCMP_ACT_KILL', undefined, 0],
    ['SCMP_ACT_KILL_THREAD', undefined, 0],
    ['SCMP_ACT_KILL_PROCESS', undefined, 0x80000000],
    ['SCMP_ACT_TRAP', undefined, 0x00030000],
    ['SCMP_ACT_ERRNO', undefined, errno(1)],
    ['SCMP_ACT_ERRNO', 100, errno(100)],
    ['SCMP_ACT_TRACE', undefined, 0x7ff00001],
    ['SCMP_ACT_TRACE', 7, 0x7ff00007],
    ['SCMP_ACT_LOG', undefined, 0x7ffc0000],
    ['SCMP_ACT_NOTIFY', undefined, 0x7fc00000],
  ];
  for (const [action, errnoRet, value] of actions) {
    const call = { names: ['mkdir'], action, ...(errnoRet === undefined ? {} : { errnoRet }) };
    const seccomp = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [call] };
    assert.equal(outcome(seccomp, 'mkdir'), value, action);
    assert.equal(outcome(seccomp, 'rmdir'), ALLOW);
  }
});

test('on 32-bit x86 a refused socket is refused through socketcall, too', () => {
  const seccomp: OciSeccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ['SCMP_ARCH_X86'],
    syscalls: [{ names: ['socket', 'semget'], action: 'SCMP_ACT_ERRNO' }],
  };
  const machine = bpfMachine(compileSeccomp(seccomp, 'x86_64').program);
  const call = (name: string, first: bigint): number =>
    machine({ audit: AUDIT.i386, number: callNumbers('i386').get(name) ?? -1, args: [first] });
  assert.deepEqual(
    [call('socketcall', 1n), call('socketcall', 2n), call('socket', 2n)],
    [errno(1), ALLOW, errno(1)],
  );
  assert.deepEqual([call('ipc', 2n), call('ipc', 1n)], [errno(1), ALLOW]);
});

test('a profile that takes more than the kernel loads is refused', () => {
  const args = Array.from({ length: 6 }, (_, index) => {
    return { index, value: 2 ** 40 + index, op: 'SCMP_CMP_EQ' };
  });
  const names = [...callNumbers('x86_64').keys()];
  const syscalls = names.map((name) => ({ names: [name], action: 'SCMP_ACT_TRAP', args }));
  assert.throws(
    () => compileSeccomp({ defaultAction: 'SCMP_ACT_ALLOW', syscalls }, 'x86_64'),
    /instructions, the kernel takes 4096/,
  );
});

test('equal profiles are compiled once', () => {
  const make = (): OciSeccomp => ({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [] });
  assert.equal(compileSeccomp(make(), 'x86_64'), compileSeccomp(make(), 'x86_64'));
});
