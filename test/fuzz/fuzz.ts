/**
 * Fuzzes one target for so long: a thread runs its cases, this side watches that none hangs or
 * takes all the memory. A failure comes with the seed and the number of its case, and its input.
 */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { corpusOf, inputOf, randomOf } from './target.ts';
import { TARGETS } from './targets.ts';
import type { Done, Work } from './worker.ts';

const WORKER = fileURLToPath(new URL('./worker.js', import.meta.url));
/** Of one case, on a machine that does other things as well. */
const HANG_MS = 20_000;
const LOOK_EVERY_MS = 100;
const HEAP_MIB = 512;

export class FuzzFailure extends Error {}

export interface FuzzReport {
  readonly cases: number;
  readonly refused: number;
}

/** FuzzFailure says what failed, and how to run it again. */
export async function fuzz(
  target: string,
  seed: number,
  seconds: number,
  from = 0,
  most = Number.POSITIVE_INFINITY,
): Promise<FuzzReport> {
  const progress = new Int32Array(new SharedArrayBuffer(4));
  progress[0] = -1;
  const data: Work = { target, seed, seconds, from, most, progress };
  const worker = new Worker(WORKER, {
    workerData: data,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  });
  let done: Done | undefined;
  let failure: string | undefined;
  let seen = { at: from, turns: 0 };
  const watch = setInterval(() => {
    const at = Atomics.load(progress, 0);
    if (at < 0 || failure !== undefined) return;
    seen = at === seen.at ? { at, turns: seen.turns + 1 } : { at, turns: 0 };
    if (seen.turns * LOOK_EVERY_MS < HANG_MS) return;
    failure = `no end within ${HANG_MS / 1000} s`;
    void worker.terminate();
  }, LOOK_EVERY_MS);
  await new Promise<void>((resolve) => {
    worker.on('message', (message: Done) => {
      done = message;
    });
    worker.on('error', (error) => {
      failure = error instanceof Error ? (error.stack ?? error.message) : String(error);
    });
    worker.on('exit', () => resolve());
  });
  clearInterval(watch);
  failure ??= done === undefined ? 'the thread ended by itself' : done.failure;
  if (failure === undefined && done !== undefined) return done;
  const at = Math.max(from, Atomics.load(progress, 0));
  const file = join(mkdtempSync(join(tmpdir(), `fuzz-${target}-`)), `seed-${seed}-case-${at}`);
  const source = await TARGETS[target]();
  writeFileSync(file, await inputOf(source, corpusOf(target), randomOf(seed, at), at));
  await source.close?.();
  throw new FuzzFailure(
    `${target}: case ${at} of seed ${seed} (npm run fuzz -- ${target} --seed ${seed} ` +
      `--case ${at}), its input: ${file}\n${failure}`,
  );
}
