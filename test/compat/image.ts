/** docker image. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pidOf as hostPid } from '../../deploy/hosts/host.ts';
import { layoutOf } from '../support/labHosts.ts';
import { registryCommand, runRegistry, untilListening } from '../support/registry.ts';
import { dataPath, filesIn, onHost, written } from './look.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, field, refused, tried, work } from './world.ts';

const PORT = 5000;
const REGISTRY = `127.0.0.1:${PORT}`;
const HERE = 'linux/amd64';
const OTHER = 'linux/s390x';

const layers = (): string[] => filesIn(dataPath('h1', 'image', 'layers')).sort();

/** An image of one file, told from others by `text`. */
async function imported(name: string, text: string, ...flags: string[]): Promise<string> {
  const file = written('mark', text);
  const tar = join(work, 'mark.tar');
  execFileSync('tar', ['-C', work, '-cf', tar, 'mark']);
  assert.ok(existsSync(file));
  return docker('h1', 'image', 'import', ...flags, tar, name);
}

const BUILD_FLAGS = [
  ...['add-host', 'build-arg', 'cache-from', 'cgroup-parent', 'compress', 'cpu-period'],
  ...['cpu-quota', 'cpu-shares', 'cpuset-cpus', 'cpuset-mems', 'disable-content-trust', 'file'],
  ...['force-rm', 'iidfile', 'isolation', 'label', 'memory', 'memory-swap', 'network', 'no-cache'],
  ...['platform', 'pull', 'quiet', 'rm', 'security-opt', 'shm-size', 'squash', 'tag', 'target'],
  'ulimit',
];

export function images(suite: Suite): void {
  made(suite);
  looked(suite);
  registry(suite);
  removed(suite);
  suite.not(
    'image build',
    ['', ...BUILD_FLAGS],
    'build with docker buildx or podman elsewhere, then push to a registry, or `docker save` ' +
      'there and `docker load` here; the refusal says so',
  );
}

function made(suite: Suite): void {
  suite.works(
    'image import',
    ['change', 'message', 'platform'],
    'a tar of files is an image, with its command, comment and platform',
    async () => {
      const before = layers();
      await imported('marked:1', 'one', '--message', 'by hand', '--change', 'CMD ["cat", "/mark"]');
      assert.equal(layers().length, before.length + 1);
      assert.equal(
        await field('h1', 'marked:1', '{{.Comment}} {{.Config.Cmd}}'),
        'by hand [cat /mark]',
      );
      await imported('foreign:1', 'two', '--platform', OTHER);
      assert.equal(await field('h1', 'foreign:1', '{{.Os}}/{{.Architecture}}'), OTHER);
    },
  );
  suite.works('image tag', [], 'one image has one more name', async () => {
    await docker('h1', 'image', 'tag', BOX, 'box:2');
    assert.equal(await docker('h1', 'run', '--rm', 'box:2', 'echo', 'ran'), 'ran');
    assert.equal(await field('h1', 'box:2', '{{.Id}}'), await field('h1', BOX, '{{.Id}}'));
  });
  suite.works(
    'image save',
    ['output', 'platform'],
    'a file holds the image, of its platform alone',
    async () => {
      const file = join(work, 'saved.tar');
      await docker('h1', 'image', 'save', '--platform', HERE, '--output', file, 'marked:1');
      const listed = execFileSync('tar', ['-tf', file], { encoding: 'utf8' });
      assert.match(listed, /^manifest\.json$/m);
      const wrong = ['image', 'save', '--platform', OTHER, '-o', `${file}2`, 'marked:1'];
      await refused('h1', wrong, /does not provide the specified platform/);
      assert.ok(!existsSync(`${file}2`) || statSync(`${file}2`).size === 0);
    },
  );
  suite.works(
    'image load',
    ['input', 'platform', 'quiet'],
    'the image of the file is here again, with its layers',
    async () => {
      const [id, had] = [await field('h1', 'marked:1', '{{.Id}}'), layers()];
      await docker('h1', 'image', 'rm', 'marked:1');
      assert.equal(layers().length, had.length - 1);
      const file = ['--input', join(work, 'saved.tar')];
      await refused('h1', ['image', 'load', '--platform', OTHER, ...file], /platform/);
      const said = await docker('h1', 'image', 'load', '--quiet', '--platform', HERE, ...file);
      assert.equal(said, 'Loaded image: marked:1');
      assert.equal(await field('h1', 'marked:1', '{{.Id}}'), id);
      assert.deepEqual(layers(), had);
    },
  );
}

