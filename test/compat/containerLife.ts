/** docker container: what moves one from state to state, changes it, and takes it away. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { until } from '../support/lab.ts';
import {
  blkioIs,
  cpuIs,
  cpusetIs,
  memoryIs,
  memorySwapIs,
  memsetIs,
  pidsAre,
  reservedIs,
  sharesAre,
} from './containerResources.ts';
import type { Suite } from './suite.ts';
import {
  assertControls,
  BOX,
  begun,
  boxed,
  docker,
  field,
  fileOf,
  onTerminal,
  pidOf,
  refused,
  SLEEP,
  SOON_MS,
  tried,
} from './world.ts';

/** Ends with 10 at TERM, 20 at USR1, and not at all at INT. */
const ANSWERS = [
  ...['sh', '-c'],
  'trap "exit 10" TERM; trap "exit 20" USR1; trap "" INT; echo ready; ' +
    'while :; do echo x >> /beats; sleep 0.05; done',
];

const exitCode = (name: string): Promise<string> => field('h1', name, '{{.State.ExitCode}}');

/** The traps are set. */
function ready(name: string): Promise<unknown> {
  return until(`${name} is ready`, SOON_MS, async () => {
    return (await docker('h1', 'container', 'logs', '--tail', '1', name)) === 'ready' || undefined;
  });
}

export function containerLife(suite: Suite): void {
  start(suite);
  stop(suite);
  pause(suite);
  change(suite);
  removal(suite);
}

function start(suite: Suite): void {
  suite.works(
    'container start',
    ['attach', 'interactive', 'detach-keys'],
    'the program runs again, is heard and typed to, and its exit code comes',
    async () => {
      const loud = ['sh', '-c', 'read word; echo heard $word; exit 3'];
      await docker('h1', 'container', 'create', '-i', '--name', 'again', BOX, ...loud);
      for (const word of ['one', 'two']) {
        const client = begun('h1', 'container', 'start', '--attach', '--interactive', 'again');
        client.type(`${word}\n`);
        const { code, stdout } = await client.ended;
        assert.deepEqual([code, stdout], [3, `heard ${word}\n`]);
      }
      await docker('h1', 'container', 'rm', 'again');
      await docker('h1', 'container', 'create', '-it', '--name', 'kept', BOX, 'sh');
      const keys = ['--detach-keys', 'ctrl-a,x', '-ai', 'kept'];
      const terminal = onTerminal(24, 80, 'h1', 'container', 'start', ...keys);
      await until('it prompts', SOON_MS, () => terminal.said().includes('#') || undefined);
      terminal.type('\u0001x');
      await terminal.ended;
      assert.equal(fileOf(await pidOf('h1', 'kept'), '/proc/1/cmdline'), 'sh\0');
      await docker('h1', 'container', 'rm', '--force', 'kept');
    },
  );
  suite.not(
    'container start',
    ['checkpoint', 'checkpoint-dir'],
    'refused: an experiment of Docker’s, which needs CRIU',
  );
  suite.works('container start', [], 'a checkpoint is refused', async () => {
    await docker('h1', 'container', 'create', '--name', 'frozen', BOX);
    const flags = ['--checkpoint', 'one', '--checkpoint-dir', '/x'];
    await refused('h1', ['container', 'start', ...flags, 'frozen'], /checkpoint/i);
    assert.equal(await field('h1', 'frozen', '{{.State.Status}}'), 'created');
    await docker('h1', 'container', 'rm', 'frozen');
  });
}

function stop(suite: Suite): void {
  suite.works(
    ['container stop', 'container restart'],
    ['signal', 'timeout'],
    'the program gets the signal, and is killed when its time is over',
    () =>
      boxed('obeys', [], ANSWERS, async (first) => {
        await ready('obeys');
        await docker('h1', 'container', 'restart', '--signal', 'USR1', 'obeys');
        const second = await pidOf('h1', 'obeys');
        assert.ok(second !== first && !existsSync(`/proc/${first}`));
        await ready('obeys');
        await docker('h1', 'container', 'stop', '--signal', 'USR1', 'obeys');
        assert.equal(await exitCode('obeys'), '20');
        assert.ok(!existsSync(`/proc/${second}`));
        await docker('h1', 'container', 'restart', '--timeout', '0', 'obeys');
        await ready('obeys');
        await docker('h1', 'container', 'stop', '--signal', 'INT', '--timeout', '0', 'obeys');
        assert.equal(await exitCode('obeys'), '137');
      }),
  );
  suite.works(
    ['container kill', 'container wait'],
    [],
    'it ends by the signal, and who waits is told how',
    () =>
      boxed('waited', [], ANSWERS, async (pid) => {
        await ready('waited');
        const waiting = begun('h1', 'container', 'wait', 'waited');
        await docker('h1', 'container', 'kill', 'waited');
        assert.equal((await waiting.ended).stdout, '137\n');
        assert.ok(!existsSync(`/proc/${pid}`));
      }),
  );
  suite.works('container kill', ['signal'], 'the program gets the signal', () =>
    boxed('signalled', [], ANSWERS, async () => {
      await ready('signalled');
      await docker('h1', 'container', 'kill', '--signal', 'USR1', 'signalled');
      assert.equal(await docker('h1', 'container', 'wait', 'signalled'), '20');
    }),
  );
}

