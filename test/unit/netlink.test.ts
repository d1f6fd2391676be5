/** Netlink attributes as bytes, and messages as values. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipBytes, ipText } from '../../base/ipAddress.ts';
import {
  attributeText,
  be16,
  decodeAttributes,
  encodeAttributes,
  u8,
  u16,
} from '../../runtime/sys/netlink.ts';
import { addAddress, addVeth, macBytes, macText, putRoute } from '../../runtime/sys/rtnetlink.ts';
import { fc } from '../support/properties.ts';

test('attributes survive the way to bytes and back, whatever their length', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 0x3fff }), { maxLength: 8 }),
      fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 8, maxLength: 8 }),
      (types, values) => {
        const bytes = encodeAttributes(types.map((type, at) => [type, values[at]]));
        assert.equal(bytes.length % 4, 0);
        const decoded = decodeAttributes(bytes, 0);
        assert.equal(decoded.size, types.length);
        types.forEach((type, at) => {
          assert.deepEqual([...(decoded.get(type) ?? [])], [...values[at]]);
        });
      },
    ),
  );
});

test('numbers, text and nested attributes are written as the kernel reads them', () => {
  const bytes = encodeAttributes([
    [1, 0x01020304],
    [2, 'eth0'],
    [3, [[4, u8(7)]]],
  ]);
  assert.equal(
    bytes.toString('hex'),
    '0800010004030201' + '0900020065746830' + '00000000' + '0c000380' + '0500040007000000',
  );
  const decoded = decodeAttributes(bytes, 0);
  assert.equal(attributeText(decoded.get(2)), 'eth0');
  assert.deepEqual([...(decodeAttributes(decoded.get(3) ?? bytes, 0).get(4) ?? [])], [7]);
  assert.deepEqual([...u16(0x1234)], [0x34, 0x12]);
  assert.deepEqual([...be16(0x1234)], [0x12, 0x34]);
});

test('a torn attribute ends the list and nothing else', () => {
  const whole = encodeAttributes([
    [1, 5],
    [2, 6],
  ]);
  for (let length = 0; length < whole.length; length += 1) {
    assert.ok(decodeAttributes(whole.subarray(0, length), 0).size <= 2);
  }
  assert.equal(decodeAttributes(Buffer.from([1, 0, 0, 0]), 0).size, 0);
});

test('addresses and MACs survive the way to bytes and back', () => {
  assert.equal(ipText(ipBytes('192.0.2.255')), '192.0.2.255');
  assert.equal(macText(macBytes('02:74:73:00:0a:ff')), '02:74:73:00:0a:ff');
});

test('a message says what it does, for errors', () => {
  const route = { destination: '10.0.0.0', prefixLength: 8, linkIndex: 3, gateway: '', source: '' };
  assert.equal(putRoute({ ...route, table: 254 }).what, 'add route 10.0.0.0/8');
  assert.equal(addAddress(3, '10.0.0.1', 24).what, 'add address 10.0.0.1/24');
  assert.equal(addVeth({ name: 'a' }, { name: 'b' }).what, 'add link a');
});
