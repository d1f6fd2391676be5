/**
 * Published ports of containers on one host, with real traffic: who reaches them, with which
 * address, who may have one, and that nothing old is left when they change.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Attachment, AttachRequest, PublishedPort } from '../../runtime/net/types.ts';
import {
  attachRequest,
  bridgeNetwork,
  endpointRequest,
  type Place,
  type TestHost,
  Underlay,
} from '../support/netns.ts';

let underlay: Underlay;
let host: TestHost;

before(async () => {
  underlay = await Underlay.create(2);
  host = underlay.hosts[0];
});

after(() => underlay?.close());

function port(changes: Partial<PublishedPort> = {}): PublishedPort {
  return { protocol: 'tcp', hostAddress: '', hostPort: 8080, containerPort: 80, ...changes };
}

interface Container {
  readonly id: string;
  readonly place: Place;
  readonly attachment: Attachment;
}

async function run(
  name: string,
  ports: readonly PublishedPort[],
  changes: Partial<AttachRequest> = {},
): Promise<Container> {
  const bridges = [endpointRequest({ networkId: 'bridge' })];
  const request = attachRequest({ name, bridges, ports, ...changes });
  const { place, attachment } = await host.attach(request);
  await place.serve(name, 80);
  return { id: request.containerId, place, attachment };
}

async function gone(...containers: readonly Container[]): Promise<void> {
  for (const { id, place } of containers) {
    place.stop();
    await host.call('detach', id);
  }
}

test('a published port answers outside clients, the host itself and containers', async () => {
  const udp = port({ protocol: 'udp' });
  const web = await run('web', [port(), udp]);
  const { client } = underlay;
  const kept = { name: 'web', client: client.address };
  assert.deepEqual(await client.get(host.address, 8080), [kept]);
  assert.deepEqual(await client.getUdp(host.address, 8080), [kept]);
  for (const address of ['127.0.0.1', host.address, '172.17.0.1']) {
    assert.equal((await host.get(address, 8080))[0].name, 'web', address);
    assert.equal((await host.getUdp(address, 8080))[0].name, 'web', address);
  }
  const near = await run('near', []);
  assert.equal((await near.place.get(host.address, 8080))[0].name, 'web');
  assert.equal((await near.place.getUdp(host.address, 8080))[0].name, 'web');
  assert.equal((await web.place.get(host.address, 8080))[0].name, 'web', 'itself');
  const network = bridgeNetwork('elsewhere');
  await host.call('createBridge', network);
  const far = await run('far', [], {
    bridges: [endpointRequest({ networkId: network.networkId })],
  });
  assert.equal((await far.place.get(host.address, 8080))[0].name, 'web', 'from another bridge');
  assert.equal((await far.place.get('172.17.0.1', 8080))[0].name, 'web');
  await gone(web, near, far);
  await host.call('removeBridge', network.networkId);
  assert.deepEqual(await client.get(host.address, 8080), [{ error: 'ECONNREFUSED' }]);
});

test('a port that was not published is not reached from outside by a route', async () => {
  const hidden = await run('hidden', [port({ hostPort: 8081, containerPort: 9000 })]);
  await underlay.client.run('ip', 'route', 'add', '172.17.0.0/16', 'via', host.address);
  const [{ error }] = await underlay.client.get('172.17.0.2', 80);
  assert.ok(error !== undefined, 'dropped');
  assert.equal((await host.get('172.17.0.2', 80))[0].name, 'hidden');
  await underlay.client.run('ip', 'route', 'del', '172.17.0.0/16');
  await gone(hidden);
});

test('a port of one address answers there only; another container may have the rest', async () => {
  const local = await run('local', [port({ hostAddress: '127.0.0.1' })]);
  const outer = await run('outer', [port({ hostAddress: host.address })]);
  assert.equal((await host.get('127.0.0.1', 8080))[0].name, 'local');
  assert.equal((await host.get(host.address, 8080))[0].name, 'outer');
  assert.equal((await underlay.client.get(host.address, 8080))[0].name, 'outer');
  await assert.rejects(
    run('third', [port()]),
    /port 8080\/tcp is already taken by container (local|outer)/,
  );
  await assert.rejects(
    run('fourth', [port({ hostAddress: '192.0.2.7', hostPort: 81 })]),
    /192\.0\.2\.7/,
  );
  await gone(local, outer);
});

test('a taken port is refused with the name of who has it; nothing is left of the attempt', async () => {
  const first = await run('first', [port()]);
  const taken = { message: 'port 8080/tcp is already taken by container first' };
  await assert.rejects(run('second', [port({ hostPort: 8090 }), port()]), taken);
  const free = await run('third', [port({ hostPort: 8090 })]);
  await gone(first, free);
});

test('a port that a process listens on is refused, and a published one is refused to it', async () => {
  await host.serve('native', 8085);
  await assert.rejects(
    run('late', [port({ hostPort: 8085 })]),
    /port 8085\/tcp is already taken by process node \(pid \d+\)/,
  );
  await assert.rejects(
    run('late', [port({ protocol: 'udp', hostPort: 8085 })]),
    /port 8085\/udp is already taken by process node/,
  );
  const web = await run('web', [port()]);
  const script = 'require("net").createServer().on("error",e=>console.log(e.code)).listen(8080)';
  assert.match(await host.run(process.execPath, '-e', script), /EADDRINUSE/);
  await host.run('nft', 'flush', 'ruleset');
  assert.deepEqual(await underlay.client.get(host.address, 8080), [{ error: 'ECONNREFUSED' }]);
  await host.call('reconcile');
  assert.equal((await underlay.client.get(host.address, 8080))[0].name, 'web');
  await gone(web);
});

test('a port of a service is refused by the name of the service', async () => {
  const service = { protocol: 'tcp', publishedPort: 9090, serviceId: 'svc1', serviceName: 'shop' };
  const ports = [{ ...service, backends: [] }];
  await host.applyIngress({ version: 1, peers: underlay.peers, ports } as never);
  await assert.rejects(
    run('late', [port({ hostPort: 9090 })]),
    /port 9090\/tcp is already taken by service shop/,
  );
});

test('a port without a number is chosen, and said', async () => {
  const web = await run('web', [port({ hostPort: 0 }), port({ hostPort: 0, protocol: 'udp' })]);
  const [tcp, udp] = web.attachment.ports ?? [];
  assert.ok(tcp.hostPort >= 32_768 && tcp.hostPort < 61_000);
  assert.equal((await underlay.client.get(host.address, tcp.hostPort))[0].name, 'web');
  assert.equal((await underlay.client.getUdp(host.address, udp.hostPort))[0].name, 'web');
  await gone(web);
});

test('ports change while the container runs, and follow it from one network to another', async () => {
  const network = bridgeNetwork('other');
  await host.call('createBridge', network);
  const web = await run('web', [port()]);
  const moved = [port({ hostPort: 8088 })];
  assert.deepEqual(await host.call('publish', [web.id, moved]), moved);
  assert.deepEqual(await underlay.client.get(host.address, 8080), [{ error: 'ECONNREFUSED' }]);
  assert.equal((await underlay.client.get(host.address, 8088))[0].name, 'web');
  await host.call('connect', [web.id, endpointRequest({ networkId: network.networkId })]);
  await host.call('disconnect', [web.id, 'bridge']);
  assert.equal((await underlay.client.get(host.address, 8088))[0].name, 'web');
  await gone(web);
  await host.call('removeBridge', network.networkId);
});

test('a client that keeps its UDP port reaches the new container when the old one has gone', async () => {
  const udp = [port({ protocol: 'udp' })];
  const first = await run('first', udp);
  const ask = (): Promise<string> =>
    underlay.client.run(process.execPath, '-e', ASK, host.address).then((text) => text.trim());
  assert.equal(await ask(), 'first');
  await gone(first);
  const keep = await run('keep', []); // takes the address of the first
  const second = await run('second', udp);
  assert.equal(await ask(), 'second');
  await gone(keep, second);
});

/** One question from UDP port 5555: always the same connection for connection tracking. */
const ASK = `
const socket = require('dgram').createSocket('udp4');
socket.bind(5555, () => socket.send('?', 8080, process.argv[1]));
socket.on('message', (text) => { console.log(JSON.parse(text).name); process.exit(0); });
setTimeout(() => { console.log('nothing'); process.exit(0); }, 10000);
`;

