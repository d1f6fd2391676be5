/**
 * docker service create, update and rollback: how updates and rollbacks go about, said with the
 * service or with the update; seen by when programs started, which run in the end, and by what
 * they write down.
 */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/lab.ts';
import { startedTicks } from '../support/processes.ts';
import type { Suite } from './suite.ts';
import {
  ASLEEP,
  change,
  create,
  linesOf,
  type Program,
  programs,
  remove,
  serve,
  updateState,
  words,
} from './tasks.ts';
import { docker, SOON_MS, work } from './world.ts';

type Command = 'create' | 'update';
const BOTH: readonly Command[] = ['create', 'update'];
const ON_H1 = ['--constraint', 'node.hostname==h1'];
const UPDATE = ['service', 'update', '--detach', '--quiet'];
const NEW = ['--args', 'sleep 2000'];

export function serviceUpdates(suite: Suite): void {
  for (const command of BOTH) {
    steps(suite, command);
    order(suite, command);
    failures(suite, command);
    rollbacks(suite, command);
    failedRollbacks(suite, command);
  }
  byHand(suite);
}

/** Seconds between the starts of programs, the first first. */
function startGaps(tasks: readonly Program[]): number[] {
  const ticks = tasks.map(({ pid }) => startedTicks(pid));
  return ticks.slice(1).map((tick, index) => (tick - ticks[index]) / 100);
}

/** Between two pairs; how busy the machine is makes not half as much. */
const PAUSE_S = 3;

/** Two and two, with a pause in between. */
function assertPairs(tasks: readonly Program[]): void {
  const [within, between, again] = startGaps(tasks);
  const some = PAUSE_S / 2;
  assert.ok(within < some && between >= some && again < some, `${[within, between, again]}`);
}

const newOnes = (tasks: readonly Program[]): number =>
  tasks.filter(({ pid }) => words(pid).join(' ') === 'sleep 2000').length;

/** With the service, or else with its update. */
function split(command: Command, flags: readonly string[]): [readonly string[], readonly string[]] {
  return command === 'create' ? [flags, []] : [[], flags];
}

function steps(suite: Suite, command: Command): void {
  const flags = ['--update-parallelism', '2', '--update-delay', `${PAUSE_S}s`];
  const [first, then] = split(command, flags);
  suite.works(
    `service ${command}`,
    ['update-delay', 'update-parallelism'],
    'tasks are replaced so many at a time, with the delay in between',
    async () => {
      await serve('steps', 4, [...first, '--replicas', '4'], ...ASLEEP);
      await docker('h1', ...UPDATE, ...then, ...NEW, 'steps');
      await updateState('steps', 'completed');
      const tasks = await programs('steps', 4);
      assert.equal(newOnes(tasks), 4);
      assertPairs(tasks);
      await remove('steps');
    },
  );
}

/** Writes down when it starts and when it is stopped. */
const TELLS =
  'echo start >> /d/lines; trap "sleep 1; echo end >> /d/lines; exit" TERM; ' +
  'while :; do sleep 0.05; done';
const toldOrder = (): string => linesOf(join(work, 'order', 'lines')).join(' ');

/** An empty directory that containers have as /d. */
function shared(name: string): string[] {
  rmSync(join(work, name), { recursive: true, force: true });
  mkdirSync(join(work, name));
  return ['--mount', `type=bind,source=${join(work, name)},target=/d`];
}

function order(suite: Suite, command: Command): void {
  for (const [kind, told] of [
    ['start-first', 'start start end'],
    ['stop-first', 'start end start'],
  ] as const) {
    suite.works(
      `service ${command}`,
      ['update-order'],
      `${kind}: the programs write down when they start and end`,
      async () => {
        const [first, then] = split(command, ['--update-order', kind]);
        const flags = [...ON_H1, ...shared('order'), '--stop-signal', 'TERM', ...first];
        await serve('order', 1, flags, 'sh', '-c', TELLS);
        await until('it started', SOON_MS, () => (toldOrder() === 'start' ? true : undefined));
        await docker('h1', ...UPDATE, ...then, '--env-add', 'A=b', 'order');
        await until(told, SOON_MS, () => (toldOrder() === told ? true : undefined));
        await remove('order');
      },
    );
  }
}

