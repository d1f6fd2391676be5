/**
 * docker service create and update: where tasks go and what they may use there: cgroups,
 * reservations, generic resources, constraints, preferences, modes, numbers of tasks.
 */
import assert from 'node:assert/strict';
import { daemonPid } from '../../deploy/hosts/host.ts';
import { until } from '../support/lab.ts';
import { layoutOf, startDaemonOf, stopDaemonOf } from '../support/labHosts.ts';
import type { Suite } from './suite.ts';
import {
  ASLEEP,
  change,
  create,
  environment,
  type Program,
  programs,
  remove,
  serve,
  troubleOf,
} from './tasks.ts';
import { cgroupValue, docker, SOON_MS } from './world.ts';

const MIB = 1024 * 1024;

const hosts = (tasks: readonly Program[]): string =>
  tasks
    .map(({ node }) => node)
    .sort()
    .join(' ');

export function servicePlaces(suite: Suite): void {
  limits(suite);
  reservations(suite);
  generic(suite);
  placement(suite);
  numbers(suite);
}

function limits(suite: Suite): void {
  const flags = ['limit-cpu', 'limit-memory', 'limit-pids'];
  const quota = (pid: number): number =>
    Number(cgroupValue(pid, 'cpu', 'cpu.cfs_quota_us', 'cpu.max').split(' ')[0]);
  const memory = (pid: number): number =>
    Number(cgroupValue(pid, 'memory', 'memory.limit_in_bytes', 'memory.max'));
  const pids = (pid: number): number => Number(cgroupValue(pid, 'pids', 'pids.max', 'pids.max'));
  suite.works('service create', flags, 'the cgroup holds the limits', async () => {
    const limits = ['--limit-cpu', '0.5', '--limit-memory', '32m', '--limit-pids', '20'];
    const [{ pid }] = await serve('tight', 1, limits, ...ASLEEP);
    assert.deepEqual([quota(pid), memory(pid), pids(pid)], [50_000, 32 * MIB, 20]);
  });
  suite.works('service update', flags, 'the next cgroup holds others', async () => {
    const limits = ['--limit-cpu', '0.25', '--limit-memory', '64m', '--limit-pids', '30'];
    const [{ pid }] = await change('tight', 1, ...limits);
    assert.deepEqual([quota(pid), memory(pid), pids(pid)], [25_000, 64 * MIB, 30]);
    await remove('tight');
  });
}

function reservations(suite: Suite): void {
  const of = async (field: string): Promise<number> =>
    Number(
      await docker('h1', 'node', 'inspect', '-f', `{{.Description.Resources.${field}}}`, 'h2'),
    );
  suite.works(
    'service create',
    ['reserve-cpu', 'reserve-memory'],
    'two tasks that want more than half of a host have one each, a third has none',
    async () => {
      const memory = Math.ceil((await of('MemoryBytes')) * 0.6);
      const cpus = (await of('NanoCPUs')) * 0.6e-9;
      await create('big', ['--replicas', '3', '--reserve-memory', String(memory)], ...ASLEEP);
      assert.match(await troubleOf('big', /no suitable/), /insufficient memory on 2 nodes/);
      await docker('h1', 'service', 'scale', '-d', 'big=2');
      assert.equal(hosts(await programs('big', 2)), 'h1 h2');
      await remove('big');
      await create('busy', ['--replicas', '3', '--reserve-cpu', cpus.toFixed(2)], ...ASLEEP);
      assert.match(await troubleOf('busy', /no suitable/), /insufficient CPU on 2 nodes/i);
      await docker('h1', 'service', 'scale', '-d', 'busy=2');
      assert.equal(hosts(await programs('busy', 2)), 'h1 h2');
    },
  );
  suite.works(
    'service update',
    ['reserve-cpu', 'reserve-memory'],
    'less is reserved, and more tasks fit on a host',
    async () => {
      const less = ['--reserve-cpu', '0.1', '--reserve-memory', '4m', '--constraint-add'];
      const there = await change('busy', 2, ...less, 'node.hostname==h2');
      assert.equal(hosts(there), 'h2 h2');
      await remove('busy');
    },
  );
}

