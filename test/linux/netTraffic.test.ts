/**
 * Connections that live through changes, bulk transfers over tunnels of a smaller MTU, UDP, and
 * hosts with large indexes: two hosts, an overlay and published ports.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { IngressState, OverlayState } from '../../runtime/net/types.ts';
import { attachRequest, type Place, Underlay, VXLAN_PORT } from '../support/netns.ts';

const FIRST_INDEX = 300;
const VIRTUAL = '10.30.0.100';
const PORT = 80;

let underlay: Underlay;
const tasks: { place: Place; gatewayAddress: string; hostIndex: number; address: string }[] = [];

function overlayState(version: number, backends: readonly string[]): OverlayState {
  return {
    networkId: 'wide',
    name: 'wide',
    vni: 5000,
    subnet: '10.30.0.0/24',
    gateway: '10.30.0.1',
    internal: false,
    mtu: 1400,
    version,
    peers: underlay.peers,
    endpoints: underlay.hosts.map((host, at) => ({
      id: `e${at}`,
      address: `10.30.0.${11 + at}`,
      hostIndex: host.self.hostIndex,
    })),
    services: [{ serviceId: 's', virtualAddress: VIRTUAL, backends }],
    names: [],
  };
}

function ingressState(version: number, backends: typeof tasks): IngressState {
  const port = (protocol: 'tcp' | 'udp', publishedPort: number, targetPort: number) => ({
    protocol,
    publishedPort,
    serviceId: 's',
    backends: backends.map(({ gatewayAddress, hostIndex }) => ({
      gatewayAddress,
      hostIndex,
      targetPort,
    })),
  });
  const ports = [port('tcp', 8080, PORT), port('udp', 8080, PORT), port('tcp', 8090, 90)];
  return { version, peers: underlay.peers, ports: [...ports, port('tcp', 8091, 91)] };
}

const everyone = (): string[] => tasks.map((task) => task.address);

before(async () => {
  underlay = await Underlay.create(2, FIRST_INDEX);
  for (const [at, host] of underlay.hosts.entries()) {
    await host.applyOverlay(overlayState(1, []));
    const address = `10.30.0.${11 + at}`;
    const overlays = [{ networkId: 'wide', endpointId: `e${at}`, address, aliases: ['friend'] }];
    const { place, attachment } = await host.attach(attachRequest({ overlays, gateway: true }));
    const { gatewayAddress } = attachment;
    tasks.push({ place, gatewayAddress, hostIndex: host.self.hostIndex, address });
    await place.serve(`t${at}`, PORT);
    await place.patient(`t${at}`, 90);
    await place.bulk(91);
  }
  for (const host of underlay.hosts) {
    await host.applyOverlay(overlayState(2, everyone()));
    await host.applyIngress(ingressState(1, tasks));
  }
});

after(() => underlay?.close());

test('hosts with an index above 255 reach each other and publish alike', async () => {
  assert.match(tasks[0].gatewayAddress, /^240\.18\.192\./);
  await tasks[0].place.ping(tasks[1].address);
  await tasks[1].place.ping(tasks[0].address);
  for (const host of underlay.hosts) {
    const answers = await underlay.client.get(host.address, 8080, 24);
    assert.deepEqual([...new Set(answers.map((answer) => answer.name))].sort(), ['t0', 't1']);
    for (const answer of answers) assert.equal(answer.client, '192.168.50.100');
  }
});

test('UDP is balanced by virtual address and published port, with the client address', async () => {
  const inside = await tasks[0].place.getUdp(VIRTUAL, PORT, 24);
  assert.deepEqual([...new Set(inside.map((answer) => answer.name))].sort(), ['t0', 't1']);
  for (const host of underlay.hosts) {
    const answers = await underlay.client.getUdp(host.address, 8080, 24);
    assert.deepEqual([...new Set(answers.map((answer) => answer.name))].sort(), ['t0', 't1']);
    for (const answer of answers) assert.equal(answer.client, '192.168.50.100');
  }
});

test('megabytes pass in both directions through another host and over the overlay', async () => {
  const [first, second] = underlay.hosts;
  for (const backend of tasks) {
    await first.applyIngress(ingressState(2, [backend]));
    await second.applyIngress(ingressState(2, [backend]));
    for (const host of underlay.hosts) {
      assert.ok(await underlay.client.exchange(host.address, 8091));
    }
  }
  assert.ok(await tasks[0].place.exchange(tasks[1].address, 91));
  const link = await tasks[0].place.run('ip', '-o', 'link', 'show', 'eth0');
  assert.match(link, /mtu 1400 /);
  for (const host of underlay.hosts) await host.applyIngress(ingressState(3, tasks));
});

test('a drained task finishes its published connections and gets no new ones', async () => {
  for (const [at, host] of underlay.hosts.entries()) {
    const held = [];
    while (new Set(held.map((connection) => connection.name)).size < 2) {
      held.push(await underlay.client.hold(host.address, 8090));
      assert.ok(held.length < 50);
    }
    for (const each of underlay.hosts)
      await each.applyIngress(ingressState(10 * at + 10, [tasks[0]]));
    assert.equal((await underlay.client.hold(host.address, 8090)).name, 't0');
    for (const each of underlay.hosts) await each.applyIngress(ingressState(10 * at + 11, []));
    assert.deepEqual(await underlay.client.get(host.address, 8090), [{ error: 'ECONNREFUSED' }]);
    for (const connection of held) assert.equal(await connection.finish(), 'done');
    for (const each of underlay.hosts) await each.applyIngress(ingressState(10 * at + 12, tasks));
  }
});

test('a drained task finishes the connections through its virtual address too', async () => {
  const held = [];
  while (new Set(held.map((connection) => connection.name)).size < 2) {
    held.push(await tasks[0].place.hold(VIRTUAL, 90));
    assert.ok(held.length < 50);
  }
  for (const host of underlay.hosts) {
    await host.applyOverlay(overlayState(3, [tasks[1].address]));
  }
  assert.equal((await tasks[0].place.hold(VIRTUAL, 90)).name, 't1');
  for (const host of underlay.hosts) await host.applyOverlay(overlayState(4, []));
  for (const connection of held) assert.equal(await connection.finish(), 'done');
  for (const host of underlay.hosts) await host.applyOverlay(overlayState(5, everyone()));
});

test('a connection lives through the death and the restart of both daemons', async () => {
  const [host] = underlay.hosts;
  const held = [];
  while (new Set(held.map((connection) => connection.name)).size < 2) {
    held.push(await underlay.client.hold(host.address, 8090));
    assert.ok(held.length < 50);
  }
  for (const each of underlay.hosts) await each.kill();
  for (const each of underlay.hosts) await each.start(undefined);
  for (const each of underlay.hosts) await each.applyIngress(ingressState(1, tasks));
  for (const each of underlay.hosts) await each.applyOverlay(overlayState(1, everyone()));
  for (const connection of held) assert.equal(await connection.finish(), 'done');
  assert.equal((await tasks[0].place.get(VIRTUAL, PORT, 8)).length, 8);
});

test('an alias that the network does not know is answered with the containers here', async () => {
  assert.deepEqual(await tasks[1].place.resolve('friend'), { answers: ['10.30.0.12'] });
});

test('namespaces without a record go at start, records without a namespace too', async () => {
  const [host] = underlay.hosts;
  const lost = await host.attach(attachRequest({ defaultBridge: true }));
  const gone = await host.attach(attachRequest({ defaultBridge: true }));
  await host.kill();
  const records = `${host.execRoot}/network/attachments`;
  await host.run('rm', `${records}/${lost.attachment.containerId}.json`);
  await host.run('umount', gone.attachment.namespacePath);
  await host.run('sh', '-c', `echo '{"format":' > ${records}/torn.json`);
  await host.start(undefined);
  assert.equal(((await host.call('attachments')) as unknown[]).length, 1);
  const names = (await host.run('ls', `${host.execRoot}/netns`)).trim().split('\n');
  assert.equal(names.length, 3, names.join());
});

test('a second daemon in the same network namespace is refused by name', async () => {
  const [host] = underlay.hosts;
  const options = { dataRoot: '/x', self: undefined, vxlanPort: VXLAN_PORT };
  const other = { ...options, execRoot: `${host.execRoot}-other` };
  await assert.rejects(host.call('open', other), /another daemon \(--exec-root .*\) manages/);
  await tasks[1].place.ping(tasks[0].address);
});

test('a state with a host without index is refused and changes nothing', async () => {
  const [host] = underlay.hosts;
  const peers = [...underlay.peers, { hostIndex: 0, address: '192.168.50.99' }];
  const state = { ...overlayState(99, everyone()), peers };
  await assert.rejects(host.applyOverlay(state), /192\.168\.50\.99 has no valid index/);
  await tasks[0].place.ping(tasks[1].address);
});

test('removing the host network leaves no interface, table, namespace or record', async () => {
  const [host] = underlay.hosts;
  await host.call('removeAll', {
    execRoot: host.execRoot,
    dataRoot: host.execRoot,
    self: undefined,
    vxlanPort: VXLAN_PORT,
  });
  const links = await host.run('ip', '-o', 'link');
  assert.deepEqual([...links.matchAll(/^\d+: ([^:@]+)/gm)].map((match) => match[1]).sort(), [
    'eth0',
    'lo',
  ]);
  assert.equal(await host.run('nft', 'list', 'ruleset'), '');
  assert.equal(
    await host.run('sh', '-c', `ls ${host.execRoot}; grep -c ${host.execRoot} /proc/mounts || :`),
    '0\n',
  );
});
