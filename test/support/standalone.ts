/**
 * One tsswarm daemon outside any lab, in network, pid and mount namespaces of its own, with state
 * in a directory of its own: what a test needs that is about one host and no swarm. Ends with this
 * process however that ends; nothing of it is in the machine's own network.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { childrenOf, removeCgroups } from '../../deploy/hosts/system.ts';
import { TOP } from '../tidy/sources.ts';
import { type Outcome, outcome, until } from './lab.ts';
import { killed } from './processes.ts';
import { askSocket } from './socketClient.ts';

const READY_LIMIT_MS = 20_000;

export interface Standalone {
  readonly directory: string;
  readonly dataRoot: string;
  readonly socket: string;
  readonly execRoot: string;
  readonly cgroupParent: string;
  /** Pid of its namespaces' first process, for nsenter -t. */
  readonly pid: number;
  /** The docker client with this daemon; fails on a non-zero exit. */
  docker(...args: string[]): Promise<string>;
  /** The same, whatever its exit. */
  tryDocker(...args: string[]): Promise<Outcome>;
  /** A command in its network namespace. */
  inside(...command: string[]): Promise<Outcome>;
  /** A process in its network namespace, ended with the daemon. */
  spawnInside(...command: string[]): ChildProcess;
  /** Starts the daemon anew with these flags. */
  restart(...flags: string[]): Promise<void>;
  /** Kills the daemon with SIGKILL; `restart` starts the next. Resolves when it is gone. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** `flags`: more arguments of the daemon. */
export async function startStandalone(...flags: string[]): Promise<Standalone> {
  const directory = mkdtempSync(join(tmpdir(), 'standalone-'));
  const socket = join(directory, 'tsswarm.sock');
  const dataRoot = join(directory, 'root');
  const execRoot = join(directory, 'exec');
  const cgroup = `/${directory.slice(directory.lastIndexOf('/') + 1)}`;
  const holder = spawn(
    'unshare',
    [
      ...['--net', '--pid', '--mount', '--fork', '--kill-child=KILL', 'sh', '-c'],
      'mount --make-rprivate / && mount -t proc proc /proc && ip link set lo up && ' +
        'echo ready && cat',
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  await once(holder.stdout as NodeJS.ReadableStream, 'data');
  const [pid] = childrenOf(holder.pid ?? 0);
  const spawnInside = (...command: string[]): ChildProcess =>
    spawn('nsenter', ['-t', String(pid), '-n', '-p', '-m', ...command], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  const docker = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await tryDocker(...args);
    if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const config = join(directory, 'docker');
  mkdirSync(config);
  const tryDocker = (...args: string[]): Promise<Outcome> =>
    outcome('docker', ['--config', config, '-H', `unix://${socket}`, ...args]);
  let daemon: ChildProcess | undefined;
  const start = async (more: readonly string[]): Promise<void> => {
    const child = spawnInside(
      process.execPath,
      ...[join(TOP, 'dist', 'cli', 'main.js'), 'daemon', '--log-level', 'warn'],
      ...['--data-root', dataRoot, '--exec-root', execRoot],
      ...['--cgroup-parent', cgroup, '-H', `unix://${socket}`, ...more],
    );
    daemon = child;
    const state = await until('the daemon answers', READY_LIMIT_MS, async () => {
      if (child.exitCode !== null || child.signalCode !== null) return 'ended';
      return (await askSocket(socket, 'GET', '/version')).status === 200 ? 'ready' : undefined;
    });
    if (state === 'ended') throw new Error('the daemon has ended');
  };
  const end = async (
    child: ChildProcess | undefined,
    signal: NodeJS.Signals = 'SIGTERM',
  ): Promise<void> => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    // nsenter waits for the process it has put into the pid namespace, or is about to put there.
    const [inside] = await until('the daemon to be there, or gone', READY_LIMIT_MS, () => {
      const found = childrenOf(child.pid ?? 0);
      const isOver = child.exitCode !== null || child.signalCode !== null;
      return found.length > 0 || isOver ? found : undefined;
    });
    if (inside !== undefined) process.kill(inside, signal);
    await ended;
  };
  const stop = async (): Promise<void> => {
    await end(daemon);
    await killed(holder);
    await removeCgroups(cgroup);
    rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
  try {
    await start(flags);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    directory,
    dataRoot,
    socket,
    execRoot,
    cgroupParent: cgroup,
    pid,
    docker,
    tryDocker,
    spawnInside,
    inside: (...command) => outcome('nsenter', ['-t', String(pid), '-n', ...command]),
    restart: async (...more) => {
      await end(daemon);
      await start(more);
    },
    kill: () => end(daemon, 'SIGKILL'),
    stop,
  };
}
