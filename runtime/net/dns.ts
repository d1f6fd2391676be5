/**
 * What a container's DNS question is answered with; pure. Names come from the networks that the
 * asker is attached to. A known name has an answer for every type (A and AAAA: its addresses,
 * shuffled; anything else: empty, no error); what no network knows is for the upstream servers.
 * This file is dns-packet's only door.
 */
import dnsPacket, { type Answer, type Packet } from 'dns-packet';
import { ipText } from '../../base/ipAddress.ts';
import type { Random } from '../../base/random.ts';
import type { OverlayName } from './types.ts';

/** Short: an answer must not outlive its task by much. */
export const DNS_TTL_SECONDS = 1;
/** What a client without EDNS can take over UDP. */
const PLAIN_UDP_BYTES = 512;
/** Never more over UDP, whatever the client says (fragments get lost). */
const MAX_UDP_BYTES = 1232;
const MAX_TCP_BYTES = 65_535;
const REVERSE_SUFFIX = '.in-addr.arpa';
const REVERSE_SUFFIX_6 = '.ip6.arpa';
const RCODE_MASK = 0xf;
const RCODES = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NOTIMP: 4 } as const;

/** The names of one network, ready to be looked up. */
export interface Zone {
  /** The network's name: 'web.<network>' is the same as 'web'. */
  readonly network: string;
  readonly names: ReadonlyMap<string, readonly string[]>;
  /** Address -> its name. */
  readonly reverse: ReadonlyMap<string, string>;
}

/** The longest name of an address is its most particular one: the task's. */
export function makeZone(network: string, names: readonly OverlayName[]): Zone {
  const reverse = new Map<string, string>();
  for (const { name, addresses } of names) {
    if (name.startsWith('tasks.')) continue;
    for (const address of addresses) {
      if (name.length > (reverse.get(address)?.length ?? 0)) reverse.set(address, name);
    }
  }
  const forward = new Map(names.map((entry) => [entry.name.toLowerCase(), entry.addresses]));
  return { network: network.toLowerCase(), names: forward, reverse };
}

/** The addresses of `name` in the first zone that knows it; undefined when none does. */
export function lookUp(zones: readonly Zone[], name: string): readonly string[] | undefined {
  for (const zone of zones) {
    const found = zone.names.get(name);
    if (found !== undefined) return found;
    const suffix = `.${zone.network}`;
    if (!name.endsWith(suffix)) continue;
    const qualified = zone.names.get(name.slice(0, -suffix.length));
    if (qualified !== undefined) return qualified;
  }
  return undefined;
}

/** 'b.a.9...1.0.d.f.ip6.arpa': 32 hexadecimal digits. */
function reverseIpv6(name: string): string | undefined {
  const digits = name.slice(0, -REVERSE_SUFFIX_6.length).split('.').reverse().join('');
  if (!/^[0-9a-f]{32}$/.test(digits)) return undefined;
  return ipText(Buffer.from(digits, 'hex'));
}

function reverseAddress(name: string): string | undefined {
  if (name.endsWith(REVERSE_SUFFIX_6)) return reverseIpv6(name);
  if (!name.endsWith(REVERSE_SUFFIX)) return undefined;
  return name.slice(0, -REVERSE_SUFFIX.length).split('.').reverse().join('.');
}

/** '5.1.0.10.in-addr.arpa' -> the name of 10.0.1.5. */
export function lookUpReverse(zones: readonly Zone[], name: string): string | undefined {
  const address = reverseAddress(name);
  if (address === undefined) return undefined;
  for (const zone of zones) {
    const found = zone.reverse.get(address);
    if (found !== undefined) return `${found}.${zone.network}`;
  }
  return undefined;
}

export function shuffle<T>(items: readonly T[], random: Random): T[] {
  const shuffled = [...items];
  for (let at = shuffled.length - 1; at > 0; at -= 1) {
    const other = random.below(at + 1);
    [shuffled[at], shuffled[other]] = [shuffled[other], shuffled[at]];
  }
  return shuffled;
}

export type Decision =
  | { readonly kind: 'answer'; readonly bytes: Buffer }
  | { readonly kind: 'forward' }
  /** Not a question at all: no answer. */
  | { readonly kind: 'ignore' };

