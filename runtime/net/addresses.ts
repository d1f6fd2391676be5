/**
 * Which addresses belong to whom; pure. A host's 16-bit index gives, without asking anyone:
 * - its tunnel address 169.254.<high byte>.<low byte>, a next hop inside our namespaces only;
 * - its tunnel MAC 02:74:73:00:<high byte>:<low byte>;
 * - its gateway subnet: 10.254.<index>.0/24 for 1..255 (253 containers), and 240.0.0.0/4 cut into
 *   /20s for 256..65535 (4093 containers): that range never leaves our tunnels and never collides.
 */
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';

export const MAX_HOST_INDEX = 65_535;
const SMALL_HOST_INDEX = 255;
const CLASS_E = 0xf0000000;
const LARGE_SUBNET_BITS = 12;

/** All gateway subnets of all hosts; the second only where an index above 255 is in use. */
export const SMALL_GATEWAY_RANGE = '10.254.0.0/16';
export const LARGE_GATEWAY_RANGE = '240.0.0.0/4';

export interface Subnet {
  /** First address as a number. */
  readonly base: number;
  readonly prefixLength: number;
}

/** '10.0.1.2' -> 167772418. SwarmError invalid for anything but four decimal bytes. */
export function addressToNumber(text: string): number {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  const parts = match?.slice(1).map(Number) ?? [];
  if (match === null || parts.some((part) => part > 255)) {
    throw new SwarmError('invalid', `"${text}" is not an IPv4 address like 10.0.1.2`);
  }
  return ((parts[0] << 24) | (parts[1] << 16) | (parts[2] << 8) | parts[3]) >>> 0;
}

export function numberToAddress(value: number): string {
  return [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff].join('.');
}

/** '10.0.1.0/24'; host bits are cut off. SwarmError invalid. */
export function parseSubnet(text: string): Subnet {
  const [address, length, rest] = text.split('/');
  const prefixLength = Number(length);
  const valid = length !== undefined && /^\d{1,2}$/.test(length) && prefixLength <= 32;
  if (!valid || rest !== undefined) {
    throw new SwarmError('invalid', `"${text}" is not a subnet like 10.0.1.0/24`);
  }
  const mask = prefixLength === 0 ? 0 : (0xffffffff << (32 - prefixLength)) >>> 0;
  return { base: (addressToNumber(address) & mask) >>> 0, prefixLength };
}

export function formatSubnet(subnet: Subnet): string {
  return `${numberToAddress(subnet.base)}/${subnet.prefixLength}`;
}

function sizeOf(subnet: Subnet): number {
  return 2 ** (32 - subnet.prefixLength);
}

export function subnetContains(subnet: Subnet, address: number): boolean {
  return address >= subnet.base && address < subnet.base + sizeOf(subnet);
}

export function subnetsOverlap(left: Subnet, right: Subnet): boolean {
  return subnetContains(left, right.base) || subnetContains(right, left.base);
}

/** The first address: the gateway's. */
export function gatewayOf(subnet: Subnet): string {
  return numberToAddress(subnet.base + 1);
}

/** The lowest address for a container that is not in `used`. SwarmError exhausted. */
export function freeAddress(subnet: Subnet, used: ReadonlySet<string>): string {
  const last = subnet.base + sizeOf(subnet) - 2;
  for (let value = subnet.base + 2; value <= last; value += 1) {
    const address = numberToAddress(value);
    if (!used.has(address)) return address;
  }
  throw new SwarmError(
    'exhausted',
    `no free address in ${formatSubnet(subnet)}: this host runs as many containers as it holds`,
  );
}

export function isHostIndex(index: number): boolean {
  return Number.isInteger(index) && index >= 1 && index <= MAX_HOST_INDEX;
}

function assertHostIndex(index: number): void {
  assert(isHostIndex(index), 'host index out of range', { index });
}

export function tunnelAddress(hostIndex: number): string {
  assertHostIndex(hostIndex);
  return `169.254.${hostIndex >> 8}.${hostIndex & 0xff}`;
}

/** A next hop for IPv6 inside the tunnels; canonical. */
export function tunnelAddress6(hostIndex: number): string {
  assertHostIndex(hostIndex);
  return `fe80::7473:${hostIndex.toString(16)}`;
}

function hexByte(value: number): string {
  return value.toString(16).padStart(2, '0');
}

export function tunnelMac(hostIndex: number): string {
  assertHostIndex(hostIndex);
  return `02:74:73:00:${hexByte(hostIndex >> 8)}:${hexByte(hostIndex & 0xff)}`;
}

/** A container's MAC from its address, as Docker does it. */
export function endpointMac(address: string): string {
  const value = addressToNumber(address);
  const bytes = [value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff];
  return `02:42:${bytes.map(hexByte).join(':')}`;
}

export function gatewaySubnet(hostIndex: number): Subnet {
  assertHostIndex(hostIndex);
  if (hostIndex <= SMALL_HOST_INDEX) return parseSubnet(`10.254.${hostIndex}.0/24`);
  return {
    base: (CLASS_E + hostIndex * 2 ** LARGE_SUBNET_BITS) >>> 0,
    prefixLength: 32 - LARGE_SUBNET_BITS,
  };
}

/** The ranges the hosts with these indexes use. */
export function gatewayRanges(hostIndexes: Iterable<number>): string[] {
  const ranges = new Set<string>();
  for (const index of hostIndexes) {
    ranges.add(index <= SMALL_HOST_INDEX ? SMALL_GATEWAY_RANGE : LARGE_GATEWAY_RANGE);
  }
  return [...ranges].sort();
}
