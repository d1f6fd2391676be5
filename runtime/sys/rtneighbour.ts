/**
 * The rtnetlink messages of neighbours, VXLAN forwarding entries and routing rules by mark, each
 * as a value that a NetlinkSocket sends. Building a message never touches the kernel; reading
 * functions decode what a dump returned.
 */

import { AF_INET, AF_INET6, familyOf, ipBytes, ipText } from '../../base/ipAddress.ts';
import {
  decodeAttributes,
  type NetlinkMessage,
  type NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from './netlink.ts';
import { macBytes, macText } from './rtnetlink.ts';

const ENOENT = 2;
const EEXIST = 17;
const ENODEV = 19;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
const AF_BRIDGE = 7;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;
const NUD_NOARP = 0x40;
const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;
const NTF_PROXY = 0x08;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FR_ACT_TO_TBL = 1;

// ---- Neighbours and forwarding entries

function neighbourHeader(family: number, index: number, state: number, flags: number): Buffer {
  const header = Buffer.alloc(12);
  header[0] = family;
  header.writeInt32LE(index, 4);
  header.writeUInt16LE(state, 8);
  header[10] = flags;
  return header;
}

/** A permanent neighbour; replaces whatever is there. */
export function putNeighbour(index: number, address: string, mac: string): NetlinkMessage {
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    header: neighbourHeader(familyOf(address), index, NUD_PERMANENT, 0),
    attributes: [
      [NDA_DST, ipBytes(address)],
      [NDA_LLADDR, macBytes(mac)],
    ],
    what: `add neighbour ${address}`,
  };
}

export function deleteNeighbour(index: number, address: string): NetlinkMessage {
  return {
    type: RTM_DELNEIGH,
    flags: 0,
    header: neighbourHeader(familyOf(address), index, 0, 0),
    attributes: [[NDA_DST, ipBytes(address)]],
    what: `delete neighbour ${address}`,
    allow: [ENOENT, ENODEV],
  };
}

/** The interface answers questions for this IPv6 address of somebody behind us (proxy_ndp). */
export function putProxy(index: number, address: string): NetlinkMessage {
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    header: neighbourHeader(AF_INET6, index, NUD_PERMANENT, NTF_PROXY),
    attributes: [[NDA_DST, ipBytes(address)]],
    what: `answer for ${address}`,
  };
}

export function deleteProxy(index: number, address: string): NetlinkMessage {
  return {
    type: RTM_DELNEIGH,
    flags: 0,
    header: neighbourHeader(AF_INET6, index, 0, NTF_PROXY),
    attributes: [[NDA_DST, ipBytes(address)]],
    what: `stop answering for ${address}`,
    allow: [ENOENT, ENODEV],
  };
}

/** Addresses that interfaces answer for. */
export function listProxies(socket: NetlinkSocket): { index: number; address: string }[] {
  const replies = socket.dump({
    type: RTM_GETNEIGH,
    flags: 0,
    header: neighbourHeader(AF_INET6, 0, 0, NTF_PROXY),
    attributes: [],
    what: 'list proxied addresses',
  });
  return replies.flatMap(({ payload }) => {
    const address = decodeAttributes(payload, 12).get(NDA_DST);
    const isProxy = (payload[10] & NTF_PROXY) !== 0 && address?.length === 16;
    return isProxy ? [{ index: payload.readInt32LE(4), address: ipText(address) }] : [];
  });
}

/** A bridge sends frames to `mac` to this port from now on, until they come from another one. */
export function pointBridge(portIndex: number, mac: string): NetlinkMessage {
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    header: neighbourHeader(AF_BRIDGE, portIndex, NUD_NOARP, NTF_MASTER),
    attributes: [[NDA_LLADDR, macBytes(mac)]],
    what: `point the bridge at ${mac}`,
  };
}

