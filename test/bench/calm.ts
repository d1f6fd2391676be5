/**
 * Ten minutes with two busy loops per core and a disk writer: how often a node is called down or
 * the leader changes. The target is never.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { lab, loadImage, raise, WEB_IMAGE } from '../support/lab.ts';
import { type Figure, figure } from './report.ts';
import { clock, createService, poll, runningTasks } from './swarmClient.ts';
import { leaderOf, nodesOf } from './tools.ts';

const DURATION_MS = 10 * 60_000;
const LOOK_MS = 250;
const LOOPS_PER_CORE = 2;
const REPLICAS = 9;

function load(): { stop(): void } {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-calm-'));
  const children: ChildProcess[] = [];
  for (let loop = 0; loop < LOOPS_PER_CORE * cpus().length; loop += 1) {
    children.push(spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }));
  }
  const write = `while :; do dd if=/dev/zero of=${directory}/f bs=1M count=64 conv=fsync; done`;
  children.push(spawn('sh', ['-c', write], { stdio: 'ignore', detached: true }));
  return {
    stop: () => {
      for (const child of children.slice(0, -1)) child.kill('SIGKILL');
      const writer = children.at(-1)?.pid;
      if (writer !== undefined) process.kill(-writer, 'SIGKILL');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export async function benchmark(): Promise<Figure[]> {
  await raise(3, 3);
  let noise: { stop(): void } | undefined;
  try {
    await loadImage('h1', 'h2', 'h3');
    const id = await createService('h1', { name: 'calm', replicas: REPLICAS, image: WEB_IMAGE });
    await poll('all run', 60_000, async () =>
      (await runningTasks('h1', id)).length === REPLICAS ? true : undefined,
    );
    const first = (await runningTasks('h1', id)).map((task) => task.ID).sort();
    let leader = await poll('a leader', 10_000, () => leaderOf('h1'));
    let leaderChanges = 0;
    const downs = new Set<string>();
    noise = load();
    const end = clock.nowMs() + DURATION_MS;
    while (clock.nowMs() < end) {
      const nodes = await nodesOf('h1').catch(() => []);
      for (const node of nodes) {
        if (node.Status.State === 'down') downs.add(`${node.ID} ${Math.floor(clock.nowMs())}`);
      }
      const now = nodes.find((node) => node.ManagerStatus?.Leader === true)?.Description.Hostname;
      if (now !== undefined && now !== leader) {
        leaderChanges += 1;
        leader = now;
      }
      await clock.sleep(LOOK_MS);
    }
    const last = (await runningTasks('h1', id)).map((task) => task.ID).sort();
    const moved = first.filter((task) => !last.includes(task)).length;
    const none = { text: '0', median: 0 };
    return [
      figure('nodes called down in 10 busy minutes', 'count', [downs.size], none),
      figure('leader changes in 10 busy minutes', 'count', [leaderChanges], none),
      figure('tasks replaced in 10 busy minutes', 'count', [moved], none),
    ];
  } finally {
    noise?.stop();
    await lab('down');
  }
}
