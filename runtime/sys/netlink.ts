/**
 * Netlink sockets: messages out in batches, acknowledgements and dumps back. Synchronous, since the
 * kernel handles a request inside send(2) and its answer is queued when that returns. A socket
 * belongs to the network namespace in which it was opened, for good. The messages of links, routes
 * and neighbours are in rtnetlink.ts; nothing here knows them.
 */
import { endianness } from 'node:os';
import { assert } from '../../base/assert.ts';
import { SwarmError } from '../../base/errors.ts';
import {
  check,
  close,
  errno,
  errnoName,
  errnoText,
  recv,
  SOCK_CLOEXEC,
  SOL_SOCKET,
  send,
  setsockopt,
  socket,
} from './libc.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const EINTR = 4;

const HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
const NLA_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;

/** Messages sent at once: their acknowledgements (36 bytes each, ~800 of memory) must fit. */
const BATCH_MESSAGES = 256;
const RECEIVE_BUFFER_BYTES = 1 << 20;
/** One datagram of a dump is at most 32 KiB. */
const DATAGRAM_BYTES = 64 * 1024;
/** The kernel answers at once; longer means something is badly wrong. */
const RECEIVE_TIMEOUT_SECONDS = 10;

assert(endianness() === 'LE', 'netlink messages are written little-endian');

/** An attribute: a number is a host-order u32, text gets its closing zero, a list nests. */
export type Attribute = readonly [type: number, value: AttributeValue];
export type AttributeValue = number | string | Uint8Array | readonly Attribute[];

export interface NetlinkMessage {
  readonly type: number;
  /** NLM_F_REQUEST and NLM_F_ACK are added. */
  readonly flags: number;
  /** The fixed structure before the attributes (ifinfomsg, rtmsg, ...). */
  readonly header: Uint8Array;
  readonly attributes: readonly Attribute[];
  /** For error messages: 'add route 10.0.0.3/32'. */
  readonly what: string;
  /** errno values that count as done, e.g. EEXIST. */
  readonly allow?: readonly number[];
}

export interface NetlinkReply {
  readonly type: number;
  readonly payload: Buffer;
}

export function u8(value: number): Uint8Array {
  return Uint8Array.of(value);
}

export function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8);
}

/** Big-endian 16 bits, as ports go. */
export function be16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value & 0xff);
}

export function ifindexBytes(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

function align4(length: number): number {
  return (length + 3) & ~3;
}

function valueBytes(value: AttributeValue): Uint8Array {
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value >>> 0);
    return bytes;
  }
  if (typeof value === 'string') return Buffer.from(`${value}\0`);
  if (value instanceof Uint8Array) return value;
  return encodeAttributes(value);
}

export function encodeAttributes(attributes: readonly Attribute[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const [type, value] of attributes) {
    const payload = valueBytes(value);
    const length = ATTRIBUTE_HEADER_BYTES + payload.length;
    const part = Buffer.alloc(align4(length));
    part.writeUInt16LE(length, 0);
    part.writeUInt16LE(Array.isArray(value) ? type | NLA_F_NESTED : type, 2);
    part.set(payload, ATTRIBUTE_HEADER_BYTES);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** Attributes by type from `offset` on; the last of a type wins. */
export function decodeAttributes(payload: Buffer, offset: number): Map<number, Buffer> {
  const attributes = new Map<number, Buffer>();
  let at = offset;
  while (at + ATTRIBUTE_HEADER_BYTES <= payload.length) {
    const length = payload.readUInt16LE(at);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > payload.length) break;
    const type = payload.readUInt16LE(at + 2) & NLA_TYPE_MASK;
    attributes.set(type, payload.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length));
    at += align4(length);
  }
  return attributes;
}

