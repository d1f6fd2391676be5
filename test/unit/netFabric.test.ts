/** Differences of forwarding states and what an overlay or gateway shall look like. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffFabric, EMPTY_FABRIC, type Fabric } from '../../runtime/net/fabric.ts';
import { hostTables } from '../../runtime/net/hostTable.ts';
import { gatewayFabric, gatewayTables, hostFabric } from '../../runtime/net/ingress.ts';
import { linkName, overlayFabric } from '../../runtime/net/overlay.ts';
import type { BridgeNetwork, IngressState, OverlayState } from '../../runtime/net/types.ts';

const peers = [
  { hostIndex: 1, address: '192.0.2.1' },
  { hostIndex: 2, address: '192.0.2.2' },
  { hostIndex: 3, address: '192.0.2.3' },
];
const [self] = peers;

const local4 = { address6: '', macAddress: '02:42:0a:00:01:0b' };

const state: OverlayState = {
  networkId: 'n1',
  name: 'app',
  vni: 4096,
  subnet: '10.0.1.0/24',
  gateway: '10.0.1.1',
  internal: false,
  mtu: 0,
  version: 1,
  peers,
  endpoints: [
    { id: 'a', address: '10.0.1.11', hostIndex: 1 },
    { id: 'b', address: '10.0.1.12', hostIndex: 2 },
    { id: 'c', address: '10.0.1.13', hostIndex: 9 },
  ],
  services: [{ serviceId: 's', virtualAddress: '10.0.1.100', backends: [] }],
  names: [],
};

const links = new Map([
  ['lo', 1],
  ['vx0', 2],
  ['va', 3],
  ['vb', 4],
]);

function said(before: Fabric, after: Fabric): string[] {
  return diffFabric(before, after, links).map((message) => message.what);
}

function gatewaysOf(fabric: Fabric): Record<string, string> {
  return Object.fromEntries(
    [...fabric.routes.values()].map((route) => [
      `${route.destination}${route.mark === 0 ? '' : ` mark ${route.mark}`}`,
      `${route.gateway} ${route.link}`.trim(),
    ]),
  );
}

test('equal states need no message', () => {
  const fabric = overlayFabric(state, self, []);
  assert.deepEqual(said(fabric, overlayFabric(state, self, [])), []);
  assert.deepEqual(said(EMPTY_FABRIC, EMPTY_FABRIC), []);
});

test('an endpoint elsewhere is a route by its host, one here by its interface', () => {
  const local = [{ id: 'a', address: '10.0.1.11', link: 'va', ...local4 }];
  assert.deepEqual(gatewaysOf(overlayFabric(state, self, local)), {
    '10.0.1.11/32': 'va',
    '10.0.1.12/32': '169.254.0.2 vx0',
  });
});

test('an endpoint on a host that is no peer has no route', () => {
  assert.ok(!overlayFabric(state, self, []).routes.has('10.0.1.13/32 0'));
});

test('a local endpoint that the state puts elsewhere has moved', () => {
  const local = [{ id: 'b', address: '10.0.1.12', link: 'vb', ...local4 }];
  const moved = gatewaysOf(overlayFabric(state, self, local));
  assert.equal(moved['10.0.1.12/32'], '169.254.0.2 vx0');
});

test('a local endpoint with an address that the state still gives another is kept', () => {
  const local = [{ id: 'newer', address: '10.0.1.12', link: 'vb', ...local4 }];
  assert.equal(gatewaysOf(overlayFabric(state, self, local))['10.0.1.12/32'], 'vb');
});

test('what a route needs comes before it, what it used goes after it', () => {
  const after = overlayFabric(state, self, []);
  const adding = said(EMPTY_FABRIC, after);
  const at = (what: string): number => adding.indexOf(what);
  assert.ok(at('add forwarding entry 02:74:73:00:00:02') < at('add route 10.0.1.12/32'));
  assert.ok(at('add neighbour 169.254.0.2') < at('add route 10.0.1.12/32'));
  const removing = said(after, EMPTY_FABRIC);
  assert.ok(
    removing.indexOf('delete route 10.0.1.12/32') <
      removing.indexOf('delete neighbour 169.254.0.2'),
  );
});

test('a moved endpoint is one message; another host address is one too', () => {
  const before = overlayFabric(state, self, []);
  const endpoints = state.endpoints.map((one) => ({ ...one, hostIndex: 3 }));
  const moved = { ...state, endpoints: endpoints.slice(1, 2) };
  assert.deepEqual(said(before, overlayFabric(moved, self, [])), ['add route 10.0.1.12/32']);
  const rehomed = peers.map((peer) => ({ ...peer, address: peer.address.replace('2.2', '2.22') }));
  assert.deepEqual(said(before, overlayFabric({ ...state, peers: rehomed }, self, [])), [
    'add forwarding entry 02:74:73:00:00:02',
  ]);
});

test('what belongs to an interface that is gone needs no message', () => {
  const local = [{ id: 'x', address: '10.0.1.50', link: 'vgone', ...local4 }];
  const before = overlayFabric(state, self, local);
  assert.deepEqual(said(before, overlayFabric(state, self, [])), []);
});

test('interface names fit the kernel and differ', () => {
  const names = new Set(Array.from({ length: 1000 }, (_, at) => linkName('tsg', `c${at}`)));
  assert.equal(names.size, 1000);
  for (const name of names) assert.ok(name.length <= 15);
});

const ingress: IngressState = {
  version: 1,
  peers,
  ports: [
    {
      protocol: 'tcp',
      publishedPort: 8080,
      serviceId: 's',
      backends: [
        { gatewayAddress: '10.254.2.5', targetPort: 80, hostIndex: 2 },
        { gatewayAddress: '10.254.1.5', targetPort: 80, hostIndex: 1 },
        { gatewayAddress: '10.254.9.5', targetPort: 80, hostIndex: 9 },
        // What no honest host says of itself.
        { gatewayAddress: '10.254.1.9', targetPort: 80, hostIndex: 2 },
        { gatewayAddress: '10.254.2.9; flush ruleset', targetPort: 80, hostIndex: 2 },
        { gatewayAddress: '192.0.2.1', targetPort: 80, hostIndex: 2 },
      ],
    },
    { protocol: 'tcp', publishedPort: 8081, serviceId: 't', backends: [] },
  ],
};
const network: BridgeNetwork = {
  networkId: 'b1',
  name: 'bridge',
  subnets: [{ subnet: '172.17.0.0/16', gateway: '172.17.0.1', range: '' }],
  internal: false,
  options: { 'com.docker.network.bridge.name': 'br0' },
};
const bridge = { bridges: [{ network, ports: [] }], ports: [], forwards: [] };
/** In the gateway's namespace: the bridge, and its gateway's address, which is the host's. */
const ofBridge = { '172.17.0.0/16': 'br0', '172.17.0.1/32': '192.0.0.1 up0' };
const input = { ...bridge, self, ingress };

