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
import { exec, logText, makeTestHost } from '../support/rootfs.ts';
import { until } from '../support/until.ts';

const host = makeTestHost('escape');
let table: ContainerTable;

before(async () => {
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
