/**
 * Pulling: from Debian's docker-registry on loopback, by tag and by digest, and from a small server
 * that misbehaves as real ones do (wrong digests, short bodies, cut connections, redirects,
 * tokens).
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once as happens } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type net from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type ErrorCode, hasCode } from '../../base/errors.ts';
import { SeededRandom } from '../../base/random.ts';
import type { ImageProgress } from '../../runtime/image/types.ts';
import { freePort } from '../support/freePort.ts';
import {
  type BuiltImage,
  buildImage,
  file,
  manifestOf,
  ociArchive,
  openStore,
  scratchDirectory,
  sha256,
  tar,
} from '../support/images.ts';
import { registryCommand, runRegistry, untilListening } from '../support/registry.ts';

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

/** Debian's registry; returns host:port. */
async function startRegistry(t: TestContext, work: string): Promise<string> {
  const port = await freePort();
  const child = runRegistry(registryCommand({ directory: work, port }));
  const ended = happens(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await untilListening(port);
  return `127.0.0.1:${port}`;
}

async function serve(t: TestContext, handler: Handler): Promise<string> {
  const server = http.createServer(handler).listen(0, '127.0.0.1');
  await happens(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

async function sample(): Promise<BuiltImage> {
  const noise = Buffer.from(new SeededRandom(9).bytes(200_000));
  const layers = [
    await tar([file('a', 'a'), { name: 'n', body: noise }]),
    await tar([file('b', 'b')]),
  ];
  return buildImage(layers, (layer) => gzipSync(layer));
}

/** Answers as a registry that has `image` as web:1; `odd` may take over a request. */
function registryOf(
  image: BuiltImage,
  odd: (path: string, ...rest: Parameters<Handler>) => boolean,
): Handler {
  const manifest = manifestOf(image);
  const blobs = new Map([image.config, ...image.layers].map((bytes) => [sha256(bytes), bytes]));
  return (request, response) => {
    const at = request.url ?? '';
    if (odd(at, request, response)) return;
    const [, kind, name] = /^\/v2\/web\/(manifests|blobs)\/(.+)$/.exec(at) ?? [];
    const bytes =
      kind === 'blobs'
        ? blobs.get(name)
        : kind === 'manifests' && (name === '1' || name === sha256(manifest))
          ? manifest
          : undefined;
    if (bytes === undefined) {
      response.writeHead(at === '/v2/' ? 200 : 404).end();
      return;
    }
    response.writeHead(200, { 'Content-Length': bytes.byteLength }).end(bytes);
  };
}

test('an image is pulled by tag and by digest from a real registry', async (t) => {
  const work = scratchDirectory(t);
  const host = await startRegistry(t, work);
  const image = await sample();
  fs.writeFileSync(`${work}/in.tar`, await ociArchive(image, 'x:1'));
  const push = (source: string, tag: string, ...flags: string[]): void => {
    const target = `docker://${host}/team/web:${tag}`;
    execFileSync('skopeo', ['copy', '-q', '--dest-tls-verify=false', ...flags, source, target]);
  };
  push(`oci-archive:${work}/in.tar:x:1`, '1');
  const store = await openStore(t, path.join(work, 'store'));
  const told: ImageProgress[] = [];
  const pulled = await store.pull(`${host}/team/web:1`, { onProgress: (one) => told.push(one) });
  const digest = sha256(manifestOf(image));
  assert.equal(pulled.id, sha256(image.config));
  assert.deepEqual(pulled.tags, [`${host}/team/web:1`]);
  assert.deepEqual(pulled.digests, [`${host}/team/web@${digest}`]);
  assert.equal(fs.readFileSync(`${(await store.layers(pulled.id))[1]}/b`, 'utf8'), 'b');
  const words = told.map((one) => one.status);
  for (const word of [
    'Pulling from team/web',
    'Pulling fs layer',
    'Download complete',
    'Pull complete',
  ]) {
    assert.ok(words.includes(word), word);
  }
  assert.equal(words.at(-1), `Status: Downloaded newer image for ${host}/team/web:1`);
  assert.deepEqual(await store.pull(`${host}/team/web:1`), pulled, 'a second pull changes nothing');

  const other = await openStore(t, path.join(work, 'other'));
  const both = await Promise.all([
    other.pull(`${host}/team/web@${digest}`),
    other.pull(`${host}/team/web@${digest}`),
  ]);
  assert.equal(both[0].id, pulled.id);
  assert.deepEqual(both[0].tags, []);
  assert.equal(other.find(`${host}/team/web@${digest}`)?.id, pulled.id);
  assert.deepEqual(await other.remove(`${host}/team/web@${digest}`, { force: false }), [
    { untagged: `${host}/team/web@${digest}` },
    { deleted: pulled.id },
    ...pulled.diffIds.toReversed().map((deleted) => ({ deleted })),
  ]);

  push(`docker://${host}/team/web:1`, 'docker', '--src-tls-verify=false', '--format', 'v2s2');
  push(
    `docker://${host}/team/web:1`,
    'zstd',
    '--src-tls-verify=false',
    '--dest-compress-format',
    'zstd',
    '--dest-compress',
  );
  for (const tag of ['docker', 'zstd']) {
    const again = await store.pull(`${host}/team/web:${tag}`);
    assert.deepEqual(again.diffIds, pulled.diffIds, tag);
  }
  await assert.rejects(
    store.pull(`${host}/team/web:none`),
    (error) => hasCode(error, 'not_found') && /team\/web:none not found: /.test(error.message),
  );
  await assert.rejects(store.pull(`${host}/none`), (error) => hasCode(error, 'not_found'));
});

test('an index gives the image of this platform and keeps its own digest', async (t) => {
  const image = await sample();
  const manifest = manifestOf(image);
  const architecture = process.arch === 'arm64' ? 'arm64' : 'amd64';
  const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', size: manifest.length };
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      manifests: [
        {
          ...entry,
          digest: `sha256:${'0'.repeat(64)}`,
          platform: { os: 'linux', architecture: 's390x' },
        },
        { ...entry, digest: sha256(manifest), platform: { os: 'linux', architecture } },
      ],
    }),
  );
  const host = await serve(
    t,
    registryOf(image, (at, _request, response) => {
      if (!at.endsWith('/manifests/multi')) return false;
      response.end(index);
      return true;
    }),
  );
  const store = await openStore(t, scratchDirectory(t));
  const pulled = await store.pull(`${host}/web:multi`);
  assert.deepEqual(pulled.digests, [`${host}/web@${sha256(index)}`]);
  assert.equal(store.find(`${host}/web@${sha256(index)}`)?.id, sha256(image.config));
});

