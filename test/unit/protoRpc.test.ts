/**
 * gRPC over real TLS on loopback: who is let in, what comes back, how calls end.
 */
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { after, before, test } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { SystemClock } from '../../base/clock.ts';
import { HOUR_MS } from '../../base/duration.ts';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { readCertificate } from '../../manager/ca/x509.ts';
import type { NodeCredentials, PeerIdentity } from '../../proto/credentials.ts';
import { type ChannelTrust, client, RpcChannel, RpcServer } from '../../proto/rpc.ts';
import { CertificateAuthority, Dispatcher, Host, Raft } from '../../proto/services.ts';
import { errorOfStatus } from '../../proto/status.ts';
import { TestAuthority } from '../support/certificates.ts';
import { freePort } from '../support/freePort.ts';
import { until } from '../support/until.ts';

const clock = new SystemClock();
const WAIT_MS = 60_000;
let authority: TestAuthority;
let serverCredentials: NodeCredentials;
let worker: NodeCredentials;
let server: RpcServer;
let address: string;
const existing = new Set(['w1', 'm1']);
let seen: (PeerIdentity | undefined)[] = [];

before(async () => {
  authority = await TestAuthority.make(clock.wallMs());
  serverCredentials = await authority.node('m1', 'manager', clock.wallMs());
  worker = await authority.node('w1', 'worker', clock.wallMs());
  server = new RpcServer({
    log: silentLog,
    clock,
    authorize: (peer, method, problem) => {
      if (method.service === CertificateAuthority.typeName) return;
      if (peer === undefined) throw new SwarmError('unauthorized', `no identity: ${problem}`);
      if (!existing.has(peer.nodeId)) throw new SwarmError('forbidden', 'removed');
    },
  });
  server.handle(CertificateAuthority, {
    getRootCertificate: async () => ({ certificatePem: 'pem', nowMs: 5n }),
    issueCertificate: async ({ csrPem }) => ({ certificatePem: String(csrPem.length) }),
  });
  server.handle(Host, {
    ping: async (_request, context) => {
      seen.push(context.peer);
      return { nodeId: 'm1', nowMs: 7n };
    },
    taskLogs: async (request, send, context) => {
      for (let at = 0; at < 1000 && !context.signal.aborted; at += 1) {
        await send({ records: [{ timeNs: BigInt(at), data: new Uint8Array(1024) }] });
      }
      if (request.follow) throw new SwarmError('not_found', 'no such task');
    },
  });
  server.handle(Dispatcher, {
    heartbeat: async () => {
      throw new SwarmError('not_leader', 'ask the leader', { detail: { leader: '10.0.0.1:2377' } });
    },
    session: (_request, _send, context) =>
      new Promise((resolve) => {
        context.signal.addEventListener('abort', () => resolve());
        ended = new Promise((done) => context.signal.addEventListener('abort', () => done()));
      }),
  });
  server.handle(Raft, {
    messages: async (requests, send) => {
      for await (const request of requests) await send({ frames: request.frames });
    },
    snapshot: async (requests, send) => {
      let bytes = 0;
      for await (const request of requests) bytes += request.frames.length;
      await send({ frames: Buffer.from(String(bytes)) });
    },
  });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0, tls: serverCredentials });
  address = `127.0.0.1:${port}`;
});

after(() => server.close());

let ended: Promise<void> = Promise.resolve();

async function using<T>(trust: ChannelTrust, run: (channel: RpcChannel) => Promise<T>): Promise<T> {
  const channel = new RpcChannel(address, trust, { clock });
  try {
    return await run(channel);
  } finally {
    channel.close();
  }
}

function asNode(credentials: NodeCredentials): ChannelTrust {
  return { kind: 'node', credentials };
}

