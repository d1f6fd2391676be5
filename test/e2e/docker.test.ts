/**
 * The real docker client against real daemons in a lab: what an operator who knows Docker types,
 * with the answers he knows. Skipped, visibly, where there is no client from 24 on. The tests share
 * one lab of three managers and run in order.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import {
  clock,
  follow,
  get,
  lab,
  raise,
  swarm,
  until,
  untilReady,
  WEB_IMAGE,
  WEB_TAR,
} from '../support/lab.ts';
import { docker, within } from '../support/labHosts.ts';

const WAIT_MS = 20_000;
const skip = await skipWithoutDocker();

async function dockerRefused(host: string, args: readonly string[], line: RegExp): Promise<void> {
  const { code, stderr } = await within(host, 'docker', ...args);
  assert.notEqual(code, 0, `docker ${args.join(' ')}`);
  assert.match(stderr, line);
}

before(async () => {
  if (skip === false) await raise(3, 3);
});

after(async () => {
  if (skip === false) await lab('down');
});

test('docker version has a server, docker info the swarm and the host', { skip }, async () => {
  const version = await docker('h1', 'version');
  assert.match(version, /^Server: tsswarm$/m);
  assert.match(version, /^ {2}Version: +\d+\.\d+\.\d+$/m);
  assert.match(version, /^ {2}API version: +1\.\d+ \(minimum version 1\.\d+\)$/m);
  const info = await docker('h1', 'info');
  assert.match(info, /^ Name: h1$/m);
  assert.match(info, /^ Swarm: active$/m);
  assert.match(
    info,
    /^ {2}Is Manager: true\n {2}ClusterID: \S{25}\n {2}Managers: 3\n {2}Nodes: 3$/m,
  );
  assert.match(info, /^ {2}Node Address: 10\.99\.0\.11$/m);
  assert.match(info, /^ {3}10\.99\.0\.13:2377$/m);
  assert.match(info, /^ Cgroup Version: [12]$/m);
  assert.match(info, /^ CPUs: \d+$/m);
});

test('docker image load, ls, inspect, tag, rm', { skip }, async () => {
  const hosts = ['h1', 'h2', 'h3'];
  const loaded = await Promise.all(
    hosts.map((host) => docker(host, 'image', 'load', '-i', WEB_TAR)),
  );
  for (const said of loaded) assert.match(said, /Loaded image: tsswarm\/web:latest/);
  assert.match(
    await docker('h1', 'image', 'ls'),
    /^tsswarm\/web +latest +[0-9a-f]{12} .* [0-9.]+kB$/m,
  );
  const format = ['--format', '{{.Os}} {{json .Config.Entrypoint}}'];
  assert.equal(await docker('h1', 'image', 'inspect', ...format, WEB_IMAGE), 'linux ["/web"]\n');
  await docker('h1', 'image', 'tag', WEB_IMAGE, 'mine:1');
  assert.match(await docker('h1', 'image', 'rm', 'mine:1'), /^Untagged: mine:1$/m);
  assert.doesNotMatch(await docker('h1', 'image', 'ls'), /^mine /m);
  await dockerRefused('h1', ['image', 'rm', 'mine:1'], /no such image: mine:1/i);
});

test('docker node ls, inspect, update, ps', { skip }, async () => {
  await untilReady('h1', 3);
  const list = await docker('h2', 'node', 'ls');
  assert.match(list, /^ID +HOSTNAME +STATUS +AVAILABILITY +MANAGER STATUS +ENGINE VERSION$/m);
  assert.match(list, /^\S{25} \* +h2 +Ready +Active +(Leader|Reachable) +\S+$/m);
  assert.equal(list.match(/Leader/g)?.length, 1);
  const pretty = await docker('h1', 'node', 'inspect', '--pretty', 'h3');
  assert.match(pretty, /^Hostname: +\th3$/m);
  assert.match(pretty, /^ Address:\t\t10\.99\.0\.13:2377$/m);
  await docker('h1', 'node', 'update', '--label-add', 'zone=a', 'h3');
  const labels = await docker('h2', 'node', 'inspect', '-f', '{{json .Spec.Labels}}', 'h3');
  assert.deepEqual(JSON.parse(labels), { zone: 'a' });
  assert.match(await docker('h1', 'node', 'ps'), /^ID +NAME +IMAGE +NODE/);
});

test('docker network create, ls, inspect, rm', { skip }, async () => {
  const create = ['network', 'create', '--driver', 'overlay', '--subnet', '10.7.0.0/24'];
  const id = (await docker('h1', ...create, 'front')).trim();
  assert.match(id, /^[0-9a-z]{25}$/);
  assert.match(await docker('h2', 'network', 'ls'), /^\S+ +front +overlay +swarm$/m);
  const subnet = ['-f', '{{(index .IPAM.Config 0).Subnet}}', 'front'];
  assert.equal(await docker('h2', 'network', 'inspect', ...subnet), '10.7.0.0/24\n');
  await docker('h1', 'network', 'create', '--driver', 'overlay', 'back');
  assert.equal(await docker('h1', 'network', 'rm', 'back'), 'back\n');
  assert.doesNotMatch(await docker('h1', 'network', 'ls'), / back /);
  await dockerRefused('h1', ['network', 'inspect', 'back'], /not found/);
});

test('docker service create waits until it has converged; ls, ps and inspect tell', {
  skip,
}, async () => {
  const said = await docker(
    ...['h1', 'service', 'create', '--name', 'web', '--replicas', '3', '--network', 'front'],
    ...['--publish', '8080:80', '--env', 'TASK_NAME={{.Task.Name}}', '--update-monitor', '1s'],
    ...['--limit-memory', '64m', '--label', 'tier=edge', WEB_IMAGE],
  );
  assert.match(said, /overall progress: 3 out of 3 tasks/);
  assert.match(said, /verify: Service \S{25} converged/);
  const row = /^\S{12} +web +replicated +3\/3 +tsswarm\/web:latest +\*:8080->80\/tcp$/m;
  assert.match(await docker('h2', 'service', 'ls'), row);
  assert.match(
    await docker('h2', 'service', 'ls', '--filter', 'label=tier=edge', '-q'),
    /^\S{12}\n$/,
  );
  const tasks = await docker('h3', 'service', 'ps', 'web');
  for (const host of ['h1', 'h2', 'h3']) {
    assert.match(tasks, new RegExp(`^\\S{12} +web\\.\\d .*${host} +Running +Running `, 'm'));
  }
  assert.match(await docker('h1', 'node', 'ps', 'h3'), /web\.\d +tsswarm\/web:latest +h3 +Running/);
  const pretty = await docker('h1', 'service', 'inspect', '--pretty', 'web');
  assert.match(pretty, /^Service Mode:\tReplicated\n Replicas:\t3$/m);
  assert.match(pretty, /^ {2}Memory:\t64MiB$/m);
  assert.match(pretty, /PublishedPort = 8080/);
  const answer = await until('it answers', WAIT_MS, () => get('client', 'http://10.99.0.12:8080/'));
  assert.match(answer, /task=web\.\d/);
});

test('docker service scale and update change what runs', { skip }, async () => {
  const scaled = await docker('h2', 'service', 'scale', 'web=5');
  assert.match(scaled, /^web scaled to 5$/m);
  assert.match(scaled, /overall progress: 5 out of 5 tasks/);
  const update = ['--update-delay', '0s', '--update-parallelism', '0'];
  const updated = await docker('h1', 'service', 'update', ...update, '--env-add', 'A=1', 'web');
  assert.match(updated, /converged/);
  const env = ['service', 'inspect', '-f', '{{json .Spec.TaskTemplate.ContainerSpec.Env}}', 'web'];
  assert.match(await docker('h1', ...env), /"A=1"/);
  const status = ['service', 'inspect', '-f', '{{.UpdateStatus.State}}', 'web'];
  assert.equal(await docker('h1', ...status), 'completed\n');
  await docker('h1', 'service', 'update', '--replicas', '2', '--args', 'serve', 'web');
  const ids = ['service', 'ps', '-q', '--filter', 'desired-state=running', 'web'];
  const earlier = (await docker('h1', ...ids)).trim().split('\n').sort();
  assert.equal(earlier.length, 2);
  await docker('h1', 'service', 'update', '--force', 'web');
  const later = (await docker('h1', ...ids)).trim().split('\n').sort();
  assert.equal(later.length, 2);
  assert.ok(
    later.every((id) => !earlier.includes(id)),
    `${earlier} ${later}`,
  );
  for (const host of ['h1', 'h2', 'h3']) {
    await docker(host, 'image', 'tag', WEB_IMAGE, 'tsswarm/web:next');
  }
  await docker('h1', 'service', 'update', '--image', 'tsswarm/web:next', 'web');
  assert.match(await docker('h1', 'service', 'ls'), /web +replicated +2\/2 +tsswarm\/web:next/);
});

test('docker service rollback goes back to the specification before', { skip }, async () => {
  const env = ['service', 'inspect', '-f', '{{json .Spec.TaskTemplate.ContainerSpec.Env}}', 'web'];
  await docker('h1', 'service', 'update', '--env-add', 'A=2', 'web');
  assert.match(await docker('h1', ...env), /"A=2"/);
  const said = await docker('h1', 'service', 'rollback', 'web');
  assert.match(said, /rollback: manually requested rollback|converged/);
  assert.match(await docker('h2', ...env), /"A=1"/);
});

test('an update to an image that is not there fails and is told', { skip }, async () => {
  const update = ['service', 'update', '--update-failure-action', 'pause', '--no-resolve-image'];
  await docker('h1', ...update, '--detach', '--image', 'nowhere/image:1', 'web');
  const told = await until('the reason is told', WAIT_MS, async () => {
    const text = await docker('h1', 'service', 'ps', '--no-trunc', 'web');
    return text.includes('No such image: nowhere/image:1') ? text : undefined;
  });
  assert.match(told, /Rejected/);
  await docker('h1', 'service', 'update', '--detach', '--image', WEB_IMAGE, 'web');
  await until('both run again', WAIT_MS, async () =>
    /2\/2/.test(await docker('h1', 'service', 'ls')) ? true : undefined,
  );
});

test('docker service logs shows what every task wrote, and follows', { skip }, async () => {
  const logs = await docker('h1', 'service', 'logs', 'web');
  assert.match(logs, /^web\.\d\.\S+@h\d +\| \S/m);
  const followed = follow('h2', 'docker', 'service', 'logs', '--follow', 'web');
  try {
    await until('what was written', WAIT_MS, () => followed.lines.length > 0 || undefined);
    // A task that starts later is followed too.
    await docker('h1', 'service', 'scale', 'web=3');
    const line = /^web\.3\.\S+@h\d +\| \S/;
    await until(
      'a new line',
      WAIT_MS,
      () => followed.lines.some((each) => line.test(each)) || undefined,
    );
  } finally {
    followed.stop();
  }
});

test('docker events tells what happened', { skip }, async () => {
  const sinceSeconds = Math.floor(clock.wallMs() / 1000) - 1;
  await docker('h1', 'network', 'create', '--driver', 'overlay', 'told');
  await docker('h1', 'service', 'update', '--detach', '--label-add', 'x=y', 'web');
  await docker('h1', 'network', 'rm', 'told');
  const untilSeconds = Math.ceil(clock.wallMs() / 1000) + 1;
  const range = ['--since', String(sinceSeconds), '--until', String(untilSeconds)];
  const events = await docker('h1', 'events', ...range);
  assert.match(events, / network create \S+ \(.*name=told/);
  assert.match(events, / service update \S+ \(.*name=web/);
  assert.match(events, / network remove \S+ \(.*name=told/);
  const only = await docker('h1', 'events', ...range, '--filter', 'type=service');
  assert.doesNotMatch(only, / network /);
});

test('docker service rm and what is not there', { skip }, async () => {
  assert.equal(await docker('h3', 'service', 'rm', 'web'), 'web\n');
  await dockerRefused('h1', ['service', 'inspect', 'web'], /no such service: web/i);
  await dockerRefused('h1', ['service', 'create', 'UP:PER:x'], /invalid reference format/);
  const chosen = await docker('h1', 'service', 'create', '--detach', '--replicas', '0', WEB_IMAGE);
  const name = await docker('h1', 'service', 'inspect', '-f', '{{.Spec.Name}}', chosen.trim());
  assert.match(name, /^web-[0-9a-z]{6}\n$/);
  await docker('h1', 'service', 'rm', chosen.trim());
  const unknown = ['service', 'create', '--network', 'nowhere', WEB_IMAGE];
  await dockerRefused('h1', unknown, /network nowhere not found/);
  await docker('h1', 'network', 'rm', 'front');
});

test('docker swarm join-token, leave --force, join', { skip }, async () => {
  const told = await docker('h1', 'swarm', 'join-token', 'worker');
  assert.match(told, /docker swarm join --token SWMTKN-1-\S+ 10\.99\.0\.11:2377/);
  const token = (await docker('h2', 'swarm', 'join-token', '-q', 'worker')).trim();
  assert.ok(told.includes(token));
  await dockerRefused('h3', ['swarm', 'leave'], /participating as a manager|you are a manager/);
  assert.match(await docker('h3', 'swarm', 'leave', '--force'), /Node left the swarm/);
  await dockerRefused('h3', ['node', 'ls'], /This node is not a swarm manager/);
  await until('h3 is down', WAIT_MS, async () =>
    /h3 +Down/.test(await docker('h1', 'node', 'ls')) ? true : undefined,
  );
  const joined = await docker('h3', 'swarm', 'join', '--token', token, '10.99.0.12:2377');
  assert.match(joined, /This node joined a swarm as a worker/);
  await until('a worker is ready', WAIT_MS, async () =>
    /h3 +Ready +Active +\d/.test(await docker('h1', 'node', 'ls')) ? true : undefined,
  );
  assert.match(await swarm('h3', 'info'), /^Swarm: +active$/m);
});
