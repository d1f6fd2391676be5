/**
 * The first bytes of every stream between managers: who calls, whom it means to reach, and where it
 * listens. A stream that reaches another member than meant (an address reused) is closed at once.
 */
import { SwarmError } from '../../base/errors.ts';
import { ByteReader, ByteWriter } from './bytes.ts';
import type { MemberAddress } from './types.ts';

/** In the detail of what a node is told that was removed from the cluster: its id. */
export const REMOVED_NODE = 'removedNodeId';

const VERSION = 1;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface Hello {
  readonly from: MemberAddress;
  readonly to: number;
}

export function encodeHello(hello: Hello): Uint8Array {
  const out = new ByteWriter().u8(VERSION).u64(hello.from.id).u64(hello.to);
  return out.bytes(encoder.encode(hello.from.address)).take();
}

/** Throws SwarmError corrupt (no hello) or unsupported (another version). */
export function decodeHello(bytes: Uint8Array): Hello {
  const source = new ByteReader(bytes, 'raft hello');
  const version = source.u8();
  if (version !== VERSION) {
    throw new SwarmError('unsupported', `raft stream version ${version}: update this manager`);
  }
  const id = source.u64();
  const to = source.u64();
  return { from: { id, address: decoder.decode(source.bytes()) }, to };
}
