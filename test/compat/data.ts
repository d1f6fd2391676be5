/** docker secret and docker config. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { outcome, until } from '../support/lab.ts';
import { layoutOf } from '../support/labHosts.ts';
import { written } from './look.ts';
import type { Suite } from './suite.ts';
import { BOX, docker, pidOf, procFile, refused, runningTasks, SOON_MS } from './world.ts';

const VALUE = 'plover-gantry-3391';
const ON_WORKER = ['--constraint', 'node.hostname==h2'];

type Kind = 'secret' | 'config';

/** Runs a task on the worker with these files; what its first process sees of them. */
async function inTask(
  name: string,
  flags: readonly string[],
  look: (root: string, pid: number) => void,
): Promise<void> {
  await docker(
    'h1',
    ...['service', 'create', '-d', '--name', name, ...ON_WORKER, ...flags],
    ...['--stop-signal', 'SIGKILL', BOX, 'sleep', '600'],
  );
  const [task] = await runningTasks(name, 1);
  assert.equal(task.node, 'h2');
  const pid = await pidOf('h2', task.container);
  look(`/proc/${pid}/root`, pid);
}

/** Files below a host's data root, and its log, that hold the text. */
async function holders(host: string, text: string): Promise<string> {
  const { dataRoot, logFile } = layoutOf(host);
  return (await outcome('grep', ['-rlaF', '--', text, dataRoot, logFile])).stdout.trim();
}

export function data(suite: Suite): void {
  secretCreate(suite);
  configCreate(suite);
  for (const kind of ['secret', 'config'] as const) {
    looked(suite, kind);
    removed(suite, kind);
  }
}

function secretCreate(suite: Suite): void {
  suite.works(
    'secret create',
    ['label'],
    'a task finds it on a tmpfs, and no host has it on disk in the clear',
    async () => {
      const file = written('secret', VALUE);
      const made = await docker('h1', 'secret', 'create', '--label', 'a=b', 'pass', file);
      assert.match(made, /^\w{25}$/);
      await inTask('reader', ['--secret', 'pass'], (root, pid) => {
        assert.equal(readFileSync(`${root}/run/secrets/pass`, 'utf8'), VALUE);
        assert.match(procFile(pid, 'mountinfo'), / \/run\/secrets\S* .* - tmpfs /);
      });
      for (const host of ['h1', 'h2']) assert.equal(await holders(host, VALUE), '');
    },
  );
  suite.works(
    'secret create',
    ['template-driver'],
    'its text is filled in for each task',
    async () => {
      const text = '{{.Service.Name}} on {{.Node.Hostname}} with {{secret "pass"}}';
      const file = written('template', text);
      await docker('h1', 'secret', 'create', '--template-driver', 'golang', 'filled', file);
      await inTask('filler', ['--secret', 'pass', '--secret', 'filled'], (root) => {
        const found = readFileSync(`${root}/run/secrets/filled`, 'utf8');
        assert.equal(found, `filler on h2 with ${VALUE}`);
      });
    },
  );
  suite.not(
    'secret create',
    ['driver'],
    'refused: there are no plugins; create the secret with its value from the other store',
  );
  suite.works('secret create', [], 'a driver is refused in one line', async () => {
    await refused(
      'h1',
      ['secret', 'create', '--driver', 'vault', 'other'],
      /^Error response from daemon: Driver is not supported by tsswarm: [^\n]*\n$/,
    );
  });
}

function configCreate(suite: Suite): void {
  suite.works('config create', ['label'], 'a task finds it where it is wanted', async () => {
    const file = written('config', 'listen 80;\n');
    await docker('h1', 'config', 'create', '--label', 'a=b', 'site', file);
    await inTask('web', ['--config', 'source=site,target=/etc/site.conf'], (root) => {
      assert.equal(readFileSync(`${root}/etc/site.conf`, 'utf8'), 'listen 80;\n');
    });
  });
  suite.works(
    'config create',
    ['template-driver'],
    'its text is filled in for each task',
    async () => {
      const file = written('template', 'slot {{.Task.Slot}} of {{.Service.Name}}\n');
      await docker('h1', 'config', 'create', '--template-driver', 'golang', 'slots', file);
      await inTask('slotted', ['--config', 'source=slots,target=/etc/slot'], (root) => {
        assert.equal(readFileSync(`${root}/etc/slot`, 'utf8'), 'slot 1 of slotted\n');
      });
      await docker('h1', 'service', 'rm', 'slotted');
      await docker('h1', 'config', 'rm', 'slots');
    },
  );
}

const NAMES = { secret: 'pass', config: 'site' };

function looked(suite: Suite, kind: Kind): void {
  const name = NAMES[kind];
  suite.works(
    `${kind} ls`,
    ['filter', 'format', 'quiet'],
    'they are listed by label, name and id',
    async () => {
      const id = await docker('h1', kind, 'inspect', '-f', '{{.ID}}', name);
      const list = (...flags: string[]) => docker('h1', kind, 'ls', ...flags);
      assert.equal(await list('--quiet', '--filter', `name=${name}`), id);
      assert.equal(await list('-q', '--filter', `id=${id.slice(0, 8)}`, '--filter', 'label=a'), id);
      assert.equal(
        await list('--format', '{{.Name}} {{.Labels}}', '-f', 'label=a=b'),
        `${name} a=b`,
      );
      assert.equal(await list('-q', '--filter', 'label=a=c'), '');
    },
  );
  const how = kind === 'secret' ? 'tells about it, never what is in it' : 'tells what is in it';
  suite.works(`${kind} inspect`, ['format', 'pretty'], how, async () => {
    const text = await docker('h1', kind, 'inspect', name);
    const pretty = await docker('h1', kind, 'inspect', '--pretty', name);
    assert.match(pretty, new RegExp(`^Name:\\s+${name}$`, 'm'));
    if (kind === 'config') {
      assert.match(pretty, /^listen 80;$/m);
      assert.equal(
        await docker('h1', kind, 'inspect', '--format', '{{printf "%s" .Spec.Data}}', name),
        'listen 80;',
      );
      return;
    }
    assert.ok(!text.includes(VALUE) && !text.includes(Buffer.from(VALUE).toString('base64')));
    assert.ok(!pretty.includes(VALUE));
    const format = '{{json .Spec.Name}}{{json .Spec.Data}}';
    assert.equal(await docker('h1', kind, 'inspect', '--format', format, name), '"pass"null');
  });
}

function removed(suite: Suite, kind: Kind): void {
  const name = NAMES[kind];
  const users = kind === 'secret' ? ['reader', 'filler'] : ['web'];
  const text = kind === 'secret' ? 'one in use stays; unused, no task can have it' : 'the same';
  suite.works(`${kind} rm`, [], text, async () => {
    await refused('h1', [kind, 'rm', name], /in use by/);
    await docker('h1', 'service', 'rm', ...users);
    await docker('h1', kind, 'rm', name, ...(kind === 'secret' ? ['filled'] : []));
    await refused('h1', [kind, 'inspect', name], /not found/);
    const create = ['service', 'create', '-d', '--name', 'late', `--${kind}`, name, BOX];
    await refused('h1', create, new RegExp(`${kind} not found: ${name}`));
    const { execRoot } = layoutOf('h2');
    await until('the worker forgets it', SOON_MS, async () => {
      const { stdout } = await outcome('sh', ['-c', `grep -rlaF '${VALUE}' ${execRoot} || true`]);
      return stdout.trim() === '' || undefined;
    });
  });
}