test('a task publishes on its own host only, with publish mode host', async () => {
  const task = await run('task', [port()], { bridges: [], gateway: true });
  const [answer] = await underlay.client.get(host.address, 8080);
  assert.deepEqual(answer, { name: 'task', client: underlay.client.address });
  assert.equal((await host.get('127.0.0.1', 8080))[0].name, 'task');
  assert.deepEqual(await underlay.client.get(underlay.hosts[1].address, 8080), [
    { error: 'ECONNREFUSED' },
  ]);
  await gone(task);
});

test('ports go on while the daemon is dead, and are still held under the next one', async () => {
  const web = await run('web', [port()]);
  await host.kill();
  assert.equal((await underlay.client.get(host.address, 8080))[0].name, 'web');
  await host.start();
  assert.deepEqual(await host.call('reconcile'), []);
  assert.equal((await underlay.client.get(host.address, 8080))[0].name, 'web');
  await assert.rejects(run('late', [port()]), /already taken by container web/);
  await gone(web);
  const again = await run('again', [port()]);
  assert.equal((await underlay.client.get(host.address, 8080))[0].name, 'again');
  await gone(again);
});

test('a port of a container without IPv6 is reached by IPv6 too, [::1] included', async () => {
  await host.run('ip', 'link', 'set', 'lo', 'up');
  await host.run('ip', '-6', 'addr', 'replace', 'fd99::11/64', 'dev', 'eth0', 'nodad');
  await underlay.client.run('ip', '-6', 'addr', 'replace', 'fd99::100/64', 'dev', 'eth0', 'nodad');
  const web = await run('web', [port()]);
  assert.equal((await host.get('::1', 8080))[0].name, 'web');
  assert.equal((await underlay.client.get('fd99::11', 8080))[0].name, 'web');
  await web.place.bulk(81);
  await host.call('publish', [web.id, [port({ hostPort: 8081, containerPort: 81 })]]);
  assert.equal(await underlay.client.exchange('fd99::11', 8081), true);
  assert.equal((await host.get('::1', 8080))[0].error, 'ECONNREFUSED');
  await gone(web);
  assert.equal((await host.get('::1', 8081))[0].error, 'ECONNREFUSED');
  const local = await run('local', [port({ hostAddress: '::1' })]);
  assert.equal((await host.get('::1', 8080))[0].name, 'local');
  assert.equal((await underlay.client.get('fd99::11', 8080))[0].error, 'ECONNREFUSED');
  assert.equal((await host.get('127.0.0.1', 8080))[0].error, 'ECONNREFUSED');
  await gone(local);
});

test('a bridge with IPv6 publishes on IPv6 addresses of the host too', async () => {
  await host.run('ip', '-6', 'addr', 'replace', 'fd99::11/64', 'dev', 'eth0', 'nodad');
  await underlay.client.run('ip', '-6', 'addr', 'replace', 'fd99::100/64', 'dev', 'eth0', 'nodad');
  const none = { subnet: '', gateway: '', range: '' };
  const network = bridgeNetwork('six', { subnets: [none, none] });
  await host.call('createBridge', network);
  const six = await run('six', [port()], {
    bridges: [endpointRequest({ networkId: network.networkId })],
  });
  assert.deepEqual(await underlay.client.get('fd99::11', 8080), [
    { name: 'six', client: 'fd99::100' },
  ]);
  assert.equal((await host.get('fd99::11', 8080))[0].name, 'six');
  assert.equal((await underlay.client.get(host.address, 8080))[0].name, 'six');
  await gone(six);
  await host.call('removeBridge', network.networkId);
});
