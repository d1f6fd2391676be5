/**
 * A client outside that keeps connections open and opens new ones all the time, while the service
 * behind the port is scaled, rolled, rolled back and drained, a host is lost and daemons restart.
 * No connection may fail but those to tasks that really ended.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import type { Failure, PhaseReport } from '../support/connectionClient.ts';
import {
  lab,
  loadImage,
  raise,
  swarm,
  tasks,
  until,
  untilReady,
  untilRunning,
  WEB_IMAGE,
} from '../support/lab.ts';
import { TOP } from '../tidy/sources.ts';

const HOSTS = ['h1', 'h2', 'h3'];
const ADDRESS: Readonly<Record<string, string>> = {
  h1: '10.99.0.11',
  h2: '10.99.0.12',
  h3: '10.99.0.13',
};
const CLIENT = join(TOP, 'dist', 'test', 'support', 'connectionClient.js');
const PATIENCE_MS = 60_000;

let client: Client;

class Client {
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];

  constructor() {
    const words = ['exec', 'client', process.execPath, CLIENT, '8080', ...Object.values(ADDRESS)];
    this.#child = spawn(join(TOP, 'deploy', 'lab'), words, { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => this.#waiting.shift()?.(line));
  }

  say(line: string): Promise<string> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#child.stdin?.write(`${line}\n`);
    });
  }

  async report(phase: string): Promise<PhaseReport> {
    const all = JSON.parse(await this.say('report')) as Record<string, PhaseReport>;
    return all[phase];
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'close');
    this.#child.stdin?.end();
    await ended;
  }
}

before(async () => {
  await raise(3, 3);
  await loadImage(...HOSTS);
  const create = ['service', 'create', '--name', 'web', '--replicas', '6', '--publish', '8080:80'];
  // No task moves by itself: a host whose daemon is dead would not hear of it.
  create.push('--env', 'TASK_NAME={{.Task.Name}}', '--rebalance', 'off');
  await swarm('h1', ...create, '--update-parallelism', '2', '--update-monitor', '0s', WEB_IMAGE);
  await untilRunning('h1', 'web', 6);
  client = new Client();
  await until('the client is answered', PATIENCE_MS, async () =>
    (await client.report('start')).fresh > 20 ? true : undefined,
  );
});

after(async () => {
  await client?.stop();
  await lab('down');
});

/** Runs `change` and a little beyond it; the failures of that time, and that there were answers. */
async function during(name: string, change: () => Promise<void>): Promise<readonly Failure[]> {
  await client.say(`phase ${name}`);
  await change();
  const seen = (await client.report(name)).fresh;
  await until('some more answers, of the new state', PATIENCE_MS, async () =>
    (await client.report(name)).fresh > seen + 40 ? true : undefined,
  );
  await client.say(`phase after ${name}`);
  const report = await until('what was begun to be answered or given up', PATIENCE_MS, async () => {
    const told = await client.report(name);
    return told.pending === 0 ? told : undefined;
  });
  assert.ok(report.kept > 0, `${name}: no answer on a kept connection`);
  return report.failures;
}

/** Connections that were to a task that is there still, or that were new. */
async function wronged(failures: readonly Failure[]): Promise<readonly Failure[]> {
  const alive = (await tasks('h1', 'web')).map((task) => `${task.name}.${task.id}`);
  const isAlive = (task: string): boolean => alive.some((name) => task.startsWith(name));
  return failures.filter(({ kind, task }) => kind === 'fresh' || isAlive(task));
}

async function harmless(name: string, change: () => Promise<void>): Promise<void> {
  assert.deepEqual(await wronged(await during(name, change)), []);
}

test('scaling up and down loses no connection', async () => {
  await harmless('scale', async () => {
    await swarm('h1', 'service', 'scale', 'web=9');
    await untilRunning('h1', 'web', 9);
    await swarm('h1', 'service', 'scale', 'web=4');
    await untilRunning('h1', 'web', 4);
    await swarm('h1', 'service', 'scale', 'web=6');
    await untilRunning('h1', 'web', 6);
  });
});

for (const order of ['stop-first', 'start-first']) {
  test(`rolling ${order} and back loses no connection`, async () => {
    await harmless(`roll-${order}`, async () => {
      await swarm(
        'h1',
        'service',
        'update',
        '--update-order',
        order,
        '--env-add',
        `A=${order}`,
        'web',
      );
      await untilRunning('h1', 'web', 6);
      await swarm('h1', 'service', 'rollback', 'web');
      await untilRunning('h1', 'web', 6);
    });
  });
}

test('draining a host loses no connection, also not through that host', async () => {
  await harmless('drain', async () => {
    await swarm('h1', 'node', 'update', '--availability', 'drain', 'h3');
    await until('h3 is empty', PATIENCE_MS, async () => {
      const left = await tasks('h1', 'web');
      const running = left.filter(({ node, state }) => node !== 'h3' && state === 'Running');
      return running.length === 6 && left.length === 6 ? true : undefined;
    });
    await swarm('h1', 'node', 'update', '--availability', 'active', 'h3');
  });
});

test('daemons that are killed and started again lose no connection', async () => {
  await harmless('restart', async () => {
    for (const host of HOSTS) {
      await lab('stop-daemon', host);
      await lab('start-daemon', host);
      await untilReady('h1', 3, PATIENCE_MS);
    }
    await untilRunning('h1', 'web', 6);
  });
});

test('a lost host costs the connections to its own tasks, until it is found out', async () => {
  const before = await tasks('h1', 'web');
  let restoredMs = 0;
  await client.say(`hosts ${ADDRESS['h1']},${ADDRESS['h3']}`);
  const failures = await during('lost', async () => {
    await lab('cut', 'h2');
    await until('its replicas run elsewhere', PATIENCE_MS, async () => {
      const now = await tasks('h1', 'web');
      const running = now.filter(({ node, state }) => node !== 'h2' && state === 'Running');
      return running.length === 6 ? true : undefined;
    });
    restoredMs = Date.now();
  });
  const lost = before.filter(({ node }) => node === 'h2').map(({ name, id }) => `${name}.${id}`);
  const unfair = failures.filter(({ kind, task, atMs }) =>
    kind === 'fresh' ? atMs > restoredMs : !lost.some((name) => task.startsWith(name)),
  );
  assert.deepEqual(unfair, []);
  await lab('heal', 'h2');
  await untilReady('h1', 3, PATIENCE_MS);
});
