/**
 * Transactions of those who write one thing at a time (loops go through loop.ts): all of the
 * changes or none, refusals as errors, and decided anew when what they were decided from has
 * changed meanwhile. What is written is the caller's to say.
 */
import { type ErrorCode, SwarmError } from '../base/errors.ts';
import type { Change, Proposer, StoreReader } from './store/types.ts';

/** In the detail of what every manager refused when it applied the transaction. */
const AGREED = 'agreed';

/** The version at which all of `changes` were applied. SwarmError of the first one refused. */
export async function transact(proposer: Proposer, ...changes: readonly Change[]): Promise<number> {
  const { version, rejected } = await proposer.propose({ atomic: true, changes });
  if (rejected.length > 0) {
    const { code, message } = rejected[0];
    throw new SwarmError(code, message, { detail: { [AGREED]: 'true' } });
  }
  return version;
}

const STALE: readonly ErrorCode[] = ['out_of_sequence'];

/** `write` decides and writes; again while that fails with one of `codes`, `tries` times in all. */
export async function retried<T>(
  tries: number,
  write: () => Promise<T>,
  codes = STALE,
): Promise<T> {
  for (let tried = 1; ; tried += 1) {
    try {
      return await write();
    } catch (error) {
      const isRaced = error instanceof SwarmError && codes.includes(error.code);
      if (!isRaced || tried >= tries) throw error;
    }
  }
}

/** What a write is refused with for what the store holds. */
const REFUSALS: readonly ErrorCode[] = ['not_found', 'conflict', 'out_of_sequence', 'invalid'];

/**
 * `write` decides from what this manager holds, and that may be old: another may lead by then,
 * unheard as yet. So a refusal holds only when nothing newer is there after `read` (the store after
 * a barrier); otherwise `write` decides once more.
 */
export async function confirmed<T>(
  store: StoreReader,
  read: () => Promise<StoreReader>,
  write: () => Promise<T>,
): Promise<T> {
  const { version } = store;
  try {
    return await write();
  } catch (error) {
    const isRefusal = error instanceof SwarmError && REFUSALS.includes(error.code);
    if (!isRefusal || error.detail[AGREED] === 'true') throw error;
    if ((await read()).version === version) throw error;
  }
  return write();
}
