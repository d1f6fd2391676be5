/**
 * `up` and `down` take turns: a lock file that names its holder by process id and start time, so
 * that a killed holder blocks nobody. `down` ends an `up` in progress instead of waiting for it.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { SwarmError } from '../../base/errors.ts';
import { LOCK_FILE } from './layout.ts';
import { kill, startTime, until } from './system.ts';

const DOWN_TIMEOUT_MS = 60_000;
const KILL_TIMEOUT_MS = 5_000;

type Verb = 'up' | 'down';

interface Holder {
  readonly verb: Verb;
  readonly pid: number;
  readonly startTime: string;
}

function holder(): Holder | undefined {
  try {
    const found = JSON.parse(readFileSync(LOCK_FILE, 'utf8')) as Holder;
    return startTime(found.pid) === found.startTime ? found : undefined;
  } catch {
    return undefined; // no file, or one that its writer did not finish: nobody holds it
  }
}

/** Runs `work` while no other `up` or `down` of this lab does. */
export async function exclusively(verb: Verb, work: () => Promise<void>): Promise<void> {
  const other = holder();
  if (other?.verb === 'up') {
    if (verb === 'up') {
      throw new SwarmError(
        'conflict',
        `deploy/lab up runs already (process ${other.pid}): ` +
          'wait for it, or end it: deploy/lab down',
      );
    }
    kill(other.pid);
    await until('the running up ended', KILL_TIMEOUT_MS, () => holder() === undefined);
  } else if (other?.verb === 'down') {
    await until('the running down ended', DOWN_TIMEOUT_MS, () => holder() === undefined);
  }
  const own: Holder = { verb, pid: process.pid, startTime: startTime(process.pid) };
  writeFileSync(LOCK_FILE, JSON.stringify(own));
  try {
    await work();
  } finally {
    rmSync(LOCK_FILE, { force: true });
  }
}