export function attributeText(bytes: Buffer | undefined): string {
  if (bytes === undefined) return '';
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

function encodeMessage(message: NetlinkMessage, flags: number, sequence: number): Buffer {
  const attributes = encodeAttributes(message.attributes);
  const headerEnd = HEADER_BYTES + align4(message.header.length);
  const bytes = Buffer.alloc(headerEnd + attributes.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(message.type, 4);
  bytes.writeUInt16LE(flags | NLM_F_REQUEST, 6);
  bytes.writeUInt32LE(sequence, 8);
  bytes.set(message.header, HEADER_BYTES);
  attributes.copy(bytes, headerEnd);
  return bytes;
}

function netlinkError(what: string, code: number, extended: string): SwarmError {
  const hint = extended === '' ? '' : `: ${extended}`;
  return new SwarmError('internal', `${what}: ${errnoName(code)} (${errnoText(code)})${hint}`, {
    detail: { errno: errnoName(code) },
  });
}

/** The kernel's own words in an error acknowledgement, if it sent any. */
function extendedText(flags: number, payload: Buffer): string {
  if ((flags & NLM_F_ACK_TLVS) === 0) return '';
  const echoed = (flags & NLM_F_CAPPED) === 0 ? payload.readUInt32LE(4) : HEADER_BYTES;
  return attributeText(decodeAttributes(payload, 4 + align4(echoed)).get(NLMSGERR_ATTR_MSG));
}

export class NetlinkSocket {
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(DATAGRAM_BYTES);
  #sequence = 1;
  #open = true;

  /** Opened in the network namespace the calling thread is in. Throws SwarmError internal. */
  constructor(protocol: number) {
    this.#fd = check(
      socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol),
      'cannot open a netlink socket',
    );
    const one = Buffer.from([1, 0, 0, 0]);
    const size = Buffer.alloc(4);
    size.writeUInt32LE(RECEIVE_BUFFER_BYTES);
    const timeout = Buffer.alloc(16);
    timeout.writeBigUInt64LE(BigInt(RECEIVE_TIMEOUT_SECONDS), 0);
    // Each of these only widens a limit or a message: where the kernel refuses, nothing is lost.
    setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length);
    setsockopt(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, one, one.length);
    setsockopt(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, one, one.length);
    setsockopt(this.#fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, one, one.length);
    check(
      setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length),
      'cannot bound a netlink socket',
    );
  }

  /**
   * Sends all messages and reads every acknowledgement. All are tried; the first that failed (and
   * was not allowed to) is thrown at the end as SwarmError internal with detail.errno.
   */
  request(messages: readonly NetlinkMessage[]): void {
    let failure: SwarmError | undefined;
    for (let at = 0; at < messages.length; at += BATCH_MESSAGES) {
      const found = this.#batch(messages.slice(at, at + BATCH_MESSAGES));
      failure ??= found;
    }
    if (failure !== undefined) throw failure;
  }

  #batch(messages: readonly NetlinkMessage[]): SwarmError | undefined {
    const first = this.#sequence;
    this.#sequence += messages.length;
    const bytes = Buffer.concat(
      messages.map((message, at) => encodeMessage(message, message.flags | NLM_F_ACK, first + at)),
    );
    this.#send(bytes);
    let failure: SwarmError | undefined;
    let waiting = messages.length;
    while (waiting > 0) {
      for (const reply of this.#receive()) {
        const message = messages[reply.sequence - first];
        if (reply.type !== NLMSG_ERROR || message === undefined) continue;
        waiting -= 1;
        const code = -reply.payload.readInt32LE(0);
        if (code === 0 || message.allow?.includes(code) === true) continue;
        failure ??= netlinkError(message.what, code, extendedText(reply.flags, reply.payload));
      }
    }
    return failure;
  }

  /** Every object the kernel lists for `message`. Throws SwarmError internal. */
  dump(message: NetlinkMessage): NetlinkReply[] {
    return this.#exchange(message, NLM_F_DUMP);
  }

  /** The one answer to a question that has one. */
  ask(message: NetlinkMessage): NetlinkReply | undefined {
    return this.#exchange(message, NLM_F_ACK)[0];
  }

  #exchange(message: NetlinkMessage, flags: number): NetlinkReply[] {
    const sequence = this.#sequence;
    this.#sequence += 1;
    this.#send(encodeMessage(message, message.flags | flags, sequence));
    const replies: NetlinkReply[] = [];
    for (;;) {
      for (const reply of this.#receive()) {
        if (reply.sequence !== sequence) continue;
        if (reply.type === NLMSG_DONE) return replies;
        if (reply.type === NLMSG_ERROR) {
          const code = -reply.payload.readInt32LE(0);
          if (code === 0) return replies;
          throw netlinkError(message.what, code, extendedText(reply.flags, reply.payload));
        }
        replies.push({ type: reply.type, payload: Buffer.from(reply.payload) });
      }
    }
  }

  #send(bytes: Buffer): void {
    assert(this.#open, 'netlink socket used after close');
    check(send(this.#fd, bytes, bytes.length, 0), 'cannot send on a netlink socket');
  }

  /** The messages of the next datagram; payloads are valid until the next call. */
  #receive(): { type: number; flags: number; sequence: number; payload: Buffer }[] {
    let length = recv(this.#fd, this.#buffer, this.#buffer.length, 0);
    while (length < 0 && errno() === EINTR) {
      length = recv(this.#fd, this.#buffer, this.#buffer.length, 0);
    }
    check(length, 'no answer on a netlink socket');
    const messages = [];
    let at = 0;
    while (at + HEADER_BYTES <= length) {
      const size = this.#buffer.readUInt32LE(at);
      if (size < HEADER_BYTES || at + size > length) break;
      messages.push({
        type: this.#buffer.readUInt16LE(at + 4),
        flags: this.#buffer.readUInt16LE(at + 6),
        sequence: this.#buffer.readUInt32LE(at + 8),
        payload: this.#buffer.subarray(at + HEADER_BYTES, at + size),
      });
      at += align4(size);
    }
    return messages;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    close(this.#fd);
  }
}
