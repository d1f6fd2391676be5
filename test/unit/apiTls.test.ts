/**
 * Where the API is served and to whom: the daemon's flags, and a TCP port that only a client with a
 * certificate of the right CA gets an answer from.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { Meter } from '../../base/meter.ts';
import { SystemRandom } from '../../base/random.ts';
import { ApiClient } from '../../cli/client.ts';
import { parseConfig } from '../../cli/configFile.ts';
import { type Api, createApi } from '../../daemon/api/server.ts';
import { apiAddresses, NO_TLS_FLAGS, type TlsFlags } from '../../daemon/apiAddresses.ts';
import { ScriptedNode } from '../support/scriptedNode.ts';
import { certificates, type TlsFiles } from '../support/tlsFiles.ts';

const run = promisify(execFile);
const client = await run('docker', ['--version']).catch(() => undefined);
const skip = client === undefined ? 'no docker client on here' : false;
const directory = mkdtempSync(join(tmpdir(), 'api-tls-'));
let own: TlsFiles;
let foreign: TlsFiles;
let api: Api;
let port = 0;

before(async () => {
  own = await certificates();
  foreign = await certificates();
  const random = new SystemRandom();
  const parts = { clock: new SystemClock(), log: silentLog, random, meter: new Meter() };
  api = createApi({ node: new ScriptedNode(), ...parts });
  const tls = { ca: own.ca, certificate: own.server.certificate, key: own.server.privateKey };
  port = await api.listenTcp({ kind: 'tcp', host: '127.0.0.1', port: 0, tls });
});

after(async () => {
  rmSync(directory, { recursive: true, force: true });
  // One that never shakes hands does not hold up the daemon's stop.
  const silent = connect(port, '127.0.0.1');
  await once(silent, 'connect');
  await Promise.all([once(silent, 'close'), api.close()]);
});

function ask(client: TlsFiles['client'] | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const credentials = client && { cert: client.certificate, key: client.privateKey };
    const options = { host: '127.0.0.1', port, path: '/_ping', ca: own.ca, agent: false };
    const sent = request({ ...options, servername: 'localhost', ...credentials }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    sent.on('error', reject);
    sent.end();
  });
}

test('a client with a certificate of the CA is served', async () => {
  assert.equal(await ask(own.client), 200);
});

test('a client without one, or with another CA’s, or without TLS, gets no answer', async () => {
  await assert.rejects(ask(undefined));
  await assert.rejects(ask(foreign.client));
  const clear = new Promise((resolve, reject) => {
    const sent = plainRequest({ host: '127.0.0.1', port, path: '/_ping', agent: false }, resolve);
    sent.on('error', reject);
    sent.end();
  });
  await assert.rejects(clear);
});

test('the docker client reaches it with --tlsverify', { skip }, async () => {
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
    return join(directory, name);
  };
  const address = ['--tlsverify', '-H', `tcp://127.0.0.1:${port}`];
  const mine = (files: TlsFiles): string[] => [
    `--tlscacert=${file('docker-ca.pem', own.ca)}`,
    `--tlscert=${file('docker-cert.pem', files.client.certificate)}`,
    `--tlskey=${file('docker-key.pem', files.client.privateKey)}`,
  ];
  const version = ['version', '--format', '{{.Server.Version}}'];
  const { stdout } = await run('docker', [...address, ...mine(own), ...version]);
  assert.equal(stdout.trim(), new ScriptedNode().version);
  await assert.rejects(
    run('docker', [...address, ...mine(foreign), ...version]),
    /tls|certificate/,
  );
});

test('tsswarm reaches it with Docker’s variables', async () => {
  const at = (name: string, files: TlsFiles): Record<string, string> => {
    const path = join(directory, name);
    mkdirSync(path);
    writeFileSync(join(path, 'ca.pem'), files.ca);
    writeFileSync(join(path, 'cert.pem'), files.client.certificate);
    writeFileSync(join(path, 'key.pem'), files.client.privateKey);
    return { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: path };
  };
  for (const host of ['127.0.0.1', 'localhost']) {
    const mine = new ApiClient(`tcp://${host}:${port}`, at(host, own));
    const { Version } = await mine.get<{ Version: string }>('/version');
    assert.equal(Version, new ScriptedNode().version);
  }
  const other = new ApiClient(`tcp://127.0.0.1:${port}`, at('other', foreign));
  await assert.rejects(other.get('/version'), /no trust between this client and tcp:/);
  const none = { DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/nowhere' };
  assert.throws(() => new ApiClient('tcp://h:1', none), /ca\.pem cannot be read/);
});

test('flags say where the API is served, and what is not safe is refused', () => {
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  const files = {
    caFile: file('ca.pem', own.ca),
    certificateFile: file('cert.pem', own.server.certificate),
    keyFile: file('key.pem', own.server.privateKey),
  };
  const flags = { ...NO_TLS_FLAGS, ...files, verify: true };
  const [unix, tcp] = apiAddresses(['unix:///run/a.sock', 'tcp://[::]'], flags);
  assert.deepEqual(unix, { kind: 'unix', path: '/run/a.sock' });
  assert.ok(tcp.kind === 'tcp' && tcp.host === '::' && tcp.port === 2376);
  assert.equal(tcp.tls?.ca, own.ca);
  const plain = { ...NO_TLS_FLAGS, tls: false };
  assert.deepEqual(apiAddresses(['tcp://127.0.0.1'], plain), [
    { kind: 'tcp', host: '127.0.0.1', port: 2375, tls: undefined },
  ]);
  const key = file('other.pem', foreign.server.privateKey);
  const refused: [string, TlsFlags, RegExp][] = [
    ['tcp://127.0.0.1', NO_TLS_FLAGS, /without --tlsverify is insecure/],
    ['tcp://0.0.0.0:2375', plain, /accessible on tcp:\/\/0\.0\.0\.0:2375 without encryption/],
    ['tcp://:2376', { ...NO_TLS_FLAGS, tls: true }, /use --tlsverify with/],
    ['tcp://:2376', { ...NO_TLS_FLAGS, ...files }, /use --tlsverify with/],
    ['tcp://:2376', { ...NO_TLS_FLAGS, verify: true }, /--tlsverify needs --tlscacert/],
    ['tcp://:2376', { ...flags, keyFile: key }, /cannot be used together/],
    ['tcp://:2376', { ...flags, keyFile: '/nowhere' }, /--tlskey \/nowhere cannot be read/],
    ['tcp://:66000', flags, /write it as tcp:\/\/address:port/],
    ['fd://', flags, /cannot serve on "fd:\/\/"/],
  ];
  for (const [host, given, line] of refused) {
    assert.throws(() => apiAddresses([host], given), line, host);
  }
});

test('the configuration file says the same as the flags', () => {
  const file = { hosts: ['unix:///run/a.sock', 'tcp://:2376'], tlsverify: true, tlscacert: '/ca' };
  const read = (json: object) => parseConfig(JSON.stringify(json), 'daemon.json', () => false);
  const { hosts, ...tls } = file;
  assert.deepEqual(read(file), { host: hosts, ...tls });
  assert.throws(() => read({ tlsverify: 'yes' }), /tlsverify must be true or false/);
});
