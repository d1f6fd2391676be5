/**
 * Runs the cases of one target in a thread of its own, one after another, and says which one it is
 * at: whoever watches can then tell which one hangs or takes all the memory. Ends with the first
 * failure.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { SystemClock } from '../../base/clock.ts';
import { SwarmError } from '../../base/errors.ts';
import { corpusOf, inputOf, randomOf } from './target.ts';
import { TARGETS } from './targets.ts';

export interface Work {
  readonly target: string;
  readonly seed: number;
  readonly seconds: number;
  readonly from: number;
  /** Cases at most. */
  readonly most: number;
  /** Index 0: the case under way; -1 until the target is prepared. */
  readonly progress: Int32Array;
}

export interface Done {
  readonly cases: number;
  /** Cases that ended with a SwarmError. */
  readonly refused: number;
  readonly failure?: string;
}

/** Beyond what it was after the corpus: more is a blow-up, not a cache. */
const MAX_MORE_BYTES = 400 * 1024 * 1024;
const LOOK_AT_MEMORY_EVERY = 64;

async function work({ target: name, seed, seconds, from, most, progress }: Work): Promise<Done> {
  const target = await TARGETS[name]();
  target.prepare?.();
  const corpus = corpusOf(name);
  const clock = new SystemClock();
  const endMs = clock.nowMs() + seconds * 1000;
  let before = 0;
  let refused = 0;
  let at = from;
  let failure: string | undefined;
  const goesOn = (): boolean => clock.nowMs() < endMs && at < from + most;
  for (; failure === undefined && (at < from + corpus.length || goesOn()); at += 1) {
    Atomics.store(progress, 0, at);
    const random = randomOf(seed, at);
    const input = await inputOf(target, corpus, random, at);
    try {
      await target.run(input, random);
    } catch (error) {
      if (error instanceof SwarmError && error.code !== 'internal') refused += 1;
      else failure = error instanceof Error ? (error.stack ?? String(error)) : String(error);
    }
    if (at % LOOK_AT_MEMORY_EVERY > 0) continue;
    const now = process.memoryUsage().rss;
    if (before === 0 && at >= corpus.length) before = now;
    if (before > 0 && now > before + MAX_MORE_BYTES) failure = `memory grew to ${now} bytes`;
  }
  await target.close?.();
  return { cases: at - from, refused, ...(failure === undefined ? {} : { failure }) };
}

parentPort?.postMessage(await work(workerData as Work));
