/**
 * Connection tracking of one namespace: which flows the kernel sends elsewhere than they were
 * addressed, and forgetting some of them. What is asked for is sifted by the kernel where it can;
 * an older one tells more, so callers look again. Decides nothing (flows.ts does).
 */
import { ipBytes, ipText } from '../../base/ipAddress.ts';
import {
  type Attribute,
  decodeAttributes,
  NETLINK_NETFILTER,
  type NetlinkMessage,
  NetlinkSocket,
  u8,
} from '../sys/netlink.ts';
import type { NetworkNamespace } from '../sys/netns.ts';

/** (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, _DELETE. */
const GET = (1 << 8) | 1;
const DELETE = (1 << 8) | 2;
const NFGENMSG_BYTES = 4;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_TIMEOUT = 7;
const CTA_FILTER = 25;
const CTA_STATUS_MASK = 26;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_FILTER_ORIG_FLAGS = 1;
/** In those flags. */
const BY_PROTOCOL = 1 << 3;
const IPS_SEEN_REPLY = 1 << 1;
const IPS_DST_NAT = 1 << 5;
const TCP_CONNTRACK_ESTABLISHED = 3;
/** IP_CT_TCP_FLAG_DATA_UNACKNOWLEDGED */
const DATA_UNACKNOWLEDGED = 0x10;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const ENOENT = 2;
const AF_UNSPEC = 0;
const NLA_F_NESTED = 0x8000;

/** A connection, or what UDP has of one, that is turned to another address. */
export interface Flow {
  readonly protocol: 'tcp' | 'udp';
  /** As the client sent it. */
  readonly destination: string;
  readonly port: number;
  /** Who answers. */
  readonly server: string;
  /** TCP: the client has sent what the server has not confirmed. */
  readonly unheard: boolean;
  /** TCP, established: when it is forgotten unless anything comes. Else 0. */
  readonly expiresSeconds: number;
  /** Takes the entry away. */
  readonly forget: NetlinkMessage;
}

interface Tuple {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly port: number;
}

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function tupleOf(bytes: Buffer): Tuple {
  const parts = decodeAttributes(bytes, 0);
  const ip = decodeAttributes(parts.get(CTA_TUPLE_IP) ?? Buffer.alloc(0), 0);
  const proto = decodeAttributes(parts.get(CTA_TUPLE_PROTO) ?? Buffer.alloc(0), 0);
  const text = (four: number, six: number): string => {
    const address = ip.get(four) ?? ip.get(six);
    return address === undefined ? '' : ipText(address);
  };
  return {
    source: text(CTA_IP_V4_SRC, CTA_IP_V6_SRC),
    destination: text(CTA_IP_V4_DST, CTA_IP_V6_DST),
    protocol: proto.get(CTA_PROTO_NUM)?.[0] ?? 0,
    port: proto.get(CTA_PROTO_DST_PORT)?.readUInt16BE(0) ?? 0,
  };
}

function sourceOf(tuple: Buffer): Buffer {
  const none = Buffer.alloc(0);
  const ip = decodeAttributes(decodeAttributes(tuple, 0).get(CTA_TUPLE_IP) ?? none, 0);
  return ip.get(CTA_IP_V4_SRC) ?? ip.get(CTA_IP_V6_SRC) ?? none;
}

function tcpOf(attributes: ReadonlyMap<number, Buffer>): { state: number; flags: number } {
  const info = decodeAttributes(attributes.get(CTA_PROTOINFO) ?? Buffer.alloc(0), 0);
  const tcp = decodeAttributes(info.get(CTA_PROTOINFO_TCP) ?? Buffer.alloc(0), 0);
  return {
    state: tcp.get(CTA_PROTOINFO_TCP_STATE)?.[0] ?? 0,
    flags: tcp.get(CTA_PROTOINFO_TCP_FLAGS_ORIGINAL)?.[0] ?? 0,
  };
}

function header(family: number): Buffer {
  const bytes = Buffer.alloc(NFGENMSG_BYTES);
  bytes[0] = family;
  return bytes;
}

/** Of an address as it goes over the wire; cheaper than its text. */
function addressKey(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}

