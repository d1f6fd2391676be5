/**
 * docker service create and update: health checks and restarts. The checks and the programs write
 * down when they ran, so that intervals, limits and delays are read from the host's disk.
 */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import type { Suite } from './suite.ts';
import { ASLEEP, create, linesOf, programs, remove, serve, troubleOf } from './tasks.ts';
import { docker, SOON_MS, tried, work } from './world.ts';

const directory = (): string => join(work, 'health');
const BOUND = (): string[] => ['--mount', `type=bind,source=${directory()},target=/h`];
/** Seconds since the machine's boot, into a file. */
const note = (file: string): string => `cut -d" " -f1 /proc/uptime >> /h/${file}`;

function times(file: string): number[] {
  return linesOf(join(directory(), file)).map(Number);
}

function untilTimes(file: string, count: number): Promise<number[]> {
  return until(`${count} lines in ${file}`, SOON_MS, () => {
    const found = times(file);
    return found.length >= count ? found : undefined;
  });
}

/** Seconds between one and the next. */
function gaps(found: readonly number[]): number[] {
  return found.slice(1).map((time, index) => Math.round((time - found[index]) * 100) / 100);
}

const touch = (file: string): void => writeFileSync(join(directory(), file), '');

export function serviceHealth(suite: Suite): void {
  checks(suite);
  unchecked(suite);
  restarts(suite);
}

const CHECK_FLAGS = [
  ...['health-cmd', 'health-interval', 'health-retries', 'health-start-period', 'health-timeout'],
];

/** Ten times the one of the beginning: how busy the machine is makes not as much. */
const INTERVAL_S = 2;

/** Runs checks of 'ok' into `file`: rare ones after frequent ones, two failures are too many. */
async function watchChecks(file: string, service: string): Promise<void> {
  await until('often in the beginning', SOON_MS, () => {
    return gaps(times(file)).some((gap) => gap < INTERVAL_S / 2) || undefined;
  });
  const state = ['service', 'ps', '--format', '{{.CurrentState}}', service];
  assert.match(await docker('h1', ...state), /^Starting/m);
  touch('ok');
  const [task] = await programs(service, 1);
  const before = times(file).length;
  const late = gaps((await untilTimes(file, before + 2)).slice(before));
  assert.ok(
    late.every((gap) => gap >= INTERVAL_S / 2),
    `rarely later: ${late}`,
  );
  rmSync(join(directory(), 'ok'));
  const failed = times(file).length;
  const said = await troubleOf(service, /unhealthy container/);
  assert.match(said, /unhealthy container: 2 health checks failed in a row/);
  assert.ok(times(file).length >= failed + 2);
  await until('it is stopped', SOON_MS, async () =>
    (await docker(task.node, 'ps', '-q', '--no-trunc')).includes(task.container) ? undefined : true,
  );
}

function checks(suite: Suite): void {
  const often = ['--health-start-interval', '200ms'];
  const flags = [
    ...['--health-interval', `${INTERVAL_S}s`, '--health-retries', '2'],
    ...['--health-start-period', '30s', '--health-timeout', '5s'],
  ];
  // What it finds is settled before it is written down that it ran.
  const command = (file: string): string[] => [
    '--health-cmd',
    `test -e /h/ok; found=$?; ${note(file)}; exit $found`,
  ];
  const slow = ['--health-cmd', 'sleep 300', '--health-timeout', '300ms', '--health-retries', '1'];
  const soon = ['--health-interval', '200ms', '--health-start-period', '0s'];
  suite.works(
    'service create',
    [...CHECK_FLAGS, 'health-start-interval'],
    'checks run as often as asked, a task runs once healthy, and is stopped when it is not',
    async () => {
      mkdirSync(directory());
      await create('checked', [...BOUND(), ...often, ...flags, ...command('first')], ...ASLEEP);
      await watchChecks('first', 'checked');
      await create('slow', [...slow, ...soon], ...ASLEEP);
      assert.match(await troubleOf('slow', /unhealthy/), /1 health checks? failed/);
      await remove('checked', 'slow');
    },
  );
  suite.works(
    'service update',
    CHECK_FLAGS,
    'the next tasks are checked by the new command, as often as asked',
    async () => {
      await serve(
        'checked',
        1,
        [...BOUND(), ...often, '--health-cmd', 'true', '--health-interval', '200ms'],
        ...ASLEEP,
      );
      const update = ['service', 'update', '--detach', '--quiet'];
      await docker('h1', ...update, ...flags, ...command('second'), 'checked');
      await watchChecks('second', 'checked');
      await docker('h1', ...update, ...slow, ...soon, 'checked');
      await troubleOf('checked', /1 health checks? failed/);
    },
  );
  suite.not(
    'service update',
    ['health-start-interval'],
    'this client leaves it out of what it sends; `tsswarm service update` has the flag',
  );
}

