/**
 * Layers made to break out, to fill up or to hang: each is unpacked beside files of the host, of
 * which nothing may change, and is refused with a reason or lies whole in its own directory.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createGzip, gzipSync } from 'node:zlib';
import { hasCode } from '../../base/errors.ts';
import { type TarInput, type TarType, writeTar } from '../../runtime/image/tar.ts';
import { define } from '../../runtime/sys/libc.ts';
import { collect, directory, file } from '../support/images.ts';
import { LayerScratch } from '../support/layerScratch.ts';

let scratch: LayerScratch;
before(() => {
  scratch = new LayerScratch();
});
after(() => scratch.remove());

const at = (...names: string[]): string => join(scratch.layer, ...names);
const symlink = (name: string, linkName: string): TarInput => ({ name, type: 'symlink', linkName });
const link = (name: string, linkName: string): TarInput => ({ name, type: 'link', linkName });

async function unpack(entries: readonly TarInput[], look: () => void = () => {}): Promise<void> {
  await scratch.unpack(await collect(writeTar(entries)), look);
}

/** Whatever it ends in, what is the host's has not changed: LayerScratch sees to that. */
async function unpackAnyhow(entries: readonly TarInput[]): Promise<void> {
  await unpack(entries).catch((error: unknown) => {
    assert.ok(hasCode(error, 'invalid'), String(error));
  });
}

/** Ways to name the host's directory from inside a layer. */
function waysOut(): string[] {
  const { canary, layer } = scratch;
  return [
    canary,
    `${'../'.repeat(20)}${canary}`,
    `../../canary`,
    `./.././../canary`,
    `/proc/self/root${canary}`,
    `/proc/self/cwd/${'../'.repeat(20)}${canary}`,
    `${layer}/../../canary`,
    `/dev/fd/0/..${canary}`,
  ];
}

test('every kind of entry through every kind of link to the host stays in the layer', async () => {
  const below: readonly TarInput[] = [
    file('l/a', 'mine', { mode: 0o6777, uid: 5, gid: 6 }),
    file('l/new', 'mine'),
    directory('l/directory', { mode: 0o7777, uid: 5, mtimeMs: 1000 }),
    symlink('l/b', '/etc/passwd'),
    link('l/hard', 'l/a'),
    file('l/.wh.a', ''),
    file('l/.wh.directory', ''),
    file('l/.wh..wh..opq', ''),
    { name: 'l/dev', type: 'block-device', deviceMajor: 8, deviceMinor: 0 },
    { name: 'l/fifo', type: 'fifo' },
    file('l', 'in its place'),
    directory('l', { mode: 0o700 }),
  ];
  for (const way of waysOut()) {
    for (const entry of below) await unpackAnyhow([symlink('l', way), entry]);
    await unpackAnyhow([symlink('l', way), ...below]);
    await unpackAnyhow([directory('l'), symlink('l/m', way), symlink('l', 'l/m'), ...below]);
    await unpackAnyhow([symlink('m', way), symlink('l', 'm'), ...below]);
  }
});

test("hard links to what is the host's are refused, and those to links link the link", async () => {
  for (const way of waysOut()) {
    await assert.rejects(unpack([link('x', `${way}/a`)]), (error) => hasCode(error, 'invalid'));
    await assert.rejects(unpack([symlink('l', way), link('x', 'l/a')]), (error) =>
      hasCode(error, 'invalid'),
    );
    await unpack([symlink('l', `${way}/a`), link('x', 'l'), file('l', 'mine')], () => {
      assert.ok(fs.lstatSync(at('x')).isSymbolicLink());
      assert.equal(fs.readFileSync(at('l'), 'utf8'), 'mine');
    });
  }
});

