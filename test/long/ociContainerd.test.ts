/**
 * containerd's shim for runc, told to call tsswarm-oci: programs, exit codes and terminals, entering,
 * pausing, limits, metrics and ending, through containerd's own client.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { type EngineRoom, openEngineRoom } from '../support/engineRoom.ts';
import { until } from '../support/until.ts';

const skip = !existsSync('/usr/bin/ctr') && 'there is no containerd: deploy/setup --engines';
const WAIT_MS = 60_000;
const IMAGE = 'docker.io/library/box:latest';
let room: EngineRoom | undefined;

function client(...args: string[]): readonly string[] {
  return ['ctr', '-a', join((room as EngineRoom).dir, 'sock'), ...args];
}

function ctr(...args: string[]): Promise<string> {
  return (room as EngineRoom).must(...client(...args));
}

function runtime(): readonly string[] {
  const root = join((room as EngineRoom).dir, 'oci');
  return ['--runc-binary', resolve('dist/tsswarm-oci'), '--runc-root', root];
}

before(async () => {
  if (skip !== false) return;
  room = await openEngineRoom('oci-ctr');
  const { dir } = room;
  const config = join(dir, 'config.toml');
  writeFileSync(
    config,
    `version = 2\nroot = "${dir}/root"\nstate = "${dir}/state"\n` +
      `disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${dir}/sock"\n`,
  );
  room.start('containerd', '-c', config);
  execFileSync(resolve('test/oci/images'), [dir]);
  const archive = join(dir, 'box.tar');
  const image = join(dir, 'image');
  mkdirSync(image);
  execFileSync('sh', ['-ec', ARCHIVE, 'archive', join(dir, 'busybox.tar'), image, archive]);
  await until('containerd answers', WAIT_MS, async () =>
    (await (room as EngineRoom).run(...client('version'))).code === 0 ? true : undefined,
  );
  await ctr('image', 'import', archive);
});

/** A docker archive of one layer. */
const ARCHIVE = `
cp "$1" "$2/layer.tar"
digest=$(sha256sum "$1" | cut -d" " -f1)
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \\
  "$(dpkg --print-architecture)" "$digest" >"$2/config.json"
printf '[{"Config":"config.json","RepoTags":["box:latest"],"Layers":["layer.tar"]}]' >"$2/manifest.json"
tar -C "$2" -cf "$3" layer.tar config.json manifest.json`;

after(async () => await room?.close());

test('programs in the foreground, with a terminal and with exit codes', { skip }, async () => {
  const options = ['--rm', ...runtime(), '--seccomp', '--env', 'A=b', IMAGE];
  const script = 'id -u; echo $A; cat /proc/1/comm; grep -w Seccomp: /proc/self/status; exit 4';
  const run = client('run', ...options, 'one', 'sh', '-c', script);
  const { code, stdout } = await (room as EngineRoom).run(...run);
  assert.equal(stdout, '0\nb\nsh\nSeccomp:\t2\n');
  assert.equal(code, 4);
  const missing = await (room as EngineRoom).run(...client('run', ...options, 'two', 'not-there'));
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /tsswarm-oci create failed: cannot run "not-there"/);
  const terminal = client('run', '--rm', '-t', ...runtime(), IMAGE, 'three', 'tty').join(' ');
  assert.match(await (room as EngineRoom).must('script', '-qec', terminal, '/dev/null'), /pts\/0/);
});

test('a detached one is entered, paused, limited, measured and ended', { skip }, async () => {
  const limits = ['--memory-limit', '67108864', '--cpus', '0.5'];
  await ctr('run', '-d', ...runtime(), ...limits, IMAGE, 'box', 'sleep', '1000');
  const exec = ['task', 'exec', '--exec-id', 'e1', '--user', '7', '--cwd', '/tmp', 'box'];
  const inside = await (room as EngineRoom).run(
    ...client(...exec, 'sh', '-c', 'id -u; pwd; cat /proc/1/comm; exit 9'),
  );
  assert.deepEqual([inside.stdout, inside.code], ['7\n/tmp\nsleep\n', 9]);
  await ctr('task', 'pause', 'box');
  assert.match(await ctr('task', 'ls'), /box\s+\d+\s+PAUSED/);
  await ctr('task', 'resume', 'box');
  assert.match(await ctr('task', 'ls'), /box\s+\d+\s+RUNNING/);
  assert.match(await ctr('task', 'ps', 'box'), /^\d+\s/m);
  assert.match(await ctr('task', 'metrics', 'box'), /memory.limit_in_bytes\s+67108864/);
  await ctr('task', 'kill', '-s', 'SIGKILL', 'box');
  await until('it has stopped', WAIT_MS, async () =>
    /box\s+\d+\s+STOPPED/.test(await ctr('task', 'ls')) ? true : undefined,
  );
  // The client's exit code is the program's.
  assert.equal((await (room as EngineRoom).run(...client('task', 'rm', 'box'))).code, 0);
  await ctr('container', 'rm', 'box');
  assert.deepEqual(JSON.parse(await listed()), []);
});

/** What the runtime itself still knows of. */
function listed(): Promise<string> {
  const [, runc, , root = ''] = runtime();
  const place = join(root, 'default');
  return (room as EngineRoom).must(runc ?? '', '--root', place, 'list', '--format', 'json');
}
