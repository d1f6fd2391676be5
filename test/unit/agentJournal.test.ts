/** The agent's journal on a real disk: what a new process finds after any end of the old one. */
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileJournal } from '../../agent/journal.ts';
import { SystemClock } from '../../base/clock.ts';
import { silentLog } from '../../base/log.ts';
import { TaskState } from '../../model/taskState.ts';
import { ASSIGNED_STATUS, makeTask, overlay, taskItem } from '../support/agentParts.ts';

async function inDirectory(run: (directory: string, path: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'agent-journal-'));
  try {
    await run(directory, join(directory, 'journal.jsonl'));
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function opened(directory: string) {
  const journal = new FileJournal({ directory, clock: new SystemClock(), log: silentLog });
  return { journal, state: await journal.load() };
}

test('what was put is found by the next process: items, statuses, self and managers', () =>
  inDirectory(async (directory) => {
    const { journal, state } = await opened(directory);
    assert.deepEqual(state, { self: undefined, managers: [], items: [], statuses: new Map() });
    const running = { ...ASSIGNED_STATUS, state: TaskState.RUNNING };
    journal.put(taskItem(makeTask('t1')));
    journal.put(taskItem(makeTask('t2')));
    journal.put({ kind: 'network', network: overlay('n1') });
    journal.setStatus('t1', running);
    journal.setStatus('t2', running);
    journal.setSelf({ hostIndex: 3, address: '10.99.0.13' });
    journal.setManagers(['a:1']);
    await journal.flush();
    journal.remove('task/t2');
    await journal.close();
    const again = await opened(directory);
    assert.deepEqual(again.state, {
      self: { hostIndex: 3, address: '10.99.0.13' },
      managers: ['a:1'],
      items: [taskItem(makeTask('t1')), { kind: 'network', network: overlay('n1') }],
      statuses: new Map([['t1', running]]),
    });
    await again.journal.close();
  }));

test('networks and ports that the first version wrote are read with defaults', () =>
  inDirectory(async (directory, path) => {
    const { network, ...lists } = overlay('n1');
    const { subnet6, ...oldNetwork } = network;
    const port = { protocol: 'tcp', publishedPort: 8080, serviceId: 's1', backends: [] } as const;
    const old = [
      ['network/n1', { kind: 'network', network: { ...lists, network: oldNetwork } }],
      ['ingress', { kind: 'ingress', ingress: { peers: [], ports: [port] } }],
    ];
    await writeFile(path, old.map((line) => `${JSON.stringify(line)}\n`).join(''));
    const { journal, state } = await opened(directory);
    const ports = [{ ...port, hostAddress: '', serviceName: '' }];
    assert.deepEqual(state.items, [
      { kind: 'network', network: { ...lists, network: { ...oldNetwork, subnet6 } } },
      { kind: 'ingress', ingress: { peers: [], ports } },
    ]);
    await journal.close();
  }));

test('a file cut off anywhere is read up to its last whole line', () =>
  inDirectory(async (directory, path) => {
    const { journal } = await opened(directory);
    for (const id of ['t1', 't2', 't3']) {
      journal.put(taskItem(makeTask(id)));
      await journal.flush();
    }
    await journal.close();
    const whole = await readFile(path);
    const step = Math.floor(whole.length / 40);
    for (let length = whole.length; length >= 0; length -= step) {
      await writeFile(path, whole.subarray(0, length));
      const lines = whole.subarray(0, length).toString().split('\n').length - 1;
      const again = await opened(directory);
      assert.equal(again.state.items.length, lines);
      await again.journal.close();
      assert.equal((await readFile(path)).toString().split('\n').length - 1, lines, 'mended');
    }
  }));

test('damage anywhere else is refused with the file, the line and the way out', () =>
  inDirectory(async (directory, path) => {
    const { journal } = await opened(directory);
    journal.put(taskItem(makeTask('t1')));
    await journal.close();
    await appendFile(path, '["task/t2",{"kind":\n["task/t3",null]\n');
    await assert.rejects(opened(directory), {
      code: 'corrupt',
      message: `${path} line 2 is damaged: restore the file, or remove it and rejoin this node`,
    });
  }));

test('a file that is mostly stale is written anew', () =>
  inDirectory(async (directory, path) => {
    const { journal } = await opened(directory);
    const env = ['x'.repeat(100_000)];
    for (let at = 0; at < 60; at += 1) {
      journal.put(taskItem(makeTask('t1', { container: { env }, task: { version: at } })));
      await journal.flush();
    }
    await journal.close();
    const { size } = await stat(path);
    assert.ok(size < 5_000_000, `${size} bytes for one live task of 100 kB`);
    const again = await opened(directory);
    assert.equal(again.state.items.length, 1);
    await again.journal.close();
  }));

test('a disk that takes nothing is tried again after a second, not all the time', () =>
  inDirectory(async (directory) => {
    const clock = new SystemClock();
    const delays: number[] = [];
    const watched = Object.assign(Object.create(clock) as SystemClock, {
      afterIdle: (delayMs: number, callback: () => void) => {
        delays.push(delayMs);
        return clock.after(delayMs === 1000 ? 1 : delayMs, callback);
      },
    });
    let errors = 0;
    let enough = (): void => {};
    const failed = new Promise<void>((resolve) => {
      enough = resolve;
    });
    const error = (): void => {
      errors += 1;
      if (errors === 3) enough();
    };
    const gone = join(directory, 'gone');
    const log = { ...silentLog, error };
    const journal = new FileJournal({ directory: gone, clock: watched, log });
    await journal.load();
    await rm(gone, { recursive: true });
    await writeFile(gone, '');
    // The open file still takes lines; this makes it due for being written anew, which fails.
    journal.setManagers(['x'.repeat(5 * 1024 * 1024)]);
    await journal.flush();
    journal.put(taskItem(makeTask('t1')));
    await failed;
    await journal.close().catch(() => {}); // the disk still takes nothing
    assert.deepEqual(delays.slice(-3), [1000, 1000, 1000]);
  }));
