/**
 * Looks for a planted bug in a compiled copy: simulated runs seed by seed until one fails, and the
 * replays of etcd's recorded conversations and tables where a checkout of them is named. What
 * merely breaks the program (a type error, a failure before anything was agreed on) does not count.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { SystemClock } from '../../base/clock.ts';
import type { RunReport } from './child.ts';
import type { Workshop } from './workshop.ts';

/** A single run takes seconds; one that takes so much longer never ends. */
const RUN_LIMIT_MS = 300_000;
const clock = new SystemClock();

export interface SimulatedFind {
  readonly seed: number;
  /** The promise that was broken. */
  readonly kind: string;
  readonly message: string;
  readonly atMs: number;
}

/** The first seed of `seeds` that fails; undefined: all hold. */
export async function huntBySimulation(
  workshop: Workshop,
  seeds: { readonly from: number; readonly to: number },
  ticks: number,
): Promise<SimulatedFind | undefined> {
  const args = [seeds.from, seeds.to, ticks].map(String);
  const child = spawn(process.execPath, [workshop.compiled('test/mutants/child.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = once(child, 'close');
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => {
    said += bytes.toString();
  });
  let seed = seeds.from;
  let found: RunReport | undefined;
  let isEndless = false;
  const watch = (): ReturnType<typeof clock.after> =>
    clock.after(RUN_LIMIT_MS, () => {
      isEndless = true;
      child.kill('SIGKILL');
    });
  let timer = watch();
  for await (const line of createInterface({ input: child.stdout })) {
    timer.cancel();
    timer = watch();
    const report = JSON.parse(line) as RunReport;
    seed = report.seed + 1;
    if (report.failure !== null) found = report;
  }
  timer.cancel();
  const [code] = (await ended) as [number | null];
  if (isEndless) throw new Error(`seed ${seed} does not end`);
  if (code !== 0) throw new Error(`seed ${seed} ends the process: ${said}`);
  return found?.failure ? judged(found, found.failure) : undefined;
}

/** Checks of the simulation, assertions of the product, and what the product itself reports. */
function judged(
  { seed, elections }: RunReport,
  failure: NonNullable<RunReport['failure']>,
): SimulatedFind {
  const { kind, message, atMs } = failure;
  const isCheck = kind !== 'error' && kind !== 'assertion';
  const isNoticed = kind === 'assertion' || message.startsWith('SwarmError');
  if (isCheck || (isNoticed && elections > 0)) return { seed, kind, message, atMs };
  throw new Error(`seed ${seed} merely breaks: ${message}`);
}

/** Names of the conversations and tables that come out otherwise. */
export async function huntByReplays(workshop: Workshop, checkout: string): Promise<string[]> {
  const args = ['--test', '--test-reporter=tap', ...workshop.replays];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, RAFT_CHECKOUT: checkout },
  });
  const failed: string[] = [];
  let name: string | undefined;
  let passed = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    const test = /^ *(not )?ok \d+ - (.*)$/.exec(line);
    if (test !== null) {
      if (test[1] === undefined) passed += 1;
      name = test[1] === undefined ? undefined : test[2];
    } else if (name !== undefined && /^ *(code: 'ERR_ASSERTION'|name: 'Assert)/.test(line)) {
      failed.push(/(?:conversation|table) (\S+)/.exec(name)?.[1] ?? name);
      name = undefined;
    }
  }
  if (passed === 0 && failed.length === 0) throw new Error('the replays did not run');
  return failed;
}
