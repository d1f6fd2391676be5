/**
 * Published ports, the way out and the default bridge over three hosts and an outside client, with
 * real traffic.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { IngressState } from '../../runtime/net/types.ts';
import { type Answer, attachRequest, type Place, Underlay } from '../support/netns.ts';
import { until } from '../support/until.ts';

const WAIT_MS = 60_000;

let underlay: Underlay;
const tasks: { place: Place; gatewayAddress: string; hostIndex: number }[] = [];

function ingressState(version: number, backends = tasks): IngressState {
  return {
    version,
    peers: underlay.peers,
    ports: [
      {
        protocol: 'tcp',
        publishedPort: 8080,
        serviceId: 'svc1',
        backends: backends.map(({ gatewayAddress, hostIndex }) => ({
          gatewayAddress,
          hostIndex,
          targetPort: 80,
        })),
      },
      { protocol: 'tcp', publishedPort: 8081, serviceId: 'svc2', backends: [] },
    ],
  };
}

async function applyAll(state: IngressState): Promise<void> {
  for (const host of underlay.hosts) await host.applyIngress(state);
}

/** Each connection goes to any of the three: that 40 leave one out is one in four million. */
function assertAllTasks(answers: readonly Answer[], client: string | undefined): void {
  assert.deepEqual([...new Set(answers.map((answer) => answer.name))].sort(), ['t0', 't1', 't2']);
  if (client === undefined) return;
  for (const answer of answers) assert.equal(answer.client, client);
}

before(async () => {
  underlay = await Underlay.create(3);
  for (const [at, host] of underlay.hosts.entries()) {
    const { place, attachment } = await host.attach(attachRequest({ gateway: true }));
    await place.serve(`t${at}`, 80);
    const { gatewayAddress } = attachment;
    tasks.push({ place, gatewayAddress, hostIndex: host.self.hostIndex });
  }
  await applyAll(ingressState(1));
});

after(() => underlay?.close());

test('an outside client reaches every task through every host and keeps its address', async () => {
  for (const host of underlay.hosts) {
    assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  }
});

test('a host reaches a published port at 127.0.0.1, its own address and others', async () => {
  for (const host of underlay.hosts) {
    assertAllTasks(await host.get('127.0.0.1', 8080, 40), undefined);
    for (const other of underlay.hosts) {
      assertAllTasks(await host.get(other.address, 8080, 40), undefined);
    }
  }
});

test('a container reaches the published port of its own host and of another', async () => {
  for (const { place } of tasks) {
    for (const host of underlay.hosts) {
      assertAllTasks(await place.get(host.address, 8080, 40), undefined);
    }
  }
});

test('by IPv6 every host answers too, [::1] included, while somebody serves', async () => {
  const six = (at: number): string => `fd99::${at}`;
  await underlay.client.run('ip', '-6', 'addr', 'replace', 'fd99::100/64', 'dev', 'eth0', 'nodad');
  for (const [at, host] of underlay.hosts.entries()) {
    await host.run('ip', 'link', 'set', 'lo', 'up');
    await host.run('ip', '-6', 'addr', 'replace', `${six(at + 1)}/64`, 'dev', 'eth0', 'nodad');
    assertAllTasks(await underlay.client.get(six(at + 1), 8080, 40), undefined);
    assertAllTasks(await host.get('::1', 8080, 40), undefined);
    assert.deepEqual(await underlay.client.get(six(at + 1), 8081), [{ error: 'ECONNREFUSED' }]);
  }
  const [host] = underlay.hosts;
  await tasks[1].place.patient('t1', 81);
  const [port] = ingressState(0).ports;
  const to81 = port.backends.slice(1, 2).map((backend) => ({ ...backend, targetPort: 81 }));
  await host.applyIngress({ ...ingressState(1), ports: [{ ...port, backends: to81 }] });
  const held = await underlay.client.hold(six(1), 8080);
  await host.applyIngress(ingressState(1, []));
  assert.deepEqual(await underlay.client.get(six(1), 8080), [{ error: 'ECONNREFUSED' }]);
  assert.equal(await held.finish(), 'done', 'what was open goes on');
  await host.applyIngress(ingressState(1));
});

test('a port that a program of the host had is carried by IPv6 once it is free', async () => {
  const host = underlay.hosts[1];
  await host.serve('program', 8090);
  const { ports, ...state } = ingressState(1);
  const more = { ...ports[0], publishedPort: 8090, serviceId: 'svc3' };
  await host.applyIngress({ ...state, ports: [...ports, more] });
  assert.equal((await host.get('::1', 8090))[0].name, 'program');
  host.stop();
  await until('a task answers', WAIT_MS, async () => {
    await host.call('reconcile');
    return (await host.get('::1', 8090))[0].name?.startsWith('t');
  });
  await host.applyIngress(ingressState(1));
});

