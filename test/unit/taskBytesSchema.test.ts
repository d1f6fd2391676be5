/**
 * The encoder and the decoder of tasks that are written by hand, against the schema: every field of
 * every message they know is set, alone and with all others, and must come and go as the library
 * writes it. A field that the schema gains and one of them does not know fails here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type Message,
  ScalarType,
  toBinary,
} from '@bufbuild/protobuf';
import { Contents } from '../../manager/store/contents.ts';
import { taskRecord } from '../../manager/store/taskRecord.ts';
import { TaskState } from '../../model/taskState.ts';
import type { Task } from '../../model/types.ts';
import { taskFromBytes } from '../../proto/convert/taskBytes.ts';
import { decodeObject, encodeObject, RecordEncoder } from '../../proto/convert.ts';
import { Control } from '../../proto/services.ts';
import * as arbitraries from '../support/arbitraries.ts';
import { canonical } from '../support/canonical.ts';
import { fc } from '../support/properties.ts';

const OBJECT = Control.method.createData.output.field.object.message as DescMessage;

function messageOf(parent: DescMessage, localName: string): DescMessage {
  const field = parent.field[localName];
  assert.ok(field?.message !== undefined, `${parent.name}.${localName}`);
  return field.message;
}

const TASK = messageOf(OBJECT, 'task');
const STATUS = messageOf(TASK, 'status');
const NETWORK = messageOf(TASK, 'networks');

/** What a hand-written record is not made for: the general way encodes such a task. */
const RARE: ReadonlySet<string> = new Set(['ports', 'genericResources']);
/** Numbers and keys that are a task's state, not any number. */
const STATES: ReadonlySet<string> = new Set(['state', 'desiredState', 'phases']);
const STATE = TaskState.RUNNING;

/** Of each size a number has on the wire, and the largest. */
const WHOLES = [1, 127, 128, 16_384, 2 ** 32, Number.MAX_SAFE_INTEGER];
const TEXTS = ['a', 'é\u{1f600}', 'f'.repeat(64), 'x'.repeat(300)];

type Fields = Record<string, unknown>;

function scalar(type: ScalarType, turn: number): unknown {
  const whole = WHOLES[turn % WHOLES.length];
  switch (type) {
    case ScalarType.STRING:
      return TEXTS[turn % TEXTS.length];
    case ScalarType.BOOL:
      return true;
    case ScalarType.UINT32:
      return Math.min(whole, 0xffff_ffff);
    case ScalarType.INT32:
      return Math.min(whole, 0x7fff_ffff);
    case ScalarType.UINT64:
      return BigInt(whole);
    default:
      return assert.fail(`a scalar of type ${ScalarType[type]}: what is a value of it?`);
  }
}

const part = (field: DescField, turn: number): unknown => {
  switch (field.message?.name) {
    case 'TaskStatus':
      return create(STATUS, everyField(STATUS, turn));
    case 'TaskNetwork':
      return create(NETWORK, everyField(NETWORK, turn));
    default:
      return assert.fail(`${field.parent.name}.${field.name}: what is a value of it?`);
  }
};

function anyOf(field: DescField, turn: number, sample: Fields): unknown {
  if (STATES.has(field.localName) && field.fieldKind === 'scalar') return STATE;
  // Not written by hand, but once by the library: taken from a task.
  if (field.localName === 'spec' || RARE.has(field.localName)) return sample[field.localName];
  switch (field.fieldKind) {
    case 'scalar':
      return scalar(field.scalar, turn);
    case 'message':
      return part(field, turn);
    case 'list':
      return [0, 1].map((at) =>
        field.listKind === 'scalar' ? scalar(field.scalar, turn + at) : part(field, turn + at),
      );
    case 'map': {
      assert.equal(field.mapKind, 'scalar', field.name);
      const value = scalar(field.scalar as ScalarType, turn);
      return STATES.has(field.localName) ? { [STATE]: value } : { key: value };
    }
    default:
      return assert.fail(`${field.name}: what is a value of it?`);
  }
}

function everyField(type: DescMessage, turn: number, sample: Fields = {}): Fields {
  return Object.fromEntries(
    type.fields.map((field) => [field.localName, anyOf(field, turn, sample)]),
  );
}