/** A permanent entry of a VXLAN device: frames to `mac` go to the underlay address `remote`. */
export function putForwarding(index: number, mac: string, remote: string): NetlinkMessage {
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    header: neighbourHeader(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF),
    attributes: [
      [NDA_LLADDR, macBytes(mac)],
      [NDA_DST, ipBytes(remote)],
    ],
    what: `add forwarding entry ${mac}`,
  };
}

export function deleteForwarding(index: number, mac: string): NetlinkMessage {
  return {
    type: RTM_DELNEIGH,
    flags: 0,
    header: neighbourHeader(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF),
    attributes: [[NDA_LLADDR, macBytes(mac)]],
    what: `delete forwarding entry ${mac}`,
    allow: [ENOENT, ENODEV],
  };
}

export interface Neighbour {
  readonly index: number;
  readonly address: string;
  readonly mac: string;
}

const FAMILIES = { ip: AF_INET, ip6: AF_INET6, bridge: AF_BRIDGE };

/**
 * Permanent neighbours (families 'ip', 'ip6') or forwarding entries of VXLAN devices ('bridge').
 */
export function listNeighbours(
  socket: NetlinkSocket,
  family: 'ip' | 'ip6' | 'bridge',
): Neighbour[] {
  const replies = socket.dump({
    type: RTM_GETNEIGH,
    flags: 0,
    header: neighbourHeader(FAMILIES[family], 0, 0, 0),
    attributes: [],
    what: 'list neighbours',
  });
  const found: Neighbour[] = [];
  for (const { payload } of replies) {
    if ((payload.readUInt16LE(8) & NUD_PERMANENT) === 0) continue;
    const attributes = decodeAttributes(payload, 12);
    const address = attributes.get(NDA_DST);
    const mac = attributes.get(NDA_LLADDR);
    const length = family === 'ip6' ? 16 : 4;
    if (address?.length !== length || mac === undefined) continue;
    found.push({
      index: payload.readInt32LE(4),
      address: ipText(address),
      mac: macText(mac),
    });
  }
  return found;
}

// ---- Rules

/** Packets marked `mark` are routed by `table`. */
export interface MarkRule {
  readonly priority: number;
  readonly mark: number;
  readonly table: number;
}

function ruleMessage(type: number, rule: MarkRule): NetlinkMessage {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  header[7] = FR_ACT_TO_TBL;
  return {
    type,
    flags: type === RTM_NEWRULE ? NLM_F_CREATE | NLM_F_EXCL : 0,
    header,
    attributes: [
      [FRA_PRIORITY, rule.priority],
      [FRA_FWMARK, rule.mark],
      [FRA_FWMASK, 0xffffffff],
      [FRA_TABLE, rule.table],
    ],
    what: `${type === RTM_NEWRULE ? 'add' : 'delete'} rule for mark ${rule.mark}`,
    allow: type === RTM_NEWRULE ? [EEXIST] : [ENOENT],
  };
}

export function addRule(rule: MarkRule): NetlinkMessage {
  return ruleMessage(RTM_NEWRULE, rule);
}

export function deleteRule(rule: MarkRule): NetlinkMessage {
  return ruleMessage(RTM_DELRULE, rule);
}

/** Rules that choose by mark alone. */
export function listMarkRules(socket: NetlinkSocket): MarkRule[] {
  const header = Buffer.alloc(12);
  header[0] = AF_INET;
  const replies = socket.dump({
    type: RTM_GETRULE,
    flags: 0,
    header,
    attributes: [],
    what: 'list rules',
  });
  const rules: MarkRule[] = [];
  for (const { payload } of replies) {
    const attributes = decodeAttributes(payload, 12);
    const mark = attributes.get(FRA_FWMARK)?.readUInt32LE(0);
    if (mark === undefined) continue;
    rules.push({
      priority: attributes.get(FRA_PRIORITY)?.readUInt32LE(0) ?? 0,
      mark,
      table: attributes.get(FRA_TABLE)?.readUInt32LE(0) ?? payload[4],
    });
  }
  return rules;
}
