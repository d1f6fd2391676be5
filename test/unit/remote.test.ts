/**
 * Requests about containers on other hosts, over real gRPC, TLS and HTTP on loopback: answers and
 * errors come through as they are, taken-over connections carry bytes both ways and are half-closed
 * as either side does it, nothing is buffered without end, and a host that is lost is named.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { after, before, test } from 'node:test';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { silentLog } from '../../base/log.ts';
import { RemoteTasks } from '../../daemon/api/remote.ts';
import { NodeTaskHosts } from '../../daemon/taskHosts.ts';
import { openTunnel, tunnelHandlers } from '../../daemon/tunnel.ts';
import type { DaemonNode, TaskHost, TaskHosts } from '../../daemon/types.ts';
import { TaskState } from '../../model/taskState.ts';
import { RpcChannel, RpcServer } from '../../proto/rpc.ts';
import { Host } from '../../proto/services.ts';
import { TestAuthority } from '../support/certificates.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { ManualClock } from '../support/manualClock.ts';
import { until } from '../support/until.ts';

const clock = new SystemClock();
const WAIT_MS = 5000;
const ID = 'c'.repeat(64);
const HOST: TaskHost = {
  nodeId: 'n2',
  hostname: 'h2',
  address: '',
  containerId: ID,
  taskId: 't1',
};
const BULK_BYTES = 8 * 1024 * 1024;

/** What a host's own routes would do, in short. */
let far: Server;
let farSockets: Duplex[] = [];
const clients: Socket[] = [];
let written = 0;
let closed = 0;
let rpc: RpcServer;
let near: Server;
let base: string;
let port: number;
let channelTo: () => RpcChannel;

function answer(incoming: IncomingMessage, response: import('node:http').ServerResponse): void {
  const { url = '', method } = incoming;
  if (url.startsWith(`/v1.44/containers/${ID}/json?size=1`)) {
    response.writeHead(200, { 'Content-Type': 'application/json', 'X-Own': 'kept' });
    response.end(JSON.stringify({ Id: ID }));
  } else if (url === `/containers/${ID}/exec` && method === 'POST') {
    response.writeHead(201, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ Id: 'e1' }));
  } else if (url === '/exec/e1/json') {
    response.end(JSON.stringify({ ExitCode: 3 }));
  } else if (url === `/containers/${ID}/archive?path=/x` && method === 'PUT') {
    let size = 0;
    incoming.on('data', (part: Buffer) => {
      size += part.length;
    });
    incoming.on('end', () => response.end(String(size)));
  } else if (url === `/containers/${ID}/logs`) {
    response.once('close', () => {
      closed += 1;
    });
    const block = Buffer.alloc(64 * 1024, 'x');
    const more = (): void => {
      while (!response.destroyed) {
        written += block.length;
        if (!response.write(block)) return void response.once('drain', more);
      }
    };
    more();
  } else {
    response.writeHead(404, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ message: `No such container: ${url}` }));
  }
}

before(async () => {
  far = createServer(answer);
  far.on('upgrade', (incoming: IncomingMessage, socket: Duplex) => {
    farSockets.push(socket);
    socket.on('error', () => {});
    socket.write(
      'HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n' +
        `Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n${incoming.url}|`,
    );
    // Echoes until standard input ends, then says so: a program like `cat; echo end`.
    socket.on('data', (part: Buffer) => socket.write(part));
    socket.on('end', () => socket.end('|end'));
  });
  const authority = await TestAuthority.make(clock.wallMs());
  const credentials = await authority.node('m1', 'manager', clock.wallMs());
  const own = await authority.node('w1', 'worker', clock.wallMs());
  rpc = new RpcServer({ log: silentLog, clock, authorize: () => {} });
  rpc.handle(
    Host,
    tunnelHandlers((connection) => far.emit('connection', connection as Socket)),
  );
  const listening = await rpc.listen({ host: '127.0.0.1', port: 0, tls: own });
  const address = `127.0.0.1:${listening.port}`;
  channelTo = () => new RpcChannel(address, { kind: 'node', credentials }, { clock });
  const taskHosts: TaskHosts = {
    find: async (key) => {
      if (key === 'web.1') return HOST;
      throw new SwarmError('not_found', `task ${key} not found`);
    },
    elsewhere: async (key) => (ID.startsWith(key) ? HOST : undefined),
    isOwn: () => false,
    isTask: () => true,
    connect: (host) => openTunnel(channelTo(), host.hostname),
  };
  const remote = new RemoteTasks({ taskHosts } as unknown as DaemonNode);
  near = createServer((incoming, response) => {
    void remote.take(incoming, response).then((isTaken) => {
      if (!isTaken) response.end('here');
    });
  });
  near.on('upgrade', (incoming: IncomingMessage, socket: Duplex, head: Buffer) => {
    if (!remote.takeUpgrade(incoming, socket, head)) socket.end('HTTP/1.1 418 here\r\n\r\n');
  });
  await new Promise<void>((resolve) => near.listen(0, '127.0.0.1', resolve));
  port = (near.address() as AddressInfo).port;
  base = `http://127.0.0.1:${port}`;
});

