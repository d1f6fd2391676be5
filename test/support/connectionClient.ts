/**
 * Run in the outside client's namespace: keeps connections to a published port open with requests
 * on them, and opens new ones all the time, on several hosts; tells per phase what became of them.
 * Read from standard input: 'phase NAME', 'hosts A,B', 'report'. Answers every line with one line.
 */
import { Agent, request } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';

const [port, ...first] = process.argv.slice(2);
const KEPT_PER_HOST = 4;
const KEPT_EVERY_MS = 100;
const FRESH_EVERY_MS = 25;
const TIMEOUT_MS = 8_000;

export interface Failure {
  readonly kind: 'fresh' | 'kept';
  readonly host: string;
  /** Which answered on this connection before; '' for a new one. */
  readonly task: string;
  readonly error: string;
  /** Unix ms of when it was begun. */
  readonly atMs: number;
}

export interface PhaseReport {
  readonly fresh: number;
  readonly kept: number;
  /** Begun in it, and neither answered nor failed yet. */
  readonly pending: number;
  readonly tasks: readonly string[];
  readonly failures: readonly Failure[];
}

interface Phase {
  fresh: number;
  kept: number;
  pending: number;
  tasks: Set<string>;
  failures: Failure[];
}

const phases: Record<string, Phase> = {};
let phase = begin('start');
let hosts = first;
const keepers = new Set<string>();

function begin(name: string): Phase {
  const made = { fresh: 0, kept: 0, pending: 0, tasks: new Set<string>(), failures: [] };
  phases[name] = made;
  return made;
}

/** The name of the task that answered. */
function ask(host: string, agent: Agent | false): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ host, port: Number(port), agent, timeout: TIMEOUT_MS }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      answer.on('end', () => resolve(/task=(\S+)/.exec(text)?.[1] ?? ''));
      answer.on('error', reject);
    });
    asked.on('timeout', () => asked.destroy(new Error('no answer in time')));
    asked.on('error', reject);
    asked.end();
  });
}

async function keep(host: string, name: string): Promise<void> {
  keepers.add(name);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let task = '';
  while (hosts.includes(host)) {
    const at = phase;
    const atMs = Date.now();
    at.pending += 1;
    try {
      task = await ask(host, agent);
      at.kept += 1;
      at.tasks.add(task);
    } catch (error) {
      at.failures.push({ kind: 'kept', host, task, error: String(error), atMs });
    }
    at.pending -= 1;
    await pause(KEPT_EVERY_MS);
  }
  agent.destroy();
  keepers.delete(name);
}

async function open(host: string): Promise<void> {
  const at = phase;
  const atMs = Date.now();
  at.pending += 1;
  try {
    at.tasks.add(await ask(host, false));
    at.fresh += 1;
  } catch (error) {
    at.failures.push({ kind: 'fresh', host, task: '', error: String(error), atMs });
  }
  at.pending -= 1;
}

function keepAll(): void {
  for (const host of hosts) {
    for (let index = 0; index < KEPT_PER_HOST; index += 1) {
      const name = `${host}/${index}`;
      if (!keepers.has(name)) void keep(host, name);
    }
  }
}

async function openAll(): Promise<void> {
  for (let turn = 0; ; turn += 1) {
    void open(hosts[turn % hosts.length]);
    await pause(FRESH_EVERY_MS);
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [word, value = ''] = line.split(' ');
    if (word === 'phase') phase = begin(value);
    if (word === 'hosts') {
      hosts = value.split(',');
      keepAll();
    }
    const told = Object.entries(phases).map(([name, each]) => [
      name,
      { ...each, tasks: [...each.tasks] },
    ]);
    process.stdout.write(
      `${word === 'report' ? JSON.stringify(Object.fromEntries(told)) : 'ok'}\n`,
    );
  })
  .on('close', () => process.exit(0));
keepAll();
void openAll();
