/**
 * Podman, and the conmon it puts beside each container, with tsswarm-oci as their runtime:
 * programs and their exit codes, terminals, entering, pausing, logs, limits, mapped users and pods.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { type EngineRoom, openEngineRoom } from '../support/engineRoom.ts';
import { until } from '../support/until.ts';

const skip = !existsSync('/usr/bin/podman') && 'there is no podman: deploy/setup --engines';
const RUNTIME = resolve('dist/tsswarm-oci');
const WAIT_MS = 60_000;
let room: EngineRoom | undefined;
let flags: readonly string[] = [];

function podman(...args: string[]): Promise<string> {
  assert.ok(room !== undefined);
  return room.must('podman', ...flags, ...args);
}

async function exitCode(...args: string[]): Promise<number> {
  assert.ok(room !== undefined);
  return (await room.run('podman', ...flags, ...args)).code;
}

before(async () => {
  if (skip !== false) return;
  room = await openEngineRoom('oci-podman');
  const { dir } = room;
  const place = (name: string): string => join(dir, name);
  flags = [
    ...['--root', place('root'), '--runroot', place('run'), '--tmpdir', place('tmp')],
    ...['--cgroup-manager', 'cgroupfs', '--events-backend', 'none', '--runtime', RUNTIME],
  ];
  writeFileSync(place('etc/policy.json'), '{"default":[{"type":"insecureAcceptAnything"}]}');
  execFileSync(resolve('test/oci/images'), [dir]);
  await podman('import', place('busybox.tar'), 'box');
});

after(async () => await room?.close());

test('programs in the foreground, with options and exit codes', { skip }, async () => {
  const options = ['--rm', '--network', 'none', '--read-only', '--tmpfs', '/t', '-e', 'A=b'];
  const limits = ['--memory', '64m', '--pids-limit', '40', '--cpus', '0.5', '--user', '5:6'];
  const more = ['--ulimit', 'nofile=99:100', '--sysctl', 'net.ipv4.ip_forward=1'];
  const script =
    'id -u; id -g; echo $A; cat /proc/1/comm /proc/sys/net/ipv4/ip_forward; ulimit -n; ' +
    'grep -w Seccomp: /proc/self/status; touch /t/x; touch /x || exit 9';
  const all = [...options, ...limits, ...more, 'box', 'sh', '-c', script];
  const { code, stdout } = await (room as EngineRoom).run('podman', ...flags, 'run', ...all);
  assert.equal(stdout, '5\n6\nb\nsh\n1\n99\nSeccomp:\t2\n');
  assert.equal(code, 9);
  assert.equal(await exitCode('run', '--rm', '--network', 'none', 'box', 'not-there'), 127);
  assert.equal(await exitCode('run', '--rm', '--network', 'none', 'box', '/tmp'), 126);
  const mapped = ['--uidmap', '0:100000:65536', 'box', 'cat', '/proc/self/uid_map'];
  const map = await podman('run', '--rm', '--network', 'none', ...mapped);
  assert.deepEqual(map.trim().split(/\s+/), ['0', '100000', '65536']);
});

test('terminals go through conmon', { skip }, async () => {
  const run = ['podman', ...flags, 'run', '--rm', '-t', '--network', 'none', 'box', 'tty'];
  assert.match(
    await (room as EngineRoom).must('script', '-qec', run.join(' '), '/dev/null'),
    /pts/,
  );
});

test('a detached one is entered, paused, stopped, read and started again', { skip }, async () => {
  const loop = 'trap "echo bye; exit 3" TERM; echo hi; while :; do sleep 0.1; done';
  const options = ['--name', 'a', '--network', 'none', '--pids-limit', '40'];
  await podman('run', '-d', ...options, 'box', 'sh', '-c', loop);
  assert.equal(await podman('exec', 'a', 'cat', '/proc/1/comm'), 'sh\n');
  const inside = ['-e', 'X=y', '-u', '7', '-w', '/tmp', 'a', 'sh', '-c', 'id -u; echo $X; pwd'];
  assert.equal(await podman('exec', ...inside), '7\ny\n/tmp\n');
  assert.equal(await exitCode('exec', 'a', 'sh', '-c', 'exit 9'), 9);
  await podman('pause', 'a');
  assert.equal(await podman('inspect', '-f', '{{.State.Status}}', 'a'), 'paused\n');
  await podman('unpause', 'a');
  assert.match(await podman('top', 'a'), /trap "echo bye/);
  assert.match(await podman('stats', '--no-stream', '--format', '{{.PIDs}}', 'a'), /^[12]\n$/);
  await until('it has said hi', WAIT_MS, async () =>
    (await podman('logs', 'a')) === 'hi\n' ? true : undefined,
  );
  await podman('stop', '-t', '60', 'a');
  const state = ['inspect', '-f', '{{.State.Status}} {{.State.ExitCode}}', 'a'];
  assert.equal(await podman(...state), 'exited 3\n');
  assert.equal(await podman('logs', 'a'), 'hi\nbye\n');
  await podman('start', 'a');
  await podman('kill', 'a');
  assert.equal(await podman('wait', 'a'), '137\n');
  await podman('rm', 'a');
});

test('a pod’s containers share what its first one holds', { skip }, async () => {
  const infra = ['--infra-image', 'box', '--infra-command', 'sleep 1000'];
  await podman('pod', 'create', '--name', 'p', '--network', 'none', ...infra);
  await podman('run', '-d', '--pod', 'p', '--name', 'one', 'box', 'sleep', '1000');
  const script = 'for kind in net ipc uts; do readlink /proc/self/ns/$kind; done';
  const look = ['box', 'sh', '-c', script];
  const spaces = await podman('run', '--rm', '--pod', 'p', ...look);
  assert.equal(await podman('exec', 'one', ...look.slice(1)), spaces);
  const others = await podman('run', '--rm', '--network', 'none', ...look);
  for (const line of others.trim().split('\n')) assert.ok(!spaces.includes(line));
  await podman('pod', 'pause', 'p');
  assert.equal(await podman('inspect', '-f', '{{.State.Status}}', 'one'), 'paused\n');
  await podman('pod', 'unpause', 'p');
  await podman('pod', 'kill', 'p');
  await podman('pod', 'rm', '-f', 'p');
  assert.equal(await podman('ps', '-aq'), '');
});
