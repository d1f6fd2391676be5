/**
 * `deploy/lab` as a user meets it: each verb once and twice, wrong input, terminals and exit codes,
 * commands killed halfway, and nothing left at the end. One lab of two hosts, in order.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import {
  CLIENT_NAMESPACE,
  LAB_DIR,
  RUN_ROOT,
  STATE_ROOT,
  UNDERLAY_NAMESPACE,
} from '../../deploy/hosts/layout.ts';
import { inside, lab, nodes, type Outcome, outcome, until, untilReady } from '../support/lab.ts';
import { leftovers } from '../support/leftovers.ts';
import { clientOf, scriptArguments } from '../support/terminal.ts';
import { TOP } from '../tidy/sources.ts';

const LAB = join(TOP, 'deploy', 'lab');
const MAIN = join(TOP, 'dist', 'deploy', 'hosts', 'main.js');
const NAME = RUN_ROOT.slice('/run/'.length);

const run = (...args: string[]): Promise<Outcome> => outcome(LAB, args);

interface HostStatus {
  readonly name: string;
  readonly on: boolean;
  readonly cut: boolean;
  readonly pid: number;
  readonly daemon: number;
}

async function statusOf(name: string): Promise<HostStatus> {
  const { hosts } = JSON.parse(await lab('status', '--json')) as { hosts: HostStatus[] };
  const found = hosts.find((host) => host.name === name);
  assert.ok(found !== undefined, `${name} in ${JSON.stringify(hosts)}`);
  return found;
}

function left(): string[] {
  return leftovers(NAME, UNDERLAY_NAMESPACE, CLIENT_NAMESPACE);
}

/** Starts `up`, kills the command itself with SIGKILL once `moment` holds; false: it was done. */
async function killUp(what: string, moment: (said: string) => boolean): Promise<void> {
  const up = spawn(process.execPath, [MAIN, 'up', '--hosts', '2', '--managers', '1'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  up.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = new Promise((resolve) => up.on('close', resolve));
  await until(what, 30_000, () => (moment(said) ? true : undefined));
  up.kill('SIGKILL');
  await ended;
  assert.ok(!said.includes('ready in'), `${what}: up was done already`);
}

after(async () => {
  await lab('down');
});

test('without a lab every verb says that it is down, and down is content', async () => {
  await lab('down');
  for (const verb of ['cut', 'heal', 'kill', 'start', 'stop-daemon', 'start-daemon']) {
    const { code, stderr } = await run(verb, 'h1');
    assert.equal(code, 1);
    assert.equal(
      stderr,
      'lab: no host "h1" in the lab (the lab is down: deploy/lab up raises it)\n',
    );
  }
  const exec = await run('exec', 'client', 'true');
  assert.deepEqual(
    [exec.code, exec.stderr],
    [1, 'lab: the lab is down: deploy/lab up raises it\n'],
  );
  assert.equal(await lab('status'), 'the lab is down: deploy/lab up raises it\n');
  assert.deepEqual((JSON.parse(await lab('status', '--json')) as { hosts: unknown }).hosts, []);
  await lab('down');
});

test('wrong input is refused with one line and raises nothing', async () => {
  const cases: [string[], RegExp][] = [
    [['up', '--hosts'], /--hosts takes a whole number from 1 to 89/],
    [['up', '--hosts', '0'], /--hosts takes a whole number from 1 to 89/],
    [['up', '--hosts', '1.5'], /--hosts takes a whole number/],
    [['up', '--hosts', '90'], /--hosts takes a whole number/],
    [['up', '--hosts', '2', '--managers', '3'], /--managers takes a whole number from 1 to 2/],
    [['up', '--hosts', '9', '--managers', '8'], /--managers takes a whole number from 1 to 7/],
    [['up', '--host', '2'], /"--host" is not known here: deploy\/lab help/],
    [['up', '3'], /"3" is not known here/],
    [['status', '--yaml'], /"--yaml" is not known here/],
    [['down', 'h1'], /"h1" is not known here/],
    [['exec'], /exec takes a host and a command/],
    [['exec', 'h1'], /exec takes a host and a command/],
    [['cut'], /cut takes one host: deploy\/lab cut h1/],
    [['cut', 'h1', 'h2'], /cut takes one host/],
    [['raise'], /unknown subcommand "raise": deploy\/lab help lists them/],
  ];
  for (const [args, expected] of cases) {
    const { code, stdout, stderr } = await run(...args);
    assert.equal(code, 1, args.join(' '));
    assert.match(stderr, expected);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.equal(stdout, '');
  }
  assert.deepEqual(left(), []);
  for (const verb of ['help', '--help', '-h']) assert.match(await lab(verb), /up \[--hosts N\]/);
});

test('up killed at any moment leaves nothing that blocks the next up', async () => {
  await killUp('the lab is begun', () => existsSync(LAB_DIR));
  await killUp('the first host booted', () => existsSync(join(LAB_DIR, 'h1', 'booted')));
  await killUp('the hosts booted', (said) => said.includes('hosts booted'));
  await killUp(
    'the swarm is begun',
    () =>
      existsSync(join(STATE_ROOT, 'h1', 'cert')) ||
      existsSync(join(STATE_ROOT, 'h2', 'daemon.log')),
  );
  await lab('down');
  assert.deepEqual(left(), []);
  await killUp('the hosts booted', (said) => said.includes('hosts booted'));
  const { code, stderr } = await run('up', '--hosts', '2', '--managers', '1');
  assert.equal(code, 0, stderr);
  assert.match(stderr, /swarm of 2 hosts, 1 of them managers, ready in/);
  assert.equal((await nodes('h1')).length, 2);
});

test('up beside a lab that stands keeps it, and refuses another size', async () => {
  const before = await statusOf('h1');
  const again = await run('up');
  assert.deepEqual([again.code, /2 hosts are up already/.test(again.stderr)], [0, true]);
  const other = await run('up', '--hosts', '3');
  assert.equal(other.code, 1);
  assert.match(other.stderr, /a lab of 2 hosts, 1 of them managers, is up: deploy\/lab down takes/);
  assert.deepEqual(await statusOf('h1'), before);
});

test('exec passes the exit code, the signal, the input and the environment', async () => {
  assert.equal((await inside('h1', 'sh', '-c', 'exit 7')).code, 7);
  assert.equal((await inside('h1', 'sh', '-c', 'kill -TERM $$')).code, 143);
  assert.equal((await inside('client', 'sh', '-c', 'exit 9')).code, 9);
  assert.equal((await inside('h1', 'no-such-command')).code, 127);
  const piped = spawnSync(LAB, ['exec', 'h2', 'cat'], { input: 'through\n', encoding: 'utf8' });
  assert.deepEqual([piped.status, piped.stdout], [0, 'through\n']);
  const facts = await inside('h2', 'sh', '-c', 'hostname; echo $DOCKER_HOST; command -v tsswarm');
  const socket = `${RUN_ROOT}/h2/tsswarm.sock`;
  assert.equal(facts.stdout, `h2\nunix://${socket}\n${RUN_ROOT}/bin/tsswarm\n`);
  assert.equal((await inside('h1', 'tsswarm', 'node', 'inspect', 'nobody')).code, 1);
  const here = spawnSync(LAB, ['exec', 'h1', 'pwd'], { cwd: '/usr', encoding: 'utf8' });
  assert.equal(here.stdout, '/usr\n');
});

test('exec gives the command the terminal, and ^C to the command alone', async () => {
  const shell = `trap 'echo caught; exit 3' INT; tty; echo ready; while :; do sleep 0.05; done`;
  const terminal = clientOf(spawn('script', scriptArguments(`${LAB} exec h1 sh -c "${shell}"`)));
  await until('the shell is ready', 10_000, () => terminal.said().includes('ready') || undefined);
  terminal.type('\x03');
  const { code, stdout } = await terminal.ended;
  assert.equal(code, 3, stdout);
  assert.match(stdout, /\/dev\/pts\/\d+|not a tty/);
  assert.match(stdout, /caught/);
});

test('a terminated exec ends its command too', async () => {
  const wrapper = spawn(process.execPath, [MAIN, 'exec', 'h1', 'sleep', '98765'], {
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => wrapper.on('close', resolve));
  const sleeps = async (): Promise<boolean> =>
    (await inside('h1', 'pgrep', '-xf', 'sleep 98765')).code === 0;
  await until('it sleeps', 10_000, async () => ((await sleeps()) ? true : undefined));
  wrapper.kill('SIGTERM');
  assert.equal(await ended, 143);
  assert.equal(await sleeps(), false);
});

test('cut and heal do what they say, and asked twice only say so', async () => {
  const ping = (): Promise<Outcome> =>
    inside(
      'client',
      'node',
      '-e',
      `require('node:net').connect(2377, '10.99.0.12')
      .on('connect', () => process.exit(0)).on('error', () => process.exit(1));
      setTimeout(() => process.exit(2), 1000)`,
    );
  assert.equal((await ping()).code, 0);
  assert.equal((await run('cut', 'h2')).stderr, '');
  assert.equal((await run('cut', 'h2')).stderr, 'lab: h2 is cut already\n');
  assert.equal((await statusOf('h2')).cut, true);
  assert.equal((await ping()).code, 2, 'dropped silently');
  assert.equal((await run('heal', 'h2')).stderr, '');
  assert.equal((await run('heal', 'h2')).stderr, 'lab: h2 is linked already\n');
  assert.equal((await ping()).code, 0);
  const wrong = await run('cut', 'h3');
  assert.deepEqual(
    [wrong.code, wrong.stderr],
    [1, 'lab: no host "h3" in the lab (its hosts: h1, h2)\n'],
  );
});

test('a daemon stops and starts alone, and asked twice the lab only says so', async () => {
  const before = await statusOf('h2');
  await lab('stop-daemon', 'h2');
  assert.equal((await run('stop-daemon', 'h2')).stderr, 'lab: h2 has no daemon already\n');
  const stopped = await statusOf('h2');
  assert.deepEqual([stopped.on, stopped.daemon, stopped.pid], [true, 0, before.pid]);
  const ls = await inside('h2', 'tsswarm', 'node', 'ls');
  assert.equal(ls.code, 1);
  await lab('start-daemon', 'h2');
  assert.equal((await run('start-daemon', 'h2')).stderr, 'lab: h2 has a daemon already\n');
  const started = await statusOf('h2');
  assert.ok(started.daemon !== 0 && started.daemon !== before.daemon);
  await untilReady('h1', 2);
});

test('a host dies and starts again, also when the start was killed halfway', async () => {
  await lab('kill', 'h2');
  assert.equal((await run('kill', 'h2')).stderr, 'lab: h2 is off already\n');
  const off = await statusOf('h2');
  assert.deepEqual([off.on, off.daemon], [false, 0]);
  for (const verb of ['stop-daemon', 'start-daemon']) {
    const { code, stderr } = await run(verb, 'h2');
    assert.deepEqual([code, stderr], [1, 'lab: h2 is off: deploy/lab start h2\n']);
  }
  assert.match((await inside('h2', 'true')).stderr, /h2 is off: deploy\/lab start h2/);
  const start = spawn(process.execPath, [MAIN, 'start', 'h2'], { stdio: 'ignore' });
  const ended = new Promise((resolve) => start.on('close', resolve));
  const booted = join(LAB_DIR, 'h2', 'booted');
  await until('h2 booted', 10_000, () => (existsSync(booted) ? true : undefined));
  start.kill('SIGKILL');
  await ended;
  await lab('start', 'h2').catch(async () => {
    await lab('kill', 'h2');
    await lab('start', 'h2');
  });
  await untilReady('h1', 2);
  assert.equal((await run('start', 'h2')).stderr, 'lab: h2 is on already\n');
});

test('down ends an up in progress and leaves nothing, whoever still runs inside', async () => {
  const sleeper = spawn(LAB, ['exec', 'client', 'sleep', '98764'], { stdio: 'ignore' });
  const slept = new Promise((resolve) => sleeper.on('close', resolve));
  const shell = spawn(LAB, ['exec', 'h1', 'sleep', '98764'], { stdio: 'ignore' });
  const shelled = new Promise((resolve) => shell.on('close', resolve));
  await until('both run', 10_000, async () => {
    const seen = (await outcome('pgrep', ['-xf', 'sleep 98764'])).stdout;
    return seen.trim().split('\n').length === 2 ? true : undefined;
  });
  await lab('down');
  assert.equal(await slept, 137);
  assert.equal(await shelled, 137);
  assert.deepEqual(left(), []);
  const up = spawn(LAB, ['up', '--hosts', '2'], { stdio: 'ignore' });
  const ended = new Promise((resolve) => up.on('close', resolve));
  await until('h1 booted', 10_000, () =>
    existsSync(join(LAB_DIR, 'h1', 'booted')) ? true : undefined,
  );
  const second = await run('up', '--hosts', '2');
  assert.equal(second.code, 1);
  assert.match(
    second.stderr,
    /deploy\/lab up runs already \(process \d+\): wait for it, or end it/,
  );
  await lab('down');
  await ended;
  assert.deepEqual(left(), []);
});

test('what a reboot leaves (state, names without namespaces) does not block up', async () => {
  mkdirSync(join(STATE_ROOT, 'h1'), { recursive: true });
  writeFileSync(join(STATE_ROOT, 'h1', 'half'), 'x');
  mkdirSync(join(LAB_DIR, 'h1'), { recursive: true });
  writeFileSync(join(LAB_DIR, 'h1', 'pid1.json'), '{"pid":1,"startTime":"0"}');
  writeFileSync(join(LAB_DIR, 'ready'), '{"hosts":1,"managers":1}');
  mkdirSync('/run/netns', { recursive: true });
  writeFileSync(`/run/netns/${CLIENT_NAMESPACE}`, '');
  assert.equal((await statusOf('h1')).on, false);
  await lab('up', '--hosts', '1');
  assert.equal((await nodes('h1')).length, 1);
  await lab('down');
  assert.deepEqual(left(), []);
});
