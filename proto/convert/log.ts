/**
 * A transaction as the bytes of one log entry, with the leader's stamp. Encoded once by whoever
 * proposes; the same bytes go to disk and to every follower. And what a snapshot begins with.
 */
import { createHash } from 'node:crypto';
import { fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { SwarmError } from '../../base/errors.ts';
import type { Change } from '../../model/change.ts';
import { encodeMessage } from '../encode.ts';
import {
  type ChangeSchema,
  file_tsswarm_v1_objects,
  LogEntrySchema,
  SnapshotHeadSchema,
  type Change as WireChange,
} from '../gen/tsswarm/v1/objects_pb.js';
import { objectFromWire, objectToWire, parse, type TableObject } from './objects.ts';
import { fromU64, toU64, word } from './values.ts';

/**
 * Raised when entries (or the store's snapshots, which are made of them and of objects) begin to
 * say something that an older program must not pass over.
 */
export const LOG_FORMAT = 0;

const TABLES = ['cluster', 'node', 'service', 'task', 'network', 'secret', 'config'] as const;

export interface LogEntry {
  readonly atomic: boolean;
  /** The leader's wall clock, Unix ms. */
  readonly atMs: number;
  readonly changes: readonly Change[];
}

function changeToWire(change: Change): MessageInitShape<typeof ChangeSchema> {
  if (change.kind === 'remove') {
    const { table, id, version } = change;
    return {
      change: { case: 'remove', value: { table, id, version: toU64(version ?? 0, 'version') } },
    };
  }
  const value = objectToWire({ table: change.table, object: change.object } as TableObject);
  return { change: { case: change.kind, value } };
}

function changeFromWire(wire: WireChange): Change {
  const { change } = wire;
  switch (change.case) {
    case 'create':
    case 'update':
      return { kind: change.case, ...objectFromWire(change.value) } as Change;
    case 'remove': {
      const table = word(change.value.table, TABLES, 'table');
      const version = fromU64(change.value.version, 'version');
      const { id } = change.value;
      return (
        version === 0 ? { kind: 'remove', table, id } : { kind: 'remove', table, id, version }
      ) as Change;
    }
    default:
      throw new SwarmError('corrupt', 'a log entry holds a change of unknown kind');
  }
}

export function encodeLogEntry(entry: LogEntry): Uint8Array {
  return encodeMessage(LogEntrySchema, {
    atomic: entry.atomic,
    atMs: toU64(entry.atMs, 'atMs'),
    changes: entry.changes.map(changeToWire),
    format: LOG_FORMAT,
  });
}

/**
 * SwarmError corrupt or invalid when the bytes are no log entry of this schema, unsupported when
 * they are one of a newer format.
 */
export function decodeLogEntry(bytes: Uint8Array): LogEntry {
  const wire = parse(() => fromBinary(LogEntrySchema, bytes), 'log entry');
  if (wire.format > LOG_FORMAT) {
    throw new SwarmError(
      'unsupported',
      `a change in the log was written by a newer version of tsswarm (entry format ` +
        `${wire.format}; this one knows up to ${LOG_FORMAT}): update this manager`,
    );
  }
  return {
    atomic: wire.atomic,
    atMs: fromU64(wire.atMs, 'atMs'),
    changes: wire.changes.map(changeFromWire),
  };
}

export interface SnapshotHead {
  /** Stamp of the newest entry, Unix ms. */
  readonly atMs: number;
  /** Of the store; '' where it was not written down. */
  readonly hash: string;
  /** Hashes of different formats cannot be compared. */
  readonly hashFormat: string;
}

export function encodeSnapshotHead({ atMs, hash, hashFormat }: SnapshotHead): Uint8Array {
  return encodeMessage(SnapshotHeadSchema, { atMs: toU64(atMs, 'atMs'), hash, hashFormat });
}

/** SwarmError corrupt when the bytes are none. */
export function decodeSnapshotHead(bytes: Uint8Array): SnapshotHead {
  const wire = parse(() => fromBinary(SnapshotHeadSchema, bytes), 'snapshot');
  return { atMs: fromU64(wire.atMs, 'atMs'), hash: wire.hash, hashFormat: wire.hashFormat };
}

let recordSchema: string | undefined;

/** Changes whenever objects get another field: what is hashed is no longer the same then. */
export function recordSchemaDigest(): string {
  recordSchema ??= createHash('sha256')
    .update(toBinary(FileDescriptorProtoSchema, file_tsswarm_v1_objects.proto))
    .digest('hex')
    .slice(0, 8);
  return recordSchema;
}