after(() => {
  near.close();
  near.closeAllConnections();
  for (const socket of [...farSockets, ...clients]) socket.destroy();
});

test('answers, statuses and headers come as the host gave them, by any of its names', async () => {
  const found = await fetch(`${base}/v1.44/containers/cccc/json?size=1`);
  assert.equal(found.status, 200);
  assert.equal(found.headers.get('x-own'), 'kept');
  assert.deepEqual(await found.json(), { Id: ID });
  const byTask = await fetch(`${base}/v1.44/tsswarm/tasks/web.1/json?size=1`);
  assert.deepEqual(await byTask.json(), { Id: ID });
  const missing = await fetch(`${base}/containers/cccc/top`);
  assert.equal(missing.status, 404);
  assert.match(await missing.text(), /No such container/);
  const unknown = await fetch(`${base}/tsswarm/tasks/other.9/top`);
  assert.deepEqual(
    [unknown.status, await unknown.json()],
    [404, { message: 'task other.9 not found' }],
  );
  assert.equal(await (await fetch(`${base}/containers/dddd/json`)).text(), 'here');
  assert.equal(await (await fetch(`${base}/exec/unknown/json`)).text(), 'here');
});

test('what would change a container on another host is refused with the host’s name', async () => {
  const asked = [
    ['POST', '/v1.44/containers/cccc/stop?t=1'],
    ['DELETE', '/containers/cccc?force=1'],
  ];
  for (const [method, path] of asked) {
    const refused = await fetch(`${base}${path}`, { method });
    assert.equal(refused.status, 409);
    const name = new RegExp(`container cccc is one of a task on ${HOST.hostname}: only there`);
    assert.match(await refused.text(), name);
  }
  const own = await fetch(`${base}/containers/dddd/stop`, { method: 'POST' });
  assert.equal(await own.text(), 'here');
  assert.equal(await (await fetch(`${base}/containers/json`)).text(), 'here');
});

test('an exec is found again by its id', async () => {
  const made = await fetch(`${base}/containers/cccc/exec`, { method: 'POST', body: '{}' });
  assert.deepEqual([made.status, await made.json()], [201, { Id: 'e1' }]);
  assert.deepEqual(await (await fetch(`${base}/exec/e1/json`)).json(), { ExitCode: 3 });
});

test('a body of many megabytes arrives whole', async () => {
  const body = Buffer.alloc(BULK_BYTES, 'a');
  const put = await fetch(`${base}/containers/cccc/archive?path=/x`, { method: 'PUT', body });
  assert.equal(await put.text(), String(BULK_BYTES));
});