function looked(suite: Suite): void {
  suite.works(
    'image ls',
    ['digests', 'filter', 'format', 'no-trunc', 'quiet'],
    'images by name, label, age and dangling, with id and digest',
    async () => {
      const id = await field('h1', BOX, '{{.Id}}');
      const list = (...flags: string[]) => docker('h1', 'image', 'ls', ...flags);
      assert.equal(await list('--quiet', '--no-trunc', '--filter', 'reference=box:2'), id);
      assert.equal(await list('-q', 'box:2'), id.slice(7, 19));
      const format = ['--format', '{{.Repository}} {{.Tag}}'];
      assert.equal(await list(...format, '--filter', 'reference=mark*'), 'marked 1');
      assert.equal(await list('-q', '--filter', 'label=no-such'), '');
      assert.ok(!(await list(...format, '--filter', 'before=marked:1')).includes('marked'));
      const [digest] = /sha256:[0-9a-f]{64}/.exec(await list('--digests', 'marked:1')) ?? [''];
      assert.ok(existsSync(dataPath('h1', 'image', 'blobs', 'sha256', digest.slice(7))), digest);
    },
  );
  suite.differs('image ls', ['all'], 'no image is hidden without it: there are no parent images');
  suite.differs(
    'image ls',
    ['tree'],
    'lists the images; each is kept for one platform, so none has branches',
  );
  suite.works('image ls', [], 'with --all and --tree too', async () => {
    assert.match(await docker('h1', 'image', 'ls', '--all', '-q'), /^[0-9a-f]{12}$/m);
    assert.match(await docker('h1', 'image', 'ls', '--tree'), /marked:1/);
  });
  suite.works(
    'image history',
    ['format', 'human', 'no-trunc', 'platform', 'quiet'],
    'each layer with what made it, its size as on disk',
    async () => {
      const history = (...flags: string[]) =>
        docker('h1', 'image', 'history', ...flags, 'marked:1');
      const id = await field('h1', 'marked:1', '{{.Id}}');
      assert.equal(await history('--quiet', '--no-trunc', '--platform', HERE), id);
      assert.equal(
        await history('--human=false', '--format', '{{.Size}} {{.Comment}}'),
        '3 by hand',
      );
      const wrong = ['image', 'history', '--platform', OTHER, 'marked:1'];
      await refused('h1', wrong, /does not provide the specified platform/);
    },
  );
  suite.works(
    'image inspect',
    ['format', 'platform'],
    'what the image says of itself',
    async () => {
      const inspect = (...flags: string[]) =>
        docker('h1', 'image', 'inspect', ...flags, 'marked:1');
      assert.equal(await inspect('--platform', HERE, '--format', '{{len .RootFS.Layers}}'), '1');
      await refused('h1', ['image', 'inspect', '--platform', OTHER, 'marked:1'], /platform/);
    },
  );
}

/** Ends with its host. */
async function startRegistry(): Promise<void> {
  const directory = join(work, 'registry');
  mkdirSync(directory, { recursive: true });
  const pid = hostPid(layoutOf('h1'));
  const command = registryCommand({ directory, port: PORT });
  runRegistry(['nsenter', '-t', String(pid), '-n', '-p', ...command]).unref();
  await untilListening(PORT, pid);
}

/** Names and tags that the registry itself tells. */
async function held(repository: string): Promise<string> {
  return onHost('h1', 'curl', '-s', `http://${REGISTRY}/v2/${repository}/tags/list`);
}

