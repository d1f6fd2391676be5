/**
 * docker service create and update: what a task's program is given: words, environment, user,
 * rights, limits, names, files about names, signals, a terminal, its log.
 */
import assert from 'node:assert/strict';
import { readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inside, outcome, until } from '../support/lab.ts';
import { layoutOf } from '../support/labHosts.ts';
import type { Suite } from './suite.ts';
import {
  ASLEEP,
  change,
  childOf,
  create,
  environment,
  fileOf,
  linesOf,
  mountAt,
  ofService,
  programs,
  remove,
  serve,
  statusOf,
  volumeOf,
  words,
} from './tasks.ts';
import { docker, field, procFile, refused, SOON_MS, within, work } from './world.ts';

const ON_H2 = ['--constraint', 'node.hostname==h2'];
const NET_ADMIN = 12n;
const CHOWN = 0n;

function mayEver(pid: number, capability: bigint): boolean {
  return ((BigInt(`0x${statusOf(pid, 'CapBnd')}`) >> capability) & 1n) === 1n;
}

function somaxconn(pid: number): Promise<string> {
  return within(pid, '/bin/busybox', 'cat', '/proc/sys/net/core/somaxconn');
}

const NAMES_H1 = '10.99.0.11';
const NAMES_H2 = '10.99.0.12';

