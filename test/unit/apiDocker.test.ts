/** The real docker client against the API. Skipped, visibly, where there is none from 24 on. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { issuerDigest, trustDigest } from '../../manager/ca/trust.ts';
import { TestAuthority } from '../support/certificates.ts';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import { serveNode } from '../support/servedNode.ts';

const skip = await skipWithoutDocker();
const served = await serveNode();
after(() => served.close());

/** Runs docker and wants it to succeed; its standard output. */
async function docker(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await served.docker(...args);
  assert.equal(code, 0, `docker ${args.join(' ')}: ${stderr}`);
  return stdout;
}

test('docker version and docker info know the daemon and the swarm', { skip }, async () => {
  assert.match(await docker('version'), /Server: tsswarm\n Engine:\n {2}Version: +0\.1\.0/);
  const info = await docker('info');
  assert.match(info, /Swarm: active\n/);
  assert.match(info, /Is Manager: true\n/);
  assert.match(info, /Managers: 3\n {2}Nodes: 3\n/);
});

test('docker node ls sees that all nodes have certificates of the root', { skip }, async () => {
  const { root } = await TestAuthority.make(1_700_000_000_000);
  const cluster = served.node.store.cluster()!;
  const object = { ...cluster, rootCaCertificate: root.certificate };
  served.node.write({ kind: 'update', table: 'cluster', object });
  const tls = { issuer: issuerDigest(root.certificate), trust: trustDigest(root.certificate) };
  for (const node of served.node.store.all('node')) {
    const told = { ...node, tls: { ...node.tls, ...tls } };
    served.node.write({ kind: 'update', table: 'node', object: told });
  }
  const states = await docker('node', 'ls', '--format', '{{.TLSStatus}}');
  assert.equal(states, 'Ready\nReady\nReady\n');
});

test('docker node ls, inspect, update, ps, promote, demote, rm', { skip }, async () => {
  const list = await docker('node', 'ls');
  assert.match(list, /^\S+ \* +h1 +Ready +Active +Leader +0\.1\.0$/m);
  assert.match(list, /^\S+ +h2 +Ready +Active +Reachable +0\.1\.0$/m);
  assert.match(await docker('node', 'inspect', '--pretty', 'self'), /Hostname:\s+h1\n/);
  await docker('node', 'update', '--label-add', 'zone=a', '--availability', 'drain', 'h2');
  const spec = await docker('node', 'inspect', '-f', '{{json .Spec}}', 'h2');
  assert.deepEqual(JSON.parse(spec), {
    Labels: { zone: 'a' },
    Role: 'manager',
    Availability: 'drain',
  });
  assert.match(await docker('node', 'demote', 'h2'), /demoted/);
  assert.match(await docker('node', 'promote', 'h2'), /promoted/);
  await docker('node', 'update', '--availability', 'active', 'h2');
  await docker('node', 'ps', 'h1');
  const refused = await served.docker('node', 'rm', 'h3');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is not down and can't be removed/);
});

test('docker service create waits until its tasks run and pins the digest', { skip }, async () => {
  const { code, stdout, stderr } = await served.docker(
    ...['service', 'create', '--name', 'web', '--replicas', '3', '--publish', '8080:80'],
    ...['--env', 'A=1', '--limit-memory', '64m', '--update-monitor', '100ms'],
    ...['--constraint', 'node.role==manager', 'web'],
  );
  assert.equal(code, 0, stderr);
  assert.match(stdout, /overall progress: 3 out of 3 tasks/);
  assert.match(stdout, /converged/);
  const service = served.node.store.serviceByName('web')!;
  assert.equal(service.spec.task.container.image, `web:latest@sha256:${'b'.repeat(64)}`);
  assert.equal(service.spec.task.limits.memoryBytes, 64 * 1024 * 1024);
  assert.deepEqual(service.spec.task.placement.platforms, [
    { os: 'linux', architecture: 'x86_64' },
  ]);
  assert.match(
    await docker('service', 'ls'),
    /^\S+ +web +replicated +3\/3 +web:latest +\*:8080->80\/tcp$/m,
  );
  assert.match(await docker('service', 'ps', 'web'), /web\.3 +web:latest +h3 +Running/);
  assert.match(await docker('service', 'inspect', '--pretty', 'web'), /Replicas:\s+3/);
});