/** Updates to programs that end soon, and that end long after anybody looked. */
const FAILS = ['--args', 'sh -c "sleep 0.4; exit 1"'];
const FAILS_LATE = ['--args', 'sh -c "sleep 3; exit 1"'];
const SLOT_FAILS = ['--args', `sh -c '[ $SLOT = 1 ] && exit 1; exec sleep 2000'`];

function failures(suite: Suite, command: Command): void {
  const monitor = ['--update-monitor', '20s'];
  const once = ['--replicas', '2', '--restart-condition', 'none'];
  const words = ['update-failure-action', 'update-max-failure-ratio', 'update-monitor'];
  const update = async (name: string, flags: readonly string[], args: readonly string[]) => {
    const [first, then] = split(command, flags);
    await serve(name, 2, [...once, '--env', 'SLOT={{.Task.Slot}}', ...first], ...ASLEEP);
    await docker('h1', ...UPDATE, ...then, ...args, name);
  };
  suite.works(
    `service ${command}`,
    words,
    'what fails within the monitored time pauses, or rolls back, or is gone over, as asked',
    async () => {
      await Promise.all([
        update('paused', [...monitor, '--update-delay', '10s'], FAILS),
        update('back', [...monitor, '--update-failure-action', 'rollback'], FAILS),
        update('over', ['--update-monitor', '600ms', '--update-failure-action', 'continue'], FAILS),
        update('brief', ['--update-monitor', '1ms'], FAILS_LATE),
        update(
          'partly',
          ['--update-monitor', '1s', '--update-max-failure-ratio', '0.5'],
          SLOT_FAILS,
        ),
      ]);
      await updateState('paused', 'paused');
      assert.equal(newOnes(await programs('paused', 1)), 0, 'the other still runs');
      await updateState('back', 'rollback_completed');
      assert.equal(newOnes(await programs('back', 2)), 0);
      await updateState('over', 'completed');
      await programs('over', 0);
      await updateState('brief', 'completed');
      await updateState('partly', 'completed');
      assert.equal(newOnes(await programs('partly', 1)), 1);
      await remove('paused', 'back', 'over', 'brief', 'partly');
    },
  );
}

/** Said with the service, or by an update before the one that is rolled back. */
async function beforeRollback(
  command: Command,
  name: string,
  count: number,
  flags: readonly string[],
  rollback: readonly string[],
  program: readonly string[],
): Promise<void> {
  const [first, then] = split(command, rollback);
  await serve(name, count, [...flags, '--replicas', String(count), ...first], ...program);
  if (then.length > 0) await docker('h1', ...UPDATE, ...then, name);
  await change(name, count, '--update-parallelism', '0', ...NEW);
}

function rollbacks(suite: Suite, command: Command): void {
  suite.works(
    `service ${command}`,
    ['rollback-delay', 'rollback-order', 'rollback-parallelism'],
    'a rollback takes so many at a time, with the delay in between, in the order asked for',
    async () => {
      const steps = ['--rollback-parallelism', '2', '--rollback-delay', `${PAUSE_S}s`];
      const first = ['--rollback-order', 'start-first'];
      const ends = ['--stop-signal', 'TERM', '--stop-grace-period', '10s'];
      const flags = [...ON_H1, ...shared('order'), ...ends];
      await Promise.all([
        beforeRollback(command, 'steps', 4, [], steps, ASLEEP),
        beforeRollback(command, 'order', 1, flags, first, ['sh', '-c', TELLS]),
      ]);
      // What is rolled back writes as the other does, beside its own program.
      rmSync(join(work, 'order', 'lines'));
      const later = ['--args', `sh -c '${TELLS}'`, '--env-add', 'A=b'];
      await change('order', 1, '--update-parallelism', '0', ...later);
      await until('it started', SOON_MS, () => (toldOrder() === 'start' ? true : undefined));
      await docker('h1', ...UPDATE, '--env-add', 'A=c', 'order');
      await until('another', SOON_MS, () => (toldOrder() === 'start end start' ? true : undefined));
      for (const name of ['steps', 'order']) {
        await docker('h1', 'service', 'rollback', '--detach', '--quiet', name);
      }
      await updateState('steps', 'rollback_completed');
      const tasks = await programs('steps', 4);
      assert.equal(newOnes(tasks), 0);
      assertPairs(tasks);
      const told = 'start end start start end';
      await until(told, SOON_MS, () => (toldOrder() === told ? true : undefined));
      await remove('steps', 'order');
    },
  );
}

