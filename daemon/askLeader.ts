/**
 * One call that only the leader can answer, from a node that knows some managers: each is asked
 * until one has done it, the one that is named as leader first; and all of them again while they
 * answer but none leads yet, since a manager that asks has often just led itself.
 */
import type { Clock } from '../base/clock.ts';
import { hasCode, SwarmError } from '../base/errors.ts';
import type { RpcChannel } from '../proto/rpc.ts';

/** Managers asked at the most in a round, those named on the way included. */
const MAX_CALLS = 8;
/** An election takes 1-2 s; five seconds in all. */
const MAX_ROUNDS = 20;
const ROUND_PAUSE_MS = 250;

type Call<T> = (channel: RpcChannel) => Promise<T>;
type ChannelTo = (address: string) => RpcChannel;

/** What `call` answered. Rejects with a manager's error when none has done it. */
export async function askLeader<T>(
  clock: Clock,
  managers: readonly string[],
  channelTo: ChannelTo,
  call: Call<T>,
): Promise<T> {
  for (let round = 1; ; round += 1) {
    try {
      return await askEach(managers, channelTo, call);
    } catch (error) {
      if (!hasCode(error, 'not_leader') || round >= MAX_ROUNDS) throw error;
    }
    await clock.sleep(ROUND_PAUSE_MS);
  }
}

/** Rejects with 'not_leader' when anybody said so and nobody refused as the leader. */
async function askEach<T>(
  managers: readonly string[],
  channelTo: ChannelTo,
  call: Call<T>,
): Promise<T> {
  const waiting = [...managers];
  const asked = new Set<string>();
  let refusal: unknown = new SwarmError('unavailable', 'no other manager is known');
  for (let address = waiting.shift(); address !== undefined; address = waiting.shift()) {
    if (asked.has(address) || asked.size >= MAX_CALLS) continue;
    asked.add(address);
    const channel = channelTo(address);
    try {
      return await call(channel);
    } catch (error) {
      if (hasCode(error, 'conflict')) throw error; // the leader's own word
      if (!hasCode(refusal, 'not_leader')) refusal = error;
      const leader = hasCode(error, 'not_leader') ? error.detail['leader'] : undefined;
      if (leader !== undefined) waiting.unshift(leader);
    } finally {
      channel.close();
    }
  }
  throw refusal;
}