test('a caller with a certificate of the cluster is known by its node id and role', async () => {
  seen = [];
  const answer = await using(asNode(worker), (channel) => client(Host, channel).ping({}));
  assert.equal(answer.nodeId, 'm1');
  assert.equal(answer.nowMs, 7n);
  assert.equal(seen[0]?.nodeId, 'w1');
  assert.equal(seen[0]?.role, 'worker');
  assert.equal(seen[0]?.clusterId, 'cluster1');
  assert.equal(seen[0]?.serial, readCertificate(worker.certificate).serial);
});

test('a caller without a certificate reaches only the certificate authority', async () => {
  const root: ChannelTrust = { kind: 'root', rootCertificate: worker.rootCertificate };
  await using(root, async (channel) => {
    const answer = await client(CertificateAuthority, channel).getRootCertificate({});
    assert.equal(answer.certificatePem, 'pem');
    await assert.rejects(client(Host, channel).ping({}), { code: 'unauthorized' });
    await assert.rejects(client(Dispatcher, channel).heartbeat({}), { code: 'unauthorized' });
    const session = client(Dispatcher, channel).session({});
    await assert.rejects(session[Symbol.asyncIterator]().next(), { code: 'unauthorized' });
  });
});

test('a caller without a certificate may send little, a node much', async () => {
  const csrPem = 'x'.repeat(200_000);
  const root: ChannelTrust = { kind: 'root', rootCertificate: worker.rootCertificate };
  const issue = (trust: ChannelTrust) =>
    using(trust, (channel) => client(CertificateAuthority, channel).issueCertificate({ csrPem }));
  await assert.rejects(issue(root), { code: 'exhausted' });
  assert.equal((await issue(asNode(worker))).certificatePem, '200000');
});

test('a certificate of another CA does not count, on either side', async () => {
  const other = await TestAuthority.make(clock.wallMs());
  const stranger = await other.node('w1', 'worker', clock.wallMs());
  await using(asNode(stranger), async (channel) => {
    await assert.rejects(client(Host, channel).ping({}), { code: 'unauthorized' });
  });
  const intruder = { ...stranger, rootCertificate: worker.rootCertificate };
  await using(asNode(intruder), async (channel) => {
    await assert.rejects(client(Host, channel).ping({}), /no identity/);
  });
});

test('an expired certificate does not count, and the refusal says so', async () => {
  const old = await authority.node('w1', 'worker', clock.wallMs() - 2 * HOUR_MS, HOUR_MS);
  await using(asNode(old), async (channel) => {
    await assert.rejects(client(Host, channel).ping({}), /CERT_HAS_EXPIRED/);
  });
});

test('a node that was removed is refused on a connection that is still open', async () => {
  await using(asNode(worker), async (channel) => {
    await client(Host, channel).ping({});
    existing.delete('w1');
    await assert.rejects(client(Host, channel).ping({}), { code: 'forbidden' });
    existing.add('w1');
  });
});

test('a caller that expects another node or role does not talk to this one', async () => {
  for (const expect of [{ nodeId: 'm2' }, { role: 'worker' as const }]) {
    const channel = new RpcChannel(address, asNode(worker), { clock, expect });
    await assert.rejects(client(Host, channel).ping({}), { code: 'unauthorized' });
    channel.close();
  }
  const channel = new RpcChannel(address, asNode(worker), {
    clock,
    expect: { nodeId: 'm1', role: 'manager' },
  });
  await client(Host, channel).ping({});
  channel.close();
});

test('the listener changes its certificate while connections live', async () => {
  await using(asNode(worker), async (channel) => {
    await client(Host, channel).ping({});
    server.setTls(await authority.node('m1new', 'manager', clock.wallMs()));
    await client(Host, channel).ping({});
    const fresh = new RpcChannel(address, asNode(worker), { clock, expect: { nodeId: 'm1new' } });
    await client(Host, fresh).ping({});
    fresh.close();
    server.setTls(serverCredentials);
  });
});

