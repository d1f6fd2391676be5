/**
 * The part of the package dns-packet (which has no types of its own) that dns.ts uses.
 * Only declarations; see that package's README for the meaning of the fields.
 */
declare module 'dns-packet' {
  export interface Question {
    readonly type: string;
    readonly class?: string;
    readonly name: string;
  }
  export interface Answer {
    readonly type: string;
    readonly class?: string;
    readonly name: string;
    readonly ttl?: number;
    readonly data?: unknown;
    readonly udpPayloadSize?: number;
  }
  export interface Packet {
    readonly id?: number;
    readonly type?: 'query' | 'response';
    readonly flags?: number;
    readonly flag_qr?: boolean;
    readonly opcode?: string;
    readonly rcode?: string;
    readonly questions?: readonly Question[];
    readonly answers?: readonly Answer[];
    readonly authorities?: readonly Answer[];
    readonly additionals?: readonly Answer[];
  }
  export const AUTHORITATIVE_ANSWER: number;
  export const TRUNCATED_RESPONSE: number;
  export const RECURSION_DESIRED: number;
  export const RECURSION_AVAILABLE: number;
  export function encode(packet: Packet): Buffer;
  export function decode(bytes: Buffer): Packet;
  const dnsPacket: {
    encode: typeof encode;
    decode: typeof decode;
    readonly TRUNCATED_RESPONSE: number;
    readonly RECURSION_DESIRED: number;
    readonly RECURSION_AVAILABLE: number;
  };
  export default dnsPacket;
}
