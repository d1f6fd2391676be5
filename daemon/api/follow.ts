/**
 * The store's changes as an async sequence: what is in the ring, then what comes, until the caller
 * goes or a time is reached. It waits for the store, never the store for it.
 */
import type { Clock } from '../../base/clock.ts';
import { hasCode } from '../../base/errors.ts';
import type { StoreEvent, StoreReader, StoreWatch } from '../../manager/store/types.ts';

export const BATCH_EVENTS = 256;

/**
 * How far back a reader of the past looks: everything, else so many versions. A ring that holds
 * less says so, and the next smaller is tried.
 */
const LOOK_BACK_VERSIONS: readonly number[] = [Infinity, 65_536, 16_384, 4096, 1024, 256, 64, 16];

/** A watch that starts as far in the past as the ring allows, or from now. */
export function watchFrom(store: StoreReader, past: boolean): StoreWatch {
  for (const versions of past ? LOOK_BACK_VERSIONS : []) {
    try {
      return store.watch(Math.max(0, store.version - versions));
    } catch (error) {
      if (!hasCode(error, 'exhausted')) throw error;
    }
  }
  return store.watch();
}

/**
 * Ends when `signal` is aborted or at `untilMs` (wall clock). SwarmError exhausted when the reader
 * was too slow and changes were lost to it.
 */
export async function* follow(
  watch: StoreWatch,
  clock: Clock,
  signal: AbortSignal,
  untilMs?: number,
): AsyncGenerator<StoreEvent> {
  try {
    for (;;) {
      if (signal.aborted) return;
      const events = watch.take(BATCH_EVENTS);
      for (const event of events) {
        if (untilMs !== undefined && event.atMs > untilMs) return;
        yield event;
      }
      if (events.length > 0) continue;
      const leftMs = untilMs === undefined ? undefined : untilMs - clock.wallMs();
      if (leftMs !== undefined && leftMs <= 0) return;
      await changed(watch, clock, signal, leftMs);
    }
  } finally {
    watch.close();
  }
}

/** Resolves when there is something new, the caller has gone, or `limitMs` have passed. */
export function changed(
  watch: StoreWatch | undefined,
  clock: Clock,
  signal: AbortSignal,
  limitMs?: number,
): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stop?.();
      timer?.cancel();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const stop = watch?.onEvents(done);
    const timer = limitMs === undefined ? undefined : clock.afterIdle(limitMs, done);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