test('wrong content from a registry that lies is refused and leaves nothing', async (t) => {
  const image = await sample();
  const first = sha256(image.layers[0]);
  const size = image.layers[0].byteLength;
  const cases: readonly (readonly [
    string,
    ErrorCode,
    RegExp,
    (at: string, response: http.ServerResponse) => boolean,
  ])[] = [
    [
      'other bytes of the right size',
      'corrupt',
      /arrived with other content/,
      (at, response) => {
        if (!at.endsWith(first)) return false;
        response.end(Buffer.alloc(size, 'x'));
        return true;
      },
    ],
    [
      'too many bytes',
      'corrupt',
      /is longer than the \d+ bytes promised/,
      (at, response) => {
        if (!at.endsWith(first)) return false;
        response.end(Buffer.concat([image.layers[0], Buffer.from('more')]));
        return true;
      },
    ],
    [
      'always too short',
      'corrupt',
      /ends after \d+ of \d+ bytes/,
      (at, response) => {
        if (!at.endsWith(first)) return false;
        response.end(image.layers[0].subarray(0, 1000));
        return true;
      },
    ],
    [
      'another manifest than its header says',
      'corrupt',
      /manifest of .* arrived with other content/,
      (at, response) => {
        if (!at.endsWith('/manifests/1')) return false;
        response.setHeader('Docker-Content-Digest', `sha256:${'1'.repeat(64)}`);
        response.end(manifestOf(image));
        return true;
      },
    ],
    [
      'no manifest',
      'invalid',
      /not JSON/,
      (at, response) => {
        if (!at.endsWith('/manifests/1')) return false;
        response.end('<html>');
        return true;
      },
    ],
    [
      'a broken layer store',
      'not_found',
      /blob sha256:.* not found: blob unknown: gone/,
      (at, response) => {
        if (!at.endsWith(first)) return false;
        response.writeHead(404).end('{"errors":[{"code":"BLOB_UNKNOWN","message":"gone"}]}');
        return true;
      },
    ],
    [
      'no access',
      'unauthorized',
      /pull access denied/,
      (_at, response) => {
        response.writeHead(403).end();
        return true;
      },
    ],
  ];
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  for (const [what, code, reason, odd] of cases) {
    const host = await serve(
      t,
      registryOf(image, (at, _request, response) => at !== '/v2/' && odd(at, response)),
    );
    await assert.rejects(
      store.pull(`${host}/web:1`),
      (error) => hasCode(error, code) && reason.test(error.message),
      what,
    );
  }
  assert.deepEqual(store.list(), []);
  assert.deepEqual(fs.readdirSync(`${root}/image/ingest`), []);
  assert.deepEqual(fs.readdirSync(`${root}/image/layers`), []);
});

