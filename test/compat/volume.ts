/** docker volume. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, pidOf, procFile, refused } from './world.ts';

const dataOf = (name: string): string => join(hostLayout(1).dataRoot, 'volumes', name, '_data');

export function volumes(suite: Suite): void {
  suite.works(
    'volume create',
    ['label'],
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
  suite.works(
    'volume create',
    ['driver', 'opt'],
    'the local driver mounts what its options say',
    async () => {
      const options = ['-o', 'type=tmpfs', '-o', 'device=tmpfs', '-o', 'o=size=1m,uid=77'];
      await docker('h1', 'volume', 'create', '--driver', 'local', ...options, 'memory');
      await docker('h1', 'run', '-d', '--name', 'holder', '-v', 'memory:/d', BOX, 'sleep', '600');
      const mounts = procFile(await pidOf('h1', 'holder'), 'mountinfo');
      assert.match(mounts, / \/d .* - tmpfs \S+ \S*size=1024k,uid=77/);
      await docker('h1', 'rm', '-f', 'holder');
    },
  );
  suite.works(
    'volume prune',
    ['all', 'filter', 'force'],
    'unused volumes go with their files: those without a name, or all',
    async () => {
      await docker('h1', 'volume', 'create', '--label', 'kind=cmp', 'named');
      const bare = await docker('h1', 'volume', 'create', '--label', 'kind=cmp');
      const prune = ['volume', 'prune', '--force', '--filter', 'label=kind=cmp'];
      await docker('h1', ...prune);
      assert.deepEqual([existsSync(dataOf('named')), existsSync(dataOf(bare))], [true, false]);
      await docker('h1', ...prune, '--all');
      assert.ok(!existsSync(dataOf('named')));
      await docker('h1', 'volume', 'rm', 'memory');
    },
  );
  clusterVolumes(suite);
}

function clusterVolumes(suite: Suite): void {
  const instead = 'refused: cluster volumes need CSI plugins; use the driver `local`';
  suite.not(
    'volume create',
    ['availability', 'group', 'limit-bytes', 'required-bytes', 'scope', 'sharing', 'type'],
    instead,
  );
  suite.not(
    'volume create',
    ['secret', 'topology-preferred', 'topology-required'],
    'cluster volumes need CSI plugins; without one of the others the client itself leaves it out',
  );
  suite.not('volume update', ['', 'availability'], 'there are no cluster volumes; refused');
  suite.differs('volume ls', ['cluster'], 'the list is empty: there are no cluster volumes');
  suite.works('volume create', [], 'a cluster volume is refused in one line', async () => {
    const flags = [
      ...[
        ['--availability', 'drain'],
        ['--group', 'g'],
        ['--limit-bytes', '1g'],
      ],
      ...[
        ['--scope', 'multi'],
        ['--sharing', 'all'],
        ['--type', 'mount'],
      ],
    ];
    for (const pair of flags) {
      const line = /^Error response from daemon: ClusterVolumeSpec is not supported[^\n]*\n$/;
      await refused('h1', ['volume', 'create', ...pair, 'never'], line);
    }
    await docker('h1', 'volume', 'create', 'plain');
    const update = ['volume', 'update', '--availability', 'drain', 'plain'];
    await refused('h1', update, /can only update cluster volumes/);
    await docker('h1', 'volume', 'rm', 'plain');
    assert.doesNotMatch(await docker('h1', 'volume', 'ls', '--cluster'), /data|plain/);
  });
}
