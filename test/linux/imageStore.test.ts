/**
 * The image store on a real disk: loading, importing, sharing, saving and removing images; archives
 * that other tools made; and a store that stays whole when the process is killed at any moment.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once as happens } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { SeededRandom } from '../../base/random.ts';
import {
  buildImage,
  collect,
  dockerArchive,
  file,
  hex,
  inPieces,
  ociArchive,
  once,
  openStore,
  scratchDirectory,
  sha256,
  tar,
} from '../support/images.ts';
import { until } from '../support/lab.ts';
import { openFiles } from '../support/openFiles.ts';
import { longestTurnMs } from '../support/processes.ts';

async function twoLayers(): Promise<Buffer[]> {
  return [
    await tar([file('base', 'b'.repeat(2000)), file('gone', 'g')]),
    await tar([file('top', 't'.repeat(3000)), file('.wh.gone', '')]),
  ];
}

test('a docker-archive is loaded whole, plain or compressed, with the same digests', async (t) => {
  const image = buildImage(await twoLayers());
  const archive = await dockerArchive(image, ['web', 'reg.example:5000/a/web:2']);
  const packed = execFileSync('zstd', ['-q', '-c'], { input: archive });
  const digests = new Set<string>();
  for (const bytes of [archive, gzipSync(archive), packed]) {
    const store = await openStore(t, scratchDirectory(t));
    const [loaded, ...others] = await store.load(inPieces(bytes, 10_000));
    assert.deepEqual(others, []);
    assert.equal(loaded.id, sha256(image.config));
    assert.deepEqual(loaded.tags, ['docker.io/library/web:latest', 'reg.example:5000/a/web:2']);
    assert.equal(loaded.sizeBytes, 5001);
    for (const digest of loaded.digests) digests.add(digest);
    for (const digest of loaded.digests) assert.equal(store.find(digest)?.id, loaded.id);
    const layers = await store.layers(loaded.id);
    assert.equal(layers.length, 2);
    assert.equal(fs.readFileSync(`${layers[1]}/top`, 'utf8').length, 3000);
    assert.ok(fs.lstatSync(`${layers[1]}/gone`).isCharacterDevice());
  }
  assert.equal(digests.size, 2, 'one digest for each of the two names, whatever the compression');
});

test('an OCI layout is loaded with its own digest, gzip or zstd layers alike', async (t) => {
  const layers = await twoLayers();
  const store = await openStore(t, scratchDirectory(t));
  const packed = buildImage(layers, (layer) => gzipSync(layer));
  const [first] = await store.load(once(await ociArchive(packed, 'oci/web:1')));
  assert.deepEqual(first.tags, ['docker.io/oci/web:1']);
  const zstd = buildImage(layers, (layer) => execFileSync('zstd', ['-q', '-c'], { input: layer }), {
    Cmd: ['/other'],
  });
  const [second] = await store.load(once(await ociArchive(zstd, 'latest')));
  assert.deepEqual(second.tags, [], 'a bare word is a tag without a name');
  assert.deepEqual(await store.layers(second.id), await store.layers(first.id));
});

test('images share the layers they have in common; each goes with its last image', async (t) => {
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  const [base, top] = await twoLayers();
  const [one] = await store.load(once(await dockerArchive(buildImage([base]), ['one'])));
  const [two] = await store.load(once(await dockerArchive(buildImage([base, top]), ['two'])));
  assert.equal((await store.layers(one.id))[0], (await store.layers(two.id))[0]);
  assert.deepEqual(await store.remove('two', { force: false }), [
    { untagged: 'two:latest' },
    { deleted: two.id },
    { deleted: sha256(top) },
  ]);
  assert.deepEqual(fs.readdirSync(`${root}/image/layers`), [hex(sha256(base))]);
  await store.remove(one.id.slice(7, 19), { force: false });
  assert.deepEqual(fs.readdirSync(`${root}/image/layers`), []);
  assert.deepEqual(fs.readdirSync(`${root}/image/blobs/sha256`), []);
  assert.deepEqual(store.list(), []);
});

test('an image in use is kept, and by force loses its name first', async (t) => {
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  const [image] = await store.load(
    once(await dockerArchive(buildImage(await twoLayers()), ['web'])),
  );
  const release = store.hold(image.id, 'c0ffee'.repeat(10));
  await assert.rejects(
    store.remove('web', { force: false }),
    (error) =>
      hasCode(error, 'conflict') && error.message.includes('container c0ffeec0ffee is using'),
  );
  await store.tag('web', 'web:other');
  assert.deepEqual(await store.remove('web', { force: false }), [{ untagged: 'web:latest' }]);
  assert.deepEqual(await store.remove('web:other', { force: true }), [{ untagged: 'web:other' }]);
  assert.deepEqual(store.list(), []);
  assert.ok(fs.existsSync((await store.layers(image.id))[0]), 'the container still runs on it');
  release();
  release();
  await store.load(once(await dockerArchive(buildImage(await twoLayers(), undefined, {}), ['x'])));
  await store.remove('x', { force: false });
  assert.deepEqual(fs.readdirSync(`${root}/image/layers`), []);
});

test('names are found in all their forms, and unknown ones are said to be unknown', async (t) => {
  const store = await openStore(t, scratchDirectory(t));
  const [image] = await store.load(
    once(await dockerArchive(buildImage(await twoLayers()), ['web'])),
  );
  const bare = image.id.slice(7);
  const digest = image.digests[0].split('@')[1];
  const forms = ['web', 'web:latest', 'docker.io/library/web', image.id, bare, bare.slice(0, 8)];
  for (const text of [...forms, `web@${digest}`, `web:old@${digest}`]) {
    assert.equal(store.find(text)?.id, image.id, text);
  }
  for (const text of ['other', 'web:2', `other@${digest}`, `sha256:${'0'.repeat(64)}`]) {
    assert.equal(store.find(text), undefined, text);
  }
  assert.throws(
    () => store.find('Bad Name'),
    (error) => hasCode(error, 'invalid'),
  );
  await assert.rejects(
    store.remove('other', { force: true }),
    /^SwarmError: No such image: other:latest$/,
  );
  await assert.rejects(store.tag('other', 'x'), /No such image/);
  await assert.rejects(store.tag('web', `x@${digest}`), /has a digest/);
});

test('a root file system becomes the same image on every host', async (t) => {
  const rootfs = gzipSync(await tar([file('bin/sh', '#!', { mtimeMs: 1_700_000_000_000 })]));
  const ids = [];
  for (let host = 0; host < 2; host += 1) {
    const store = await openStore(t, scratchDirectory(t));
    const image = await store.import(inPieces(rootfs), 'my/root:1', ['CMD ["/bin/sh"]']);
    ids.push(`${image.id} ${image.digests}`);
    assert.deepEqual(image.config.cmd, ['/bin/sh']);
    assert.equal(image.config.createdAtMs, 1_700_000_000_000);
    await assert.rejects(store.import(inPieces(rootfs), 'x', ['RUN ls']), /bad change/);
    await assert.rejects(store.import(once(Buffer.from('no tar')), 'x'), /tar/);
    assert.equal(store.list().length, 1);
  }
  assert.equal(ids[0], ids[1]);
});

test('what is saved loads elsewhere, here and in other tools, with its digest', async (t) => {
  const work = scratchDirectory(t);
  const store = await openStore(t, path.join(work, 'a'));
  const image = buildImage(await twoLayers(), (layer) => gzipSync(layer));
  const [first] = await store.load(once(await ociArchive(image, 'oci/web:1')));
  const saved = await collect(store.save(['oci/web:1']));
  assert.deepEqual(await collect(store.save(['oci/web:1'])), saved);
  const other = await openStore(t, path.join(work, 'b'));
  const [second] = await other.load(inPieces(saved, 5000));
  assert.deepEqual({ ...second, taggedAtMs: 0 }, { ...first, taggedAtMs: 0 });
  fs.writeFileSync(`${work}/saved.tar`, saved);
  for (const kind of ['docker-archive', 'oci-archive']) {
    const told = execFileSync('skopeo', ['inspect', '--config', `${kind}:${work}/saved.tar`]);
    assert.deepEqual(JSON.parse(told.toString()).rootfs.diff_ids, first.diffIds, kind);
  }
  assert.throws(() => store.save(['nothing']), /No such image/);
});

test('an archive names what was asked for, and one that nobody reads holds no file open', async (t) => {
  const work = scratchDirectory(t);
  const store = await openStore(t, work);
  await store.load(once(await dockerArchive(buildImage(await twoLayers()), ['one', 'two'])));
  const saved = await collect(store.save(['two']));
  const [again] = await store.load(once(saved));
  assert.deepEqual(again.tags.length, 2);
  assert.deepEqual(again.loadedAs, ['docker.io/library/two:latest']);
  const held = (): string[] => openFiles((target) => target.includes(work));
  const before = held();
  for (let chunks = 0; chunks < 6; chunks += 1) {
    const archive = store.save(['one'])[Symbol.asyncIterator]();
    for (let at = 0; at < chunks; at += 1) await archive.next();
    await archive.return?.();
  }
  await until('all is closed', 5000, () => held().length === before.length || undefined);
});

test('archives that skopeo makes of an image are loaded, both kinds', async (t) => {
  const work = scratchDirectory(t);
  const image = buildImage(await twoLayers(), (layer) => gzipSync(layer));
  fs.writeFileSync(`${work}/in.tar`, await ociArchive(image, 'x:1'));
  const copy = (target: string): void => {
    execFileSync('skopeo', ['copy', '-q', `oci-archive:${work}/in.tar:x:1`, target]);
  };
  copy(`docker-archive:${work}/docker.tar:name/web:3`);
  copy(`oci-archive:${work}/oci.tar:name/web:4`);
  const store = await openStore(t, path.join(work, 'store'));
  const [docker] = await store.load(fs.createReadStream(`${work}/docker.tar`));
  assert.deepEqual(docker.tags, ['docker.io/name/web:3']);
  const [oci] = await store.load(fs.createReadStream(`${work}/oci.tar`));
  assert.ok(oci.tags.includes('docker.io/name/web:4'));
  assert.deepEqual(oci.diffIds, docker.diffIds);
  assert.deepEqual(await store.layers(oci.id), await store.layers(docker.id));
});

test('a repeated layer, a link to the first in old docker-archives, is mounted once', async (t) => {
  const layers = await twoLayers();
  const image = buildImage([layers[0], layers[1], layers[0]]);
  const manifest = [
    { Config: 'c.json', RepoTags: null, Layers: ['a/layer.tar', 'b/layer.tar', 'c/layer.tar'] },
  ];
  const archive = await tar([
    { name: './c.json', body: image.config },
    { name: 'a/layer.tar', body: layers[0] },
    { name: 'b/layer.tar', body: layers[1] },
    { name: 'c/layer.tar', type: 'symlink', linkName: '../a/layer.tar' },
    file('manifest.json', JSON.stringify(manifest)),
  ]);
  const store = await openStore(t, scratchDirectory(t));
  const [loaded] = await store.load(once(archive));
  const found = await store.layers(loaded.id);
  assert.equal(found.length, 2, 'overlayfs refuses one directory twice');
  const merged = scratchDirectory(t);
  const lower = found.toReversed().join(':');
  execFileSync('mount', ['-t', 'overlay', 'x', '-o', `lowerdir=${lower}`, merged]);
  try {
    assert.deepEqual(fs.readdirSync(merged).sort(), ['base', 'gone', 'top']);
  } finally {
    execFileSync('umount', [merged]);
  }
});

test('an archive that is cut, damaged or no image is refused and leaves nothing', async (t) => {
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  const image = buildImage(await twoLayers());
  const archive = await dockerArchive(image, ['web']);
  const other = await tar([file('else', 'x')]);
  const wrongLayer = { config: image.config, layers: [image.layers[0], other] };
  const missing = { config: image.config, layers: [image.layers[0]] };
  const blob = hex(sha256(image.layers[1]));
  const flip = (blobs: Map<string, Buffer>): void => {
    blobs.set(blob, Buffer.from('other content'));
  };
  const cases: readonly (readonly [string, Buffer, RegExp])[] = [
    ['cut', archive.subarray(0, 3000), /not a whole tar archive/],
    ['nothing', Buffer.alloc(0), /no image archive/],
    ['text', Buffer.alloc(2048, 'text'), /not a whole tar archive/],
    ['root file system', other, /tsswarm image import/],
    ['other layer', await dockerArchive(wrongLayer, ['web']), /content its image promises/],
    ['missing layer', await dockerArchive(missing, ['web']), /1 layers for 2 diff ids/],
    ['bad name', await dockerArchive(image, ['Bad Name']), /invalid reference format/],
    ['flipped blob', await ociArchive(image, 'x:1', flip), /has other content/],
    ['lost blob', await ociArchive(image, 'x:1', (blobs) => blobs.delete(blob)), /is missing/],
    ['cut gzip', gzipSync(archive).subarray(0, 300), /gzip data is damaged/],
  ];
  for (const [what, bytes, reason] of cases) {
    await assert.rejects(store.load(inPieces(bytes)), reason, what);
    assert.deepEqual(store.list(), [], what);
  }
  const failure = new Error('the caller hung up');
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield archive.subarray(0, 2000);
    throw failure;
  }
  await assert.rejects(store.load(failing()), failure);
  assert.deepEqual(fs.readdirSync(`${root}/image/ingest`), []);
  assert.deepEqual(fs.readdirSync(`${root}/image/layers`), []);
  assert.equal((await store.load(once(archive))).length, 1, 'the store still works');
});

test('a full disk is told as such and nothing half-done stays', async (t) => {
  const root = fs.mkdtempSync('/tmp/image-full-');
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'x', root]);
  t.after(() => {
    execFileSync('umount', ['-l', root]);
    fs.rmdirSync(root);
  });
  const store = await openStore(t, root);
  const small = await dockerArchive(buildImage([await tar([file('s', 's')])]), ['small']);
  await store.load(once(small));
  const noise = Buffer.from(new SeededRandom(1).bytes(14 * 1024 * 1024));
  const layer = await tar([{ name: 'big', body: noise }]);
  const archive = await dockerArchive(buildImage([layer]), ['big']);
  await assert.rejects(
    store.load(inPieces(archive, 65_536)),
    (error) => hasCode(error, 'exhausted') && /no space left on the disk of/.test(error.message),
  );
  assert.deepEqual(
    store.list().flatMap((image) => image.tags),
    ['docker.io/library/small:latest'],
  );
  await store.remove('small', { force: false });
  assert.deepEqual(fs.readdirSync(`${root}/image/blobs/sha256`), []);
  assert.equal((await store.load(once(small))).length, 1);
});

test('a damaged catalog is refused by name of the file', async (t) => {
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  await store.load(once(await dockerArchive(buildImage(await twoLayers()), ['web'])));
  const text = fs.readFileSync(`${root}/image/images.json`, 'utf8');
  for (const bad of [
    '',
    '{',
    text.slice(0, -20),
    '{"version":9}',
    text.replace(/"images":\[.*?\],"tags"/s, '"images":[],"tags"'),
  ]) {
    fs.writeFileSync(`${root}/image/images.json`, bad);
    await assert.rejects(
      openStore(t, root),
      (error) => hasCode(error, 'corrupt') && error.message.includes('images.json is damaged'),
    );
  }
});

test('the main thread is not held up while a large image is loaded', async (t) => {
  const store = await openStore(t, scratchDirectory(t));
  const bytes = Buffer.from(new SeededRandom(2).bytes(1 << 20));
  const names = Array.from({ length: 40 }, (_, at) => ({ name: `f${at}`, body: bytes }));
  const layer = await tar(names);
  const archive = await dockerArchive(
    buildImage([layer], (one) => gzipSync(one, { level: 1 })),
    ['x'],
  );
  const longestMs = await longestTurnMs(() => store.load(inPieces(archive, 65_536)));
  // 5 ms is the aim, this tells a blocked loop apart.
  assert.ok(longestMs < 50, `the loop stood still for ${longestMs.toFixed(1)} ms`);
});

const LOADER = `
import fs from 'node:fs';
const [storePath, clockPath, logPath, root, archive] = process.argv.slice(1);
const { openImageStore } = await import(storePath);
const { SystemClock } = await import(clockPath);
const { silentLog } = await import(logPath);
const store = await openImageStore({ dataRoot: root, clock: new SystemClock(), log: silentLog });
process.stdout.write('go');
for (;;) {
  await store.load(fs.createReadStream(archive, { highWaterMark: 16384 }));
  await store.remove('web', { force: true });
}
`;

test('kill -9 of a loading process at any moment leaves the store whole', async (t) => {
  const work = scratchDirectory(t);
  const root = path.join(work, 'data');
  const noise = Buffer.from(new SeededRandom(3).bytes(300_000));
  const entries = Array.from({ length: 60 }, (_, at) => ({ name: `d${at}/f`, body: noise }));
  const kept = await dockerArchive(buildImage([await tar([file('k', 'k')])]), ['kept']);
  const archive = await dockerArchive(
    buildImage([await tar(entries.slice(0, 30)), await tar(entries.slice(30))]),
    ['web'],
  );
  fs.writeFileSync(`${work}/web.tar`, archive);
  const first = await openStore(t, root);
  await first.load(once(kept));
  await first.close();
  const module = (name: string): string => fileURLToPath(new URL(`../../${name}`, import.meta.url));
  const random = new SeededRandom(4);
  for (let round = 0; round < 6; round += 1) {
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        LOADER,
        module('runtime/image/store.js'),
        module('base/clock.js'),
        module('base/log.js'),
        root,
        `${work}/web.tar`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const ended = happens(child, 'exit');
    await happens(child.stdout, 'data');
    await new SystemClock().sleep(random.below(900)); // any moment is what is tried
    child.kill('SIGKILL');
    assert.deepEqual(await ended, [null, 'SIGKILL'], 'it was killed at its work');
    const store = await openStore(t, root);
    const names = store.list().flatMap((image) => image.tags);
    assert.ok(names.includes('docker.io/library/kept:latest'), `round ${round}`);
    for (const image of store.list()) {
      for (const directory of await store.layers(image.id)) assert.ok(fs.existsSync(directory));
      assert.ok((await collect(store.save([image.id]))).length > 0);
    }
    assert.deepEqual(fs.readdirSync(`${root}/image/ingest`), []);
    const layers = store.list().flatMap((image) => image.diffIds.map(hex));
    assert.deepEqual(fs.readdirSync(`${root}/image/layers`).sort(), layers.sort());
    for (const name of fs.readdirSync(`${root}/image/blobs/sha256`)) {
      const content = fs.readFileSync(`${root}/image/blobs/sha256/${name}`);
      assert.equal(hex(sha256(content)), name);
    }
    await store.close();
  }
});

test('an image with a layer more has those of its base, and goes elsewhere whole', async (t) => {
  const store = await openStore(t, scratchDirectory(t));
  const base = buildImage(await twoLayers(), (layer) => gzipSync(layer), { Cmd: ['/old'] });
  const [below] = await store.load(once(await ociArchive(base, 'base:1')));
  const layer = await tar([file('more', 'm'), file('.wh.top', '')]);
  const said = { author: 'A', comment: 'C', createdBy: 'by', config: { Cmd: ['/old'] } };
  const options = { ...said, changes: ['CMD ["/new"]'] };
  const made = await store.commit(below.id, once(layer), 'made:1', options);
  assert.deepEqual(made.diffIds, [...below.diffIds, sha256(layer)]);
  assert.deepEqual(made.config.cmd, ['/new']);
  // Nothing was written: no layer, and yet told of.
  const same = await store.commit(below.id, once(await tar([])), '', options);
  assert.deepEqual([same.diffIds, same.tags], [below.diffIds, []]);
  const { history } = await store.configuration(same.id);
  assert.deepEqual((history as { empty_layer?: boolean }[]).at(-1)?.empty_layer, true);
  await store.remove('base:1', { force: false });
  const other = await openStore(t, scratchDirectory(t));
  const [arrived] = await other.load(store.save(['made:1']));
  assert.deepEqual([arrived.id, arrived.tags], [made.id, made.tags]);
  assert.ok(fs.lstatSync(`${(await other.layers(arrived.id))[2]}/top`).isCharacterDevice());
  const wrong = { ...options, changes: ['RUN ls'] };
  await assert.rejects(store.commit(made.id, once(layer), '', wrong), /only CMD/);
});
