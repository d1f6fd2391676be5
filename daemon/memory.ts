/**
 * What the daemon does so that it takes little memory while it has little to do: it bounds the
 * allocator's arenas before threads come (glibc makes one for each of them, and each keeps what its
 * thread freed), and gives freed memory back to the kernel once in a while, when it has been quiet.
 * It never collects garbage: V8 does that by itself.
 */
import type { Clock } from '../base/clock.ts';
import { limitArenas, trimMemory } from '../runtime/sys/memory.ts';

/** The main thread's and one for all others, which allocate little at the same time. */
const ARENAS = 2;
const LOOK_EVERY_MS = 20_000;
/** A trim takes some milliseconds: worth it only when that much came since the last one. */
const WORTH_BYTES = 4 * 1024 * 1024;
/** Of one processor, by all of this process's threads. */
const QUIET_SHARE = 0.25;
const MICROSECONDS_PER_MS = 1000;

export function keepMemoryLow(clock: Clock): void {
  limitArenas(ARENAS);
  let used = process.cpuUsage();
  let atMs = clock.nowMs();
  let leastBytes = 0;
  const look = (): void => {
    const nowMs = clock.nowMs();
    const { user, system } = process.cpuUsage(used);
    const share = (user + system) / MICROSECONDS_PER_MS / (nowMs - atMs);
    used = process.cpuUsage();
    atMs = nowMs;
    const bytes = process.memoryUsage.rss();
    if (bytes < leastBytes) leastBytes = bytes;
    if (share < QUIET_SHARE && bytes >= leastBytes + WORTH_BYTES) {
      trimMemory();
      leastBytes = process.memoryUsage.rss();
    }
    clock.afterIdle(LOOK_EVERY_MS, look);
  };
  clock.afterIdle(LOOK_EVERY_MS, look);
}
