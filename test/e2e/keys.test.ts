/**
 * The cluster's keys with the real docker client in a lab: join tokens, settings, the root
 * certificate changed while a service answers and its clients keep their connections. The tests
 * share one lab of two managers and a worker and run in order.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { SystemRandom } from '../../base/random.ts';
import { parseUnlockKey, readKeys } from '../../daemon/keyFile.ts';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import {
  api,
  follow,
  inside,
  lab,
  loadImage,
  outcome,
  raise,
  readText,
  running,
  swarm,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { docker as dockerOn, layoutOf, MAIN, within } from '../support/labHosts.ts';
import { certificates } from '../support/tlsFiles.ts';

const random = new SystemRandom();
const skip = await skipWithoutDocker();
const ADDRESSES = ['10.99.0.11', '10.99.0.12', '10.99.0.13'];

async function docker(host: string, ...args: string[]): Promise<string> {
  return (await dockerOn(host, ...args)).trim();
}

interface SwarmJson {
  readonly RootRotationInProgress: boolean;
  readonly Spec: {
    readonly Orchestration: { readonly TaskHistoryRetentionLimit: number };
    readonly Raft: { readonly SnapshotInterval: number };
    readonly Dispatcher: { readonly HeartbeatPeriod: number };
    readonly CAConfig: { readonly NodeCertExpiry: number };
  };
}

async function inspect(host = 'h1'): Promise<SwarmJson> {
  return JSON.parse(await api(host, '/swarm')) as SwarmJson;
}

/** One connection kept to each host and a new one each time; a line for every failure. */
const CLIENT = `
const http = require('node:http');
const ask = (host, agent) => new Promise((done) => {
  const sent = http.get({ host, port: 8080, path: '/', agent, timeout: 20000 }, (answer) => {
    answer.resume(); answer.on('end', () => done('')); answer.on('error', (e) => done(e.message));
  });
  sent.on('timeout', () => sent.destroy(new Error('timeout')));
  sent.on('error', (error) => done(host + ' ' + error.message));
});
const hosts = process.argv.slice(1);
const kept = hosts.map(() => new http.Agent({ keepAlive: true, maxSockets: 1 }));
(async () => {
  for (let turn = 1; ; turn += 1) {
    const failed = await Promise.all(hosts.flatMap((host, at) =>
      [ask(host, kept[at]), ask(host, new http.Agent())]));
    for (const line of failed) if (line !== '') console.log('failed ' + line);
    console.log('asked ' + turn);
    await new Promise((done) => setTimeout(done, 20)); // the pace of the load: nothing is waited for
  }
})();`;

before(async () => {
  if (skip !== false) return;
  await raise(3, 2);
  await loadImage('h1', 'h2', 'h3');
  await swarm(
    'h1',
    ...['service', 'create', '--name', 'web', '--replicas', '3', '--publish', '8080:80'],
    WEB_IMAGE,
  );
});

after(async () => {
  if (skip === false) await lab('down');
});

test('docker swarm update sets what it offers', { skip }, async () => {
  await docker(
    'h2',
    ...['swarm', 'update', '--task-history-limit', '3', '--cert-expiry', '48h'],
    ...['--dispatcher-heartbeat', '7s', '--snapshot-interval', '5000', '--max-snapshots', '1'],
  );
  const { Spec } = await inspect();
  assert.equal(Spec.Orchestration.TaskHistoryRetentionLimit, 3);
  assert.equal(Spec.Raft.SnapshotInterval, 5000);
  assert.equal(Spec.Dispatcher.HeartbeatPeriod, 7e9);
  assert.equal(Spec.CAConfig.NodeCertExpiry, 48 * 3600e9);
  const refused = await within('h1', 'docker', 'swarm', 'update', '--cert-expiry', '30m');
  assert.notEqual(refused.code, 0);
  const external = ['--external-ca', 'protocol=cfssl,url=https://ca.example'];
  const other = await within('h1', 'docker', 'swarm', 'update', ...external);
  assert.match(other.stderr, /CAConfig\.ExternalCAs is not supported/);
});

