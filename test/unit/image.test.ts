/**
 * The image store's pure parts: references, manifests, configurations, changes, tar reading and
 * decompression, authentication challenges. No file system, no network, no root.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { hasCode } from '../../base/errors.ts';
import { importConfig } from '../../runtime/image/changes.ts';
import { decompress, detectCompression } from '../../runtime/image/compression.ts';
import { choosePlatform, parseConfig, parseManifest } from '../../runtime/image/manifest.ts';
import {
  familiarReference,
  formatReference,
  parseReference,
  withDefaultTag,
} from '../../runtime/image/reference.ts';
import { isLoopback } from '../../runtime/image/registryHosts.ts';
import { parseChallenge } from '../../runtime/image/registrySession.ts';
import { readTar, type TarHeader } from '../../runtime/image/tar.ts';
import { cleanName } from '../../runtime/image/unpack.ts';
import { collect, directory, file, inPieces, once, tar } from '../support/images.ts';

const DIGEST = `sha256:${'a1'.repeat(32)}`;

const GOOD: readonly (readonly [string, string, string])[] = [
  ['web', 'docker.io/library/web:latest', 'web:latest'],
  ['web:1.2', 'docker.io/library/web:1.2', 'web:1.2'],
  ['user/web', 'docker.io/user/web:latest', 'user/web:latest'],
  ['docker.io/web', 'docker.io/library/web:latest', 'web:latest'],
  ['index.docker.io/library/web', 'docker.io/library/web:latest', 'web:latest'],
  ['localhost/web', 'localhost/web:latest', 'localhost/web:latest'],
  ['host:5000/a/b_c__d.e-f', 'host:5000/a/b_c__d.e-f:latest', 'host:5000/a/b_c__d.e-f:latest'],
  ['[::1]:5000/web:2', '[::1]:5000/web:2', '[::1]:5000/web:2'],
  ['[::1]/web', '[::1]/web:latest', '[::1]/web:latest'],
  [`web@${DIGEST}`, `docker.io/library/web@${DIGEST}`, `web@${DIGEST}`],
  [`h.x/web:1@${DIGEST}`, `h.x/web:1@${DIGEST}`, `h.x/web:1@${DIGEST}`],
  ['web:5000', 'docker.io/library/web:5000', 'web:5000'],
  ['Host/web', 'Host/web:latest', 'Host/web:latest'],
];

test('a reference has the full and the familiar form that Docker gives it', () => {
  for (const [written, full, familiar] of GOOD) {
    const reference = withDefaultTag(parseReference(written));
    assert.equal(formatReference(reference), full);
    assert.equal(familiarReference(reference), familiar);
    assert.deepEqual(withDefaultTag(parseReference(full)), reference);
  }
});

test('a bad reference is refused with one line that starts as Docker says it', () => {
  const bad = [
    '',
    'WEB',
    'user/Web',
    'web:',
    'web:-x',
    `web:${'t'.repeat(129)}`,
    'web@sha256:12',
    `web@md5:${'0'.repeat(32)}`,
    `web@sha256:${'A1'.repeat(32)}`,
    '/web',
    'web/',
    'a//b',
    'we b',
    'web..x',
    '-host/web:1:2',
    'http://host/web',
    'a'.repeat(64),
    'n'.repeat(300),
    'web\n',
    'wéb',
  ];
  for (const written of bad) {
    assert.throws(
      () => parseReference(written),
      (error) =>
        hasCode(error, 'invalid') &&
        /^invalid reference format: [^\n]+$/.test(error.message.replace('web\n', 'web')),
      JSON.stringify(written),
    );
  }
});

function manifestBytes(more: object): Buffer {
  const layer = 'application/vnd.oci.image.layer.v1.tar+gzip';
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      config: { mediaType: 'x', digest: DIGEST, size: 3 },
      layers: [{ mediaType: layer, digest: DIGEST, size: 5 }],
      ...more,
    }),
  );
}

test('a manifest that is not whole, too old or no file system is refused', () => {
  assert.equal(parseManifest(manifestBytes({})).kind, 'manifest');
  const bad: readonly (readonly [Buffer, string])[] = [
    [Buffer.from('nonsense'), 'invalid'],
    [Buffer.from('[]'), 'invalid'],
    [manifestBytes({ schemaVersion: 1 }), 'unsupported'],
    [manifestBytes({ manifests: [] }), 'invalid'],
    [manifestBytes({ layers: undefined }), 'invalid'],
    [manifestBytes({ config: { digest: 'sha256:short', size: 1 } }), 'invalid'],
    [manifestBytes({ config: { digest: DIGEST, size: -1 } }), 'invalid'],
    [manifestBytes({ config: { digest: DIGEST, size: 2 ** 60 } }), 'invalid'],
    [manifestBytes({ layers: Array(401).fill({ digest: DIGEST, size: 1 }) }), 'invalid'],
    [
      manifestBytes({ layers: [{ mediaType: 'application/helm', digest: DIGEST, size: 1 }] }),
      'unsupported',
    ],
  ];
  for (const [bytes, code] of bad) {
    assert.throws(
      () => parseManifest(bytes),
      (error) => hasCode(error, code as 'invalid'),
      bytes.toString('utf8', 0, 100),
    );
  }
});

test('layers that a registry may not hold are refused as what they are', () => {
  for (const mediaType of [
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ]) {
    const layers = [{ mediaType, digest: DIGEST, size: 1 }];
    assert.throws(() => parseManifest(manifestBytes({ layers })), /foreign \(non-distributable\)/);
  }
});

test("an index gives the host's platform, or says which there are", () => {
  const entry = (architecture: string, variant?: string): object => ({
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: `sha256:${Buffer.from(architecture + (variant ?? ''))
      .toString('hex')
      .padEnd(64, '0')}`,
    size: 1,
    platform: { os: architecture === 'unknown' ? 'unknown' : 'linux', architecture, variant },
  });
  const index = parseManifest(
    Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        manifests: [entry('arm', 'v7'), entry('arm64', 'v8'), entry('amd64'), entry('unknown')],
      }),
    ),
  );
  assert.equal(index.kind, 'index');
  if (index.kind !== 'index') return;
  const chosen = choosePlatform(index, { os: 'linux', architecture: 'arm64' });
  assert.equal(chosen.platform?.architecture, 'arm64');
  assert.throws(() => choosePlatform(index, { os: 'linux', architecture: 's390x' }), {
    message:
      'no matching manifest for linux/s390x in the manifest list entries ' +
      '(there are: linux/arm, linux/arm64, linux/amd64)',
  });
});

test('a configuration with odd fields is read as far as it makes sense', () => {
  const { config, diffIds } = parseConfig(
    Buffer.from(
      JSON.stringify({
        os: 'linux',
        created: 'never',
        config: { Cmd: 'no list', Env: ['A=1', 7], ExposedPorts: { '80/tcp': {} }, Labels: null },
        rootfs: { diff_ids: [DIGEST] },
      }),
    ),
  );
  assert.deepEqual(diffIds, [DIGEST]);
  assert.deepEqual(config.cmd, []);
  assert.deepEqual(config.env, ['A=1']);
  assert.deepEqual(config.exposedPorts, ['80/tcp']);
  assert.equal(config.createdAtMs, 0);
  assert.throws(() => parseConfig(Buffer.from('{"os":"windows"}')), /made for windows/);
});

test('an imported image says the platform it was imported for', () => {
  const platform = { os: 'linux', architecture: 'arm', variant: 'v7' };
  const config = JSON.parse(importConfig(DIGEST, 0, [], { platform }).toString());
  assert.deepEqual([config.os, config.architecture, config.variant], ['linux', 'arm', 'v7']);
});

test('Dockerfile lines become the configuration of an imported image', () => {
  const bytes = importConfig(DIGEST, 0, [
    'CMD ["a", "b"]',
    'ENTRYPOINT run me',
    'ENV A=1 B="two words"',
    'env A=2',
    'ENV OLD form here',
    'EXPOSE 80 53/udp',
    "LABEL x=y z='1 2'",
    'USER 7',
    'VOLUME /data /more',
    'WORKDIR /w',
    'STOPSIGNAL SIGINT',
    'HEALTHCHECK --interval=5s --retries=2 CMD curl -f localhost',
    'ONBUILD RUN make',
  ]);
  const { config } = parseConfig(bytes);
  assert.deepEqual(config.cmd, ['a', 'b']);
  assert.deepEqual(config.entrypoint, ['/bin/sh', '-c', 'run me']);
  assert.deepEqual(config.env, ['B=two words', 'A=2', 'OLD=form here']);
  assert.deepEqual(config.exposedPorts, ['53/udp', '80/tcp']);
  assert.deepEqual(config.labels, { x: 'y', z: '1 2' });
  assert.deepEqual(config.volumes, ['/data', '/more']);
  assert.equal(config.stopSignal, 'SIGINT');
  const { config: raw } = JSON.parse(bytes.toString());
  const test = ['CMD-SHELL', 'curl -f localhost'];
  assert.deepEqual(raw.Healthcheck, { Test: test, Interval: 5e9, Retries: 2 });
  assert.deepEqual(raw.OnBuild, ['RUN make']);
  for (const line of [
    'HEALTHCHECK --odd=1 CMD x',
    'HEALTHCHECK x',
    'RUN ls',
    'CMD [a]',
    'EXPOSE 70000',
    'ENV =',
    'CMD',
  ]) {
    assert.throws(() => importConfig(DIGEST, 0, [line]), /^SwarmError: bad change/, line);
  }
});

async function headers(bytes: Uint8Array, pieceBytes = 700): Promise<TarHeader[]> {
  const found: TarHeader[] = [];
  for await (const entry of readTar(inPieces(bytes, pieceBytes))) found.push(entry.header);
  return found;
}

test('a tar archive is read entry by entry, skipping what is not asked for', async () => {
  const long = `${'d'.repeat(120)}/${'é'.repeat(60)}`;
  const bytes = await tar([
    directory('a'),
    file('a/x', 'x'.repeat(5000), { uid: 7, gid: 8, mode: 0o4755, mtimeMs: 1_000_000 }),
    file(long, 'y'),
    { name: 'l', type: 'symlink', linkName: 'a/x' },
    { name: 'n', type: 'character-device', deviceMajor: 1, deviceMinor: 3 },
  ]);
  for (const piece of [1, 511, 512, 100_000]) {
    const [, second, third, fourth, fifth, ...rest] = await headers(bytes, piece);
    assert.deepEqual(rest, []);
    assert.deepEqual([second.uid, second.gid, second.mode, second.mtimeMs], [7, 8, 0o4755, 1e6]);
    assert.equal(third.name, long);
    assert.equal(fourth.linkName, 'a/x');
    assert.deepEqual([fifth.deviceMajor, fifth.deviceMinor], [1, 3]);
  }
});

/** A PAX header of raw records before a one-byte file. */
async function withPax(records: readonly Buffer[]): Promise<Buffer> {
  const payload = Buffer.concat(
    records.map((record) => {
      const length = record.length + 2 + String(record.length + 4).length;
      return Buffer.concat([Buffer.from(`${length} `), record, Buffer.from('\n')]);
    }),
  );
  const bytes = await tar([file('PaxHeader', payload.toString('latin1')), file('f', 'z')]);
  const raw = Buffer.from(bytes);
  // tar() wrote the payload as text; put the bytes back and turn the entry into a PAX header.
  payload.copy(raw, 512);
  raw[156] = 'x'.charCodeAt(0);
  raw.fill(' ', 148, 156);
  const sum = raw.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  raw.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return raw;
}

