/**
 * Unpacking of layers on a real file system: whiteouts and opaque marks as overlayfs reads them,
 * devices, set-id bits, capabilities, times; and hostile layers, which never reach outside.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { hasCode } from '../../base/errors.ts';
import { readTar, type TarInput, writeTar } from '../../runtime/image/tar.ts';
import { LayerUnpacker } from '../../runtime/image/unpack.ts';
import { define } from '../../runtime/sys/libc.ts';
import { collect, directory, file, inPieces, scratchDirectory } from '../support/images.ts';

async function unpack(
  test: TestContext,
  entries: readonly TarInput[],
): Promise<{ root: string; unpacker: LayerUnpacker }> {
  const root = path.join(scratchDirectory(test), 'fs');
  fs.mkdirSync(root);
  return { root, unpacker: await unpackInto(root, await collect(writeTar(entries))) };
}

async function unpackInto(root: string, bytes: Buffer): Promise<LayerUnpacker> {
  const unpacker = new LayerUnpacker(root);
  for await (const entry of readTar(inPieces(bytes))) await unpacker.add(entry);
  unpacker.finish();
  return unpacker;
}

function link(name: string, linkName: string): TarInput {
  return { name, type: 'link', linkName };
}

function symlink(name: string, linkName: string): TarInput {
  return { name, type: 'symlink', linkName };
}

const lsetxattr = define<
  (path: string, name: string, value: Uint8Array, size: number, flags: number) => number
>('', 'int lsetxattr(const char *path, const char *name, void *value, size_t size, int flags)');
const lgetxattr = define<(path: string, name: string, value: Uint8Array, size: number) => number>(
  '',
  'long lgetxattr(const char *path, const char *name, void *value, size_t size)',
);

/** In hexadecimal; undefined when the file has none of that name. */
function attribute(at: string, name: string): string | undefined {
  const value = Buffer.alloc(256);
  const length = lgetxattr(at, name, value, value.length);
  return length < 0 ? undefined : value.toString('hex', 0, length);
}

function isOpaque(directoryPath: string): boolean {
  return attribute(directoryPath, 'trusted.overlay.opaque') !== undefined;
}

function isWhiteout(at: string): boolean {
  const stat = fs.lstatSync(at);
  return stat.isCharacterDevice() && stat.rdev === 0;
}

test('files keep owner, mode with set-id bits, times, links, devices and fifos', async (t) => {
  const { root, unpacker } = await unpack(t, [
    directory('d', { mode: 0o1777, uid: 5, gid: 6, mtimeMs: 1_000_000_000 }),
    file('d/su', 'run', { mode: 0o6755, uid: 1000, gid: 1001, mtimeMs: 1_500_000_000 }),
    link('d/same', 'd/su'),
    symlink('d/to', '/d/su'),
    { name: 'null', type: 'character-device', deviceMajor: 1, deviceMinor: 3, mode: 0o666 },
    { name: 'disk', type: 'block-device', deviceMajor: 259, deviceMinor: 300, mode: 0o660 },
    { name: 'pipe', type: 'fifo', mode: 0o644 },
    file('implicit/deep/file', ''),
  ]);
  const su = fs.lstatSync(`${root}/d/su`);
  assert.equal(su.mode & 0o7777, 0o6755);
  assert.deepEqual([su.uid, su.gid, su.mtimeMs, su.nlink], [1000, 1001, 1_500_000_000, 2]);
  assert.equal(fs.lstatSync(`${root}/d/same`).ino, su.ino);
  const d = fs.lstatSync(`${root}/d`);
  assert.equal(d.mode & 0o7777, 0o1777);
  assert.deepEqual([d.uid, d.gid, d.mtimeMs], [5, 6, 1_000_000_000]);
  assert.equal(fs.readlinkSync(`${root}/d/to`), '/d/su');
  const device = (name: string): string =>
    execFileSync('stat', ['-c', '%F %Hr:%Lr %a', `${root}/${name}`])
      .toString()
      .trim();
  assert.equal(device('null'), 'character special file 1:3 666');
  assert.equal(device('disk'), 'block special file 259:300 660');
  assert.equal(device('pipe'), 'fifo 0:0 644');
  assert.equal(fs.lstatSync(`${root}/implicit/deep`).mode & 0o7777, 0o755);
  assert.equal(unpacker.sizeBytes, 3);
  assert.equal(unpacker.newestMs, 1_500_000_000);
});

