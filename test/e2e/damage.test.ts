/**
 * What hosts get wrong, in a lab: a copied identity, damaged state, an expired certificate, a full
 * disk, and too few managers. Each is said in one line that names what to mend, is mended as it
 * says, and does no harm to the rest. The tests share one lab of three managers and a host beside
 * them.
 */
import assert from 'node:assert/strict';
import {
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { expiredCopy } from '../support/expired.ts';
import {
  clock,
  containerPid,
  inside,
  lab,
  loadImage,
  nodes,
  raise,
  running,
  startTimeInside,
  swarm,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import {
  bootSpare,
  daemonRefused,
  layoutOf,
  refusal,
  refused,
  startDaemonOf,
  stopDaemonOf,
} from '../support/labHosts.ts';

const DOWN_MS = 20_000;
const FULL_BYTES = '96m';

let token = '';
const state = (host: string, ...names: string[]): string =>
  join(layoutOf(host).dataRoot, 'swarm', ...names);

before(async () => {
  await raise(3, 3);
  await Promise.all([loadImage('h1', 'h2', 'h3'), bootSpare('h4')]);
  token = await swarm('h1', 'join-token', '-q', 'worker');
  await swarm('h1', 'service', 'create', '--name', 'web', '--replicas', '3', WEB_IMAGE);
});

after(async () => {
  await lab('down');
});

test('an identity copied from another machine is refused, says so, and does not disturb the original', async () => {
  const earlier = await untilRunning('h1', 'web', 3);
  await stopDaemonOf('h4');
  for (const part of ['swarm', 'agent']) {
    const { dataRoot } = layoutOf('h4');
    rmSync(join(dataRoot, part), { recursive: true, force: true });
    cpSync(join(layoutOf('h2').dataRoot, part), join(dataRoot, part), { recursive: true });
  }
  await startDaemonOf('h4');
  await refused('h4', ['service', 'ls'], /has no address 10.99.0.12.*copied from another machine/);
  assert.match(await swarm('h4', 'info'), /copied from another machine/);
  assert.equal(await running('h4', 'web').catch(() => 'refused'), 'refused');
  const rows = await untilReady('h1', 3);
  assert.equal(rows.filter((row) => row.manager === 'Unreachable').length, 0);
  const now = await running('h1', 'web');
  assert.deepEqual(now.map((row) => row.id).sort(), earlier.map((row) => row.id).sort());
  // Mended as the line says.
  await swarm('h4', 'leave', '--force');
  await swarm('h4', 'join', '--token', token, '10.99.0.11:2377');
  await untilReady('h1', 4);
});

test('damaged state keeps the daemon from starting, and the file is named', async () => {
  await stopDaemonOf('h3');
  const kept = state('h3', '..', 'kept');
  cpSync(state('h3'), kept, { recursive: true });
  const cases: readonly (readonly [string, (file: string) => void, RegExp])[] = [
    ['state.json', (file) => truncateSync(file, 20), /swarm\/state.json/],
    ['state.json', (file) => writeFileSync(file, ''), /swarm\/state.json/],
    ['state.json', (file) => writeFileSync(file, '{"format":7}'), /swarm\/state.json.*format 7/],
    [
      'node.crt',
      (file) => truncateSync(file, 100),
      /swarm\/node.crt cannot be used \(not a certificate/,
    ],
    ['node.key', (file) => rmSync(file), /swarm\/node.key/],
    ['node.key', (file) => truncateSync(file, 60), /swarm\/node.key/],
    ['root.crt', (file) => writeFileSync(file, 'no certificate'), /swarm\/root.crt/],
    [firstSegment('h3'), (file) => flipByte(file, 5000), /\.wal: .* at byte \d+; .*join again/],
  ];
  for (const [name, damage, line] of cases) {
    damage(state('h3', name));
    await daemonRefused('h3', {}, line);
    rmSync(state('h3'), { recursive: true });
    cpSync(kept, state('h3'), { recursive: true });
  }
  rmSync(kept, { recursive: true });
  await startDaemonOf('h3');
  await untilReady('h1', 4);
});

function firstSegment(host: string): string {
  const [first] = readdirSync(state(host, 'raft', 'wal')).filter((name) => name.endsWith('.wal'));
  return join('raft', 'wal', first);
}

/** One bit in the middle of what was written; frames after it are sound. */
function flipByte(file: string, offset: number): void {
  assert.ok(statSync(file).size > offset);
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  byte[0] ^= 0x10;
  writeSync(fd, byte, 0, 1, offset);
}

test('an expired certificate is told with the way back in', async () => {
  await stopDaemonOf('h4');
  const certificate = readFileSync(state('h4', 'node.crt'), 'utf8');
  const expired = await expiredCopy(certificate, layoutOf('h1').dataRoot, clock.wallMs());
  writeFileSync(state('h4', 'node.crt'), expired.certificate);
  writeFileSync(state('h4', 'node.key'), expired.privateKey);
  await startDaemonOf('h4');
  await refused(
    'h4',
    ['service', 'ls'],
    /certificate expired on 20\S+: if the clock is right, run "tsswarm leave --force" and join again/,
  );
  await swarm('h4', 'leave', '--force');
  await swarm('h4', 'join', '--token', token, '10.99.0.12:2377');
  await until('h4 is back', DOWN_MS, async () => {
    const rows = (await nodes('h1')).filter((row) => row.hostname === 'h4');
    return rows.some((row) => row.status === 'Ready') ? rows : undefined;
  });
  await swarm('h4', 'leave');
});

test('without a quorum the missing managers are named, and service goes on', async () => {
  const before = await untilRunning('h1', 'web', 3);
  const own = before.find((row) => row.node === 'h1');
  assert.ok(own !== undefined);
  const pid = await containerPid('h1', own.id);
  const started = await startTimeInside('h1', pid);
  assert.match(started, /^\d+$/);
  await lab('cut', 'h2');
  await lab('cut', 'h3');
  const missing = /h2 \(10.99.0.12:2377\).*h3 \(10.99.0.13:2377\).*bring back/;
  await until('the lead is lost', DOWN_MS, async () => {
    const rows = await inside('h1', 'tsswarm', 'node', 'ls');
    return missing.test(rows.stderr) ? rows : undefined;
  });
  await Promise.all([
    refused('h1', ['network', 'create', 'later'], missing),
    refused('h1', ['service', 'ls'], missing),
  ]);
  assert.equal(await startTimeInside('h1', pid), started);
  await lab('heal', 'h2');
  await lab('heal', 'h3');
  await untilRunning('h1', 'web', 3);
  const networks = await swarm('h1', 'network', 'ls', '--format', '{{.Name}}');
  assert.doesNotMatch(networks, /^later$/m);
});

/** Networks with much in their labels, until one is refused: its status and what was said. */
const WRITE_MUCH = `const { request } = require('node:http');
  const write = (at) => {
    const question = request({ socketPath: process.env.TSSWARM_HOST.slice(7), method: 'POST',
      path: '/networks/create' }, async (answer) => {
      let text = '';
      for await (const chunk of answer) text += chunk;
      if (answer.statusCode === 201 && at < 50) write(at + 1);
      else process.stdout.write(answer.statusCode + ' ' + text);
    });
    question.end(JSON.stringify({ Name: 'much' + at, Driver: 'overlay',
      Labels: { much: 'x'.repeat(1400000) } }));
  };
  write(0);`;

test('a full disk refuses writes with one line, harms nothing that runs, and is over when room is made', async () => {
  const { dataRoot } = layoutOf('h4');
  await stopDaemonOf('h4');
  rmSync(dataRoot, { recursive: true });
  mkdirSync(dataRoot);
  const mount = ['mount', '-t', 'tmpfs', '-o', `size=${FULL_BYTES}`, 'tmpfs', dataRoot];
  assert.equal((await inside('h4', ...mount)).code, 0);
  await startDaemonOf('h4');
  await swarm('h4', 'init');
  await loadImage('h4');
  await swarm('h4', 'service', 'create', '--name', 'one', '--publish', '9090:80', WEB_IMAGE);
  const [task] = await untilRunning('h4', 'one', 1);
  const pid = await containerPid('h4', task.id);
  const started = await startTimeInside('h4', pid);
  const filler = join(dataRoot, 'filler');
  await inside('h4', 'dd', 'if=/dev/zero', `of=${filler}`, 'bs=64k');
  const full = /no space|disk.*full|left on the disk/i;
  const other = join(layoutOf('h4').execRoot, 'other.tar');
  await inside('h4', 'sh', '-c', `head -c 3000000 /dev/urandom >${layoutOf('h4').execRoot}/blob`);
  await inside('h4', 'tar', '-C', layoutOf('h4').execRoot, '-cf', other, 'blob');
  await refused('h4', ['image', 'import', other, 'other:1'], full);
  const last = await inside('h4', 'node', '-e', WRITE_MUCH);
  assert.match(last.stdout, /^507 \{"message":"the disk [^"]*full[^"]*"\}/);
  assert.match(refusal('a write', await inside('h4', 'tsswarm', 'network', 'create', 'n')), full);
  assert.match(await swarm('h4', 'service', 'ls'), /one .*1\/1/);
  assert.match(await swarm('h4', 'image', 'ls'), /tsswarm\/web/);
  assert.match(await swarm('h4', 'service', 'logs', 'one'), /./);
  assert.equal(await startTimeInside('h4', pid), started);
  await inside('h4', 'rm', filler);
  await until('writes are taken again', DOWN_MS, async () => {
    return (await inside('h4', 'tsswarm', 'network', 'create', 'n')).code === 0;
  });
  await swarm('h4', 'image', 'import', other, 'other:1');
  assert.equal(await startTimeInside('h4', pid), started);
  await swarm('h4', 'service', 'scale', 'one=2');
  await untilRunning('h4', 'one', 2);
});
