/**
 * What tsswarm's commands send, compared with what the real docker client sends for the same words.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { skipWithoutDocker } from '../support/dockerClient.ts';
import { essence, type Recorded, recordingDaemon } from '../support/recordingDaemon.ts';
import { run } from '../support/servedNode.ts';

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const skip = await skipWithoutDocker();

const SERVICE = {
  ID: 'sid',
  Version: { Index: 7 },
  Spec: {
    Name: 'web',
    Labels: { a: '1', b: '2' },
    TaskTemplate: {
      ContainerSpec: {
        Image: 'nginx:1',
        Env: ['A=1', 'B=2'],
        Args: ['old'],
        Hosts: ['1.2.3.4 h'],
        Mounts: [{ Type: 'tmpfs', Target: '/t' }],
        Secrets: [
          { SecretID: 'x', SecretName: 'x', File: { Name: 'x', UID: '0', GID: '0', Mode: 292 } },
        ],
        Ulimits: [{ Name: 'nproc', Soft: 1, Hard: 2 }],
        DNSConfig: { Nameservers: ['1.1.1.1'] },
      },
      Placement: { Constraints: ['node.role==worker'] },
      Networks: [{ Target: 'netid-a' }],
      ForceUpdate: 3,
    },
    Mode: { Replicated: { Replicas: 2 } },
    UpdateConfig: { Parallelism: 1, MaxFailureRatio: 0 },
    RollbackConfig: { Parallelism: 1, MaxFailureRatio: 0 },
    EndpointSpec: {
      Mode: 'vip',
      Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishedPort: 8080, PublishMode: 'ingress' }],
    },
  },
};
const network = (name: string, id = name): object => ({
  Name: name,
  Id: id,
  Scope: 'swarm',
  Driver: 'overlay',
});
const daemon = await recordingDaemon({
  '/networks/front': network('front'),
  '/networks/a': network('a', 'netid-a'),
  '/services/web': SERVICE,
  '/services/sid': SERVICE,
});
after(() => daemon.close());

/** The last thing that was posted, and where. */
function posted(all: readonly Recorded[]): unknown {
  const found = all.findLast((item) => item.method === 'POST');
  const path = found?.path.replace(/&?registryAuthFrom=[^&]*/, '').replace(/\?&?/, '?');
  return { path, body: essence(found?.body) };
}

async function same(...args: string[]): Promise<void> {
  daemon.take();
  const theirs = await run('docker', args, daemon.env);
  assert.equal(theirs.code, 0, `docker ${args.join(' ')}: ${theirs.stderr}`);
  const sent = posted(daemon.take());
  const ours = await run(process.execPath, [MAIN, ...args], daemon.env);
  assert.equal(ours.code, 0, `tsswarm ${args.join(' ')}: ${ours.stderr}`);
  assert.deepEqual(posted(daemon.take()), sent, args.join(' '));
}