test('file capabilities with high bits survive, overlay attributes do not', async (t) => {
  const work = scratchDirectory(t);
  const capability = '01000002c0200000000000000000000000000000';
  fs.mkdirSync(`${work}/from`);
  fs.writeFileSync(`${work}/from/tool`, '');
  const given: readonly (readonly [string, Buffer])[] = [
    ['security.capability', Buffer.from(capability, 'hex')],
    ['user.note', Buffer.from('hi')],
    ['user.overlay.redirect', Buffer.from('/etc')],
    ['trusted.overlay.metacopy', Buffer.alloc(0)],
  ];
  for (const [name, value] of given) {
    assert.equal(lsetxattr(`${work}/from/tool`, name, value, value.length, 0), 0, name);
  }
  // GNU tar writes the attributes as PAX records, as image builders do.
  execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-cf', 'l.tar', '-C', 'from', '.'], {
    cwd: work,
  });
  const root = path.join(work, 'fs');
  fs.mkdirSync(root);
  await unpackInto(root, fs.readFileSync(`${work}/l.tar`));
  assert.deepEqual(
    given.map(([name]) => attribute(`${root}/tool`, name)),
    [capability, '6869', undefined, undefined],
  );
});

test('whiteouts and opaque directories hide what lower layers have, and only that', async (t) => {
  const work = scratchDirectory(t);
  const lower = (
    await unpack(t, [
      file('gone', '1'),
      file('dir/gone', '1'),
      file('dir/kept', '1'),
      file('opaque/old', '1'),
      file('late/old', '1'),
      file('again/old', '1'),
      file('early/old', '1'),
      file('both', 'old'),
    ])
  ).root;
  const upper = (
    await unpack(t, [
      file('.wh.gone', ''),
      file('dir/.wh.gone', ''),
      file('opaque/new', '2'),
      file('opaque/.wh..wh..opq', ''),
      file('late/new', '2'),
      file('.wh.late', ''),
      file('.wh.early', ''),
      file('early/new', '2'),
      file('.wh.again', ''),
      directory('again'),
      file('.wh.both', ''),
      file('both', 'new'),
      file('.wh..wh.plnk/1.2', ''),
    ])
  ).root;
  assert.ok(isWhiteout(`${upper}/gone`));
  assert.ok(isWhiteout(`${upper}/dir/gone`));
  assert.ok(isOpaque(`${upper}/opaque`));
  const merged = path.join(work, 'merged');
  fs.mkdirSync(merged);
  execFileSync('mount', ['-t', 'overlay', 'x', '-o', `lowerdir=${upper}:${lower}`, merged]);
  try {
    const seen = execFileSync('find', ['.', '-type', 'f'], { cwd: merged }).toString();
    assert.deepEqual(seen.trim().split('\n').sort(), [
      './both',
      './dir/kept',
      './early/new',
      './late/new',
      './opaque/new',
    ]);
    assert.equal(fs.readFileSync(`${merged}/both`, 'utf8'), 'new');
  } finally {
    execFileSync('umount', [merged]);
  }
});

test('the last of several entries with one name counts', async (t) => {
  const { root } = await unpack(t, [
    file('a', 'one', { mode: 0o600 }),
    link('b', 'a'),
    file('a', 'two', { mode: 0o640 }),
    directory('c'),
    file('c/inside', ''),
    symlink('c', 'a'),
    symlink('d', 'a'),
    directory('d', { mode: 0o700 }),
    directory('e', { mode: 0o700 }),
    file('e/kept', ''),
    directory('e', { mode: 0o711 }),
  ]);
  assert.equal(fs.readFileSync(`${root}/a`, 'utf8'), 'two');
  assert.equal(fs.readFileSync(`${root}/b`, 'utf8'), 'one');
  assert.equal(fs.readlinkSync(`${root}/c`), 'a');
  assert.ok(fs.lstatSync(`${root}/d`).isDirectory());
  assert.ok(fs.existsSync(`${root}/e/kept`));
  assert.equal(fs.lstatSync(`${root}/e`).mode & 0o7777, 0o711);
});

