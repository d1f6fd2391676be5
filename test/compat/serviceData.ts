/** docker service create and update: secrets, configs and mounts, looked at in the container. */
import assert from 'node:assert/strict';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Suite } from './suite.ts';
import { change, fileOf, mountAt, remove, serve, volumeOf } from './tasks.ts';
import { BOX, docker, refused, work } from './world.ts';

const OPTIONS = ['type=tmpfs', 'device=tmpfs', 'o=size=2m'];
const MADE = OPTIONS.map((option) => `volume-opt=${option}`).join(',');
const ON_H1 = ['--constraint', 'node.hostname==h1'];

function file(name: string, text: string): string {
  const path = join(work, name);
  writeFileSync(path, text);
  return path;
}

/** 'uid:gid mode' of a file as a container has it. */
function ownerOf(pid: number, path: string): string {
  const { uid, gid, mode } = statSync(`/proc/${pid}/root${path}`);
  return `${uid}:${gid} ${(mode & 0o777).toString(8)}`;
}

function isMissing(pid: number, path: string): boolean {
  return statSync(`/proc/${pid}/root${path}`, { throwIfNoEntry: false }) === undefined;
}

export function serviceData(suite: Suite): void {
  suite.works(
    'service create',
    ['config', 'mount', 'secret'],
    'files, owners, modes and mounts are in the container; secrets lie in memory only',
    async () => {
      await docker('h1', 'secret', 'create', 'pass', file('pass', 'hush'));
      await docker('h1', 'config', 'create', 'settings', file('settings', 'a=b'));
      mkdirSync(join(work, 'bound'));
      file('bound/note', 'from the host');
      const [{ pid }] = await serve(
        'given',
        1,
        [
          ...[...ON_H1, '--secret', 'source=pass,target=pw,uid=7,gid=8,mode=0440'],
          ...['--config', 'source=settings,target=/etc/settings,mode=0444'],
          ...['--mount', `type=bind,source=${join(work, 'bound')},target=/bound,readonly`],
          ...['--mount', 'type=volume,source=kept-{{.Task.Slot}},target=/kept'],
          ...['--mount', 'type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=700'],
          ...['--mount', `type=volume,source=made,target=/made,volume-label=a=b,${MADE}`],
          ...['--mount', 'type=volume,target=/nameless'],
        ],
        ...['sh', '-c', 'echo kept > /kept/file; exec sleep 1000'],
      );
      assert.equal(fileOf(pid, '/run/secrets/pw'), 'hush');
      assert.equal(ownerOf(pid, '/run/secrets/pw'), '7:8 440');
      const memory = [mountAt(pid, '/run/secrets/pw'), mountAt(pid, '/run/secrets')].join('');
      assert.match(memory, / - tmpfs /);
      assert.equal(fileOf(pid, '/etc/settings'), 'a=b');
      assert.equal(ownerOf(pid, '/etc/settings'), '0:0 444');
      assert.equal(fileOf(pid, '/bound/note'), 'from the host');
      assert.match(mountAt(pid, '/bound'), / \/bound ro/);
      assert.equal(fileOf(pid, '/kept/file'), 'kept\n');
      assert.ok(statSync(join(volumeOf('h1', 'kept-1'), 'file')).isFile());
      assert.match(mountAt(pid, '/scratch'), / - tmpfs \S+ rw.*size=1024k/);
      assert.equal(ownerOf(pid, '/scratch'), '0:0 700');
      assert.match(mountAt(pid, '/made'), / - tmpfs \S+ rw.*size=2048k/);
      assert.match(mountAt(pid, '/nameless'), /\/volumes\/[0-9a-f]{64}\/_data \/nameless rw/);
      assert.equal(await docker('h1', 'volume', 'ls', '-q', '--filter', 'label=a=b'), 'made');
      for (const type of ['cluster', 'image', 'npipe']) {
        const mount = ['--mount', `type=${type},source=x,target=/x`];
        const says = /Mounts\[0\]\.Type is not supported by tsswarm: use bind, volume or tmpfs$/m;
        await refused('h1', ['service', 'create', ...mount, BOX], says);
      }
    },
  );
  suite.works(
    'service update',
    ['config-add', 'config-rm', 'mount-add', 'mount-rm', 'secret-add', 'secret-rm'],
    'the next container has what is added, and not what is removed',
    async () => {
      await docker('h1', 'secret', 'create', 'pass2', file('pass2', 'hush 2'));
      await docker('h1', 'config', 'create', 'settings2', file('settings2', 'a=c'));
      const [{ pid }] = await change(
        ...(['given', 1, '--secret-rm', 'pass', '--secret-add', 'pass2'] as const),
        ...['--config-rm', 'settings', '--config-add', 'source=settings2,target=/etc/settings'],
        ...['--mount-rm', '/bound', '--mount-rm', '/scratch'],
        ...['--mount-add', 'type=volume,source=more,target=/more'],
      );
      assert.ok(isMissing(pid, '/run/secrets/pw'));
      assert.equal(fileOf(pid, '/run/secrets/pass2'), 'hush 2');
      assert.equal(fileOf(pid, '/etc/settings'), 'a=c');
      assert.equal(mountAt(pid, '/bound') + mountAt(pid, '/scratch'), '');
      assert.equal(fileOf(pid, '/kept/file'), 'kept\n');
      assert.match(mountAt(pid, '/more'), / \/more rw/);
      await remove('given');
      await docker('h1', 'secret', 'rm', 'pass', 'pass2');
      await docker('h1', 'config', 'rm', 'settings', 'settings2');
    },
  );
  const kinds = 'bind, volume (driver local, no subpath) and tmpfs; other types are refused';
  suite.differs('service create', ['mount'], kinds);
  suite.differs('service update', ['mount-add'], kinds);
}
