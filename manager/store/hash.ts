/**
 * A digest of everything the store holds, kept up as records change: the sum of one digest a
 * record, so a change costs the record before it and the one after, and the order of records,
 * changes or fields does not matter. Equal on replicas that applied the same entries. It finds
 * faults, not forgers: 64 bits, no key. A field that is undefined counts as absent. Records are
 * digested as they are stored: another form of the same task has another digest.
 */
import { PackedStatus } from '../../model/packedStatus.ts';
import type { AnyObject, TableName, Task, TaskStatus } from '../../model/types.ts';
import { TABLES } from './contents.ts';
import type { HashWords } from './hashHistory.ts';
import type { View } from './types.ts';

/** Changes with how digests are made; only digests of one scheme can be compared. */
export const HASH_SCHEME = 1;

/** Two lanes of 32 bits: as much as JavaScript multiplies at a time. */
type Lanes = readonly [high: number, low: number];

const TEXT: Lanes = [0x3c6ef372, 0x1b873593];
const BYTES: Lanes = [0x510e527f, 0x5be0cd19];
const NUMBER: Lanes = [0x243f6a88, 0x13198a2e];
const TRUE: Lanes = [0x452821e6, 0x38d01377];
const FALSE: Lanes = [0x3f84d5b5, 0x47c2ef0d];
const NOTHING: Lanes = [0x2ffd72db, 0x71574e69];
const LIST: Lanes = [0x61c88647, 0x7fb5d329];
const FIELDS: Lanes = [0x2c1b3c6d, 0x297a2d39];
const HIGH_PRIME = 0x01000193;
const LOW_PRIME = 0x5bd1e995;

/** Records share these by reference (a thousand tasks, one specification): worked out once each. */
const SHARED = new Set(['spec', 'serviceLabels']);

const MUCH_DATA_BYTES = 4096;

const float = new Float64Array(1);
const words = new Uint32Array(float.buffer);