test('a download that is cut goes on where it stopped, also with no Range support', async (t) => {
  const image = await sample();
  const [layer] = image.layers;
  for (const ranges of [true, false]) {
    const asked: (string | undefined)[] = [];
    const host = await serve(
      t,
      registryOf(image, (at, request, response) => {
        if (!at.endsWith(sha256(layer))) return false;
        asked.push(request.headers.range);
        const from = ranges
          ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
          : 0;
        const rest = layer.subarray(from);
        const status = from > 0 ? 206 : 200;
        if (from > 0)
          response.setHeader('Content-Range', `bytes ${from}-${layer.length - 1}/${layer.length}`);
        response.writeHead(status, { 'Content-Length': rest.byteLength });
        if (asked.length < 3) {
          response.write(rest.subarray(0, 60_000), () => response.destroy());
        } else {
          response.end(rest);
        }
        return true;
      }),
    );
    const store = await openStore(t, scratchDirectory(t));
    const pulled = await store.pull(`${host}/web:1`);
    assert.equal((await store.layers(pulled.id)).length, 2);
    assert.equal(asked.length, 3);
    assert.equal(asked[0], undefined);
    assert.match(asked[1] ?? '', /^bytes=[1-9]\d*-$/);
  }
});

test('tokens are fetched where the registry says, and sent to no other host', async (t) => {
  const image = await sample();
  const seen: { readonly host: string; readonly authorization: string | undefined }[] = [];
  const content = await serve(t, (request, response) => {
    seen.push({ host: 'content', authorization: request.headers.authorization });
    response.end(image.layers[0]);
  });
  const token = await serve(t, (request, response) => {
    seen.push({ host: 'token', authorization: request.headers.authorization });
    assert.match(request.url ?? '', /scope=repository%3Aweb%3Apull/);
    assert.match(request.url ?? '', /service=reg/);
    const right =
      request.headers.authorization === `Basic ${Buffer.from('me:pw').toString('base64')}`;
    response.writeHead(right ? 200 : 401).end('{"access_token":"T1"}');
  });
  const host = await serve(
    t,
    registryOf(image, (at, request, response) => {
      if (at === '/v2/') return false;
      if (request.headers.authorization !== 'Bearer T1') {
        const scope = 'repository:web:pull';
        const challenge = `Bearer realm="http://${token}/t",service="reg",scope="${scope}"`;
        response.writeHead(401, { 'WWW-Authenticate': challenge }).end();
        return true;
      }
      if (!at.endsWith(sha256(image.layers[0]))) return false;
      response.writeHead(307, { Location: `http://${content}/blob` }).end();
      return true;
    }),
  );
  const store = await openStore(t, scratchDirectory(t));
  await assert.rejects(
    store.pull(`${host}/web:1`),
    (error) => hasCode(error, 'unauthorized') && /gives no token/.test(error.message),
  );
  seen.length = 0;
  await store.pull(`${host}/web:1`, { auth: { username: 'me', password: 'pw' } });
  assert.equal(seen.filter((one) => one.host === 'token').length, 1, 'the token is kept');
  assert.deepEqual(
    seen.filter((one) => one.host === 'content').map((one) => one.authorization),
    [undefined],
  );
});

