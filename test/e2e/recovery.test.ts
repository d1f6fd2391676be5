/**
 * Managers that move, are replaced, lose their files or are lost for good; a swarm that goes on
 * with one of them, and one brought back from a backup on another host. The tests share one lab of
 * three managers and a worker and run in order; docs/recovery.md tells users what they do here.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  api,
  containerPid,
  get,
  inside,
  lab,
  loadImage,
  nodes,
  raise,
  readText,
  running,
  startTimeInside,
  swarm,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { layoutOf, refused, startDaemonOf, stopDaemonOf } from '../support/labHosts.ts';

const SOON_MS = 30_000;
const SECRET = 'what nobody knows';
const state = (host: string, ...names: string[]): string =>
  join(layoutOf(host).dataRoot, 'swarm', ...names);
const HELD = join(layoutOf('h1').dataRoot, '..', 'held');
const BACKUP = join(HELD, 'swarm.backup');

interface ManagerJson {
  readonly ManagerStatus?: { readonly Addr: string; readonly Reachability: string };
}

async function managerOf(host: string, asked: string): Promise<ManagerJson['ManagerStatus']> {
  const id = await swarm(asked, 'node', 'inspect', '--format', '{{.ID}}', host);
  return (JSON.parse(await api(asked, `/nodes/${id}`)) as ManagerJson).ManagerStatus;
}

/** As the files of `host` say. */
async function recovered(host: string, ...more: string[]) {
  const roots = [host, ...more].map((each) => layoutOf(each).dataRoot);
  const { stdout } = await inside(host, 'tsswarm', 'recover', '--json', ...roots);
  return JSON.parse(stdout) as {
    readonly Best: string;
    readonly States: {
      readonly Usable: boolean;
      readonly Problem: string;
      readonly Damage: { readonly File: string; readonly Offset: number }[];
      readonly Raft: { readonly Removed: number[]; readonly LastIndex: number };
      readonly Members: { readonly RaftID: number; readonly Hostname: string }[];
      readonly Discards: string[];
    }[];
  };
}

async function moveTo(host: string, from: string, to: string): Promise<void> {
  await stopDaemonOf(host);
  const link = (await inside(host, 'sh', '-c', `ip -o -4 addr show | grep ${from}/`)).stdout;
  const device = link.split(/\s+/)[1];
  assert.equal((await inside(host, 'ip', 'addr', 'del', `${from}/24`, 'dev', device)).code, 0);
  assert.equal((await inside(host, 'ip', 'addr', 'add', `${to}/24`, 'dev', device)).code, 0);
}

before(async () => {
  await raise(4, 3);
  await loadImage('h1', 'h2', 'h3', 'h4');
  rmSync(HELD, { recursive: true, force: true });
  mkdirSync(HELD, { recursive: true, mode: 0o700 });
  const file = join(HELD, 'secret');
  writeFileSync(file, SECRET);
  await swarm('h1', 'secret', 'create', 'pw', file);
  await swarm('h1', 'network', 'create', 'inner');
  const flags = ['--replicas', '4', '--network', 'inner', '--secret', 'pw', '--publish', '8080:80'];
  // What keeps running is looked at: it is not to make room for a host that is heard again.
  const kept = ['--rebalance', 'off'];
  await swarm('h1', 'service', 'create', '--name', 'web', ...flags, ...kept, WEB_IMAGE);
});

after(async () => {
  rmSync(HELD, { recursive: true, force: true });
  await lab('down');
});

test('a manager and a worker whose addresses changed are reached again', async () => {
  await moveTo('h2', '10.99.0.12', '10.99.0.52');
  await startDaemonOf('h2');
  await refused('h2', ['service', 'ls'], /no address 10.99.0.12.*--advertise-addr/);
  await stopDaemonOf('h2');
  await startDaemonOf('h2', '--advertise-addr', '10.99.0.52');
  await until('h2 is reached at its new address', SOON_MS, async () => {
    const status = await managerOf('h2', 'h1');
    return status?.Addr === '10.99.0.52:2377' && status.Reachability === 'reachable';
  });
  await moveTo('h4', '10.99.0.14', '10.99.0.54');
  await startDaemonOf('h4', '--advertise-addr', '10.99.0.54');
  await untilReady('h1', 4);
  await untilRunning('h1', 'web', 4);
  for (const address of ['10.99.0.52', '10.99.0.54', '10.99.0.11']) {
    assert.notEqual(await get('client', `http://${address}:8080/`), '');
  }
  // The host has kept it: no flag is needed the next time.
  await stopDaemonOf('h2');
  await startDaemonOf('h2');
  await untilReady('h1', 4);
});

