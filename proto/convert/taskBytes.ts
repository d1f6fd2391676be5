/**
 * Tasks read from their bytes by hand: a snapshot may hold a million, and reading them through
 * descriptors takes ten times as long. The specification, most of the bytes, is decoded once for
 * all tasks that hold the same bytes. Whatever is not just as encodeObject writes it is left to the
 * general way (decodeObject), with its checks and its errors; both give the same.
 */
import { crc32 } from 'node:zlib';
import { fromBinary } from '@bufbuild/protobuf';
import { PackedStatus, Packer, SharedTexts, type UnpackedPart } from '../../model/packedStatus.ts';
import { isTaskState, type TaskState } from '../../model/taskState.ts';
import type {
  GenericResource,
  Labels,
  PortConfig,
  Task,
  TaskNetwork,
  TaskSpec,
  TaskStatus,
} from '../../model/types.ts';
import {
  GenericResourceSchema,
  PortConfigSchema,
  TaskSpecSchema,
} from '../gen/tsswarm/v1/objects_pb.js';
import { Reader, Unusual } from './reader.ts';
import { genericFromWire, portFromWire, taskSpecFromWire } from './specs/service.ts';

/** Specifications remembered; a cluster has a few for each service. */
const SPECS_MAX = 4096;

const VARINT = 0;
const LENGTH = 2;

const tag = (field: number, type: number): number => field * 8 + type;

interface Known {
  readonly bytes: Buffer;
  readonly spec: TaskSpec;
}

const texts = new SharedTexts();
const packer = new Packer();
const knownSpecs = new Map<number, Known>();
/** Of a service's last task: the next one's is mostly the same. */
const lastSpecs = new Map<string, Known>();

function specOf(reader: Reader, serviceId: string): TaskSpec {
  const length = reader.length();
  const start = reader.at;
  reader.at += length;
  const last = lastSpecs.get(serviceId);
  if (last?.bytes.compare(reader.bytes, start, reader.at) === 0) return last.spec;
  const known = knownSpec(reader.bytes.subarray(start, reader.at));
  if (lastSpecs.size >= SPECS_MAX) lastSpecs.clear();
  lastSpecs.set(serviceId, known);
  return known.spec;
}

function knownSpec(bytes: Buffer): Known {
  const sum = crc32(bytes);
  const known = knownSpecs.get(sum);
  if (known?.bytes.equals(bytes) === true) return known;
  const spec = taskSpecFromWire(fromBinary(TaskSpecSchema, bytes));
  const made = { bytes: Buffer.from(bytes), spec };
  if (knownSpecs.size >= SPECS_MAX) knownSpecs.clear();
  knownSpecs.set(sum, made);
  return made;
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

function readPhase(reader: Reader): void {
  const after = reader.enter();
  let state = 0;
  let atMs = 0;
  while (reader.at < reader.end) {
    const field = reader.number();
    if (field === tag(1, VARINT)) state = stateOf(reader.number());
    else if (field === tag(2, VARINT)) atMs = reader.number();
    else throw new Unusual();
  }
  reader.leave(after);
  if (!packer.phase(state, atMs)) throw new Unusual();
}

function readContainerId(reader: Reader): void {
  const start = reader.at;
  const length = reader.length();
  if (packer.containerIdBytes(reader.bytes, reader.at, reader.at + length)) {
    reader.at += length;
    return;
  }
  reader.at = start;
  packer.containerId(reader.ownText());
}

function readStatus(reader: Reader): TaskStatus {
  const after = reader.enter();
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
  packer.begin();
  // What is packed comes once and in its order: the id, then phases.
  let hasId = false;
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
        if (hasId) throw new Unusual();
        hasId = true;
        readContainerId(reader);
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
        hasId = true;
        readPhase(reader);
        break;
      default:
        throw new Unusual();
    }
  }
  reader.leave(after);
  return new PackedStatus(texts, status, packer.take());
}

const NO_ALIASES: readonly string[] = [];

