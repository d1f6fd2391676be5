/** docker container create/run: what is mounted into a container. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { outcome } from '../support/lab.ts';
import { CREATE } from './containerResources.ts';
import type { Suite } from './suite.ts';
import * as world from './world.ts';
import { BOX, boxed, docker, fileOf, procFile, refused, SLEEP, within } from './world.ts';

const dataOf = (name: string): string => join(hostLayout(1).dataRoot, 'volumes', name, '_data');

/** The options of the mount at a place, as the kernel tells a process. */
function mountAt(pid: number, target: string): string {
  const lines = procFile(pid, 'mountinfo').split('\n');
  return lines.find((line) => line.split(' ')[4] === target) ?? '';
}

export function containerFiles(suite: Suite): void {
  suite.works(
    CREATE,
    ['volume', 'mount', 'tmpfs', 'volume-driver', 'volumes-from'],
    'volumes, directories of the host and memory are mounted as asked, and shared',
    async () => {
      const given = join(world.work, 'given');
      mkdirSync(given);
      writeFileSync(join(given, 'file'), 'from the host\n');
      const flags = [
        ...['--volume', 'shelf:/v', '--volume', `${given}:/b:ro`, '--volume-driver', 'local'],
        ...['--tmpfs', '/t:size=1m,mode=700'],
        ...['--mount', 'type=volume,source=crate,target=/mv,readonly'],
        ...['--mount', `type=bind,source=${given},target=/mb`],
        ...['--mount', 'type=tmpfs,target=/mt,tmpfs-size=2m'],
      ];
      await boxed('shelves', flags, SLEEP, async (pid) => {
        assert.equal(fileOf(pid, '/b/file'), 'from the host\n');
        assert.match(mountAt(pid, '/b'), / ro[, ]/);
        assert.match(mountAt(pid, '/mv'), / ro[, ]/);
        assert.match(mountAt(pid, '/t'), / - tmpfs \S+ .*size=1024k,.*mode=700/);
        assert.match(mountAt(pid, '/mt'), / - tmpfs \S+ .*size=2048k/);
        await within(pid, 'sh', '-c', 'echo kept > /v/file; echo back > /mb/back');
        assert.equal(readFileSync(join(dataOf('shelf'), 'file'), 'utf8'), 'kept\n');
        assert.equal(readFileSync(join(given, 'back'), 'utf8'), 'back\n');
        await boxed('reader', ['--volumes-from', 'shelves:ro'], SLEEP, (reader) => {
          assert.equal(fileOf(reader, '/v/file'), 'kept\n');
          assert.match(mountAt(reader, '/v'), / ro[, ]/);
          assert.match(mountAt(reader, '/b'), / ro[, ]/);
          return Promise.resolve();
        });
      });
      await docker('h1', 'volume', 'rm', 'shelf', 'crate');
      const create = ['container', 'create', '--mount'];
      const absent = `type=bind,source=${world.work}/absent,target=/b`;
      await refused('h1', [...create, absent, BOX], /bind source path does not exist/);
      await refused('h1', [...create, 'type=image,source=box:1,target=/i', BOX], /use bind/);
    },
  );
  suite.differs(
    CREATE,
    ['mount'],
    'bind, volume (driver local) and tmpfs; types image and cluster, volume-subpath and ' +
      'bind-recursive other than enabled and disabled are refused',
  );
  suite.differs(CREATE, ['volume-driver'], 'only `local`: there are no volume plugins');
  suite.works(CREATE, ['use-api-socket'], 'the daemon’s socket answers in it', () =>
    boxed('manages', ['--use-api-socket'], SLEEP, async (pid) => {
      const socket = `/proc/${pid}/root/var/run/docker.sock`;
      const ping = await outcome('curl', ['-s', '--unix-socket', socket, 'http://host/_ping']);
      assert.equal(ping.stdout, 'OK');
    }),
  );
}
