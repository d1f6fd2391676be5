/**
 * Tasks read from their bytes by hand: a snapshot may hold a million, and reading them through
 * descriptors takes ten times as long. The specification, most of the bytes, is decoded once for
 * all tasks that hold the same bytes. Whatever is not just as encodeObject writes it is left to the
 * general way (decodeObject), with its checks and its errors; both give the same.
 */
import { crc32 } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import {
  PackedStatus,
  PhasesText,
  pack,
  SharedTexts,
  type UnpackedPart,
} from '../../model/packedStatus.ts';
import { isTaskState, type TaskState } from '../../model/taskState.ts';
import type {
  GenericResource,
  PortConfig,
  Task,
  TaskNetwork,
  TaskSpec,
  TaskStatus,
} from '../../model/types.ts';
import {
  GenericResourceSchema,
  PortConfigSchema,
  TaskNetworkSchema,
  TaskSpecSchema,
} from '../gen/tsswarm/v1/objects_pb.js';
import { genericFromWire, portFromWire, taskSpecFromWire } from './specs/service.ts';

/** Specifications remembered; a cluster has a few for each service. */
const SPECS_MAX = 4096;

const VARINT = 0;
const LENGTH = 2;
const BOM = 0xef;

/** The general way has to read it. */
class Unusual extends Error {}

