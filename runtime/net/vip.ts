/**
 * The nftables table of one overlay network's namespace: a service's virtual address is turned into
 * one of its backends' (DNAT, the client's address kept); a backend that reaches itself through the
 * address sees it as the client; a service without backends refuses at once. A drained backend is
 * one that is no longer in the map: its running connections go on through connection tracking.
 */

import { balance, type NftTable } from './table.ts';
import type { OverlayState } from './types.ts';

export const OVERLAY_TABLE = 'tsswarm';

function fixed(family: 'ip' | 'ip6', type: string): string {
  return `
map services { type ${type} : verdict; }
set empty { type ${type}; }
set backends { type ${type} . ${type}; }
chain refuse {
  type filter hook prerouting priority -110; policy accept;
  ct state new ${family} daddr @empty meta l4proto tcp reject with tcp reset
  ct state new ${family} daddr @empty meta l4proto udp reject
}
chain choose {
  type nat hook prerouting priority -100; policy accept;
  meta l4proto { tcp, udp, sctp } ${family} daddr vmap @services
}
chain hairpin {
  type nat hook postrouting priority 100; policy accept;
  ct status dnat ${family} saddr . ${family} daddr @backends snat to ct original ${family} daddr
}
`;
}

/** Object ids are [0-9a-z]; anything else cannot be part of a chain's name. */
function chainOf(serviceId: string): string {
  return `svc_${serviceId.replace(/[^0-9A-Za-z_]/g, '_')}`;
}

interface Balanced {
  readonly serviceId: string;
  readonly virtualAddress: string;
  readonly backends: readonly string[];
}

function table(family: 'ip' | 'ip6', type: string, balanced: readonly Balanced[]): NftTable {
  const chains = new Map<string, string[]>();
  const services = new Map<string, string>();
  const empty = new Map<string, string>();
  const pairs = new Map<string, string>();
  for (const { serviceId, virtualAddress, backends } of balanced) {
    if (virtualAddress === '') continue;
    if (backends.length === 0) {
      empty.set(virtualAddress, '');
      continue;
    }
    const chain = chainOf(serviceId);
    chains.set(chain, [balance([...backends].sort())]);
    services.set(virtualAddress, `jump ${chain}`);
    for (const address of backends) pairs.set(`${address} . ${address}`, '');
  }
  return {
    family,
    name: OVERLAY_TABLE,
    fixed: fixed(family, type),
    chains,
    elements: new Map([
      ['services', services],
      ['empty', empty],
      ['backends', pairs],
    ]),
  };
}

export function overlayTables(state: OverlayState): NftTable[] {
  const ipv4 = table('ip', 'ipv4_addr', state.services);
  if (!state.subnet6) return [ipv4];
  const services6 = state.services.map(({ serviceId, virtualAddress6 = '', backends6 = [] }) => ({
    serviceId,
    virtualAddress: virtualAddress6,
    backends: backends6,
  }));
  return [ipv4, table('ip6', 'ipv6_addr', services6)];
}
