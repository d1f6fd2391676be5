/** Files of a container from outside: looked at, copied out and in, exported, compared. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { writeAttributes } from '../../runtime/container/attributes.ts';
import type { Container, ContainerConfig, ContainerTable } from '../../runtime/container/types.ts';
import { readTar, type TarHeader, type TarInput, writeTar } from '../../runtime/image/tar.ts';
import { until } from '../support/lab.ts';
import { openFiles } from '../support/openFiles.ts';
import { makeTestHost, runToEnd } from '../support/rootfs.ts';

const host = makeTestHost('files');
const image = join(host.dir, 'image');
let table: ContainerTable;

before(async () => {
  table = await host.open();
  mkdirSync(join(image, 'data/deep'), { recursive: true });
  writeFileSync(join(image, 'data/one'), 'one\n');
  writeFileSync(join(image, 'data/deep/two'), 'two\n');
  mkdirSync(join(image, 'gone'));
  writeFileSync(join(image, 'gone/file'), 'x');
  chownSync(join(image, 'data/one'), 1000, 1001);
  chmodSync(join(image, 'data/one'), 0o4755);
  symlinkSync('/data/deep', join(image, 'link'));
  symlinkSync('../../../../../../data', join(image, 'up'));
  symlinkSync('/nowhere/at/all', join(image, 'dangling'));
});

after(async () => {
  await host.end(table);
});

function config(args: readonly string[], extra: Partial<ContainerConfig> = {}): ContainerConfig {
  return host.config(['/bin/probe', ...args], { layers: [host.layer, image], ...extra });
}

async function entries(tar: Readable): Promise<Map<string, TarHeader & { text: string }>> {
  const found = new Map<string, TarHeader & { text: string }>();
  for await (const { header, body } of readTar(tar)) {
    let text = '';
    for await (const chunk of body) text += Buffer.from(chunk).toString('latin1');
    found.set(header.name, { ...header, text });
  }
  return found;
}

function tar(...inputs: TarInput[]): Readable {
  return Readable.from(writeTar(inputs), { objectMode: false });
}

const plain = { noOverwriteDirNonDir: false, copyUidGid: false };

/** A container that runs, and one of the same layers that was never started. */
async function both(work: (container: Container, isRunning: boolean) => Promise<void>) {
  const running = await table.create(config(['sleep', '60']));
  await running.start();
  await work(running, true);
  await running.remove();
  const stopped = await table.create(config(['sleep', '60']));
  await work(stopped, false);
  await stopped.start();
  await stopped.remove();
}

test('files are looked at with links leading where they lead inside', async () => {
  await both(async (container) => {
    const one = await container.statPath('/data/one');
    assert.deepEqual([one.name, one.sizeBytes, one.mode & 0o7777], ['one', 4, 0o4755]);
    assert.equal((await container.statPath('link/two')).sizeBytes, 4);
    const link = await container.statPath('/link');
    assert.deepEqual(
      [link.name, link.linkTarget, link.mode & 0o170000],
      ['link', '/data/deep', 0o120000],
    );
    assert.equal((await container.statPath('/link/')).mode & 0o170000, 0o040000);
    assert.equal((await container.statPath('/up/one')).sizeBytes, 4);
    assert.equal((await container.statPath('/dangling')).linkTarget, '/nowhere/at/all');
    assert.equal((await container.statPath('/')).name, '/');
    for (const path of ['/missing', '/data/one/x', '/dangling/x', '/../../etc/shadow']) {
      await assert.rejects(container.statPath(path), (error) => hasCode(error, 'not_found'), path);
    }
  });
});

