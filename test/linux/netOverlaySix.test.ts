/**
 * Overlay networks beyond the plain case, over two hosts with real traffic: IPv6, internal ones,
 * containers that come while they run, UDP that moves on, published ports of one address.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type {
  AttachRequest,
  Endpoint,
  IngressPort,
  OverlayState,
} from '../../runtime/net/types.ts';
import { attachRequest, endpointRequest, type Place, Underlay } from '../support/netns.ts';

let underlay: Underlay;
let version = 1;
const six: Place[] = [];

function overlayState(networkId: string, changes: Partial<OverlayState>): OverlayState {
  version += 1;
  const base = { networkId, name: networkId, vni: 7000, internal: false, mtu: 0, version };
  const rest = { endpoints: [], services: [], names: [], subnet: '10.40.0.0/24' };
  return { ...base, ...rest, gateway: '10.40.0.1', peers: underlay.peers, ...changes };
}

function sixState(backends: readonly number[]): OverlayState {
  return overlayState('six', {
    subnet6: 'fd40::/64',
    gateway6: 'fd40::1',
    endpoints: underlay.hosts.map((host, at) => ({
      id: `s${at}`,
      address: `10.40.0.${11 + at}`,
      address6: `fd40::${11 + at}`,
      hostIndex: host.self.hostIndex,
    })),
    services: [
      {
        serviceId: 'web',
        virtualAddress: '10.40.0.100',
        backends: backends.map((at) => `10.40.0.${11 + at}`),
        virtualAddress6: 'fd40::100',
        backends6: backends.map((at) => `fd40::${11 + at}`),
      },
    ],
    names: [
      { name: 'web', addresses: ['10.40.0.100', 'fd40::100'] },
      { name: 'tasks.web', addresses: ['10.40.0.11', 'fd40::11', '10.40.0.12', 'fd40::12'] },
    ],
  });
}

async function applyAll(state: OverlayState): Promise<void> {
  for (const host of underlay.hosts) await host.applyOverlay(state);
}

function overlay(networkId: string, at: number): AttachRequest['overlays'][number] {
  const address = `10.40.0.${11 + at}`;
  return { networkId, endpointId: `s${at}`, address, address6: `fd40::${11 + at}`, aliases: [] };
}

before(async () => {
  underlay = await Underlay.create(2);
  await applyAll(sixState([0, 1]));
  for (const [at, host] of underlay.hosts.entries()) {
    const overlays = [{ ...overlay('six', at), macAddress: `02:00:00:00:40:0${at}` }];
    const { place } = await host.attach(attachRequest({ overlays }));
    await place.serve(`six${at}`, 80);
    six.push(place);
  }
});

after(() => underlay?.close());

test('an overlay with IPv6 carries it across hosts, the client address kept', async () => {
  await six[0].ping('fd40::12');
  await six[1].ping('fd40::11');
  await six[0].ping('fd40::1');
  assert.deepEqual(await six[0].get('fd40::12', 80), [{ name: 'six1', client: 'fd40::11' }]);
  assert.deepEqual(await six[0].get('10.40.0.12', 80), [{ name: 'six1', client: '10.40.0.11' }]);
  assert.match(await six[1].run('ip', 'link', 'show', 'eth0'), /02:00:00:00:40:01/);
});

test('a virtual IPv6 address is balanced, and names have addresses of both families', async () => {
  const answers = await six[0].get('fd40::100', 80, 24);
  assert.deepEqual([...new Set(answers.map((one) => one.name))].sort(), ['six0', 'six1']);
  assert.deepEqual(await six[0].resolve('web', 'AAAA'), { answers: ['fd40::100'] });
  assert.deepEqual(await six[0].resolve('web'), { answers: ['10.40.0.100'] });
  const tasks = await six[0].resolve('tasks.web', 'AAAA');
  assert.deepEqual(tasks.answers?.sort(), ['fd40::11', 'fd40::12']);
  assert.deepEqual(await underlay.hosts[0].call('reconcile'), []);
});

test('IPv6 of an overlay outlives the daemon and what others take is mended', async () => {
  const [host] = underlay.hosts;
  await host.kill();
  await six[0].ping('fd40::12');
  await host.start();
  assert.deepEqual(await host.call('reconcile'), []);
  const inside = `--net=${host.execRoot}/netns/ov-six`;
  await host.run('nsenter', inside, 'ip', '-6', 'route', 'del', 'fd40::12');
  await host.run('nsenter', inside, 'nft', 'flush', 'ruleset');
  assert.match(((await host.call('reconcile')) as string[]).join(), /add route fd40::12/);
  await six[0].ping('fd40::12');
  assert.equal((await six[0].get('fd40::100', 80))[0].error, undefined);
});

test('a UDP client that keeps its port goes on to another task when its task leaves', async () => {
  await applyAll(sixState([0]));
  const ask = (): Promise<string> =>
    six[1].run(process.execPath, '-e', ASK).then((text) => text.trim());
  assert.equal(await ask(), 'six0');
  await applyAll(sixState([1]));
  assert.equal(await ask(), 'six1');
});

/** One question from UDP port 5555: always the same flow for connection tracking. */
const ASK = `
const socket = require('dgram').createSocket('udp4');
socket.bind(5555, () => socket.send('?', 80, '10.40.0.100'));
socket.on('message', (text) => { console.log(JSON.parse(text).name); process.exit(0); });
setTimeout(() => { console.log('nothing'); process.exit(0); }, 10000);
`;

