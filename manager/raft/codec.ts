/**
 * Raft messages as bytes, for the wire between managers, and entries as they also stand in the log.
 * Layout by hand, one version byte first; another version is refused, never guessed at. Decoded
 * data are views of the input. Storage messages never leave a process and have no encoding.
 */
import { ByteReader, ByteWriter } from './bytes.ts';
import { decodeConfState, encodeConfState } from './core/confCodec.ts';
import {
  type Entry,
  type EntryType,
  MESSAGE_TYPES,
  type Message,
  makeMessage,
  type SnapshotMeta,
} from './core/types.ts';

const VERSION = 1;
const FLAG_REJECT = 1;
const FLAG_SNAPSHOT = 2;
const ENTRY_TYPES: readonly EntryType[] = ['normal', 'confChange'];
/** Beyond what maxSizePerMessageBytes can hold of the smallest entries: a broken length. */
const MAX_ENTRIES = 1_000_000;

export function encodeMessage(message: Message): Uint8Array {
  let bytes = 128 + message.context.length;
  for (const entry of message.entries) bytes += 21 + entry.data.length;
  const out = new ByteWriter(bytes);
  const { snapshot } = message;
  out
    .u8(VERSION)
    .u8(MESSAGE_TYPES.indexOf(message.type))
    .u8((message.reject ? FLAG_REJECT : 0) | (snapshot === undefined ? 0 : FLAG_SNAPSHOT))
    .u64(message.to)
    .u64(message.from)
    .u64(message.term)
    .u64(message.logTerm)
    .u64(message.index)
    .u64(message.commit)
    .u64(message.rejectHint)
    .bytes(message.context)
    .u32(message.entries.length);
  for (const entry of message.entries) writeEntry(out, entry);
  if (snapshot !== undefined) writeSnapshotMeta(out, snapshot);
  return out.take();
}

/** Throws SwarmError corrupt. */
export function decodeMessage(bytes: Uint8Array): Message {
  const source = new ByteReader(bytes, 'raft message');
  const version = source.u8();
  if (version !== VERSION) throw source.corrupt(`version ${version}, not ${VERSION}`);
  const type = MESSAGE_TYPES[source.u8()];
  if (type === undefined) throw source.corrupt('unknown type');
  const flags = source.u8();
  const head = {
    to: source.u64(),
    from: source.u64(),
    term: source.u64(),
    logTerm: source.u64(),
    index: source.u64(),
    commit: source.u64(),
    rejectHint: source.u64(),
    context: source.bytes(),
  };
  const count = source.u32();
  if (count > MAX_ENTRIES) throw source.corrupt(`${count} entries`);
  const entries: Entry[] = [];
  for (let at = 0; at < count; at += 1) entries.push(readEntry(source));
  const snapshot = (flags & FLAG_SNAPSHOT) === 0 ? undefined : readSnapshotMeta(source);
  const reject = (flags & FLAG_REJECT) !== 0;
  return makeMessage(type, head.to, { ...head, entries, snapshot, reject });
}

export function writeEntry(out: ByteWriter, entry: Entry): void {
  out.u64(entry.term).u64(entry.index).u8(ENTRY_TYPES.indexOf(entry.type)).bytes(entry.data);
}

export function readEntry(source: ByteReader): Entry {
  const term = source.u64();
  const index = source.u64();
  const type = ENTRY_TYPES[source.u8()];
  if (type === undefined) throw source.corrupt('unknown entry type');
  return { term, index, type, data: source.bytes() };
}

export function writeSnapshotMeta(out: ByteWriter, meta: SnapshotMeta): void {
  out.u64(meta.index).u64(meta.term).bytes(encodeConfState(meta.confState)).bytes(meta.data);
}

export function readSnapshotMeta(source: ByteReader): SnapshotMeta {
  const index = source.u64();
  const term = source.u64();
  const confState = decodeConfState(source.bytes());
  return { index, term, confState, data: source.bytes() };
}
