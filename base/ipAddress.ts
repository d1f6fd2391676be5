/**
 * IP addresses of both families between their text and their bytes, as the kernel's messages carry
 * them; pure. IPv6 text is always the canonical one (RFC 5952), so that texts can be compared.
 * Whether an address may be used for something is not decided here.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { SwarmError } from './errors.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
const IPV6_GROUPS = 8;

export function familyOf(address: string): number {
  return address.includes(':') ? AF_INET6 : AF_INET;
}

/** '10.0.0.1/24' -> '10.0.0.1'; without a prefix as it is. */
export function bareAddress(address: string): string {
  return address.split('/', 1)[0];
}

function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a, b, c, d] = group.split('.').map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}

/** 4 or 16 bytes, in network order. SwarmError invalid for what is no address. */
export function ipBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.'), Number);
  if (!isIPv6(address) || address.includes('%')) {
    throw new SwarmError('invalid', `"${address}" is not an IP address`);
  }
  const [head, tail] = address.split('::');
  const first = groupsOf(head);
  const last = tail === undefined ? [] : groupsOf(tail);
  const zeros = new Array<number>(IPV6_GROUPS - first.length - last.length).fill(0);
  return Uint8Array.from(
    [...first, ...zeros, ...last].flatMap((group) => [group >> 8, group & 0xff]),
  );
}

/** Start and length of the longest run of at least two zero groups, the first of equals. */
function longestZeros(groups: readonly number[]): { start: number; length: number } {
  let best = { start: -1, length: 1 };
  for (let at = 0; at < groups.length; at += 1) {
    let end = at;
    while (end < groups.length && groups[end] === 0) end += 1;
    if (end - at > best.length) best = { start: at, length: end - at };
    at = Math.max(at, end);
  }
  return best;
}

/** The text of 4 or 16 bytes. */
export function ipText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const groups = Array.from(
    { length: IPV6_GROUPS },
    (_, at) => (bytes[2 * at] << 8) | bytes[2 * at + 1],
  );
  const hex = (part: readonly number[]): string =>
    part.map((group) => group.toString(16)).join(':');
  const { start, length } = longestZeros(groups);
  if (start < 0) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

/** The one text of an address of either family. SwarmError invalid. */
export function canonicalAddress(address: string): string {
  return address.includes(':') ? ipText(ipBytes(address)) : address;
}

/** 32 or 128. */
export function addressBits(address: string): number {
  return address.includes(':') ? 128 : 32;
}