test('an error arrives with its code, its line and its detail', async () => {
  await using(asNode(worker), async (channel) => {
    await assert.rejects(client(Dispatcher, channel).heartbeat({}), (error) => {
      assert(error instanceof SwarmError);
      assert.equal(error.code, 'not_leader');
      assert.equal(error.message, 'ask the leader');
      assert.deepEqual(error.detail, { leader: '10.0.0.1:2377' });
      return true;
    });
  });
});

test('a stream delivers all its messages in order, and its error after them', async () => {
  await using(asNode(worker), async (channel) => {
    let count = 0;
    for await (const { records } of client(Host, channel).taskLogs({})) {
      assert.equal(records[0].timeNs, BigInt(count));
      count += 1;
    }
    assert.equal(count, 1000);
    await assert.rejects(
      async () => {
        for await (const _ of client(Host, channel).taskLogs({ follow: true }));
      },
      { code: 'not_found' },
    );
  });
});

test('a reader that leaves early ends the call on the other side', async () => {
  await using(asNode(worker), async (channel) => {
    for await (const _ of client(Host, channel).taskLogs({})) break;
    const abort = new AbortController();
    const session = client(Dispatcher, channel).session({}, { signal: abort.signal });
    const reading = assert.rejects(session[Symbol.asyncIterator]().next(), { code: 'cancelled' });
    await client(Host, channel).ping({});
    abort.abort();
    await reading;
    await ended;
  });
});

test('a conversation echoes in order and ends when its sender ends it', async () => {
  await using(asNode(worker), async (channel) => {
    const talk = client(Raft, channel).messages();
    const sending = (async () => {
      for (let at = 0; at < 200; at += 1) {
        await talk.send({ frames: new Uint8Array(8192).fill(at) });
      }
      talk.end();
    })();
    let at = 0;
    for await (const { frames } of talk) {
      assert.equal(frames.length, 8192);
      assert.equal(frames[0], at & 0xff);
      at += 1;
    }
    assert.equal(at, 200);
    await sending;
  });
});

test('an upload is answered once all of it has arrived', async () => {
  await using(asNode(worker), async (channel) => {
    const upload = client(Raft, channel).snapshot();
    for (let at = 0; at < 50; at += 1) await upload.send({ frames: new Uint8Array(65_536) });
    upload.end();
    const answers: string[] = [];
    for await (const { frames } of upload) answers.push(Buffer.from(frames).toString());
    assert.deepEqual(answers, [String(50 * 65_536)]);
  });
});

test('a port where nobody listens is called unreachable at once', async () => {
  const port = await freePort();
  const channel = new RpcChannel(`127.0.0.1:${port}`, asNode(worker), { clock });
  await assert.rejects(client(Host, channel).ping({}), (error) => {
    assert(error instanceof SwarmError);
    assert.equal(error.code, 'unavailable');
    assert.equal(error.detail['reason'], 'refused');
    return true;
  });
  channel.close();
});

test('a call whose stream ends without an answer is told from one that was never begun', () => {
  const cut = [
    [14, 'read ECONNRESET'],
    [14, 'Connection dropped'],
    [13, 'Received RST_STREAM with code 2 triggered by internal client error: write EHOSTUNREACH'],
    [1, 'Call cancelled'],
  ] as const;
  for (const [code, message] of cut) {
    const error = errorOfStatus('h1:2377', code, message, undefined, undefined);
    assert.equal(error.code, 'unavailable');
    assert.match(error.message, /^the connection to h1:2377 broke: /);
    assert.deepEqual(error.detail, { reason: 'broken' });
  }
  for (const message of ['No connection established. Last error: x', 'Stream refused by server']) {
    const error = errorOfStatus('h1:2377', 14, message, undefined, undefined);
    assert.deepEqual(error.detail, { reason: 'unreachable', unsent: 'true' });
  }
});