export type Transport = 'udp' | 'tcp';

/** Decides one question. `bytes` is the message without TCP's length prefix. */
export function decide(
  bytes: Buffer,
  transport: Transport,
  zones: readonly Zone[],
  random: Random,
): Decision {
  const query = decodeQuery(bytes);
  if (query === undefined) return { kind: 'ignore' };
  if (query.opcode !== 'QUERY') return answer(query, transport, [], 'NOTIMP');
  const question = query.questions?.[0];
  if (question === undefined) return answer(query, transport, [], 'FORMERR');
  const name = question.name.toLowerCase().replace(/\.$/, '');
  if (question.type === 'PTR') {
    const target = lookUpReverse(zones, name);
    if (target === undefined) return { kind: 'forward' };
    return answer(query, transport, [record(question.name, 'PTR', target)], 'NOERROR');
  }
  const addresses = lookUp(zones, name);
  if (addresses === undefined) return { kind: 'forward' };
  const records = shuffle(addresses, random)
    .map((address) => record(question.name, typeOf(address), address))
    .filter(({ type }) => question.type === type || question.type === 'ANY');
  return answer(query, transport, records, 'NOERROR');
}

function typeOf(address: string): 'A' | 'AAAA' {
  return address.includes(':') ? 'AAAA' : 'A';
}

function record(name: string, type: 'A' | 'AAAA' | 'PTR', data: string): Answer {
  return { name, type, class: 'IN', ttl: DNS_TTL_SECONDS, data };
}

function decodeQuery(bytes: Buffer): Packet | undefined {
  try {
    const packet = dnsPacket.decode(bytes);
    return packet.type === 'query' ? packet : undefined;
  } catch {
    return undefined; // whoever sent this does not speak DNS; there is nobody to answer
  }
}

function answer(
  query: Packet,
  transport: Transport,
  records: readonly Answer[],
  rcode: keyof typeof RCODES,
): Decision {
  const limit = transport === 'tcp' ? MAX_TCP_BYTES : udpLimit(query);
  let kept = records;
  let bytes = encodeAnswer(query, kept, RCODES[rcode], false);
  while (bytes.length > limit && kept.length > 0) {
    const perRecord = Math.max(
      1,
      Math.floor((bytes.length - limit) / (bytes.length / kept.length)),
    );
    kept = kept.slice(0, Math.max(0, kept.length - perRecord));
    bytes = encodeAnswer(query, kept, RCODES[rcode], true);
  }
  return { kind: 'answer', bytes };
}

function udpLimit(query: Packet): number {
  const options = query.additionals?.find((extra) => extra.type === 'OPT');
  return Math.min(Math.max(options?.udpPayloadSize ?? 0, PLAIN_UDP_BYTES), MAX_UDP_BYTES);
}

function encodeAnswer(
  query: Packet,
  records: readonly Answer[],
  rcode: number,
  truncated: boolean,
): Buffer {
  const asked = (query.flags ?? 0) & dnsPacket.RECURSION_DESIRED;
  const cut = truncated ? dnsPacket.TRUNCATED_RESPONSE : 0;
  return dnsPacket.encode({
    id: query.id,
    type: 'response',
    flags: asked | cut | dnsPacket.RECURSION_AVAILABLE | rcode,
    questions: query.questions ?? [],
    answers: records,
  });
}

/** SERVFAIL for the question in `bytes`, or undefined where there is none in it. */
export function failure(bytes: Buffer): Buffer | undefined {
  const query = decodeQuery(bytes);
  if (query === undefined) return undefined;
  return encodeAnswer(query, [], RCODES.SERVFAIL, false);
}

/** The response code of an upstream's answer. */
export function rcodeOf(bytes: Buffer): number {
  return bytes.length < 4 ? RCODES.SERVFAIL : bytes[3] & RCODE_MASK;
}

/** Up to `limit` servers named in a resolv.conf. */
export function nameservers(resolvConf: string, limit: number): string[] {
  const servers: string[] = [];
  for (const line of resolvConf.split('\n')) {
    const match = /^\s*nameserver\s+(\S+)/.exec(line);
    if (match !== null && servers.length < limit) servers.push(match[1]);
  }
  return servers;
}