test('a rotated join token takes the old one’s place', { skip }, async () => {
  const before = await docker('h1', 'swarm', 'join-token', '-q', 'worker');
  const manager = await docker('h1', 'swarm', 'join-token', '-q', 'manager');
  const now = await docker('h2', 'swarm', 'join-token', '--rotate', '-q', 'worker');
  assert.notEqual(now, before);
  assert.equal(await docker('h1', 'swarm', 'join-token', '-q', 'manager'), manager);
});

test('docker swarm ca prints the root', { skip }, async () => {
  const root = new X509Certificate(await docker('h1', 'swarm', 'ca'));
  assert.ok(root.ca);
});

test('docker swarm ca --rotate ends with a new root and no failure outside', { skip }, async () => {
  const root = await docker('h1', 'swarm', 'ca');
  const tasks = (await running('h1', 'web')).map(({ id }) => id).sort();
  const client = follow('client', 'node', '-e', CLIENT, ...ADDRESSES);
  await until('the client asks', 10_000, () => client.lines.includes('asked 5') || undefined);
  const said = await docker('h2', 'swarm', 'ca', '--rotate');
  const asked = client.lines.length;
  await until('asked after', 10_000, () => client.lines.length > asked + 10 || undefined);
  client.stop();
  assert.deepEqual(
    client.lines.filter((line) => line.startsWith('failed')),
    [],
  );
  const now = await docker('h1', 'swarm', 'ca');
  assert.notEqual(now, root);
  assert.match(said, /BEGIN CERTIFICATE/);
  assert.equal((await inspect()).RootRotationInProgress, false);
  const states = await docker('h1', 'node', 'ls', '--format', '{{.TLSStatus}}');
  assert.equal(states, 'Ready\nReady\nReady');
  await untilReady('h1', 3);
  assert.deepEqual((await untilRunning('h1', 'web', 3)).map(({ id }) => id).sort(), tasks);
});

test('daemons that start again have their place with the new root', { skip }, async () => {
  for (const host of ['h3', 'h2', 'h1']) {
    await lab('stop-daemon', host);
    await lab('start-daemon', host);
  }
  await untilReady('h1', 3);
});

test('the managers’ disks hold no secret and no key of the CA in the clear', { skip }, async () => {
  const value = 'heron-parallax-5517';
  await within('h1', 'sh', '-c', `printf ${value} | docker secret create hidden -`);
  for (const host of ['h1', 'h2']) {
    const { dataRoot } = layoutOf(host);
    const { stdout } = await outcome('grep', ['-rlaF', '-e', value, '-e', 'CN=tsswarm', dataRoot]);
    assert.equal(stdout.trim(), '', host);
  }
});

test('a locked manager waits for the unlock key, and then has its place again', {
  skip,
}, async () => {
  const said = await docker('h1', 'swarm', 'update', '--autolock');
  const key = /SWMKEY-1-\S+/.exec(said)?.[0] ?? '';
  assert.equal(await docker('h2', 'swarm', 'unlock-key', '-q'), key);
  const keyFile = join(layoutOf('h2').dataRoot, 'swarm', 'node.key');
  await until(
    'h2 is locked',
    10_000,
    () => !readText(keyFile).includes('PRIVATE KEY') || undefined,
  );
  await lab('stop-daemon', 'h2');
  await lab('start-daemon', 'h2');
  const state = (): Promise<string> =>
    docker('h2', 'info', '--format', '{{.Swarm.LocalNodeState}}');
  assert.equal(await state(), 'locked');
  const refused = await within('h2', 'docker', 'node', 'ls');
  assert.match(refused.stderr, /Swarm is encrypted and needs to be unlocked/);
  const unlock = (with_: string) =>
    within('h2', 'sh', '-c', `echo '${with_}' | docker swarm unlock`);
  const wrong = `${key.slice(0, -6)}AAAAAA`;
  assert.match((await unlock(wrong)).stderr, /invalid key provided/);
  assert.equal(await state(), 'locked');
  const left = await within('h2', 'docker', 'swarm', 'leave');
  assert.match(left.stderr, /Swarm is encrypted and locked\. Please unlock it first/);
  assert.equal((await unlock(key)).code, 0);
  assert.equal(await state(), 'active');
  await untilReady('h2', 3);
});

