/**
 * Docker runs its containers with tsswarm-oci in the place of runc: a foreground program with its
 * terminal and exit code, a detached one that is entered, paused, limited and stopped.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { type Dockerd, type Dockerds, hasDockerd, startDockerds } from '../support/dockerd.ts';

const IMAGE = 'oci-box';
const skip = !hasDockerd() && 'there is no dockerd';
let daemons: Dockerds | undefined;
const dir = mkdtempSync(join(tmpdir(), 'oci-docker-'));

function docker(...args: string[]): Promise<string> {
  const [host] = daemons?.hosts ?? [];
  assert.ok(host !== undefined);
  return (host as Dockerd).docker(...args);
}

before(async () => {
  if (skip !== false) return;
  daemons = await startDockerds(1, [
    ...['--add-runtime', `tsswarm=${resolve('dist/tsswarm-oci')}`],
    ...['--default-runtime', 'tsswarm', '--iptables=false', '--bridge=none'],
  ]);
  const script = join(dir, 'busybox.tar');
  execFileSync(resolve('test/oci/images'), [dir]);
  await docker('import', script, IMAGE);
});

after(async () => {
  await daemons?.stop();
  rmSync(dir, { recursive: true, force: true });
});

test('run in the foreground, with what Docker asks of a container', { skip }, async () => {
  const options = ['--rm', '--network', 'none', '--read-only', '--tmpfs', '/tmp', '-e', 'A=b'];
  const limits = ['--memory', '64m', '--pids-limit', '50', '--cpus', '0.5', '--user', '5:6'];
  const program = ['sh', '-c', 'id -u; id -g; echo $A; cat /proc/1/comm; hostname'];
  const out = await docker('run', ...options, ...limits, '--hostname', 'box', IMAGE, ...program);
  assert.equal(out, '5\n6\nb\nsh\nbox\n');
  await assert.rejects(docker('run', '--rm', '--network', 'none', IMAGE, 'not-there'), /not-there/);
});

test('a detached container is entered, paused, limited and stopped', { skip }, async () => {
  const id = (await docker('run', '-d', '--network', 'none', IMAGE, 'sleep', '1000')).trim();
  assert.equal(await docker('exec', id, 'cat', '/proc/1/comm'), 'sleep\n');
  assert.match(
    await docker('exec', '-e', 'X=y', '-u', '7', id, 'sh', '-c', 'id -u; echo $X'),
    /^7\ny$/m,
  );
  await docker('pause', id);
  assert.equal((await docker('inspect', '-f', '{{.State.Status}}', id)).trim(), 'paused');
  await docker('unpause', id);
  await docker('update', '--pids-limit', '33', id);
  assert.match(await docker('top', id), /sleep 1000/);
  await docker('kill', id);
  assert.equal((await docker('wait', id)).trim(), '137');
  await docker('rm', id);
});

test('a seccomp profile of the user’s is applied', { skip }, async () => {
  writeFileSync(
    join(dir, 'profile.json'),
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]}',
  );
  const profile = ['--security-opt', `seccomp=${join(dir, 'profile.json')}`];
  const args = [
    'run',
    '--rm',
    '--network',
    'none',
    ...profile,
    IMAGE,
    'sh',
    '-c',
    'mkdir /x || echo no',
  ];
  assert.equal(await docker(...args), 'no\n');
});
