/**
 * The story that the README opens with, told live on a fresh lab: a service on three hosts, called
 * from containers and from outside, and a host that is cut off. Uses only what a user has: the lab,
 * the tsswarm command and its `watch --json`.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { messageOf, SwarmError } from '../../base/errors.ts';
import type { LiveMessage, LiveTask } from '../../model/live.ts';
import { TOP, tsswarm } from './host.ts';
import { CLIENT_NAMESPACE, type HostLayout, hostLayout, LAB_DIR } from './layout.ts';
import { clock, run, until } from './system.ts';

const IMAGE = 'tsswarm/web:latest';
const REPLICAS = 3;
const PORT = 8080;
const CALLS = 12;
const RECOVERY_TIMEOUT_MS = 60_000;
const LAB = join(TOP, 'deploy', 'lab');

const hosts = [hostLayout(1), hostLayout(2), hostLayout(3)];
const startedMs = clock.nowMs();

function step(text: string): void {
  const elapsed = ((clock.nowMs() - startedMs) / 1000).toFixed(1).padStart(5);
  process.stdout.write(`${elapsed}s  ${text}\n`);
}

function note(text: string): void {
  process.stdout.write(`        ${text}\n`);
}

function lab(...args: string[]): void {
  const result = spawnSync(LAB, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  if (result.status !== 0) throw new SwarmError('internal', `deploy/lab ${args.join(' ')} failed`);
}

/** GET from the outside client; the body. */
function fromOutside(url: string): string {
  const script =
    'fetch(process.argv[1], { signal: AbortSignal.timeout(3000) })' +
    '.then((answer) => answer.text()).then((text) => process.stdout.write(text))';
  return run('ip', 'netns', 'exec', CLIENT_NAMESPACE, process.execPath, '-e', script, url).trim();
}

function leader(): HostLayout {
  const format = '{{.Hostname}} {{.ManagerStatus}}';
  const line = tsswarm(hosts[0], 'node', 'ls', '--format', format)
    .split('\n')
    .find((each) => each.endsWith('Leader'));
  const found = hosts.find((host) => host.name === line?.split(' ')[0]);
  if (found === undefined) throw new SwarmError('unavailable', 'no manager leads');
  return found;
}

async function callByName(): Promise<void> {
  const first = hosts[0];
  const options = ['--mode', 'global', '--network', 'demo', '--restart-condition', 'none'];
  const command = [IMAGE, 'get', 'http://web/', String(CALLS)];
  tsswarm(first, 'service', 'create', '--name', 'caller', ...options, '--detach', ...command);
  const wanted = CALLS * hosts.length;
  let answers: string[] = [];
  await until('every replica answers by name', 60_000, () => {
    const logs = tsswarm(first, 'service', 'logs', '--raw', 'caller');
    answers = logs.split('\n').filter((line) => line.startsWith('task='));
    return answers.length >= wanted;
  });
  tsswarm(first, 'service', 'rm', 'caller');
  const counts = new Map<string, number>();
  for (const answer of answers) {
    const task = answer.split(' ')[0].slice('task='.length).split('.').slice(0, 2).join('.');
    counts.set(task, (counts.get(task) ?? 0) + 1);
  }
  const shares = [...counts].map(([task, count]) => `${task} ${count}`).sort();
  note(
    `${answers.length} calls of http://web/ from a container on each host: ${shares.join(', ')}`,
  );
}

interface Recovery {
  detectedMs: number;
  readonly placed: Map<string, number>;
  readonly running: Map<string, number>;
}

