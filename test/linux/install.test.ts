/**
 * `deploy/install` and its `--uninstall` on this machine, where systemd does not run: the daemon is
 * started by hand from what was installed, as a host of its own (network and mount namespace), runs
 * a service, and everything goes with containers still running. With systemd: test/long.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type Outcome, outcome, until } from '../support/lab.ts';
import { leftovers, processesNaming } from '../support/leftovers.ts';
import { TOP } from '../tidy/sources.ts';

const INSTALL = join(TOP, 'deploy', 'install');
const BINARY = '/usr/local/bin/tsswarm';
const WEB_TAR = join(TOP, 'dist', 'images', 'web.tar');
const ADDRESS = '192.0.2.11';
const PLACES = ['/usr/local', '/etc', '/var/lib', '/run', '/usr/share/bash-completion'];
/** What others change meanwhile, and what groupadd leaves beside the files it writes. */
const NOT_OURS =
  /tsswarm-lab|^\/run\/netns|^\/var\/lib\/(apt|dpkg)|^\/etc\/(group|gshadow)-$|\.lock$/;
const INSTALLED_ALREADY = existsSync(BINARY) || existsSync('/var/lib/tsswarm');
const skip = existsSync('/run/systemd/system')
  ? 'systemd runs here: test/long shows it in a machine of its own'
  : INSTALLED_ALREADY && 'tsswarm is installed on this machine: it is left alone';

let host: ChildProcess | undefined;
let atFirst: readonly string[] = [];
let groupsAtFirst = '';

