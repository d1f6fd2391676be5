/** docker system. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { clock } from '../support/lab.ts';
import { layoutOf } from '../support/labHosts.ts';
import { dataPath, filesIn } from './look.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, work } from './world.ts';

const MIB = 1024 * 1024;

interface Event {
  readonly Type: string;
  readonly Action: string;
  readonly Actor: { readonly Attributes: Readonly<Record<string, string>> };
}

export function system(suite: Suite): void {
  info(suite);
  usage(suite);
  events(suite);
  prune(suite);
}

function info(suite: Suite): void {
  suite.works('system info', ['format'], 'the host and its place in the swarm', async () => {
    const { dataRoot, address } = layoutOf('h1');
    const cpus = execFileSync('nproc', { encoding: 'utf8' }).trim();
    const kernel = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
    const format = '{{.Name}} {{.NCPU}} {{.KernelVersion}} {{.DockerRootDir}} {{.Swarm.NodeAddr}}';
    assert.equal(
      await docker('h1', 'system', 'info', '--format', format),
      `h1 ${cpus} ${kernel} ${dataRoot} ${address}`,
    );
    const memory = Number(/^MemTotal:\s+(\d+)/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]);
    const told = await docker('h1', 'system', 'info', '--format', '{{.MemTotal}}');
    assert.equal(Number(told), memory * 1024);
    const nodeId = await docker('h1', 'node', 'inspect', '-f', '{{.ID}}', 'h2');
    assert.equal(await docker('h2', 'system', 'info', '-f', '{{.Swarm.NodeID}}'), nodeId);
  });
}

function usage(suite: Suite): void {
  suite.works('system df', ['format', 'verbose'], 'sizes are those on the disk', async () => {
    await docker('h1', 'volume', 'create', 'full');
    const fill = ['dd', 'if=/dev/zero', 'of=/d/zeros', 'bs=1M', 'count=3'];
    await docker('h1', 'run', '--rm', '-v', 'full:/d', BOX, ...fill);
    const { Volumes, Images } = JSON.parse(
      await docker('h1', 'system', 'df', '--verbose', '--format', 'json'),
    ) as { Volumes: Record<string, string>[]; Images: Record<string, string>[] };
    const volume = Volumes.find(({ Name }) => Name === 'full');
    assert.equal(volume?.['Size'], `${((3 * MIB) / 1e6).toFixed(3)}MB`);
    assert.equal(volume?.['Links'], '0');
    assert.ok(Images.some(({ Repository }) => Repository === 'box'));
    const rows = await docker('h1', 'system', 'df', '--format', '{{.Type}} {{.TotalCount}}');
    const kept = filesIn(dataPath('h1', 'volumes')).filter((name) => !name.startsWith('.'));
    assert.match(rows, new RegExp(`^Local Volumes ${kept.length}$`, 'm'));
    await docker('h1', 'volume', 'rm', 'full');
  });
}

function events(suite: Suite): void {
  suite.works(
    'system events',
    ['filter', 'format', 'since', 'until'],
    'what happened to a container between two moments, in order',
    async () => {
      const since = String(clock.wallMs() / 1000);
      await docker('h1', 'run', '--rm', '--name', 'brief', '--label', 'kind=cmp', BOX, 'true');
      const until = String(clock.wallMs() / 1000 + 0.001);
      const period = ['--since', since, '--until', until];
      const text = await docker(
        'h1',
        ...['system', 'events', ...period, '--filter', 'type=container'],
        ...['--filter', 'label=kind=cmp', '--format', '{{json .}}'],
      );
      const found = text.split('\n').map((line) => JSON.parse(line) as Event);
      assert.ok(found.every(({ Actor }) => Actor.Attributes['name'] === 'brief'));
      const actions = found.map(({ Action }) => Action).filter((each) => each !== 'attach');
      assert.deepEqual(actions, ['create', 'start', 'die', 'destroy']);
      const none = ['--filter', 'event=oom', '--filter', 'container=brief'];
      assert.equal(await docker('h1', 'system', 'events', ...period, ...none), '');
    },
  );
}

/** Containers, networks, volumes and images of the label, and a moment to keep the rest. */
function prune(suite: Suite): void {
  suite.works(
    'system prune',
    ['all', 'filter', 'force', 'volumes'],
    'what nobody uses goes: containers, networks, images, with --volumes those too',
    async () => {
      const label = ['--label', 'kind=waste'];
      const id = await docker('h1', 'create', ...label, BOX, 'true');
      await docker('h1', 'network', 'create', ...label, 'waste');
      const volume = await docker('h1', 'volume', 'create', ...label);
      const tar = join(work, 'root.tar');
      await docker('h1', 'image', 'import', '--change', 'LABEL kind=waste', tar, 'waste:1');
      const only = ['--force', '--filter', 'label=kind=waste'];
      await docker('h1', 'system', 'prune', ...only);
      assert.ok(!existsSync(dataPath('h1', 'containers', id)));
      assert.doesNotMatch(await docker('h1', 'network', 'ls'), /waste/);
      assert.ok(existsSync(dataPath('h1', 'volumes', volume)));
      assert.match(await docker('h1', 'image', 'ls'), /waste/);
      await docker('h1', 'system', 'prune', '--all', '--volumes', ...only);
      assert.ok(!existsSync(dataPath('h1', 'volumes', volume)));
      assert.doesNotMatch(await docker('h1', 'image', 'ls'), /waste/);
      assert.match(await docker('h1', 'image', 'ls'), /^box +1 /m);
    },
  );
}