test('an internal overlay has no way out, not even beside a published port', async () => {
  const subnet = { subnet: '10.41.0.0/24', gateway: '10.41.0.1', vni: 7001, internal: true };
  await applyAll(
    overlayState('inner', {
      ...subnet,
      endpoints: underlay.hosts.map((host, at) => ({
        id: `i${at}`,
        address: `10.41.0.${11 + at}`,
        hostIndex: host.self.hostIndex,
      })),
      names: [{ name: 'peer', addresses: ['10.41.0.12'] }],
    }),
  );
  const made = [];
  for (const [at, host] of underlay.hosts.entries()) {
    const address = `10.41.0.${11 + at}`;
    const overlays = [{ networkId: 'inner', endpointId: `i${at}`, address, aliases: [] }];
    made.push(await host.attach(attachRequest({ overlays, gateway: at === 0 })));
  }
  const [published, plain] = made;
  const [host, other] = underlay.hosts;
  await published.place.ping('10.41.0.12');
  assert.deepEqual(await plain.place.resolve('peer'), { answers: ['10.41.0.12'] });
  await underlay.client.serve('outside', 7000);
  for (const { place } of made) {
    for (const address of [underlay.client.address, host.address, '10.254.1.1']) {
      const [{ error }] = await place.get(address, 7000);
      assert.ok(error === 'timeout' || error === 'ENETUNREACH', `${address}: ${error}`);
    }
    assert.ok((await place.resolve('outside.example')).error !== undefined);
  }
  await published.place.serve('inner', 80);
  const { gatewayAddress } = published.attachment;
  const backends = [{ gatewayAddress, targetPort: 80, hostIndex: host.self.hostIndex }];
  await publish([{ protocol: 'tcp', publishedPort: 8080, serviceId: 'inner', backends }]);
  for (const { address } of [host, other]) {
    const [answer] = await underlay.client.get(address, 8080);
    assert.deepEqual(answer, { name: 'inner', client: underlay.client.address });
  }
});

async function publish(ports: readonly IngressPort[]): Promise<void> {
  version += 1;
  for (const host of underlay.hosts) {
    await host.applyIngress({ version, peers: underlay.peers, ports });
  }
}

test('a service port answers on every host at 127.0.0.1 by UDP; one address only if asked', async () => {
  const [host, other] = underlay.hosts;
  const { place, attachment } = await other.attach(attachRequest({ gateway: true }));
  await place.serve('far', 80);
  const { gatewayAddress } = attachment;
  const backends = [{ gatewayAddress, targetPort: 80, hostIndex: other.self.hostIndex }];
  const shared = { serviceId: 'far', backends };
  await publish([
    { ...shared, protocol: 'udp', publishedPort: 5353 },
    { ...shared, protocol: 'tcp', publishedPort: 8088, hostAddress: host.address },
    { ...shared, protocol: 'tcp', publishedPort: 8089, hostAddress: host.address, backends: [] },
  ]);
  for (const one of underlay.hosts) {
    for (const address of ['127.0.0.1', host.address, other.address]) {
      assert.equal((await one.getUdp(address, 5353))[0].name, 'far', `${one.address} ${address}`);
    }
  }
  assert.equal((await six[0].get('127.0.0.1', 5353))[0].error, 'ECONNREFUSED');
  const kept = { name: 'far', client: underlay.client.address };
  assert.deepEqual(await underlay.client.get(host.address, 8088), [kept]);
  assert.equal((await host.get(host.address, 8088))[0].name, 'far');
  for (const refused of [
    await underlay.client.get(other.address, 8088),
    await host.get('127.0.0.1', 8088),
    await underlay.client.get(host.address, 8089),
  ]) {
    assert.deepEqual(refused, [{ error: 'ECONNREFUSED' }]);
  }
});

test('a standalone container joins an overlay while it runs, and leaves it', async () => {
  const [host] = underlay.hosts;
  const request = attachRequest({ name: 'guest', bridges: [endpointRequest()] });
  const { place } = await host.attach(request);
  const wanted = endpointRequest({
    networkId: 'six',
    endpointId: 'guest',
    address: '10.40.0.50',
    address6: 'fd40::50',
    aliases: ['visitor'],
  });
  const made = (await host.call('connect', [request.containerId, wanted])) as Endpoint;
  assert.equal(made.address, '10.40.0.50');
  assert.equal(made.prefixLength, 24);
  assert.deepEqual(await place.get('10.40.0.11', 80), [{ name: 'six0', client: '10.40.0.50' }]);
  await six[0].ping('fd40::50');
  assert.deepEqual(await six[0].resolve('visitor'), { answers: ['10.40.0.50'] });
  await host.call('disconnect', [request.containerId, 'six']);
  await assert.rejects(six[0].run('ping', '-c', '1', '-W', '1', '10.40.0.50'));
  assert.equal((await place.get(underlay.client.address, 7000))[0].name, 'outside');
  await host.call('detach', request.containerId);
});