/** Cuts `lost` off and follows the cluster through `observer` until all replicas run again. */
async function loseHost(lost: HostLayout, observer: HostLayout): Promise<Recovery> {
  const recovery: Recovery = { detectedMs: 0, placed: new Map(), running: new Map() };
  const command = ['exec', observer.name, 'tsswarm', 'watch', '--json'];
  const watch = spawn(LAB, command, {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let lostTasks = 0;
  let cutAtMs = 0;
  let attached = false;
  createInterface({ input: watch.stdout }).on('line', (line) => {
    const message = JSON.parse(line) as LiveMessage;
    if (message.type === 'state') {
      attached = true;
      const own = message.tasks.filter((task) => task.name.startsWith('web.'));
      lostTasks = own.filter((task) => task.hostname === lost.name).length;
    } else if (cutAtMs > 0) {
      follow(message, lost, cutAtMs, recovery);
    }
  });
  try {
    await until('watch attached', 10_000, () => attached);
    lab('cut', lost.name);
    cutAtMs = clock.wallMs();
    step(`${lost.name} is cut off (${lostTasks} replica there); ${observer.name} watches:`);
    const recovered = (): boolean => recovery.running.size >= lostTasks && recovery.detectedMs > 0;
    await until(`the replicas of ${lost.name} run elsewhere`, RECOVERY_TIMEOUT_MS, recovered);
    return recovery;
  } finally {
    watch.kill('SIGTERM');
  }
}

function follow(message: LiveMessage, lost: HostLayout, cutAtMs: number, recovery: Recovery): void {
  const after = (atMs: number): string => `+${atMs - cutAtMs} ms`;
  if (message.type === 'event' && message.object === 'node') {
    const { name } = message.attributes;
    const state = message.attributes['state.new'];
    if (name !== lost.name || state !== 'down' || recovery.detectedMs > 0) return;
    recovery.detectedMs = message.atMs - cutAtMs;
    note(`${after(message.atMs).padStart(9)}  ${lost.name} is called down`);
  } else if (message.type === 'task' && isReplacement(message.task, lost, cutAtMs)) {
    const { id, name, hostname, phases } = message.task;
    const assigned = phases['assigned'];
    const ran = phases['running'];
    if (assigned !== undefined && !recovery.placed.has(id)) {
      recovery.placed.set(id, assigned - cutAtMs);
      note(`${after(assigned).padStart(9)}  ${name} is placed on ${hostname}`);
    }
    if (ran !== undefined && !recovery.running.has(id)) {
      recovery.running.set(id, ran - cutAtMs);
      note(`${after(ran).padStart(9)}  ${name} runs on ${hostname}`);
    }
  }
}

function isReplacement(task: LiveTask, lost: HostLayout, cutAtMs: number): boolean {
  const born = task.phases['new'] ?? 0;
  return task.name.startsWith('web.') && born >= cutAtMs && task.hostname !== lost.name;
}

async function main(): Promise<void> {
  if (existsSync(LAB_DIR)) step('taking down the lab that is up, with all that runs in it');
  lab('down');
  step('raising three hosts on this machine');
  lab('up', '--hosts', '3', '--managers', '3');
  step('loading the web image on each host');
  for (const host of hosts) {
    tsswarm(host, 'image', 'load', '--input', join(TOP, 'dist', 'images', 'web.tar'));
  }
  step(
    `tsswarm service create --name web --replicas ${REPLICAS} ` +
      `--publish ${PORT}:80 --network demo ${IMAGE}`,
  );
  const first = hosts[0];
  tsswarm(first, 'network', 'create', '--driver', 'overlay', 'demo');
  tsswarm(
    first,
    ...['service', 'create', '--name', 'web', '--replicas', String(REPLICAS)],
    ...['--network', 'demo', '--publish', `${PORT}:80`],
    ...['--env', 'TASK_NAME={{.Task.Name}}', '--env', 'NODE_HOSTNAME={{.Node.Hostname}}'],
    IMAGE,
  );
  for (const line of tsswarm(first, 'service', 'ps', 'web').trimEnd().split('\n')) note(line);
  step('calling it by name, from a container on each host');
  await callByName();
  step(`calling it from outside, through each host's port ${PORT}`);
  for (const host of hosts) note(`${host.name}: ${fromOutside(`http://${host.address}:${PORT}/`)}`);
  const observer = leader();
  const lost = hosts.findLast((host) => host !== observer) ?? hosts[2];
  const recovery = await loseHost(lost, observer);
  step('all replicas run again');
  const last = (times: Map<string, number>): number => Math.max(...times.values());
  process.stdout.write(
    `\nscore: lost 0 ms / detected ${recovery.detectedMs} ms / placed ${last(recovery.placed)} ms` +
      ` / running ${last(recovery.running)} ms\n\n` +
      `The lab is up, with ${lost.name} still cut off. Try next:\n` +
      `  deploy/lab heal ${lost.name}\n` +
      `  deploy/lab exec ${observer.name} tsswarm watch\n` +
      `  deploy/lab exec ${observer.name} tsswarm service scale web=6\n` +
      'and take it down with:\n  deploy/lab down\n',
  );
}

main().catch((error: unknown) => {
  process.stderr.write(`quickstart: ${messageOf(error)}\n`);
  process.exitCode = 1;
});