function files(): string[] {
  const places = PLACES.filter((place) => existsSync(place));
  const options = ['-not', '-path', '/proc/*', '-not', '-type', 's'];
  const text = execFileSync('find', [...places, '-xdev', ...options], {
    encoding: 'utf8',
    maxBuffer: 256 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return text
    .split('\n')
    .filter((line) => line !== '' && !NOT_OURS.test(line))
    .sort();
}

function groups(): string {
  return readFileSync('/etc/group', 'utf8') + readFileSync('/etc/gshadow', 'utf8');
}

function enter(): string[] {
  return ['-t', String(host?.pid), '-n', '-m'];
}

function onHost(...command: string[]): Promise<Outcome> {
  return outcome('nsenter', [...enter(), ...command]);
}

async function answer(...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await onHost(...command);
  assert.equal(code, 0, `${command.join(' ')}: ${stderr}`);
  return stdout.trim();
}

/** Processes of the installed daemon (by their program or cgroup), mounts, cgroups and files. */
function ours(): string[] {
  const found = leftovers('tsswarm').filter((line) => !/tsswarm-|^process|\/tmp\//.test(line));
  found.push(...processesNaming((args) => args.includes('/usr/local/lib/tsswarm/')));
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const file = `/proc/${pid}/cgroup`;
    const cgroup = existsSync(file) ? readFileSync(file, 'utf8') : '';
    if (cgroup.includes(':/tsswarm/')) found.push(`process ${pid} in ${cgroup}`);
  }
  return found;
}

before(async () => {
  if (skip !== false) return;
  atFirst = files();
  groupsAtFirst = groups();
  const script = [
    'ip link set lo up && ip link add eth0 type veth peer name eth1',
    'ip link set eth1 up && ip link set eth0 up',
    `ip addr add ${ADDRESS}/24 dev eth0`,
    'echo ready && exec sleep infinity',
  ].join(' && ');
  const args = ['--net', '--mount', '--propagation', 'private', 'sh', '-c', script];
  host = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(host.stdout as NodeJS.ReadableStream, 'data');
});

after(async () => {
  if (skip !== false) return;
  await onHost(INSTALL, '--uninstall');
  host?.kill('SIGKILL');
});

test('wrong arguments are refused and change nothing', { skip }, async () => {
  const { code, stderr } = await outcome(INSTALL, ['--unistall']);
  assert.deepEqual([code, stderr], [1, 'usage: deploy/install [--uninstall]\n']);
  assert.equal(existsSync(BINARY), false);
});

test('it installs the command, the unit and the group, also twice', { skip }, async () => {
  for (const round of [1, 2]) {
    const { code, stderr } = await outcome(INSTALL, []);
    assert.equal(code, 0, `${round}: ${stderr}`);
    assert.match(stderr, /systemd does not run here: start the daemon with: tsswarm daemon/);
  }
  assert.ok(existsSync('/etc/systemd/system/tsswarm.service'));
  assert.match(groups(), /^tsswarm:/m);
  assert.match(await answer('/usr/local/bin/tsswarm', '--version'), /\d+\.\d+\.\d+/);
  assert.equal(existsSync('/usr/local/lib/tsswarm/dist/test'), false);
});

test('systemd has nothing to say against the unit', { skip }, async (context) => {
  if (!existsSync('/usr/bin/systemd-analyze')) {
    context.skip('systemd-analyze is not on this machine');
    return;
  }
  const { code, stdout, stderr } = await outcome('systemd-analyze', [
    'verify',
    '/etc/systemd/system/tsswarm.service',
  ]);
  assert.deepEqual([code, stdout, stderr], [0, '', '']);
});

test('without a daemon the command says how to start one', { skip }, async () => {
  const { code, stderr } = await onHost('tsswarm', 'node', 'ls');
  assert.equal(code, 1);
  assert.match(stderr, /tsswarm daemon/);
});

test('the installed daemon, started by hand, makes a swarm and runs a service', {
  skip,
}, async () => {
  const daemon = spawn('nsenter', [...enter(), 'tsswarm', 'daemon'], { stdio: 'ignore' });
  daemon.unref();
  await until('the daemon answers', 30_000, async () => {
    return (await onHost('tsswarm', 'info')).code === 0 ? true : undefined;
  });
  assert.match(
    await answer('tsswarm', 'init', '--advertise-addr', ADDRESS),
    /tsswarm join --token/,
  );
  await answer('tsswarm', 'image', 'load', '--input', WEB_TAR);
  await answer('tsswarm', 'network', 'create', '--driver', 'overlay', 'demo');
  await answer(
    ...['tsswarm', 'service', 'create', '--name', 'web', '--replicas', '2', '--network', 'demo'],
    ...['--publish', '8080:80', 'tsswarm/web:latest'],
  );
  const fetched = await answer(
    process.execPath,
    '-e',
    `fetch('http://${ADDRESS}:8080/').then((a) => a.text()).then((t) => process.stdout.write(t))`,
  );
  assert.match(fetched, /^task=/);
  assert.notDeepEqual(ours(), []);
});

test('uninstalled with its daemon and containers running, it leaves nothing', {
  skip,
}, async () => {
  const { code, stderr } = await onHost(INSTALL, '--uninstall');
  assert.equal(code, 0, stderr);
  assert.equal(stderr, 'install: tsswarm is gone from this host\n');
  assert.deepEqual(files(), atFirst);
  assert.equal(groups(), groupsAtFirst);
  // What was killed shows in /proc until this machine's PID 1 has reaped it.
  await until('the dead are reaped', 10_000, () => (ours().length === 0 ? true : undefined));
  assert.equal(await answer('nft', 'list', 'tables'), '');
  const links = (await answer('ip', '-o', 'link')).split('\n').map((line) => line.split(': ')[1]);
  assert.deepEqual(links.map((link) => link.replace(/@.*/, '')).sort(), ['eth0', 'eth1', 'lo']);
  assert.doesNotMatch(await answer('cat', '/proc/mounts'), / \/(run|var\/lib)\/tsswarm\//);
});

test('uninstalled twice, it is content', { skip }, async () => {
  const { code } = await onHost(INSTALL, '--uninstall');
  assert.equal(code, 0);
  assert.deepEqual(files(), atFirst);
});