test('binary extended attributes keep their bytes, and PAX owner and time count', async () => {
  const value = Buffer.from([1, 0, 0, 2, 0xc0, 0x20, 0xff, 0, 0x0a, 0x80]);
  // latin1 text and bytes have one length only below 0x80, so the sizes are made equal by hand.
  const key = Buffer.from('SCHILY.xattr.security.capability=');
  const ascii = await withPax([Buffer.from('uid=3000000'), Buffer.from('mtime=12.5')]);
  const [plain] = await headers(ascii);
  assert.equal(plain.uid, 3_000_000);
  assert.equal(plain.mtimeMs, 12_500);
  const filler = Buffer.concat([key, Buffer.alloc(value.length, 'v')]);
  const bytes = await withPax([filler]);
  value.copy(bytes, bytes.indexOf('v'.repeat(value.length)));
  const [entry] = await headers(bytes);
  assert.deepEqual(Buffer.from(entry.xattrs.get('security.capability') ?? []), value);
});

test('a hostile or broken tar archive is refused with a reason', async () => {
  const whole = await tar([file('a', 'x'.repeat(3000)), file('b', 'y')]);
  const cut = whole.subarray(0, 1500);
  await assert.rejects(headers(cut), (error) => hasCode(error, 'invalid'));
  const damaged = Buffer.from(whole);
  damaged[10] = 0xff;
  await assert.rejects(headers(damaged), /not a whole tar archive/);
  await assert.rejects(headers(Buffer.alloc(4096, 'no tar at all')), /not a whole tar archive/);
  const giant = Buffer.from(whole);
  giant.fill(0xff, 125, 136);
  giant[124] = 0x80; // base-256: 2^88 - 1 bytes
  giant.fill(' ', 148, 156);
  const sum = giant.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  giant.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  await assert.rejects(headers(giant), /impossible size/);
  await assert.rejects(
    headers(await tar([file(`${'n'.repeat(90)}/`.repeat(60), 'x')])),
    /a name of more than 4096 bytes/,
  );
});

