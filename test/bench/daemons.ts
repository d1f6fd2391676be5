/**
 * The daemons that container benchmarks compare: tsswarm alone in namespaces of its own and, where
 * it is installed, Debian's dockerd, both with one image of the tests' static probe; and the few
 * calls of Docker's API that such benchmarks make of either.
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeTar } from '../../runtime/image/tar.ts';
import { hasDockerd, startDockerds } from '../support/dockerd.ts';
import { collect } from '../support/images.ts';
import { cpuTicksWithChildren } from '../support/processes.ts';
import { buildProbe } from '../support/rootfs.ts';
import { askSocket } from '../support/socketClient.ts';
import { type Standalone, startStandalone } from '../support/standalone.ts';
import { callAt } from './swarmClient.ts';

export const API = '/v1.41';
export const PROBE = '/bin/probe';
export const IMAGE = 'bench/probe';
const ANSWER_LIMIT_MS = 120_000;

export interface BenchDaemon {
  readonly socket: string;
  /** First process of its namespaces. */
  readonly pid: number;
}

export interface Sides {
  readonly ours: BenchDaemon & Standalone;
  /** Undefined where there is no dockerd. */
  readonly theirs: BenchDaemon | undefined;
  /** tsswarm first. */
  readonly all: readonly BenchDaemon[];
}

/** Starts the daemons, gives both the image, and takes all away when `work` is done. */
export async function withDaemons<T>(
  work: (sides: Sides) => Promise<T>,
  withPeer = hasDockerd(),
): Promise<T> {
  const tar = await probeTar();
  const ours = await startStandalone();
  try {
    const peers = withPeer ? await startDockerds(1) : undefined;
    try {
      const theirs = peers?.hosts[0];
      const all = theirs === undefined ? [ours] : [ours, theirs];
      for (const { socket } of all) {
        const path = `${API}/images/create?fromSrc=-&repo=${IMAGE}`;
        const { status, body } = await askSocket(socket, 'POST', path, tar);
        if (status !== 200) throw new Error(`images/create: ${status} ${body}`);
      }
      return await work({ ours, theirs, all });
    } finally {
      await peers?.stop();
    }
  } finally {
    await ours.stop();
  }
}

async function probeTar(): Promise<Buffer> {
  const work = mkdtempSync(join(tmpdir(), 'bench-daemons-'));
  try {
    buildProbe(join(work, 'probe'));
    const body = readFileSync(join(work, 'probe'));
    return await collect(writeTar([{ name: 'bin/probe', body, mode: 0o755 }]));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Makes a container of the image, as Docker's API describes one; its id. */
export async function createProbe({ socket }: BenchDaemon, wanted: object): Promise<string> {
  const body = { Image: IMAGE, ...wanted };
  const path = `${API}/containers/create`;
  return (await callAt<{ Id: string }>(socket, 'POST', path, body)).Id;
}

/** Makes and starts a container of the probe; its id. */
export async function startProbe(
  daemon: BenchDaemon,
  args: readonly string[],
  host: object = { NetworkMode: 'none' },
): Promise<string> {
  const id = await createProbe(daemon, { Cmd: [PROBE, ...args], HostConfig: host });
  await callAt(daemon.socket, 'POST', `${API}/containers/${id}/start`);
  return id;
}

/** Waits for its end, which must be a good one. */
export async function endOf({ socket }: BenchDaemon, id: string): Promise<void> {
  const { StatusCode } = await callAt<{ StatusCode: number }>(
    socket,
    'POST',
    `${API}/containers/${id}/wait`,
    undefined,
    ANSWER_LIMIT_MS,
  );
  if (StatusCode !== 0) throw new Error(`the container ended with ${StatusCode}`);
}

export async function removeProbe({ socket }: BenchDaemon, id: string): Promise<void> {
  await callAt(socket, 'DELETE', `${API}/containers/${id}?force=1&v=1`, undefined, ANSWER_LIMIT_MS);
}

/** Its processes that are no program of a container, as pids of this machine with their arguments. */
export function ownProcesses({ pid }: BenchDaemon): { pid: number; args: string }[] {
  const namespace = readlinkSync(`/proc/${pid}/ns/pid`);
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      if (readlinkSync(`/proc/${name}/ns/pid`) !== namespace) return [];
      const args = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      return [{ pid: Number(name), args }];
    } catch {
      return []; // it ended while the list was read
    }
  });
}

/** Pid of the daemon itself. */
export function daemonPid(daemon: BenchDaemon): number {
  const found = ownProcesses(daemon).find(({ args }) => /--data-root/.test(args));
  if (found === undefined) throw new Error('no daemon runs');
  return found.pid;
}

/** Processor time of all its processes and those that have ended, in the kernel's ticks. */
export function ownTicks(daemon: BenchDaemon): number {
  return ownProcesses(daemon).reduce((sum, { pid }) => sum + cpuTicksWithChildren(pid), 0);
}
