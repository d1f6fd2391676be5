/** docker service ls, ps, inspect and logs: what is told, held against what runs. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { hostLayout } from '../../deploy/hosts/layout.ts';
import { until } from '../support/lab.ts';
import type { Suite } from './suite.ts';
import { ASLEEP, environment, leave, type Program, remove, serve } from './tasks.ts';
import { docker, refused, SOON_MS } from './world.ts';

const sorted = (text: string): string[] => text.split('\n').filter(Boolean).sort();

/** What the kernel's copy of a program's environment says of the task it is. */
const taskIdOf = ({ pid }: Program): string =>
  environment(pid)
    .find((line) => line.startsWith('TASK='))
    ?.slice('TASK='.length) ?? '';

export function serviceLook(suite: Suite): void {
  let tasks: readonly Program[];
  suite.works(
    'service ls',
    ['filter', 'format', 'quiet'],
    'as many tasks are told as programs run, and services by each filter',
    async () => {
      const said = ['--env', 'TASK={{.Task.ID}}', '--label', 'kind=seen', '--replicas', '2'];
      const speaks = 'echo out; echo err >&2; exec sleep 1000';
      tasks = await serve('seen', 2, said, 'sh', '-c', speaks);
      await serve('unseen', 2, ['--mode', 'global'], ...ASLEEP);
      const format = ['--format', '{{.Name}} {{.Mode}} {{.Replicas}} {{.Image}}'];
      const names = ['--filter', 'name=seen', '--filter', 'name=unseen'];
      assert.equal(
        await docker('h1', 'service', 'ls', ...names, ...format),
        'seen replicated 2/2 box:1\nunseen global 2/2 box:1',
      );
      const id = await docker('h1', 'service', 'inspect', '-f', '{{.ID}}', 'seen');
      const list = (...filters: string[]): Promise<string> =>
        docker('h1', 'service', 'ls', '-q', ...filters.flatMap((filter) => ['--filter', filter]));
      for (const filter of ['name=see', 'label=kind=seen', `id=${id}`]) {
        assert.equal(await list(filter), id.slice(0, 12), filter);
      }
      assert.equal(await list('name=seen', 'mode=replicated'), id.slice(0, 12));
      assert.equal(await list('name=seen', 'mode=global'), '');
      await refused('h1', ['service', 'ls', '--filter', 'odd=1'], /invalid filter 'odd'/);
    },
  );
  suite.works(
    'service ps',
    ['filter', 'format', 'no-resolve', 'no-trunc', 'quiet'],
    'the tasks that are told are those whose programs run, on those hosts',
    async () => {
      const ps = (...args: string[]): Promise<string> => docker('h1', 'service', 'ps', ...args);
      const running = tasks.map(taskIdOf).sort();
      assert.deepEqual(sorted(await ps('--quiet', '--no-trunc', 'seen')), running);
      const short = sorted(await ps('--format', '{{.ID}}', 'seen'));
      assert.deepEqual(
        short,
        running.map((id) => id.slice(0, 12)),
      );
      for (const task of tasks) {
        const at = ['--format', '{{.Node}} {{.CurrentState}} {{.Image}}', '--filter'];
        assert.match(
          await ps(...at, `id=${taskIdOf(task)}`, 'seen'),
          new RegExp(`^${task.node} R`),
        );
        const there = ['--quiet', '--no-trunc', '--filter', `node=${task.node}`];
        assert.ok((await ps(...there, 'seen', 'unseen')).includes(taskIdOf(task)));
      }
      assert.equal(await ps('--quiet', '--filter', 'desired-state=shutdown', 'seen'), '');
      assert.equal(sorted(await ps('--quiet', '--filter', 'name=seen.1', 'seen')).length, 1);
      const nodes = sorted(await ps('--no-resolve', '--format', '{{.Node}}', 'seen'));
      const ids = sorted(await docker('h1', 'node', 'ls', '--format', '{{.ID}}'));
      assert.ok(
        nodes.every((node) => ids.some((id) => node.startsWith(id) || id.startsWith(node))),
      );
    },
  );
  suite.works('service inspect', ['format', 'pretty'], 'what runs is told', async () => {
    const inspect = (...args: string[]) => docker('h1', 'service', 'inspect', ...args);
    const args = '{{json .Spec.TaskTemplate.ContainerSpec.Args}}';
    assert.equal(await inspect('--format', args, 'unseen'), JSON.stringify(ASLEEP));
    const [seen, unseen] = JSON.parse(await inspect('seen', 'unseen')) as [Inspected, Inspected];
    assert.equal(seen.Spec.Mode.Replicated?.Replicas, tasks.length);
    assert.deepEqual(unseen.Spec.Mode, { Global: {} });
    assert.match(
      await inspect('--pretty', 'seen'),
      /^Service Mode:\s+Replicated\n Replicas:\s+2$/m,
    );
    await refused('h1', ['service', 'inspect', 'nobody'], /^.*no such service: nobody$/im);
  });
  logs(suite, () => tasks);
}

