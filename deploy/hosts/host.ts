/**
 * One lab host: boot (PID 1 in namespaces of its own), its daemon, power-off. Commands run inside
 * by nsenter. A booted host is remembered by its PID 1 and its start time; its daemon and what an
 * interrupted boot left are found by their command lines, so that nothing remembered can be wrong.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SwarmError } from '../../base/errors.ts';
import { BIN_DIR, type HostLayout, LAB_DIR } from './layout.ts';
import {
  childrenOf,
  commandLine,
  kill,
  processes,
  removeCgroups,
  run,
  startTime,
  until,
} from './system.ts';
import { cut, plug } from './underlay.ts';

const BOOT_TIMEOUT_MS = 10_000;
/** Generous for an emulated machine; a daemon that ends is noticed at once. */
const DAEMON_TIMEOUT_MS = 120_000;
const PING_TIMEOUT_MS = 1_000;
const TOP = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const INIT = join(TOP, 'deploy', 'hosts', 'init.sh');

interface BootRecord {
  readonly pid: number;
  readonly startTime: string;
}

function readRecord(file: string): BootRecord | undefined {
  if (!existsSync(file)) return undefined;
  const record = JSON.parse(readFileSync(file, 'utf8')) as BootRecord;
  return startTime(record.pid) === record.startTime ? record : undefined;
}

/** The host's PID 1 as this machine numbers it; undefined when the host is off. */
export function pidOf(host: HostLayout): number | undefined {
  return readRecord(join(host.bootDir, 'pid1.json'))?.pid;
}

/** The daemon's process as this machine numbers it; undefined when it does not run. */
export function daemonPid(host: HostLayout): number | undefined {
  const pid = pidOf(host);
  if (pid === undefined) return undefined;
  const words = `--host unix://${host.socket} daemon`;
  return childrenOf(pid).find((child) => commandLine(child).includes(words));
}

/**
 * Ends every PID 1 of this host (of every host, where none is named), recorded or left by an
 * interrupted boot, and with it all that runs inside.
 */
export async function endProcesses(host?: HostLayout): Promise<void> {
  const directory = host === undefined ? join(LAB_DIR, 'h') : `${host.bootDir} `;
  const found = processes().filter((pid) => {
    const line = commandLine(pid);
    return line.includes('/deploy/hosts/init.sh h') && line.includes(directory);
  });
  for (const pid of found) kill(pid);
  await until('hosts off', BOOT_TIMEOUT_MS, () => found.every((pid) => startTime(pid) === ''));
}

function mustBeUp(host: HostLayout): number {
  const pid = pidOf(host);
  if (pid === undefined) {
    throw new SwarmError('unavailable', `${host.name} is off: deploy/lab start ${host.name}`);
  }
  return pid;
}

/** Powers the host on with a fresh exec root, plugs it in and starts its daemon. */
export async function boot(host: HostLayout): Promise<void> {
  await endProcesses(host);
  await removeCgroups(host.cgroupParent);
  rmSync(host.execRoot, { recursive: true, force: true });
  mkdirSync(host.execRoot, { recursive: true });
  // The directory itself stays: an interrupted start must not make the lab forget the host.
  mkdirSync(host.bootDir, { recursive: true });
  for (const name of readdirSync(host.bootDir)) {
    rmSync(join(host.bootDir, name), { recursive: true, force: true });
  }
  mkdirSync(host.dataRoot, { recursive: true });
  const unshare = spawn('unshare', ['-f', '-n', '-p', '-m', '-u', INIT, host.name, host.bootDir], {
    detached: true,
    stdio: 'ignore',
    cwd: '/',
  });
  unshare.unref();
  const outer = unshare.pid;
  if (outer === undefined) throw new SwarmError('internal', 'unshare could not be started');
  await until(`${host.name} booted`, BOOT_TIMEOUT_MS, () =>
    existsSync(join(host.bootDir, 'booted')),
  );
  const pid = childrenOf(outer)[0];
  plug(host, pid);
  const record: BootRecord = { pid, startTime: startTime(pid) };
  writeFileSync(join(host.bootDir, 'pid1.json'), JSON.stringify(record));
  await startDaemon(host);
}

/** Starts the daemon inside, with `more` flags of its own, and waits until it answers. */
export async function startDaemon(host: HostLayout, ...more: string[]): Promise<void> {
  const pid = mustBeUp(host);
  const command = [
    `exec node ${join(TOP, 'dist', 'cli', 'main.js')} --host unix://${host.socket} daemon`,
    `--data-root ${host.dataRoot} --exec-root ${host.execRoot}`,
    `--cgroup-parent ${host.cgroupParent} ${more.join(' ')}`,
    `>>${host.logFile} 2>&1 </dev/null`,
  ].join(' ');
  // A shell inside starts it in the background and ends, so that it becomes PID 1's child.
  const script = `setsid sh -c '${command}' & exit 0`;
  run('nsenter', '-t', String(pid), '-n', '-p', '-m', '-u', 'sh', '-c', script);
  let daemon = 0;
  await until(`the daemon of ${host.name} started`, BOOT_TIMEOUT_MS, () => {
    daemon = daemonPid(host) ?? 0;
    return daemon !== 0;
  });
  const started = startTime(daemon);
  await until(`the daemon of ${host.name} answers (see ${host.logFile})`, DAEMON_TIMEOUT_MS, () => {
    if (startTime(daemon) !== started) {
      throw new SwarmError('internal', `the daemon of ${host.name} ended: see ${host.logFile}`);
    }
    return answers(host.socket);
  });
}

/** Whether something speaks HTTP on the socket. */
function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const question = request({ socketPath, path: '/_ping', timeout: PING_TIMEOUT_MS }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    question.on('timeout', () => question.destroy());
    question.on('error', () => resolve(false));
    question.end();
  });
}

/** kill -9 of the daemon alone. */
export async function stopDaemon(host: HostLayout): Promise<void> {
  mustBeUp(host);
  const pid = daemonPid(host);
  if (pid === undefined) return;
  kill(pid);
  await until(`the daemon of ${host.name} ended`, BOOT_TIMEOUT_MS, () => startTime(pid) === '');
}

/** Cut, then SIGKILL of PID 1: the daemon, its shims and containers die with it at once. */
export async function powerOff(host: HostLayout): Promise<void> {
  const pid = mustBeUp(host);
  cut(host);
  kill(pid);
  await until(`${host.name} off`, BOOT_TIMEOUT_MS, () => startTime(pid) === '');
}

export function environment(host: HostLayout): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PATH: `${BIN_DIR}:${process.env['PATH']}`,
    TSSWARM_HOST: `unix://${host.socket}`,
    DOCKER_HOST: `unix://${host.socket}`,
    TSSWARM_DATA_ROOT: host.dataRoot,
  };
}

/** The arguments of nsenter that run a command inside, in the caller's working directory. */
export function inside(host: HostLayout, command: readonly string[]): string[] {
  const directory = `--wdns=${process.cwd()}`;
  return ['-t', String(mustBeUp(host)), '-n', '-p', '-m', '-u', directory, ...command];
}

/** Runs `tsswarm ...` inside; its standard output. */
export function tsswarm(host: HostLayout, ...args: string[]): string {
  const cli = join(TOP, 'dist', 'cli', 'main.js');
  return run('nsenter', ...inside(host, ['node', cli, '--host', `unix://${host.socket}`, ...args]));
}

export { TOP };
