/**
 * Whether the managers reach this host where it says it is: listens there for a moment and asks a
 * manager to ping it. What join checks before it keeps anything.
 */
import { messageOf, SwarmError } from '../base/errors.ts';
import type { NodeCredentials } from '../proto/credentials.ts';
import { client, RpcChannel, RpcServer } from '../proto/rpc.ts';
import { Host } from '../proto/services.ts';
import type { Environment } from './environment.ts';
import type { Membership } from './identity.ts';

const PROBE_TIMEOUT_MS = 3000;
const CALL_TIMEOUT_MS = 8000;

/** SwarmError unavailable that says which address and ports to open. */
export async function checkReachable(
  environment: Environment,
  membership: Membership,
  credentials: NodeCredentials,
  managers: readonly string[],
): Promise<void> {
  const { clock, log } = environment;
  const { nodeId, advertiseHost, port, listenHost } = membership;
  const server = new RpcServer({ clock, log, authorize: () => {} });
  const answer = { nodeId, nowMs: BigInt(clock.wallMs()) };
  server.handle(Host, { ping: async () => answer });
  await server.listen({ host: listenHost, port, tls: credentials });
  try {
    const address = `${advertiseHost}:${port}`;
    for (const manager of managers) {
      const channel = new RpcChannel(manager, { kind: 'node', credentials }, { clock });
      try {
        const verdict = await client(Host, channel).probeOther(
          { nodeId, address, timeoutMs: PROBE_TIMEOUT_MS },
          { timeoutMs: CALL_TIMEOUT_MS },
        );
        if (verdict.reachable) return;
        throw new SwarmError(
          'unavailable',
          `manager ${manager} cannot reach this host at ${address} (${verdict.error}): open TCP ` +
            `${port} and UDP ${membership.vxlanPort} in the firewall, or pass another ` +
            '--advertise-addr',
        );
      } catch (error) {
        if (error instanceof SwarmError && error.code === 'unavailable') throw error;
        log.info('reachability not checked by a manager', { manager, error: messageOf(error) });
      } finally {
        channel.close();
      }
    }
  } finally {
    await server.close();
  }
}
