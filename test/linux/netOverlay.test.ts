/**
 * An overlay network over three hosts with real traffic: pings, TCP, virtual addresses, endpoints
 * that move, networks that go.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { OverlayState } from '../../runtime/net/types.ts';
import { attachRequest, type Place, Underlay } from '../support/netns.ts';

let underlay: Underlay;
const places: Place[] = [];

function overlayState(changes: Partial<OverlayState> = {}): OverlayState {
  return {
    networkId: 'net1',
    name: 'appnet',
    vni: 4097,
    subnet: '10.20.0.0/24',
    gateway: '10.20.0.1',
    internal: false,
    mtu: 0,
    version: 1,
    peers: underlay.peers,
    endpoints: underlay.hosts.map((host, at) => ({
      id: `ep${at}`,
      address: `10.20.0.${11 + at}`,
      hostIndex: host.self.hostIndex,
    })),
    services: [
      {
        serviceId: 'svc1',
        virtualAddress: '10.20.0.100',
        backends: ['10.20.0.11', '10.20.0.12', '10.20.0.13'],
      },
      { serviceId: 'svc2', virtualAddress: '10.20.0.101', backends: [] },
    ],
    names: [],
    ...changes,
  };
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

test('a virtual address reaches every backend, with the client address, also from a backend', async () => {
  for (const [at, place] of places.entries()) {
    const answers = await place.get('10.20.0.100', 8080, 24);
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
