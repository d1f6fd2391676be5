/**
 * docker service create and update: images, by name or by digest, from a registry beside each
 * host's daemon that wants a password.
 */
import assert from 'node:assert/strict';
import { importSecondBox, LOCKED, lockedRegistry, loggedIn, SECOND_BOX } from './lockedRegistry.ts';
import type { Suite } from './suite.ts';
import {
  ASLEEP,
  change,
  environment,
  ofService,
  programs,
  remove,
  serve,
  troubleOf,
} from './tasks.ts';
import { BOX, docker } from './world.ts';

const IMAGE = '{{.Spec.TaskTemplate.ContainerSpec.Image}}';

export function serviceImages(suite: Suite): void {
  const there = ['--constraint', 'node.hostname==h2'];
  suite.works(
    'service create',
    ['no-resolve-image'],
    'the name is kept as given, where it else gets the digest; what runs is the same',
    async () => {
      const [{ pid }] = await serve('named', 1, ['--no-resolve-image'], ...ASLEEP);
      assert.equal(await ofService('named', IMAGE), BOX);
      assert.ok(environment(pid).includes('PATH=/bin'));
    },
  );
  suite.works(
    'service update',
    ['image', 'no-resolve-image'],
    'the program has what the other image says',
    async () => {
      await importSecondBox();
      const [{ pid }] = await change('named', 1, '--image', SECOND_BOX, '--no-resolve-image');
      assert.equal(await ofService('named', IMAGE), SECOND_BOX);
      assert.ok(environment(pid).includes('EDITION=2'));
      await change('named', 1, '--image', BOX);
      assert.match(await ofService('named', IMAGE), /^box:1@sha256:[0-9a-f]{64}$/);
      await remove('named');
    },
  );
  suite.works(
    'service create',
    ['with-registry-auth'],
    'a worker pulls with the password of who asked, and else cannot',
    async () => {
      await lockedRegistry();
      const create = ['service', 'create', '-d', '-q', '--stop-signal', 'KILL', ...there];
      const none = ['--restart-condition', 'none', '--name', 'without', `${LOCKED}:1`];
      await loggedIn(...create, ...none);
      assert.match(await troubleOf('without', /Rejected/), /no basic auth credentials/);
      const auth = ['--with-registry-auth', '--name', 'private', `${LOCKED}:1`, ...ASLEEP];
      await loggedIn(...create, ...auth);
      const [{ node }] = await programs('private', 1);
      assert.equal(node, 'h2');
      assert.notEqual(await docker('h2', 'images', '-q', LOCKED), '');
    },
  );
  suite.works(
    'service update',
    ['with-registry-auth'],
    'a worker pulls the new image with it',
    async () => {
      const update = ['--with-registry-auth', '--update-monitor', '1ms', '--image'];
      await loggedIn('service', 'update', '-q', ...update, `${LOCKED}:2`, 'private');
      const [{ pid, node }] = await programs('private', 1);
      assert.equal(node, 'h2');
      assert.ok(environment(pid).includes('EDITION=2'));
      await remove('without', 'private');
    },
  );
}
