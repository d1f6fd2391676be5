/**
 * What users get wrong, against a real swarm of three managers and a host that is in none: each
 * wrong input is one line on standard error that says what and how to mend it, status 1 (2 when
 * tasks cannot be placed), and nothing has changed. The tests share one lab and run in order.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  api,
  clock,
  inside,
  lab,
  loadImage,
  nodes,
  raise,
  swarm,
  until,
  untilReady,
  WEB_IMAGE,
} from '../support/lab.ts';
import {
  bootSpare,
  daemonRefused,
  inTurns,
  layoutOf,
  MAIN,
  refusal,
  refused,
} from '../support/labHosts.ts';

const WIDTH = 3;
/** Without a verdict it would wait for ever. */
const STUCK_LIMIT_MS = 60_000;
const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];

let token = '';

/** Everything that a refused request could have changed, with versions. */
async function cluster(): Promise<string> {
  const listed = await Promise.all(
    ['/services', '/networks', '/nodes'].map(async (path) => {
      const objects = JSON.parse(await api('h1', path)) as {
        ID?: string;
        Id?: string;
        Version?: { Index: number };
      }[];
      return objects.map((each) => `${each.ID ?? each.Id} ${each.Version?.Index ?? ''}`).sort();
    }),
  );
  return JSON.stringify(listed);
}

before(async () => {
  await raise(3, 3);
  await Promise.all([loadImage('h1', 'h2', 'h3'), bootSpare('h4')]);
  token = await swarm('h1', 'join-token', '-q', 'worker');
  await swarm('h1', 'network', 'create', 'front');
  await swarm('h1', 'service', 'create', '--name', 'web', '--publish', '8080:80', WEB_IMAGE);
});

after(async () => {
  await lab('down');
});

let numbered = 0;
/** Each under a name of its own: one that is let through must not hide the next. */
const create = (...args: string[]): string[] => {
  numbered += 1;
  return ['service', 'create', '--detach', '--name', `x${numbered}`, ...args];
};

