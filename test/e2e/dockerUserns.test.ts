/**
 * A daemon that was told to give containers ids of their own (--userns-remap default): what the
 * docker client makes there, seen from the host. Its account files are its own.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { outcome, until } from '../support/lab.ts';
import { type Standalone, startStandalone } from '../support/standalone.ts';
import { TOP } from '../tidy/sources.ts';

const BOX = 'box:1';
const CLI = join(TOP, 'dist', 'cli', 'main.js');
const BUSYBOX = '/bin/busybox';
const SOON_MS = 20_000;
const FIRST_ID = 100_000;

let host: Standalone;
let work = '';
/** What a daemon that would not start has written into /etc. */
let refusedLeft: readonly string[] = [];

before(async () => {
  host = await startStandalone();
  work = join(host.directory, 'work');
  const root = join(work, 'root');
  for (const name of ['bin', 'tmp', 'etc', 'data'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(BUSYBOX, join(root, 'bin', 'busybox'));
  for (const name of execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
    if (name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
  }
  writeFileSync(join(root, 'data', 'first'), 'from the image\n');
  execFileSync('tar', ['-C', root, '-cf', join(work, 'root.tar'), '.']);
  const change = ['--change', 'CMD ["sh"]', '--change', 'ENV PATH=/bin'];
  await host.docker('image', 'import', ...change, join(work, 'root.tar'), BOX);
  // The ranges that it writes are not this machine's.
  for (const name of ['upper', 'work']) mkdirSync(join(work, `etc-${name}`));
  const layers = `lowerdir=/etc,upperdir=${work}/etc-upper,workdir=${work}/etc-work`;
  const inside = [
    '-t',
    String(host.pid),
    '-m',
    'mount',
    '-t',
    'overlay',
    'etc',
    '-o',
    layers,
    '/etc',
  ];
  execFileSync('nsenter', inside);
  const taken = ['--metrics-addr', '203.0.113.9:9100']; // not an address of this host
  await assert.rejects(host.restart('--userns-remap', 'default', ...taken));
  refusedLeft = readdirSync(join(work, 'etc-upper'));
  await host.restart('--userns-remap', 'default');
});

after(() => host.stop());

/** A file of a container's first process, as processes of the daemon's pid namespace see it. */
async function see(name: string, file: string): Promise<string> {
  const pid = (await host.docker('inspect', '-f', '{{.State.Pid}}', name)).trim();
  const enter = ['-t', String(host.pid), '-p', '-m', 'cat', `/proc/${pid}/${file}`];
  const { code, stdout, stderr } = await outcome('nsenter', enter);
  assert.equal(code, 0, stderr);
  return stdout;
}

test('a daemon that does not start has reserved no ids', () => {
  assert.deepEqual(refusedLeft, []);
});

test('root in a container is nobody on the host, on a network, with its image’s files', async () => {
  assert.match(await host.docker('info', '-f', '{{.SecurityOptions}}'), /name=userns/);
  const info = await outcome(process.execPath, [CLI, '-H', `unix://${host.socket}`, 'info']);
  assert.match(info.stdout, /^Security: +seccomp \(builtin\), cgroupns, userns$/m);
  assert.match(readFileSync(join(work, 'etc-upper', 'subuid'), 'utf8'), /^dockremap:\d+:65536$/m);
  const volume = ['-v', 'kept:/data', '-v', `${work}:/bound`, '-p', '8080:80'];
  await host.docker('run', '-d', '--name', 'mapped', ...volume, BOX, 'sleep', '600');
  const first = Number(/^Uid:\s+(\d+)/m.exec(await see('mapped', 'status'))?.[1]);
  assert.ok(first >= FIRST_ID, `it is user ${first}`);
  const map = new RegExp(`^ +0 +${first} +65536$`, 'm');
  assert.match(await see('mapped', 'uid_map'), map);
  const inside = async (...command: string[]): Promise<string> =>
    (await host.docker('exec', 'mapped', ...command)).trim();
  assert.equal(await inside('id', '-u'), '0');
  const owners = await inside('stat', '-c', '%u', '/bin/sh', '/data/first', '/etc/hosts', '/bound');
  assert.deepEqual(owners.split('\n'), ['0', '0', '0', '65534'], 'a bind is the host’s root’s');
  assert.match(await inside('cat', '/etc/resolv.conf'), /nameserver/);
  assert.match(await inside('ip', 'address', 'show', 'eth0'), /inet 172\./);
  // What it writes has on disk the ids it has inside, so that others may use the volume.
  await inside('sh', '-c', 'echo x > /data/own; chown 12:34 /data/own');
  const own = statSync(join(host.dataRoot, 'volumes', 'kept', '_data', 'own'));
  assert.deepEqual([own.uid, own.gid], [12, 34]);
  await host.docker('commit', 'mapped', 'kept:1');
  await host.docker('rm', '-f', 'mapped');
});

test('a container may ask for the host’s ids, and has to for what needs them', async () => {
  const ids = ['cat', '/proc/self/uid_map'];
  const run = (...flags: string[]) => host.tryDocker('run', '--rm', '-v', 'kept:/data', ...flags);
  const hosts = await run('--userns', 'host', BOX, ...ids);
  assert.match(hosts.stdout, /^ +0 +0 +4294967295$/m);
  const owner = await run('--userns', 'host', BOX, 'stat', '-c', '%u:%g', '/data/own');
  assert.equal(owner.stdout, '12:34\n');
  for (const flags of [['--privileged'], ['--network', 'host'], ['--pid', 'host']]) {
    const refused = await run(...flags, BOX, ...ids);
    assert.equal(refused.code, 125);
    assert.match(refused.stderr, /--userns=host/, flags.join(' '));
  }
  assert.equal((await run('--privileged', '--userns', 'host', BOX, 'true')).code, 0);
});

test('who joins another’s namespaces has its ids, too', async () => {
  const lender = ['run', '-d', '--name', 'lends', '--ipc', 'shareable', BOX, 'sleep', '601'];
  await host.docker(...lender);
  const join = ['run', '--rm', '--pid', 'container:lends', '--ipc', 'container:lends'];
  const joined = await host.tryDocker(
    ...join,
    BOX,
    'sh',
    '-c',
    'ps -o args; cat /proc/self/uid_map',
  );
  assert.equal(joined.code, 0, joined.stderr);
  assert.match(joined.stdout, /^sleep 601$/m);
  assert.match(joined.stdout, / 65536$/m);
  const apart = await host.tryDocker(...join, '--userns', 'host', BOX, 'true');
  assert.match(apart.stderr, /its ids are others/);
  await host.docker('rm', '-f', 'lends');
});

test('a service’s tasks have them, too, or what the service asks for', async () => {
  await host.docker('swarm', 'init', '--advertise-addr', '127.0.0.1');
  const tsswarm = (...args: string[]) =>
    outcome(process.execPath, [
      join(TOP, 'dist', 'cli', 'main.js'),
      ...['-H', `unix://${host.socket}`, ...args],
    ]);
  const create = ['service', 'create', '--restart-condition', 'none', '--detach'];
  const ids = ['sh', '-c', 'cat /proc/self/uid_map; exec sleep 600'];
  const secret = join(work, 'secret');
  writeFileSync(secret, 'hush');
  await host.docker('secret', 'create', 'word', secret);
  const reads = ['sh', '-c', 'stat -c %u /run/secrets/word; exec sleep 600'];
  for (const args of [
    ['--name', 'usual', BOX, ...ids],
    ['--name', 'hosts', '--userns', 'host', BOX, ...ids],
    ['--name', 'reads', '--secret', 'word', BOX, ...reads],
  ]) {
    const made = await tsswarm(...create, ...args);
    assert.equal(made.code, 0, made.stderr);
  }
  const says = (service: string, wanted: RegExp) =>
    until(`${service} says ${wanted}`, SOON_MS, async () => {
      const { stdout } = await host.tryDocker('service', 'logs', '--raw', service);
      return wanted.test(stdout) || undefined;
    });
  await says('usual', / 65536$/m);
  await says('hosts', / 4294967295$/m);
  await says('reads', /^0$/m);
  await host.docker('service', 'rm', 'usual', 'hosts', 'reads');
  await host.docker('swarm', 'leave', '--force');
});

test('one that was made before stays as it was, whatever the daemon is told', async () => {
  const map = ['cat', '/proc/self/uid_map'];
  await host.docker('create', '--name', 'old', BOX, ...map);
  await host.restart();
  assert.match(await host.docker('start', '-a', 'old'), / 65536$/m);
  // Not Docker's: its own client does not send it.
  const own = { Image: BOX, Cmd: map, HostConfig: { UsernsMode: 'own' } };
  const request = ['-s', '--unix-socket', host.socket, '-H', 'Content-Type: application/json'];
  const made = ['-d', JSON.stringify(own), 'http://host/containers/create?name=own'];
  await outcome('curl', [...request, ...made]);
  assert.match(await host.docker('start', '-a', 'own'), / 65536$/m);
  assert.match(await host.docker('run', '--rm', BOX, ...map), / 4294967295$/m);
  assert.doesNotMatch(await host.docker('info', '-f', '{{.SecurityOptions}}'), /name=userns/);
  await host.docker('rm', 'old', 'own');
});