/** A server of names on a host that has one answer, 192.0.2.<last>, to all questions. */
async function answerNames(host: string, address: string, last: number): Promise<void> {
  const file = join(work, `names-${host}.py`);
  const lines = [
    'import socket',
    's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)',
    `s.bind(('${address}', 53))`,
    'while True:',
    '    asked, who = s.recvfrom(512)',
    '    head = asked[:2] + bytes([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0])',
    `    answer = bytes([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, ${last}])`,
    '    s.sendto(head + asked[12:asked.index(0, 12) + 5] + answer, who)',
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  await inside(host, 'sh', '-c', `setsid python3 ${file} >/dev/null 2>&1 </dev/null & exit 0`);
  await until(`names are answered on ${host}`, SOON_MS, async () =>
    (await inside(host, 'ss', '-Hlnu', 'sport = :53')).stdout.includes(address) ? true : undefined,
  );
}

async function lookup(pid: number): Promise<string> {
  const { stdout } = await outcome('nsenter', ['-t', String(pid), '-a', 'nslookup', 'asked.test']);
  return stdout;
}

export function serviceProgram(suite: Suite): void {
  program(suite);
  signals(suite);
  logs(suite);
  suite.not(
    'service create',
    ['credential-spec', 'isolation'],
    'for Windows only; refused by the field, but for `--isolation default`',
  );
  suite.not(
    'service update',
    ['credential-spec', 'isolation'],
    'for Windows only; refused by the field, but for `--isolation default`',
  );
  suite.works('service create', [], 'what is for Windows only is refused', async () => {
    const create = ['service', 'create', '--name', 'odd'];
    const spec = ['--credential-spec', 'file://x'];
    await refused('h1', [...create, ...spec, 'box:1'], /CredentialSpec is not supported by tssw/);
    const hyper = ['--isolation', 'hyperv'];
    await refused('h1', [...create, ...hyper, 'box:1'], /Isolation is not supported by tsswarm/);
  });
}

function program(suite: Suite): void {
  suite.works(
    'service create',
    [
      ...['cap-add', 'cap-drop', 'constraint', 'container-label', 'detach', 'dns', 'dns-option'],
      ...['dns-search', 'entrypoint', 'env', 'env-file', 'group', 'host', 'hostname', 'init'],
      ...['label', 'name', 'oom-score-adj', 'quiet', 'read-only', 'sysctl', 'ulimit', 'user'],
      ...['workdir'],
    ],
    'the kernel shows each of them in the program, on the host that was asked for',
    async () => {
      const file = join(work, 'environment');
      writeFileSync(file, 'FROM=file\n');
      const [task] = await serve(
        'whole',
        1,
        [
          ...[...ON_H2, '--entrypoint', 'sh -c', '--env', 'SLOT={{.Task.Slot}}'],
          ...['--env-file', file, '--init', '--user', '1000:1001', '--group', '29'],
          ...['--workdir', '/tmp', '--hostname', 'h-{{.Node.Hostname}}', '--cap-add', 'NET_ADMIN'],
          ...['--cap-drop', 'CHOWN', '--sysctl', 'net.core.somaxconn=77', '--read-only'],
          ...['--ulimit', 'nofile=512:1024', '--oom-score-adj', '300', '--host', 'foo:192.0.2.7'],
          ...['--dns', NAMES_H2, '--dns-search', 'example.org', '--dns-option', 'ndots:3'],
          ...['--container-label', 'inside=yes', '--label', 'outside=yes'],
        ],
        'exec sleep 1000',
      );
      assert.equal(task.node, 'h2');
      const pid = childOf(task.pid);
      assert.deepEqual(words(pid), ['sleep', '1000']);
      assert.ok(environment(pid).includes('SLOT=1') && environment(pid).includes('FROM=file'));
      assert.match(statusOf(pid, 'Uid'), /^1000\s/);
      assert.match(statusOf(pid, 'Gid'), /^1001\s/);
      assert.match(statusOf(pid, 'Groups'), /\b29\b/);
      assert.equal(readlinkSync(`/proc/${pid}/cwd`), '/tmp');
      assert.equal(fileOf(pid, '/etc/hostname').trim(), 'h-h2');
      assert.ok(mayEver(pid, NET_ADMIN) && !mayEver(pid, CHOWN));
      assert.equal(await somaxconn(pid), '77');
      assert.match(mountAt(pid, '/'), /^\S+ \S+ \S+ \S+ \/ ro,/);
      assert.match(procFile(pid, 'limits'), /^Max open files +512 +1024 /m);
      assert.equal(procFile(pid, 'oom_score_adj').trim(), '300');
      assert.match(fileOf(pid, '/etc/hosts'), /^192\.0\.2\.7\s+foo$/m);
      const resolver = fileOf(pid, '/etc/resolv.conf');
      await answerNames('h2', NAMES_H2, 53);
      assert.match(await lookup(pid), /192\.0\.2\.53/);
      assert.match(resolver, /^search example\.org$/m);
      assert.match(resolver, /^options ndots:3$/m);
      assert.equal(await docker('h2', 'ps', '-q', '--filter', 'label=inside=yes').then(size), 12);
      const told = '{{.HostConfig.CapAdd}} {{.HostConfig.Ulimits}} {{.HostConfig.OomScoreAdj}}';
      assert.equal(
        await field('h2', task.container, told),
        '[CAP_NET_ADMIN] [nofile=512:1024] 300',
        'docker inspect says the same',
      );
      assert.equal(await ofService('whole', '{{.Spec.Labels.outside}}'), 'yes');
    },
  );
  suite.works(
    'service update',
    [
      ...['args', 'cap-add', 'cap-drop', 'constraint-add', 'constraint-rm', 'container-label-add'],
      ...['container-label-rm', 'dns-add', 'dns-option-add', 'dns-option-rm', 'dns-rm'],
      ...['dns-search-add', 'dns-search-rm', 'entrypoint', 'env-add', 'env-rm', 'group-add'],
      ...['group-rm', 'host-add', 'host-rm', 'hostname', 'init', 'label-add', 'label-rm'],
      ...['oom-score-adj', 'quiet', 'read-only', 'sysctl-add', 'sysctl-rm', 'ulimit-add'],
      ...['ulimit-rm', 'user', 'workdir'],
    ],
    'the next program has what is added and changed, and not what is removed',
    async () => {
      const [task] = await change(
        ...(['whole', 1, '--entrypoint', 'env sh -c', '--args', '"exec sleep 2000"'] as const),
        ...['--init=false', '--env-add', 'NEW=1', '--env-rm', 'FROM', '--user', '1002:1003'],
        ...['--group-add', '30', '--group-rm', '29', '--workdir', '/root'],
        ...['--hostname', 'other', '--cap-add', 'CHOWN', '--cap-drop', 'NET_ADMIN'],
        ...['--sysctl-rm', 'net.core.somaxconn', '--sysctl-add', 'net.ipv4.ip_default_ttl=42'],
        ...['--read-only=false', '--ulimit-rm', 'nofile', '--ulimit-add', 'nproc=300:400'],
        ...['--oom-score-adj', '400', '--host-rm', 'foo:192.0.2.7', '--host-add', 'bar:192.0.2.8'],
        ...['--dns-rm', NAMES_H2, '--dns-add', NAMES_H1, '--dns-search-rm', 'example.org'],
        ...['--dns-search-add', 'example.net', '--dns-option-rm', 'ndots:3'],
        ...['--dns-option-add', 'timeout:1', '--container-label-rm', 'inside'],
        ...['--container-label-add', 'within=yes', '--label-rm', 'outside'],
        ...['--label-add', 'around=yes', '--constraint-rm', 'node.hostname==h2'],
        ...['--constraint-add', 'node.hostname==h1'],
      );
      assert.equal(task.node, 'h1');
      const { pid } = task;
      assert.deepEqual(words(pid), ['sleep', '2000']);
      const given = environment(pid);
      assert.ok(given.includes('NEW=1') && !given.includes('FROM=file'));
      assert.match(statusOf(pid, 'Uid'), /^1002\s/);
      assert.match(statusOf(pid, 'Gid'), /^1003\s/);
      assert.match(statusOf(pid, 'Groups'), /\b30\b/);
      assert.doesNotMatch(statusOf(pid, 'Groups'), /\b29\b/);
      assert.equal(readlinkSync(`/proc/${pid}/cwd`), '/root');
      assert.equal(fileOf(pid, '/etc/hostname').trim(), 'other');
      assert.ok(mayEver(pid, CHOWN) && !mayEver(pid, NET_ADMIN));
      assert.notEqual(await somaxconn(pid), '77');
      const ttl = '/proc/sys/net/ipv4/ip_default_ttl';
      assert.equal(await within(pid, '/bin/busybox', 'cat', ttl), '42');
      assert.match(mountAt(pid, '/'), /^\S+ \S+ \S+ \S+ \/ rw,/);
      const limits = procFile(pid, 'limits');
      assert.doesNotMatch(limits, /^Max open files +512 /m);
      assert.match(limits, /^Max processes +300 +400 /m);
      assert.equal(procFile(pid, 'oom_score_adj').trim(), '400');
      const hosts = fileOf(pid, '/etc/hosts');
      assert.match(hosts, /^192\.0\.2\.8\s+bar$/m);
      assert.doesNotMatch(hosts, /foo/);
      const resolver = fileOf(pid, '/etc/resolv.conf');
      await answerNames('h1', NAMES_H1, 54);
      assert.match(await lookup(pid), /192\.0\.2\.54/);
      assert.match(resolver, /^search example\.net$/m);
      assert.match(resolver, /^options timeout:1\b/m);
      assert.doesNotMatch(resolver, /example\.org|ndots:3/);
      assert.equal(await docker('h1', 'ps', '-q', '--filter', 'label=within=yes').then(size), 12);
      assert.equal(await docker('h1', 'ps', '-q', '--filter', 'label=inside=yes'), '');
      assert.equal(await ofService('whole', '{{.Spec.Labels}}'), 'map[around:yes]');
      await remove('whole');
    },
  );
  suite.works('service create', ['tty'], 'the program has a terminal', async () => {
    const [{ pid }] = await serve('term', 1, ['--tty'], ...ASLEEP);
    assert.match(readlinkSync(`/proc/${pid}/fd/0`), /^\/dev\/(pts\/\d+|console)$/);
  });
  suite.works('service update', ['tty'], 'the terminal is taken away', async () => {
    const [{ pid }] = await change('term', 1, '--tty=false');
    assert.doesNotMatch(readlinkSync(`/proc/${pid}/fd/0`), /pts|console/);
    await remove('term');
  });
}

const size = (text: string): number => text.length;

function signals(suite: Suite): void {
  const script = 'trap "echo USR1 >> /d/got; exit" USR1; trap "echo USR2 >> /d/got" USR2; ';
  const endless = 'echo on >> /d/got; while :; do sleep 0.1; done';
  const got = (): string[] => linesOf(join(volumeOf('h1', 'signals'), 'got'));
  suite.works('service create', ['stop-signal'], 'the program gets the signal', async () => {
    const mount = ['--mount', 'type=volume,source=signals,target=/d'];
    const here = ['--constraint', 'node.hostname==h1'];
    await serve(
      'heed',
      1,
      [...mount, ...here, '--stop-signal', 'USR1'],
      'sh',
      '-c',
      script + endless,
    );
    await until('it listens', SOON_MS, () => (got().includes('on') ? true : undefined));
  });
  suite.works('service update', ['stop-signal'], 'the next program gets another', async () => {
    await change('heed', 1, '--stop-signal', 'USR2', '--stop-grace-period', '400ms');
    await until('another listens', SOON_MS, () => (got().length === 3 ? true : undefined));
    assert.deepEqual(got(), ['on', 'USR1', 'on']);
  });
  suite.works(
    'service update',
    ['stop-grace-period'],
    'a program that does not end is killed after it',
    async () => {
      const [{ pid, node, container }] = await programs('heed', 1);
      await docker('h1', 'service', 'rm', 'heed');
      await until('it got the signal', SOON_MS, () => (got().includes('USR2') ? true : undefined));
      assert.equal(await field(node, container, '{{.State.Status}}'), 'running');
      await until('it is killed', 3000, () => (isAlive(pid) ? undefined : true));
    },
  );
  suite.works(
    'service create',
    ['stop-grace-period'],
    'a program that does not end is killed after it',
    async () => {
      const flags = ['--stop-signal', 'USR2', '--stop-grace-period', '300ms'];
      const [{ pid }] = await serve('deaf', 1, flags, 'sh', '-c', 'trap "" USR2; sleep 1000');
      await docker('h1', 'service', 'rm', 'deaf');
      await until('it is killed', 4000, () => (isAlive(pid) ? undefined : true));
    },
  );
}

function isAlive(pid: number): boolean {
  try {
    return !/^Z/.test(statusOf(pid, 'State'));
  } catch {
    return false; // the kernel has no such process
  }
}

function logs(suite: Suite): void {
  const sizes = (host: string, container: string): number[] => {
    const at = join(layoutOf(host).dataRoot, 'containers', container, 'logs');
    return readdirSync(at).map((name) => statSync(join(at, name)).size);
  };
  const count = 'i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000';
  const kinds =
    'the drivers are json-file, local and none; another is refused (`tsswarm` keeps ' +
    'the files of tasks in a form of its own, read by `docker logs` and `service logs`)';
  suite.works('service create', ['log-opt', 'log-driver'], 'logs are cut as asked', async () => {
    const flags = ['--log-driver', 'json-file', '--log-opt', 'max-size=1k', '--log-opt'];
    const [task] = await serve('talk', 1, [...flags, 'max-file=2'], 'sh', '-c', count);
    await until('all is written', SOON_MS, async () =>
      (await docker(task.node, 'logs', task.container)).endsWith('line 199') ? true : undefined,
    );
    const files = sizes(task.node, task.container);
    assert.equal(files.length, 2);
    assert.ok(
      files.every((bytes) => bytes > 0 && bytes <= 1200),
      String(files),
    );
    const other = ['service', 'create', '--log-driver', 'gelf', 'box:1'];
    await refused('h1', other, /LogDriver\.Name is not supported .* local, json-file, none/);
  });
  suite.differs('service create', ['log-driver'], kinds);
  suite.works('service update', ['log-opt', 'log-driver'], 'nothing is written', async () => {
    const [task] = await change('talk', 1, '--log-driver', 'none');
    await create('other', ['--log-driver', 'local'], 'echo', 'said');
    await until('another is heard', SOON_MS, async () =>
      (await docker('h1', 'service', 'logs', 'other')).includes('said') ? true : undefined,
    );
    assert.equal(
      sizes(task.node, task.container).reduce((sum, bytes) => sum + bytes, 0),
      0,
    );
    await remove('talk', 'other');
  });
  suite.differs('service update', ['log-driver'], kinds);
}
