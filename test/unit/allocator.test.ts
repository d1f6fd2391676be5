/**
 * The allocator: subnets, virtual addresses, published ports, task addresses; what is said when
 * something runs out, and that it is tried again when something is freed.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTerminal, TaskState } from '../../model/taskState.ts';
import type { NetworkSpec, PortConfig } from '../../model/types.ts';
import { ControlPlane } from '../support/controlPlane.ts';
import { cluster, network, type ServiceSpecFields } from '../support/objects.ts';
import { fc } from '../support/properties.ts';

function withNetwork(plane: ControlPlane, name: string, spec: Partial<NetworkSpec> = {}): void {
  plane.change({ kind: 'create', table: 'network', object: network(name, spec) });
}

function on(...names: string[]): ServiceSpecFields['task'] {
  return { networks: names.map((name) => ({ target: `${name}-id`, aliases: [], addresses: [] })) };
}

function published(publishedPort: number, targetPort = 80): PortConfig {
  return {
    name: '',
    protocol: 'tcp',
    targetPort,
    publishedPort,
    publishMode: 'ingress',
    hostAddress: '',
  };
}

function addresses(plane: ControlPlane, name: string): string[] {
  return plane.tasks(name).map((task) => task.networks[0].address);
}

test('a network gets a subnet of the pools, a gateway and a VXLAN id of its own', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'one');
  withNetwork(plane, 'two');
  plane.settle();
  const [one, two] = [plane.get('network', 'one-id'), plane.get('network', 'two-id')];
  assert.deepEqual([one.subnet, one.gateway, one.vni], ['10.0.0.0/24', '10.0.0.1', 4096]);
  assert.deepEqual([two.subnet, two.gateway, two.vni], ['10.0.1.0/24', '10.0.1.1', 4097]);
});

test('a subnet is never cut where a node or a gateway bridge has its address', () => {
  const plane = new ControlPlane({ nodes: 0 });
  const before = plane.get('cluster', 'cluster');
  const pools = { addressPools: ['10.254.0.0/15'], subnetSize: 16 };
  plane.change({ kind: 'update', table: 'cluster', object: { ...before, ...pools } });
  withNetwork(plane, 'one');
  plane.settle();
  assert.equal(plane.get('network', 'one-id').subnet, '10.255.0.0/16');

  const lab = new ControlPlane({ nodes: 0 });
  const atPool = cluster({}, { addressPools: ['10.99.0.0/23'], version: 1 });
  lab.change({ kind: 'update', table: 'cluster', object: atPool });
  lab.change({
    kind: 'create',
    table: 'node',
    object: { ...new ControlPlane({ nodes: 1 }).get('node', 'h1'), address: '10.99.0.11' },
  });
  withNetwork(lab, 'one');
  lab.settle();
  assert.equal(lab.get('network', 'one-id').subnet, '10.99.1.0/24');
});

test('a subnet that was asked for is given, or refused with what it overlaps', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'one', { subnet: '10.9.0.0/16', gateway: '10.9.0.254' });
  withNetwork(plane, 'two', { subnet: '10.9.8.0/24' });
  withNetwork(plane, 'three', { subnet: '192.168.77.0/24' });
  plane.settle();
  const one = plane.get('network', 'one-id');
  assert.deepEqual([one.subnet, one.gateway], ['10.9.0.0/16', '10.9.0.254']);
  assert.equal(
    plane.get('network', 'two-id').error,
    'subnet 10.9.8.0/24 overlaps network "one" (10.9.0.0/16): choose another one',
  );
  assert.match(plane.get('network', 'three-id').error, /overlaps the address of node h1/);
  plane.change({ kind: 'remove', table: 'network', id: 'one-id' });
  plane.settle();
  assert.equal(plane.get('network', 'two-id').subnet, '10.9.8.0/24');
});

test('exhausted pools are said on the network, and tried again when one is removed', () => {
  const plane = new ControlPlane();
  const before = plane.get('cluster', 'cluster');
  const object = { ...before, addressPools: ['10.20.0.0/23'] };
  plane.change({ kind: 'update', table: 'cluster', object });
  for (const name of ['a', 'b', 'c']) withNetwork(plane, name);
  plane.settle();
  assert.match(plane.get('network', 'c-id').error, /no free subnet in the address pools/);
  plane.change({ kind: 'remove', table: 'network', id: 'a-id' });
  plane.settle();
  assert.deepEqual(
    [plane.get('network', 'c-id').subnet, plane.get('network', 'c-id').error],
    ['10.20.0.0/24', ''],
  );
});

test('a service has one virtual address a network, its tasks one address each', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'one');
  withNetwork(plane, 'two');
  plane.create('web', { replicas: 2, task: on('one', 'two') });
  plane.settle();
  assert.deepEqual(plane.service('web').virtualAddresses, [
    { networkId: 'one-id', address: '10.0.0.2/24' },
    { networkId: 'two-id', address: '10.0.1.2/24' },
  ]);
  assert.deepEqual(
    plane.running('web').map(({ networks }) => networks.map(({ address }) => address)),
    [
      ['10.0.0.3/24', '10.0.1.3/24'],
      ['10.0.0.4/24', '10.0.1.4/24'],
    ],
  );
});

test('endpoint mode dnsrr has no virtual address', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'one');
  plane.create('web', { task: on('one'), endpointMode: 'dnsrr' });
  plane.settle();
  assert.deepEqual(plane.service('web').virtualAddresses, []);
  assert.equal(plane.running('web').length, 1);
});

test('node-local networks need no address', () => {
  const plane = new ControlPlane();
  plane.create('web', { task: { networks: [{ target: 'host', aliases: [], addresses: [] }] } });
  plane.settle();
  assert.equal(plane.running('web')[0].networks[0].address, '');
});

test('an address just freed is not given again at once', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'one');
  const restart = { condition: 'any', delayMs: 0, maxAttempts: 0, windowMs: 0 } as const;
  plane.create('web', { task: { ...on('one'), restart } });
  plane.settle();
  const before = addresses(plane, 'web');
  plane.advance(1_000);
  plane.end(plane.running('web')[0], TaskState.FAILED);
  plane.settle();
  assert.ok(!before.includes(plane.running('web')[0].networks[0].address));
});

test('with no address left a task says so, and gets one when another task has stopped', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'small', { subnet: '10.7.0.0/29' });
  plane.create('web', { replicas: 4, task: on('small') });
  plane.create('late', { replicas: 1, task: on('small'), endpointMode: 'dnsrr' });
  plane.settle();
  const late = plane.wanted('late')[0];
  assert.equal(late.status.state, TaskState.NEW);
  assert.match(late.status.error, /network "small" \(10\.7\.0\.0\/29\) has no free address/);
  plane.update('web', () => ({ mode: { kind: 'replicated', replicas: 3 } }));
  plane.settle();
  assert.equal(plane.running('late').length, 1);
  assert.equal(plane.running('late')[0].status.error, '');
});

test('a task on a network without a subnet says why it waits', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'one', { subnet: '10.9.0.0/16' });
  withNetwork(plane, 'two', { subnet: '10.9.8.0/24' });
  plane.create('web', { task: on('two') });
  plane.settle();
  assert.match(plane.wanted('web')[0].status.error, /network "two" cannot be used: subnet 10\.9/);
  plane.change({ kind: 'remove', table: 'network', id: 'one-id' });
  plane.settle();
  assert.equal(plane.running('web').length, 1);
});

test('dynamic ports come from 30000 up, avoid fixed ones, and stay over an update', () => {
  const plane = new ControlPlane();
  plane.create('fixed', { ports: [published(30_000)] });
  plane.create('web', { ports: [published(0), published(8080, 81)] });
  plane.settle();
  const numbers = (): number[] => plane.service('web').ports.map((port) => port.publishedPort);
  assert.deepEqual(numbers(), [30_001, 8_080]);
  assert.deepEqual(
    plane.running('web')[0].ports.map((port) => port.publishedPort),
    [30_001, 8_080],
  );
  plane.update('web', () => ({ ports: [published(0), published(8081, 81)] }));
  plane.settle();
  assert.deepEqual(numbers(), [30_001, 8_081]);
});

test('when dynamic ports run out, the tasks say so', () => {
  const plane = new ControlPlane();
  const all = Array.from({ length: 2_768 }, (_, at) => published(0, at + 1));
  plane.create('all', { ports: all });
  plane.create('web', { ports: [published(0)] });
  plane.settle();
  assert.match(plane.wanted('web')[0].status.error, /no free port between 30000 and 32767/);
  plane.change({ kind: 'remove', table: 'service', id: 'all-id' });
  plane.settle();
  assert.equal(plane.running('web').length, 1);
});

test('under any history no address of a network has two holders (random)', () => {
  const step = fc.record({
    service: fc.integer({ min: 0, max: 3 }),
    replicas: fc.integer({ min: 0, max: 5 }),
    fail: fc.boolean(),
    elect: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.integer(), (steps, seed) => {
      const plane = new ControlPlane({ seed });
      withNetwork(plane, 'small', { subnet: '10.7.0.0/28' });
      const made = new Set<string>();
      for (const { service, replicas, fail, elect } of steps) {
        const name = `s${service}`;
        if (elect) plane.elect();
        if (!made.has(name)) plane.create(name, { replicas, task: on('small') });
        else plane.update(name, () => ({ mode: { kind: 'replicated', replicas } }));
        made.add(name);
        plane.settle(() => checkUnique(plane));
        const [first] = plane.running(name);
        if (fail && first !== undefined) plane.end(first, TaskState.FAILED);
        plane.advance(5_000, () => checkUnique(plane));
      }
      assert.deepEqual(plane.rejected, []);
    }),
    { numRuns: 40, seed: 11 },
  );
});

function checkUnique(plane: ControlPlane): void {
  const held: string[] = [plane.get('network', 'small-id').gateway];
  for (const service of plane.store.all('service')) {
    for (const { address } of service.virtualAddresses) held.push(address.split('/')[0]);
  }
  for (const task of plane.store.all('task')) {
    if (isTerminal(task.status.state)) continue;
    for (const { address } of task.networks) if (address !== '') held.push(address.split('/')[0]);
  }
  assert.equal(new Set(held).size, held.length, held.join(' '));
}

test('a slot gets the address it asks for, in every task it has, and nobody else does', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'net', { subnet: '10.7.0.0/29' });
  plane.create('free', { task: on('net') });
  const networks = [{ target: 'net-id', aliases: [], addresses: ['10.7.0.5', '10.7.0.4'] }];
  plane.create('own', { replicas: 2, task: { networks } });
  plane.settle();
  const addresses = (name: string) =>
    plane.running(name).flatMap((task) => task.networks.map(({ address }) => address));
  assert.deepEqual(addresses('own'), ['10.7.0.5/29', '10.7.0.4/29']);
  plane.create('late', { replicas: 3, endpointMode: 'dnsrr', task: on('net') });
  plane.settle();
  assert.ok(!addresses('late').some((address) => /\.[45]\//.test(address)));
  plane.update('own', ({ spec: { task } }) => ({ task: { ...task, forceUpdate: 1 } }));
  const check = (): void => {
    const held = [...plane.store.all('task')]
      .filter(({ status }) => !isTerminal(status.state))
      .flatMap((task) => task.networks.map(({ address }) => address))
      .filter((address) => address !== '');
    assert.equal(new Set(held).size, held.length);
  };
  plane.settle(check);
  assert.deepEqual(addresses('own'), ['10.7.0.5/29', '10.7.0.4/29']);
  assert.ok(plane.running('own').every((task) => task.generation === 2));
});

test('an address that somebody has is told, and given once it is free', () => {
  const plane = new ControlPlane();
  withNetwork(plane, 'net', { subnet: '10.7.0.0/29' });
  plane.create('first', { endpointMode: 'dnsrr', task: on('net') });
  plane.settle();
  const [{ networks: held }] = plane.running('first');
  const address = held[0].address.split('/')[0];
  const networks = [{ target: 'net-id', aliases: [], addresses: [address] }];
  plane.create('own', { task: { networks } });
  plane.settle();
  const [waiting] = plane.wanted('own');
  assert.equal(waiting.status.error, `address ${address} of network "net" is held by another task`);
  plane.change({ kind: 'remove', table: 'service', id: plane.service('first').id });
  plane.settle();
  assert.equal(plane.running('own')[0].networks[0].address, `${address}/29`);
});

test('a port of the hosts that is not named is chosen, like one of the ingress', () => {
  const plane = new ControlPlane();
  const port = { ...published(0), publishMode: 'host' as const };
  plane.create('web', { replicas: 2, ports: [port] });
  plane.settle();
  const ports = plane.running('web').map((task) => task.ports[0].publishedPort);
  assert.deepEqual(ports, [30_000, 30_000]);
});
