/**
 * Relays of published ports by IPv6 on this host's loopback: what bounds them, how who vanishes is
 * noticed, and what becomes of a port that cannot be listened on at first.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  type AddressInfo,
  createConnection,
  createServer,
  type Server,
  type Socket,
} from 'node:net';
import { type TestContext, test } from 'node:test';
import { type Log, silentLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { IngressRelays } from '../../runtime/net/ingressRelays.ts';
import { RelayLimits } from '../../runtime/net/relay.ts';
import { freePort } from '../support/freePort.ts';
import { until } from '../support/until.ts';

const WAIT_MS = 60_000;
const RETRY_MS = 60_000;

interface Ground {
  readonly relays: IngressRelays;
  readonly warnings: string[];
  /** Where a connection is greeted and kept. */
  readonly taskPort: number;
  readonly publishedPort: number;
  readonly apply: () => void;
  /** A connection to the published port; what came first, '' = closed. */
  readonly connect: () => Promise<{ socket: Socket; word: string }>;
}

async function listen(server: Server, host: string, port = 0): Promise<number> {
  server.listen(port, host);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function ground(context: TestContext, limits: RelayLimits): Promise<Ground> {
  const open = new Set<Socket>();
  const task = createServer((socket) => {
    open.add(socket);
    socket.on('error', () => {}); // its client is gone
    socket.write('hello');
  });
  const taskPort = await listen(task, '127.0.0.1');
  const publishedPort = await freePort();
  const warnings: string[] = [];
  const log: Log = { ...silentLog, warn: (_, fields) => warnings.push(String(fields?.reason)) };
  const relays = new IngressRelays(new SystemRandom(), log, limits);
  context.after(() => {
    relays.close();
    task.close();
    for (const socket of open) socket.destroy();
  });
  const targets = [{ address: '127.0.0.1', port: taskPort }];
  return {
    relays,
    warnings,
    taskPort,
    publishedPort,
    apply: () => relays.apply([{ publishedPort, hostAddress: '::1', targets }]),
    connect: async () => {
      const socket = createConnection(publishedPort, '::1');
      open.add(socket);
      const word = await new Promise<string>((resolve) => {
        socket.on('data', (data) => resolve(data.toString()));
        socket.on('error', () => resolve(''));
        socket.on('close', () => resolve(''));
      });
      return { socket, word };
    },
  };
}

test('one client has so many connections and no more, until one of them ends', async (context) => {
  const { apply, connect, warnings } = await ground(context, new RelayLimits(10, 2));
  apply();
  const [first] = [await connect(), await connect()];
  assert.equal(first.word, 'hello');
  assert.equal((await connect()).word, '');
  assert.equal((await connect()).word, '');
  assert.match(warnings.join('\n'), /^more connections than .* of one client.*$/, 'told once');
  first.socket.resetAndDestroy();
  await until('there is room again', WAIT_MS, async () => (await connect()).word === 'hello');
});

test('all clients together have so many connections', () => {
  const limits = new RelayLimits(3, 2);
  assert.deepEqual(
    ['a', 'a', 'a', 'b', 'b'].map((client) => limits.take(client)),
    [true, true, false, true, false],
  );
  limits.giveBack('a');
  assert.equal(limits.take('b'), true);
});

test('the kernel asks both ends of a carried connection whether they live', async (context) => {
  const { apply, connect, taskPort, publishedPort } = await ground(context, new RelayLimits());
  apply();
  await connect();
  for (const end of [`sport = :${publishedPort}`, `dport = :${taskPort}`]) {
    const line = execFileSync('ss', ['-Htno', 'state', 'established', end], { encoding: 'utf8' });
    assert.match(line, /timer:\(keepalive,/, end);
  }
});

test('a port that somebody else has is told once and taken when it is free', async (context) => {
  const { relays, warnings, apply, connect, publishedPort } = await ground(
    context,
    new RelayLimits(),
  );
  const other = createServer();
  await listen(other, '::1', publishedPort);
  apply();
  apply();
  relays.retry(RETRY_MS);
  assert.deepEqual(warnings, ['EADDRINUSE: somebody else listens there']);
  other.close();
  await once(other, 'close');
  relays.retry(2 * RETRY_MS);
  assert.equal((await connect()).word, 'hello');
});