interface Inspected {
  readonly Spec: { readonly Mode: { readonly Replicated?: { readonly Replicas: number } } };
}

function logs(suite: Suite, tasks: () => readonly Program[]): void {
  const told = (...args: string[]) => docker('h1', 'service', 'logs', ...args);
  suite.works(
    'service logs',
    [
      ...['details', 'follow', 'no-resolve', 'no-task-ids', 'no-trunc', 'raw', 'since', 'tail'],
      'timestamps',
    ],
    'what programs on both hosts wrote, and what they write from now on',
    async () => {
      const ids = tasks().map(taskIdOf);
      const wanted = tasks().map((task, index) => `${ids[index].slice(0, 12)}@${task.node}`);
      const plain = await until('both have spoken', SOON_MS, async () => {
        const text = await told('seen');
        return text.split('\n').filter((line) => line.endsWith('| out')).length === 2
          ? text
          : undefined;
      });
      for (const prefix of wanted) assert.match(plain, new RegExp(`^seen\\.\\d\\.${prefix} `, 'm'));
      assert.deepEqual(sorted(await told('--raw', 'seen')), ['out', 'out']);
      assert.deepEqual(sorted(await told('--raw', '--tail', '0', 'seen')), []);
      for (const id of ids) assert.ok((await told('--no-trunc', 'seen')).includes(id));
      assert.match(await told('--no-task-ids', 'seen'), /^seen\.1@h\d +\| out$/m);
      assert.doesNotMatch(await told('--no-resolve', 'seen'), /\bseen\b|@h[12] /);
      const stamped = await told('--timestamps', '--raw', ids[0]);
      assert.match(stamped, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out$/);
      assert.equal(await told('--raw', '--since', '2099-01-01T00:00:00Z', 'seen'), '');
      assert.equal(sorted(await told('--raw', '--since', '1h', 'seen')).length, 2);
      const details = await told('--details', '--raw', ids[0]);
      assert.ok(details.includes(`com.docker.swarm.task.id=${ids[0]}`), details);
      await followed();
      await remove('seen', 'unseen');
      await leave('sick:1');
    },
  );
}

/** A reader that stays gets the lines of a task that starts later. */
async function followed(): Promise<void> {
  const socket = `unix://${hostLayout(1).socket}`;
  const reader = spawn('docker', ['-H', socket, 'service', 'logs', '-f', '--raw', 'seen'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let text = '';
  reader.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const heard = (count: number): Promise<true> =>
    until(`${count} lines are heard`, SOON_MS, () =>
      sorted(text).filter((line) => line === 'out').length === count ? true : undefined,
    );
  await heard(2);
  await docker('h1', 'service', 'scale', '-d', 'seen=3');
  await heard(3);
  reader.kill();
}