function readNetwork(reader: Reader): TaskNetwork {
  const after = reader.enter();
  let networkId = '';
  let address = '';
  let aliases: string[] | undefined;
  while (reader.at < reader.end) {
    switch (reader.number()) {
      case tag(1, LENGTH):
        networkId = reader.text();
        break;
      case tag(2, LENGTH):
        address = reader.ownText();
        break;
      case tag(3, LENGTH):
        aliases ??= [];
        aliases.push(reader.text());
        break;
      default:
        throw new Unusual();
    }
  }
  reader.leave(after);
  return { networkId, address, aliases: aliases ?? NO_ALIASES };
}

function readLabel(reader: Reader, labels: Record<string, string>): void {
  const after = reader.enter();
  let key = '';
  let value = '';
  while (reader.at < reader.end) {
    const field = reader.number();
    if (field === tag(1, LENGTH)) key = reader.text();
    else if (field === tag(2, LENGTH)) value = reader.text();
    else throw new Unusual();
  }
  reader.leave(after);
  // A key that means something else to an object.
  if (key === '__proto__') throw new Unusual();
  labels[key] = value;
}

const NO_LABELS: Labels = {};
const NO_NETWORKS: readonly TaskNetwork[] = [];
const NO_PORTS: readonly PortConfig[] = [];
const NO_RESOURCES: readonly GenericResource[] = [];

/** Lists that are empty, as most are, are made for nobody. */
interface Lists {
  labels?: Record<string, string>;
  networks?: TaskNetwork[];
  ports?: PortConfig[];
  resources?: GenericResource[];
}

type Fields = Mutable<Task>;

function readTask(reader: Reader, task: Fields): void {
  const after = reader.enter();
  const lists: Lists = {};
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
        if (task.spec !== NO_SPEC) throw new Unusual();
        task.spec = specOf(reader, task.serviceId);
        break;
      case tag(7, LENGTH):
        lists.labels ??= {};
        readLabel(reader, lists.labels);
        break;
      case tag(8, VARINT):
        task.specVersion = reader.number();
        break;
      case tag(9, VARINT):
        task.desiredState = stateOf(reader.number());
        break;
      case tag(10, LENGTH):
        if (task.status !== NO_STATUS) throw new Unusual();
        task.status = readStatus(reader);
        break;
      case tag(11, LENGTH):
        lists.networks ??= [];
        lists.networks.push(readNetwork(reader));
        break;
      case tag(12, LENGTH):
        lists.ports ??= [];
        lists.ports.push(portFromWire(fromBinary(PortConfigSchema, reader.part())));
        break;
      case tag(13, VARINT):
        task.notBeforeMs = reader.number();
        break;
      case tag(60, LENGTH):
        task.movedFrom = reader.ownText();
        break;
      case tag(20, VARINT):
        task.jobIteration = reader.number();
        break;
      case tag(21, LENGTH):
        lists.resources ??= [];
        lists.resources.push(genericFromWire(fromBinary(GenericResourceSchema, reader.part())));
        break;
      default:
        throw new Unusual();
    }
  }
  reader.leave(after);
  if (lists.labels !== undefined) task.serviceLabels = lists.labels;
  if (lists.networks !== undefined) task.networks = lists.networks;
  if (lists.ports !== undefined) task.ports = lists.ports;
  if (lists.resources !== undefined) task.genericResources = lists.resources;
}

/** None was read yet. */
const NO_SPEC = {} as TaskSpec;
const NO_STATUS = {} as TaskStatus;

function read(reader: Reader): Task {
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
    spec: NO_SPEC,
    serviceLabels: NO_LABELS,
    specVersion: 0,
    desiredState: 0,
    status: NO_STATUS,
    networks: NO_NETWORKS,
    ports: NO_PORTS,
    notBeforeMs: 0,
    movedFrom: '',
    jobIteration: undefined,
    genericResources: NO_RESOURCES,
  };
  let found = false;
  while (reader.at < reader.end) {
    switch (reader.number()) {
      case tag(1, LENGTH):
        task.id = reader.ownText();
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
        readTask(reader, task);
        break;
      default:
        throw new Unusual();
    }
  }
  if (task.spec === NO_SPEC || task.status === NO_STATUS) throw new Unusual();
  return task;
}

const reader = new Reader();

/** The task of an object's bytes; undefined when they are for the general way. */
export function taskFromBytes(bytes: Uint8Array): Task | undefined {
  try {
    reader.begin(bytes);
    return read(reader);
  } catch {
    return undefined; // the general way says what is wrong, if anything is
  }
}
