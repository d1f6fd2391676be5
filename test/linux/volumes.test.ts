/**
 * Volumes on a real kernel: filled from an image's layers, mounts of something else, kept on disk.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { Ids } from '../../base/id.ts';
import { silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { readMounts } from '../../runtime/sys/mount.ts';
import { openVolumeStore } from '../../runtime/volume/store.ts';
import type { VolumeStore } from '../../runtime/volume/types.ts';

const MANY_LAYERS = 120;
const NONE = { driver: '', labels: {}, options: {} };

function open(dataRoot: string): VolumeStore {
  const ids = new Ids(new SystemRandom());
  return openVolumeStore({ dataRoot, clock: new SystemClock(), ids, log: silentLog });
}

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'volumes-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function mountsBelow(path: string): string[] {
  const all = readMounts().map((mount) => mount.mountPoint);
  return all.filter((mountPoint) => mountPoint.startsWith(path));
}

test('a new volume gets what the joined layers have, owners and links kept', async (t) => {
  const dir = directory(t);
  const layers = Array.from({ length: MANY_LAYERS }, (_, at) => {
    const layer = join(dir, `layer-${at}`);
    mkdirSync(join(layer, 'srv/data'), { recursive: true });
    writeFileSync(join(layer, 'srv/data', `file-${at}`), `layer ${at}\n`);
    return layer;
  });
  // The path leads over a link of the image, which must not lead out of it.
  symlinkSync('/srv', join(layers[0], 'www'));
  symlinkSync('file-1', join(layers[1], 'srv/data/link'));
  chownSync(join(layers[2], 'srv/data/file-2'), 1000, 1001);
  chownSync(join(layers[MANY_LAYERS - 1], 'srv/data'), 33, 33);
  const store = open(dir);
  const volume = await store.create({ ...NONE, name: 'full' });
  await store.fill('full', { layers, path: '/www/data' });
  assert.equal(readdirSync(volume.mountpoint).length, MANY_LAYERS + 1);
  assert.ok(lstatSync(join(volume.mountpoint, 'link')).isSymbolicLink());
  const owned = lstatSync(join(volume.mountpoint, 'file-2'));
  assert.deepEqual([owned.uid, owned.gid], [1000, 1001]);
  assert.equal(lstatSync(volume.mountpoint).uid, 33, 'the directory itself, too');
  writeFileSync(join(volume.mountpoint, 'file-3'), 'changed\n');
  await store.fill('full', { layers, path: '/www/data' });
  assert.equal(readFileSync(join(volume.mountpoint, 'file-3'), 'utf8'), 'changed\n');
  assert.deepEqual(mountsBelow(dir), [], 'nothing stays mounted');
});

test('many volumes are filled at once', async (t) => {
  const dir = directory(t);
  const layer = join(dir, 'layer');
  mkdirSync(join(layer, 'data'), { recursive: true });
  writeFileSync(join(layer, 'data/file'), 'whole\n');
  const store = open(dir);
  const fill = async (at: number): Promise<readonly string[]> => {
    const { name, mountpoint } = await store.create({ ...NONE, name: `v${at}` });
    // Some have nothing to copy and are done at once.
    await store.fill(name, { layers: [layer], path: at % 2 === 0 ? '/data' : '/none' });
    return readdirSync(mountpoint);
  };
  const all = await Promise.all(Array.from({ length: 16 }, (_, at) => fill(at)));
  assert.deepEqual(
    all,
    Array.from({ length: 16 }, (_, at) => (at % 2 === 0 ? ['file'] : [])),
  );
});

test('what a crash or an error cuts short does not pass for filled', async (t) => {
  const full = mkdtempSync(join(tmpdir(), 'volumes-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', full]);
  t.after(() => {
    execFileSync('umount', ['-l', full]);
    rmSync(full, { recursive: true });
  });
  const dir = directory(t);
  const layer = join(dir, 'layer');
  mkdirSync(join(layer, 'data'), { recursive: true });
  writeFileSync(join(layer, 'data/file'), 'whole\n');
  const from = { layers: [layer], path: '/data' };
  const store = open(dir);
  const { mountpoint } = await store.create({ ...NONE, name: 'v' });
  // As by a process that was killed while it copied.
  mkdirSync(join(mountpoint, '../.filling'));
  writeFileSync(join(mountpoint, '../.filling/part'), 'half');
  const next = open(dir);
  await next.fill('v', from);
  assert.deepEqual(readdirSync(mountpoint), ['file']);
  assert.deepEqual(readdirSync(join(mountpoint, '..')).toSorted(), ['_data', 'volume.json']);
  // A copy that fails half-way (here: no room) leaves the volume empty.
  writeFileSync(join(layer, 'data/large'), Buffer.alloc(2 << 20, 1));
  const small = open(full);
  const volume = await small.create({ ...NONE, name: 'v' });
  await assert.rejects(small.fill('v', from));
  assert.deepEqual(readdirSync(volume.mountpoint), []);
  assert.deepEqual(readdirSync(join(volume.mountpoint, '..')).toSorted(), ['_data', 'volume.json']);
});

test('a path that the image does not have, or that is a file there, fills nothing', async (t) => {
  const dir = directory(t);
  const layer = join(dir, 'layer');
  mkdirSync(join(layer, 'etc'), { recursive: true });
  writeFileSync(join(layer, 'etc/passwd'), 'root\n');
  symlinkSync('../../../../../../../../etc', join(layer, 'out'));
  const store = open(dir);
  const volume = await store.create({ ...NONE, name: '' });
  for (const path of ['/nothing', '/etc/passwd', '/nothing/below']) {
    await store.fill(volume.name, { layers: [layer], path });
    assert.deepEqual(readdirSync(volume.mountpoint), [], path);
  }
  await store.fill(volume.name, { layers: [layer], path: '/out' });
  assert.deepEqual(readdirSync(volume.mountpoint), ['passwd'], 'the etc of the image');
});

test('a volume of options is mounted when it is first used, and let go when removed', async (t) => {
  const dir = directory(t);
  const store = open(dir);
  const options = { type: 'tmpfs', device: 'tmpfs', o: 'size=1m,noexec' };
  const volume = await store.create({ ...NONE, name: 'memory', options });
  assert.deepEqual(mountsBelow(dir), []);
  await store.mount('memory');
  await store.mount('memory');
  assert.deepEqual(mountsBelow(dir), [volume.mountpoint]);
  assert.equal(await store.sizeBytes('memory'), -1);
  await store.remove('memory');
  assert.deepEqual(mountsBelow(dir), []);
  const source = join(dir, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'file'), 'text\n');
  const bind = { type: 'none', device: source, o: 'bind,ro' };
  const bound = await store.create({ ...NONE, name: 'bound', options: bind });
  await store.mount('bound');
  assert.throws(() => writeFileSync(join(bound.mountpoint, 'new'), ''), /EROFS/);
  await store.remove('bound');
  assert.ok(existsSync(join(source, 'file')), 'what it was a mount of stays');
  const wrong: Record<string, string>[] = [
    { type: 'nfs', device: ':/x' },
    { o: 'ro' },
    { size: '1m' },
  ];
  for (const each of wrong) {
    await assert.rejects(store.create({ ...NONE, name: 'bad', options: each }));
  }
  assert.equal(store.get('bad'), undefined);
});

test('volumes are found again, in use they are not removed, and another kind is a conflict', async (t) => {
  const dir = directory(t);
  const first = open(dir);
  const made = await first.create({ ...NONE, name: 'kept', labels: { a: 'b' } });
  writeFileSync(join(made.mountpoint, 'file'), 'text\n');
  const store = open(dir);
  assert.deepEqual(store.get('kept'), made);
  assert.deepEqual(await store.create({ ...NONE, name: 'kept' }), made);
  const options = { type: 'tmpfs', device: 'tmpfs' };
  await assert.rejects(store.create({ ...NONE, name: 'kept', options }), { code: 'conflict' });
  store.hold('kept', 'c1');
  await assert.rejects(store.remove('kept'), { code: 'conflict', message: /in use - \[c1\]/ });
  store.release('kept', 'c1');
  assert.equal(await store.sizeBytes('kept'), 'text\n'.length);
  await store.remove('kept');
  assert.ok(!existsSync(made.mountpoint));
  await assert.rejects(store.remove('kept'), { code: 'not_found' });
  await assert.rejects(store.create({ ...NONE, name: '../x' }), { code: 'invalid' });
});
