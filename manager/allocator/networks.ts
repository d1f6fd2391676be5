/**
 * Gives a network its subnet, gateway and VXLAN id: the subnet the user asked for, or the first
 * free block of the cluster's pools that touches no other network, no node and no gateway bridge.
 * Pure: what is in use is read from the view, and what one pass gives out is noted for the next
 * network.
 */
import {
  type Block,
  blockAt,
  contains,
  formatAddress,
  formatBlock,
  overlaps,
  parseAddress,
  parseBlock,
} from '../../model/address.ts';
import {
  DEFAULT_ADDRESS_POOL,
  DEFAULT_SUBNET_SIZE,
  GATEWAY_POOL,
  VNI_FIRST,
  VNI_LAST,
} from '../../model/defaults.ts';
import type { Network } from '../../model/types.ts';
import type { View } from '../store/types.ts';

interface Taken {
  readonly block: Block;
  /** For people: 'network "web"', 'the address of node h1'. */
  readonly by: string;
}

export class NetworkAllocator {
  readonly #pools: readonly Block[];
  readonly #subnetSize: number;
  readonly #taken: Taken[] = [];
  readonly #vnis = new Set<number>();

  constructor(view: View) {
    const cluster = view.cluster();
    const pools = cluster === undefined || cluster.addressPools.length === 0;
    this.#pools = (pools ? [DEFAULT_ADDRESS_POOL] : cluster.addressPools)
      .map(parseBlock)
      .filter((block) => block !== undefined);
    this.#subnetSize = cluster?.subnetSize || DEFAULT_SUBNET_SIZE;
    this.#take(parseBlock(GATEWAY_POOL), "the hosts' gateway bridges");
    for (const node of view.all('node')) {
      const address = parseAddress(node.address);
      if (address === undefined) continue;
      this.#take(blockAt(address, 32), `the address of node ${node.description.hostname}`);
    }
    for (const network of view.all('network')) {
      if (network.vni !== 0) this.#vnis.add(network.vni);
      this.#take(parseBlock(network.subnet), `network "${network.spec.name}"`);
    }
  }

  #take(block: Block | undefined, by: string): void {
    if (block !== undefined) this.#taken.push({ block, by });
  }

  /** The network with what it needs, or with `error` saying why it cannot have it. */
  allocate(network: Network): Network {
    const subnet = network.spec.subnet === '' ? this.#cut() : this.#asked(network.spec.subnet);
    if (typeof subnet === 'string') return { ...network, error: subnet };
    const gateway = gatewayOf(network, subnet);
    if (gateway === undefined) {
      const error = `gateway ${network.spec.gateway} is not an address of ${formatBlock(subnet)}`;
      return { ...network, error };
    }
    const vni = this.#freeVni();
    if (vni === undefined) return { ...network, error: 'no free VXLAN id: remove a network' };
    this.#vnis.add(vni);
    this.#take(subnet, `network "${network.spec.name}"`);
    return {
      ...network,
      vni,
      subnet: formatBlock(subnet),
      gateway: formatAddress(gateway),
      error: '',
    };
  }

  #asked(text: string): Block | string {
    const subnet = parseBlock(text);
    if (subnet === undefined) return `subnet ${text} is not an IPv4 block like 10.0.9.0/24`;
    const other = this.#taken.find(({ block }) => overlaps(block, subnet));
    if (other === undefined) return subnet;
    return `subnet ${text} overlaps ${other.by} (${formatBlock(other.block)}): choose another one`;
  }

  #cut(): Block | string {
    for (const pool of this.#pools) {
      let at = pool.first;
      while (at <= pool.last) {
        const block = blockAt(at, Math.max(this.#subnetSize, pool.prefix));
        const other = this.#taken.find((taken) => overlaps(taken.block, block));
        if (other === undefined) return block;
        at = Math.max(block.last, other.block.last) + 1;
      }
    }
    const pools = this.#pools.map(formatBlock).join(', ');
    return (
      `no free subnet in the address pools (${pools}): ` +
      'remove a network or create this one with --subnet'
    );
  }

  #freeVni(): number | undefined {
    for (let vni = VNI_FIRST; vni <= VNI_LAST; vni += 1) if (!this.#vnis.has(vni)) return vni;
    return undefined;
  }
}

/** The one asked for, else the first host address. */
function gatewayOf(network: Network, subnet: Block): number | undefined {
  if (network.spec.gateway === '') return subnet.first + 1;
  const gateway = parseAddress(network.spec.gateway);
  return gateway !== undefined && contains(subnet, gateway) ? gateway : undefined;
}