test("a source's own error comes through the tar reader unchanged", async () => {
  const failure = new Error('the line was cut');
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield (await tar([file('a', 'x'.repeat(3000))])).subarray(0, 1000);
    throw failure;
  }
  await assert.rejects(async () => {
    for await (const entry of readTar(failing())) await collect(entry.body);
  }, failure);
});

test('gzip, zstd and plain data are told apart and decompressed', async () => {
  const plain = Buffer.from('some text, '.repeat(20_000));
  // `zstd -19` of the same text, made once.
  const zstd = Buffer.from(
    '28b52ffd04689c000058736f6d6520746578742c200100f2ffce8b174500000001005d5bce0b109433a110',
    'hex',
  );
  assert.equal(detectCompression(gzipSync(plain)), 'gzip');
  assert.equal(detectCompression(zstd), 'zstd');
  assert.equal(detectCompression(plain), 'none');
  for (const piece of [1, 3, 100_000]) {
    assert.deepEqual(await collect(decompress(inPieces(gzipSync(plain), piece * 50))), plain);
    assert.deepEqual(await collect(decompress(inPieces(zstd, piece))), plain);
    assert.deepEqual(await collect(decompress(inPieces(plain, piece * 50))), plain);
  }
  assert.equal((await collect(decompress(once(Buffer.alloc(0))))).length, 0);
});

