/**
 * Registries as operators run them: Debian's docker-registry on loopback with TLS from a private
 * authority, with a password file, with tokens; mirrors before Docker Hub; pushes that send only
 * what is missing and survive a cut.
 */
import assert from 'node:assert/strict';
import { once as happens } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import type net from 'node:net';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { SystemClock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import { SeededRandom } from '../../base/random.ts';
import type { ImageProgress, ImageStore } from '../../runtime/image/types.ts';
import { freePort } from '../support/freePort.ts';
import {
  type BuiltImage,
  buildImage,
  file,
  manifestOf,
  ociArchive,
  once,
  openStore,
  scratchDirectory,
  sha256,
  tar,
} from '../support/images.ts';
import {
  makeCertificates,
  type RegistryConfig,
  registryCommand,
  runRegistry,
  TokenServer,
  untilListening,
} from '../support/registry.ts';
import { until } from '../support/until.ts';

const AUTH = { username: 'me', password: 'pw' };
const WAIT_MS = 5000;

async function startRegistry(
  t: TestContext,
  config: Omit<RegistryConfig, 'directory' | 'port'>,
): Promise<{ host: string; directory: string }> {
  const directory = scratchDirectory(t);
  const port = await freePort();
  const child = runRegistry(registryCommand({ directory, port, ...config }));
  const ended = happens(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  await untilListening(port);
  return { host: `127.0.0.1:${port}`, directory };
}

async function listen(t: TestContext, server: http.Server | https.Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await happens(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `127.0.0.1:${(server.address() as net.AddressInfo).port}`;
}

async function sample(seed = 9): Promise<BuiltImage> {
  const noise = Buffer.from(new SeededRandom(seed).bytes(300_000));
  const layers = [
    await tar([file('a', 'a'), { name: 'n', body: noise }]),
    await tar([file('b', `b${seed}`)]),
  ];
  return buildImage(layers, (layer) => gzipSync(layer));
}

async function storeWith(t: TestContext, name: string): Promise<ImageStore> {
  const store = await openStore(t, scratchDirectory(t));
  await store.load(once(await ociArchive(await sample(), name)));
  return store;
}

test('an image is pushed over TLS of a private authority with a password, and pulled elsewhere with the same digest', async (t) => {
  const { host, directory } = await startRegistry(t, { tls: true, basic: 'me:pw' });
  const certs = path.join(directory, 'certs.d');
  const name = `${host}/team/web:1`;
  const without = await storeWith(t, name);
  await assert.rejects(without.push(name, { auth: AUTH }), /shows a certificate that is not trust/);
  fs.mkdirSync(path.join(certs, host), { recursive: true });
  fs.copyFileSync(`${directory}/ca.pem`, path.join(certs, host, 'ca.crt'));
  const registries = { certificateDirectories: ['/nowhere', certs] };
  const store = await openStore(t, scratchDirectory(t), registries);
  const [image] = await store.load(once(await ociArchive(await sample(), name)));
  await assert.rejects(
    store.push(name),
    (error) => hasCode(error, 'unauthorized') && /no basic auth credentials/.test(error.message),
  );
  await assert.rejects(store.login(host, { ...AUTH, password: 'no' }), (error) =>
    hasCode(error, 'unauthorized'),
  );
  await store.login(host, AUTH);
  const told: ImageProgress[] = [];
  const pushed = await store.push(name, { auth: AUTH, onProgress: (step) => told.push(step) });
  const digest = sha256(manifestOf(await sample()));
  assert.deepEqual([pushed.tag, pushed.digest], ['1', digest]);
  assert.equal(told.filter((step) => step.status === 'Pushed').length, 2);
  assert.deepEqual(store.find(name)?.digests, [`${host}/team/web@${digest}`]);
  const again: string[] = [];
  await store.push(name, { auth: AUTH, onProgress: (step) => again.push(step.status) });
  assert.deepEqual(again.slice(2), ['Layer already exists', 'Layer already exists']);

  const other = await openStore(t, scratchDirectory(t), registries);
  assert.equal((await other.pull(name, { auth: AUTH })).id, image.id);
  const found = await other.resolve(name, { auth: AUTH });
  assert.equal(found.digest, digest);
  assert.deepEqual(
    found.platforms.map((platform) => platform.os),
    ['linux'],
  );
  assert.deepEqual(await other.remoteTags(name, { auth: AUTH }), ['1']);
});

test('a client certificate is shown to a registry that asks for one', async (t) => {
  const directory = scratchDirectory(t);
  makeCertificates(directory);
  const read = (name: string): Buffer => fs.readFileSync(path.join(directory, name));
  let seen = '';
  const server = https.createServer(
    { key: read('key.pem'), cert: read('cert.pem'), ca: read('ca.pem'), requestCert: true },
    (request, response) => {
      const socket = request.socket as import('node:tls').TLSSocket;
      if (socket.authorized) seen = String(socket.getPeerCertificate().subject.CN);
      response.end('{}');
    },
  );
  const host = await listen(t, server);
  const at = path.join(directory, 'certs.d', host);
  fs.mkdirSync(at, { recursive: true });
  fs.copyFileSync(`${directory}/ca.pem`, path.join(at, 'ca.crt'));
  fs.copyFileSync(`${directory}/cert.pem`, path.join(at, 'client.cert'));
  const registries = { certificateDirectories: [path.join(directory, 'certs.d')] };
  const store = await openStore(t, scratchDirectory(t), registries);
  await assert.rejects(store.login(host, AUTH), /client.key is missing beside client.cert/);
  fs.copyFileSync(`${directory}/key.pem`, path.join(at, 'client.key'));
  await store.login(host, AUTH);
  assert.equal(seen, 'registry');
});

test('a registry listed as insecure is used without a trusted certificate, by name or range', async (t) => {
  const { host } = await startRegistry(t, { tls: true });
  for (const entry of [host, '127.0.0.0/8']) {
    const store = await openStore(t, scratchDirectory(t), { insecureRegistries: [entry] });
    await store.load(once(await ociArchive(await sample(), `${host}/web:1`)));
    await store.push(`${host}/web:1`);
    await store.pull(`${host}/web:1`);
  }
  for (const wrong of ['10.0.0.0/33', 'http://a', 'a/b']) {
    await assert.rejects(
      openStore(t, scratchDirectory(t), { insecureRegistries: [wrong] }),
      /insecure-registries: "/,
    );
  }
});

test('tokens are asked for by scope, renewed when they end, and blobs of another repository are mounted', async (t) => {
  const directory = scratchDirectory(t);
  makeCertificates(directory);
  const life = 2; // as short as the registry still takes: each later call needs another
  const server = new TokenServer(directory, 'me:pw', life);
  const token = await listen(t, http.createServer(server.handler));
  const { host, directory: at } = await startRegistry(t, { tokenRealm: `http://${token}/token` });
  for (const name of ['cert.pem', 'key.pem']) {
    fs.copyFileSync(path.join(at, name), path.join(directory, name));
  }
  const store = await storeWith(t, `${host}/team/web:1`);
  await assert.rejects(store.login(host, { ...AUTH, password: 'no' }), (error) =>
    hasCode(error, 'unauthorized'),
  );
  await store.login(host, AUTH);
  server.scopes.length = 0;
  await store.push(`${host}/team/web:1`, { auth: AUTH });
  assert.deepEqual([...new Set(server.scopes)], ['repository:team/web:pull,push']);
  await store.tag(`${host}/team/web:1`, `${host}/copy/web:1`);
  const told: string[] = [];
  await store.push(`${host}/copy/web:1`, {
    auth: AUTH,
    onProgress: (step) => told.push(step.status),
  });
  assert.deepEqual(told.slice(2), ['Mounted from team/web', 'Mounted from team/web']);
  const other = await openStore(t, scratchDirectory(t));
  await assert.rejects(other.pull(`${host}/copy/web:1`), (error) => hasCode(error, 'unauthorized'));
  await other.pull(`${host}/copy/web:1`, { auth: AUTH });
  assert.ok(server.scopes.includes('repository:copy/web:pull'));
});

test('mirrors stand before Docker Hub, and one that fails stands aside', async (t) => {
  const { host } = await startRegistry(t, {});
  const pusher = await storeWith(t, `${host}/library/web:1`);
  await pusher.push(`${host}/library/web:1`);
  const asked: (string | undefined)[] = [];
  const broken = await listen(
    t,
    http.createServer((request, response) => {
      asked.push(request.headers.authorization);
      response.writeHead(404).end();
    }),
  );
  const mirrors = [`http://127.0.0.1:${await freePort()}`, `http://${broken}`, `http://${host}`];
  const store = await openStore(t, scratchDirectory(t), { mirrors });
  assert.deepEqual(await store.remoteTags('web'), ['1']);
  asked.length = 0;
  const pulled = await store.pull('web:1', { auth: AUTH });
  assert.deepEqual(pulled.tags, ['docker.io/library/web:1']);
  assert.deepEqual(asked, [undefined], 'the credentials are for Docker Hub');
  assert.equal((await store.resolve('web:1')).digest, sha256(manifestOf(await sample())));
  for (const wrong of ['mirror', 'https://a/b', 'https://u:p@a']) {
    await assert.rejects(
      openStore(t, scratchDirectory(t), { mirrors: [wrong] }),
      /registry-mirrors: "/,
    );
  }
});

test('an upload that the registry loses is begun again', async (t) => {
  const { host } = await startRegistry(t, {});
  let cuts = 0;
  const proxy = await listen(
    t,
    http.createServer((request, response) => {
      if (request.method === 'PATCH' && cuts < 2) {
        cuts += 1;
        if (cuts === 1) request.socket.destroy();
        else request.resume().on('end', () => response.writeHead(503).end());
        return;
      }
      const [hostname, port] = host.split(':');
      const { method, headers, url } = request;
      const onward = http.request({ hostname, port, method, headers, path: url }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      request.pipe(onward);
    }),
  );
  const store = await storeWith(t, `${proxy}/web:1`);
  await store.push(`${proxy}/web:1`);
  assert.equal(cuts, 2);
  const other = await openStore(t, scratchDirectory(t));
  await other.pull(`${host}/web:1`);
});

/** Notes what is waited for between two tries. */
class PausesClock extends SystemClock {
  readonly pausesMs: number[] = [];

  override sleep(delayMs: number): Promise<void> {
    this.pausesMs.push(delayMs);
    return super.sleep(delayMs);
  }
}

test('a registry that is not there fails at once, and one that is silent when its time is over', async (t) => {
  const clock = new PausesClock();
  const store = await openStore(t, scratchDirectory(t), {}, clock);
  await assert.rejects(store.pull(`127.0.0.1:${await freePort()}/web:1`), (error) =>
    hasCode(error, 'unavailable'),
  );
  assert.deepEqual(clock.pausesMs, [], 'a refused connection is not tried again');
  // A listener that takes connections and never speaks TLS.
  const silent = await listen(t, http.createServer());
  const beganMs = clock.nowMs();
  const limit = AbortSignal.timeout(300);
  await assert.rejects(store.resolve(`${silent}/web:1`, { connectMs: 200, signal: limit }));
  assert.ok(clock.nowMs() - beganMs < 10_000);
});

test('an image of another platform is pulled when it is asked for', async (t) => {
  const { host } = await startRegistry(t, {});
  const image = await sample();
  const config = Buffer.from(
    JSON.stringify({ ...JSON.parse(image.config.toString()), architecture: 's390x' }),
  );
  const pusher = await openStore(t, scratchDirectory(t));
  await pusher.load(once(await ociArchive({ ...image, config }, `${host}/web:z`)));
  await pusher.push(`${host}/web:z`);
  const store = await openStore(t, scratchDirectory(t));
  const platform = { os: 'linux', architecture: 's390x' };
  const pulled = await store.pull(`${host}/web:z`, { platform });
  assert.equal(pulled.config.architecture, 's390x');
  await assert.rejects(
    store.pull(`${host}/web:z`, { platform: { os: 'linux', architecture: 'arm64' } }),
    /the image is for linux\/s390x, not for linux\/arm64/,
  );
});

test('a prune takes what no container uses and tells what it freed; usage tells what is shared', async (t) => {
  const store = await openStore(t, scratchDirectory(t));
  const [one] = await store.load(once(await ociArchive(await sample(1), 'one:1')));
  const shared = await sample(1);
  const more = await tar([file('c', 'ccc')]);
  const bigger = buildImage([await tar([file('x', 'y')]), more], (layer) => gzipSync(layer));
  const [two] = await store.load(once(await ociArchive(bigger, 'two:1')));
  const release = store.hold(two.id, 'c'.repeat(64));
  assert.equal(shared.layers.length, 2);
  const before = store.usage();
  assert.equal(before.images.find((use) => use.id === two.id)?.containers, 1);
  assert.equal(before.layersBytes, one.sizeBytes + two.sizeBytes);
  const events: string[] = [];
  const stop = store.onEvent((event) => events.push(event.action));
  const pruned = await store.prune(() => true);
  assert.deepEqual(
    store.list().map((image) => image.id),
    [two.id],
  );
  assert.ok(pruned.reclaimedBytes > one.sizeBytes);
  assert.deepEqual(pruned.removed.slice(0, 2), [{ untagged: 'one:1' }, { deleted: one.id }]);
  release();
  await store.prune(() => true);
  stop();
  assert.deepEqual(store.list(), []);
  assert.deepEqual(events, ['delete', 'delete']);
});

test('by policy, what a registry has and no container uses goes, and its files with it', async (t) => {
  const { host } = await startRegistry(t, {});
  const pusher = await storeWith(t, `${host}/web:1`);
  await pusher.push(`${host}/web:1`);
  const root = scratchDirectory(t);
  const store = await openStore(t, root);
  const [kept] = await store.load(once(await ociArchive(await sample(4), 'kept:1')));
  const pulled = await store.pull(`${host}/web:1`);
  const named = (): readonly string[] => store.list().map(({ id }) => id);
  const release = store.hold(pulled.id, 'c'.repeat(64));
  const everything = { maxBytes: 0, restMs: 0 };
  assert.deepEqual((await store.collect(everything)).removed, []);
  release();
  assert.deepEqual((await store.collect({ maxBytes: 0 })).removed, [], 'it was used just now');
  assert.deepEqual((await store.collect({ maxBytes: 1 << 30, restMs: 0 })).removed, []);
  const collected = await store.collect(everything);
  assert.ok(collected.reclaimedBytes >= pulled.sizeBytes);
  assert.deepEqual(named(), [kept.id]);
  const layers = fs.readdirSync(path.join(root, 'image', 'layers'));
  assert.equal(layers.length, kept.diffIds.length);
  // When it was used is known to the next process, too.
  assert.match(fs.readFileSync(path.join(root, 'image', 'images.json'), 'utf8'), /"usedAtMs":\d+/);
  assert.equal((await store.pull(`${host}/web:1`)).id, pulled.id);
});

test('what an earlier boot may not have written is pulled again; of this boot it is kept', async (t) => {
  const { host } = await startRegistry(t, {});
  const pusher = await storeWith(t, `${host}/web:1`);
  await pusher.push(`${host}/web:1`);
  const root = scratchDirectory(t);
  const catalog = path.join(root, 'image', 'images.json');
  const first = await openStore(t, root);
  await first.load(once(await ociArchive(await sample(3), 'kept:1')));
  const pulled = await first.pull(`${host}/web:1`);
  await first.close();
  const noted = (boot: string): void => {
    const stored = JSON.parse(fs.readFileSync(catalog, 'utf8'));
    const record = stored.images.find((image: { id: string }) => image.id === pulled.id);
    record.unsyncedBoot = boot;
    fs.writeFileSync(catalog, JSON.stringify(stored));
  };
  const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  noted(boot);
  const second = await openStore(t, root);
  assert.equal(second.find(`${host}/web:1`)?.id, pulled.id);
  const isNoted = (): boolean => fs.readFileSync(catalog, 'utf8').includes('unsyncedBoot');
  await until('the note to be taken away', WAIT_MS, () => !isNoted());
  await second.close();
  noted('another');
  const third = await openStore(t, root);
  assert.equal(third.find(`${host}/web:1`), undefined);
  assert.ok(third.find('kept:1') !== undefined, 'what was loaded was on disk when that was said');
  assert.equal((await third.pull(`${host}/web:1`)).id, pulled.id);
});
