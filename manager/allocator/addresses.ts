/**
 * Free addresses of one network in one pass. What is held is told by the caller; addresses are
 * given in turn, after the newest one given before, so that one just freed is not used again at
 * once.
 */
import { contains, formatAddress, parseAddress, parseBlock } from '../../model/address.ts';
import type { Network } from '../../model/types.ts';

export class AddressSpace {
  readonly #first: number;
  readonly #last: number;
  /** Of the whole subnet, for addresses that are asked for by name. */
  readonly #lowest: number;
  readonly #highest: number;
  readonly #prefix: number;
  readonly #held = new Set<number>();
  /** Kept for slots that ask for them by name, held now or not. */
  readonly #reserved = new Set<number>();
  #turn: number;
  /** When the record whose address `#turn` is was made. */
  #turnAtMs = -1;

  constructor(network: Network) {
    const subnet = parseBlock(network.subnet);
    const range = parseBlock(network.spec.range) ?? subnet;
    this.#prefix = subnet?.prefix ?? 32;
    // The block's own first and last address are the network's and the broadcast's.
    this.#first = Math.max(range?.first ?? 1, (subnet?.first ?? 1) + 1);
    this.#last = Math.min(range?.last ?? 0, (subnet?.last ?? 0) - 1);
    this.#lowest = (subnet?.first ?? 1) + 1;
    this.#highest = (subnet?.last ?? 0) - 1;
    this.#turn = this.#first - 1;
    this.hold(network.gateway);
  }

  /** '10.0.1.2' or '10.0.1.2/24'. */
  hold(address: string): void {
    const value = numberOf(address);
    if (value !== undefined) this.#held.add(value);
  }

  reserve(address: string): void {
    const value = numberOf(address);
    if (value !== undefined) this.#reserved.add(value);
  }

  /** This very address with its prefix length; 'outside' or 'held' when it cannot be had. */
  claim(address: string): string {
    const value = numberOf(address);
    if (value === undefined || value < this.#lowest || value > this.#highest) return 'outside';
    if (this.#held.has(value)) return 'held';
    this.#held.add(value);
    return `${formatAddress(value)}/${this.#prefix}`;
  }

  release(address: string): void {
    const value = numberOf(address);
    if (value !== undefined) this.#held.delete(value);
  }

  /** The address was given at about `atMs`, whether it is still held or not. */
  given(address: string, atMs: number): void {
    const value = numberOf(address);
    if (value === undefined || atMs < this.#turnAtMs) return;
    if (!contains({ first: this.#first, last: this.#last, prefix: 32 }, value)) return;
    if (atMs === this.#turnAtMs && value < this.#turn) return;
    this.#turnAtMs = atMs;
    this.#turn = value;
  }

  /** The next free one with its prefix length; undefined when there is none. */
  take(): string | undefined {
    const size = this.#last - this.#first + 1;
    for (let tried = 1; tried <= size; tried += 1) {
      const value = this.#first + ((this.#turn - this.#first + tried) % size);
      if (this.#held.has(value) || this.#reserved.has(value)) continue;
      this.#held.add(value);
      this.#turn = value;
      return `${formatAddress(value)}/${this.#prefix}`;
    }
    return undefined;
  }
}

function numberOf(address: string): number | undefined {
  return parseAddress(address.split('/')[0]);
}
