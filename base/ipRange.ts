/**
 * Address ranges of both families and what may be given out of them; pure. Who has
 * which address is known by those who give them out: managers for the cluster's networks, a host
 * for its own.
 */
import { createHash } from 'node:crypto';
import { SwarmError } from './errors.ts';
import { addressBits, canonicalAddress, ipBytes, ipText } from './ipAddress.ts';

export interface IpRange {
  readonly bits: 32 | 128;
  readonly base: bigint;
  readonly prefixLength: number;
}

/** Docker's local pools: /16s first, then /20s. */
export const LOCAL_POOLS: readonly string[] = [
  ...Array.from({ length: 15 }, (_, at) => `172.${17 + at}.0.0/16`),
  ...Array.from({ length: 16 }, (_, at) => `192.168.${16 * at}.0/20`),
];
const UNIQUE_LOCAL = 0xfd;
/** 40 bits of the network's own and 16 of the subnet's. */
const UNIQUE_LOCAL_BYTES = 7;
const SUBNET_6_PREFIX_LENGTH = 64;
/** Candidates looked at for one address: more are taken only in ranges nobody fills. */
const SEARCH_MAX = 1 << 20;

export function addressValue(address: string): bigint {
  return BigInt(`0x${Buffer.from(ipBytes(address)).toString('hex')}`);
}

export function addressText(value: bigint, bits: number): string {
  return ipText(Buffer.from(value.toString(16).padStart(bits / 4, '0'), 'hex'));
}

/** '10.0.1.0/24' or 'fd00::/64'; host bits are cut off. SwarmError invalid. */
export function parseRange(text: string): IpRange {
  const [address, length, rest] = text.split('/');
  const bits = addressBits(text) as 32 | 128;
  const prefixLength = Number(length);
  if (!/^\d{1,3}$/.test(length ?? '') || prefixLength > bits || rest !== undefined) {
    throw new SwarmError('invalid', `"${text}" is not a subnet like 10.0.1.0/24 or fd00:1::/64`);
  }
  const shift = BigInt(bits - prefixLength);
  return { bits, base: (addressValue(address) >> shift) << shift, prefixLength };
}

export function formatRange(range: IpRange): string {
  return `${addressText(range.base, range.bits)}/${range.prefixLength}`;
}

function lastOf(range: IpRange): bigint {
  return range.base + (1n << BigInt(range.bits - range.prefixLength)) - 1n;
}

export function rangeContains(range: IpRange, address: string): boolean {
  if (addressBits(address) !== range.bits) return false;
  const value = addressValue(address);
  return value >= range.base && value <= lastOf(range);
}

export function rangesOverlap(left: IpRange, right: IpRange): boolean {
  if (left.bits !== right.bits) return false;
  return left.base <= lastOf(right) && right.base <= lastOf(left);
}

/** Whether every address of `inner` is one of `outer`. */
export function rangeCovers(outer: IpRange, inner: IpRange): boolean {
  return rangesOverlap(outer, inner) && outer.prefixLength <= inner.prefixLength;
}

/** The first address that a host may have: the gateway's, unless another one is asked for. */
export function firstAddress(range: IpRange): string {
  return addressText(range.base + 1n, range.bits);
}

/** Whether `address` is neither the network's own nor (IPv4) its broadcast address. */
export function isHostAddress(range: IpRange, address: string): boolean {
  if (!rangeContains(range, address)) return false;
  if (range.bits - range.prefixLength < 2) return true;
  const value = addressValue(address);
  return value !== range.base && (range.bits === 128 || value !== lastOf(range));
}

/**
 * The lowest address of `range` that is a host's in `subnet` and not in `used` (canonical texts).
 * SwarmError exhausted.
 */
export function freeIn(range: IpRange, subnet: IpRange, used: ReadonlySet<string>): string {
  const last = lastOf(range);
  const bound = range.base + BigInt(SEARCH_MAX);
  for (let value = range.base; value <= last && value < bound; value += 1n) {
    const address = addressText(value, range.bits);
    if (!used.has(address) && isHostAddress(subnet, address)) return address;
  }
  throw new SwarmError(
    'exhausted',
    `no available IP addresses on this network: every one of ${formatRange(range)} is taken`,
  );
}

/** The first pool that overlaps nothing in `taken`. SwarmError exhausted. */
export function choosePool(pools: readonly string[], taken: readonly IpRange[]): string {
  const found = pools.find((pool) => {
    const range = parseRange(pool);
    return !taken.some((other) => rangesOverlap(range, other));
  });
  if (found !== undefined) return found;
  throw new SwarmError(
    'exhausted',
    'all predefined address pools have been fully subnetted: every one overlaps a route of this ' +
      'host or another network; give --subnet, or remove networks that are not used',
  );
}

/** A /64 of the unique local range (RFC 4193) that follows from `seed`: the same for the same. */
export function uniqueLocalSubnet(seed: string): string {
  const digest = createHash('sha256').update(seed).digest();
  const bytes = Buffer.alloc(16);
  bytes[0] = UNIQUE_LOCAL;
  digest.copy(bytes, 1, 0, UNIQUE_LOCAL_BYTES);
  return `${ipText(bytes)}/${SUBNET_6_PREFIX_LENGTH}`;
}

/**
 * The IPv6 address that goes with an IPv4 one of the same network: as far from the start of its
 * subnet. '' where there is no IPv6 subnet.
 */
export function counterpart(subnet: string, address: string, subnet6: string): string {
  if (subnet6 === '' || address === '') return '';
  const range = parseRange(subnet6);
  const offset = addressValue(address) - parseRange(subnet).base;
  return addressText(range.base + offset, range.bits);
}

/** SwarmError invalid unless it is an address of a host in `subnet`; canonical. */
export function checkedAddress(subnet: string, address: string, what: string): string {
  const range = parseRange(subnet);
  if (isHostAddress(range, address)) return canonicalAddress(address);
  throw new SwarmError('invalid', `${what} ${address} is not an address of subnet ${subnet}`);
}
