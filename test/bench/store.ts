/**
 * The store at a million tasks: its heap, the pauses that a snapshot adds to the main thread beyond
 * a control run's, a member's restart from a snapshot of 1 GB, and memory over a long run of writes
 * (STORE_MINUTES, 30 by default).
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { TOP } from '../tidy/sources.ts';
import { type Figure, figure } from './report.ts';

const run = promisify(execFile);
const CHILD = join(TOP, 'dist', 'test', 'bench', 'storeChild.js');
const HEAP_MB = 4096;
const RESTARTS = 5;
const MB = 1e6;

async function child<T>(...args: string[]): Promise<T> {
  const flags = ['--expose-gc', `--max-old-space-size=${HEAP_MB}`];
  const { stdout } = await run(process.execPath, [...flags, CHILD, ...args]);
  return JSON.parse(stdout) as T;
}

async function heap(): Promise<Figure[]> {
  const { heapMb } = await child<{ heapMb: number }>('heap');
  const target = { text: '<= 600 MB', max: 600 };
  return [figure('store of 1,000,000 tasks, heap', 'MB', [heapMb], target)];
}

async function pauses(): Promise<Figure[]> {
  interface Pause {
    readonly ms: number;
    readonly cpuMs: number;
  }
  const { control, snapshot, tookMs } = await child<{
    control: Pause[];
    snapshot: Pause[];
    tookMs: number[];
  }>('pause', process.env['STORE_ROUNDS'] ?? '5');
  const ms = (pauses: readonly Pause[]): number[] => pauses.map((each) => each.ms);
  const beyond = snapshot.map((each, round) => each.ms - control[round].ms);
  const beyondCpu = snapshot.map((each, round) => each.cpuMs - control[round].cpuMs);
  const target = { text: '<= 20 ms', median: 20 };
  return [
    figure('longest pause without a snapshot, by round', 'ms', ms(control), { text: '' }),
    figure('longest pause with a snapshot of it, by round', 'ms', ms(snapshot), { text: '' }),
    figure('pause that the snapshot adds', 'ms', beyond, target),
    figure('pause that it adds, processor time', 'ms', beyondCpu, target),
    figure('the snapshot', 'ms', tookMs, { text: '' }),
  ];
}

async function restarts(): Promise<Figure[]> {
  const directory = mkdtempSync(join(tmpdir(), 'tsswarm-bench-restart-'));
  try {
    const saved = await child<{ bytes: number; hash: string }>('save', directory);
    const took: number[] = [];
    const cpu: number[] = [];
    for (let round = 0; round < RESTARTS; round += 1) {
      type Opened = { tookMs: number; cpuMs: number; hash: string };
      const { tookMs, cpuMs, hash } = await child<Opened>('open', directory);
      if (hash !== saved.hash) throw new Error(`the store came back as ${hash}, not ${saved.hash}`);
      took.push(tookMs);
      cpu.push(cpuMs);
    }
    const of = `restart with a snapshot of ${Math.round(saved.bytes / MB)} MB`;
    return [
      figure(of, 'ms', took, { text: '<= 15,000 ms', median: 15_000 }),
      figure(`${of}, processor time`, 'ms', cpu, { text: '' }),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

interface Sample {
  readonly heapMb: number;
  readonly rssMb: number;
  readonly diskMb: number;
}

/** The last quarter beside the second: the first is warming up. */
async function flat(): Promise<Figure[]> {
  const minutes = Number(process.env['STORE_MINUTES'] ?? 30);
  const { samples } = await child<{ samples: Sample[] }>('flat', String(minutes * 60));
  const quarter = samples.length / 4;
  const growth = (of: (sample: Sample) => number): number[] => {
    const early = samples.slice(quarter, 2 * quarter).map(of);
    const late = samples.slice(3 * quarter).map(of);
    return late.map((value, at) => value / early[at]);
  };
  const name = `after ${minutes} minutes of writes, beside the first half`;
  return [
    figure(
      `heap ${name}`,
      'x',
      growth(({ heapMb }) => heapMb),
      { text: '<= 1.1', median: 1.1 },
    ),
    figure(
      `memory ${name}`,
      'x',
      growth(({ rssMb }) => rssMb),
      { text: '<= 1.2', median: 1.2 },
    ),
    figure(
      `disk ${name}`,
      'x',
      growth(({ diskMb }) => diskMb),
      { text: '<= 1.5', median: 1.5 },
    ),
  ];
}

const PARTS = { heap, pauses, restarts, flat };

/** STORE_PART names one of heap, pauses, restarts, flat; default all. */
export async function benchmark(): Promise<Figure[]> {
  const only = process.env['STORE_PART'];
  const figures: Figure[] = [];
  for (const [name, part] of Object.entries(PARTS)) {
    if (only === undefined || only === name) figures.push(...(await part()));
  }
  return figures;
}
