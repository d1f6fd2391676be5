/** docker container create/run: what is mounted into a container. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { daemonPid } from '../../deploy/hosts/host.ts';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { outcome, until } from '../support/lab.ts';
import { CREATE } from './containerResources.ts';
import type { Suite } from './suite.ts';
import * as world from './world.ts';
import { BOX, boxed, docker, fileOf, procFile, refused, SLEEP, SOON_MS, within } from './world.ts';

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
      await refused('h1', [...create, 'type=cluster,source=x,target=/i', BOX], /use bind/);
    },
  );
  suite.works(
    CREATE,
    ['mount'],
    'parts of volumes, mounts below mounts and who sees them are as asked',
    mountOptions,
  );
  suite.differs(
    CREATE,
    ['mount'],
    'bind, volume (driver local) and tmpfs with all their options; image is read-only and without ' +
      'image-subpath; cluster is refused',
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

async function mountOptions(): Promise<void> {
  const fill = 'mkdir -p /v/in/side /v/out; echo deep > /v/in/side/file; ln -s /etc /v/link';
  await docker('h1', 'run', '--rm', '-v', 'parts:/v', BOX, 'sh', '-c', fill);
  const tree = join(world.work, 'tree');
  mkdirSync(join(tree, 'below'), { recursive: true });
  const host = String(daemonPid(hostLayout(1)));
  const onHost = async (...command: string[]): Promise<void> => {
    const { code, stderr } = await outcome('nsenter', ['-t', host, '-m', ...command]);
    assert.equal(code, 0, stderr);
  };
  // Mounts have to be the host's: its daemon has a mount namespace of its own.
  await onHost('mount', '-t', 'tmpfs', 'below', join(tree, 'below'));
  const bind = (target: string, more: string): string[] => [
    '--mount',
    `type=bind,source=${tree},target=${target}${more}`,
  ];
  const part = 'type=volume,source=parts,volume-subpath=in/side,volume-nocopy=true,target=';
  const flags = [
    ...['--mount', `${part}/part`, '--mount', `${part}/part-ro,readonly`],
    ...bind('/all', ',readonly'),
    ...bind('/top', ',readonly,bind-recursive=writable'),
    ...bind('/none', ',bind-recursive=disabled'),
    ...bind('/forced', ',readonly,bind-recursive=readonly,bind-propagation=rprivate'),
    ...bind('/follows', ',bind-propagation=rslave'),
    ...['--mount', 'type=tmpfs,target=/t,tmpfs-mode=0700,tmpfs-size=1m'],
  ];
  try {
    await boxed('parts', flags, SLEEP, async (pid) => {
      assert.equal(fileOf(pid, '/part/file'), 'deep\n');
      assert.match(mountAt(pid, '/part-ro'), / ro[, ]/);
      assert.doesNotMatch(mountAt(pid, '/part'), / ro[, ]/);
      for (const [place, top, below] of [
        ['/all', 'ro', 'ro'],
        ['/top', 'ro', 'rw'],
        ['/forced', 'ro', 'ro'],
        ['/follows', 'rw', 'rw'],
      ]) {
        assert.ok(mountAt(pid, place).includes(` ${top},`), place);
        assert.ok(mountAt(pid, `${place}/below`).includes(` ${below},`), `${place}/below`);
      }
      assert.equal(mountAt(pid, '/none/below'), '');
      assert.match(mountAt(pid, '/t'), /size=1024k,mode=700/);
      await docker('h1', 'cp', 'parts:/part/file', join(world.work, 'part-file'));
      await docker('h1', 'container', 'stop', '-t', '0', 'parts');
      await docker('h1', 'cp', 'parts:/part/file', join(world.work, 'part-file-2'));
      assert.equal(readFileSync(join(world.work, 'part-file-2'), 'utf8'), 'deep\n');
    });
    await imageMounts();
    const create = ['container', 'create', '--mount'];
    const volume = 'type=volume,source=parts,target=/p,volume-subpath=';
    await refused('h1', [...create, `${volume}../x`, BOX], /relative path within the volume/);
    // A link in the volume leads nowhere outside of it.
    const run = ['run', '--rm', '--mount', `${volume}link/passwd`, BOX, 'true'];
    await refused('h1', run, /cannot mount link\/passwd of the volume/);
  } finally {
    await onHost('umount', join(tree, 'below'));
    await docker('h1', 'volume', 'rm', 'parts');
  }
}

/** Images of one layer and of two. */
async function imageMounts(): Promise<void> {
  await boxed('made', [], ['sh', '-c', 'echo 2 > /two; exec sleep 600'], async (pid) => {
    await until('it has written', SOON_MS, () => existsSync(`/proc/${pid}/root/two`) || undefined);
    await docker('h1', 'container', 'commit', 'made', 'two:1');
  });
  const mounts = [
    ...['--mount', `type=image,source=${BOX},target=/one`],
    ...['--mount', 'type=image,source=two:1,target=/both'],
  ];
  await boxed('holds', mounts, SLEEP, async (pid) => {
    assert.equal(fileOf(pid, '/both/two'), '2\n');
    assert.ok(existsSync(`/proc/${pid}/root/one/bin/busybox`));
    assert.ok(!existsSync(`/proc/${pid}/root/one/two`));
    for (const place of ['/one', '/both']) {
      assert.match(mountAt(pid, place), / ro[, ]/);
      await refused('h1', ['exec', 'holds', 'touch', `${place}/x`], /Read-only file system/);
    }
    await refused('h1', ['image', 'rm', 'two:1'], /container .* is using its/);
  });
  await docker('h1', 'image', 'rm', 'two:1');
  const absent = 'type=image,source=nosuch:1,target=/i';
  await refused('h1', ['container', 'create', '--mount', absent, BOX], /No such image: nosuch:1/);
}
