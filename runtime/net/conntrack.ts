/**
 * Connection tracking of one namespace, where it must forget: a UDP client that keeps its port goes
 * on being sent where it was sent first, however long that container is gone. TCP needs none of
 * this: its connections end with the container.
 */
import { SwarmError } from '../../base/errors.ts';
import { ipText } from '../../base/ipAddress.ts';
import {
  decodeAttributes,
  NETLINK_NETFILTER,
  type NetlinkMessage,
  NetlinkSocket,
} from '../sys/netlink.ts';
import type { NetworkNamespace } from '../sys/netns.ts';

/** (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, _DELETE. */
const GET = (1 << 8) | 1;
const DELETE = (1 << 8) | 2;
const NFGENMSG_BYTES = 4;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_SRC = 3;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
const IPPROTO_UDP = 17;
const ENOENT = 2;
const AF_UNSPEC = 0;
const NLA_F_NESTED = 0x8000;

export interface UdpFlow {
  /** As the client sent it. */
  readonly destination: string;
  readonly port: number;
  /** Who answers. */
  readonly server: string;
}

interface Tuple {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly port: number;
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

function header(family: number): Buffer {
  const bytes = Buffer.alloc(NFGENMSG_BYTES);
  bytes[0] = family;
  return bytes;
}

/** Forgets the UDP flows that are `stale`; says how many. Throws SwarmError internal. */
export function forgetUdp(namespace: NetworkNamespace, stale: (flow: UdpFlow) => boolean): number {
  const socket = namespace.within(() => new NetlinkSocket(NETLINK_NETFILTER));
  try {
    const what = 'list connections';
    const list = { type: GET, flags: 0, header: header(AF_UNSPEC), attributes: [], what };
    const gone: NetlinkMessage[] = [];
    for (const { payload } of socket.dump(list)) {
      const attributes = decodeAttributes(payload, NFGENMSG_BYTES);
      const original = attributes.get(CTA_TUPLE_ORIG);
      const reply = attributes.get(CTA_TUPLE_REPLY);
      if (original === undefined || reply === undefined) continue;
      const { protocol, destination, port } = tupleOf(original);
      if (protocol !== IPPROTO_UDP) continue;
      if (!stale({ destination, port, server: tupleOf(reply).source })) continue;
      gone.push(forget(payload[0], original));
    }
    socket.request(gone);
    return gone.length;
  } finally {
    socket.close();
  }
}

/** Keys that are new, gone, or have lost a server; one that only gained some is as before. */
function changedKeys<K>(
  before: ReadonlyMap<K, ReadonlySet<string>>,
  after: ReadonlyMap<K, ReadonlySet<string>>,
): Set<K> {
  const changed = new Set<K>();
  for (const [key, servers] of before) {
    const left = after.get(key);
    if (left === undefined || [...servers].some((one) => !left.has(one))) changed.add(key);
  }
  for (const key of after.keys()) if (!before.has(key)) changed.add(key);
  return changed;
}

/**
 * Forgets UDP flows to what has changed and whose server is not one of it any more. `keyOf` says
 * what a flow is to; undefined = to nothing of ours. A kernel that cannot be asked keeps them until
 * they have been idle for half a minute.
 */
export function forgetChanged<K>(
  namespace: NetworkNamespace,
  before: ReadonlyMap<K, ReadonlySet<string>>,
  after: ReadonlyMap<K, ReadonlySet<string>>,
  keyOf: (flow: UdpFlow) => K | undefined,
): void {
  const changed = changedKeys(before, after);
  if (changed.size === 0) return;
  try {
    forgetUdp(namespace, (flow) => {
      const key = keyOf(flow);
      if (key === undefined || !changed.has(key)) return false;
      return after.get(key)?.has(flow.server) !== true;
    });
  } catch (error) {
    if (!(error instanceof SwarmError)) throw error; // no conntrack netlink in this kernel
  }
}

function forget(family: number, original: Buffer): NetlinkMessage {
  return {
    type: DELETE,
    flags: 0,
    header: header(family),
    // As it came, with the nested attributes inside.
    attributes: [[CTA_TUPLE_ORIG | NLA_F_NESTED, original]],
    what: 'forget a connection',
    allow: [ENOENT],
  };
}
