/**
 * The specification of a task that is only a place on a network (manager/control/attachments): it
 * names the network and nothing to run. Decides nothing.
 */
import {
  DEFAULT_PLACEMENT,
  DEFAULT_RESTART_POLICY,
  EMPTY_CONTAINER,
  NO_RESOURCES,
} from '../../model/defaults.ts';
import type { TaskSpec } from '../../model/types.ts';

/** `address`: without prefix length; '' = any free one. */
export function attachmentSpec(
  networkId: string,
  aliases: readonly string[],
  address: string,
): TaskSpec {
  return {
    container: EMPTY_CONTAINER,
    limits: NO_RESOURCES,
    reservations: NO_RESOURCES,
    genericResources: [],
    restart: { ...DEFAULT_RESTART_POLICY, condition: 'none' },
    placement: DEFAULT_PLACEMENT,
    networks: [{ target: networkId, aliases, addresses: address === '' ? [] : [address] }],
    logDriver: '',
    logOptions: {},
    forceUpdate: 0,
  };
}