test('a manager is replaced in one step, and back', async () => {
  await swarm('h1', 'node', 'promote', '--replace', 'h3', 'h4');
  const managers = (await nodes('h1')).filter(({ manager }) => manager !== '');
  assert.deepEqual(managers.map(({ hostname }) => hostname).sort(), ['h1', 'h2', 'h4']);
  const log = readText(join(layoutOf('h1').dataRoot, 'daemon.log'));
  const other = readText(join(layoutOf('h2').dataRoot, 'daemon.log'));
  assert.match(log + other, /"replacedBy"/);
  await swarm('h1', 'node', 'promote', '--replace', 'h4', 'h3');
  await untilReady('h1', 4);
});

test('what would lose the quorum is refused with the reason', async () => {
  await lab('cut', 'h3');
  await until('h3 is missed', SOON_MS, async () => {
    return (await managerOf('h3', 'h1'))?.Reachability === 'unreachable';
  });
  await refused('h1', ['node', 'demote', 'h2'], /no quorum, as 10.99.0.13:2377 cannot be reached/);
  await lab('heal', 'h3');
  await until('h3 is back', SOON_MS, async () => {
    return (await managerOf('h3', 'h1'))?.Reachability === 'reachable';
  });
});

test('a manager that lost its files becomes another member, the old one never comes back', async () => {
  const before = (await recovered('h1')).States[0];
  const old = before.Members.find(({ Hostname }) => Hostname === 'h3')?.RaftID ?? 0;
  await stopDaemonOf('h3');
  rmSync(state('h3', 'raft'), { recursive: true });
  await startDaemonOf('h3');
  await until('h3 is a manager again', SOON_MS, async () => {
    const [now] = (await recovered('h1')).States;
    const member = now.Members.find(({ Hostname }) => Hostname === 'h3');
    const status = await managerOf('h3', 'h1');
    return now.Raft.Removed.includes(old) && member !== undefined && member.RaftID > old
      ? status?.Reachability === 'reachable'
      : undefined;
  });
  await untilRunning('h1', 'web', 4);
});

test('a backup is written online by any manager, checked, and damage is one clear line', async () => {
  const said = await swarm('h2', 'snapshot', 'save', BACKUP);
  assert.match(said, /holds the key of the CA and every secret in the clear/);
  assert.equal(statSync(BACKUP).mode & 0o777, 0o600);
  const { counts } = JSON.parse(await swarm('h4', 'snapshot', 'inspect', '--json', BACKUP)) as {
    counts: Record<string, number>;
  };
  assert.deepEqual([counts['service'], counts['secret'], counts['node']], [1, 1, 4]);
  const whole = readFileSync(BACKUP);
  const other = `${BACKUP}.other`;
  const cases: readonly (readonly [Buffer, RegExp])[] = [
    [whole.subarray(0, whole.length - 5), /is damaged: it ends early at byte \d+$/],
    [Buffer.from(whole).fill(7, 900, 902), /is damaged: .* at byte \d+$/],
    [Buffer.concat([whole, Buffer.from('x')]), /is damaged: more follows/],
    [Buffer.from(whole).fill(9, 8, 9), /has format 9, and this tsswarm knows 1/],
    [Buffer.from('no backup at all'), /this is no backup/],
  ];
  for (const [bytes, line] of cases) {
    writeFileSync(other, bytes);
    await refused('h1', ['snapshot', 'inspect', other], line);
    await refused('h1', ['snapshot', 'restore', '--force', other], line);
  }
  await refused('h1', ['snapshot', 'restore', BACKUP], /already part of a swarm/);
  await untilReady('h1', 4);
});

