/**
 * Connections whose way is kept by connection tracking: those that begin while a host is gone and
 * nobody knows yet, those that were open to it, those whose client uses one port twice.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Flows } from '../../runtime/net/flows.ts';
import type { IngressState, OverlayState } from '../../runtime/net/types.ts';
import { NetlinkSocket } from '../../runtime/sys/netlink.ts';
import { NamespaceDoor } from '../../runtime/sys/netns.ts';
import {
  attachRequest,
  type HeldConnection,
  overlayOf,
  type Place,
  Underlay,
} from '../support/netns.ts';
import { until } from '../support/until.ts';

const WAIT_MS = 60_000;
const NETWORK = 'net1';
const SERVICE = '10.20.0.100';
const CLIENT_PORT = 23_456;

let underlay: Underlay;
let version = 0;
const tasks: { place: Place; gatewayAddress: string; hostIndex: number; address: string }[] = [];

/** Ports 8080 (answers at once) and 8081 (answers what is said) lead to these tasks. */
function ingressTo(backends: typeof tasks): IngressState {
  const port = (publishedPort: number, targetPort: number) => ({
    protocol: 'tcp' as const,
    publishedPort,
    serviceId: `svc${publishedPort}`,
    backends: backends.map((task) => ({ ...task, targetPort })),
  });
  return { version, peers: underlay.peers, ports: [port(8080, 80), port(8081, 81)] };
}

function overlayTo(backends: typeof tasks): OverlayState {
  const addresses = backends.map(({ address }) => address);
  const service = { serviceId: 'svc', virtualAddress: SERVICE, backends: addresses };
  return overlayOf(underlay, { version, services: [service] });
}

/** What the managers say then. Hosts that are cut off do not hear it. */
async function serveFrom(backends: typeof tasks, hosts = underlay.hosts): Promise<void> {
  version += 1;
  for (const host of hosts) {
    await host.applyOverlay(overlayTo(backends));
    await host.applyIngress(ingressTo(backends));
  }
}

before(async () => {
  underlay = await Underlay.create(3, 255); // on both sides of a byte's end
  for (const host of underlay.hosts) await host.applyOverlay(overlayTo([]));
  for (const [at, host] of underlay.hosts.entries()) {
    const address = `10.20.0.${11 + at}`;
    const overlays = [{ networkId: NETWORK, endpointId: `ep${at}`, address, aliases: [] }];
    const { place, attachment } = await host.attach(attachRequest({ overlays, gateway: true }));
    await place.serve(`t${at}`, 80);
    await place.patient(`t${at}`, 81);
    const { gatewayAddress } = attachment;
    tasks.push({ place, gatewayAddress, hostIndex: host.self.hostIndex, address });
  }
});

after(() => underlay?.close());

async function lost(at: number, meanwhile: () => Promise<void>): Promise<void> {
  const host = underlay.hosts[at];
  await host.run('ip', 'link', 'set', 'eth0', 'down');
  try {
    await meanwhile();
  } finally {
    await host.run('ip', 'link', 'set', 'eth0', 'up');
  }
}

/** There is a connection that nobody has answered yet. */
function begun(place: Place): Promise<boolean> {
  return until('a connection has begun', WAIT_MS, async () => {
    const lines = await place.run('ss', '-Htn', 'state', 'syn-sent');
    return lines.trim() === '' ? undefined : true;
  });
}

test('a client may use one port for two hosts that lead to the same task', async () => {
  await serveFrom([tasks[0]]);
  const held: HeldConnection[] = [];
  for (const [at, host] of underlay.hosts.entries()) {
    held.push(await underlay.client.hold(host.address, 8081, CLIENT_PORT));
    const other = underlay.hosts[(at + 1) % underlay.hosts.length];
    const answer = await underlay.client.getFrom(CLIENT_PORT + 1, other.address, 8080);
    assert.deepEqual(answer, { name: 't0', client: underlay.client.address });
  }
  for (const { name, finish } of held) {
    assert.equal(name, 't0');
    assert.equal(await finish(), 'done');
  }
});

test('a connection begun to a lost host goes on to another when the loss is known', async () => {
  await serveFrom([tasks[1]]);
  await lost(1, async () => {
    const outside = underlay.client.getPatiently(underlay.hosts[0].address, 8080);
    await begun(underlay.client);
    const own = underlay.hosts[0].getPatiently('127.0.0.1', 8080);
    await begun(underlay.hosts[0]);
    const inside = tasks[0].place.getPatiently(SERVICE, 80);
    await begun(tasks[0].place);
    await serveFrom([tasks[2]], [underlay.hosts[0], underlay.hosts[2]]);
    assert.deepEqual(
      (await Promise.all([outside, own, inside])).map((answer) => answer.name ?? answer.error),
      ['t2', 't2', 't2'],
    );
  });
});

test('an open connection to a lost host is reset once its client is not heard', async () => {
  await serveFrom([tasks[1]]);
  const outside = await underlay.client.hold(underlay.hosts[0].address, 8081);
  const inside = await tasks[0].place.hold(SERVICE, 81);
  await lost(1, async () => {
    await serveFrom([tasks[2]], [underlay.hosts[0], underlay.hosts[2]]);
    const said: string[] = [];
    for (const each of [outside, inside]) void each.finish().then((words) => said.push(words));
    await until('both are told', WAIT_MS, async () => {
      await underlay.hosts[0].call('reconcile');
      return said.length === 2;
    });
    assert.deepEqual(said, ['read ECONNRESET', 'read ECONNRESET']);
  });
});

test('an open connection to a task that leaves the balance goes on, however quiet', async () => {
  await serveFrom([tasks[1]]);
  const outside = await underlay.client.hold(underlay.hosts[0].address, 8081);
  const inside = await tasks[0].place.hold(SERVICE, 81);
  await serveFrom([tasks[2]]);
  for (const { name, finish } of [outside, inside]) {
    assert.equal(name, 't1');
    assert.equal(await finish(), 'done');
  }
});

test('one look over thousands of former servers lists the connections once', (context) => {
  const dump = context.mock.method(NetlinkSocket.prototype, 'dump', () => []);
  const door = new NamespaceDoor();
  context.after(() => door.close());
  const flows = new Flows(door.home(), ({ destination }) => destination);
  const former = Array.from({ length: 4096 }, (_, at) => `10.21.${at >> 8}.${at & 255}`);
  flows.serve(new Map([[SERVICE, new Set(former)]]));
  flows.look(0);
  assert.equal(dump.mock.callCount(), 0, 'nothing is former yet');
  flows.serve(new Map([[SERVICE, new Set(['10.20.0.11'])]]));
  dump.mock.resetCalls();
  flows.look(1000);
  assert.equal(dump.mock.callCount(), 1);
  flows.look(1_000_000);
  assert.equal(dump.mock.callCount(), 1, 'none of them has connections');
});
