/** What a task asks for reaches its container: mounts, ports of the host, limits, its resources. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planContainer, templateContext } from '../../agent/containerPlan.ts';
import { TaskVolumes } from '../../agent/volumes.ts';
import { DEFAULT_MOUNT } from '../../model/defaults.ts';
import type { MountSpec } from '../../model/types.ts';
import { makeTask } from '../support/agentParts.ts';
import { FakeContainers, FakeVolumes, fakeRuntime } from '../support/fakeRuntime.ts';

function mount(fields: Partial<MountSpec>): MountSpec {
  return { ...DEFAULT_MOUNT, type: 'volume', source: '', target: '/data', ...fields };
}

const IMAGE = { volumes: ['/var/lib/db', '/data'], layers: ['/layers/0'] };

test('volumes are made, filled from the image, held, and let go with the container', async () => {
  const store = new FakeVolumes();
  const volumes = new TaskVolumes(store);
  const mounts = await volumes.mounts(
    'c1',
    [
      mount({ source: 'named' }),
      mount({
        source: 'bare',
        target: '/bare',
        readOnly: true,
        volume: { labels: { a: 'b' }, driver: '', driverOptions: {}, noCopy: true },
      }),
    ],
    IMAGE,
  );
  assert.deepEqual(
    mounts.map(({ source, target, readOnly }) => [source, target, readOnly]),
    [
      ['/volumes/named', '/data', false],
      ['/volumes/bare', '/bare', true],
      ['/volumes/anonymous2', '/var/lib/db', false],
    ],
  );
  assert.deepEqual(store.filled, ['named /data', 'anonymous2 /var/lib/db']);
  assert.deepEqual(store.get('bare')?.labels, { a: 'b' });
  await volumes.mounts('c2', [mount({ source: 'named' })], { ...IMAGE, volumes: [] });
  await volumes.release('c1');
  assert.deepEqual(store.users('named'), ['c2']);
  assert.deepEqual([...store.known.keys()], ['named', 'bare']);
});

test('what was made before a mount failed is not held', async () => {
  const store = new FakeVolumes();
  const volumes = new TaskVolumes(store);
  const wanted = [mount({}), mount({ type: 'bind', source: '/no/such/place', target: '/x' })];
  await assert.rejects(volumes.mounts('c1', wanted, { ...IMAGE, volumes: [] }), /does not exist/);
  assert.deepEqual([...store.known.keys()], []);
});

test('containers that an earlier process started hold their volumes again', async () => {
  const store = new FakeVolumes();
  const [first] = await new TaskVolumes(store).mounts('c1', [mount({ source: 'named' })], {
    ...IMAGE,
    volumes: [],
  });
  store.held.clear();
  const containers = new FakeContainers();
  const { config } = await containers.create({ id: 'c1', mounts: [first] } as never);
  assert.equal(config.id, 'c1');
  new TaskVolumes(store).adopt(containers.list());
  assert.deepEqual(store.users('named'), ['c1']);
});

test('generic resources are told to the program', () => {
  const task = makeTask('t1', {
    task: {
      genericResources: [
        { kind: 'gpu', name: 'u1', amount: 1 },
        { kind: 'gpu', name: 'u2', amount: 1 },
        { kind: 'fast-disk', name: '', amount: 3 },
      ],
    },
  });
  const node = { id: 'n', hostname: 'h', os: 'linux', architecture: 'x86_64' };
  const image = fakeRuntime().images.add('web').config;
  const { env } = planContainer(task, image, templateContext(task, node), 'c1');
  assert.ok(env.includes('DOCKER_RESOURCE_GPU=u1,u2'));
  assert.ok(env.includes('DOCKER_RESOURCE_FAST_DISK=3'));
});