test('one manager goes on alone: what it runs does not notice, the others are out', async () => {
  const [own] = (await running('h1', 'web')).filter(({ node }) => node === 'h1');
  const pid = await containerPid('h1', own.id);
  const started = await startTimeInside('h1', pid);
  await refused('h1', ['init', '--force-new-cluster', '--force'], /have a quorum/);
  await lab('kill', 'h2');
  await lab('kill', 'h3');
  const compared = await recovered('h1', 'h2', 'h3');
  assert.ok(compared.Best !== '' && compared.States.every(({ Usable }) => Usable));
  assert.match(compared.States[0].Discards.join('\n'), /manager h2 .*\n.*manager h3 /);
  const unsaid = await inside('h1', 'sh', '-c', 'tsswarm init --force-new-cluster </dev/null');
  assert.notEqual(unsaid.code, 0);
  assert.match(unsaid.stderr, /discards\n.*manager h2 .*\n.*manager h3 /);
  assert.match(unsaid.stderr, /nothing was changed/);
  await swarm('h1', 'init', '--force-new-cluster', '--force');
  const rows = await until('h1 and h4 are what there is', SOON_MS, async () => {
    const all = await nodes('h1');
    return all.every(({ status }) => status === 'Ready') ? all : undefined;
  });
  assert.deepEqual(rows.map(({ hostname }) => hostname).sort(), ['h1', 'h4']);
  await untilRunning('h1', 'web', 4);
  assert.equal(await startTimeInside('h1', pid), started);
  assert.equal(await swarm('h1', 'secret', 'ls', '--format', '{{.Name}}'), 'pw');
  // Two that come back have a quorum of what was; they hear that it is over.
  await Promise.all([lab('start', 'h2'), lab('start', 'h3')]);
  await stopDaemonOf('h2');
  await startDaemonOf('h2', '--advertise-addr', '10.99.0.12');
  for (const host of ['h2', 'h3']) {
    await until(`${host} hears that it is out`, SOON_MS, async () => {
      const { stderr } = await inside(host, 'tsswarm', 'node', 'ls');
      return /was removed from the cluster: run "tsswarm leave --force"/.test(stderr);
    });
  }
  const token = await swarm('h1', 'join-token', '-q', 'manager');
  await swarm('h2', 'leave', '--force');
  await swarm('h2', 'join', '--token', token, '10.99.0.11:2377');
  await untilReady('h1', 3);
  assert.equal((await managerOf('h2', 'h1'))?.Reachability, 'reachable');
});

test('a backup brings services, networks and secrets back on another host', async () => {
  for (const host of ['h1', 'h2', 'h4']) await lab('kill', host);
  await stopDaemonOf('h3');
  cpSync(state('h3'), `${HELD}/h3/swarm`, { recursive: true });
  rmSync(state('h3'), { recursive: true });
  rmSync(join(layoutOf('h3').dataRoot, 'agent'), { recursive: true });
  await startDaemonOf('h3');
  const said = await swarm('h3', 'snapshot', 'restore', BACKUP);
  assert.match(said, /restored: this host .* is its only manager now/);
  const rows = await nodes('h3');
  assert.deepEqual(
    rows.filter(({ manager }) => manager !== '').map(({ hostname }) => hostname),
    ['h3'],
  );
  await until('four run on h3', 90_000, async () => {
    const here = await running('h3', 'web');
    return here.length === 4 && here.every(({ node }) => node === 'h3') ? here : undefined;
  });
  assert.notEqual(await get('client', 'http://10.99.0.13:8080/'), '');
  const secret = await swarm('h3', 'exec', 'web', '/web', 'cat', '/run/secrets/pw');
  assert.equal(secret, SECRET);
  const names = await swarm('h3', 'network', 'ls', '--format', '{{.Name}}');
  assert.match(names, /^inner$/m);
  assert.match(await swarm('h3', 'join-token', 'manager'), /10.99.0.13:2377/);
});

test('a state is made the swarm without a daemon, and a damaged one says where', async () => {
  const root = `${HELD}/h3`;
  const other = `${HELD}/other`;
  cpSync(root, other, { recursive: true });
  const offline = ['recover', '--force-new-cluster', '--force', other];
  assert.match(await swarm('h3', ...offline), /and discards\n.*manager /);
  const alone = JSON.parse(await swarm('h3', 'recover', '--json', other)) as {
    readonly States: { readonly Members: unknown[]; readonly Discards: string[] }[];
  };
  assert.deepEqual([alone.States[0].Members.length, alone.States[0].Discards], [1, []]);
  const file = `${root}/swarm/raft/wal/0000000000000001.wal`;
  const bytes = readFileSync(file);
  bytes.fill(255, 2000, 2003);
  writeFileSync(file, bytes);
  const { code, stdout } = await inside('h3', 'tsswarm', 'recover', root);
  assert.equal(code, 1);
  assert.match(stdout, /damage +\S*\.wal: .* at byte \d+/);
  assert.match(stdout, /cannot be gone on from: it is damaged/);
  assert.match(stdout, /snapshot restore/);
});