test('a symbolic link on the way is followed inside the layer, never out of it', async (t) => {
  const outside = scratchDirectory(t);
  const { root } = await unpack(t, [
    symlink('lib', 'usr/lib'),
    file('lib/x', 'x'),
    symlink('abs', outside),
    file('abs/y', 'y'),
    symlink('up', '../../../../../../../../../..'),
    file(`up${outside}/z`, 'z'),
    symlink('last', `${outside}/last`),
    file('last', 'mine'),
    directory('other'),
    symlink('dirlink', outside),
    directory('dirlink', { mode: 0o700 }),
  ]);
  assert.deepEqual(fs.readdirSync(outside), []);
  assert.equal(fs.readFileSync(`${root}/usr/lib/x`, 'utf8'), 'x');
  assert.equal(fs.readFileSync(`${root}${outside}/y`, 'utf8'), 'y');
  assert.equal(fs.readFileSync(`${root}${outside}/z`, 'utf8'), 'z');
  assert.equal(fs.readFileSync(`${root}/last`, 'utf8'), 'mine');
  assert.ok(fs.lstatSync(`${root}/dirlink`).isDirectory());
  assert.notEqual(fs.statSync(outside).mode & 0o7777, 0o777);
});

test('times and modes of a directory replaced by a link do not reach its target', async (t) => {
  const outside = scratchDirectory(t);
  fs.lutimesSync(outside, 5, 5);
  const before = fs.statSync(outside);
  await unpack(t, [directory('d', { mode: 0o777, mtimeMs: 77_000 }), symlink('d', outside)]);
  const after = fs.statSync(outside);
  assert.deepEqual([after.mode, after.mtimeMs], [before.mode, before.mtimeMs]);
});

const HOSTILE: readonly (readonly [string, readonly TarInput[], RegExp])[] = [
  ['..', [file('../x', '')], /points outside the layer/],
  ['.. later', [file('a/../../x', '')], /points outside the layer/],
  ['whiteout of ..', [file('a/.wh...', '')], /whiteout of nothing/],
  ['bare whiteout', [file('a/.wh.', '')], /whiteout of nothing/],
  ['file as root', [file('./', '')], /would replace the root|cannot unpack/],
  ['link to outside', [link('x', '../../etc/passwd')], /points outside the layer/],
  ['link to absolute', [link('x', '/etc/passwd')], /which the layer does not have/],
  [
    'link through a link',
    [symlink('e', '/etc'), link('x', 'e/passwd')],
    /which the layer does not have/,
  ],
  ['link to a directory', [directory('d'), link('x', 'd')], /links to the directory/],
  ['link to itself', [file('x', ''), link('x', 'x')], /which the layer does not have|cannot/],
  ['file as parent', [file('f', ''), file('f/x', '')], /which is no directory/],
  ['circle', [symlink('a', 'b'), symlink('b', 'a'), file('a/x', '')], /circle of links/],
  ['long name', [file('n'.repeat(300), '')], /cannot unpack layer entry/],
];

test('directories that were replaced leave no time behind, not even through a link', async (t) => {
  const outside = scratchDirectory(t);
  fs.mkdirSync(path.join(outside, 'b'));
  const before = fs.statSync(path.join(outside, 'b')).mtimeMs;
  const made = [directory('a', {}), directory('a/b', { mtimeMs: 77_000 })];
  await unpack(t, [...made, symlink('a', outside)]);
  assert.equal(fs.statSync(path.join(outside, 'b')).mtimeMs, before);
  await unpack(t, [...made, file('a', 'a file now')]);
});

test('a hostile layer is refused with a reason and leaves nothing outside', async (t) => {
  for (const [what, entries, reason] of HOSTILE) {
    await assert.rejects(
      unpack(t, entries),
      (error) => hasCode(error, 'invalid') && reason.test(error.message),
      what,
    );
  }
});
