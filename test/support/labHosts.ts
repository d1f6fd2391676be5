/**
 * Hosts of the lab beyond the swarm that `deploy/lab up` makes: one that is on but in no swarm,
 * daemons that are started to see them refuse, and commands that must be refused with one line. For
 * end-to-end tests of what users and hosts get wrong; it never reaches into a running daemon.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { boot, environment, pidOf, startDaemon, stopDaemon } from '../../deploy/hosts/host.ts';
import { type HostLayout, hostLayout } from '../../deploy/hosts/layout.ts';
import { TOP } from '../tidy/sources.ts';
import { inside, type Outcome, outcome } from './lab.ts';
import { type Client, clientOf } from './terminal.ts';

export const MAIN = join(TOP, 'dist', 'cli', 'main.js');
/** A daemon that is refused ends by itself within this. */
const REFUSAL_SECONDS = '60';

export function layoutOf(host: string): HostLayout {
  return hostLayout(Number(host.slice(1)));
}

/** Powers on a host that is in no swarm; `deploy/lab down` takes it away with the rest. */
export async function bootSpare(host: string): Promise<void> {
  await boot(layoutOf(host));
}

export async function stopDaemonOf(host: string): Promise<void> {
  await stopDaemon(layoutOf(host));
}

export async function startDaemonOf(host: string, ...flags: string[]): Promise<void> {
  await startDaemon(layoutOf(host), ...flags);
}

/** The command line of a daemon on `host`, with some flags replaced. */
function daemonCommand(host: string, replaced: Record<string, string> = {}): string[] {
  const { socket, dataRoot, execRoot, cgroupParent } = layoutOf(host);
  const flags = {
    '--data-root': dataRoot,
    '--exec-root': execRoot,
    '--cgroup-parent': cgroupParent,
    '--host': `unix://${socket}`,
    ...replaced,
  };
  return [
    'timeout',
    '-s',
    'KILL',
    REFUSAL_SECONDS,
    'node',
    MAIN,
    'daemon',
    ...Object.entries(flags).flat(),
  ];
}

/** The one line a refused command says. Fails unless it is one, on standard error alone. */
export function refusal(what: string, result: Outcome, code = 1): string {
  assert.equal(result.code, code, `${what}: exit ${result.code}: ${result.stderr}`);
  const lines = result.stderr.trimEnd().split('\n');
  assert.equal(lines.length, 1, `${what}: more than one line: ${result.stderr}`);
  assert.match(lines[0], /^tsswarm: \S/, what);
  assert.doesNotMatch(lines[0], /\bat .*\.js:\d+|undefined|\[object/, what);
  return lines[0];
}

/** As `inside`, without the lab's own program in between: for tests of many short commands. */
export function within(host: string, ...command: string[]): Promise<Outcome> {
  const [program, ...args] = commandWithin(host, command);
  return outcome(program, args);
}

/** The docker client on a host: its standard output. Fails unless it ends well. */
export async function docker(host: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await within(host, 'docker', ...args);
  assert.equal(code, 0, `docker ${args.join(' ')}: ${stderr}`);
  return stdout;
}

function commandWithin(host: string, command: readonly string[]): string[] {
  const layout = layoutOf(host);
  const own = environment(layout);
  const set = ['PATH', 'TSSWARM_HOST', 'DOCKER_HOST'].map((name) => `${name}=${own[name]}`);
  const target = ['-t', String(pidOf(layout)), '-n', '-p', '-m', '-u'];
  return ['nsenter', ...target, 'env', ...set, ...command];
}

/** Runs a shell line on a terminal of its own (script(1)) that can be typed into. */
export function onTerminal(host: string, line: string): Client {
  const [program, ...args] = commandWithin(host, ['script', '-qefc', line, '/dev/null']);
  return clientOf(spawn(program, args));
}

/** Runs `tsswarm args` on `host`: status 1, nothing on standard output, one line that fits. */
export async function refused(host: string, args: readonly string[], line: RegExp): Promise<void> {
  const result = await within(host, 'tsswarm', ...args);
  const what = `tsswarm ${args.join(' ')}`;
  assert.match(refusal(what, result), line);
  assert.equal(result.stdout, '', what);
}

/** Starts a daemon that must refuse: it ends with status 1 and its last line fits. */
export async function daemonRefused(
  host: string,
  replaced: Record<string, string>,
  line: RegExp,
): Promise<void> {
  const result = await inside(host, ...daemonCommand(host, replaced));
  // Its log comes before, as JSON.
  const said = result.stderr
    .trimEnd()
    .split('\n')
    .filter((each) => !each.startsWith('{'));
  assert.equal(result.code, 1, `exit ${result.code}: ${result.stderr}`);
  assert.equal(said.length, 1, result.stderr);
  assert.match(said[0], line);
}

/** Runs every job, `width` at a time (each is a process or two); fails with all that failed. */
export async function inTurns(
  width: number,
  jobs: readonly (() => Promise<void>)[],
): Promise<void> {
  const waiting = [...jobs];
  const failures: string[] = [];
  const worker = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      await job().catch((error: unknown) => failures.push(String(error)));
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  assert.deepEqual(failures, []);
}