function spread(lane: number): number {
  let mixed = Math.imul(lane ^ (lane >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** Digests of values, one after another: `high` and `low` are those of the last. */
class Digester {
  high = 0;
  low = 0;
  /** Of the fields so far, where they are taken one by one. */
  #sumHigh = 0;
  #sumLow = 0;
  #remembers = true;
  readonly #shared = new WeakMap<object, Lanes>();

  record(table: TableName, object: AnyObject): void {
    // A secret's or config's specification is another's with every change: nothing to remember.
    this.#remembers = table !== 'secret' && table !== 'config';
    if (table !== 'task' || !this.#storedTask(object as Task)) {
      this.#fields(object as unknown as Record<string, unknown>);
    }
    const { high, low } = this;
    this.#text(table);
    this.#set(this.high ^ high, this.low ^ low);
  }

  /** What a name adds to the digest of its field. */
  name(name: string): Lanes {
    this.#text(name);
    return [Math.imul(this.high, HIGH_PRIME), Math.imul(this.low, LOW_PRIME)];
  }

  #set(high: number, low: number): void {
    this.high = spread(high);
    this.low = spread(low);
  }

  #take(lanes: Lanes): void {
    this.high = lanes[0];
    this.low = lanes[1];
  }

  #value(value: unknown): void {
    if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'number') this.#number(value);
    else if (typeof value === 'boolean') this.#take(value ? TRUE : FALSE);
    else if (value === null || value === undefined) this.#take(NOTHING);
    else if (Array.isArray(value)) this.#list(value);
    else if (value instanceof Uint8Array) this.#data(value);
    else this.#fields(value as Record<string, unknown>);
  }

  #text(text: string): void {
    let high = TEXT[0];
    let low = TEXT[1];
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      high = Math.imul(high ^ code, HIGH_PRIME);
      low = Math.imul(((low << 5) | (low >>> 27)) ^ code, LOW_PRIME);
    }
    this.#set(high, low);
  }

  /** Much of it is what stays when something else of its record changes. */
  #data(bytes: Uint8Array): void {
    if (bytes.length < MUCH_DATA_BYTES) this.#bytes(bytes);
    else this.#sharedValue(bytes);
  }

  #bytes(bytes: Uint8Array): void {
    let high = BYTES[0];
    let low = BYTES[1];
    for (const byte of bytes) {
      high = Math.imul(high ^ byte, HIGH_PRIME);
      low = Math.imul(((low << 5) | (low >>> 27)) ^ byte, LOW_PRIME);
    }
    this.#set(high, low);
  }

  #number(value: number): void {
    // One zero: it has a sign here and none on the wire.
    float[0] = value === 0 ? 0 : value;
    const high = Math.imul(NUMBER[0] ^ words[0], HIGH_PRIME) ^ words[1];
    const low = Math.imul(NUMBER[1] ^ words[1], LOW_PRIME) ^ words[0];
    this.#set(high, low);
  }

  #list(items: readonly unknown[]): void {
    let high = LIST[0];
    let low = LIST[1];
    for (const item of items) {
      this.#value(item);
      high = Math.imul(high, HIGH_PRIME) ^ this.high;
      low = Math.imul((low << 5) | (low >>> 27), LOW_PRIME) ^ this.low;
    }
    this.#set(high ^ items.length, low ^ items.length);
  }

  #fields(fields: Record<string, unknown>): void {
    let high = FIELDS[0];
    let low = FIELDS[1];
    const packed = fields instanceof PackedStatus ? PackedStatus.packed(fields) : undefined;
    for (const name in fields) {
      // Packed once, and never unpacked for this: one stands for both.
      if (packed !== undefined && name === 'containerId') continue;
      const value = packed !== undefined && name === 'phases' ? packed : fields[name];
      if (value === undefined) continue;
      const isShared = typeof value === 'object' && value !== null && SHARED.has(name);
      if (isShared && this.#remembers) this.#sharedValue(value);
      else this.#value(value);
      const valueHigh = this.high;
      const valueLow = this.low;
      this.#text(name);
      high = (high + spread(Math.imul(this.high, HIGH_PRIME) ^ valueHigh)) | 0;
      low = (low + spread(Math.imul(this.low, LOW_PRIME) ^ valueLow)) | 0;
    }
    this.#set(high, low);
  }

  /**
   * As #fields, without asking each of a million records for its fields' names: for a task as
   * stores keep it. False, and nothing is digested, where it has other fields.
   */
  #storedTask(task: Task): boolean {
    const { status } = task;
    if (!(status instanceof PackedStatus) || Object.keys(task).length !== TASK_FIELDS) return false;
    if (Object.keys(status).length !== STATUS_FIELDS) return false;
    this.#storedStatus(status);
    let { high, low } = this;
    high = (FIELDS[0] + spread(TASK.status[0] ^ high)) | 0;
    low = (FIELDS[1] + spread(TASK.status[1] ^ low)) | 0;
    this.#sumHigh = high;
    this.#sumLow = low;
    this.#textField(TASK.id, task.id);
    this.#numberField(TASK.version, task.version);
    this.#numberField(TASK.createdAtMs, task.createdAtMs);
    this.#numberField(TASK.updatedAtMs, task.updatedAtMs);
    this.#textField(TASK.serviceId, task.serviceId);
    this.#textField(TASK.serviceName, task.serviceName);
    this.#numberField(TASK.slot, task.slot);
    this.#numberField(TASK.generation, task.generation);
    this.#textField(TASK.nodeId, task.nodeId);
    this.#sharedValue(task.spec);
    this.#add(TASK.spec);
    this.#sharedValue(task.serviceLabels);
    this.#add(TASK.serviceLabels);
    this.#numberField(TASK.specVersion, task.specVersion);
    this.#numberField(TASK.desiredState, task.desiredState);
    this.#list(task.networks);
    this.#add(TASK.networks);
    this.#list(task.ports);
    this.#add(TASK.ports);
    this.#numberField(TASK.notBeforeMs, task.notBeforeMs);
    this.#textField(TASK.movedFrom, task.movedFrom);
    if (task.jobIteration !== undefined) this.#numberField(TASK.jobIteration, task.jobIteration);
    this.#list(task.genericResources);
    this.#add(TASK.genericResources);
    this.#set(this.#sumHigh, this.#sumLow);
    return true;
  }

  #storedStatus(status: PackedStatus): void {
    this.#sumHigh = FIELDS[0];
    this.#sumLow = FIELDS[1];
    this.#numberField(STATUS.state, status.state);
    this.#numberField(STATUS.atMs, status.atMs);
    this.#textField(STATUS.message, status.message);
    this.#textField(STATUS.error, status.error);
    this.#numberField(STATUS.pid, status.pid);
    this.#numberField(STATUS.exitCode, status.exitCode);
    this.#take(status.oomKilled ? TRUE : FALSE);
    this.#add(STATUS.oomKilled);
    this.#textField(STATUS.gatewayAddress, status.gatewayAddress);
    this.#textField(STATUS.phases, PackedStatus.packed(status));
    this.#set(this.#sumHigh, this.#sumLow);
  }

  #textField(name: Lanes, value: string): void {
    this.#text(value);
    this.#add(name);
  }

  #numberField(name: Lanes, value: number): void {
    this.#number(value);
    this.#add(name);
  }

  /** The last value as that of the field of this name. */
  #add(name: Lanes): void {
    this.#sumHigh = (this.#sumHigh + spread(name[0] ^ this.high)) | 0;
    this.#sumLow = (this.#sumLow + spread(name[1] ^ this.low)) | 0;
  }

  #sharedValue(value: object): void {
    const known = this.#shared.get(value);
    if (known === undefined) {
      if (value instanceof Uint8Array) this.#bytes(value);
      else this.#value(value);
      this.#shared.set(value, [this.high, this.low]);
    } else {
      this.#take(known);
    }
  }
}