function registry(suite: Suite): void {
  suite.works(
    'image push',
    ['all-tags', 'disable-content-trust', 'platform', 'quiet'],
    'the registry has it under its names',
    async () => {
      await startRegistry();
      for (const tag of ['1', '2'])
        await docker('h1', 'tag', 'marked:1', `${REGISTRY}/mark:${tag}`);
      const push = ['image', 'push', '--disable-content-trust'];
      await docker('h1', ...push, '--quiet', '--platform', HERE, `${REGISTRY}/mark:1`);
      assert.match(await held('mark'), /"tags":\["1"\]/);
      await refused('h1', [...push, '--platform', OTHER, `${REGISTRY}/mark:1`], /platform/);
      await docker('h1', ...push, '--all-tags', `${REGISTRY}/mark`);
      assert.match(await held('mark'), /"tags":\[("1","2"|"2","1")\]/);
    },
  );
  suite.works(
    'image pull',
    ['all-tags', 'disable-content-trust', 'platform', 'quiet'],
    'it comes from the registry, layers and all',
    async () => {
      const had = layers();
      const id = await field('h1', 'marked:1', '{{.Id}}');
      const gone = () =>
        docker('h1', 'rmi', 'marked:1', `${REGISTRY}/mark:1`, `${REGISTRY}/mark:2`);
      await gone();
      assert.equal(layers().length, had.length - 1);
      const pull = ['image', 'pull', '--disable-content-trust'];
      await refused('h1', [...pull, '--platform', OTHER, `${REGISTRY}/mark:1`], /linux\/s390x/);
      await docker('h1', ...pull, '--quiet', '--platform', HERE, `${REGISTRY}/mark:1`);
      assert.equal(await field('h1', `${REGISTRY}/mark:1`, '{{.Id}}'), id);
      assert.deepEqual(layers(), had);
      await docker('h1', ...pull, '--all-tags', `${REGISTRY}/mark`);
      assert.equal(await field('h1', `${REGISTRY}/mark:2`, '{{.Id}}'), id);
    },
  );
}

function removed(suite: Suite): void {
  suite.works(
    'image rm',
    ['force', 'platform'],
    'names go one by one, with the last one the layers',
    async () => {
      const had = layers();
      const remove = (...flags: string[]) => ['image', 'rm', ...flags];
      await refused('h1', remove('--platform', OTHER, `${REGISTRY}/mark:1`), /platform/);
      await docker('h1', ...remove('--platform', HERE, `${REGISTRY}/mark:1`));
      assert.deepEqual(layers(), had);
      const id = await field('h1', `${REGISTRY}/mark:2`, '{{.Id}}');
      await docker('h1', 'create', '--name', 'holder', `${REGISTRY}/mark:2`);
      await refused('h1', remove(id), /in use|being used|is using/);
      await docker('h1', 'rm', 'holder');
      await docker('h1', 'tag', `${REGISTRY}/mark:2`, 'mark:3');
      await refused('h1', remove(id), /must be forced/);
      await docker('h1', ...remove('--force', id));
      assert.equal(layers().length, had.length - 1);
      await docker('h1', ...remove('--no-prune', 'foreign:1'));
    },
  );
  suite.differs('image rm', ['no-prune'], 'nothing is kept by it: there are no parent images');
  suite.works(
    'image prune',
    ['all', 'filter', 'force'],
    'unused images go from the disk, dangling ones or all',
    async () => {
      const had = layers();
      await imported('loose:1', 'three', '--change', 'LABEL kind=loose');
      await imported('loose:1', 'four', '--change', 'LABEL kind=loose');
      assert.equal(layers().length, had.length + 2);
      const prune = ['image', 'prune', '--force', '--filter', 'label=kind=loose'];
      await docker('h1', ...prune);
      assert.equal(layers().length, had.length + 1);
      await docker('h1', ...prune, '--all');
      assert.deepEqual(layers(), had);
      await docker('h1', 'rmi', 'box:2');
    },
  );
  suite.works('image build', [], 'is refused in one line that says what to do', async () => {
    const directory = join(work, 'build');
    mkdirSync(directory);
    written('build/Dockerfile', 'FROM scratch\n');
    const { code, stderr } = await tried('h1', 'image', 'build', directory);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^Error response from daemon: building images is not .*docker load here$/m,
    );
  });
}