test('docker service scale, update, rollback, logs, rm', { skip }, async () => {
  await docker('service', 'scale', '--detach', 'web=2');
  const update = ['--detach', '--env-add', 'B=2', '--env-rm', 'A', '--publish-rm', '80'];
  await docker('service', 'update', ...update, '--hostname', 'x', 'web');
  const { spec } = served.node.store.serviceByName('web')!;
  assert.deepEqual(spec.task.container.env, ['B=2']);
  assert.deepEqual(spec.ports, []);
  assert.deepEqual(spec.mode, { kind: 'replicated', replicas: 2 });
  await docker('service', 'rollback', '--detach', 'web');
  assert.deepEqual(served.node.store.serviceByName('web')!.spec.task.container.env, ['A=1']);
  served.node.logLines = [{ stream: 'stdout', text: 'hello' }];
  const logs = await docker('service', 'logs', '-t', 'web');
  assert.match(logs, /^2023-11-14T22:13:20\.123456789Z web\.1\.\S+@h1 +\| hello$/m);
  const refused = await served.docker('service', 'update', '--secret-add', 'x', 'web');
  assert.equal(refused.code, 1);
  await docker('service', 'rm', 'web');
  assert.equal(served.node.store.count('service'), 0);
});

test('docker service create of what is not built is refused by its path', { skip }, async () => {
  const { code, stderr } = await served.docker(
    ...['service', 'create', '--detach', '--name', 'h'],
    ...['--credential-spec', 'file://a', 'web'],
  );
  assert.equal(code, 1);
  assert.match(
    stderr,
    /TaskTemplate\.ContainerSpec\.Privileges\.CredentialSpec is not supported by tsswarm/,
  );
  assert.equal(served.node.store.count('service'), 0);
});

test('docker network create, ls, inspect, rm', { skip }, async () => {
  const create = ['network', 'create', '--driver', 'overlay', '--subnet', '10.7.0.0/24'];
  const id = (await docker(...create, '--attachable', 'front')).trim();
  assert.match(await docker('network', 'ls'), /^\S+ +front +overlay +swarm$/m);
  assert.match(await docker('network', 'ls'), /^\S+ +bridge +bridge +local$/m);
  const subnet = ['-f', '{{(index .IPAM.Config 0).Subnet}} {{.Id}}', 'front'];
  assert.equal((await docker('network', 'inspect', ...subnet)).trim(), `10.7.0.0/24 ${id}`);
  await docker('service', 'create', '--detach', '--name', 'n', '--network', 'front', 'web');
  const used = await served.docker('network', 'rm', 'front');
  assert.match(used.stderr, /network is in use by n: remove them first/);
  await docker('service', 'rm', 'n');
  await docker('network', 'rm', 'front');
  assert.equal(served.node.store.count('network'), 0);
  const other = await served.docker('network', 'create', '--driver', 'macvlan', 'plain');
  assert.match(other.stderr, /"macvlan" networks cannot be created: use --driver bridge or/);
});

test('docker image ls, load, inspect, tag, save, rm', { skip }, async () => {
  assert.match(await docker('image', 'ls'), /^web +latest +a{12} /m);
  const tar = join(served.directory, 'web.tar');
  writeFileSync(tar, Buffer.alloc(2048));
  assert.match(await docker('image', 'load', '-i', tar), /Loaded image: web:latest/);
  assert.equal((await docker('image', 'inspect', '-f', '{{.Os}}', 'web')).trim(), 'linux');
  await docker('image', 'tag', 'web', 'host:5000/a/web:2');
  assert.deepEqual(served.node.images.tagged, ['host:5000/a/web:2']);
  assert.match(await docker('pull', 'web'), /Digest: sha256:b{64}/);
  assert.match(await docker('image', 'save', 'web'), /^archive of .*web:latest$/);
  await docker('image', 'rm', 'web');
  assert.equal((await docker('image', 'ls', '-q')).trim(), '');
});

test('docker swarm join-token, update, leave', { skip }, async () => {
  assert.match(await docker('swarm', 'join-token', '-q', 'worker'), /^SWMTKN-1-d{50}-w{25}\n$/);
  await docker('swarm', 'join-token', '--rotate', '-q', 'worker');
  await docker('swarm', 'update', '--task-history-limit', '2');
  assert.equal(served.node.store.cluster()?.spec.taskHistoryLimit, 2);
  const external = ['--external-ca', 'protocol=cfssl,url=https://ca.example'];
  const foreign = await served.docker('swarm', 'update', ...external);
  assert.match(foreign.stderr, /CAConfig\.ExternalCAs is not supported by tsswarm/);
  const events = ['events', '--since', '1', '--until', '1700000900', '-f', 'type=network'];
  assert.match(await docker(...events), /network create \S+ \(name=front, type=overlay\)/);
  const refused = await served.docker('swarm', 'leave');
  assert.match(refused.stderr, /you are a manager/);
  await docker('swarm', 'leave', '--force');
  const outside = await served.docker('node', 'ls');
  assert.match(outside.stderr, /This node is not a swarm manager/);
});
