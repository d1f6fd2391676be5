/**
 * Records for a snapshot, very many one after another: tasks are written by hand as they are
 * stored, nothing of them unpacked or made into messages, their specification encoded once for all
 * that share it. The bytes are those of encodeObject, which is asked for all that is not usual.
 */
import { HEX_CHARACTERS, PackedStatus, Unpacker } from '../../model/packedStatus.ts';
import type { TableName, Tables, Task, TaskNetwork, TaskSpec } from '../../model/types.ts';
import {
  encodeByHand,
  encodeMessage,
  raw,
  type TakeBytes,
  text,
  varint,
  written,
} from '../encode.ts';
import { TaskSpecSchema } from '../gen/tsswarm/v1/objects_pb.js';
import { encodeObject } from './objects.ts';
import { taskSpecToWire } from './specs/service.ts';

/** Specifications whose bytes are kept; a cluster has a few for each service. */
const SPECS_MAX = 4096;

const VARINT = 0;
const LENGTH = 2;
const UINT32_MAX = 0xffff_ffff;
const INT32_MAX = 0x7fff_ffff;

const unpacker = new Unpacker();
const digits = new Uint8Array(HEX_CHARACTERS);

/** For one snapshot. */
export class RecordEncoder {
  readonly #specs = new Map<TaskSpec, Uint8Array>();

  /** `take` is given a buffer that ends with the bytes, and where they begin; it copies them. */
  encode<T extends TableName>(table: T, object: Tables[T], take: TakeBytes): void {
    const task = table === 'task' ? (object as Task) : undefined;
    const status = task?.status;
    if (
      task === undefined ||
      !(status instanceof PackedStatus) ||
      !isUsual(task) ||
      !unpackPhases(status)
    ) {
      const { buffer, byteOffset, length } = encodeObject(table, object);
      take(Buffer.from(buffer, byteOffset, length), 0);
      return;
    }
    const spec = this.#spec(task.spec);
    encodeByHand(() => writeObject(task, status, spec), take);
  }

  #spec(spec: TaskSpec): Uint8Array {
    const known = this.#specs.get(spec);
    if (known !== undefined) return known;
    if (this.#specs.size >= SPECS_MAX) this.#specs.clear();
    const bytes = encodeMessage(TaskSpecSchema, taskSpecToWire(spec));
    this.#specs.set(spec, bytes);
    return bytes;
  }
}

function isUsual(task: Task): boolean {
  const { status } = task;
  return (
    task.ports.length === 0 &&
    task.genericResources.length === 0 &&
    isWhole(task.version) &&
    isWhole(task.createdAtMs) &&
    isWhole(task.updatedAtMs) &&
    isWhole(task.generation) &&
    isWhole(task.specVersion) &&
    isWhole(task.notBeforeMs) &&
    isWhole(task.jobIteration ?? 0) &&
    isWord(task.slot) &&
    isWord(task.desiredState) &&
    isWhole(status.atMs) &&
    isWord(status.state) &&
    isWord(status.pid) &&
    isWord(status.exitCode) &&
    status.exitCode <= INT32_MAX
  );
}

/** For writeStatus; false where a time is none that the wire has. */
function unpackPhases(status: PackedStatus): boolean {
  unpacker.phases(PackedStatus.packed(status));
  for (let at = 0; at < unpacker.count; at += 1) {
    if (!isWhole(unpacker.timesMs[at])) return false;
  }
  return true;
}

function isWhole(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}

function isWord(value: number): boolean {
  return isWhole(value) && value <= UINT32_MAX;
}

// ---- fields, from the last to the first --------------------------------------------------------

function number(field: number, value: number): void {
  if (value === 0) return;
  varint(value);
  varint(field * 8 + VARINT);
}

function string(field: number, value: string, where: string): void {
  if (value !== '') anyString(field, value, where);
}

function anyString(field: number, value: string, where: string): void {
  text(value, where);
  varint(field * 8 + LENGTH);
}

/** A part that began when `before` was written. */
function part(field: number, before: number): void {
  varint(written() - before);
  varint(field * 8 + LENGTH);
}

function writeObject(task: Task, status: PackedStatus, spec: Uint8Array): void {
  writeTask(task, status, spec);
  part(13, 0);
  number(4, task.updatedAtMs);
  number(3, task.createdAtMs);
  number(2, task.version);
  string(1, task.id, 'Object.id');
}

function writeTask(task: Task, status: PackedStatus, spec: Uint8Array): void {
  string(60, task.movedFrom, 'Task.movedFrom');
  if (task.jobIteration !== undefined) {
    varint(task.jobIteration);
    varint(20 * 8 + VARINT);
  }
  number(13, task.notBeforeMs);
  for (let at = task.networks.length - 1; at >= 0; at -= 1) {
    const before = written();
    writeNetwork(task.networks[at]);
    part(11, before);
  }
  const before = written();
  writeStatus(status);
  part(10, before);
  number(9, task.desiredState);
  number(8, task.specVersion);
  writeLabels(task.serviceLabels);
  const beforeSpec = written();
  raw(spec);
  part(6, beforeSpec);
  string(5, task.nodeId, 'Task.nodeId');
  number(4, task.generation);
  number(3, task.slot);
  string(2, task.serviceName, 'Task.serviceName');
  string(1, task.serviceId, 'Task.serviceId');
}

function writeNetwork({ networkId, address, aliases }: TaskNetwork): void {
  for (let at = aliases.length - 1; at >= 0; at -= 1) {
    anyString(3, aliases[at], 'TaskNetwork.aliases');
  }
  string(2, address, 'TaskNetwork.address');
  string(1, networkId, 'TaskNetwork.networkId');
}

function writeLabels(labels: Readonly<Record<string, string>>): void {
  const keys = Object.keys(labels);
  for (let at = keys.length - 1; at >= 0; at -= 1) {
    const before = written();
    anyString(2, labels[keys[at]], 'Task.serviceLabels');
    anyString(1, keys[at], 'Task.serviceLabels');
    part(7, before);
  }
}

/** Its phases are those unpacked last. */
function writeStatus(status: PackedStatus): void {
  for (let at = unpacker.count - 1; at >= 0; at -= 1) {
    const before = written();
    varint(unpacker.timesMs[at]);
    varint(2 * 8 + VARINT);
    varint(unpacker.states[at]);
    varint(1 * 8 + VARINT);
    part(10, before);
  }
  string(9, status.gatewayAddress, 'TaskStatus.gatewayAddress');
  number(8, status.oomKilled ? 1 : 0);
  number(7, status.exitCode);
  number(6, status.pid);
  if (unpacker.containerId(PackedStatus.packed(status), digits)) {
    raw(digits);
    varint(HEX_CHARACTERS);
    varint(5 * 8 + LENGTH);
  } else {
    string(5, status.containerId, 'TaskStatus.containerId');
  }
  string(4, status.error, 'TaskStatus.error');
  string(3, status.message, 'TaskStatus.message');
  number(2, status.atMs);
  number(1, status.state);
}