function pause(suite: Suite): void {
  suite.works(
    ['container pause', 'container unpause'],
    [],
    'no process of it goes on until it is let',
    () =>
      boxed('held', [], ANSWERS, async (pid) => {
        await ready('held');
        const beats = (): number => fileOf(pid, '/beats').length;
        await docker('h1', 'container', 'pause', 'held');
        const before = beats();
        await refused('h1', ['exec', 'held', 'true'], /paused/);
        assert.equal(beats(), before);
        await docker('h1', 'container', 'unpause', 'held');
        await until('it goes on', SOON_MS, () => beats() > before || undefined);
      }),
  );
}

function change(suite: Suite): void {
  const limits = [
    ...['--memory', '96m', '--memory-swap', '128m', '--memory-reservation', '30m'],
    ...['--cpu-shares', '1024', '--cpu-period', '50000', '--cpu-quota', '10000'],
    ...['--cpuset-cpus', '0', '--cpuset-mems', '0', '--pids-limit', '44'],
    ...['--blkio-weight', '200', '--restart', 'always'],
  ];
  const names = limits.filter((each) => each.startsWith('--')).map((each) => each.slice(2));
  suite.works('container update', names, 'limits of a running program are changed', () =>
    boxed('changed', ['--memory', '64m'], SLEEP, async (pid) => {
      await docker('h1', 'container', 'update', ...limits, 'changed');
      assertControls(pid, [
        ...[memoryIs(96), memorySwapIs(128, 96), reservedIs(30), sharesAre(1024, 100)],
        ...[...cpuIs(10_000, 50_000), cpusetIs('0'), memsetIs('0'), pidsAre(44), blkioIs(200)],
      ]);
      process.kill(pid, 'SIGKILL');
      await until('another runs', SOON_MS, async () => (await pidOf('h1', 'changed')) !== pid);
    }),
  );
  suite.works('container update', ['cpus'], 'a share of a core is its quota', () =>
    boxed('slowed', [], SLEEP, async (pid) => {
      await docker('h1', 'container', 'update', '--cpus', '0.5', 'slowed');
      assertControls(pid, cpuIs(50_000, 100_000));
    }),
  );
  suite.works('container rename', [], 'neighbours find it by its new name', async () => {
    await docker('h1', 'network', 'create', 'street');
    await boxed('corner', ['--network', 'street'], SLEEP, async () => {
      await docker('h1', 'container', 'rename', 'corner', 'market');
      const ping = ['run', '--rm', '--network', 'street', BOX, 'ping', '-c1', '-W2'];
      assert.match(await docker('h1', ...ping, 'market'), /1 packets received/);
      assert.notEqual((await tried('h1', ...ping, 'corner')).code, 0);
      await docker('h1', 'container', 'rm', '--force', 'market');
    });
    await docker('h1', 'network', 'rm', 'street');
  });
}

function removal(suite: Suite): void {
  const root = hostLayout(1).dataRoot;
  const volumes = (): string[] => readdirSync(join(root, 'volumes'));
  suite.works(
    'container rm',
    ['force', 'volumes'],
    'one that runs stays unless forced; its process, directory and unnamed volume go',
    async () => {
      const run = ['container', 'run', '-d', '--name', 'short', '-v', '/own'];
      const id = await docker('h1', ...run, BOX, ...SLEEP);
      const pid = await pidOf('h1', 'short');
      const [volume] = (await field('h1', 'short', '{{(index .Mounts 0).Name}}')).split('\n');
      await refused('h1', ['container', 'rm', 'short'], /running/);
      assert.ok(volumes().includes(volume));
      await docker('h1', 'container', 'rm', '--force', '--volumes', 'short');
      assert.ok(!existsSync(`/proc/${pid}`) && !volumes().includes(volume));
      assert.ok(!existsSync(join(root, 'containers', id)));
    },
  );
  suite.not('container rm', ['link'], 'refused: a link goes with the container that was given it');
  suite.works(
    'container prune',
    ['force', 'filter'],
    'what does not run goes, if it fits the filter',
    async () => {
      const create = ['container', 'create', '--label'];
      const old = await docker('h1', ...create, 'age=old', BOX);
      const young = await docker('h1', ...create, 'age=young', BOX);
      const prune = ['container', 'prune', '--force', '--filter'];
      const runs = await docker('h1', 'run', '-d', '--name', 'runs', BOX, ...SLEEP);
      assert.ok((await docker('h1', ...prune, 'label=age=old')).includes(old));
      const left = (): string[] => readdirSync(join(root, 'containers'));
      assert.ok(!left().includes(old) && left().includes(young) && left().includes(runs));
      await docker('h1', ...prune, 'until=1h');
      assert.ok(left().includes(young));
      await docker('h1', 'container', 'prune', '--force');
      assert.ok(!left().includes(young) && left().includes(runs));
      await docker('h1', 'container', 'rm', '--force', 'runs');
    },
  );
}