test('a user name and password go to a registry that asks for them by Basic', async (t) => {
  const image = await sample();
  const host = await serve(
    t,
    registryOf(image, (at, request, response) => {
      if (at === '/v2/' || request.headers.authorization === `Basic ${btoa('me:pw')}`) return false;
      response.writeHead(401, { 'WWW-Authenticate': 'Basic realm="r"' }).end();
      return true;
    }),
  );
  const store = await openStore(t, scratchDirectory(t));
  await assert.rejects(
    store.pull(`${host}/web:1`),
    /no basic auth credentials: .* wants a user name and password/,
  );
  await store.pull(`${host}/web:1`, { auth: { username: 'me', password: 'pw' } });
});

test('a busy registry is asked again, an absent one is named', async (t) => {
  const image = await sample();
  let refused = 0;
  const host = await serve(
    t,
    registryOf(image, (at, _request, response) => {
      if (!at.includes('/manifests/') || refused >= 2) return false;
      refused += 1;
      response.writeHead(refused === 1 ? 503 : 429).end();
      return true;
    }),
  );
  const store = await openStore(t, scratchDirectory(t));
  await store.pull(`${host}/web:1`);
  assert.equal(refused, 2);
  const nobody = `127.0.0.1:${await freePort()}`;
  await assert.rejects(
    store.pull(`${nobody}/web`),
    (error) => hasCode(error, 'unavailable') && error.message.includes(`reach registry ${nobody}`),
  );
});

test('a pull that is cancelled ends at once and leaves nothing', async (t) => {
  const image = await sample();
  const stop = new AbortController();
  const host = await serve(
    t,
    registryOf(image, (at, _request, response) => {
      if (!at.endsWith(sha256(image.layers[0]))) return false;
      response.writeHead(200).write(image.layers[0].subarray(0, 10_000), () => stop.abort());
      return true;
    }),
  );
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  await assert.rejects(store.pull(`${host}/web:1`, { signal: stop.signal }), (error) =>
    hasCode(error, 'cancelled'),
  );
  assert.deepEqual(fs.readdirSync(`${root}/image/ingest`), []);
  assert.deepEqual(fs.readdirSync(`${root}/image/blobs/sha256`), []);
});

test('a redirect to an unencrypted host that is not allowed is refused', async (t) => {
  const image = await sample();
  const host = await serve(
    t,
    registryOf(image, (at, _request, response) => {
      if (!at.includes('/blobs/')) return false;
      response.writeHead(302, { Location: 'http://10.255.255.1/x' }).end();
      return true;
    }),
  );
  const store = await openStore(t, scratchDirectory(t));
  await assert.rejects(
    store.pull(`${host}/web:1`),
    (error) => hasCode(error, 'forbidden') && /which is not encrypted/.test(error.message),
  );
});

test('a certificate must be trusted, by the CA the operator put there if need be', async (t) => {
  const work = scratchDirectory(t);
  const image = await sample();
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-days', '2', '-subj', '/CN=registry', '-addext', 'subjectAltName=IP:127.0.0.1'],
      ...['-keyout', `${work}/key.pem`, '-out', `${work}/cert.pem`],
    ],
    { stdio: 'ignore' },
  );
  const server = https.createServer(
    { key: fs.readFileSync(`${work}/key.pem`), cert: fs.readFileSync(`${work}/cert.pem`) },
    registryOf(image, () => false),
  );
  server.listen(0, '127.0.0.1');
  await happens(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const host = `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
  const without = await openStore(t, path.join(work, 'a'));
  await assert.rejects(without.pull(`${host}/web:1`), /shows a certificate that is not trusted/);
  const caDir = path.join(work, 'certs.d');
  fs.mkdirSync(path.join(caDir, host), { recursive: true });
  fs.copyFileSync(`${work}/cert.pem`, path.join(caDir, host, 'ca.crt'));
  const store = await openStore(t, path.join(work, 'b'), { certificateDirectories: [caDir] });
  assert.equal((await store.pull(`${host}/web:1`)).id, sha256(image.config));
});
