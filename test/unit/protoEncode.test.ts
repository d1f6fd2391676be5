/** The project's own protobuf encoder against the library's: the same bytes, whatever is written. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, type DescMessage, fromBinary, type Message, toBinary } from '@bufbuild/protobuf';
import type { TableName, Tables } from '../../model/types.ts';
import { encodeLogEntry, encodeObject } from '../../proto/convert.ts';
import { encodeBriefly, encodeMessage } from '../../proto/encode.ts';
import { Control, Dispatcher, Host, Raft } from '../../proto/services.ts';
import * as any from '../support/arbitraries.ts';
import { fc } from '../support/properties.ts';

const RUNS = { numRuns: 40 };

/** An object as it stands in answers and in the log. */
const OBJECT = Control.method.createData.output.field.object.message as DescMessage;

function same(type: DescMessage, message: Message): void {
  const expected = Buffer.from(toBinary(type, message)).toString('hex');
  assert.equal(Buffer.from(encodeMessage(type, message)).toString('hex'), expected);
  assert.equal(encodeBriefly(type, message).toString('hex'), expected);
}

function sameObjects<T extends TableName>(table: T, objects: fc.Arbitrary<Tables[T]>): void {
  fc.assert(
    fc.property(objects, (object) => {
      const bytes = encodeObject(table, object);
      const message = fromBinary(OBJECT, bytes);
      // From a plain object first, from a message then.
      assert.deepEqual(Buffer.from(bytes), Buffer.from(toBinary(OBJECT, message)));
      same(OBJECT, message);
    }),
    RUNS,
  );
}

test('objects of every table have the bytes that the library gives them', () => {
  sameObjects('cluster', any.cluster);
  sameObjects('node', any.node);
  sameObjects('service', any.service);
  sameObjects('task', any.task);
  sameObjects('network', any.network);
  sameObjects('secret', any.secret);
  sameObjects('config', any.config);
});

test('empty messages of every call can be encoded: all types of fields are known', () => {
  for (const service of [Control, Dispatcher, Host, Raft]) {
    for (const { input, output } of service.methods) {
      for (const type of [input, output] as DescMessage[]) same(type, create(type));
    }
  }
});

test('numbers of any size and sign, and text of any kind, are as the library writes them', () => {
  const { input } = Control.method.updateData;
  const { output } = Control.method.leaderStatus;
  const big = [0n, 1n, 127n, 128n, 2n ** 32n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n];
  for (const version of big) same(input, create(input, { table: 'config', version }));
  for (const text of ['', 'a', 'é', '\u{1f600}', '\ud800', 'x'.repeat(23), 'é'.repeat(5000)]) {
    same(input, create(input, { id: text, spec: { name: text, labels: { [text]: text } } }));
  }
  const members = big.map((raftId) => ({ raftId, reachable: true, lag: raftId }));
  same(output, create(output, { members }));
});

test('a message beyond the buffer makes it larger, and one after it is right again', () => {
  const { input } = Control.method.createData;
  const data = Buffer.alloc(3_000_000, 'd');
  same(input, create(input, { table: 'secret', spec: { name: 'large', data } }));
  same(input, create(input, { table: 'secret', spec: { name: 'small' } }));
});

test('fields of a newer version are kept', () => {
  const { input } = Control.method.removeData;
  const bytes = Buffer.from([0x0a, 1, 0x78, 0xf8, 0x07, 5, 0xfa, 0x07, 2, 0x61, 0x62]);
  const message = fromBinary(input, bytes);
  assert.deepEqual(Buffer.from(encodeMessage(input, message)), bytes);
});

test('a value that is none of its type is refused by its field', () => {
  const { input } = Control.method.removeData;
  const wrong = { table: 5 } as unknown as { table: string };
  assert.throws(() => encodeMessage(input, wrong), /RemoveDataRequest.table: 5 is none/);
  const entry = { atomic: true, atMs: 5, changes: [] };
  assert.deepEqual(Buffer.from(encodeLogEntry(entry)), Buffer.from([0x08, 1, 0x10, 5]));
});