test('files and directories are copied out as they are', async () => {
  await both(async (container) => {
    const file = await entries((await container.readArchive('/data/one')).tar);
    const one = file.get('one');
    assert.deepEqual([...file.keys()], ['one']);
    assert.deepEqual([one?.text, one?.mode, one?.uid, one?.gid], ['one\n', 0o4755, 1000, 1001]);
    const directory = await entries((await container.readArchive('/data')).tar);
    assert.deepEqual([...directory.keys()], ['data/', 'data/deep/', 'data/deep/two', 'data/one']);
    const inside = await entries((await container.readArchive('/link/.')).tar);
    assert.deepEqual([...inside.keys()], ['./', './two']);
    const link = await entries((await container.readArchive('/link')).tar);
    assert.equal(link.get('link')?.linkName, '/data/deep');
    await assert.rejects(container.readArchive('/missing'), /Could not find the file \/missing/);
  });
});

test('file capabilities come out and go in', async () => {
  const name = 'security.capability';
  const capability = Buffer.from('0100000280ff0000000000000000000000000000', 'hex');
  writeAttributes(join(image, 'data/one'), new Map([[name, capability]]));
  const long = `data/${'long/'.repeat(30)}file`;
  await both(async (container) => {
    const { tar: out } = await container.readArchive('/data/one');
    const found = (await entries(out)).get('one');
    assert.deepEqual(Buffer.from(found?.xattrs.get(name) ?? []), capability);
    assert.deepEqual([found?.text, found?.uid], ['one\n', 1000]);
    const xattrs = new Map([[name, capability]]);
    await container.writeArchive('/', tar({ name: long, body: Buffer.from('x'), xattrs }), plain);
    const back = await entries((await container.readArchive('/data')).tar);
    assert.deepEqual(Buffer.from(back.get(long)?.xattrs.get(name) ?? []), capability);
  });
});

test('archives are unpacked into directories, and nothing leaves the root', async () => {
  await both(async (container, isRunning) => {
    await container.writeArchive(
      '/up',
      tar(
        { name: 'new/', type: 'directory', mode: 0o750, mtimeMs: 1_000_000_000_000 },
        { name: 'new/file', body: Buffer.from('hello'), mode: 0o4711, uid: 12, gid: 34 },
        { name: 'new/again', type: 'link', linkName: 'new/file' },
        { name: 'one', type: 'symlink', linkName: '/etc/passwd' },
        { name: 'made/on/the/way', body: Buffer.from('x') },
      ),
      plain,
    );
    const found = await entries((await container.readArchive('/data')).tar);
    const file = found.get('data/new/again');
    assert.deepEqual([file?.text, file?.mode, file?.uid, file?.gid], ['hello', 0o4711, 12, 34]);
    assert.equal(found.get('data/new/file')?.linkName, 'data/new/again');
    assert.deepEqual(
      [found.get('data/new/')?.mode, found.get('data/new/')?.mtimeMs],
      [0o750, 1_000_000_000_000],
    );
    assert.equal(found.get('data/one')?.linkName, '/etc/passwd');
    assert(found.has('data/made/on/the/way'));
    const write = (path: string, ...inputs: TarInput[]): Promise<void> =>
      container.writeArchive(path, tar(...inputs), plain);
    await assert.rejects(write('/data', { name: '../x' }), /lies outside the directory/);
    await assert.rejects(write('/missing', { name: 'x' }), (e) => hasCode(e, 'not_found'));
    await assert.rejects(write('/etc/passwd', { name: 'x' }), (e) => hasCode(e, 'not_found'));
    // Through a link that the archive itself brings: into the container's /tmp, not the host's.
    const name = `con-files-${process.pid}-${isRunning}`;
    await write(
      '/data',
      { name: 'out', type: 'symlink', linkName: '/../../../tmp' },
      { name: `out/${name}`, body: Buffer.from('x') },
    );
    assert(!existsSync(join('/tmp', name)));
    assert.equal((await container.statPath(`/tmp/${name}`)).sizeBytes, 1);
    const strict = { noOverwriteDirNonDir: true, copyUidGid: false };
    await assert.rejects(
      container.writeArchive('/', tar({ name: 'data', body: Buffer.from('x') }), strict),
      /cannot overwrite directory/,
    );
    await write('/', { name: 'data', body: Buffer.from('replaced') });
    assert.equal((await container.statPath('/data')).sizeBytes, 8);
  });
});

