/**
 * The nftables tables in the host's own namespace; pure. A connection to a published port (any of
 * the host's addresses, 127.0.0.1 too) is turned to a task of the service or to this host's own
 * container; containers' way out is masqueraded; what comes from elsewhere for a container without
 * having been published is dropped. IPv6 has a table only where a bridge has IPv6 addresses.
 */
import { isIPv4 } from 'node:net';
import { addressToNumber, gatewayOf, gatewaySubnet, subnetContains } from './addresses.ts';
import { bridgeOptions } from './bridge.ts';
import { type GatewayInput, HOST_LINK, HOST_TABLE, peersOf } from './ingress.ts';
import type { CarriedPort } from './ingressRelays.ts';
import { balance, type NftTable } from './table.ts';
import type { IngressPort } from './types.ts';

/** A published port of a container of this host, with where it leads to. */
export interface Forward {
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly containerPort: number;
  readonly address: string;
  /** '' = none. */
  readonly address6: string;
}

/**
 * A backend's address is what its own host says. It becomes part of this host's rules, so anything
 * but an address of that host's gateway subnet is left out.
 */
function isOfItsHost(backend: { gatewayAddress: string; hostIndex: number }): boolean {
  const { gatewayAddress, hostIndex } = backend;
  return (
    isIPv4(gatewayAddress) &&
    subnetContains(gatewaySubnet(hostIndex), addressToNumber(gatewayAddress))
  );
}

/** Rules that both families have, `ip` and the type of its addresses being put in. */
function commonFixed(family: 'ip' | 'ip6', type: string, loopback: string): string {
  const local = `fib daddr type local${loopback}`;
  return `
map published { type inet_proto . inet_service : verdict; }
map published_at { type ${type} . inet_proto . inet_service : verdict; }
set idle { type inet_proto . inet_service; }
set idle_at { type ${type} . inet_proto . inet_service; }
set unmasked { type ${type}; flags interval; }
chain refuse {
  type filter hook prerouting priority -110; policy accept;
  ct state new ${local} meta l4proto . th dport @idle jump refusal
  ct state new ${local} ${family} daddr . meta l4proto . th dport @idle_at jump refusal
}
chain refuse_own {
  type filter hook output priority -110; policy accept;
  ct state new ${local} meta l4proto . th dport @idle jump refusal
  ct state new ${local} ${family} daddr . meta l4proto . th dport @idle_at jump refusal
}
chain refusal {
  meta l4proto tcp reject with tcp reset
  reject
}
chain enter {
  type nat hook prerouting priority -100; policy accept;
  ${local} ${family} daddr . meta l4proto . th dport vmap @published_at
  ${local} meta l4proto . th dport vmap @published
}
chain enter_own {
  type nat hook output priority -100; policy accept;
  ${local} ${family} daddr . meta l4proto . th dport vmap @published_at
  ${local} meta l4proto . th dport vmap @published
}
chain shut {
  type filter hook forward priority 0; policy accept;
  iifname != "${HOST_LINK}" oifname "${HOST_LINK}" ct direction original ct status & dnat == 0 drop
}
`;
}

/** `source`: the address that stands for sources which cannot be answered through the gateway. */
function hostFixed(source: string): string {
  return `${commonFixed('ip', 'ipv4_addr', '')}
chain guard {
  type filter hook prerouting priority -300; policy accept;
  iifname "${HOST_LINK}" ip daddr 127.0.0.0/8 drop
  iifname "${HOST_LINK}" ip saddr 127.0.0.0/8 drop
}
chain leave {
  type nat hook postrouting priority 100; policy accept;
  oifname "${HOST_LINK}" ip saddr 127.0.0.0/8 snat to ${source}
  iifname "${HOST_LINK}" oifname "${HOST_LINK}" ct status dnat snat to ${source}
  iifname "${HOST_LINK}" oifname != "${HOST_LINK}" ip saddr @unmasked accept
  iifname "${HOST_LINK}" oifname != "${HOST_LINK}" masquerade
}
`;
}

/** ::1 is left out: a packet of that source cannot leave the host's own loopback. */
function hostFixed6(source: string): string {
  return `${commonFixed('ip6', 'ipv6_addr', ' ip6 daddr != ::1')}
chain leave {
  type nat hook postrouting priority 100; policy accept;
  iifname "${HOST_LINK}" oifname "${HOST_LINK}" ct status dnat snat to ${source}
  iifname "${HOST_LINK}" oifname != "${HOST_LINK}" ip6 saddr @unmasked accept
  iifname "${HOST_LINK}" oifname != "${HOST_LINK}" masquerade
}
`;
}

/** Chains and elements of published ports, as they are collected. */
class Published {
  readonly chains = new Map<string, string[]>();
  readonly everywhere = new Map<string, string>();
  readonly at = new Map<string, string>();
  readonly idle = new Map<string, string>();
  readonly idleAt = new Map<string, string>();

