/**
 * IPv4 addresses and blocks as numbers: reading, writing, containing, overlapping. Text that is no
 * address gives undefined; who reads user input says what is wrong with it. Where IPv6 may be, too,
 * base/ipRange reads it.
 */

/** A block: its first address and how many bits of it are the network. */
export interface Block {
  readonly first: number;
  readonly last: number;
  readonly prefix: number;
}

const OCTET = /^(0|[1-9]\d{0,2})$/;

/** '10.0.1.2' -> 167772418; undefined when it is none. */
export function parseAddress(text: string): number | undefined {
  const octets = text.split('.');
  if (octets.length !== 4) return undefined;
  let value = 0;
  for (const octet of octets) {
    if (!OCTET.test(octet) || Number(octet) > 255) return undefined;
    value = value * 256 + Number(octet);
  }
  return value;
}

export function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

/**
 * '10.0.1.0/24' -> its block; undefined when malformed or when bits right of the prefix are set.
 */
export function parseBlock(text: string): Block | undefined {
  const match = /^([\d.]+)\/(\d{1,2})$/.exec(text);
  if (match === null) return undefined;
  const address = parseAddress(match[1]);
  const prefix = Number(match[2]);
  if (address === undefined || prefix > 32) return undefined;
  const block = blockAt(address, prefix);
  return block.first === address ? block : undefined;
}

/** The block of this size that `address` lies in. */
export function blockAt(address: number, prefix: number): Block {
  const size = 2 ** (32 - prefix);
  const first = address - (address % size);
  return { first, last: first + size - 1, prefix };
}

export function formatBlock(block: Block): string {
  return `${formatAddress(block.first)}/${block.prefix}`;
}

export function contains(block: Block, address: number): boolean {
  return address >= block.first && address <= block.last;
}

export function overlaps(left: Block, right: Block): boolean {
  return left.first <= right.last && right.first <= left.last;
}

/** '10.0.0.1:2377', '[fd00::1]:2377'. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

export function within(inner: Block, outer: Block): boolean {
  return inner.first >= outer.first && inner.last <= outer.last;
}
