/**
 * Transactions of those who write one thing at a time (loops go through loop.ts): all of the
 * changes or none, refusals as errors, and decided anew when what they were decided from has
 * changed meanwhile. What is written is the caller's to say.
 */
import { type ErrorCode, SwarmError } from '../base/errors.ts';
import type { Change, Proposer } from './store/types.ts';

/** The version at which all of `changes` were applied. SwarmError of the first one refused. */
export async function transact(proposer: Proposer, ...changes: readonly Change[]): Promise<number> {
  const { version, rejected } = await proposer.propose({ atomic: true, changes });
  if (rejected.length > 0) throw new SwarmError(rejected[0].code, rejected[0].message);
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