test("what is copied in can be given to the container's user", async () => {
  const container = await table.create(config(['sleep', '60'], { user: 'joe' }));
  const options = { noOverwriteDirNonDir: false, copyUidGid: true };
  await container.writeArchive('/tmp', tar({ name: 'f', uid: 5, gid: 6 }), options);
  const found = await entries((await container.readArchive('/tmp/f')).tar);
  assert.deepEqual([found.get('f')?.uid, found.get('f')?.gid], [1000, 1001]);
  await container.remove();
});

test('mounts are written through while it runs and while it does not; read-only is read-only', async () => {
  const source = join(host.dir, 'volume');
  mkdirSync(source);
  const mounts = [{ type: 'bind', source, target: '/vol' }] as const;
  const container = await table.create(config(['sleep', '60'], { mounts, readOnlyRoot: true }));
  await container.writeArchive('/vol', tar({ name: 'a', body: Buffer.from('1') }), plain);
  await container.start();
  await container.writeArchive('/vol', tar({ name: 'b', body: Buffer.from('2') }), plain);
  assert.equal(
    readFileSync(join(source, 'a'), 'utf8') + readFileSync(join(source, 'b'), 'utf8'),
    '12',
  );
  const isForbidden = (error: unknown): boolean => hasCode(error, 'forbidden');
  await assert.rejects(container.writeArchive('/tmp', tar({ name: 'x' }), plain), isForbidden);
  await container.stop(0);
  await assert.rejects(container.writeArchive('/tmp', tar({ name: 'x' }), plain), isForbidden);
  await container.remove();
});

test('changes against the image are listed as Docker lists them, and counted', async () => {
  const { container } = await runToEnd(table, config(['write', '/data/deep/new', 'hello']));
  assert.deepEqual(await container.changes(), [
    { path: '/data', kind: 'modified' },
    { path: '/data/deep', kind: 'modified' },
    { path: '/data/deep/new', kind: 'added' },
  ]);
  assert.equal(await container.writableBytes(), 5);
  await container.writeArchive('/', tar({ name: 'gone', body: Buffer.from('now a file') }), plain);
  await container.writeArchive('/', tar({ name: 'added/', type: 'directory' }), plain);
  await container.writeArchive('/data', tar({ name: 'one', body: Buffer.from('other') }), plain);
  assert.deepEqual(await container.changes(), [
    { path: '/added', kind: 'added' },
    { path: '/data', kind: 'modified' },
    { path: '/data/deep', kind: 'modified' },
    { path: '/data/deep/new', kind: 'added' },
    { path: '/data/one', kind: 'modified' },
    { path: '/gone', kind: 'modified' },
  ]);
  await container.remove();
  const hidden = await table.create(config(['sleep', '60']));
  await hidden.writeArchive('/', tar({ name: 'gone', body: Buffer.from('x') }), plain);
  await hidden.writeArchive('/', tar({ name: 'gone/', type: 'directory' }), plain);
  assert.deepEqual(await hidden.changes(), [
    { path: '/gone', kind: 'modified' },
    { path: '/gone/file', kind: 'deleted' },
  ]);
  await hidden.remove();
});

