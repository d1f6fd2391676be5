/**
 * An agent on the real runtime: tasks become containers, crashes are told, a killed agent's
 * containers run on and are managed again, a rebooted host starts what its journal holds.
 */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { AgentHost } from '../support/agentHost.ts';
import { change, complete, makeTask, type TaskParts, taskItem } from '../support/agentParts.ts';
import { until as eventually } from '../support/until.ts';

const IMAGE = 'tsswarm/web:latest';
const TIMEOUT_MS = 60_000;
let host: AgentHost;
let sequence = 0;
let made = 0;

before(async () => {
  host = await AgentHost.create();
  sequence = 1;
  await host.call('assign', complete(sequence, []));
});

after(() => host?.close());

function task(args: readonly string[], parts: TaskParts = {}): Task {
  made += 1;
  return makeTask(`task${made}`, {
    ...parts,
    container: { image: IMAGE, args, stopGraceMs: 3000, ...parts.container },
  });
}

async function assign(...tasks: readonly Task[]): Promise<void> {
  sequence += 1;
  await host.call('assign', change(sequence, tasks.map(taskItem)));
}

function until(one: Task, state: TaskState) {
  return host.call('until', { taskId: one.id, state, timeoutMs: TIMEOUT_MS });
}

function kill(pid: number): void {
  assert.ok(pid > 1, 'a process of a container');
  process.kill(pid, 'SIGKILL');
}

async function container(one: Task) {
  const found = (await host.call('containers', undefined)).find((each) => each.taskId === one.id);
  assert.ok(found, `a container of ${one.id}`);
  return found;
}

test('a task runs in its own container, with its templates replaced', async () => {
  const one = task(['tick', '50'], { container: { env: ['TASK_NAME={{.Task.Name}}'] } });
  await assign(one);
  const { status } = await until(one, TaskState.RUNNING);
  assert.equal(status.error, '');
  assert.equal(status.state, TaskState.RUNNING);
  assert.ok(existsSync(`/proc/${status.pid}`));
  assert.equal((await container(one)).pid, status.pid);
  const printer = task(['env'], { container: { env: ['TASK_NAME={{.Task.Name}}'] } });
  await assign(printer);
  assert.equal((await until(printer, TaskState.COMPLETE)).status.state, TaskState.COMPLETE);
  const text = await host.call('logs', printer.id);
  assert.match(text, new RegExp(`^TASK_NAME=web\\.1\\.${printer.id}$`, 'm'));
});

test('a container killed, and one that ends by itself, say how they ended', async () => {
  const killed = task(['serve']);
  const failing = task(['fail', '3']);
  await assign(killed, failing);
  const { status } = await until(killed, TaskState.RUNNING);
  kill(status.pid);
  const dead = (await until(killed, TaskState.COMPLETE)).status;
  assert.equal(dead.state, TaskState.FAILED);
  assert.equal(dead.error, 'task: non-zero exit (137)');
  const failed = (await until(failing, TaskState.COMPLETE)).status;
  assert.equal(failed.error, 'task: non-zero exit (3)');
  assert.equal(failed.exitCode, 3);
});