class Reader {
  readonly #bytes: Buffer;
  at: number;
  end: number;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
    this.end = bytes.length;
  }

  number(): number {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = this.#bytes[this.at];
      this.at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
      scale *= 0x80;
      if (scale > 2 ** 49) throw new Unusual();
    }
    if (value > Number.MAX_SAFE_INTEGER || this.at > this.end) throw new Unusual();
    return value;
  }

  /** Of a part that lies within this one. */
  length(): number {
    const length = this.number();
    if (this.at + length > this.end) throw new Unusual();
    return length;
  }

  text(): string {
    const length = this.length();
    const start = this.at;
    this.at += length;
    // A mark at its beginning is no part of a text: who else would write one?
    if (this.#bytes[start] === BOM) throw new Unusual();
    const text = this.#bytes.toString('utf8', start, this.at);
    // Put there by decoding, or really written: the general way tells.
    if (text.includes('\ufffd')) throw new Unusual();
    return text;
  }

  bytes(): Buffer {
    const length = this.length();
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  /** Reads a part with `read`, which stops at the part's end. */
  part<T>(read: (reader: Reader) => T): T {
    const length = this.length();
    const after = this.end;
    this.end = this.at + length;
    const value = read(this);
    if (this.at !== this.end) throw new Unusual();
    this.end = after;
    return value;
  }
}

const tag = (field: number, type: number): number => field * 8 + type;

interface Known {
  readonly bytes: Buffer;
  readonly spec: TaskSpec;
}

const texts = new SharedTexts();
const knownSpecs = new Map<number, Known>();

function specOf(bytes: Buffer): TaskSpec {
  const sum = crc32(bytes);
  const known = knownSpecs.get(sum);
  if (known?.bytes.equals(bytes) === true) return known.spec;
  const spec = taskSpecFromWire(fromBinary(TaskSpecSchema, bytes));
  if (knownSpecs.size >= SPECS_MAX) knownSpecs.clear();
  knownSpecs.set(sum, { bytes: Buffer.from(bytes), spec });
  return spec;
}

function stateOf(value: number): TaskState {
  if (!isTaskState(value)) throw new Unusual();
  return value;
}

function flagOf(value: number): boolean {
  if (value > 1) throw new Unusual();
  return value === 1;
}

/** Of 32 bits, without a sign. */
function wordOf(value: number): number {
  if (value > 0xffff_ffff) throw new Unusual();
  return value;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function readPhase(reader: Reader, phases: PhasesText): void {
  const length = reader.length();
  const end = reader.at + length;
  let state = 0;
  let atMs = 0;
  while (reader.at < end) {
    const field = reader.number();
    if (field === tag(1, VARINT)) state = stateOf(reader.number());
    else if (field === tag(2, VARINT)) atMs = reader.number();
    else throw new Unusual();
  }
  if (reader.at !== end || !phases.add(state, atMs)) throw new Unusual();
}

function readStatus(reader: Reader): TaskStatus {
  const phases = new PhasesText();
  let containerId = '';
  const status: Mutable<UnpackedPart> = {
    state: 0,
    atMs: 0,
    message: '',
    error: '',
    pid: 0,
    exitCode: 0,
    oomKilled: false,
    gatewayAddress: '',
  };
  while (reader.at < reader.end) {
    switch (reader.number()) {
      case tag(1, VARINT):
        status.state = stateOf(reader.number());
        break;
      case tag(2, VARINT):
        status.atMs = reader.number();
        break;
      case tag(3, LENGTH):
        status.message = reader.text();
        break;
      case tag(4, LENGTH):
        status.error = reader.text();
        break;
      case tag(5, LENGTH):
        containerId = reader.text();
        break;
      case tag(6, VARINT):
        status.pid = wordOf(reader.number());
        break;
      case tag(7, VARINT):
        status.exitCode = reader.number();
        if (status.exitCode > 0x7fff_ffff) throw new Unusual();
        break;
      case tag(8, VARINT):
        status.oomKilled = flagOf(reader.number());
        break;
      case tag(9, LENGTH):
        status.gatewayAddress = reader.text();
        break;
      case tag(10, LENGTH):
        readPhase(reader, phases);
        break;
      default:
        throw new Unusual();
    }
  }
  return new PackedStatus(texts, status, pack(containerId, phases.text));
}

function networkOf(bytes: Buffer): TaskNetwork {
  const { networkId, address, aliases } = fromBinary(TaskNetworkSchema, bytes);
  return { networkId, address, aliases };
}

function readLabel(reader: Reader): readonly [string, string] {
  let key = '';
  let value = '';
  while (reader.at < reader.end) {
    const field = reader.number();
    if (field === tag(1, LENGTH)) key = reader.text();
    else if (field === tag(2, LENGTH)) value = reader.text();
    else throw new Unusual();
  }
  // A key that means something else to an object.
  if (key === '__proto__') throw new Unusual();
  return [key, value];
}

interface Lists {
  readonly labels: Record<string, string>;
  readonly networks: TaskNetwork[];
  readonly ports: PortConfig[];
  readonly resources: GenericResource[];
}

type Fields = Mutable<Omit<Task, 'spec' | 'status'>> & { spec?: TaskSpec; status?: TaskStatus };

function readTask(reader: Reader, task: Fields, lists: Lists): void {
  while (reader.at < reader.end) {
    switch (reader.number()) {
      case tag(1, LENGTH):
        task.serviceId = reader.text();
        break;
      case tag(2, LENGTH):
        task.serviceName = reader.text();
        break;
      case tag(3, VARINT):
        task.slot = wordOf(reader.number());
        break;
      case tag(4, VARINT):
        task.generation = reader.number();
        break;
      case tag(5, LENGTH):
        task.nodeId = reader.text();
        break;
      case tag(6, LENGTH):
        if (task.spec !== undefined) throw new Unusual();
        task.spec = specOf(reader.bytes());
        break;
      case tag(7, LENGTH): {
        const [key, value] = reader.part(readLabel);
        lists.labels[key] = value;
        break;
      }
      case tag(8, VARINT):
        task.specVersion = reader.number();
        break;
      case tag(9, VARINT):
        task.desiredState = stateOf(reader.number());
        break;
      case tag(10, LENGTH):
        if (task.status !== undefined) throw new Unusual();
        task.status = reader.part(readStatus);
        break;
      case tag(11, LENGTH):
        lists.networks.push(networkOf(reader.bytes()));
        break;
      case tag(12, LENGTH):
        lists.ports.push(portFromWire(fromBinary(PortConfigSchema, reader.bytes())));
        break;
      case tag(13, VARINT):
        task.notBeforeMs = reader.number();
        break;
      case tag(60, LENGTH):
        task.movedFrom = reader.text();
        break;
      case tag(20, VARINT):
        task.jobIteration = reader.number();
        break;
      case tag(21, LENGTH):
        lists.resources.push(genericFromWire(fromBinary(GenericResourceSchema, reader.bytes())));
        break;
      default:
        throw new Unusual();
    }
  }
}

function read(reader: Reader): Task {
  const lists: Lists = { labels: {}, networks: [], ports: [], resources: [] };
  const task: Fields = {
    id: '',
    version: 0,
    createdAtMs: 0,
    updatedAtMs: 0,
    serviceId: '',
    serviceName: '',
    slot: 0,
    generation: 0,
    nodeId: '',
    serviceLabels: lists.labels,
    specVersion: 0,
    desiredState: 0,
    networks: lists.networks,
    ports: lists.ports,
    notBeforeMs: 0,
    movedFrom: '',
    jobIteration: undefined,
    genericResources: lists.resources,
  };
  let found = false;
  while (reader.at < reader.end) {
    switch (reader.number()) {
      case tag(1, LENGTH):
        task.id = reader.text();
        break;
      case tag(2, VARINT):
        task.version = reader.number();
        break;
      case tag(3, VARINT):
        task.createdAtMs = reader.number();
        break;
      case tag(4, VARINT):
        task.updatedAtMs = reader.number();
        break;
      case tag(13, LENGTH):
        if (found) throw new Unusual();
        found = true;
        reader.part((inside) => readTask(inside, task, lists));
        break;
      default:
        throw new Unusual();
    }
  }
  const { spec, status } = task;
  if (!found || spec === undefined || status === undefined) throw new Unusual();
  return { ...task, spec, status };
}

/** The task of an object's bytes; undefined when they are for the general way. */
export function taskFromBytes(bytes: Uint8Array): Task | undefined {
  try {
    return read(new Reader(bytes));
  } catch {
    return undefined; // the general way says what is wrong, if anything is
  }
}
