/**
 * A host that has left the swarm says so to the leader, so that nobody waits for its silence to grow
 * long. Nothing depends on it: unheard, the managers find out by themselves.
 */
import { hasCode, messageOf } from '../base/errors.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import { client, RpcChannel } from '../proto/rpc.ts';
import { Dispatcher } from '../proto/services.ts';
import type { Environment } from './environment.ts';
import type { Membership } from './identity.ts';

const CALL_TIMEOUT_MS = 2000;
const MAX_CALLS = 6;

export async function sayLeft(
  environment: Environment,
  membership: Membership,
  credentials: NodeCredentials,
): Promise<void> {
  const { clock, log } = environment;
  const self = `${membership.advertiseHost}:${membership.port}`;
  const waiting = membership.managers.filter((address) => address !== self);
  const asked = new Set<string>();
  for (let address = waiting.shift(); address !== undefined; address = waiting.shift()) {
    if (asked.has(address) || asked.size >= MAX_CALLS) continue;
    asked.add(address);
    const trust = { kind: 'node', credentials } as const;
    const channel = new RpcChannel(address, trust, { clock, expect: { role: 'manager' } });
    try {
      await client(Dispatcher, channel).leave({}, { timeoutMs: CALL_TIMEOUT_MS });
      return;
    } catch (error) {
      log.info('a manager was not told of the leave', { address, reason: messageOf(error) });
      const leader = hasCode(error, 'not_leader') ? (error.detail['leader'] ?? '') : '';
      if (leader !== '') waiting.unshift(leader);
    } finally {
      channel.close();
    }
  }
}
