/**
 * The nftables table of one overlay network's namespace: a service's virtual address is turned into
 * one of its backends' (DNAT, the client's address kept); a backend that reaches itself through the
 * address sees it as the client; a service without backends refuses at once. A drained backend is
 * one that is no longer in the map: its running connections go on through connection tracking.
 */

import { balance, type NftTable } from './table.ts';
import type { OverlayState } from './types.ts';

export const OVERLAY_TABLE = 'tsswarm';

const FIXED = `
map services { type ipv4_addr : verdict; }
set empty { type ipv4_addr; }
set backends { type ipv4_addr . ipv4_addr; }
chain refuse {
  type filter hook prerouting priority -110; policy accept;
  ct state new ip daddr @empty meta l4proto tcp reject with tcp reset
  ct state new ip daddr @empty meta l4proto udp reject
}
chain choose {
  type nat hook prerouting priority -100; policy accept;
  meta l4proto { tcp, udp, sctp } ip daddr vmap @services
}
chain hairpin {
  type nat hook postrouting priority 100; policy accept;
  ct status dnat ip saddr . ip daddr @backends snat to ct original ip daddr
}
`;

/** Object ids are [0-9a-z]; anything else cannot be part of a chain's name. */
function chainOf(serviceId: string): string {
  return `svc_${serviceId.replace(/[^0-9A-Za-z_]/g, '_')}`;
}

export function overlayTable(state: OverlayState): NftTable {
  const chains = new Map<string, string[]>();
  const services = new Map<string, string>();
  const empty = new Map<string, string>();
  const backends = new Map<string, string>();
  for (const service of state.services) {
    if (service.virtualAddress === '') continue;
    if (service.backends.length === 0) {
      empty.set(service.virtualAddress, '');
      continue;
    }
    const chain = chainOf(service.serviceId);
    chains.set(chain, [balance([...service.backends].sort())]);
    services.set(service.virtualAddress, `jump ${chain}`);
    for (const address of service.backends) backends.set(`${address} . ${address}`, '');
  }
  return {
    family: 'ip',
    name: OVERLAY_TABLE,
    fixed: FIXED,
    chains,
    elements: new Map([
      ['services', services],
      ['empty', empty],
      ['backends', backends],
    ]),
  };
}
