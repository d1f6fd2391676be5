/**
 * Debian's dockerd as the peer that benchmarks compare with: one or more hosts, each in network,
 * pid and mount namespaces of its own on an underlay of their own (10.98.0.<10+i>), with storage of
 * its own. Ends with this process however that ends; nothing of it is in the machine's own network.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { childrenOf, removeCgroups } from '../../deploy/hosts/system.ts';
import { type Outcome, outcome, until } from './lab.ts';
import { killed } from './processes.ts';

const DOCKERD = '/usr/sbin/dockerd';
const READY_LIMIT_MS = 60_000;

/** Whether this machine has the peer; a benchmark says so and measures tsswarm alone without. */
export function hasDockerd(): boolean {
  return existsSync(DOCKERD);
}

export interface Dockerd {
  readonly address: string;
  readonly socket: string;
  /** Pid of its namespaces' first process, for nsenter -t. */
  readonly pid: number;
  /** The docker client with this daemon; fails on a non-zero exit. */
  docker(...args: string[]): Promise<string>;
  /** A command in its network namespace. */
  inside(...command: string[]): Promise<Outcome>;
}

export interface Dockerds {
  readonly hosts: readonly Dockerd[];
  /** Kills all of it and removes what it stored. */
  stop(): Promise<void>;
}

/** `flags`: more arguments for every daemon. */
export async function startDockerds(
  count: number,
  flags: readonly string[] = [],
): Promise<Dockerds> {
  const base = mkdtempSync(join(tmpdir(), 'peer-dockerd-'));
  const underlay = await holdUnderlay();
  const started: ChildProcess[] = [underlay];
  const cgroup = base.slice(base.lastIndexOf('/'));
  const stop = async (): Promise<void> => {
    for (const child of started.reverse()) await killed(child);
    await removeCgroups(cgroup);
    rmSync(base, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  };
  try {
    const hosts: Dockerd[] = [];
    for (let index = 1; index <= count; index += 1) {
      hosts.push(await startOne(base, index, underlay, cgroup, flags, started));
    }
    return { hosts, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function holdUnderlay(): Promise<ChildProcess> {
  const script =
    'ip link add br0 type bridge && ip link set br0 up && ip link set lo up && ' +
    'ip address add 10.98.0.1/24 dev br0 && echo ready && exec cat';
  const holder = spawn('unshare', ['--net', 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout as NodeJS.ReadableStream, 'data');
  return holder;
}

async function startOne(
  base: string,
  index: number,
  underlay: ChildProcess,
  cgroup: string,
  flags: readonly string[],
  started: ChildProcess[],
): Promise<Dockerd> {
  const directory = join(base, `d${index}`);
  mkdirSync(directory);
  const socket = join(directory, 'docker.sock');
  const address = `10.98.0.${10 + index}`;
  // The first line read says that the link is there.
  const script =
    `mount --make-rprivate / && mount -t proc proc /proc && hostname d${index} && read go && ` +
    `ip link set lo up && ip address add ${address}/24 dev eth0 && ip link set eth0 up && ` +
    `ip route add default via 10.98.0.1 && PATH=/usr/sbin:/usr/bin:/sbin:/bin && exec "$@"`;
  const daemon = [
    DOCKERD,
    ...['--data-root', join(directory, 'root'), '--exec-root', join(directory, 'exec')],
    ...['--pidfile', join(directory, 'pid'), '--host', `unix://${socket}`],
    ...['--cgroup-parent', `${cgroup}/d${index}`, '--storage-driver', 'overlay2'],
    ...flags,
  ];
  const namespaces = ['--net', '--pid', '--uts', '--mount', '--fork', '--kill-child=KILL'];
  const child = spawn('unshare', [...namespaces, 'sh', '-c', script, 'sh', ...daemon], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  started.push(child);
  // The forked child of unshare: process 1 of the new namespaces, once it is in them.
  const pid = await until(
    'the namespaces are there',
    READY_LIMIT_MS,
    () => childrenOf(child.pid ?? 0)[0],
  );
  const enter = ['-t', String(underlay.pid), '-n'];
  const link = [`p${index}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid)];
  await must('nsenter', [...enter, 'ip', 'link', 'add', ...link]);
  await must('nsenter', [...enter, 'ip', 'link', 'set', `p${index}`, 'master', 'br0', 'up']);
  child.stdin?.write('go\n');
  const docker = (...args: string[]): Promise<string> =>
    must('docker', ['-H', `unix://${socket}`, ...args]);
  await until('dockerd answers', READY_LIMIT_MS, async () => {
    if (child.exitCode !== null) throw new Error('dockerd has ended');
    return (await docker('version', '--format', '{{.Server.Version}}')) !== '' ? true : undefined;
  });
  const inside = (...command: string[]): Promise<Outcome> =>
    outcome('nsenter', ['-t', String(pid), '-n', ...command]);
  return { address, socket, pid, docker, inside };
}

async function must(file: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await outcome(file, args);
  if (code !== 0) throw new Error(`${file} ${args.join(' ')}: ${stderr}`);
  return stdout;
}