  put(protocol: string, port: number, address: string, rule: string): void {
    const key = `${protocol} . ${port}`;
    const isAny = address === '' || address === '0.0.0.0' || address === '::';
    const suffix = isAny ? '' : `_${address.replace(/[^0-9a-f]/gi, '_')}`;
    const chain = `port_${protocol}_${port}${suffix}`;
    const map = isAny ? this.everywhere : this.at;
    const idle = isAny ? this.idle : this.idleAt;
    const full = isAny ? key : `${address} . ${key}`;
    if (rule === '') {
      idle.set(full, '');
      return;
    }
    idle.delete(full);
    this.chains.set(chain, [`meta l4proto ${protocol} ${rule}`]);
    map.set(full, `jump ${chain}`);
  }

  elements(unmasked: ReadonlyMap<string, string>): NftTable['elements'] {
    return new Map([
      ['published', this.everywhere],
      ['published_at', this.at],
      ['idle', this.idle],
      ['idle_at', this.idleAt],
      ['unmasked', unmasked],
    ]);
  }
}

function unmaskedSubnets(input: GatewayInput, isIpv6: boolean): Map<string, string> {
  const unmasked = new Map<string, string>();
  for (const { network } of input.bridges) {
    if (bridgeOptions(network).masquerade) continue;
    for (const { subnet } of network.subnets) {
      if (subnet.includes(':') === isIpv6) unmasked.set(subnet, '');
    }
  }
  return unmasked;
}

export function ingressTargets(input: GatewayInput, port: IngressPort): string[] {
  const reachable = new Set(peersOf(input).map((peer) => peer.hostIndex));
  if (input.self !== undefined) reachable.add(input.self.hostIndex);
  return port.backends
    .filter((backend) => reachable.has(backend.hostIndex) && isOfItsHost(backend))
    .map((backend) => `${backend.gatewayAddress} . ${backend.targetPort}`)
    .sort();
}

/** The address that stands for sources which cannot be answered through the gateway. */
function sourceOf(input: GatewayInput): string {
  if (input.self !== undefined) return gatewayOf(gatewaySubnet(input.self.hostIndex));
  return input.bridges[0]?.network.subnets[0].gateway ?? '';
}

/** Published TCP ports of services, as they are carried by IPv6. */
export function carriedPorts(input: GatewayInput): CarriedPort[] {
  const ports = input.self === undefined ? [] : (input.ingress?.ports ?? []);
  return ports
    .filter(({ protocol, hostAddress = '' }) => protocol === 'tcp' && !isIPv4(hostAddress))
    .map((port) => ({
      publishedPort: port.publishedPort,
      hostAddress: port.hostAddress || '::',
      targets: ingressTargets(input, port).map((target) => {
        const [address, number] = target.split(' . ');
        return { address, port: Number(number) };
      }),
    }));
}

/** Ports that are published ('tcp/8080'), with the addresses that answer there. */
export function portServers(input: GatewayInput): Map<string, Set<string>> {
  const servers = new Map<string, Set<string>>();
  const add = (protocol: string, port: number, addresses: readonly string[]): void => {
    const key = `${protocol}/${port}`;
    servers.set(key, new Set([...(servers.get(key) ?? []), ...addresses]));
  };
  for (const port of input.self === undefined ? [] : (input.ingress?.ports ?? [])) {
    const targets = ingressTargets(input, port).map((target) => target.split(' ')[0]);
    add(port.protocol, port.publishedPort, targets);
  }
  for (const { protocol, hostPort, address, address6 } of input.forwards) {
    add(
      protocol,
      hostPort,
      [address, address6].filter((one) => one !== ''),
    );
  }
  return servers;
}

function hostTable(input: GatewayInput): NftTable {
  const published = new Published();
  for (const port of input.self === undefined ? [] : (input.ingress?.ports ?? [])) {
    const targets = ingressTargets(input, port);
    const address = port.hostAddress ?? '';
    if (address.includes(':')) continue;
    const rule = targets.length === 0 ? '' : balance(targets);
    published.put(port.protocol, port.publishedPort, address, rule);
  }
  for (const { protocol, hostAddress, hostPort, containerPort, address } of input.forwards) {
    if (hostAddress.includes(':')) continue;
    published.put(protocol, hostPort, hostAddress, `dnat to ${address}:${containerPort}`);
  }
  return {
    family: 'ip',
    name: HOST_TABLE,
    fixed: hostFixed(sourceOf(input)),
    chains: published.chains,
    elements: published.elements(unmaskedSubnets(input, false)),
  };
}

function hostTable6(input: GatewayInput): NftTable[] {
  const ipv6 = input.bridges.flatMap(({ network }) => network.subnets).filter(isIpv6);
  if (ipv6.length === 0) return [];
  const published = new Published();
  for (const { protocol, hostAddress, hostPort, containerPort, address6 } of input.forwards) {
    if (hostAddress.includes('.') || address6 === '') continue;
    published.put(protocol, hostPort, hostAddress, `dnat to [${address6}]:${containerPort}`);
  }
  const table = {
    family: 'ip6',
    name: HOST_TABLE,
    fixed: hostFixed6(ipv6[0].gateway),
    chains: published.chains,
    elements: published.elements(unmaskedSubnets(input, true)),
  } as const;
  return [table];
}

function isIpv6({ subnet }: { readonly subnet: string }): boolean {
  return subnet.includes(':');
}

export function hostTables(input: GatewayInput): NftTable[] {
  return [hostTable(input), ...hostTable6(input)];
}