test('a gateway routes each other host by its tunnel and its marked replies back there', () => {
  const fabric = gatewayFabric(input);
  assert.deepEqual(gatewaysOf(fabric), {
    '0.0.0.0/0': '192.0.0.1 up0',
    ...ofBridge,
    '10.254.2.0/24': '169.254.0.2 ting',
    '0.0.0.0/0 mark 2': '169.254.0.2 ting',
    '10.254.3.0/24': '169.254.0.3 ting',
    '0.0.0.0/0 mark 3': '169.254.0.3 ting',
  });
  assert.deepEqual([...fabric.marks], [2, 3]);
  assert.deepEqual(
    [...(gatewayTables(input)[0].elements.get('senders') ?? [])],
    [
      ['02:74:73:00:00:02', '2'],
      ['02:74:73:00:00:03', '3'],
    ],
  );
});

test('a host outside of a swarm has its default bridge and nothing published', () => {
  const outside = { ...bridge, self: undefined, ingress };
  assert.deepEqual(gatewaysOf(hostFabric(outside)), { '172.17.0.0/16': '192.0.0.2 tsswarm0' });
  assert.deepEqual(gatewaysOf(gatewayFabric(outside)), {
    '0.0.0.0/0': '192.0.0.1 up0',
    ...ofBridge,
  });
  assert.equal(hostTables(outside)[0].elements.get('published')?.size, 0);
});

test('the wide range of gateway subnets is routed only where a host needs it', () => {
  assert.ok(!hostFabric(input).routes.has('240.0.0.0/4 0'));
  const many = { ...ingress, peers: [...peers, { hostIndex: 300, address: '192.0.2.99' }] };
  assert.ok(hostFabric({ ...input, ingress: many }).routes.has('240.0.0.0/4 0'));
});

test('a published port is balanced over tasks of known hosts, or idle', () => {
  const [table] = hostTables(input);
  assert.deepEqual(table.chains.get('port_tcp_8080'), [
    'meta l4proto tcp dnat to numgen random mod 2 map ' +
      '{ 0 : 10.254.1.5 . 80, 1 : 10.254.2.5 . 80 }',
  ]);
  assert.deepEqual(
    [...(table.elements.get('published') ?? [])],
    [['tcp . 8080', 'jump port_tcp_8080']],
  );
  assert.deepEqual([...(table.elements.get('idle')?.keys() ?? [])], ['tcp . 8081']);
});