test('names with .., and absolute ones, lie in the layer or are refused', async () => {
  for (const name of ['../canary/a', 'a/../../../canary/a', '..', 'a/..//../x', '/../canary/a']) {
    await assert.rejects(unpack([file(name, 'x')]), (error) => hasCode(error, 'invalid'), name);
  }
  const name = join(scratch.canary, 'a');
  await unpack([file(name, 'mine'), file('//a///b', 'b'), file('./././c/../d', 'd')], () => {
    assert.equal(fs.readFileSync(at(name), 'utf8'), 'mine');
    assert.equal(fs.readFileSync(at('a/b'), 'utf8'), 'b');
    assert.equal(fs.readFileSync(at('d'), 'utf8'), 'd');
  });
});

test('devices and fifos are made, never opened; a file in their place is a file', async () => {
  const device = { deviceMajor: 1, deviceMinor: 3 };
  await unpack(
    [
      { name: 'null', type: 'character-device', ...device },
      { name: 'pipe', type: 'fifo' },
      file('null', 'a file'),
      file('pipe', 'a file'),
    ],
    () => {
      for (const name of ['null', 'pipe'])
        assert.equal(fs.readFileSync(at(name), 'utf8'), 'a file');
    },
  );
});

test('names beyond what the kernel takes, and a path too deep, are refused', async () => {
  const deep = `${'d/'.repeat(2040)}x`;
  const isInvalid = (error: unknown): boolean => hasCode(error, 'invalid');
  for (const name of ['n'.repeat(256), `${'a/'.repeat(3000)}x`, 'y'.repeat(70_000)]) {
    await assert.rejects(unpack([file(name, '')]), isInvalid);
    await assert.rejects(unpack([directory(name)]), isInvalid);
  }
  await assert.rejects(unpack([symlink('l', 'y'.repeat(70_000))]), isInvalid);
  await unpackAnyhow([file(deep, 'x'), file(deep, 'y'), directory('d', { mode: 0o700 })]);
});

/** An entry whose PAX record says another size than its header. */
async function withPaxSize(size: string, entry: TarInput, ...more: TarInput[]): Promise<Buffer> {
  const text = (body: string): string => {
    const length = body.length + 1;
    const digits = String(length + String(length).length).length;
    return `${length + digits} ${body}`;
  };
  const record = text(`size=${size}\n`);
  const pax = await collect(writeTar([file('pax', record)]));
  pax[156] = 'x'.charCodeAt(0);
  pax.fill(' ', 148, 156);
  const sum = pax.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  pax.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([pax.subarray(0, 1024), await collect(writeTar([entry, ...more]))]);
}

test('a size that lies gives no more than the archive has, or is refused', async () => {
  const big = file('a', 'x'.repeat(600));
  for (const size of ['99999999999999999999', '1e400', '-1', '-600', 'NaN', '9007199254740993']) {
    const archive = await withPaxSize(size, big, file('b', 'b'));
    await assert.rejects(scratch.unpack(archive), (error) => hasCode(error, 'invalid'), size);
  }
  for (const size of ['1', '512', '600', '601', '1024', '2000']) {
    const archive = await withPaxSize(size, big, file('b', 'b'));
    await scratch.unpack(archive).catch((error: unknown) => {
      assert.ok(hasCode(error, 'invalid'), `${size}: ${String(error)}`);
    });
  }
  const types: readonly TarType[] = ['directory', 'symlink', 'fifo', 'character-device'];
  for (const type of types) {
    const archive = await withPaxSize('600', { name: 't', type, linkName: 'x' }, file('b', 'b'));
    await scratch.unpack(archive).catch((error: unknown) => {
      assert.ok(hasCode(error, 'invalid'), `${type}: ${String(error)}`);
    });
  }
});

test('sparse files are refused by name, not unpacked as what they are not', async () => {
  const work = fs.mkdtempSync(join(tmpdir(), 'hostile-sparse-'));
  try {
    // 8 TiB that take nothing: an unpacker that fills holes in never ends.
    fs.writeFileSync(join(work, 'bomb'), '');
    fs.truncateSync(join(work, 'bomb'), 8 * 2 ** 40);
    for (const format of ['gnu', 'posix']) {
      const options = ['--sparse', `--format=${format}`, '-cf', '-', '-C', work, 'bomb'];
      const archive = execFileSync('tar', options);
      await assert.rejects(scratch.unpack(archive), (error) => hasCode(error, 'unsupported'));
    }
  } finally {
    fs.rmSync(work, { recursive: true });
  }
});