const digester = new Digester();

/** What each of the fields is called. */
function names<K extends string>(...fields: readonly K[]): Readonly<Record<K, Lanes>> {
  const entries = fields.map((field) => [field, digester.name(field)] as const);
  return Object.fromEntries(entries) as Record<K, Lanes>;
}

const TASK: Readonly<Record<keyof Task, Lanes>> = names(
  'id',
  'version',
  'createdAtMs',
  'updatedAtMs',
  'serviceId',
  'serviceName',
  'slot',
  'generation',
  'nodeId',
  'spec',
  'serviceLabels',
  'specVersion',
  'desiredState',
  'status',
  'networks',
  'ports',
  'notBeforeMs',
  'movedFrom',
  'jobIteration',
  'genericResources',
);
const STATUS: Readonly<Record<keyof TaskStatus, Lanes>> = names(
  'state',
  'atMs',
  'message',
  'error',
  'containerId',
  'pid',
  'exitCode',
  'oomKilled',
  'gatewayAddress',
  'phases',
);
const TASK_FIELDS = Object.keys(TASK).length;
const STATUS_FIELDS = Object.keys(STATUS).length;

/** The digest of a growing and shrinking set of records. */
export class RecordsHash {
  #high = 0;
  #low = 0;

  add(table: TableName, object: AnyObject): void {
    digester.record(table, object);
    this.#high = (this.#high + digester.high) | 0;
    this.#low = (this.#low + digester.low) | 0;
  }

  /** `object` was added before. */
  drop(table: TableName, object: AnyObject): void {
    digester.record(table, object);
    this.#high = (this.#high - digester.high) | 0;
    this.#low = (this.#low - digester.low) | 0;
  }

  get words(): HashWords {
    return { high: this.#high, low: this.#low };
  }

  /** 16 hex digits. */
  get text(): string {
    return hashText(this.words);
  }
}

export function hashText({ high, low }: HashWords): string {
  return hex(high) + hex(low);
}

function hex(lane: number): string {
  return (lane >>> 0).toString(16).padStart(8, '0');
}

/** Of everything a view holds, worked out anew: reads every record. */
export function hashView(view: View): string {
  const hash = new RecordsHash();
  for (const table of TABLES) for (const object of view.all(table)) hash.add(table, object);
  return hash.text;
}
