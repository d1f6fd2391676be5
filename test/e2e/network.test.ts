/**
 * The network of a swarm as services meet it, on a lab of two hosts: ports published in mode host,
 * who may have one, and what others take from a host.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  clock,
  containerPid,
  get,
  lab,
  loadImage,
  raise,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { docker, startDaemonOf, stopDaemonOf, within } from '../support/labHosts.ts';

const WAIT_MS = 20_000;
/** 5 s, and the time that those who ask take to start on a busy machine. */
const MEND_MS = 10_000;
/** A container's sockets are kept by its supervisor soon after its start. */
const KEPT_MS = 10_000;
/** Names the UDP sockets in the network namespace of process $1 that its parent holds open. */
const KEPT_SOCKETS = `shim=$(awk '{ print $4 }' /proc/$1/stat)
  for inode in $(awk 'NR > 1 { print $10 }' /proc/$1/net/udp); do
    ls -l /proc/$shim/fd | grep -o "socket:.$inode."
  done`;
/** For so long at least a question is not answered while the daemon is dead: time itself. */
const DEAD_MS = 500;
/** One question, repeated by nobody: it is answered or lost. */
const RESOLVE = `
// Not Node's resolver, which gives up after 5 s whatever it is told: one question, asked once.
const socket = require('dgram').createSocket('udp4');
const question = Buffer.from('123401000001000000000000' + '02646200' + '00010001', 'hex');
socket.on('message', (answer) => {
  const isFound = answer.readUInt16BE(6) > 0;
  console.log(isFound ? answer.subarray(-4).join('.') : 'ENOTFOUND');
  process.exit(0);
});
socket.send(question, 53, '127.0.0.11');
setTimeout(() => { console.log('ETIMEOUT'); process.exit(0); }, 60000);
`;
const HOSTS = { h1: '10.99.0.11', h2: '10.99.0.12' } as const;

before(async () => {
  await raise(2, 1);
  await loadImage('h1', 'h2');
  await untilReady('h1', 2);
});

after(async () => {
  await lab('down');
});

test('a port in mode host is published by each task on its own host', async () => {
  const publish = ['--publish', 'published=8080,target=80,mode=host'];
  const env = ['--env', 'TASK_NAME={{.Node.Hostname}}'];
  const create = ['service', 'create', '--detach', '--mode', 'global', '--name', 'edge'];
  await docker('h1', ...create, ...publish, ...env, WEB_IMAGE);
  for (const [name, address] of Object.entries(HOSTS)) {
    const url = `http://${address}:8080/`;
    const answer = await until('edge answers', WAIT_MS, () => get('client', url));
    assert.match(answer, new RegExp(`\\b${name}\\b`), `${address} is answered by its own task`);
  }
  assert.match(await get('h1', 'http://127.0.0.1:8080/'), /\bh1\b/);
});

test('an update hands the port over: the new task has it when the old one has ended', async () => {
  await docker('h1', 'service', 'update', '--detach', '--env-add', 'TASK_NAME=second', 'edge');
  for (const address of Object.values(HOSTS)) {
    await until('the second answers', WAIT_MS, async () =>
      /second/.test(await get('client', `http://${address}:8080/`)) ? true : undefined,
    );
  }
  const said = await docker('h1', 'service', 'ps', '--no-trunc', '--format', '{{.Error}}', 'edge');
  assert.doesNotMatch(said, /taken/);
});

test('what somebody takes from a host is mended within 5 s', async () => {
  const address = HOSTS.h2;
  await within('h2', 'nft', 'flush', 'ruleset');
  await until('published again', MEND_MS, async () =>
    /second/.test(await get('client', `http://${address}:8080/`)) ? true : undefined,
  );
});

test('an overlay with IPv6 gives addresses and names of both families to every task', async () => {
  await docker(
    'h1',
    'network',
    'create',
    '-d',
    'overlay',
    '--ipv6',
    '--subnet',
    'fd77::/64',
    'six',
  );
  // The subnet that was not asked for is given a moment after it is made.
  const shown = await until('both subnets', WAIT_MS, async () => {
    const [one] = JSON.parse(await docker('h1', 'network', 'inspect', 'six')) as [Shown];
    return one.IPAM.Config.length === 2 ? one : undefined;
  });
  assert.equal(shown.EnableIPv6, true);
  assert.deepEqual(shown.IPAM.Config[1], { Subnet: 'fd77::/64', Gateway: 'fd77::1' });
  const create = ['service', 'create', '--detach', '--mode', 'global', '--name', 'pair'];
  await docker('h1', ...create, '--network', 'six', WEB_IMAGE);
  const [one] = await untilRunning('h1', 'pair', 2);
  const pid = String(await containerPid('h1', one.id));
  const inside = (...words: string[]) => within(one.node, 'nsenter', '-t', pid, '-n', ...words);
  const asked = await until('names of IPv6', WAIT_MS, async () => {
    const { stdout } = await inside(process.execPath, '-e', RESOLVE_6);
    const answers = stdout.trim().split(' ');
    return answers.length === 2 ? answers : undefined;
  });
  for (const address of asked) {
    assert.match(address, /^fd77::/);
    const { code } = await inside('curl', '-s', '-m', '20', `http://[${address}]/`);
    assert.equal(code, 0, `${address} answers`);
  }
  await docker('h1', 'service', 'rm', 'pair');
});

const RESOLVE_6 = `
const { Resolver } = require('dns').promises;
const resolver = new Resolver({ timeout: 10000, tries: 1 });
resolver.setServers(['127.0.0.11']);
resolver.resolve6('tasks.pair').then((all) => console.log(...all), () => {});
`;

interface Shown {
  readonly EnableIPv6: boolean;
  readonly IPAM: { readonly Config: readonly object[] };
}

test('a name that is asked while the daemon is dead is answered by the next one', async () => {
  await docker('h1', 'network', 'create', '--driver', 'overlay', 'back');
  const create = ['service', 'create', '--detach', '--mode', 'global', '--name', 'db'];
  await docker('h1', ...create, '--network', 'back', WEB_IMAGE);
  const found = await untilRunning('h1', 'db', 2);
  const task = found.find(({ node }) => node === 'h2');
  assert.ok(task !== undefined);
  const pid = String(await containerPid('h1', task.id));
  const ask = (): Promise<string> =>
    within('h2', 'nsenter', '-t', pid, '-n', process.execPath, '-e', RESOLVE).then(({ stdout }) =>
      stdout.trim(),
    );
  await until('db is known', WAIT_MS, async () => (/^10\./.test(await ask()) ? true : undefined));
  await until('the shim keeps a socket of it', KEPT_MS, async () => {
    const kept = await within('h2', 'sh', '-c', KEPT_SOCKETS, 'sh', pid);
    return kept.stdout.trim() !== '' || undefined;
  });
  for (const round of ['first', 'second']) {
    await stopDaemonOf('h2');
    const asked = ask();
    assert.equal(await Promise.race([asked, clock.sleep(DEAD_MS)]), undefined, `${round}: waits`);
    await startDaemonOf('h2');
    assert.match(await asked, /^10\./, `${round}: answered, late`);
  }
});
