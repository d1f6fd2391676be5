/**
 * The compiled seccomp filter, run in a small interpreter of classic BPF: what every architecture's
 * calls come to, checked against the profile call by call.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { effectiveCapabilities } from '../../runtime/container/capabilities.ts';
import { compileProfile } from '../../runtime/container/seccomp.ts';
import { DEFAULT_PROFILE, type SeccompRule } from '../../runtime/container/seccompProfile.ts';
import { type Architecture, callNumbers } from '../../runtime/container/syscalls.ts';
import { define } from '../../runtime/sys/libc.ts';
import { AUDIT, bpfMachine } from '../support/classicBpf.ts';

const ALLOW = 0x7fff0000;
const EPERM = 0x00050001;
const ENOSYS = 0x00050026;
const KILL = 0x80000000;
const none = effectiveCapabilities([], []);
const x86 = compileProfile(DEFAULT_PROFILE, none, 'x86_64');
const arm = compileProfile(DEFAULT_PROFILE, none, 'aarch64');

function programOf(architecture: Architecture): Uint8Array {
  return architecture === 'aarch64' || architecture === 'arm' ? arm : x86;
}

function outcome(architecture: Architecture, name: string, ...args: bigint[]): number {
  const number = callNumbers(architecture).get(name);
  assert(number !== undefined, `${name} on ${architecture}`);
  const program = programOf(architecture);
  return bpfMachine(program)({ audit: AUDIT[architecture], number, args });
}

function appliesTo(rule: SeccompRule, architecture: Architecture): boolean {
  return (
    (rule.with === undefined || none.has(rule.with)) &&
    (rule.without === undefined || !none.has(rule.without)) &&
    (rule.host === undefined || (rule.host === 'aarch64') === (programOf(architecture) === arm))
  );
}

test('each call of each architecture has the outcome that the profile says', () => {
  for (const architecture of ['x86_64', 'i386', 'x32', 'aarch64'] as const) {
    const allowed = new Set<string>();
    const conditional = new Set<string>();
    for (const rule of DEFAULT_PROFILE.filter((one) => appliesTo(one, architecture))) {
      const isConditional = rule.tests !== undefined || rule.errno !== undefined;
      for (const name of rule.names.split(' ')) (isConditional ? conditional : allowed).add(name);
    }
    const byNumber = new Map(
      [...callNumbers(architecture)].map(([name, number]) => [number, name]),
    );
    const start = architecture === 'x32' ? 0x40000000 : 0;
    const program = programOf(architecture);
    const run = bpfMachine(program);
    for (let number = start; number < start + 600; number += 1) {
      const name = byNumber.get(number) ?? '';
      if (conditional.has(name) && !allowed.has(name)) continue;
      const isYoung = number > (architecture === 'x32' ? start + 547 : 466);
      const expected = allowed.has(name) ? ALLOW : isYoung ? ENOSYS : EPERM;
      const got = run({ audit: AUDIT[architecture], number });
      assert(got === expected, `${architecture} ${number} ${name}: ${got.toString(16)}`);
    }
  }
});

test('call numbers are those of the kernel', () => {
  const known: [Architecture, string, number][] = [
    ['x86_64', 'read', 0],
    ['x86_64', 'execve', 59],
    ['x86_64', 'mount', 165],
    ['x86_64', 'clone3', 435],
    ['i386', 'execve', 11],
    ['i386', 'socketcall', 102],
    ['aarch64', 'execve', 221],
    ['aarch64', 'openat', 56],
    ['x32', 'execve', 0x40000000 + 520],
    ['x32', 'read', 0x40000000],
  ];
  for (const [architecture, name, number] of known) {
    assert.equal(callNumbers(architecture).get(name), number, `${architecture} ${name}`);
  }
});

test('sockets of all families but AF_ALG and AF_VSOCK are allowed', () => {
  for (const architecture of ['x86_64', 'i386', 'x32', 'aarch64'] as const) {
    for (let family = 0n; family < 50n; family += 1n) {
      const expected = family === 38n || family === 40n ? EPERM : ALLOW;
      assert.equal(outcome(architecture, 'socket', family), expected, `${architecture} ${family}`);
    }
    // The kernel takes an int: the high half must not be a way around.
    assert.equal(outcome(architecture, 'socket', (1n << 32n) + 38n), EPERM);
  }
});

test('clone may not make namespaces, and clone3 is unknown, so that threads still work', () => {
  const threadFlags = 0x3d0f00n;
  for (const architecture of ['x86_64', 'i386', 'aarch64'] as const) {
    assert.equal(outcome(architecture, 'clone', threadFlags), ALLOW);
    for (const flag of [0x20000n, 0x2000000n, 0x10000000n, 0x20000000n, 0x40000000n]) {
      assert.equal(outcome(architecture, 'clone', threadFlags | flag), EPERM, flag.toString(16));
    }
    assert.equal(outcome(architecture, 'clone3'), ENOSYS);
  }
});

test('personality is limited to five harmless values', () => {
  for (const value of [0n, 8n, 0x20000n, 0x20008n, 0xffffffffn]) {
    assert.equal(outcome('x86_64', 'personality', value), ALLOW);
  }
  for (const value of [1n, 0x40000n, 0x20009n]) {
    assert.equal(outcome('x86_64', 'personality', value), EPERM);
  }
});

test('capabilities open the calls that go with them', () => {
  const admin = effectiveCapabilities(['SYS_ADMIN', 'SYS_TIME'], []);
  const program = compileProfile(DEFAULT_PROFILE, admin, 'x86_64');
  const number = (name: string): number => callNumbers('x86_64').get(name) ?? -1;
  const names = ['mount', 'umount2', 'unshare', 'setns', 'bpf', 'clone3', 'clock_settime'];
  for (const name of names) {
    assert.equal(bpfMachine(program)({ audit: AUDIT.x86_64, number: number(name) }), ALLOW, name);
  }
  const newUser = { audit: AUDIT.x86_64, number: number('clone'), args: [0x10000000n] };
  assert.equal(bpfMachine(program)(newUser), ALLOW);
  assert.equal(bpfMachine(program)({ audit: AUDIT.x86_64, number: number('init_module') }), EPERM);
  const few = compileProfile(DEFAULT_PROFILE, effectiveCapabilities([], ['ALL']), 'x86_64');
  assert.equal(bpfMachine(few)({ audit: AUDIT.x86_64, number: number('chroot') }), EPERM);
  assert.equal(outcome('x86_64', 'chroot'), ALLOW);
});

test('a foreign architecture is killed, and numbers out of range are refused', () => {
  assert.equal(bpfMachine(x86)({ audit: AUDIT.aarch64, number: 0 }), KILL);
  assert.equal(bpfMachine(arm)({ audit: AUDIT.x86_64, number: 0 }), KILL);
  for (const number of [0x3fffffff, 0x7fffffff, 0xffffffff, 5000]) {
    assert.equal(bpfMachine(x86)({ audit: AUDIT.x86_64, number }), ENOSYS, number.toString(16));
  }
});

test('the filter stays small enough to load quickly', () => {
  assert(x86.length / 8 < 400, `${x86.length / 8} instructions`);
});

test('call numbers agree with libseccomp', () => {
  const resolve = define<(architecture: number, name: string) => number>(
    'libseccomp.so.2',
    'int seccomp_syscall_resolve_name_arch(uint32_t arch, const char *name)',
  );
  const tokens = { ...AUDIT, x32: 0x4000003e };
  for (const architecture of ['x86_64', 'i386', 'x32', 'aarch64', 'arm'] as const) {
    let compared = 0;
    for (const [name, number] of callNumbers(architecture)) {
      const theirs = resolve(tokens[architecture], name);
      // Negative: not known to that version, or one of i386's multiplexed socket calls.
      if (theirs < 0) continue;
      compared += 1;
      assert.equal(number, theirs, `${architecture} ${name}`);
    }
    assert(compared > 290, `${architecture}: ${compared}`);
  }
});