test('a missing image, a missing program and an unknown template are told apart', async () => {
  const image = task([], { container: { image: '127.0.0.1:1/nothing:1' } });
  const program = task([], { container: { command: ['/no/such/program'] } });
  const template = task([], { container: { env: ['A={{.Nope}}'] } });
  await assign(image, program, template);
  const noImage = (await until(image, TaskState.COMPLETE)).status;
  assert.equal(noImage.state, TaskState.REJECTED);
  assert.match(noImage.error, /^No such image: 127\.0\.0\.1:1\/nothing:1 \(/);
  const noProgram = (await until(program, TaskState.COMPLETE)).status;
  assert.equal(noProgram.state, TaskState.FAILED);
  assert.equal(noProgram.exitCode, 127);
  assert.match(noProgram.error, /no\/such\/program/);
  const noTemplate = (await until(template, TaskState.COMPLETE)).status;
  assert.equal(noTemplate.state, TaskState.REJECTED);
  assert.match(noTemplate.error, /unknown template "\{\{\.Nope\}\}"/);
});

test('a task over its memory limit fails as killed for memory, with the limit', async () => {
  const limits = { nanoCpus: 0, memoryBytes: 32 * 1024 * 1024, pids: 0 };
  const one = task(['alloc', '128m'], { spec: { limits } });
  await assign(one);
  const { status } = await until(one, TaskState.COMPLETE);
  assert.equal(status.oomKilled, true);
  assert.match(status.error, /^task: non-zero exit \(137\): OOM killed: .*32MiB/);
});

test('a task is stopped with its signal, or by force after its grace, and removed', async () => {
  const kind = task(['serve']);
  const stubborn = task(['stubborn'], { container: { stopGraceMs: 200 } });
  await assign(kind, stubborn);
  await until(kind, TaskState.RUNNING);
  await until(stubborn, TaskState.RUNNING);
  await assign(
    { ...kind, desiredState: TaskState.SHUTDOWN },
    { ...stubborn, desiredState: TaskState.SHUTDOWN },
  );
  const kindStatus = (await until(kind, TaskState.COMPLETE)).status;
  assert.equal(kindStatus.state, TaskState.SHUTDOWN);
  assert.equal(kindStatus.exitCode, 0);
  const forced = (await until(stubborn, TaskState.COMPLETE)).status;
  assert.equal(forced.state, TaskState.SHUTDOWN);
  assert.equal(forced.exitCode, 137);
  sequence += 1;
  await host.call('assign', change(sequence, [], [`task/${kind.id}`, `task/${stubborn.id}`]));
  await eventually('both containers to be gone', TIMEOUT_MS, async () => {
    const left = (await host.call('containers', undefined)).map((each) => each.taskId);
    return !left.includes(kind.id) && !left.includes(stubborn.id);
  });
});

test('a container on the default bridge runs, and its network goes with it', async () => {
  const one = task(['serve'], { spec: { networks: [] } });
  await assign(one);
  const { status } = await until(one, TaskState.RUNNING);
  assert.equal(status.error, '');
  kill(status.pid);
  assert.equal((await until(one, TaskState.COMPLETE)).status.state, TaskState.FAILED);
});

test('kill -9 of the agent harms no container; the next one manages them again', async () => {
  const lives = task(['serve']);
  const dies = task(['serve'], { spec: { networks: [] } });
  await assign(lives, dies);
  const before = (await until(lives, TaskState.RUNNING)).status;
  const other = (await until(dies, TaskState.RUNNING)).status;
  await host.call('flush', undefined);
  await host.killDriver();
  assert.ok(existsSync(`/proc/${before.pid}`), 'it runs on');
  kill(other.pid);
  await host.boot();
  await host.call('start', undefined);
  const found = await container(lives);
  assert.deepEqual([found.id, found.pid], [before.containerId, before.pid]);
  const ended = (await until(dies, TaskState.COMPLETE)).status;
  assert.equal(ended.error, 'task: non-zero exit (137)');
  sequence = 1;
  await host.call('assign', complete(sequence, [taskItem(lives)]));
  await eventually(
    'one container to be left',
    TIMEOUT_MS,
    async () => (await host.call('containers', undefined)).length === 1,
  );
  kill(before.pid);
  assert.equal((await until(lives, TaskState.COMPLETE)).status.exitCode, 137);
});

test('an agent killed before its journal was written goes on with what it finds', async () => {
  const one = task(['serve']);
  await assign(one);
  const before = (await until(one, TaskState.RUNNING)).status;
  await host.killDriver();
  await host.boot();
  await host.call('start', undefined);
  sequence = 1;
  await host.call('assign', complete(sequence, [taskItem(one)]));
  const { status } = await until(one, TaskState.RUNNING);
  assert.deepEqual([status.containerId, status.pid], [before.containerId, before.pid]);
});

test('a host that lost all its processes reports its tasks FAILED', async () => {
  const one = task(['serve']);
  await assign(one);
  await until(one, TaskState.RUNNING);
  await host.call('flush', undefined);
  await host.loseProcesses();
  await host.boot();
  await host.call('start', undefined);
  const { status } = await until(one, TaskState.COMPLETE);
  assert.equal(status.state, TaskState.FAILED);
  assert.notEqual(status.error, '');
  sequence = 1;
  await host.call('assign', complete(sequence, []));
  await eventually(
    'the containers to go',
    TIMEOUT_MS,
    async () => (await host.call('containers', undefined)).length === 0,
  );
});
