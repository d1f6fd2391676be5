/**
 * One call that only the leader can answer, from a node that knows some managers: each is asked
 * until one has done it, the one that is named as leader first.
 */
import { hasCode, SwarmError } from '../base/errors.ts';
import type { RpcChannel } from '../proto/rpc.ts';

/** Managers asked at the most, those named on the way included. */
const MAX_CALLS = 8;

/** What `call` answered. Rejects with the last manager's error when none has done it. */
export async function askLeader<T>(
  managers: readonly string[],
  channelTo: (address: string) => RpcChannel,
  call: (channel: RpcChannel) => Promise<T>,
): Promise<T> {
  const waiting = [...managers];
  const asked = new Set<string>();
  let last: unknown = new SwarmError('unavailable', 'no other manager is known');
  for (let address = waiting.shift(); address !== undefined; address = waiting.shift()) {
    if (asked.has(address) || asked.size >= MAX_CALLS) continue;
    asked.add(address);
    const channel = channelTo(address);
    try {
      return await call(channel);
    } catch (error) {
      last = error;
      const leader = hasCode(error, 'not_leader') ? error.detail['leader'] : undefined;
      if (leader !== undefined) waiting.unshift(leader);
    } finally {
      channel.close();
    }
  }
  throw last;
}
