/**
 * Links over real TLS on loopback: what goes over comes over, who is let in, how they end, and what
 * is found where nothing, or something older, listens.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { connect as connectTls, createServer, type TLSSocket } from 'node:tls';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import type { NodeCredentials } from '../../proto/credentials.ts';
import { dialLink, LINK_PROTOCOL, type Link } from '../../proto/link.ts';
import { client, RpcChannel, RpcServer } from '../../proto/rpc.ts';
import { Host } from '../../proto/services.ts';
import { TestAuthority } from '../support/certificates.ts';
import { until } from '../support/until.ts';

const LIMIT_MS = 10_000;
const METHOD = { service: 'tsswarm.v1.Raft', method: 'Messages' };

const clock = new SystemClock();
let authority: TestAuthority;
let credentials: NodeCredentials;
let other: NodeCredentials;
let server: RpcServer;
let address: string;
/** What the accepting side does with a new link. */
let accept: (link: Link) => void = () => {};
let judged: string[] = [];

before(async () => {
  authority = await TestAuthority.make(clock.wallMs());
  credentials = await authority.node('m1', 'manager', clock.wallMs());
  other = await authority.node('m2', 'manager', clock.wallMs());
  server = new RpcServer({
    log: silentLog,
    clock,
    authorize: (peer, { service, method }) => {
      judged.push(`${peer?.nodeId ?? 'nobody'} ${service}.${method}`);
      if (peer?.nodeId !== 'm2') {
        throw new SwarmError('forbidden', 'not you', { detail: { removed: 'yes' } });
      }
    },
  });
  server.links.handle(METHOD, (link) => accept(link));
  server.handle(Host, { ping: async () => ({ nodeId: 'm1', nowMs: 7n }) });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0, tls: credentials });
  address = `127.0.0.1:${port}`;
});

after(() => server.close());

function dial(to = address, as = other, onOtherProtocol = (): void => {}): Link {
  return dialLink(to, { credentials: as, expect: { role: 'manager' }, clock, onOtherProtocol });
}

/** How it ended. */
function closed(link: Link): Promise<Error | undefined> {
  return new Promise((resolve) => link.onClose(resolve));
}

async function refusal(link: Link): Promise<SwarmError> {
  const error = await closed(link);
  assert.ok(error instanceof SwarmError, String(error));
  return error;
}

function pattern(bytes: number, seed: number): Buffer {
  const all = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += 1) all[at] = (at * 7 + seed) % 251;
  return all;
}

test('messages of any size come over whole and in order, both ways', async () => {
  accept = (link) => link.onData((bytes) => void link.write(bytes));
  const sent = [0, 1, 5, 1024, 16_379, 16_384, 70_000, 3_000_000, 2].map(pattern);
  const link = dial();
  const got: Uint8Array[] = [];
  link.onData((bytes) => got.push(Buffer.from(bytes)));
  for (const bytes of sent) link.write(bytes);
  await until('all of them', LIMIT_MS, () => got.length === sent.length);
  for (const [at, bytes] of sent.entries()) assert.equal(Buffer.compare(got[at], bytes), 0);
  const end = closed(link);
  link.close();
  assert.equal(await end, undefined);
});

function raw(): TLSSocket {
  const [host, port] = address.split(':');
  const socket = connectTls({
    host,
    port: Number(port),
    ca: other.rootCertificate,
    cert: other.certificate,
    key: other.privateKey,
    checkServerIdentity: () => undefined,
    ALPNProtocols: [LINK_PROTOCOL],
  });
  socket.on('error', () => {}); // it is cut off, which may show as an error here
  return socket;
}

test('frames may come in pieces of any size', async () => {
  const got: string[] = [];
  accept = (link) => link.onData((bytes) => got.push(Buffer.from(bytes).toString()));
  const socket = raw();
  socket.setNoDelay(true);
  const said = ['', 'a', 'some words', 'x'.repeat(300)];
  const frames = Buffer.concat(
    said.map((text) => Buffer.concat([Buffer.from([0, 0, 0, 0, 0]), Buffer.from(text)])),
  );
  let at = 0;
  for (const text of said) {
    frames.writeUInt32LE(1 + text.length, at);
    at += 5 + text.length;
  }
  for (let from = 0, size = 1; from < frames.length; from += size, size = (size % 7) + 1) {
    await new Promise((resolve) => socket.write(frames.subarray(from, from + size), resolve));
  }
  await until('all of them', LIMIT_MS, () => got.length === said.length);
  assert.deepEqual(got, said);
  socket.destroy();
});

