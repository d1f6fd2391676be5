/** docker container create/run: the program, what it reads and says, and how it is watched. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { until } from '../support/lab.ts';
import { environmentOf } from '../support/labProbe.ts';
import { CREATE } from './containerResources.ts';
import type { Suite } from './suite.ts';
import * as world from './world.ts';
import {
  BOX,
  begun,
  boxed,
  commandOf,
  docker,
  field,
  onTerminal,
  pidOf,
  procFile,
  refused,
  SLEEP,
  SOON_MS,
  tried,
  within,
} from './world.ts';

const run = ['container', 'run'];
const here = process.arch === 'x64' ? 'linux/amd64' : `linux/${process.arch}`;

export function containerProcess(suite: Suite): void {
  program(suite);
  streams(suite);
  clients(suite);
  health(suite);
  ends(suite);
  images(suite);
  suite.works(CREATE, ['annotation'], 'what was noted of it is told again', () =>
    boxed('noted', ['--annotation', 'com.example.kind=a b'], SLEEP, async () => {
      const told = await field('h1', 'noted', '{{json .HostConfig.Annotations}}');
      assert.equal(told, '{"com.example.kind":"a b"}');
    }),
  );
  suite.differs(
    CREATE,
    ['log-driver'],
    '`json-file` (the default), `local` and `none`; those that send away are refused',
  );
}

function program(suite: Suite): void {
  suite.works(
    CREATE,
    [
      ...['entrypoint', 'env', 'env-file', 'workdir', 'init', 'name', 'label', 'label-file'],
      'cidfile',
    ],
    'the process is started as told; labels and name find its container',
    async () => {
      const [vars, labels, cid] = ['vars', 'labels', 'cid'].map((each) => join(world.work, each));
      writeFileSync(vars, 'FROM_FILE=1\n');
      writeFileSync(labels, 'shelf=top\n');
      const flags = [
        ...['--entrypoint', 'sleep', '--env', 'A=1', '--env-file', vars, '--workdir', '/made'],
        ...['--init', '--label', 'kind=told', '--label-file', labels, '--cidfile', cid],
      ];
      await boxed('told', flags, ['600'], async (init) => {
        const id = readFileSync(cid, 'utf8');
        assert.equal(await field('h1', 'told', '{{.Id}}'), id);
        const filter = ['--filter', 'label=kind=told', '--filter', 'label=shelf=top'];
        const listed = ['container', 'ls', '-q', '--no-trunc', ...filter];
        assert.equal(await docker('h1', ...listed), id);
        const [child] = procFile(init, `task/${init}/children`).trim().split(' ').map(Number);
        assert.equal(commandOf(child), 'sleep 600');
        assert.equal(environmentOf(child, 'A') + environmentOf(child, 'FROM_FILE'), '11');
        assert.equal(await within(child, 'readlink', '/proc/self/cwd'), '/');
        assert.equal(await within(init, 'readlink', '/proc/2/cwd'), '/made');
      });
    },
  );
}

function streams(suite: Suite): void {
  suite.works(
    CREATE,
    ['attach', 'interactive', 'tty'],
    'what is typed reaches the program, what it says comes by stream, a terminal has its size',
    async () => {
      const both = ['sh', '-c', 'echo out; echo bad >&2'];
      const one = await tried('h1', ...run, '--rm', '--attach', 'stderr', BOX, ...both);
      assert.deepEqual([one.code, one.stdout, one.stderr], [0, '', 'bad\n']);
      const typed = begun('h1', ...run, '--rm', '--interactive', BOX, 'cat');
      typed.type('typed\n');
      typed.endInput();
      assert.equal((await typed.ended).stdout, 'typed\n');
      const terminal = onTerminal(33, 99, 'h1', ...run, '--rm', '-it', '--name', 'seat', BOX, 'sh');
      await until('it prompts', SOON_MS, () => terminal.said().includes('#') || undefined);
      const pid = await pidOf('h1', 'seat');
      assert.match(await within(pid, 'readlink', '/proc/1/fd/0'), /^\/dev\/(pts\/0|console)$/);
      await until('it has the size', SOON_MS, async () => {
        return (await within(pid, 'sh', '-c', 'stty size < /proc/1/fd/0')) === '33 99' || undefined;
      });
      terminal.type('exit 5\n');
      assert.equal((await terminal.ended).code, 5);
    },
  );
}

function clients(suite: Suite): void {
  suite.works(
    'container run',
    ['detach', 'sig-proxy', 'detach-keys'],
    'signals to the client reach the program or do not; keys let go and it runs on',
    async () => {
      const trap = ['sh', '-c', 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done'];
      const proxied = begun('h1', ...run, '--rm', BOX, ...trap);
      await until('it is ready', SOON_MS, () => proxied.said().includes('ready') || undefined);
      proxied.signal('SIGTERM');
      assert.equal((await proxied.ended).code, 7);
      const alone = begun('h1', ...run, '--sig-proxy=false', '--name', 'deaf', BOX, ...trap);
      await until('it is ready', SOON_MS, () => alone.said().includes('ready') || undefined);
      const pid = await pidOf('h1', 'deaf');
      alone.signal('SIGTERM');
      await docker('h1', 'container', 'exec', 'deaf', 'true');
      assert.ok(existsSync(`/proc/${pid}`), 'the program runs on');
      alone.signal('SIGKILL');
      await alone.ended;
      await docker('h1', 'container', 'rm', '--force', 'deaf');
      const keys = ['-it', '--detach-keys', 'ctrl-a,x', '--name', 'left'];
      const terminal = onTerminal(24, 80, 'h1', ...run, ...keys, BOX, 'sh');
      await until('it prompts', SOON_MS, () => terminal.said().includes('#') || undefined);
      terminal.type('\u0001x');
      await terminal.ended;
      assert.equal(commandOf(await pidOf('h1', 'left')), 'sh');
      await docker('h1', 'container', 'rm', '--force', 'left');
      const id = await docker('h1', ...run, '--detach', '--name', 'back', BOX, ...SLEEP);
      assert.match(id, /^[0-9a-f]{64}$/);
      assert.equal(commandOf(await pidOf('h1', 'back')), 'sleep 600');
      await docker('h1', 'container', 'rm', '--force', 'back');
    },
  );
}

function health(suite: Suite): void {
  const status = (name: string): Promise<string> => field('h1', name, '{{.State.Health.Status}}');
  suite.works(
    CREATE,
    [
      ...['health-cmd', 'health-interval', 'health-retries', 'health-timeout'],
      ...['health-start-period', 'health-start-interval', 'no-healthcheck'],
    ],
    'a program is run in it as often as told, and what it finds is its health',
    async () => {
      const early = [
        ...['--health-cmd', 'echo x >> /tries; test -e /ok', '--health-interval', '1h'],
        ...['--health-start-period', '1h', '--health-start-interval', '100ms'],
        ...['--health-retries', '1'],
      ];
      await boxed('young', early, SLEEP, async (pid) => {
        const tries = async (): Promise<number> =>
          (await within(pid, 'sh', '-c', 'cat /tries 2>/dev/null || :')).length;
        await until('it was tried thrice', SOON_MS, async () => (await tries()) > 5 || undefined);
        assert.equal(await status('young'), 'starting');
        await within(pid, 'touch', '/ok');
        await until('it is well', SOON_MS, async () => (await status('young')) === 'healthy');
      });
      const late = [
        ...['--health-cmd', 'echo x >> /tries; sleep 30', '--health-interval', '100ms'],
        ...['--health-timeout', '1500ms', '--health-retries', '2'],
      ];
      await boxed('sick', late, SLEEP, async (pid) => {
        await until('it is ill', SOON_MS, async () => (await status('sick')) === 'unhealthy');
        assert.ok((await within(pid, 'cat', '/tries')).length >= 3, 'tried twice');
      });
      const change = ['--change', 'HEALTHCHECK --interval=1s CMD true'];
      await docker('h1', 'import', ...change, join(world.work, 'root.tar'), 'well:1');
      const create = ['container', 'create', '--name'];
      await docker('h1', ...create, 'asked', 'well:1', ...SLEEP);
      await docker('h1', ...create, 'unasked', '--no-healthcheck', 'well:1', ...SLEEP);
      await docker('h1', 'container', 'start', 'asked', 'unasked');
      await until('it is well', SOON_MS, async () => (await status('asked')) === 'healthy');
      assert.equal(await field('h1', 'unasked', '{{json .State.Health}}'), 'null');
      await docker('h1', 'container', 'rm', '--force', 'asked', 'unasked');
      await docker('h1', 'image', 'rm', 'well:1');
    },
  );
}

function ends(suite: Suite): void {
  suite.works(
    CREATE,
    ['stop-signal', 'stop-timeout', 'restart', 'rm', 'log-driver', 'log-opt'],
    'it is stopped as it wished, brought back, taken away; its lines are in files of the size',
    async () => {
      const count = 'trap "echo bye >> /seen" USR1; while :; do sleep 0.05; done';
      const asked = ['--stop-signal', 'USR1', '--stop-timeout', '1'];
      await boxed('asked', asked, ['sh', '-c', count], async () => {
        await docker('h1', 'container', 'stop', 'asked');
        assert.equal(await field('h1', 'asked', '{{.State.ExitCode}}'), '137');
        const seen = join(world.work, 'seen');
        await docker('h1', 'container', 'cp', 'asked:/seen', seen);
        assert.equal(readFileSync(seen, 'utf8'), 'bye\n');
      });
      await boxed('back', ['--restart', 'always'], SLEEP, async (pid) => {
        process.kill(pid, 'SIGKILL');
        await until('another runs', SOON_MS, async () => (await pidOf('h1', 'back')) !== pid);
      });
      const id = await docker('h1', ...run, '-d', '--rm', '--name', 'brief', BOX, ...SLEEP);
      const pid = await pidOf('h1', 'brief');
      process.kill(pid, 'SIGKILL');
      await until('it is gone', SOON_MS, async () => {
        return (await docker('h1', 'ps', '-aq', '--no-trunc')).includes(id) ? undefined : true;
      });
      await logged();
    },
  );
}

async function logged(): Promise<void> {
  const lines = ['sh', '-c', 'for i in $(seq 400); do echo line $i of many; done; exec sleep 600'];
  const small = [
    '--log-driver',
    'json-file',
    '--log-opt',
    'max-size=4k',
    '--log-opt',
    'max-file=2',
  ];
  await boxed('wordy', small, lines, async () => {
    const id = await field('h1', 'wordy', '{{.Id}}');
    const logs = join(hostLayout(1).dataRoot, 'containers', id, 'logs');
    const last = await until('the last line is there', SOON_MS, () => {
      const names = readdirSync(logs).sort();
      const file = readFileSync(join(logs, names[names.length - 1]), 'utf8');
      return file.includes('line 400 of many') ? file : undefined;
    });
    assert.ok(readdirSync(logs).length <= 2, 'no more than two files');
    assert.ok(last.length <= 4096);
    assert.match(last, /^\{.*"stream":"stdout"/);
  });
  await refused('h1', ['container', 'create', '--log-driver', 'syslog', BOX], /LogConfig\.Type/);
  await attributed();
}

/** Options of a log that are not of its files' size. */
async function attributed(): Promise<void> {
  const options = [
    ...['labels=made', 'labels-regex=^by', 'env=A,B', 'tag={{.Name}}/{{.ImageName}}'],
    ...['compress=true', 'mode=non-blocking', 'max-buffer-size=2m', 'max-size=4k', 'max-file=3'],
  ].flatMap((option) => ['--log-opt', option]);
  const flags = ['--label', 'made=1', '--label', 'byhand=yes', '-e', 'A=a b', '-e', 'C=c'];
  const lines = ['sh', '-c', 'for i in $(seq 100); do echo line $i; done; exec sleep 600'];
  await boxed('says', [...options, ...flags], lines, async () => {
    const id = await field('h1', 'says', '{{.Id}}');
    const logs = join(hostLayout(1).dataRoot, 'containers', id, 'logs');
    await until('the rotated files are packed', SOON_MS, () =>
      readdirSync(logs).filter((name) => name.endsWith('.log.gz')).length === 2 ? true : undefined,
    );
    const shown = await docker('h1', 'container', 'logs', '--details', '--tail', '1', 'says');
    assert.equal(shown, 'A=a+b,byhand=yes,made=1,tag=says%2Fbox%3A1 line 100');
    const all = (await docker('h1', 'container', 'logs', 'says')).split('\n');
    assert.ok(all.length > 40 && all.at(-1) === 'line 100', `${all.length} lines`);
  });
  const wrong = ['container', 'create', '--log-opt', 'nosuch=1', BOX];
  await refused('h1', wrong, /unknown log opt 'nosuch' for json-file log driver/);
}

function images(suite: Suite): void {
  suite.works(
    CREATE,
    ['pull', 'platform', 'quiet', 'disable-content-trust'],
    'an image of this host is used, one of elsewhere fetched or refused',
    async () => {
      const flags = ['--pull', 'never', '--platform', here, '--quiet', '--disable-content-trust'];
      await boxed('local', flags, SLEEP, (pid) => {
        assert.equal(commandOf(pid), 'sleep 600');
        return Promise.resolve();
      });
      const create = ['container', 'create'];
      await refused('h1', [...create, '--pull', 'never', 'nosuch:1'], /No such image: nosuch:1/);
      await refused('h1', [...create, '--pull', 'always', BOX], /cannot reach registry/);
      await refused('h1', [...create, '--platform', 'linux/s390x', BOX], /does not run on this/);
    },
  );
}
