/** Ways out of a container that an image or a specification might try: none leads to the host. */
import assert from 'node:assert/strict';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import type { ContainerTable } from '../../runtime/container/types.ts';
import { readTar, writeTar } from '../../runtime/image/tar.ts';
import { exec } from '../support/probeExec.ts';
import { buildProbe, logText, makeTestHost } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const host = makeTestHost('escape');
let table: ContainerTable;

before(async () => {
  buildProbe(join(host.layer, 'bin/prober'), 'prober');
  table = await host.open();
});

after(async () => {
  await host.end(table);
});

test('links in an image where files are mounted lead nowhere outside of it', async () => {
  const outside = join(host.dir, 'target');
  mkdirSync(outside, { recursive: true });
  writeFileSync(join(outside, 'hosts'), 'of the host');
  const mounted = join(host.dir, 'mounted');
  writeFileSync(mounted, 'mounted');
  const out = `${'/..'.repeat(20)}${outside}`;
  const targets = [out, '/proc/self/cwd', '/proc/1/root/tmp', `/proc/self/root${out}`];
  for (const [at, target] of targets.entries()) {
    const upper = join(host.dir, `links-${at}`);
    mkdirSync(upper);
    for (const name of ['etc', 'data']) symlinkSync(target, join(upper, name));
    const config = host.config(['/bin/probe', 'echo', 'ran'], {
      layers: [host.layer, upper],
      mounts: [{ type: 'bind', source: mounted, target: '/data/hosts' }],
      hostsFile: mounted,
      workingDir: '/data/made',
    });
    const container = await table.create(config);
    await container.start().then(
      () => container.wait(),
      () => {}, // refused is as good
    );
    await container.remove();
    assert.deepEqual(readdirSync(outside), ['hosts']);
    assert.equal(readFileSync(join(outside, 'hosts'), 'utf8'), 'of the host');
  }
});

test('a working directory through /proc makes nothing outside the container', async () => {
  const outside = join(host.dir, 'outside');
  for (let fd = 3; fd < 20; fd += 1) {
    const workingDir = `/proc/self/fd/${fd}${'/..'.repeat(20)}${outside}/${fd}`;
    const container = await table.create(host.config(['/bin/probe', 'echo'], { workingDir }));
    await assert.rejects(container.start(), /cannot enter or make the working directory/);
    await container.remove();
  }
  assert(!existsSync(outside), 'a directory was made on the host');
});

test('a program named through /proc is none of the host', async () => {
  const program = join(host.dir, 'of-the-host');
  copyFileSync(join(host.layer, 'bin/probe'), program);
  const running = await table.create(host.config(['/bin/probe', 'stubborn']));
  await running.start();
  for (let fd = 3; fd < 32; fd += 1) {
    const args = [`/proc/self/fd/${fd}${'/..'.repeat(20)}${program}`, 'echo', 'ran'];
    const container = await table.create(host.config(args));
    await assert.rejects(container.start(), /cannot run/);
    await container.remove();
    await assert.rejects(
      running.exec({ ...exec([]), args }),
      /cannot run/,
      `through descriptor ${fd}`,
    );
  }
  await running.remove();
});

test('a container that swaps links under copies gains nothing of the host', async () => {
  const container = await table.create(host.config(['/bin/probe', 'swap']));
  await container.start();
  await until('the swaps', 5000, async () => (await logText(container)) === 'ready\n');
  const name = `con-escape-${process.pid}`;
  const options = { noOverwriteDirNonDir: false, copyUidGid: false };
  for (let round = 0; round < 60; round += 1) {
    const inputs = [
      { name: `a/${name}`, body: Buffer.from('x') },
      { name: `a/in/${name}`, body: Buffer.from('x') },
    ];
    const tar = Readable.from(writeTar(inputs), { objectMode: false });
    // Whatever it ends in, only the container's own files may change.
    await container.writeArchive('/tmp', tar, options).catch(() => {});
    const removed = [{ name: 'a', body: Buffer.from('a file now') }];
    const over = Readable.from(writeTar(removed), { objectMode: false });
    await container.writeArchive('/tmp/a/in', over, options).catch(() => {});
    const read = await container.readArchive('/tmp/a').catch(() => undefined);
    if (read === undefined) continue;
    try {
      for await (const { header } of readTar(read.tar)) {
        assert(!header.name.includes('node_modules'), header.name);
      }
    } catch (error) {
      // It may be moved away in the middle; what was read until then counts.
      assert(!(error instanceof assert.AssertionError), String(error));
    }
  }
  for (const dir of ['/', '/in', '/tmp', '/tmp/in']) {
    assert(!existsSync(join(dir, name)) && !existsSync(join(dir, 'a')), dir);
  }
  await container.remove();
});

/** Starts in all while a directory on the way to a mount and a link out of the container change. */
const RACING_STARTS = 200;
const AT_ONCE = 4;

test('a shared volume whose directories turn into links while containers start leads nowhere', async () => {
  const shared = join(host.dir, 'raced');
  const mounted = join(host.dir, 'raced-source');
  const outside = join(host.dir, 'raced-outside');
  for (const dir of [shared, mounted, outside, join(shared, 'd'), join(shared, 'e')])
    mkdirSync(dir);
  writeFileSync(join(mounted, 'content'), 'mounted');
  writeFileSync(join(outside, 'kept'), 'kept');
  const volume = { type: 'bind', source: shared, target: '/shared' } as const;
  const out = `${'/..'.repeat(20)}${outside}`;
  const racers = await Promise.all(
    ['d', 'e'].map(async (name) => {
      const args = ['/bin/prober', 'swap', `/shared/${name}`, name === 'd' ? out : '/proc/1/root'];
      const racer = await table.create(host.config(args, { mounts: [volume] }));
      await racer.start();
      await until('the race', 5000, async () => (await logText(racer)).includes('ready'));
      return racer;
    }),
  );
  let ran = 0;
  const starter = async (client: number): Promise<void> => {
    for (let count = client; count < RACING_STARTS; count += AT_ONCE) {
      const name = count % 2 === 0 ? 'd' : 'e';
      const isFile = count % 3 === 0;
      const target = `/shared/${name}/in-${client}`;
      const source = isFile ? join(mounted, 'content') : mounted;
      const config = host.config(['/bin/probe', 'cat', isFile ? target : `${target}/content`], {
        mounts: [volume, { type: 'bind', source, target }],
        workingDir: count % 5 === 0 ? `/shared/${name}` : '/',
      });
      const container = await table.create(config);
      await container.start().then(
        () => container.wait(),
        () => {}, // refused is as good
      );
      // Where it ran, the mount lies within the container, or the name was elsewhere by then.
      const output = await logText(container);
      if (output === 'mounted\n') ran += 1;
      await container.remove();
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, (_, client) => starter(client)));
  for (const racer of racers) await racer.remove();
  assert.ok(ran > 0, 'some starts win');
  assert.deepEqual(readdirSync(outside), ['kept'], 'made through a link');
  for (const name of ['in-0', 'in-1', 'in-2', 'in-3']) assert(!existsSync(`/${name}`), name);
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
  assert.ok(!mounts.includes(host.dir), 'a mount was left on the host');
});
