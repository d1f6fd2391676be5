/**
 * Containers whose ids are their own: root inside is nobody on the host, files keep on disk the ids
 * they have inside. Looked at from both sides.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import type { ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { readTar, writeTar } from '../../runtime/image/tar.ts';
import { exec } from '../support/probeExec.ts';
import { logText, makeTestHost, outputOf, started } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const FIRST_ID = 100_000;
const host = makeTestHost('userns');
let table: ContainerTable;

before(async () => {
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

const range = [{ inside: 0, outside: FIRST_ID, count: 65_536 }];
const mapped = { userNamespace: { uids: range, gids: range } };

const output = (args: readonly string[], extra?: Partial<ContainerConfig>): Promise<string> =>
  outputOf(table, host.config(['/bin/probe', ...args], { ...mapped, ...extra }));

test('root inside is another user on the host, with a map, streams and names of its own', async () => {
  const container = await started(
    table,
    host.config(['/bin/probe', 'stubborn'], { ...mapped, hostname: 'inside' }),
  );
  const status = readFileSync(`/proc/${container.pid}/status`, 'utf8');
  assert.match(status, /^Uid:\t100000\t100000\t100000\t100000$/m);
  assert.match(status, /^Gid:\t100000\t100000\t100000\t100000$/m);
  await until('a first line', 5000, async () => (await logText(container)) === 'ready\n');
  await container.remove();
  assert.match(
    await output(['cat', '/proc/self/uid_map', '/proc/self/gid_map']),
    /^ +0 +100000 +65536\n +0 +100000 +65536$/,
  );
  assert.equal(
    await output(['whoami'], { hostname: 'inside' }),
    'uid=0 gid=0 cwd=/ host=inside pid=1 groups=0',
  );
});

test("the image's files are the container's own, and what it writes has its ids on disk", async () => {
  chownSync(join(host.layer, 'home/joe'), 1000, 1001);
  const config = host.config(['/bin/probe', 'stubborn'], mapped);
  const container = await started(table, config);
  const run = async (...args: string[]): Promise<string> => {
    const one = await container.exec(exec(args));
    let text = '';
    one.streams.stdout.on('data', (data) => {
      text += String(data);
    });
    assert.equal(await one.wait(), 0);
    return text.trimEnd();
  };
  assert.equal(
    await run('stat', '/bin/probe', '/home/joe', '/', '/tmp'),
    '755 0:0 /bin/probe\n755 1000:1001 /home/joe\n755 0:0 /\n755 0:0 /tmp',
  );
  await run('write', '/tmp/new', 'text');
  assert.equal(await run('chown', '/tmp/new', '1000', '1001'), '644 1000:1001 /tmp/new');
  assert.equal(await run('chown', '/home/joe', '5', '6'), '755 5:6 /home/joe'); // copied up
  const inside = (path: string): number[] => {
    const { uid, gid } = statSync(`/proc/${container.pid}/root${path}`);
    return [uid, gid];
  };
  assert.deepEqual(inside('/tmp/new'), [FIRST_ID + 1000, FIRST_ID + 1001]);
  const upper = join(host.dir, 'data/containers', config.id, 'upper');
  const onDisk = (path: string): number[] => {
    const { uid, gid } = statSync(join(upper, path));
    return [uid, gid];
  };
  assert.deepEqual(onDisk('tmp/new'), [1000, 1001]);
  assert.deepEqual(onDisk('home/joe'), [5, 6]);
  assert.deepEqual(onDisk('tmp'), [0, 0]);
  assert.equal(statSync(join(host.layer, 'home/joe')).uid, 1000);
  // An id that is not mapped cannot be had.
  assert.match(await run('chown', '/tmp/new', '70000', '0'), /Invalid argument/);
  await container.stop(0);
  await container.start();
  assert.equal(await run('stat', '/tmp/new'), '644 1000:1001 /tmp/new');
  await container.remove();
});

test('an exec is the same user as the container, with a terminal of its own', async () => {
  const container = await started(table, host.config(['/bin/probe', 'stubborn'], mapped));
  for (const tty of [false, true]) {
    const one = await container.exec(exec(['cat', '/proc/self/uid_map'], { tty }));
    let text = '';
    one.streams.stdout.on('data', (data) => {
      text += String(data);
    });
    assert.equal(await one.wait(), 0);
    assert.match(text, /^ +0 +100000 +65536/);
  }
  const asJoe = await container.exec(exec(['sleep', '60'], { user: 'joe' }));
  assert.match(readFileSync(`/proc/${asJoe.pid}/status`, 'utf8'), /^Uid:\t101000\t/m);
  await asJoe.kill('SIGKILL');
  assert.equal(await asJoe.wait(), 137);
  await container.remove();
});

test('a terminal, devices, masks and the kernel file systems are there', async () => {
  assert.match(await output(['tty'], { tty: true }), /^terminal/);
  assert.equal(
    await output(['device', '/dev/null', '/dev/urandom', '/dev/tty']),
    '/dev/null char 1:3 666 opens\n/dev/urandom char 1:9 666 opens\n' +
      '/dev/tty char 5:0 666 No such device or address',
  );
  assert.equal(
    await output(['stat', '/dev/null', '/dev', '/dev/shm']),
    '666 0:0 /dev/null\n755 0:0 /dev\n1777 0:0 /dev/shm',
  );
  assert.match(await output(['mknod', '1', '3']), /^mknod Operation not permitted/);
  assert.match(await output(['write', '/proc/sys/kernel/hostname', 'x']), /Read-only file system/);
  assert.equal(await output(['cat', '/proc/keys']), '');
  assert.match(await output(['stat', '/sys/class/net/lo']), /^777 0:0/);
  const mounts = await output(['cat', '/proc/self/mountinfo']);
  for (const type of ['proc', 'sysfs', 'devpts', 'mqueue', 'tmpfs', 'overlay']) {
    assert.match(mounts, new RegExp(` - ${type} `), type);
  }
  assert(mounts.includes('/sys/fs/cgroup'));
});

test('its own files and mapped mounts are its root’s, others nobody’s', async () => {
  const dir = join(host.dir, 'bound');
  mkdirSync(dir, { recursive: true });
  const hostsFile = join(host.dir, 'hosts');
  writeFileSync(hostsFile, '127.0.0.1 localhost\n');
  writeFileSync(join(dir, 'file'), 'text');
  const text = await output(['stat', '/etc/hosts', '/plain/file', '/mapped/file', '/scratch'], {
    hostsFile,
    mounts: [
      { type: 'bind', source: dir, target: '/plain' },
      { type: 'bind', source: dir, target: '/mapped', idMapped: true },
      { type: 'tmpfs', target: '/scratch' },
    ],
  });
  assert.equal(
    text,
    '644 0:0 /etc/hosts\n644 65534:65534 /plain/file\n644 0:0 /mapped/file\n1777 0:0 /scratch',
  );
  const extra = {
    mounts: [{ type: 'bind', source: dir, target: '/mapped', idMapped: true } as const],
  };
  await output(['write', '/mapped/made', 'inside'], extra);
  assert.equal(statSync(join(dir, 'made')).uid, 0);
});

test('what cannot be shown mapped is copied if that will do, else refused by name', async () => {
  const dir = join(host.dir, 'unmapped');
  mkdirSync(dir);
  execFileSync('mount', ['-t', 'ramfs', 'ramfs', dir]);
  try {
    mkdirSync(join(dir, 'sub'));
    writeFileSync(join(dir, 'sub/secret'), 'secret', { mode: 0o400 });
    chownSync(join(dir, 'sub'), 1000, 1001);
    const one = { type: 'bind', idMapped: true, readOnly: true, copyable: true } as const;
    const secret = { ...one, source: join(dir, 'sub/secret'), target: '/one/secret' };
    const mounts = [secret, { ...one, source: join(dir, 'sub'), target: '/all' }];
    assert.equal(
      await output(['stat', '/one/secret', '/all', '/all/secret'], { mounts }),
      '400 0:0 /one/secret\n755 1000:1001 /all\n400 0:0 /all/secret',
    );
    assert.equal(await output(['cat', '/one/secret', '/all/secret'], { mounts }), 'secretsecret');
    assert.match(await output(['write', '/all/new', 'x'], { mounts }), /Read-only file system/);
    const refused = /cannot map the ids of .*sub\/secret: its file system may not support it/;
    for (const volume of [
      { ...secret, readOnly: false },
      { ...secret, copyable: false },
      { ...secret, propagation: 'rslave' },
    ] as const) {
      await assert.rejects(output(['exit', '0'], { mounts: [volume] }), refused);
    }
  } finally {
    execFileSync('umount', [dir]);
  }
});

test('what a user namespace cannot go with is refused with the way out', async () => {
  const create = (extra: Partial<ContainerConfig>): Promise<unknown> =>
    started(table, host.config(['/bin/probe'], { ...mapped, ...extra }));
  await assert.rejects(create({ privileged: true }), /privileged mode.*--userns=host/);
  await assert.rejects(create({ networkNamespace: 'host' }), /network namespace.*--userns=host/);
  await assert.rejects(create({ pidNamespace: 'host' }), /PID namespace.*--userns=host/);
  const bad = { userNamespace: { uids: [], gids: range } };
  await assert.rejects(create(bad), /user id map must begin with 0/);
});

test('files copied in and out keep the ids they have inside, running or not', async () => {
  const container = await started(table, host.config(['/bin/probe', 'stubborn'], mapped));
  const put = async (name: string, ids: { uid: number; gid: number }): Promise<void> => {
    const tar = writeTar([{ name, mode: 0o640, ...ids, body: Buffer.from('text') }]);
    const options = { noOverwriteDirNonDir: false, copyUidGid: false };
    await container.writeArchive('/tmp', Readable.from(tar, { objectMode: false }), options);
  };
  const ownersOut = async (): Promise<string[]> => {
    const owners: string[] = [];
    const { tar } = await container.readArchive('/tmp');
    for await (const { header } of readTar(tar)) {
      owners.push(`${header.name} ${header.uid}:${header.gid}`);
    }
    return owners.sort();
  };
  await put('roots', { uid: 0, gid: 0 });
  await put('joes', { uid: 1000, gid: 1001 });
  const one = await container.exec(exec(['stat', '/tmp/roots', '/tmp/joes']));
  let seen = '';
  one.streams.stdout.on('data', (data) => {
    seen += String(data);
  });
  await one.wait();
  assert.equal(seen, '640 0:0 /tmp/roots\n640 1000:1001 /tmp/joes\n');
  await assert.rejects(put('none', { uid: 70_000, gid: 0 }), /has no user 70000/);
  const owners = ['tmp/ 0:0', 'tmp/joes 1000:1001', 'tmp/roots 0:0'];
  assert.deepEqual(await ownersOut(), owners);
  await container.stop(0);
  assert.deepEqual(await ownersOut(), owners);
  await put('later', { uid: 5, gid: 6 });
  assert((await ownersOut()).includes('tmp/later 5:6'));
  await container.remove();
});

test("a network of another's is joined, with the settings asked for", async () => {
  const other = await started(table, host.config(['/bin/probe', 'sleep', '60']));
  const network = {
    networkNamespace: { path: `/proc/${other.pid}/ns/net` },
    sysctls: { 'net.core.somaxconn': '77', 'kernel.msgmax': '9000' },
  };
  assert.equal(
    await output(['cat', '/proc/sys/net/core/somaxconn', '/proc/sys/kernel/msgmax'], network),
    '77\n9000',
  );
  assert.match(await output(['stat', '/sys/class/net/lo'], network), /^777 /);
  assert.equal(
    await output(['cat', '/proc/sys/net/ipv4/ip_unprivileged_port_start'], network),
    '0',
  );
  await other.remove();
});

test('it takes limits, a read-only root, an init and a user of its own', async () => {
  const extra = {
    init: true,
    readOnlyRoot: true,
    user: 'joe',
    additionalGroups: ['audio'],
    workingDir: '/home/joe',
    resourceLimits: [{ name: 'nofile', soft: 20, hard: 30 }],
    resources: { memoryBytes: 64 << 20, pidsLimit: 20 },
  };
  assert.equal(await output(['limit', '7'], extra), '20 30');
  assert.match(await output(['whoami'], extra), /^uid=1000 gid=1001 cwd=\/home\/joe .*63/);
  assert.match(await output(['write', '/home/joe/x', 'y'], extra), /Read-only file system/);
  assert.match(await output(['call', 'unshare', 'keyctl', 'mount'], extra), /^unshare: Oper/);
  const root = { capabilityAdd: ['SYS_ADMIN'], seccomp: 'unconfined' } as const;
  assert.equal(await output(['call', 'mount'], root), 'mount: allowed');
});