test('every flag of service create sends what docker sends', { skip }, async () => {
  const envFile = join(daemon.directory, 'e.env');
  writeFileSync(envFile, 'FILE=1\n# no\nA=0\n');
  const create = (...args: string[]): Promise<void> =>
    same('service', 'create', '--detach', '--no-resolve-image', ...args);
  await create('--name', 'web', 'nginx:1', 'serve', '--port', '80');
  await create(
    ...['--cap-add', 'NET_ADMIN', '--cap-drop', 'ALL', '--config', 'c1'],
    ...['--config', 'source=c2,target=/etc/c2,uid=1,gid=2,mode=0440'],
    ...['--constraint', 'node.role==worker', '--container-label', 'x=y', '--dns', '1.1.1.1'],
    ...['--dns-option', 'ndots:1', '--dns-search', 'a.b', '--endpoint-mode', 'dnsrr'],
    ...['--entrypoint', '/bin/sh -c "a b"', '-e', 'A=1', '--env-file', envFile],
    ...['--generic-resource', 'gpu=2', '--group', '5', '--health-cmd', 'curl x'],
    ...['--health-interval', '5s', '--health-retries', '3', '--health-start-interval', '1s'],
    ...['--health-start-period', '2s', '--health-timeout', '3s', '--host', 'db:1.2.3.4'],
    ...['--hostname', 'h-{{.Task.Slot}}', '--init', '-l', 'l=1', '--limit-cpu', '.5'],
    ...['--limit-memory', '64m', '--limit-pids', '9', '--log-driver', 'json-file'],
    ...['--log-opt', 'max-size=1m', '--name', 'n', '--network', 'name=front,alias=w'],
    ...['--oom-score-adj', '5', '--placement-pref', 'spread=node.labels.z', '-q', 'nginx:1'],
  );
  await create(
    ...['--mount', 'type=volume,src=v,dst=/v,volume-nocopy,volume-label=a=b,volume-driver=local'],
    ...['--mount', 'type=volume,src=w,dst=/w,"volume-opt=o=addr=1,rw",volume-opt=type=nfs'],
    ...['--mount', 'type=bind,src=/a,dst=/b,ro,bind-propagation=rshared'],
    ...['--mount', 'type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777'],
    ...['-p', '8080:80', '-p', '9000-9001:90-91/udp', '-p', 'published=1,target=2,mode=host'],
    ...['-p', '53', '--read-only', '--replicas', '3', '--replicas-max-per-node', '2'],
    ...['--reserve-cpu', '1', '--reserve-memory', '1g', '--restart-condition', 'on-failure'],
    ...['--restart-delay', '1s', '--restart-max-attempts', '4', '--restart-window', '1m'],
    ...['--rollback-delay', '1s', '--rollback-failure-action', 'continue'],
    ...['--rollback-max-failure-ratio', '.1', '--rollback-monitor', '2s'],
    ...['--rollback-order', 'start-first', '--rollback-parallelism', '2', '--secret', 's1'],
    ...['--secret', 'source=s2,target=/s,mode=0400', '--stop-grace-period', '3s'],
    ...['--stop-signal', 'SIGINT', '--sysctl', 'a.b=1', '-t', '--ulimit', 'nofile=1:2'],
    ...['--ulimit', 'nproc=5', '--update-delay', '1s', '--update-failure-action', 'rollback'],
    ...['--update-max-failure-ratio', '.2', '--update-monitor', '3s'],
    ...['--update-order', 'start-first', '--update-parallelism', '0', '-u', 'u:g', '-w', '/w'],
    ...['--with-registry-auth', 'nginx:1'],
  );
  await create('--mode', 'global', '--no-healthcheck', '--init=false', 'nginx:1');
  await create('--mode', 'replicated-job', '--replicas', '5', 'nginx:1');
  await create('--mode', 'replicated-job', '--replicas', '5', '--max-concurrent', '2', 'nginx:1');
  await create('--mode', 'global-job', '--isolation', 'default', 'nginx:1');
});

test('every flag of service update sends what docker sends', { skip }, async () => {
  const update = (...args: string[]): Promise<void> =>
    same('service', 'update', '--detach', '--no-resolve-image', ...args, 'web');
  await update('--image', 'nginx:2');
  await update('--args', 'new "a b"', '--env-add', 'A=3', '--env-add', 'C=4', '--env-rm', 'B');
  await update('--label-add', 'c=3', '--label-rm', 'a', '--container-label-add', 'x=y');
  await update('--mount-add', 'type=bind,src=/a,dst=/b', '--mount-rm', '/t');
  await update('--publish-add', '9090:90', '--publish-rm', '80');
  await update('--secret-add', 'y', '--secret-rm', 'x', '--config-add', 'c');
  await update('--ulimit-add', 'nofile=5', '--ulimit-rm', 'nproc', '--sysctl-add', 'a=b');
  await update('--host-add', 'i:5.6.7.8', '--host-rm', 'h:1.2.3.4', '--dns-add', '8.8.8.8');
  await update('--dns-rm', '1.1.1.1', '--dns-option-add', 'x', '--dns-search-add', 'y');
  await update('--constraint-add', 'node.id==x', '--constraint-rm', 'node.role==worker');
  await update('--placement-pref-add', 'spread=node.labels.q', '--group-add', '5');
  await update('--network-add', 'front', '--network-rm', 'a');
  await update('--force', '--replicas', '7', '--stop-grace-period', '9s', '--init');
  await update('--health-cmd', 'x', '--health-interval', '3s', '--limit-memory', '1g');
  await update('--no-healthcheck', '--read-only', '--tty', '--user', 'u', '--workdir', '/x');
  await update('--generic-resource-add', 'gpu=3', '--cap-add', 'SYS_TIME', '--hostname', 'h');
  await update('--update-parallelism', '3', '--rollback-parallelism', '4', '--log-driver', 'none');
  await update('--entrypoint', 'a b', '--endpoint-mode', 'dnsrr', '--publish-rm', '80');
});

/** Each value of an object by its path. */
function flat(value: unknown, path = ''): [string, string][] {
  if (typeof value !== 'object' || value === null) return [[path, JSON.stringify(value)]];
  return Object.entries(value).flatMap(([key, item]) => flat(item, `${path}.${key}`));
}

