/**
 * Three replicas created on an overlay network until they are reachable by name from a container on
 * every host: the name answers, `tasks.<name>` lists all three, and each of them answers.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { lab, loadImage, raise, WEB_IMAGE } from '../support/lab.ts';
import { environmentOf } from '../support/labProbe.ts';
import { type Figure, figure } from './report.ts';
import { call, clock, poll, removeService, runningTasks } from './swarmClient.ts';
import { descendants, labHosts } from './tools.ts';

const ROUNDS = 10;
const HOSTS = ['h1', 'h2', 'h3'];
const PROBE = fileURLToPath(new URL('./reachProbe.js', import.meta.url));
const PATIENCE_MS = 30_000;

export async function benchmark(): Promise<Figure[]> {
  await raise(3, 3);
  const probes: Probe[] = [];
  try {
    await loadImage(...HOSTS);
    const network = { Name: 'bench', Driver: 'overlay', Scope: 'swarm' };
    await call('h1', 'POST', '/networks/create', network);
    const asker = await create('asker', { Global: {} });
    const tasks = await poll('askers run', PATIENCE_MS, async () => {
      const found = await runningTasks('h1', asker);
      return found.length === HOSTS.length ? found : undefined;
    });
    for (const task of tasks) probes.push(new Probe(await hostPid(task.ID)));
    const values: number[] = [];
    for (let round = 0; round <= ROUNDS; round += 1) {
      const took = await once(`reach-${round}`, probes);
      // One round nobody counts: code is compiled and files are cached.
      if (round > 0) values.push(took);
    }
    const target = { text: '<= 300 ms', median: 300 };
    return [
      figure('create 3 on an overlay until reachable by name everywhere', 'ms', values, target),
    ];
  } finally {
    for (const probe of probes) probe.stop();
    await lab('down');
  }
}

async function once(name: string, probes: readonly Probe[]): Promise<number> {
  const started = clock.nowMs();
  const seen = Promise.all(probes.map((probe) => probe.reaches(name)));
  const id = await create(name, { Replicated: { Replicas: HOSTS.length } });
  await seen;
  const took = clock.nowMs() - started;
  await removeService('h1', id);
  return took;
}

async function create(name: string, mode: object): Promise<string> {
  const made = await call<{ ID: string }>('h1', 'POST', '/services/create', {
    Name: name,
    TaskTemplate: {
      ContainerSpec: { Image: WEB_IMAGE, Env: ['TASK_ID={{.Task.ID}}'] },
      Networks: [{ Target: 'bench' }],
    },
    Mode: mode,
  });
  return made.ID;
}

/** The pid, on this machine, of a process of the lab with this task's id in its environment. */
async function hostPid(taskId: string): Promise<number> {
  for (const { pid } of await labHosts()) {
    const found = descendants(pid).find((each) => environmentOf(each, 'TASK_ID') === taskId);
    if (found !== undefined) return found;
  }
  throw new Error(`no process of task ${taskId}`);
}

/** A program in a container's network that says when a service is reachable from there. */
class Probe {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<string, () => void>();

  constructor(pid: number) {
    const enter = ['-t', String(pid), '-n', process.execPath, PROBE];
    this.#child = spawn('nsenter', enter, { stdio: ['pipe', 'pipe', 'inherit'] });
    let text = '';
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) this.#waiting.get(line)?.();
    });
  }

  reaches(name: string): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.set(name, resolve);
      this.#child.stdin?.write(`${name}\n`);
    });
  }

  stop(): void {
    this.#child.kill();
  }
}
