/**
 * Tells the leader that this node leaves: a manager is taken out of Raft, any node is shown as down
 * at once instead of after a silence. Asks each manager known until one has done it.
 */
import { hasCode } from '../base/errors.ts';
import { client, type RpcChannel } from '../proto/rpc.ts';
import { Raft } from '../proto/services.ts';

const CALL_TIMEOUT_MS = 5000;

/** `raftId` 0 for a worker. Rejects with the last manager's answer when none has done it. */
export async function tellLeaving(options: {
  /** host:port of managers, the leader first when known. */
  readonly managers: readonly string[];
  readonly raftId: number;
  readonly channelTo: (address: string) => RpcChannel;
}): Promise<void> {
  const left = [...options.managers];
  const asked = new Set<string>();
  let last: unknown;
  for (let address = left.shift(); address !== undefined; address = left.shift()) {
    if (asked.has(address)) continue;
    asked.add(address);
    const channel = options.channelTo(address);
    try {
      const request = { raftId: BigInt(options.raftId) };
      await client(Raft, channel).leave(request, { timeoutMs: CALL_TIMEOUT_MS });
      return;
    } catch (error) {
      last = error;
      const leader = hasCode(error, 'not_leader') ? error.detail['leader'] : undefined;
      if (leader !== undefined) left.unshift(leader);
    } finally {
      channel.close();
    }
  }
  if (last !== undefined) throw last;
}
