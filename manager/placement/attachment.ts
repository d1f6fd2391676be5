/**
 * The specification of a task that is only a place on a network (manager/control/attachments): it
 * names the network and nothing to run. Decides nothing.
 */
import {
  DEFAULT_CONTAINER_EXTRAS,
  DEFAULT_PLACEMENT,
  DEFAULT_RESTART_POLICY,
  DEFAULT_STOP_GRACE_MS,
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
    container: {
      image: '',
      labels: {},
      command: [],
      args: [],
      env: [],
      workingDir: '',
      user: '',
      groups: [],
      hostname: '',
      mounts: [],
      readOnlyRoot: false,
      tty: false,
      stopSignal: '',
      stopGraceMs: DEFAULT_STOP_GRACE_MS,
      capabilityAdd: [],
      capabilityDrop: [],
      sysctls: {},
      hosts: [],
      dnsServers: [],
      dnsSearch: [],
      dnsOptions: [],
      secrets: [],
      configs: [],
      ...DEFAULT_CONTAINER_EXTRAS,
    },
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