test('a writer is held back by a reader that takes nothing, and goes on when it does', async () => {
  let far: Link | undefined;
  let count = 0;
  accept = (link) => {
    far = link;
    link.onData(() => {
      count += 1;
    });
  };
  const link = dial();
  let drained = 0;
  link.onDrain(() => {
    drained += 1;
  });
  const piece = Buffer.alloc(1_000_000);
  let written = 1;
  while (link.write(piece)) written += 1;
  assert.ok(written <= 3, `${written}`);
  await until('a drain', LIMIT_MS, () => drained === 1);
  await until('all of them', LIMIT_MS, () => count === written);
  link.close();
  far?.close();
});

test('who opens a link is judged as a caller of its method, and hears why not', async () => {
  judged = [];
  const error = await refusal(dial(address, credentials));
  assert.deepEqual(judged, ['m1 tsswarm.v1.Raft.Messages']);
  assert.deepEqual(
    [error.code, error.message, error.detail],
    ['forbidden', 'not you', { removed: 'yes' }],
  );
});

test('a caller without a certificate gets no link', async () => {
  judged = [];
  const [host, port] = address.split(':');
  const socket = connectTls({
    host,
    port: Number(port),
    rejectUnauthorized: false,
    ALPNProtocols: [LINK_PROTOCOL],
  });
  const got: Buffer[] = [];
  socket.on('data', (bytes: Buffer) => got.push(bytes));
  await new Promise((resolve) => socket.once('close', resolve));
  assert.deepEqual(judged, ['nobody tsswarm.v1.Raft.Messages']);
  assert.match(Buffer.concat(got).toString(), /not you/);
});

test('an end with a reason arrives as that error, after what was written before', async () => {
  accept = (link) => {
    link.write(Buffer.from('last'));
    link.close(new SwarmError('invalid', 'enough', { detail: { id: '7' } }));
  };
  const link = dial();
  let said = '';
  link.onData((bytes) => {
    said += Buffer.from(bytes).toString();
  });
  const error = await refusal(link);
  assert.equal(said, 'last');
  assert.deepEqual([error.code, error.message, error.detail], ['invalid', 'enough', { id: '7' }]);
});

test('a frame that is none ends the link with what is wrong', async () => {
  const { promise, resolve } = deferred();
  accept = (link) => void closed(link).then(resolve);
  raw().write(Buffer.from([0xff, 0xff, 0xff, 0xff, 0]));
  const error = await promise;
  assert.match(String(error), /sent a frame that is none: 4294967295 bytes/);
});

function deferred() {
  let resolve: (error: Error | undefined) => void = () => {};
  const promise = new Promise<Error | undefined>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

test('a link ends when its node is disconnected, or nobody takes links any more', async () => {
  accept = () => {};
  const link = dial();
  const end = closed(link);
  judged = [];
  await until('the link', LIMIT_MS, () => judged.length > 0);
  server.disconnect('m2');
  await end;
  const withdraw = server.links.handle(METHOD, () => {});
  withdraw();
  assert.equal((await refusal(dial())).code, 'unavailable');
  server.links.handle(METHOD, (next) => accept(next));
});

test('a port where nothing listens is told apart from a host that does not answer', async () => {
  const error = await refusal(dial('127.0.0.1:1'));
  assert.deepEqual([error.code, error.detail['reason']], ['unavailable', 'refused']);
});

test('a server that knows no links is noticed, and calls go over it as ever', async () => {
  const old = createServer(
    {
      ca: credentials.rootCertificate,
      cert: credentials.certificate,
      key: credentials.privateKey,
      ALPNProtocols: ['h2'],
    },
    (socket) => socket.on('error', () => {}), // cut off by the caller
  );
  old.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => old.listen(0, '127.0.0.1', resolve));
  const { port } = old.address() as { port: number };
  let noticed = 0;
  const link = dial(`127.0.0.1:${port}`, other, () => {
    noticed += 1;
  });
  await closed(link);
  assert.equal(noticed, 1);
  old.close();
  const channel = new RpcChannel(address, { kind: 'node', credentials: other }, { clock });
  assert.equal((await client(Host, channel).ping({})).nodeId, 'm1');
  channel.close();
});

test('a server that is not the manager it should be is refused', async () => {
  const worker = await authority.node('w1', 'worker', clock.wallMs());
  const its = new RpcServer({ log: silentLog, clock, authorize: () => {} });
  const { port } = await its.listen({ host: '127.0.0.1', port: 0, tls: worker });
  assert.equal((await refusal(dial(`127.0.0.1:${port}`))).code, 'unauthorized');
  await its.close();
});