function failedRollbacks(suite: Suite, command: Command): void {
  const turnsBad = 'sleep 0.1; [ -e /d/bad ] && exit 1; exec sleep 1000';
  const turnsBadLate = 'sleep 3; [ -e /d/bad ] && exit 1; exec sleep 1000';
  const turnsPartly = 'sleep 0.1; [ -e /d/bad ] && [ $SLOT = 1 ] && exit 1; exec sleep 1000';
  suite.works(
    `service ${command}`,
    ['rollback-failure-action', 'rollback-max-failure-ratio', 'rollback-monitor'],
    'a rollback that fails within the monitored time pauses or goes on, as asked',
    async () => {
      const flags = [
        ...shared('bad'),
        '--restart-condition',
        'none',
        '--env',
        'SLOT={{.Task.Slot}}',
      ];
      const begin = (name: string, rollback: readonly string[], program: string) =>
        beforeRollback(command, name, 2, flags, rollback, ['sh', '-c', program]);
      const goOn = ['--rollback-failure-action', 'continue', '--rollback-monitor', '1s'];
      const ratio = ['--rollback-max-failure-ratio', '0.5', '--rollback-monitor', '1s'];
      await Promise.all([
        begin('paused', ['--rollback-monitor', '20s', '--rollback-delay', '10s'], turnsBad),
        begin('over', goOn, turnsBad),
        begin('partly', ratio, turnsPartly),
        begin('brief', ['--rollback-monitor', '1ms'], turnsBadLate),
      ]);
      writeFileSync(join(work, 'bad', 'bad'), '');
      for (const name of ['paused', 'over', 'partly', 'brief']) {
        await docker('h1', 'service', 'rollback', '--detach', name);
      }
      await updateState('paused', 'rollback_paused');
      assert.equal(newOnes(await programs('paused', 1)), 1, 'the other is as it was');
      for (const name of ['over', 'brief']) {
        await updateState(name, 'rollback_completed');
        await programs(name, 0);
      }
      await updateState('partly', 'rollback_completed');
      assert.equal(newOnes(await programs('partly', 1)), 0);
      await remove('paused', 'over', 'partly', 'brief');
    },
  );
}

function byHand(suite: Suite): void {
  suite.works(
    'service update',
    ['detach', 'force', 'rollback'],
    'the program is started anew without a change; the one before comes back',
    async () => {
      const [before] = await serve('hand', 1, [], ...ASLEEP);
      const [forced] = await change('hand', 1, '--force');
      assert.notEqual(forced.pid, before.pid);
      await docker('h1', 'service', 'update', '--detach', ...NEW, 'hand');
      await updateState('hand', 'completed');
      assert.equal(newOnes(await programs('hand', 1)), 1);
      await docker('h1', 'service', 'update', '--rollback', 'hand');
      assert.equal(newOnes(await programs('hand', 1)), 0);
    },
  );
  suite.works(
    'service rollback',
    ['detach', 'quiet'],
    'the program before comes back, waited for and not',
    async () => {
      await docker('h1', 'service', 'rollback', '--quiet', 'hand');
      assert.equal(newOnes(await programs('hand', 1)), 1);
      await docker('h1', 'service', 'rollback', '--detach', 'hand');
      await updateState('hand', 'rollback_completed');
      assert.equal(newOnes(await programs('hand', 1)), 0);
    },
  );
  suite.works('service rm', [], 'no program, no container is left', async () => {
    await create('second', [], ...ASLEEP);
    await programs('second', 1);
    await remove('hand', 'second');
  });
}
