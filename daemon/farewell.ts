/**
 * A host that has left the swarm says so to the leader, so that nobody waits for its silence to
 * grow long. Nothing depends on it: unheard, the managers find out by themselves.
 */
import { messageOf } from '../base/errors.ts';
import { withdrawJoin } from '../manager/ca/client.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import { client, RpcChannel } from '../proto/rpc.ts';
import { Dispatcher } from '../proto/services.ts';
import { askLeader } from './askLeader.ts';
import type { Environment } from './environment.ts';
import type { Membership } from './identity.ts';

const CALL_TIMEOUT_MS = 2000;

export async function sayLeft(
  environment: Environment,
  membership: Membership,
  credentials: NodeCredentials,
): Promise<void> {
  const { clock, log } = environment;
  const self = `${membership.advertiseHost}:${membership.port}`;
  const trust = { kind: 'node', credentials } as const;
  try {
    await askLeader(
      clock,
      membership.managers.filter((address) => address !== self),
      (address) => new RpcChannel(address, trust, { clock, expect: { role: 'manager' } }),
      (channel) => client(Dispatcher, channel).leave({}, { timeoutMs: CALL_TIMEOUT_MS }),
    );
  } catch (error) {
    log.info('no manager was told of the leave', { reason: messageOf(error) });
  }
}

/** A join that failed half way leaves no node behind in the cluster. */
export async function withdraw(
  { clock, log }: Environment,
  remoteAddresses: readonly string[],
  credentials: NodeCredentials,
): Promise<void> {
  try {
    await withdrawJoin({ clock, remoteAddresses, credentials });
  } catch (error) {
    // The join's own error says more; the managers call the node down, and it can be removed.
    log.warn('the join could not be withdrawn', { error: messageOf(error) });
  }
}