const WRONG_REQUESTS: readonly (readonly [string[], RegExp])[] = [
  [create('library/UPPER'), /invalid reference format.*lowercase/],
  [create('a:b:c'), /invalid reference format: "a:b:c"/],
  [create('--network', 'nowhere', WEB_IMAGE), /network nowhere not found: create it with "tss/],
  [create('--constraint', 'node.rle==x', WEB_IMAGE), /invalid constraint "node.rle==x": use node/],
  [create('--constraint', 'node.role', WEB_IMAGE), /invalid constraint "node.role": use/],
  [create('--replcas', '3', WEB_IMAGE), /unknown option '--replcas' \(did you mean --replicas/],
  [create('--nonsense', WEB_IMAGE), /unknown option '--nonsense': see "tsswarm service create --h/],
  [create('--replicas', '-1', WEB_IMAGE), /--replicas.*whole number/],
  [
    create('--publish', '99999:80', WEB_IMAGE),
    /invalid port "99999:80": "99999" is not in 1-65535/,
  ],
  [create('--publish', '80:0', WEB_IMAGE), /invalid port "80:0"/],
  [
    create('--publish', '8080:80', WEB_IMAGE),
    /8080\/tcp is already published by service "web": ch/,
  ],
  [create('--limit-memory', 'much', WEB_IMAGE), /"much"/],
  [create('--restart-condition', 'never', WEB_IMAGE), /restart.*never/i],
  [create('--mount', 'type=bind,source=relative,target=/x', WEB_IMAGE), /relative/],
  [create('--env', '=x', WEB_IMAGE), /invalid variable "=x": write NAME=VALUE/],
  [['service', 'create', '--name', 'web', WEB_IMAGE], /a service named "web" exists already/],
  [['service', 'create', '--name', 'no way', WEB_IMAGE], /invalid service name "no way": use/],
  [['service', 'create'], /missing required argument 'image': write "tsswarm service create/],
  [['service', 'crate'], /unknown command 'crate' \(did you mean create/],
  [['srevice', 'ls'], /unknown command 'srevice' \(did you mean service/],
  [['service', 'scale', 'nope=3'], /service nope not found/],
  [['service', 'scale', 'web=many'], /invalid scale "web=many": write SERVICE=REPLICAS/],
  [['service', 'update', '--image', 'x', 'nope'], /service nope not found/],
  [['service', 'rollback', 'web'], /no previous spec/],
  [['service', 'rm', 'nope'], /service nope not found/],
  [['service', 'ps', 'nope'], /service nope not found/],
  [['service', 'logs', 'nope'], /no such task or service: nope/],
  [['service', 'ls', '--filter', 'color=red'], /filter.*color/],
  [['service', 'ls', '--filter', 'name'], /invalid filter "name": write it like/],
  [['service', 'ls', '--format', '{{.Nope}}'], /invalid template.*\.Nope is unknown: use \.ID, /],
  [['network', 'create', 'front'], /a network named "front" exists already/],
  [['network', 'create', '--subnet', '300.1.1.0/24', 'n'], /"300.1.1.0\/24" is no subnet: write/],
  [['network', 'create', '--driver', 'fancy', 'n'], /fancy.*overlay/],
  [['network', 'rm', 'nope'], /network nope not found/],
  [['node', 'inspect', 'nope'], /node nope not found/],
  [['node', 'update', '--availability', 'lazy', 'h2'], /lazy.*active, pause, drain/],
  [['node', 'rm', 'h2'], /demote it first \("tsswarm node demote h2"\)/],
  [['image', 'rm', 'nope'], /nope/],
  [['image', 'load', '--input', '/nope.tar'], /\/nope.tar: there is no such file/],
  [['join-token', 'boss'], /unknown role "boss": use worker or manager/],
  [['init'], /already part of a swarm. Use "tsswarm leave"/],
  [['leave'], /participating as a manager.*--force/],
];

test('each wrong request is one line that says how to mend it, and changes nothing', async () => {
  const earlier = await cluster();
  const jobs = WRONG_REQUESTS.map(
    ([args, line]) =>
      () =>
        refused('h1', args, line),
  );
  jobs.push(() =>
    refused('h2', ['join', '--token', token, '10.99.0.11'], /already part of a swarm/),
  );
  await inTurns(WIDTH, jobs);
  assert.equal(await cluster(), earlier);
});

test('an update from a stale version is refused and changes nothing', async () => {
  const service = JSON.parse(await api('h1', '/services/web'));
  await swarm('h1', 'service', 'update', '--label-add', 'a=b', '--detach', 'web');
  const script = `const { request } = require('node:http');
    const question = request({ socketPath: process.env.TSSWARM_HOST.slice(7), method: 'POST',
      path: process.argv[1] }, (answer) => { process.stdout.write(answer.statusCode + ' ');
      answer.pipe(process.stdout); });
    question.end(process.argv[2]);`;
  const path = `/services/${service.ID}/update?version=${service.Version.Index}`;
  const answer = await inside('h2', 'node', '-e', script, path, JSON.stringify(service.Spec));
  assert.match(answer.stdout, /^500 .*update out of sequence.*has changed meanwhile/);
  const now = JSON.parse(await api('h1', '/services/web'));
  assert.deepEqual(now.Spec.Labels, { a: 'b' });
});

test('what cannot be placed ends with status 2 and why, and the service is kept', async () => {
  const cases: readonly (readonly [string, string[], RegExp])[] = [
    [
      'far',
      ['--constraint', 'node.labels.zone==mars', WEB_IMAGE],
      /no suitable node \(constraint n/,
    ],
    [
      'fat',
      ['--reserve-memory', '100TiB', WEB_IMAGE],
      /no suitable node \(insufficient memory on 3/,
    ],
    ['unknown', ['--no-resolve-image', 'nowhere/image:1'], /No such image: nowhere\/image:1/],
  ];
  await Promise.all(
    cases.map(async ([name, args, line]) => {
      const startedMs = clock.nowMs();
      const result = await inside('h1', 'tsswarm', 'service', 'create', '--name', name, ...args);
      assert.match(refusal(name, result, 2), line);
      assert.ok(clock.nowMs() - startedMs < STUCK_LIMIT_MS, `${clock.nowMs() - startedMs} ms`);
    }),
  );
  const listed = await swarm('h1', 'service', 'ls', '--format', '{{.Name}} {{.Replicas}}');
  for (const [name] of cases) assert.match(listed, new RegExp(`^${name} 0/1$`, 'm'));
  const told = await swarm('h1', 'service', 'ps', 'unknown', '--no-trunc');
  assert.match(told, /Rejected .*No such image: nowhere\/image:1/);
  await swarm('h1', 'service', 'rm', 'far', 'fat', 'unknown');
});

test('a port that another service took is named when an update asks for it', async () => {
  await swarm('h1', 'service', 'create', '--name', 'other', WEB_IMAGE);
  const args = ['service', 'update', '--publish-add', '8080:80', 'other'];
  await refused('h1', args, /8080\/tcp is already published by service "web"/);
  await swarm('h1', 'service', 'rm', 'other');
});

test('each wrong way into a swarm is one line, and the host stays outside', async () => {
  const join = (given: string, ...rest: string[]): string[] => ['join', '--token', given, ...rest];
  const wrongSecret = `${token.slice(0, -5)}00000`;
  // A real token of a real swarm, which this host founded and left.
  await swarm('h4', 'init');
  const foreign = await swarm('h4', 'join-token', '-q', 'worker');
  await swarm('h4', 'leave', '--force');
  const wrongRoot = `SWMTKN-1-${'0'.repeat(50)}-${token.slice(-25)}`;
  const there = '10.99.0.11:2377';
  const cases: readonly (readonly [string[], RegExp])[] = [
    [['node', 'ls'], /not a swarm manager: it is in no swarm. Use "tsswarm init"/],
    [['leave'], /not part of a swarm/],
    [['join', there], /--token is missing: "tsswarm join-token worker" on a manager shows it/],
    [['join', '--token', token], /missing required argument 'manager'/],
    [join('secret', there), /not a join token: copy it whole/],
    [join(wrongSecret, there), /join token is not valid .*get the current one/],
    [join(foreign, there), /not of the cluster that answers at 10.99.0.11:2377/],
    [join(wrongRoot, there), /not of the cluster that answers at 10.99.0.11:2377 \(its CA differs/],
    [join(token, '10.99.0.77:2377'), /cannot reach 10.99.0.77:2377: .*firewall/],
    [join(token, '10.99.0.11:9'), /cannot reach 10.99.0.11:9: .*REFUSED.*is the daemon running/],
    [join(token, 'not a host'), /invalid manager address "not a host": write host or host:port/],
    [
      join(token, '--advertise-addr', '10.99.0.77', there),
      /not an address of this host \(10.99.0.14/,
    ],
    [join(token, '--advertise-addr', 'eth9', there), /neither an IPv4 address nor an interface/],
    [join(token, '--availability', 'lazy', there), /lazy.*active, pause, drain/],
    [['init', '--advertise-addr', '203.0.113.1'], /not an address of this host/],
    [['init', '--default-addr-pool', '1.2.3.4'], /invalid --default-addr-pool "1.2.3.4": write/],
    [['init', '--cert-expiry', 'soon'], /invalid duration "soon": write it like/],
    [['init', '--cert-expiry', '1s'], /cert-expiry is too short: use at least 1h/],
  ];
  await inTurns(
    WIDTH,
    cases.map(
      ([args, line]) =>
        () =>
          refused('h4', args, line),
    ),
  );
  assert.match(await swarm('h4', 'info'), /^Swarm: +inactive$/m);
  assert.equal((await nodes('h1')).length, 3);
});

test('a kernel feature that is missing is named', async () => {
  // What the probe needs, hidden: as on a kernel without it, it fails.
  const hide = 'mount --bind /bin/false "$(command -v nft)"';
  await lab('stop-daemon', 'h4');
  assert.equal((await inside('h4', 'sh', '-c', hide)).code, 0);
  await lab('start-daemon', 'h4');
  await refused(
    'h4',
    ['init'],
    /^tsswarm: this kernel lacks nftables with NAT.*: load it with "mod/,
  );
  assert.match(await swarm('h4', 'info'), /^Swarm: +inactive$/m);
  assert.equal((await inside('h4', 'sh', '-c', 'umount "$(command -v nft)"')).code, 0);
});

test('a firewall that keeps the managers out is told with the ports to open', async () => {
  const chain = 'chain in { type filter hook input priority 0; tcp dport 2377 drop; }';
  assert.equal((await inside('h4', 'nft', `table inet wall { ${chain}; }`)).code, 0);
  const args = ['join', '--token', token, '10.99.0.11:2377'];
  await refused(
    'h4',
    args,
    /cannot reach this host at 10.99.0.14:2377.*open TCP 2377 and UDP 4789/,
  );
  assert.equal((await nodes('h1')).length, 3);
  assert.match(await swarm('h4', 'info'), /^Swarm: +inactive$/m);
  assert.equal((await inside('h4', 'nft', 'delete table inet wall')).code, 0);
  await swarm('h4', ...args);
  await untilReady('h1', 4);
  await refused('h4', ['service', 'ls'], /not a swarm manager.*Run this on a manager \(10.99.0.11/);
  await swarm('h4', 'leave');
  await until('h4 is down', 15_000, async () =>
    (await nodes('h1')).some((row) => row.hostname === 'h4' && row.status === 'Down'),
  );
  await swarm('h1', 'node', 'rm', 'h4');
});

test('a daemon that cannot be reached is told with the way to start it', async () => {
  const without = await inside('h1', 'tsswarm', '--host', 'unix:///run/nobody.sock', 'node', 'ls');
  assert.match(refusal('no socket', without), /start it with "systemctl start tsswarm"/);
  const odd = await inside('h1', 'tsswarm', '--host', 'swarm', 'node', 'ls');
  assert.match(refusal('odd address', odd), /"swarm" is no address of a daemon: write unix:/);
  const nobody = await inside('h1', ...NOBODY, 'node', MAIN, 'node', 'ls');
  assert.match(refusal('nobody', nobody), /no permission.*run as root, or join the group tsswarm/);
});

test('a daemon that may not start says why and ends', async () => {
  const { execRoot } = layoutOf('h4');
  const elsewhere = {
    '--data-root': join(execRoot, 'other'),
    '--exec-root': join(execRoot, 'run'),
  };
  const file = join(execRoot, 'file');
  writeFileSync(file, '');
  const socket = { '--host': `unix://${join(execRoot, 'other.sock')}` };
  await daemonRefused(
    'h4',
    socket,
    /another daemon \(pid \d+\) uses \S+: stop it, or give this one/,
  );
  await daemonRefused(
    'h4',
    elsewhere,
    /another daemon \(--exec-root \S+\) manages this host's network; stop it/,
  );
  await daemonRefused('h4', { ...elsewhere, '--label': 'x' }, /invalid label "x": write key=value/);
  await daemonRefused(
    'h4',
    { ...elsewhere, ...socket, '--data-root': join(file, 'state') },
    /^tsswarm: .*file\/state/,
  );
  await daemonRefused('h4', { '--host': 'tcp://0.0.0.0:1' }, /without encryption.*use --tlsverify/);
  const nobody = await inside(
    'h4',
    ...NOBODY,
    'node',
    MAIN,
    'daemon',
    '--data-root',
    '/tmp/nobody',
  );
  assert.match(refusal('nobody', nobody), /the daemon needs root/);
  assert.match(await swarm('h4', 'info'), /^Swarm: +inactive$/m);
});