test('a call to a host that never answers ends at its deadline', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  const { port } = silent.address() as { port: number };
  const channel = new RpcChannel(`127.0.0.1:${port}`, asNode(worker), { clock });
  await assert.rejects(client(Host, channel).ping({}, { timeoutMs: 100 }), { code: 'timeout' });
  channel.close();
  silent.close();
});

test('a connection that hangs while it is made is given up, and the call with it', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  const { port } = silent.address() as { port: number };
  const channel = new RpcChannel(`127.0.0.1:${port}`, asNode(worker), {
    clock,
    connectTimeoutMs: 200,
  });
  // At the call's own time it would be a timeout.
  await assert.rejects(client(Host, channel).ping({}), { code: 'unavailable' });
  channel.close();
  silent.close();
});

test('callers of a server that is away look for it often, and reach it when it is back', async () => {
  const options = {
    log: silentLog,
    clock,
    authorize: () => {},
  };
  const first = new RpcServer(options);
  first.handle(Host, { ping: async () => ({ nodeId: 'a', nowMs: 0n }) });
  const port = await freePort();
  await first.listen({ host: '127.0.0.1', port, tls: serverCredentials });
  const channel = new RpcChannel(`127.0.0.1:${port}`, asNode(worker), { clock });
  const ask = (): Promise<string | undefined> =>
    client(Host, channel)
      .ping({}, { timeoutMs: 200 })
      .then(
        (answer) => answer.nodeId,
        () => undefined, // not reached
      );
  assert.equal(await until('the first answer', WAIT_MS, ask), 'a');
  await first.close();
  let dials = 0;
  const away = createServer((socket) => {
    dials += 1;
    socket.destroy();
  }).listen(port, '127.0.0.1');
  const startedMs = clock.nowMs();
  await until('eight dials', WAIT_MS, async () => {
    assert.equal(await ask(), undefined);
    return dials >= 8;
  });
  // With a back-off that goes on growing, as gRPC's own does, it is more than forty seconds.
  assert.ok(clock.nowMs() - startedMs < 20_000);
  await new Promise((resolve) => away.close(resolve));
  const second = new RpcServer(options);
  second.handle(Host, { ping: async () => ({ nodeId: 'b', nowMs: 0n }) });
  await second.listen({ host: '127.0.0.1', port, tls: serverCredentials });
  assert.equal(await until('an answer', WAIT_MS, ask), 'b');
  channel.close();
  await second.close();
});

test('a removed node is disconnected when its connections are ended', async () => {
  await using(asNode(worker), async (channel) => {
    const session = client(Dispatcher, channel).session({});
    const reading = assert.rejects(session[Symbol.asyncIterator]().next());
    await client(Host, channel).ping({});
    server.disconnect('w1');
    await reading;
  });
});

test('bytes that are no TLS do not disturb the listener', async () => {
  const [host, port] = address.split(':');
  const socket = connect(Number(port), host);
  socket.on('error', () => {});
  socket.write('GET / HTTP/1.1\r\n\r\n');
  await new Promise((resolve) => socket.once('close', resolve));
  await using(asNode(worker), (channel) => client(Host, channel).ping({}));
});

test('strangers are let in up to a number, and nodes all the same', async () => {
  const [host, port] = address.split(':');
  const wanted = 300;
  const sockets: TLSSocket[] = [];
  let cut = 0;
  await new Promise<void>((resolve) => {
    let done = 0;
    for (let at = 0; at < wanted; at += 1) {
      const socket = connectTls({
        host,
        port: Number(port),
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
      });
      sockets.push(socket);
      const count = (): void => {
        done += 1;
        if (done === wanted) resolve();
      };
      socket.on('error', () => {});
      socket.once('data', count); // HTTP/2 settings: it was let in
      socket.once('close', () => {
        cut += 1;
        count();
      });
    }
  });
  assert.equal(wanted - cut, 256);
  await using(asNode(worker), (channel) => client(Host, channel).ping({}));
  for (const socket of sockets) socket.destroy();
});
