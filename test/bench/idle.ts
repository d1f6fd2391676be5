/**
 * What 100 containers cost beyond their own processes while they do nothing but log a line now and
 * then: how much more memory (proportional set size) the daemon and all supervisors have than
 * before; beside dockerd with containerd and its shims. What the kernel holds for them (network
 * namespaces, mounts, processes) is beside it, read from the whole machine, so others blur it.
 */
import { readFileSync } from 'node:fs';
import { askSocket } from '../support/socketClient.ts';
import {
  API,
  type BenchDaemon,
  ownProcesses,
  removeProbe,
  startProbe,
  withDaemons,
} from './daemons.ts';
import { type Figure, figure } from './report.ts';
import { clock } from './swarmClient.ts';
import { pssKb } from './tools.ts';

const CONTAINERS = 100;
const WARM_CONTAINERS = 10;
const LINE_EVERY_MS = 1000;
const SAMPLES = 5;
const BETWEEN_MS = 2000;
/** V8 collects what the starts left when little is allocated, or after 100 s at the latest. */
const SETTLE_MS = 120_000;
const PEER_SETTLE_MS = 20_000;
const TARGET_MB = 15;
const KB_PER_MB = 1000;
const KERNEL = /^(Slab|KernelStack|PageTables|Percpu|SecPageTables):\s+(\d+) kB/;

interface Memory {
  /** MB, of each sample. */
  readonly own: readonly number[];
  readonly kernel: readonly number[];
}

export function benchmark(): Promise<Figure[]> {
  return withDaemons(async ({ ours, theirs }) => {
    const our = await grown(ours, SETTLE_MS);
    const target = { text: `<= ${TARGET_MB} MB`, median: TARGET_MB };
    const figures = [
      figure(`${CONTAINERS} idle containers: daemon and shims`, 'MB', our.own, target),
      figure(`${CONTAINERS} idle containers: the kernel’s part`, 'MB', our.kernel, { text: '' }),
    ];
    if (theirs === undefined) return figures;
    const their = await grown(theirs, PEER_SETTLE_MS);
    return [
      ...figures,
      figure('the same by dockerd 20.10', 'MB', their.own, { text: 'the peer' }),
      figure('the kernel’s part with dockerd 20.10', 'MB', their.kernel, { text: '' }),
    ];
  });
}

async function grown(daemon: BenchDaemon, settleMs: number): Promise<Memory> {
  await removeAll(daemon, await startAll(daemon, WARM_CONTAINERS));
  await clock.sleep(settleMs);
  const before = { own: ownMb(daemon), kernel: kernelMb() };
  const ids = await startAll(daemon, CONTAINERS);
  await clock.sleep(settleMs);
  const own: number[] = [];
  const kernel: number[] = [];
  for (let sample = 0; sample < SAMPLES; sample += 1) {
    own.push(ownMb(daemon) - before.own);
    kernel.push(kernelMb() - before.kernel);
    await clock.sleep(BETWEEN_MS);
  }
  await checkLogged(daemon, ids[0]);
  await removeAll(daemon, ids);
  return { own, kernel };
}

async function startAll(daemon: BenchDaemon, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let at = 0; at < count; at += 1) {
    ids.push(await startProbe(daemon, ['ticks', '0', String(LINE_EVERY_MS)]));
  }
  return ids;
}

async function removeAll(daemon: BenchDaemon, ids: readonly string[]): Promise<void> {
  for (const id of ids) await removeProbe(daemon, id);
}

/** A container that does not log would measure something else. */
async function checkLogged({ socket }: BenchDaemon, id: string): Promise<void> {
  const path = `${API}/containers/${id}/logs?stdout=1&tail=1`;
  const { status, body } = await askSocket(socket, 'GET', path);
  if (status !== 200 || !body.includes('tick')) throw new Error(`no log: ${status} ${body}`);
}

function ownMb(daemon: BenchDaemon): number {
  return ownProcesses(daemon).reduce((sum, { pid }) => sum + pssKb(pid), 0) / KB_PER_MB;
}

function kernelMb(): number {
  let kb = 0;
  for (const line of readFileSync('/proc/meminfo', 'utf8').split('\n')) {
    kb += Number(KERNEL.exec(line)?.[2] ?? 0);
  }
  return kb / KB_PER_MB;
}
