/** A user's own seccomp profile in force: real programs are refused, killed or let through by it. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { DEFAULT_PROFILE } from '../../runtime/container/seccompProfile.ts';
import type { ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { exec } from '../support/probeExec.ts';
import { makeTestHost, outputOf, runToEnd, started } from '../support/rootfs.ts';

const host = makeTestHost('seccomp');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

const under = (profile: object, args: readonly string[]): ContainerConfig =>
  host.config(['/bin/probe', ...args], { seccomp: { profile: JSON.stringify(profile) } });

const calls = async (profile: object, ...names: readonly string[]): Promise<readonly string[]> =>
  (await outputOf(table, under(profile, ['call', ...names]))).split('\n');

const ARCHITECTURES = ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'];

test('a profile refuses calls with its own errors, by their arguments, and lets others through', async () => {
  const profile = {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: ARCHITECTURES,
    syscalls: [
      { names: ['keyctl'], action: 'SCMP_ACT_ERRNO', errnoRet: 100 },
      { names: ['clone3', 'no_such_call'], action: 'SCMP_ACT_LOG' },
      {
        names: ['socket'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: 13,
        args: [
          { index: 0, value: 30, op: 'SCMP_CMP_GE' },
          { index: 1, value: 0xf, valueTwo: 5, op: 'SCMP_CMP_MASKED_EQ' },
        ],
      },
    ],
  };
  const [keyctl, alg, inet] = await calls(profile, 'keyctl', 'alg', 'inet');
  assert.deepEqual(
    [keyctl, alg, inet],
    ['keyctl: Network is down', 'alg: Permission denied', 'inet: allowed'],
  );
});

test('what a profile of permissions does not name is refused, what is younger is unknown', async () => {
  const profile = {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 6,
    archMap: [{ architecture: ARCHITECTURES[0], subArchitectures: ARCHITECTURES.slice(1) }],
    syscalls: [
      { names: DEFAULT_PROFILE[0].names.split(' '), action: 'SCMP_ACT_ALLOW' },
      { names: ['clone', 'socket', 'arch_prctl'], action: 'SCMP_ACT_ALLOW' },
      { names: ['mount'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
    ],
  };
  assert.deepEqual(await calls(profile, 'keyctl', 'mount', 'young', 'inet'), [
    'keyctl: No such device or address',
    'mount: No such device or address',
    'young: Function not implemented',
    'inet: allowed',
  ]);
});

test('a profile kills who makes a call, also in a further program', async () => {
  const profile = (action: string): object => ({
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['keyctl'], action }],
  });
  for (const action of ['SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_KILL', 'SCMP_ACT_TRAP']) {
    const { container } = await runToEnd(table, under(profile(action), ['call', 'keyctl']));
    assert.deepEqual([container.exit?.signal, container.exit?.exitCode], [31, 159], action);
  }
  const container = await started(table, under(profile('SCMP_ACT_KILL_PROCESS'), ['sleep', '60']));
  const one = await container.exec(exec(['call', 'keyctl']));
  one.streams.stdout.resume();
  one.streams.stderr.resume();
  assert.equal(await one.wait(), 159);
  await container.remove();
});

test('a profile that cannot be is refused before anything is made', async () => {
  await assert.rejects(table.create(under({ defaultAction: 'NO' }, ['x'])), /"NO" is no action/);
  const listening = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['mkdir'], action: 'SCMP_ACT_NOTIFY' }],
  };
  await assert.rejects(table.create(under(listening, ['x'])), /nobody listens/);
});