/** What flags change in the request that makes a container, beside what is sent without them. */
async function madeBy(command: readonly string[], flags: readonly string[]): Promise<object> {
  const [file, ...before] = command;
  const send = async (more: readonly string[]): Promise<Map<string, string>> => {
    daemon.take();
    const ran = await run(file, [...before, 'create', ...more, 'web:1', 'serve'], daemon.env);
    assert.equal(ran.code, 0, `${file} create ${more.join(' ')}: ${ran.stderr}`);
    const sent = daemon.take().find((item) => item.path.startsWith('/containers/create'));
    return new Map([['?', sent?.path ?? ''], ...flat(sent?.body)]);
  };
  const plain = await send([]);
  const all = [...(await send(flags))].filter(([path, value]) => plain.get(path) !== value);
  const told = all.filter(([, value]) => !['null', '""', 'false', '0'].includes(value));
  return Object.fromEntries(told.sort(([left], [right]) => (left < right ? -1 : 1)));
}

test('the flags of run and create change what docker’s change', { skip }, async () => {
  const cases: readonly (readonly string[])[] = [
    ['--name', 'nn', '-e', 'A=1', '-e', 'A=2', '-l', 'a=b', '-w', '/w', '-u', 'u:g', '-h', 'host'],
    ['-p', '8080:80', '-p', '127.0.0.1::81/udp', '-p', '9000-9001:90-91', '--expose', '70', '-P'],
    ['-p', '9000-9005:90', '--read-only', '--init', '--privileged', '--rm'],
    ['-v', '/a:/b:ro', '-v', '/anon', '--volumes-from', 'other', '--tmpfs', '/t:ro'],
    ['--mount', 'type=volume,src=x,dst=/x,volume-nocopy', '--mount', 'type=tmpfs,dst=/y'],
    ['--mount', 'type=bind,src=/x,dst=/x,bind-propagation=rslave,ro'],
    ['--cpus', '1.5', '-m', '64m', '--memory-swap', '-1', '--memory-reservation', '32m'],
    ['-c', '512', '--cpu-period', '1000', '--cpu-quota', '500', '--cpuset-cpus', '0'],
    ['--pids-limit', '5', '--shm-size', '1m', '--oom-score-adj', '7', '--ulimit', 'nofile=1:2'],
    [
      '--restart',
      'on-failure:3',
      '--stop-signal',
      'INT',
      '--stop-timeout',
      '4',
      '--sysctl',
      'net.a=b',
    ],
    ['--network', 'front', '--network-alias', 'w', '--ip', '10.0.0.5', '--dns', '1.1.1.1'],
    ['--network', 'name=front,alias=w,ip=10.0.0.6', '--network', 'a'],
    ['--network', 'host', '--pid', 'host', '--ipc', 'host', '--uts', 'host', '--cgroupns', 'host'],
    ['--add-host', 'x:1.2.3.4', '--dns-search', 's', '--dns-option', 'o', '--group-add', '5'],
    ['--cap-add', 'NET_ADMIN', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
    ['--device', '/dev/null:/dev/x:r', '--log-driver', 'json-file', '--log-opt', 'max-size=1m'],
    ['--health-cmd', 'x y', '--health-interval', '2s', '--health-retries', '4', '-i', '-t'],
    ['--no-healthcheck', '--entrypoint', '/e', '--domainname', 'd', '--platform', 'linux/amd64'],
  ];
  for (const flags of cases) {
    assert.deepEqual(
      await madeBy([process.execPath, MAIN], flags),
      await madeBy(['docker'], flags),
      flags.join(' '),
    );
  }
});

test('secrets, configs, volumes, networks and the swarm are asked for as docker asks', {
  skip,
}, async () => {
  const file = join(daemon.directory, 'content');
  writeFileSync(file, 'hush');
  await same('secret', 'create', '-l', 'a=b', '--template-driver', 'golang', 's', file);
  await same('config', 'create', '-l', 'a=b', 'c', file);
  await same('volume', 'create', '-o', 'type=nfs', '--label', 'a=b', 'v');
  await same(
    ...['network', 'create', '-d', 'overlay', '--subnet', '10.5.0.0/24', '--subnet', 'fd00::/64'],
    ...['--gateway', '10.5.0.1', '--gateway', 'fd00::1', '--ip-range', '10.5.0.128/25'],
    ...['--aux-address', 'x=10.5.0.9', '--attachable', '--internal', '--ipv6', '-o', 'a=b'],
    ...['--label', 'l=m', '--scope', 'swarm', 'n'],
  );
  await same('network', 'disconnect', '-f', 'front', 'box');
});
