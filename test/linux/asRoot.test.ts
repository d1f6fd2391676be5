/**
 * The commands a user types, typed by someone who is not root: they go on through sudo where there
 * is one, and say what is wanted where there is none. Needs root only to become someone else.
 */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { TOP } from '../tidy/sources.ts';

const NOBODY = 65534;
const COMMANDS = [
  'deploy/quickstart',
  'deploy/lab',
  'deploy/install',
  'deploy/setup',
  'test/run',
  'test/bench/run',
];

let copy = '';

before(() => {
  copy = mkdtempSync(join(tmpdir(), 'tsswarm-script-'));
  chmodSync(copy, 0o755);
  for (const name of [...COMMANDS, 'deploy/as-root']) {
    mkdirSync(join(copy, dirname(name)), { recursive: true });
    cpSync(join(TOP, name), join(copy, name));
  }
  mkdirSync(join(copy, 'bin'));
  for (const tool of ['dirname', 'id', 'env']) {
    const line = `#!/bin/sh\nexec /usr/bin/${tool} "$@"\n`;
    writeFileSync(join(copy, 'bin', tool), line, { mode: 0o755 });
  }
});

after(() => {
  rmSync(copy, { recursive: true, force: true });
});

function asNobody(command: string, ...args: string[]): SpawnSyncReturns<string> {
  return spawnSync('/bin/sh', ['-c', `"$0" "$@"`, command, ...args], {
    cwd: join(copy, 'deploy'),
    uid: NOBODY,
    gid: NOBODY,
    encoding: 'utf8',
    env: { PATH: join(copy, 'bin'), TSSWARM_LAB: 'mine' },
  });
}

test('without sudo each command says that it needs root, and does nothing', () => {
  for (const command of COMMANDS) {
    const { status, stdout, stderr } = asNobody(`../${command}`, 'up');
    const why = 'this needs root (namespaces, cgroups, mounts): run it as root, or install sudo';
    assert.equal(stderr, `../${command}: ${why}\n`);
    assert.deepEqual([status, stdout], [1, '']);
  }
});

test('with sudo each command goes on through it, with its arguments, PATH and lab', () => {
  const sudo = join(copy, 'bin', 'sudo');
  writeFileSync(sudo, '#!/bin/sh\necho "sudo $*"\n', { mode: 0o755 });
  for (const command of COMMANDS) {
    const { status, stdout } = asNobody(`../${command}`, 'up');
    const kept = `--preserve-env=CI,TSSWARM_LAB env PATH=${join(copy, 'bin')}`;
    assert.equal(stdout, `sudo ${kept} ../${command} up\n`);
    assert.equal(status, 0);
  }
});