test('whiteouts of nothing, of what leads out and of what is there hide only what is below', async () => {
  for (const name of ['.wh...', 'a/.wh...', '.wh..', '.wh.', 'a/.wh.']) {
    await assert.rejects(unpack([file(name, '')]), (error) => hasCode(error, 'invalid'), name);
  }
  await unpack(
    [
      directory('.wh.made'),
      symlink('.wh.linked', '/etc'),
      symlink('l', scratch.canary),
      file('l/.wh.a', ''),
      file('l/.wh..wh..opq', ''),
      file('.wh..wh.plnk', ''),
      file('.wh..wh.aufs/x', ''),
    ],
    () => {
      for (const name of ['made', 'linked']) {
        const stat = fs.lstatSync(at(name));
        assert.ok(stat.isCharacterDevice() && stat.rdev === 0, name);
      }
      assert.ok(!fs.existsSync(at('.wh..wh.plnk')) && !fs.existsSync(at('.wh..wh.aufs')));
      assert.ok(fs.existsSync(at(scratch.canary)), 'the link was followed within the layer');
    },
  );
});

test('set-id bits come after the owner, and none through a link', async () => {
  await unpack(
    [
      file('su', 'x', { mode: 0o4755, uid: 1000, gid: 1000 }),
      { ...link('other', 'su'), mode: 0o6777, uid: 0 },
      { ...symlink('to', 'su'), mode: 0o6777, uid: 7 },
    ],
    () => {
      const stat = fs.lstatSync(at('su'));
      assert.deepEqual([stat.mode & 0o7777, stat.uid, stat.nlink], [0o4755, 1000, 2]);
      assert.equal(fs.lstatSync(at('to')).uid, 7);
    },
  );
});

const llistxattr = define<(path: string, list: Uint8Array, size: number) => number>(
  '',
  'long llistxattr(const char *path, void *list, size_t size)',
);

test("attributes of the overlay and of the security modules are not the layer's to set", async () => {
  const names = ['trusted.overlay.opaque', 'trusted.overlay.redirect', 'trusted.overlay.metacopy'];
  names.push('trusted.other', 'security.selinux', 'security.ima', 'security.evm', 'system.other');
  names.push('user.overlay.opaque', 'user.overlay.redirect', 'user.kept');
  const xattrs = new Map(names.map((name) => [name, Buffer.from('y')]));
  await unpack([directory('d', { xattrs }), file('f', '', { xattrs }), file('d/x', '')], () => {
    for (const name of ['d', 'f']) {
      const list = Buffer.alloc(1024);
      const length = llistxattr(at(name), list, list.length);
      const own = list
        .toString('latin1', 0, length)
        .split('\0')
        .filter((each) => each !== '');
      assert.deepEqual(own, ['user.kept'], name);
    }
  });
  const odd = new Map([['security.capability', Buffer.from('not a capability')]]);
  await assert.rejects(unpack([file('f', '', { xattrs: odd })]), (error) =>
    hasCode(error, 'invalid'),
  );
});