test('a published port without tasks refuses at once, from outside and from the host', async () => {
  const [host] = underlay.hosts;
  assert.deepEqual(await underlay.client.get(host.address, 8081), [{ error: 'ECONNREFUSED' }]);
  assert.deepEqual(await host.get('127.0.0.1', 8081), [{ error: 'ECONNREFUSED' }]);
  assert.deepEqual(await underlay.client.get(host.address, 8082), [{ error: 'ECONNREFUSED' }]);
});

test('a drained task gets no new connections', async () => {
  await applyAll(ingressState(2, tasks.slice(1)));
  const answers = await underlay.client.get(underlay.hosts[0].address, 8080, 40);
  assert.deepEqual([...new Set(answers.map((answer) => answer.name))].sort(), ['t1', 't2']);
  await applyAll(ingressState(3));
});

test('a container reaches the outside with its host address, and its own host', async () => {
  await underlay.client.serve('outside', 7000);
  for (const [at, { place }] of tasks.entries()) {
    const host = underlay.hosts[at];
    const [answer] = await place.get('192.168.50.100', 7000);
    assert.deepEqual(answer, { name: 'outside', client: host.address });
    await place.ping('192.168.50.100');
    await place.ping(host.address);
  }
});

test('containers do not reach each other through the gateway', async () => {
  const [first, second] = tasks;
  await assert.rejects(first.place.run('ping', '-c', '1', '-W', '1', second.gatewayAddress));
  const { attachment } = await underlay.hosts[0].attach(attachRequest({ gateway: true }));
  const near = attachment.gatewayAddress;
  await assert.rejects(first.place.run('ping', '-c', '1', '-W', '1', near));
  await underlay.hosts[0].call('detach', attachment.containerId);
});

test('a container cannot reach what listens on the host at 127.0.0.1 only', async () => {
  const [host] = underlay.hosts;
  const table = await host.run('nft', 'list', 'table', 'ip', 'tsswarm');
  assert.match(table, /iifname "tsswarm0" ip daddr 127\.0\.0\.0\/8 drop/);
});

test('containers on the default bridge reach each other, their host and the outside', async () => {
  const [host] = underlay.hosts;
  const one = await host.attach(attachRequest({ defaultBridge: true }));
  const two = await host.attach(attachRequest({ defaultBridge: true }));
  assert.equal(one.attachment.gatewayAddress, '');
  const address = (await two.place.run('hostname', '-I').catch(() => '')).trim();
  const text = await two.place.run('ip', '-o', '-4', 'addr', 'show', 'eth0');
  const own = /inet (172\.17\.0\.\d+)\/16/.exec(text)?.[1];
  assert.ok(own !== undefined, `${text} ${address}`);
  await one.place.ping(own);
  await one.place.ping('172.17.0.1');
  await one.place.ping(host.address);
  assert.equal((await one.place.get('192.168.50.100', 7000))[0].client, host.address);
  assertAllTasks(await one.place.get(host.address, 8080, 40), undefined);
  await two.place.serve('bridged', 80);
  assert.equal((await host.get(own, 80))[0].name, 'bridged');
  two.place.stop();
  await host.call('detach', one.attachment.containerId);
  await host.call('detach', two.attachment.containerId);
});

test('reconcile mends what somebody took from the host: table, routes, interface', async () => {
  const [host] = underlay.hosts;
  await host.run('nft', 'flush', 'ruleset');
  assert.match(((await host.call('reconcile')) as string[]).join(), /host: nftables table/);
  assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  await host.run('ip', 'route', 'del', '10.254.0.0/16');
  assert.match(((await host.call('reconcile')) as string[]).join(), /route 10\.254\.0\.0/);
  assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  await host.run('ip', 'link', 'del', 'tsswarm0');
  assert.match(((await host.call('reconcile')) as string[]).join(), /made again/);
  assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  await host.run('sh', '-c', 'echo 0 > /proc/sys/net/ipv4/ip_forward');
  assert.match(((await host.call('reconcile')) as string[]).join(), /forwarding switched on/);
  assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  assert.deepEqual(await host.call('reconcile'), []);
});

test('published ports go on while the daemon is dead and under the next one', async () => {
  const [host] = underlay.hosts;
  await host.kill();
  assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  await host.start();
  assert.deepEqual(await host.call('reconcile'), []);
  assertAllTasks(await underlay.client.get(host.address, 8080, 40), '192.168.50.100');
  const { attachment } = await host.attach(attachRequest({ gateway: true }));
  assert.notEqual(attachment.gatewayAddress, tasks[0].gatewayAddress);
  await host.call('detach', attachment.containerId);
});

test('a host that leaves the swarm publishes nothing and keeps its default bridge', async () => {
  const [host] = underlay.hosts;
  await host.call('setSelf', undefined);
  assert.deepEqual(await underlay.client.get(host.address, 8080), [{ error: 'ECONNREFUSED' }]);
  await assert.rejects(host.attach(attachRequest({ gateway: true })), /not part of a swarm/);
  const { place, attachment } = await host.attach(attachRequest({ defaultBridge: true }));
  await place.ping('192.168.50.100');
  await host.call('detach', attachment.containerId);
});