/** A connection that asks to be taken over, as Docker's client does it. */
async function takeOver(path: string, body: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  clients.push(socket);
  await once(socket, 'connect');
  socket.write(
    `POST ${path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  return socket;
}

test('a taken-over connection carries both ways, and the end of input is not the end', async () => {
  const socket = await takeOver('/v1.44/tsswarm/tasks/web.1/attach?stream=1', '');
  let text = '';
  socket.on('data', (part: Buffer) => {
    text += part.toString();
  });
  await until('101', WAIT_MS, () => text.includes('|'));
  assert.match(text, /^HTTP\/1.1 101 UPGRADED\r\n/);
  assert.match(text, new RegExp(`/v1.44/containers/${ID}/attach\\?stream=1\\|$`));
  socket.write('hello');
  await until('the echo', WAIT_MS, () => text.endsWith('|hello'));
  socket.end();
  await once(socket, 'end');
  assert.match(text, /hello\|end$/);
});

test('a reader that does not read holds the host back; its end is told the host', async () => {
  const asked = request(`${base}/containers/cccc/logs`).end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  response.pause();
  let last = -1;
  await until('the host to be held back', WAIT_MS, () => {
    const isSame = written === last;
    last = written;
    return isSame && written > 0;
  });
  assert.ok(written < 64 * 1024 * 1024, `${written} bytes are on their way to nobody`);
  const before = closed;
  asked.destroy();
  await until('the host to hear of it', WAIT_MS, () => closed === before + 1);
});

test('a client that is killed ends the connection on the host', async () => {
  farSockets = [];
  const socket = await takeOver('/containers/cccc/attach', '');
  await until('101', WAIT_MS, () => farSockets.length === 1);
  const [there] = farSockets;
  socket.destroy();
  await until('the end there', WAIT_MS, () => there.destroyed || there.readableEnded);
});

test('a host that is lost is named: in a frame of an open stream, and in a refusal', async () => {
  const socket = await takeOver('/containers/cccc/attach', '');
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  await until('101', WAIT_MS, () => Buffer.concat(parts).includes('|'));
  await rpc.close();
  await once(socket, 'end');
  const said = Buffer.concat(parts);
  assert.match(said.toString(), /tsswarm: host h2 cannot be reached: .+\n$/);
  const at = said.indexOf('tsswarm: ') - 8;
  assert.equal(said[at], 2, 'a frame of standard error');
  assert.equal(said.readUInt32BE(at + 4), said.length - at - 8);
  const refused = await fetch(`${base}/containers/cccc/json`);
  assert.equal(refused.status, 503);
  const { message } = (await refused.json()) as { message: string };
  assert.match(message, /^host h2 cannot be reached: /);
  const upgrade = await takeOver('/containers/cccc/attach', '');
  const [first] = (await once(upgrade, 'data')) as [Buffer];
  assert.match(first.toString(), /^HTTP\/1.1 503 [\s\S]*host h2 cannot be reached/);
});

test('a task is found by id, prefix, name, slot and service; without a container it says so', async () => {
  const plane = new ControlPlane({ nodes: 2 });
  plane.create('web', { replicas: 2 });
  plane.create('later', { replicas: 1 });
  plane.settle();
  const [first, second] = plane.running('web').map((task, at) => {
    const status = { ...task.status, containerId: String(at + 1).repeat(64) };
    plane.change({ kind: 'update', table: 'task', object: { ...task, status } });
    return plane.get('task', task.id);
  });
  const hosts = new NodeTaskHosts({
    containers: () => [],
    ownNodeId: () => second.nodeId,
    view: () => plane.store,
    channelTo: () => channelTo(),
    clock: new ManualClock(),
  });
  for (const key of [first.id, first.id.slice(0, 9), `web.1.${first.id}`, 'web.1']) {
    assert.equal((await hosts.find(key)).containerId, '1'.repeat(64), key);
  }
  assert.equal((await hosts.find('web')).taskId, second.id, 'the one on this host');
  assert.ok(hosts.isOwn(await hosts.find('web')));
  assert.equal((await hosts.elsewhere('111'))?.taskId, first.id);
  assert.equal((await hosts.elsewhere(`web.1.${first.id}`))?.hostname, first.nodeId);
  assert.equal(await hosts.elsewhere('222'), undefined, 'it is here');
  await assert.rejects(hosts.find('none'), { code: 'not_found' });
  await assert.rejects(hosts.find('later'), { code: 'conflict', message: /tsswarm why/ });
  for (const task of plane.running('web')) plane.end(task, TaskState.FAILED);
  await assert.rejects(hosts.find('web'), { code: 'conflict', message: /no such task running/ });
});