test('damaged compressed data is refused as damaged', async () => {
  const packed = gzipSync(Buffer.from('x'.repeat(100_000)));
  const cut = packed.subarray(0, packed.length - 20);
  await assert.rejects(collect(decompress(once(cut))), /gzip data is damaged/);
  const window = Buffer.from('28b52ffd00f80000000000', 'hex'); // asks for a window of 2^41 bytes
  await assert.rejects(collect(decompress(once(window))), /zstd data/);
});

test('a name in an archive is cleaned, and one that leads outside is refused', () => {
  assert.deepEqual(cleanName('./a//b/../c/.'), ['a', 'c']);
  assert.deepEqual(cleanName('/etc/passwd'), ['etc', 'passwd']);
  assert.deepEqual(cleanName('./'), []);
  for (const name of ['..', '../x', 'a/../../x', '/../x']) {
    assert.throws(() => cleanName(name), /points outside the layer/);
  }
  assert.throws(() => cleanName('a\0b'), /zero byte/);
});

test('an authentication challenge is taken apart, and loopback is recognised', () => {
  assert.deepEqual(
    parseChallenge('Bearer realm="https://a/t",service="r, s",scope="repository:x:pull"'),
    {
      scheme: 'bearer',
      parameters: { realm: 'https://a/t', service: 'r, s', scope: 'repository:x:pull' },
    },
  );
  assert.deepEqual(parseChallenge('Basic realm=x'), {
    scheme: 'basic',
    parameters: { realm: 'x' },
  });
  assert.equal(parseChallenge(''), undefined);
  for (const host of ['localhost', 'localhost:5000', '127.0.0.1:1', '127.9.9.9', '[::1]:5000']) {
    assert.equal(isLoopback(host), true, host);
  }
  for (const host of ['localhost.example.org', '127.0.0.1.example.org', '10.0.0.1', 'host:5000']) {
    assert.equal(isLoopback(host), false, host);
  }
});
