/** docker node, in the swarm of its own that the cases of docker swarm begin and end. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { until } from '../support/lab.ts';
import { bootSpare } from '../support/labHosts.ts';
import { dataPath, listening } from './look.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, refused, SOON_MS } from './world.ts';

const MANAGER = 'h3';
const OTHER = 'h4';
const THIRD = 'h5';
const PORT = 2378;
const ADDRESS = '10.99.0.14';

const manager = (...args: string[]): Promise<string> => docker(MANAGER, ...args);
const PROGRAM = ['--stop-signal', 'SIGKILL', BOX, 'sleep', '600'];

const idOf = (host: string): Promise<string> =>
  docker(host, 'info', '--format', '{{.Swarm.NodeID}}');

/** The names of the containers that run on a host. */
async function running(host: string): Promise<string> {
  return docker(host, 'ps', '--format', '{{.Names}}');
}

async function isManager(host: string, address: string): Promise<boolean> {
  const here = existsSync(dataPath(host, 'swarm', 'raft', 'wal'));
  return here && (await listening(host)).includes(`${address}:${PORT}`);
}

export function nodes(suite: Suite): void {
  look(suite);
  change(suite);
  suite.works('node rm', ['force'], 'it is known no more, and may not come back', async () => {
    await bootSpare(THIRD);
    const token = await manager('swarm', 'join-token', '-q', 'worker');
    await docker(THIRD, 'swarm', 'join', '--token', token, `10.99.0.13:${PORT}`);
    await refused(MANAGER, ['node', 'rm', THIRD], /is not down/);
    await manager('node', 'rm', '--force', THIRD);
    assert.doesNotMatch(await manager('node', 'ls', '--format', '{{.Hostname}}'), /h5/);
    await until('it hears so', SOON_MS, async () => {
      const state = await docker(THIRD, 'info', '--format', '{{.Swarm.LocalNodeState}}');
      return state !== 'active' || undefined;
    });
    await docker(THIRD, 'swarm', 'leave', '--force');
  });
}

function look(suite: Suite): void {
  suite.works('node ls', ['filter', 'format', 'quiet'], 'hosts by name, role and id', async () => {
    const ids = [await idOf(MANAGER), await idOf(OTHER)].sort();
    const list = (...flags: string[]) => manager('node', 'ls', ...flags);
    assert.deepEqual((await list('--quiet')).split('\n').sort(), ids);
    assert.equal(await list('-q', '--filter', 'role=worker'), await idOf(OTHER));
    const format = '{{.Hostname}} {{.Status}} {{.Availability}} {{.ManagerStatus}}';
    assert.equal(await list('-f', `name=${MANAGER}`, '--format', format), 'h3 Ready Active Leader');
    assert.equal(await list('-q', '--filter', 'membership=pending'), '');
  });
  suite.works('node inspect', ['format', 'pretty'], 'what a host is and has', async () => {
    const format = '{{.ID}} {{.Description.Hostname}} {{.Status.Addr}}';
    assert.equal(
      await manager('node', 'inspect', '--format', format, OTHER),
      `${await idOf(OTHER)} h4 ${ADDRESS}`,
    );
    assert.match(await manager('node', 'inspect', '--pretty', 'self'), /^Hostname: +\s*h3$/m);
  });
  suite.works(
    'node ps',
    ['filter', 'format', 'no-resolve', 'no-trunc', 'quiet'],
    'the tasks of a host, those that run there',
    async () => {
      const ps = (...flags: string[]) =>
        manager('node', 'ps', ...flags, '--filter', 'desired-state=running', OTHER);
      const id = await ps('--quiet', '--no-trunc');
      assert.equal(await running(OTHER), `all.${await idOf(OTHER)}.${id}`);
      assert.equal(await ps('--format', '{{.Node}} {{.Image}}'), `h4 ${BOX}`);
      assert.equal(await ps('--no-resolve', '--format', '{{.Node}}'), await idOf(OTHER));
      assert.equal(await ps('-q', '--filter', 'name=none'), '');
    },
  );
}

function change(suite: Suite): void {
  suite.works(
    'node update',
    ['availability', 'label-add', 'label-rm'],
    'tasks go where the labels are, and leave a drained host',
    async () => {
      await manager('node', 'update', '--label-add', 'disk=fast', '--label-add', 'zone=a', OTHER);
      const where = ['--constraint', 'node.labels.disk==fast'];
      await manager('service', 'create', '-d', '--name', 'fast', ...where, ...PROGRAM);
      await until(
        'it runs there',
        SOON_MS,
        async () => /^fast\.1\./m.test(await running(OTHER)) || undefined,
      );
      await manager('node', 'update', '--label-rm', 'zone', OTHER);
      const labels = await manager('node', 'inspect', '-f', '{{json .Spec.Labels}}', OTHER);
      assert.equal(labels, '{"disk":"fast"}');
      await manager('node', 'update', '--availability', 'drain', OTHER);
      await until(
        'nothing runs there',
        SOON_MS,
        async () => (await running(OTHER)) === '' || undefined,
      );
      await manager('node', 'update', '--availability', 'active', OTHER);
      await manager('service', 'rm', 'fast');
      await until(
        'its own is back',
        SOON_MS,
        async () => /^all\.\S+$/.test(await running(OTHER)) || undefined,
      );
    },
  );
  suite.works('node update', ['role'], 'the host keeps the log and listens', async () => {
    await manager('node', 'update', '--role', 'manager', OTHER);
    await becomes(true);
    await manager('node', 'update', '--role', 'worker', OTHER);
    await becomes(false);
  });
  suite.works('node promote', [], 'the host keeps the log and listens, and answers', async () => {
    await manager('node', 'promote', OTHER);
    await becomes(true);
    await until('it manages', SOON_MS, async () => (await docker(OTHER, 'node', 'ls')) !== '');
  });
  suite.works('node demote', [], 'the host has no log any more', async () => {
    await manager('node', 'demote', OTHER);
    await becomes(false);
    await refused(OTHER, ['node', 'ls'], /not a swarm manager/);
  });
}

function becomes(wanted: boolean): Promise<boolean> {
  return until(
    `${OTHER} is ${wanted ? 'a' : 'no'} manager`,
    SOON_MS,
    async () => (await isManager(OTHER, ADDRESS)) === wanted || undefined,
  );
}
