/**
 * Secrets and configs, model <-> wire: their specifications, how a container refers to them, and
 * what a node is handed. Data passes as bytes and is never put into a message for people.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { DataAssignment } from '../../model/assignment.ts';
import type { DataSpec, DataTable, FileReference } from '../../model/types.ts';
import type { DataAssignmentSchema } from '../gen/tsswarm/v1/cluster_pb.js';
import type {
  DataSpecSchema,
  FileReferenceSchema,
  DataSpec as WireDataSpec,
} from '../gen/tsswarm/v1/objects_pb.js';
import { toU32, word } from './values.ts';

export const DATA_TABLES = ['secret', 'config'] as const satisfies readonly DataTable[];
const TEMPLATINGS = ['', 'golang'] as const;

export function dataSpecToWire(spec: DataSpec): MessageInitShape<typeof DataSpecSchema> {
  return {
    name: spec.name,
    labels: spec.labels,
    data: spec.data,
    templating: spec.templating,
  };
}

export function dataSpecFromWire(wire: WireDataSpec): DataSpec {
  return {
    name: wire.name,
    labels: wire.labels,
    data: wire.data,
    templating: word(wire.templating, TEMPLATINGS, 'templating'),
  };
}

export function referenceToWire(item: FileReference): MessageInitShape<typeof FileReferenceSchema> {
  const { id, name, target, uid, gid } = item;
  return { id, name, target, uid, gid, mode: toU32(item.mode, 'mode') };
}

export function referenceFromWire(wire: FileReference): FileReference {
  const { id, name, target, uid, gid, mode } = wire;
  return { id, name, target, uid, gid, mode };
}

export function heldDataToWire(
  item: DataAssignment,
): MessageInitShape<typeof DataAssignmentSchema> {
  const { id, name, data, templating } = item;
  return { id, name, data, templating };
}

export function heldDataFromWire(wire: {
  id: string;
  name: string;
  data: Uint8Array;
  templating: string;
}): DataAssignment {
  const { id, name, data } = wire;
  return { id, name, data, templating: word(wire.templating, TEMPLATINGS, 'templating') };
}
