/**
 * What the command does without a daemon: states of dead managers, and backup files. The second
 * door of this room for the command, loaded by `tsswarm recover` and `tsswarm snapshot` only.
 */
import { createReadStream } from 'node:fs';
import { SystemClock } from '../base/clock.ts';
import { SwarmError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { SystemRandom } from '../base/random.ts';
import type { BackupHead } from '../manager/backup.ts';
import { goOnAlone, stateToGoOnFrom } from './alone.ts';
import { inspectBackup } from './backup.ts';
import { type Comparison, compareStates, type Examined, examine } from './examine.ts';
import { Identity } from './identity.ts';
import { parseUnlockKey } from './keyFile.ts';
import { lockDataRoot } from './lock.ts';

export type { BackupHead, Comparison, Examined };

const clock = new SystemClock();
const random = new SystemRandom();

export async function examineStates(
  directories: readonly string[],
  unlockKey: string,
): Promise<{ readonly states: readonly Examined[]; readonly comparison: Comparison }> {
  const states: Examined[] = [];
  for (const directory of directories) {
    states.push(await examine(directory, { clock, random, unlockKey }));
  }
  return { states, comparison: compareStates(states) };
}

/** Changes the state itself; no daemon may run on it, now or meanwhile. */
export async function forceOffline(dataRoot: string, unlockKey: string): Promise<void> {
  lockDataRoot(dataRoot);
  const identity = new Identity(dataRoot, random);
  if (identity.isLocked) identity.unlock(parseUnlockKey(unlockKey));
  const membership = stateToGoOnFrom(identity.membership());
  await goOnAlone({ clock, random, log: silentLog }, identity, membership);
}

export async function inspectFile(
  file: string,
  unlockKey: string,
): Promise<{ readonly head: BackupHead; readonly bytes: number; readonly opened: boolean }> {
  const stream = createReadStream(file);
  try {
    return await inspectBackup(stream, { clock, random, unlockKey });
  } catch (error) {
    if (error instanceof SwarmError) {
      throw new SwarmError(error.code, `${file}: ${error.message}`, { cause: error });
    }
    throw error;
  } finally {
    stream.destroy();
  }
}
