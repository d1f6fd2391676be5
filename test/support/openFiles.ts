/** What this process holds open, to see that a test's end leaves nothing. Only for tests. */
import { readdirSync, readlinkSync } from 'node:fs';

/** Targets of its descriptors that `wanted` says so of, sorted. */
export function openFiles(wanted: (target: string) => boolean): string[] {
  const targets = readdirSync('/proc/self/fd').flatMap((name) => {
    try {
      return [readlinkSync(`/proc/self/fd/${name}`)];
    } catch {
      return []; // the one by which this was read
    }
  });
  return targets.filter(wanted).sort();
}