test('a new unlock key takes the old one’s place, and none is needed after that', {
  skip,
}, async () => {
  const before = await docker('h1', 'swarm', 'unlock-key', '-q');
  const keyFile = join(layoutOf('h2').dataRoot, 'swarm', 'node.key');
  const { raftKeys } = readKeys(readText(keyFile), parseUnlockKey(before), random);
  const key = await docker('h1', 'swarm', 'unlock-key', '--rotate', '-q');
  assert.notEqual(key, before);
  const [now] = await until('h2 has a new key for its log, and no other', 20_000, () => {
    try {
      const found = readKeys(readText(keyFile), parseUnlockKey(key), random).raftKeys;
      return found.length === 1 ? found : undefined;
    } catch {
      // Still sealed with the former one.
      return undefined;
    }
  });
  assert.ok(raftKeys.every((former) => Buffer.compare(former, now) !== 0));
  const sealed = readText(keyFile);
  await docker('h1', 'swarm', 'update', '--autolock=false');
  await until('h2 is open', 10_000, () => readText(keyFile).includes('PRIVATE KEY') || undefined);
  assert.doesNotMatch(sealed, /PRIVATE KEY/);
  await lab('stop-daemon', 'h2');
  await lab('start-daemon', 'h2');
  assert.equal(await docker('h2', 'info', '--format', '{{.Swarm.LocalNodeState}}'), 'active');
  await untilReady('h2', 3);
});

test('docker --tlsverify reaches a daemon on TCP, and attaches over it', { skip }, async () => {
  const { socket, dataRoot, execRoot, cgroupParent, logFile } = layoutOf('h3');
  const address = '10.99.0.13';
  const files = await certificates([address]);
  const directory = mkdtempSync(join(tmpdir(), 'keys-tls-'));
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  try {
    const flags = [
      `-H unix://${socket} -H tcp://${address}:2376 --tlsverify`,
      `--tlscacert ${file('ca.pem', files.ca)}`,
      `--tlscert ${file('server.pem', files.server.certificate)}`,
      `--tlskey ${file('server.key', files.server.privateKey)}`,
      `--data-root ${dataRoot} --exec-root ${execRoot} --cgroup-parent ${cgroupParent}`,
    ].join(' ');
    await lab('stop-daemon', 'h3');
    const command = `setsid node ${MAIN} daemon ${flags} >>${logFile} 2>&1 </dev/null &`;
    await within('h3', 'sh', '-c', command);
    await untilReady('h1', 3);
    const target = ['-H', `tcp://${address}:2376`];
    const client = [
      ...['--tlsverify', '--tlscacert', join(directory, 'ca.pem')],
      ...['--tlscert', file('client.pem', files.client.certificate)],
      ...['--tlskey', file('client.key', files.client.privateKey)],
    ];
    const docker3 = (...args: string[]) =>
      inside('client', 'docker', ...target, ...client, ...args);
    const named = await until('it answers over TLS', 20_000, async () => {
      const { stdout } = await docker3('info', '--format', '{{.Name}}');
      return stdout.trim() || undefined;
    });
    assert.equal(named, 'h3');
    const plain = await inside('client', 'docker', ...target, 'info');
    assert.notEqual(plain.code, 0);
    const stranger = await inside('client', 'docker', ...target, '--tls', 'info');
    assert.notEqual(stranger.code, 0);
    const ran = await docker3('run', '--rm', '--network', 'none', WEB_IMAGE, 'no-such-word');
    assert.match(ran.stdout + ran.stderr, /no-such-word|usage/i);
    await lab('stop-daemon', 'h3');
    await lab('start-daemon', 'h3');
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
