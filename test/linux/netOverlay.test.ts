/**
 * An overlay network over three hosts with real traffic: pings, TCP, virtual addresses, endpoints
 * that move, networks that go.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { OverlayState } from '../../runtime/net/types.ts';
import { attachRequest, overlayOf, type Place, Underlay } from '../support/netns.ts';

let underlay: Underlay;
const places: Place[] = [];

function overlayState(changes: Partial<OverlayState> = {}): OverlayState {
  const services = [
    {
      serviceId: 'svc1',
      virtualAddress: '10.20.0.100',
      backends: ['10.20.0.11', '10.20.0.12', '10.20.0.13'],
    },
    { serviceId: 'svc2', virtualAddress: '10.20.0.101', backends: [] },
  ];
  return overlayOf(underlay, { services, ...changes });
}

before(async () => {
  underlay = await Underlay.create(3);
  for (const [at, host] of underlay.hosts.entries()) {
    await host.applyOverlay(overlayState());
    const overlays = [
      { networkId: 'net1', endpointId: `ep${at}`, address: `10.20.0.${11 + at}`, aliases: [] },
    ];
    const { place } = await host.attach(attachRequest({ overlays, gateway: true }));
    places.push(place);
  }
});

after(() => underlay?.close());

test('every container reaches every other by ping, on its own host and across hosts', async () => {
  for (const place of places) {
    for (let at = 0; at < places.length; at += 1) await place.ping(`10.20.0.${11 + at}`);
  }
});

test('a TCP connection across hosts keeps the client address', async () => {
  for (const [at, place] of places.entries()) await place.serve(`task${at}`, 8080);
  const [answer] = await places[0].get('10.20.0.13', 8080);
  assert.deepEqual(answer, { name: 'task2', client: '10.20.0.11' });
});

test('a virtual address reaches every backend and itself, the client address kept', async () => {
  for (const [at, place] of places.entries()) {
    const answers = await place.get('10.20.0.100', 8080, 40);
    const names = new Set(answers.map((answer) => answer.name));
    assert.deepEqual([...names].sort(), ['task0', 'task1', 'task2']);
    for (const answer of answers) {
      const own = answer.name === `task${at}`;
      assert.equal(answer.client, own ? '10.20.0.100' : `10.20.0.${11 + at}`);
    }
  }
});

test('a virtual address answers ping, and one without backends refuses at once', async () => {
  await places[0].ping('10.20.0.100');
  const [answer] = await places[0].get('10.20.0.101', 8080);
  assert.deepEqual(answer, { error: 'ECONNREFUSED' });
});

test('an endpoint that moves to another host is followed by its address', async () => {
  const [first, second, third] = underlay.hosts;
  const overlay = { networkId: 'net1', endpointId: 'moving', address: '10.20.0.50', aliases: [] };
  const moving = (hostIndex: number) => ({ id: 'moving', address: '10.20.0.50', hostIndex });
  const tell = async (version: number, hostIndex: number): Promise<void> => {
    const base = overlayState({ version });
    const endpoints = [...base.endpoints, moving(hostIndex)];
    for (const host of underlay.hosts) await host.applyOverlay({ ...base, endpoints });
  };
  await tell(2, second.self.hostIndex);
  const here = await second.attach(attachRequest({ overlays: [overlay] }));
  await here.place.serve('before', 9000);
  assert.equal((await places[0].get('10.20.0.50', 9000))[0].name, 'before');
  assert.equal((await places[1].get('10.20.0.50', 9000))[0].name, 'before');
  await tell(3, third.self.hostIndex);
  const there = await third.attach(attachRequest({ overlays: [overlay] }));
  await there.place.serve('after', 9000);
  for (const place of places) {
    assert.equal((await place.get('10.20.0.50', 9000))[0].name, 'after');
  }
  here.place.stop();
  await second.call('detach', here.attachment.containerId);
  assert.equal((await places[1].get('10.20.0.50', 9000))[0].name, 'after');
  await first.applyOverlay(overlayState({ version: 1 }));
  assert.equal((await places[0].get('10.20.0.50', 9000))[0].name, 'after', 'old states are left');
  there.place.stop();
  await third.call('detach', there.attachment.containerId);
});

test('only a container with a gateway has a default route', async () => {
  const [host] = underlay.hosts;
  const overlay = { networkId: 'net1', endpointId: 'inner', address: '10.20.0.60', aliases: [] };
  const { place, attachment } = await host.attach(attachRequest({ overlays: [overlay] }));
  assert.equal(attachment.gatewayAddress, '');
  assert.equal(await place.run('ip', 'route', 'show', 'default'), '');
  assert.match(await places[0].run('ip', 'route', 'show', 'default'), /via 10\.254\.1\.1 dev eth1/);
  assert.match(await place.run('ip', '-o', 'link', 'show', 'eth0'), /mtu 1450 /);
  await host.call('detach', attachment.containerId);
});

test('a packet too big for the tunnel is answered, not lost', async () => {
  await assert.rejects(
    places[0].run('ping', '-c', '1', '-W', '1', '-M', 'do', '-s', '1423', '10.20.0.13'),
    /too long/,
  );
  await places[0].run('ping', '-c', '1', '-W', '2', '-M', 'do', '-s', '1422', '10.20.0.13');
});

test('reconcile mends a flushed table, a deleted route, neighbour and tunnel', async () => {
  const [host] = underlay.hosts;
  assert.deepEqual(await host.call('reconcile'), []);
  const path = `/proc/${host.holder.pid}/root${host.execRoot}/netns/ov-net1`;
  const inside = (...words: string[]): Promise<string> =>
    host.run('nsenter', `--net=${path}`, ...words);
  await inside('nft', 'flush', 'table', 'ip', 'tsswarm');
  await inside('ip', 'route', 'del', '10.20.0.13/32');
  await inside('ip', 'neigh', 'flush', 'dev', 'vx0', 'nud', 'permanent');
  const mended = (await host.call('reconcile')) as string[];
  assert.equal(mended.length, 2, mended.join('; '));
  await places[0].ping('10.20.0.13');
  await places[0].ping('10.20.0.12');
  assert.equal((await places[0].get('10.20.0.100', 8080, 3)).filter((a) => a.name).length, 3);
  await inside('ip', 'link', 'del', 'vx0');
  assert.match(((await host.call('reconcile')) as string[]).join(), /tunnel device made again/);
  await places[0].ping('10.20.0.13');
  assert.deepEqual(await host.call('reconcile'), []);
});

test('the interface of a container whose namespace somebody keeps is swept', async () => {
  const [host] = underlay.hosts;
  const overlay = { networkId: 'net1', endpointId: 'kept', address: '10.20.0.70', aliases: [] };
  const kept = await host.attach(attachRequest({ overlays: [overlay] }));
  await kept.place.serve('kept', 80);
  assert.equal((await places[0].get('10.20.0.70', 80))[0].name, 'kept');
  await host.call('detach', kept.attachment.containerId);
  const [answer] = await places[0].get('10.20.0.70', 80);
  assert.notEqual(answer.error, undefined);
  assert.deepEqual(await host.call('reconcile'), []);
  assert.match(((await host.call('reconcile')) as string[]).join(), /1 interface\(s\) without/);
  assert.deepEqual(await host.call('reconcile'), []);
  kept.place.stop();
});

test('a table that somebody deletes between two of our changes is noticed', async () => {
  const [host] = underlay.hosts;
  const path = `/proc/${host.holder.pid}/root${host.execRoot}/netns/ov-net1`;
  await host.run('nsenter', `--net=${path}`, 'nft', 'delete', 'table', 'ip', 'tsswarm');
  assert.match(((await host.call('reconcile')) as string[]).join(), /table restored/);
  await host.run('nsenter', `--net=${path}`, 'nft', 'add', 'table', 'ip', 'foreign');
  assert.deepEqual(await host.call('reconcile'), []);
  assert.match(await host.run('nsenter', `--net=${path}`, 'nft', 'list', 'tables'), /foreign/);
});

test('the network goes on after the daemon was killed, and again under the next one', async () => {
  const [host] = underlay.hosts;
  await host.kill();
  await places[2].ping('10.20.0.11');
  await host.start(undefined);
  const adopted = (await host.call('attachments')) as { containerId: string }[];
  assert.equal(adopted.length, 1);
  assert.deepEqual(await host.call('reconcile'), []);
  await places[2].ping('10.20.0.11');
  assert.equal((await places[0].get('10.20.0.13', 8080))[0].name, 'task2');
});

test('a network with containers is not removed; without them nothing of it is left', async () => {
  const [host] = underlay.hosts;
  await assert.rejects(host.call('removeOverlay', 'net1'), /still has 1 container/);
  for (const place of places) place.stop();
  for (const each of underlay.hosts) {
    for (const { containerId } of (await each.call('attachments')) as { containerId: string }[]) {
      await each.call('detach', containerId);
      await each.call('detach', containerId);
    }
    await each.call('removeOverlay', 'net1');
    assert.deepEqual((await each.run('ls', `${each.execRoot}/netns`)).trim(), 'gateway');
    assert.deepEqual((await each.run('ls', `${each.execRoot}/network/files`)).trim(), '');
    assert.deepEqual((await each.run('ls', `${each.execRoot}/network/overlays`)).trim(), '');
    assert.deepEqual((await each.run('ls', `${each.execRoot}/network/attachments`)).trim(), '');
    await each.applyOverlay(overlayState());
    await each.call('removeOverlay', 'net1');
  }
});

test('a host that leaves has no overlay left, though a container on it runs on', async () => {
  const [host] = underlay.hosts;
  await host.applyOverlay(overlayState());
  const overlays = [{ networkId: 'net1', endpointId: 'stays', address: '10.20.0.30', aliases: [] }];
  const { place } = await host.attach(attachRequest({ overlays, gateway: true }));
  await host.call('setSelf', undefined);
  const [{ containerId }] = (await host.call('attachments')) as { containerId: string }[];
  assert.deepEqual(await host.call('endpoints', containerId), []);
  assert.deepEqual((await host.run('ls', `${host.execRoot}/network/overlays`)).trim(), '');
  await place.ping('127.0.0.1');
  await host.call('setSelf', host.self);
  // The same VXLAN identifier, for another network.
  await host.applyOverlay(overlayState({ networkId: 'net2' }));
  place.stop();
  await host.call('detach', containerId);
  await host.call('removeOverlay', 'net2');
});