function unchecked(suite: Suite): void {
  suite.works('service update', ['no-healthcheck'], 'no check runs any more', async () => {
    const update = ['service', 'update', '--detach', '--quiet', '--no-healthcheck'];
    await docker('h1', ...update, 'checked');
    const [{ node, container }] = await programs('checked', 1);
    assert.equal(await docker(node, 'inspect', '-f', '{{.State.Health}}', container), '<nil>');
    await remove('checked');
  });
  suite.works('service create', ['no-healthcheck'], 'the image asks for one in vain', async () => {
    const sick = [
      '--change',
      'HEALTHCHECK --interval=100ms CMD false',
      '--change',
      'ENV PATH=/bin',
    ];
    for (const host of ['h1', 'h2']) {
      await docker(host, 'image', 'import', ...sick, join(work, 'root.tar'), 'sick:1');
    }
    const create = [
      'service',
      'create',
      '-d',
      '-q',
      '--restart-condition',
      'none',
      '--stop-signal',
    ];
    await docker('h1', ...create, 'KILL', '--name', 'sick', 'sick:1', ...ASLEEP);
    await docker('h1', ...create, 'KILL', '--name', 'fit', '--no-healthcheck', 'sick:1', ...ASLEEP);
    await troubleOf('sick', /unhealthy container/);
    await programs('fit', 1);
    await remove('sick', 'fit');
  });
}

const RESTART_FLAGS = [
  'restart-condition',
  'restart-delay',
  'restart-max-attempts',
  'restart-window',
];

function restarts(suite: Suite): void {
  const shell = (line: string): string[] => ['sh', '-c', line];
  suite.works(
    'service create',
    RESTART_FLAGS,
    'programs that end start again when, after what time and as often as asked',
    async () => {
      const any = ['--restart-condition', 'any', '--restart-delay'];
      const failure = ['--restart-condition', 'on-failure', '--restart-max-attempts'];
      await Promise.all([
        create(
          'none',
          [...BOUND(), '--restart-condition', 'none'],
          ...shell(`${note('none')}; false`),
        ),
        create('fine', [...BOUND(), '--restart-condition', 'on-failure'], ...shell(note('fine'))),
        create('twice', [...BOUND(), ...failure, '2'], ...shell(`${note('twice')}; false`)),
        create('later', [...BOUND(), ...any, '700ms'], ...shell(note('later'))),
        create(
          'window',
          [...BOUND(), ...failure, '1', '--restart-window', '200ms'],
          ...shell(`${note('window')}; sleep 0.4; false`),
        ),
      ]);
      const later = gaps(await untilTimes('later', 4));
      assert.ok(
        later.every((gap) => gap >= 0.7),
        String(later),
      );
      await untilTimes('window', 4);
      await untilTimes('twice', 3);
      await untilTimes('later', times('later').length + 1);
      assert.deepEqual(
        ['none', 'fine', 'twice'].map((name) => times(name).length),
        [1, 1, 3],
      );
      await remove('none', 'fine', 'twice', 'later', 'window');
    },
  );
  suite.works(
    'service update',
    RESTART_FLAGS,
    'the next programs start again as asked now',
    async () => {
      await serve('fickle', 1, BOUND(), ...ASLEEP);
      const update = ['service', 'update', '--detach', '--quiet'];
      const once = ['--restart-condition', 'on-failure', '--restart-max-attempts', '1'];
      const wait = ['--restart-delay', '600ms', '--restart-window', '1h'];
      const fails = ['--args', `sh -c '${note('once')}; false'`];
      await docker('h1', ...update, ...once, ...wait, ...fails, 'fickle');
      const [gap] = gaps(await untilTimes('once', 2));
      assert.ok(gap >= 0.6, String(gap));
      const often = ['--restart-window', '200ms', '--restart-delay', '100ms'];
      const lasts = ['--args', `sh -c '${note('often')}; sleep 0.4; false'`];
      assert.equal((await tried('h1', ...update, ...often, ...lasts, 'fickle')).code, 0);
      await untilTimes('often', 4);
      assert.equal(times('once').length, 2);
      await remove('fickle');
    },
  );
}