/** `isServer` is asked first: most of a large table is then passed over cheaply. */
function flowOf(
  payload: Buffer,
  isServer: (address: Buffer) => boolean,
): (Flow & { readonly status: number }) | undefined {
  const attributes = decodeAttributes(payload, NFGENMSG_BYTES);
  const original = attributes.get(CTA_TUPLE_ORIG);
  const reply = attributes.get(CTA_TUPLE_REPLY);
  const status = attributes.get(CTA_STATUS)?.readUInt32BE(0) ?? 0;
  if (original === undefined || reply === undefined || (status & IPS_DST_NAT) === 0) return;
  if (!isServer(sourceOf(reply))) return undefined;
  const { protocol, destination, port } = tupleOf(original);
  if (protocol !== IPPROTO_TCP && protocol !== IPPROTO_UDP) return undefined;
  const { state, flags } = tcpOf(attributes);
  const seconds = attributes.get(CTA_TIMEOUT)?.readUInt32BE(0) ?? 0;
  return {
    protocol: protocol === IPPROTO_TCP ? 'tcp' : 'udp',
    destination,
    port,
    server: tupleOf(reply).source,
    unheard: (flags & DATA_UNACKNOWLEDGED) !== 0,
    expiresSeconds: state === TCP_CONNTRACK_ESTABLISHED ? seconds : 0,
    forget: {
      type: DELETE,
      flags: 0,
      header: header(payload[0]),
      // As it came, with the nested attributes inside.
      attributes: [[CTA_TUPLE_ORIG | NLA_F_NESTED, original]],
      what: 'forget a connection',
      allow: [ENOENT],
    },
    status,
  };
}

function statusIs(value: number, mask: number): Attribute[] {
  return [
    [CTA_STATUS, be32(value)],
    [CTA_STATUS_MASK, be32(mask)],
  ];
}

export class Conntrack {
  readonly #socket: NetlinkSocket;

  constructor(namespace: NetworkNamespace) {
    this.#socket = namespace.within(() => new NetlinkSocket(NETLINK_NETFILTER));
  }

  #list(
    family: number,
    attributes: readonly Attribute[],
    isServer: (address: Buffer) => boolean = () => true,
  ): (Flow & { status: number })[] {
    const list = { type: GET, flags: 0, header: header(family), attributes };
    const replies = this.#socket.dump({ ...list, what: 'list connections' });
    return replies
      .map(({ payload }) => flowOf(payload, isServer))
      .filter((flow) => flow !== undefined);
  }

  /** Begun, and not answered by anybody. */
  unanswered(): readonly Flow[] {
    const filter = statusIs(IPS_DST_NAT, IPS_DST_NAT | IPS_SEEN_REPLY);
    return this.#list(AF_UNSPEC, filter).filter(({ status }) => (status & IPS_SEEN_REPLY) === 0);
  }

  /** Of UDP, answered or not; `family` AF_INET or AF_INET6. */
  datagrams(family: number): readonly Flow[] {
    const flows = this.#list(family, [
      ...statusIs(IPS_DST_NAT, IPS_DST_NAT),
      [CTA_TUPLE_ORIG, [[CTA_TUPLE_PROTO, [[CTA_PROTO_NUM, u8(IPPROTO_UDP)]]]]],
      [CTA_FILTER, [[CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL]]],
    ]);
    return flows.filter(({ protocol }) => protocol === 'udp');
  }

  /** TCP connections to any of `servers` that were answered, by who answers: one dump for all. */
  connections(servers: Iterable<string>): Map<string, Flow[]> {
    const wanted = new Set([...servers].map((server) => addressKey(ipBytes(server))));
    const answered = IPS_DST_NAT | IPS_SEEN_REPLY;
    const found = new Map<string, Flow[]>();
    const filter = statusIs(answered, answered);
    for (const flow of this.#list(AF_UNSPEC, filter, (source) => wanted.has(addressKey(source)))) {
      if (flow.protocol !== 'tcp' || (flow.status & IPS_SEEN_REPLY) === 0) continue;
      const flows = found.get(flow.server);
      if (flows === undefined) found.set(flow.server, [flow]);
      else flows.push(flow);
    }
    return found;
  }

  forget(flows: readonly Flow[]): void {
    this.#socket.request(flows.map((flow) => flow.forget));
  }

  close(): void {
    this.#socket.close();
  }
}