test('a name that changes its kind, in every order, is what it was last', async () => {
  const kinds: Readonly<Record<string, TarInput>> = {
    file: file('x', 'x', { mode: 0o777 }),
    directory: directory('x', { mode: 0o777, mtimeMs: 5000 }),
    symlink: symlink('x', scratch.canary),
    link: link('x', 'other'),
    fifo: { name: 'x', type: 'fifo' },
    device: { name: 'x', type: 'character-device', deviceMajor: 1, deviceMinor: 3 },
    whiteout: { name: 'x', type: 'character-device' },
  };
  const inside = [file('x/a', 'inside'), file('x/directory/a', 'inside')];
  for (const [first, one] of Object.entries(kinds)) {
    for (const [second, two] of Object.entries(kinds)) {
      const what = `${first}, ${second}`;
      await unpack([file('other', 'o'), one, two], () => {
        const stat = fs.lstatSync(at('x'));
        const is: Readonly<Record<string, boolean>> = {
          file: stat.isFile(),
          directory: stat.isDirectory(),
          symlink: stat.isSymbolicLink(),
          link: stat.isFile() && stat.nlink === 2,
          fifo: stat.isFIFO(),
          device: stat.isCharacterDevice() && stat.rdev !== 0,
          whiteout: stat.isCharacterDevice() && stat.rdev === 0,
        };
        assert.ok(is[second], what);
      });
      await unpackAnyhow([file('other', 'o'), one, ...inside, two, ...inside]);
      await unpackAnyhow([file('other', 'o'), directory('x'), ...inside, one, ...inside, two]);
    }
  }
});

test('times of directories that went with their parent reach nothing in its place', async () => {
  const inside = [directory('x'), directory('x/directory', { mtimeMs: 7000 })];
  for (const way of waysOut()) await unpack([...inside, symlink('x', way)]);
  const deeper = directory('x/directory/y', { mtimeMs: 7000 });
  for (const way of waysOut()) await unpack([...inside, deeper, symlink('x', `${way}/..`)]);
  await unpack([...inside, file('x', 'a file now')], () => {
    assert.equal(fs.readFileSync(at('x'), 'utf8'), 'a file now');
  });
});

test('entries and names of directories without end are refused at their bound', async () => {
  async function* many(make: (at: number) => TarInput): AsyncGenerator<TarInput> {
    for (let count = 0; count < 1_000_000; count += 1) yield make(count);
  }
  const limits = { entries: 2000, directoryNameBytes: 100_000 };
  const refused = (entries: AsyncIterable<TarInput>, words: RegExp): Promise<void> =>
    assert.rejects(
      scratch.unpack(writeTar(entries), () => {}, limits),
      (error) => hasCode(error, 'exhausted') && words.test(error.message),
    );
  await refused(
    many(() => directory('./')),
    /more than 2000 entries/,
  );
  await refused(
    many((count) => file(`f${count}`, '')),
    /more than 2000 entries/,
  );
  const long = `${'l'.repeat(200)}/`.repeat(5);
  await refused(
    many((count) => directory(`${long}${count}`)),
    /100000 bytes of names/,
  );
});

test('a bomb, plain or in a bomb, takes bounded memory and ends with the disk', async () => {
  const mount = join(scratch.top, 'work');
  const options = ['-t', 'tmpfs', '-o', 'size=16m,mode=755', 'tmpfs', mount];
  const zeros = Buffer.alloc(1024 * 1024);
  const sizeBytes = 2 ** 40;
  async function* forever(): AsyncGenerator<Uint8Array> {
    for (;;) yield zeros;
  }
  async function* bomb(): AsyncGenerator<Uint8Array> {
    const body = { sizeBytes, chunks: forever() };
    yield* writeTar([{ name: 'bomb', body }]);
  }
  async function* packed(): AsyncGenerator<Uint8Array> {
    const gzip = createGzip();
    void (async () => {
      for await (const chunk of bomb()) {
        if (gzip.destroyed) return;
        if (!gzip.write(chunk)) await new Promise((resolve) => gzip.once('drain', resolve));
      }
    })();
    try {
      yield* gzip as AsyncIterable<Uint8Array>;
    } finally {
      gzip.destroy();
    }
  }
  execFileSync('mount', options);
  try {
    for (const source of [bomb, packed]) {
      await assert.rejects(scratch.unpack(source()), (error) => hasCode(error, 'exhausted'));
    }
    const inBomb = await collect(writeTar([{ name: 'in', body: gzipSync(zeros) }]));
    await scratch.unpack(gzipSync(inBomb), () => {
      assert.ok(fs.statSync(at('in')).size < 10_000, 'what is packed in a layer stays so');
    });
  } finally {
    execFileSync('umount', [mount]);
  }
});