test('what was written is a layer: as it is, removed files as whiteouts, the rest left out', async () => {
  const container = await table.create(config(['sleep', '60'], { mounts: [] }));
  await container.start();
  await container.writeArchive(
    '/data',
    tar(
      { name: 'new', body: Buffer.from('new\n'), mode: 0o4711, uid: 7, gid: 8 },
      { name: 'twin', type: 'link', linkName: 'new' },
      { name: 'way', type: 'symlink', linkName: '/etc/passwd' },
    ),
    plain,
  );
  await container.writeArchive('/', tar({ name: 'gone', body: Buffer.from('x') }), plain);
  await container.writeArchive('/', tar({ name: 'gone/', type: 'directory' }), plain);
  rmSync(`/proc/${container.pid}/root/data/deep`, { recursive: true });
  const layer = await entries(container.layer());
  const told = (await container.changes()).map(({ path, kind }) =>
    kind === 'deleted' ? path.slice(1).replace(/[^/]+$/, '.wh.$&') : path.slice(1),
  );
  const names = [...layer.keys()].map((name) => name.replace(/\/$/, ''));
  assert.deepEqual(names.toSorted(), [...told, 'gone/.wh..wh..opq'].toSorted());
  assert.ok(names.includes('data/.wh.deep') && names.includes('gone/.wh.file'));
  const { text, mode, uid, gid } = layer.get('data/new') ?? assert.fail('it is not there');
  assert.deepEqual([text, mode, uid, gid], ['new\n', 0o4711, 7, 8]);
  assert.equal(layer.get('data/twin')?.linkName, 'data/new');
  assert.equal(layer.get('data/way')?.linkName, '/etc/passwd');
  await container.writeArchive('/tmp', tar({ name: '.wh.odd', body: Buffer.from('x') }), plain);
  await assert.rejects(entries(container.layer()), /means a removed file/);
  await container.remove();
});

test('the whole root is exported without what is mounted in it', async () => {
  await both(async (container) => {
    const found = await entries(container.exportRoot());
    assert.equal(found.get('data/deep/two')?.text, 'two\n');
    assert.equal(found.get('link')?.linkName, '/data/deep');
    assert(found.has('bin/probe') && found.has('etc/passwd'));
    assert(![...found.keys()].some((name) => /^(proc|sys|dev)\/./.test(name)));
  });
});

test('many files are copied without holding up anything else', async () => {
  const container = await table.create(config(['sleep', '600']));
  await container.start();
  async function* many(): AsyncGenerator<TarInput> {
    for (let index = 0; index < 3000; index += 1) {
      yield { name: `many/${index}`, body: Buffer.alloc(2000, index % 256) };
    }
  }
  const { clock } = host.options;
  const startMs = clock.nowMs();
  let turns = 0;
  let isDone = false;
  const watching = (async () => {
    // Time itself: what is counted is how often others get a turn in it.
    for (; !isDone; turns += 1) await clock.sleep(5);
  })();
  await container.writeArchive(
    '/tmp',
    Readable.from(writeTar(many()), { objectMode: false }),
    plain,
  );
  const found = await entries((await container.readArchive('/tmp/many')).tar);
  isDone = true;
  await watching;
  assert.equal(found.size, 3001);
  // Others run meanwhile, however busy the machine is.
  const tookMs = clock.nowMs() - startMs;
  assert(turns > tookMs / 100, `${turns} turns of the loop in ${tookMs} ms`);
  assert(lstatSync(`/proc/${container.pid}/root/tmp/many/7`).size === 2000);
  const everything = await entries((await container.readArchive('/')).tar);
  const named = (name: string): boolean => [...everything.keys()].some((key) => key.endsWith(name));
  assert.deepEqual([named('proc/'), named('proc/version'), named('data/one')], [true, false, true]);
  // What is dropped, before its first byte or later, holds nothing of the container open.
  const held = (): string[] => openFiles((target) => /^\/($|tmp|data)/.test(target));
  const heldBefore = held();
  for (let chunks = 0; chunks < 4; chunks += 1) {
    const { tar: dropped } = await container.readArchive('/tmp/many');
    for (let at = 0; at < chunks; at += 1)
      await once(dropped, 'readable').then(() => dropped.read());
    dropped.destroy();
    await once(dropped, 'close');
  }
  await until('all is closed', 5000, () => held().length === heldBefore.length || undefined);
  await container.remove();
});
