/** The device program of a cgroup v2 group in use is exchanged for another, at once. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { replaceDeviceProgram } from '../../runtime/sys/deviceProgram.ts';
import { deviceProgram } from '../../runtime/sys/deviceRules.ts';
import type { DeviceAccess } from '../../runtime/sys/resources.ts';

const NONE: DeviceAccess = { allow: false, access: 'rwm' };
/** Numbers no driver has: what is allowed there finds nothing, instead of being refused. */
const [FIRST, SECOND] = [12, 13];

function rule(minor: number, access: string): DeviceAccess {
  return { allow: true, type: 'c', major: 1, minor, access };
}

test('the rules of a group are those given last, for processes that are there', (t) => {
  const mount = /^\S+ (\S+) cgroup2 /m.exec(readFileSync('/proc/mounts', 'utf8'))?.[1];
  if (mount === undefined) return t.skip('this host has no cgroup v2 mount');
  const group = join(mount, `tsswarm-devices-${process.pid}`);
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-devices-'));
  const device = (minor: number): string => join(directory, String(minor));
  const opened = (minor: number, way: '<' | '>'): string => {
    const script = `echo 0 > ${group}/cgroup.procs && : ${way} ${device(minor)}`;
    const { stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
    if (/No such device or address/i.test(stderr)) return 'allowed';
    return /Operation not permitted|cannot (open|create)/.test(stderr) ? 'refused' : stderr;
  };
  const all = (): readonly string[] =>
    [FIRST, SECOND].flatMap((minor) => [opened(minor, '<'), opened(minor, '>')]);
  mkdirSync(group);
  try {
    for (const minor of [FIRST, SECOND]) {
      execFileSync('mknod', [device(minor), 'c', '1', String(minor)]);
    }
    const replaced = (...rules: readonly DeviceAccess[]): readonly string[] => {
      replaceDeviceProgram(group, deviceProgram(rules));
      return all();
    };
    const [yes, no] = ['allowed', 'refused'];
    assert.deepEqual(replaced(NONE, rule(FIRST, 'rw')), [yes, yes, no, no]);
    assert.deepEqual(replaced(NONE, rule(FIRST, 'r'), rule(SECOND, 'w')), [yes, no, no, yes]);
    assert.deepEqual(replaced({ allow: true, access: 'rwm' }), [yes, yes, yes, yes]);
    assert.deepEqual(replaced(NONE), [no, no, no, no]);
    assert.throws(() => replaceDeviceProgram(group, new Uint8Array(8)), /cannot load the device r/);
    assert.deepEqual(all(), [no, no, no, no]);
    assert.throws(
      () => replaceDeviceProgram(directory, deviceProgram([NONE])),
      /cannot attach the device rules/,
    );
  } finally {
    rmdirSync(group);
    rmSync(directory, { recursive: true });
  }
});
