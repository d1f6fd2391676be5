/**
 * Bridge networks of one host, with real traffic: the default one, users' own, internal ones, IPv6,
 * and containers that are connected and disconnected while they run.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type {
  Attachment,
  AttachRequest,
  BridgeNetwork,
  Endpoint,
} from '../../runtime/net/types.ts';
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
  underlay = await Underlay.create(1);
  host = underlay.hosts[0];
  await underlay.client.serve('outside', 7000);
});

after(() => underlay?.close());

interface Container {
  readonly id: string;
  readonly place: Place;
  readonly attachment: Attachment;
  readonly endpoints: readonly Endpoint[];
}

async function container(changes: Partial<AttachRequest>): Promise<Container> {
  const request = attachRequest(changes);
  const { place, attachment } = await host.attach(request);
  const id = request.containerId;
  const endpoints = (await host.call('endpoints', id)) as Endpoint[];
  return { id, place, attachment, endpoints };
}

async function on(network: string, name = ''): Promise<Container> {
  return container({ bridges: [endpointRequest({ networkId: network })], name });
}

async function create(name: string, changes: Partial<BridgeNetwork> = {}): Promise<BridgeNetwork> {
  return (await host.call('createBridge', bridgeNetwork(name, changes))) as BridgeNetwork;
}

async function gone(...containers: readonly Container[]): Promise<void> {
  for (const { id, place } of containers) {
    place.stop();
    await host.call('detach', id);
  }
}

async function assertNoWay(place: Place, address: string): Promise<void> {
  await assert.rejects(place.run('ping', '-c', '1', '-W', '1', address), address);
}

test('the default bridge is there from the start; its containers have no names', async () => {
  const [bridge] = (await host.call('bridges')) as BridgeNetwork[];
  assert.equal(bridge.name, 'bridge');
  assert.deepEqual(bridge.subnets, [{ subnet: '172.17.0.0/16', gateway: '172.17.0.1', range: '' }]);
  const one = await on('bridge', 'one');
  const two = await on(bridge.networkId, 'two');
  assert.equal(one.endpoints[0].address, '172.17.0.2');
  assert.equal(one.endpoints[0].macAddress, '02:42:ac:11:00:02');
  assert.equal(one.endpoints[0].gateway, '172.17.0.1');
  await one.place.ping(two.endpoints[0].address);
  await one.place.ping('172.17.0.1');
  assert.equal((await one.place.get('192.168.50.100', 7000))[0].client, host.address);
  assert.ok((await one.place.resolve('two')).error !== undefined);
  await two.place.serve('two', 80);
  assert.equal((await host.get(two.endpoints[0].address, 80))[0].name, 'two');
  await assert.rejects(host.call('removeBridge', bridge.networkId), /pre-defined/);
  await gone(one, two);
});

test('containers of a user bridge find each other by name, id and alias', async () => {
  const network = await create('app');
  const web = await container({
    name: 'web',
    bridges: [endpointRequest({ networkId: network.networkId, aliases: ['www', 'both'] })],
  });
  const db = await container({
    name: 'DB',
    bridges: [endpointRequest({ networkId: network.networkId, aliases: ['both'] })],
  });
  const [{ address }] = web.endpoints;
  assert.deepEqual(await db.place.resolve('web'), { answers: [address] });
  assert.deepEqual(await db.place.resolve('web.app'), { answers: [address] });
  assert.deepEqual(await db.place.resolve('www'), { answers: [address] });
  assert.deepEqual(await db.place.resolve(web.id.slice(0, 12)), { answers: [address] });
  assert.deepEqual(await web.place.resolve('db'), { answers: [db.endpoints[0].address] });
  const both = await db.place.resolve('both');
  assert.deepEqual(both.answers?.sort(), [address, db.endpoints[0].address].sort());
  await db.place.ping(address);
  await assert.rejects(host.call('removeBridge', network.networkId), /active endpoint/);
  await gone(web);
  assert.ok((await db.place.resolve('web')).error !== undefined);
  await gone(db);
  await host.call('removeBridge', network.networkId);
  const links = await host.run('nsenter', `--net=${host.execRoot}/netns/gateway`, 'ip', 'link');
  assert.doesNotMatch(links, new RegExp(`br-.*${network.networkId.slice(0, 4)}`));
});

test('bridges are isolated from each other and from the default one, both ways', async () => {
  const [red, blue] = [await create('red'), await create('blue')];
  assert.notEqual(red.subnets[0].subnet, blue.subnets[0].subnet);
  const all = [await on(red.networkId), await on(blue.networkId), await on('bridge')];
  for (const from of all) {
    for (const to of all) if (from !== to) await assertNoWay(from.place, to.endpoints[0].address);
    assert.equal((await from.place.get('192.168.50.100', 7000))[0].name, 'outside');
  }
  await gone(...all);
  await host.call('removeBridge', red.networkId);
  await host.call('removeBridge', blue.networkId);
});

test('an internal bridge leads nowhere but to its containers and from its host', async () => {
  const network = await create('inside', { internal: true });
  const [one, two] = [await on(network.networkId, 'one'), await on(network.networkId, 'two')];
  await one.place.ping(two.endpoints[0].address);
  assert.deepEqual(await one.place.resolve('two'), { answers: [two.endpoints[0].address] });
  await two.place.serve('two', 80);
  assert.equal((await host.get(two.endpoints[0].address, 80))[0].name, 'two');
  await assertNoWay(one.place, '192.168.50.100');
  await assertNoWay(one.place, host.address);
  // Not even with a route of its own.
  const { gateway } = network.subnets[0];
  await one.place.run('ip', 'route', 'add', 'default', 'via', gateway);
  await assertNoWay(one.place, '192.168.50.100');
  assert.equal((await one.place.resolve('outside.example')).error, 'ESERVFAIL');
  await gone(one, two);
  await host.call('removeBridge', network.networkId);
});

test('without inter-container communication the ports of a bridge are shut off', async () => {
  const options = { 'com.docker.network.bridge.enable_icc': 'false' };
  const network = await create('apart', { options });
  const [one, two] = [await on(network.networkId), await on(network.networkId)];
  await assertNoWay(one.place, two.endpoints[0].address);
  assert.equal((await one.place.get('192.168.50.100', 7000))[0].name, 'outside');
  await gone(one, two);
  await host.call('removeBridge', network.networkId);
});

test('a bridge has the MTU, name, subnet, addresses and MAC that were asked for', async () => {
  const network = await create('asked', {
    subnets: [{ subnet: '10.77.0.0/24', gateway: '10.77.0.254', range: '10.77.0.128/25' }],
    options: {
      'com.docker.network.driver.mtu': '1400',
      'com.docker.network.bridge.name': 'asked0',
    },
  });
  const fixed = endpointRequest({
    networkId: network.networkId,
    address: '10.77.0.9',
    macAddress: '02:00:00:00:00:09',
  });
  const one = await container({ bridges: [fixed] });
  const two = await on(network.networkId);
  assert.equal(two.endpoints[0].address, '10.77.0.128');
  const shown = await one.place.run('ip', 'addr', 'show', 'eth0');
  assert.match(shown, /mtu 1400/);
  assert.match(shown, /02:00:00:00:00:09/);
  assert.match(shown, /inet 10\.77\.0\.9\/24/);
  assert.match(await one.place.run('ip', 'route'), /default via 10\.77\.0\.254/);
  await one.place.ping('10.77.0.128');
  await one.place.ping('10.77.0.254');
  const again = container({ bridges: [fixed] });
  await assert.rejects(again, /Address already in use: 10\.77\.0\.9/);
  const inside = `--net=${host.execRoot}/netns/gateway`;
  assert.match(await host.run('nsenter', inside, 'ip', 'link', 'show', 'asked0'), /UP/);
  await gone(one, two);
  await host.call('removeBridge', network.networkId);
});

test('loopback and multicast are no subnets of a bridge', async () => {
  for (const subnet of ['127.0.0.0/8', '224.1.0.0/16', '::/64', 'ff02::/64']) {
    const subnets = [{ subnet, gateway: '', range: '' }];
    await assert.rejects(create('odd', { subnets }), /overlaps .*no container can have/, subnet);
  }
});

test('a running container gets another network and gives one back', async () => {
  const [first, second] = [await create('first'), await create('second')];
  const moving = await on(first.networkId, 'moving');
  const other = await on(second.networkId, 'other');
  await assertNoWay(moving.place, other.endpoints[0].address);
  const request = endpointRequest({ networkId: second.networkId, aliases: ['guest'] });
  const made = (await host.call('connect', [moving.id, request])) as Endpoint;
  assert.equal(made.networkId, second.networkId);
  await moving.place.ping(other.endpoints[0].address);
  assert.deepEqual(await other.place.resolve('guest'), { answers: [made.address] });
  assert.match(await moving.place.run('ip', 'route'), /default via \S+ dev eth0/);
  await assert.rejects(host.call('connect', [moving.id, request]), /already/);
  await host.call('disconnect', [moving.id, first.networkId]);
  assert.match(await moving.place.run('ip', 'route'), /default via \S+ dev eth1/);
  assert.equal((await moving.place.get('192.168.50.100', 7000))[0].name, 'outside');
  const left = (await host.call('endpoints', moving.id)) as Endpoint[];
  assert.deepEqual(
    left.map((one) => one.networkId),
    [second.networkId],
  );
  await host.call('removeBridge', first.networkId);
  await gone(moving, other);
  await host.call('removeBridge', second.networkId);
});

test('a bridge with IPv6 gives addresses, names, the way out and the host', async () => {
  await host.run('ip', '-6', 'addr', 'add', 'fd99::11/64', 'dev', 'eth0', 'nodad');
  await underlay.client.run('ip', '-6', 'addr', 'add', 'fd99::100/64', 'dev', 'eth0', 'nodad');
  const none = { subnet: '', gateway: '', range: '' };
  const given = { ...none, subnet: 'fd00:77::/64' };
  const network = await create('six', { subnets: [none, given] });
  const [one, two] = [await on(network.networkId, 'one'), await on(network.networkId, 'two')];
  const [endpoint] = two.endpoints;
  assert.equal(endpoint.address6, 'fd00:77::3');
  assert.equal(endpoint.gateway6, 'fd00:77::1');
  await one.place.ping('fd00:77::3');
  await one.place.ping('fd00:77::1');
  await one.place.ping('fd99::100');
  await host.ping('fd00:77::3');
  assert.deepEqual(await one.place.resolve('two', 'AAAA'), { answers: ['fd00:77::3'] });
  assert.deepEqual(await one.place.resolve('two'), { answers: [endpoint.address] });
  const other = await create('six2', { subnets: [none, none] });
  assert.match(other.subnets[1].subnet, /^fd[0-9a-f:]+\/64$/);
  const apart = await on(other.networkId);
  await assertNoWay(apart.place, 'fd00:77::3');
  await gone(one, two, apart);
  await host.call('removeBridge', network.networkId);
  await host.call('removeBridge', other.networkId);
});

test('bridges and who is on them outlive the daemon, bridges a reboot too', async () => {
  const network = await create('kept');
  const one = await on(network.networkId, 'one');
  const two = await on(network.networkId, 'two');
  await host.kill();
  await one.place.ping(two.endpoints[0].address);
  await host.start();
  assert.deepEqual(await host.call('reconcile'), []);
  assert.deepEqual(await host.call('endpoints', two.id), two.endpoints);
  assert.deepEqual(await one.place.resolve('two'), { answers: [two.endpoints[0].address] });
  const three = await on(network.networkId);
  await three.place.ping(one.endpoints[0].address);
  await gone(one, two, three);
  const before = await host.call('bridges');
  await host.kill();
  await host.run('sh', '-c', `ip link del tsswarm0; umount ${host.execRoot}/netns/*`);
  await host.run('sh', '-c', `rm -r ${host.execRoot}/netns ${host.execRoot}/network/host`);
  await host.start();
  assert.deepEqual(await host.call('bridges'), before);
  const four = await on(network.networkId);
  assert.equal((await four.place.get('192.168.50.100', 7000))[0].client, host.address);
  await gone(four);
});

test('an address leads to its next container at once, while the last one is still ending', async () => {
  const first = await on('bridge');
  const [{ address }] = first.endpoints;
  await first.place.serve('first', 80); // keeps its namespace, and so its port of the bridge
  assert.equal((await host.get(address, 80))[0].name, 'first');
  await host.call('detach', first.id);
  const second = await on('bridge');
  assert.equal(second.endpoints[0].address, address);
  await second.place.serve('second', 80);
  assert.equal((await host.get(address, 80))[0].name, 'second');
  await gone(first, second);
});

test('a bridge that somebody deleted is made again with its containers on it', async () => {
  const [one, two] = [await on('bridge'), await on('bridge')];
  const inside = `--net=${host.execRoot}/netns/gateway`;
  const shown = await host.run('nsenter', inside, 'ip', '-o', 'link', 'show', 'type', 'bridge');
  for (const [, link] of shown.matchAll(/^\d+: ([^:@]+)/gm)) {
    await host.run('nsenter', inside, 'ip', 'link', 'del', link);
  }
  assert.match(((await host.call('reconcile')) as string[]).join(), /bridge made again/);
  await one.place.ping(two.endpoints[0].address);
  assert.equal((await one.place.get('192.168.50.100', 7000))[0].name, 'outside');
  await gone(one, two);
});
