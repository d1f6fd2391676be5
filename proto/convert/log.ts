/**
 * A transaction as the bytes of one log entry, with the leader's stamp. Encoded once by whoever
 * proposes; the same bytes go to disk and to every follower.
 */
import { create, fromBinary } from '@bufbuild/protobuf';
import { SwarmError } from '../../base/errors.ts';
import type { TableName, Tables } from '../../model/types.ts';
import { encodeMessage } from '../encode.ts';
import {
  ChangeSchema,
  LogEntrySchema,
  type Change as WireChange,
} from '../gen/tsswarm/v1/objects_pb.js';
import { objectFromWire, objectToWire, parse, type TableObject } from './objects.ts';
import { fromU64, toU64, word } from './values.ts';

const TABLES = ['cluster', 'node', 'service', 'task', 'network', 'secret', 'config'] as const;

/** Same shape as manager/store's Change; proto may not import manager. */
export type LogChange = {
  [T in TableName]:
    | { readonly kind: 'create'; readonly table: T; readonly object: Tables[T] }
    | { readonly kind: 'update'; readonly table: T; readonly object: Tables[T] }
    | {
        readonly kind: 'remove';
        readonly table: T;
        readonly id: string;
        readonly version?: number;
      };
}[TableName];

export interface LogEntry {
  readonly atomic: boolean;
  /** The leader's wall clock, Unix ms. */
  readonly atMs: number;
  readonly changes: readonly LogChange[];
}

function changeToWire(change: LogChange): WireChange {
  if (change.kind === 'remove') {
    const { table, id, version } = change;
    return create(ChangeSchema, {
      change: { case: 'remove', value: { table, id, version: toU64(version ?? 0, 'version') } },
    });
  }
  const value = objectToWire({ table: change.table, object: change.object } as TableObject);
  return create(ChangeSchema, { change: { case: change.kind, value } });
}

function changeFromWire(wire: WireChange): LogChange {
  const { change } = wire;
  switch (change.case) {
    case 'create':
    case 'update':
      return { kind: change.case, ...objectFromWire(change.value) } as LogChange;
    case 'remove': {
      const table = word(change.value.table, TABLES, 'table');
      const version = fromU64(change.value.version, 'version');
      const { id } = change.value;
      return (
        version === 0 ? { kind: 'remove', table, id } : { kind: 'remove', table, id, version }
      ) as LogChange;
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
  });
}

/** SwarmError corrupt or invalid when the bytes are no log entry of this schema. */
export function decodeLogEntry(bytes: Uint8Array): LogEntry {
  const wire = parse(() => fromBinary(LogEntrySchema, bytes), 'log entry');
  return {
    atomic: wire.atomic,
    atMs: fromU64(wire.atMs, 'atMs'),
    changes: wire.changes.map(changeFromWire),
  };
}