/** A task's message as the library has it, with ports and other resources. */
function sampled(): Fields {
  const [plain] = fc.sample(
    arbitraries.task.filter(
      ({ ports, genericResources }) => ports.length > 0 && genericResources.length > 0,
    ),
    { numRuns: 1, seed: 11 },
  );
  const message = fromBinary(OBJECT, encodeObject('task', plain)) as unknown as {
    readonly body: { readonly value: Fields };
  };
  return message.body.value;
}

const sample = sampled();

/** An object's message that holds `task`; of its own fields those of `own`. */
function objectOf(task: Fields, own: Fields): Message {
  const body = { case: 'task', value: create(TASK, task as never) };
  return create(OBJECT, { ...own, body } as never);
}

/** What is always there. */
const LEAST: Fields = { spec: sample.spec, status: create(STATUS, {}) };
const encoder = new RecordEncoder();

function checkMessage(message: Message, what: string, isRare: boolean): void {
  const expected = Buffer.from(toBinary(OBJECT, message));
  const general = decodeObject(expected).object as Task;
  assert.deepEqual(Buffer.from(encodeObject('task', general)), expected, `${what}: encoded`);
  const read = taskFromBytes(expected);
  assert.ok(read !== undefined, `${what}: not read by hand`);
  assert.equal(canonical(read), canonical(general), `${what}: read`);
  for (const task of [general, read]) {
    encoder.encode('task', taskRecord(new Contents(), undefined, task, task), (bytes, start) => {
      // By hand it is written from the end of a buffer towards its beginning.
      assert.equal(start > 0, !isRare, `${what}: written by hand`);
      assert.deepEqual(Buffer.from(bytes.subarray(start)), expected, `${what}: written`);
    });
  }
}

const ownFields = (): DescField[] => OBJECT.fields.filter(({ oneof }) => oneof === undefined);

test('every field of a task that the schema knows is written and read by hand, alone', () => {
  for (let turn = 0; turn < WHOLES.length; turn += 1) {
    for (const field of TASK.fields) {
      const name = field.localName;
      const task = { ...LEAST, [name]: anyOf(field, turn, sample) };
      checkMessage(objectOf(task, {}), `Task.${name}`, RARE.has(name));
    }
    for (const field of STATUS.fields) {
      const status = create(STATUS, { [field.localName]: anyOf(field, turn, {}) });
      checkMessage(objectOf({ ...LEAST, status }, {}), `TaskStatus.${field.localName}`, false);
    }
    for (const field of NETWORK.fields) {
      const network = create(NETWORK, { [field.localName]: anyOf(field, turn, {}) });
      const networks = [network, network];
      checkMessage(objectOf({ ...LEAST, networks }, {}), `TaskNetwork.${field.localName}`, false);
    }
    for (const field of ownFields()) {
      const own = { [field.localName]: anyOf(field, turn, {}) };
      checkMessage(objectOf(LEAST, own), `Object.${field.localName}`, false);
    }
  }
});

test('all fields of a task that the schema knows are written and read by hand, together', () => {
  for (let turn = 0; turn < WHOLES.length; turn += 1) {
    const own = Object.fromEntries(
      ownFields().map((field) => [field.localName, anyOf(field, turn, {})]),
    );
    const all = everyField(TASK, turn, sample);
    checkMessage(objectOf(all, own), 'all', true);
    const usual = Object.entries(all).filter(([name]) => !RARE.has(name));
    checkMessage(objectOf(Object.fromEntries(usual), own), 'all that is usual', false);
  }
});

test('times that the wire has no number for are refused by their name, in phases, too', () => {
  const [plain] = fc.sample(arbitraries.task, { numRuns: 1, seed: 12 });
  const usual = { ...plain, ports: [], genericResources: [] };
  const wrong: readonly Partial<Task['status']>[] = [
    { atMs: -1 },
    { phases: { [STATE]: -1 } },
    { phases: { 64: 5, 512: -3 } },
  ];
  for (const times of wrong) {
    const task: Task = { ...usual, status: { ...plain.status, ...times } };
    const record = taskRecord(new Contents(), undefined, task, task);
    assert.throws(() => encodeObject('task', task), /(phase|atMs): -\d+ is not a whole number/);
    assert.throws(
      () => encoder.encode('task', record, () => {}),
      /(phase|atMs): -\d+ is not a whole number/,
    );
  }
});
