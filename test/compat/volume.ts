/** docker volume. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, refused } from './world.ts';

const dataOf = (name: string): string => join(hostLayout(1).dataRoot, 'volumes', name, '_data');

export function volumes(suite: Suite): void {
  suite.works(
    'volume create',
    ['label', 'name'],
    'a volume is a directory that containers share',
    async () => {
      assert.equal(await docker('h1', 'volume', 'create', '--label', 'a=b', 'data'), 'data');
      assert.ok(existsSync(dataOf('data')));
      await docker('h1', 'run', '--rm', '-v', 'data:/d', BOX, 'sh', '-c', 'echo kept > /d/file');
      assert.equal(
        await docker('h1', 'run', '--rm', '-v', 'data:/d', BOX, 'cat', '/d/file'),
        'kept',
      );
    },
  );
  suite.works(
    'volume ls',
    ['filter', 'format', 'quiet'],
    'volumes are listed by label and name',
    async () => {
      assert.equal(await docker('h1', 'volume', 'ls', '-q', '--filter', 'label=a=b'), 'data');
      assert.equal(await docker('h1', 'volume', 'ls', '-q', '--filter', 'label=a=c'), '');
      assert.equal(await docker('h1', 'volume', 'ls', '--format', '{{.Driver}}'), 'local');
    },
  );
  suite.works('volume inspect', ['format'], 'its place on the host is told', async () => {
    assert.equal(
      await docker('h1', 'volume', 'inspect', '-f', '{{.Mountpoint}}', 'data'),
      dataOf('data'),
    );
  });
  suite.works(
    'volume rm',
    ['force'],
    'one in use stays, one out of use goes with its files',
    async () => {
      await docker('h1', 'create', '--name', 'holder', '-v', 'data:/d', BOX);
      await refused('h1', ['volume', 'rm', 'data'], /in use/);
      await docker('h1', 'rm', 'holder');
      await docker('h1', 'volume', 'rm', 'data');
      assert.ok(!existsSync(dataOf('data')));
      await docker('h1', 'volume', 'rm', '--force', 'data');
    },
  );
}
