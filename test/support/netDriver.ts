/**
 * A process that holds one host's network for tests: started inside the host's namespaces, it opens
 * a HostNetwork and performs what the test asks over the IPC channel. It decides nothing.
 */
import { SystemClock } from '../../base/clock.ts';
import { messageOf, SwarmError } from '../../base/errors.ts';
import { createLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { openHostNetwork, removeHostNetwork } from '../../runtime/net/hostNetwork.ts';
import type { HostNetwork, HostNetworkOptions } from '../../runtime/net/types.ts';

export interface DriverCall {
  readonly id: number;
  readonly method: 'open' | 'removeAll' | Exclude<keyof HostNetwork, 'prune'> | 'prune';
  /** An array is several arguments. */
  readonly argument: unknown;
}

let network: HostNetwork | undefined;

async function perform({ method, argument }: DriverCall): Promise<unknown> {
  const environment = {
    clock: new SystemClock(),
    random: new SystemRandom(),
    log: createLog('error'),
  };
  if (method === 'open') {
    network = await openHostNetwork({ ...(argument as HostNetworkOptions), ...environment });
    return undefined;
  }
  if (method === 'removeAll') {
    await network?.close();
    return removeHostNetwork({ ...(argument as HostNetworkOptions), ...environment });
  }
  if (network === undefined) throw new Error('open first');
  if (method === 'prune') return network.prune(new Set(argument as string[]));
  const call = network[method] as (...words: unknown[]) => unknown;
  return call.call(network, ...(Array.isArray(argument) ? argument : [argument]));
}

process.on('message', (call: DriverCall) => {
  perform(call).then(
    (result) => process.send?.({ id: call.id, result }),
    (error: unknown) => {
      const code = error instanceof SwarmError ? error.code : 'internal';
      process.send?.({ id: call.id, error: messageOf(error), code });
    },
  );
});
process.on('disconnect', () => process.exit(0));