function generic(suite: Suite): void {
  const resource = (pid: number): string =>
    environment(pid).find((line) => line.startsWith('DOCKER_RESOURCE_')) ?? '';
  suite.works(
    'service create',
    ['generic-resource'],
    'a task is where its resource is, and is told which units it has',
    async () => {
      await stopDaemonOf('h2');
      await startDaemonOf('h2', '--node-generic-resource', 'gpu=u1,gpu=u2,disk=3');
      assert.ok(daemonPid(layoutOf('h2')) !== undefined);
      const described = '{{json .Description.Resources.GenericResources}}';
      await until('the node tells of them', SOON_MS, async () =>
        (await docker('h1', 'node', 'inspect', '-f', described, 'h2')).includes('u2')
          ? true
          : undefined,
      );
      const two = ['--replicas', '2', '--generic-resource', 'gpu=1'];
      const tasks = await serve('drawn', 2, two, ...ASLEEP);
      assert.equal(hosts(tasks), 'h2 h2');
      const units = tasks.map(({ pid }) => resource(pid)).sort();
      assert.deepEqual(units, ['DOCKER_RESOURCE_GPU=u1', 'DOCKER_RESOURCE_GPU=u2']);
      await docker('h1', 'service', 'scale', '-d', 'drawn=3');
      assert.match(await troubleOf('drawn', /no suitable/), /insufficient gpu/);
      await docker('h1', 'service', 'scale', '-d', 'drawn=1');
      await programs('drawn', 1);
    },
  );
  suite.works(
    'service update',
    ['generic-resource-add', 'generic-resource-rm'],
    'the next task has another resource instead',
    async () => {
      const other = ['--generic-resource-rm', 'gpu', '--generic-resource-add', 'disk=2'];
      const [{ pid, node }] = await change('drawn', 1, ...other);
      assert.deepEqual([node, resource(pid)], ['h2', 'DOCKER_RESOURCE_DISK=2']);
      await remove('drawn');
    },
  );
}

function placement(suite: Suite): void {
  suite.works(
    'service create',
    ['constraint', 'placement-pref', 'replicas-max-per-node'],
    'tasks spread over the values of a label, go where they may, and no more than allowed',
    async () => {
      await docker('h1', 'node', 'update', '--label-add', 'zone=a', 'h1');
      await docker('h1', 'node', 'update', '--label-add', 'zone=b', 'h2');
      const spread = ['--replicas', '4', '--placement-pref', 'spread=node.labels.zone'];
      const most = ['--replicas-max-per-node', '2'];
      const tasks = await serve('spread', 4, [...spread, ...most], ...ASLEEP);
      assert.equal(hosts(tasks), 'h1 h1 h2 h2');
      await docker('h1', 'service', 'scale', '-d', 'spread=5');
      assert.match(await troubleOf('spread', /no suitable/), /max replicas per node reached on 2/);
      await docker('h1', 'service', 'scale', '-d', 'spread=2');
      await programs('spread', 2);
    },
  );
  suite.works(
    'service update',
    [
      ...['constraint-add', 'constraint-rm', 'placement-pref-add', 'placement-pref-rm'],
      ...['replicas-max-per-node'],
    ],
    'tasks go where they may now, as many as allowed now',
    async () => {
      const only = ['--constraint-add', 'node.labels.zone==b', '--replicas-max-per-node', '3'];
      const none = ['--placement-pref-rm', 'spread=node.labels.zone', '--replicas', '3'];
      assert.equal(hosts(await change('spread', 3, ...only, ...none)), 'h2 h2 h2');
      const again = ['--constraint-rm', 'node.labels.zone==b', '--placement-pref-add'];
      const spread = [...again, 'spread=node.labels.zone', '--replicas', '4', '--force'];
      assert.equal(hosts(await change('spread', 4, ...spread)), 'h1 h1 h2 h2');
      await remove('spread');
      for (const host of ['h1', 'h2']) {
        await docker('h1', 'node', 'update', '--label-rm', 'zone', host);
      }
    },
  );
}

function numbers(suite: Suite): void {
  suite.works('service create', ['mode', 'replicas'], 'as many tasks as asked run', async () => {
    assert.equal(hosts(await serve('each', 2, ['--mode', 'global'], ...ASLEEP)), 'h1 h2');
    assert.equal((await serve('three', 3, ['--replicas', '3'], ...ASLEEP)).length, 3);
  });
  suite.works('service update', ['replicas'], 'one task ends, the other stays', async () => {
    const before = await programs('three', 3);
    const [left] = await change('three', 1, '--replicas', '1');
    assert.ok(before.some(({ pid }) => pid === left.pid));
  });
  suite.works('service scale', ['detach'], 'several services have more tasks', async () => {
    const scaled = await docker('h1', 'service', 'scale', '--detach', 'three=2');
    assert.match(scaled, /three scaled to 2/);
    assert.equal((await programs('three', 2)).length, 2);
    await create('four', [], ...ASLEEP);
    await docker('h1', 'service', 'scale', 'three=4', 'four=2');
    assert.deepEqual(
      [(await programs('three', 4)).length, (await programs('four', 2)).length],
      [4, 2],
    );
    await remove('each', 'three', 'four');
  });
}
