/** Addresses that follow from a host's index: unique, in range, and refused when out of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addressToNumber,
  chooseDefaultBridge,
  endpointMac,
  formatSubnet,
  freeAddress,
  gatewayOf,
  gatewayRanges,
  gatewaySubnet,
  MAX_HOST_INDEX,
  numberToAddress,
  parseSubnet,
  subnetContains,
  subnetsOverlap,
  tunnelAddress,
  tunnelMac,
} from '../../runtime/net/addresses.ts';
import { fc } from '../support/properties.ts';

test('an address survives the way to a number and back', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => {
      assert.equal(addressToNumber(numberToAddress(value)), value);
    }),
  );
});

test('what is no address or subnet is refused by its text', () => {
  for (const text of ['', '10.0.0', '10.0.0.256', '10.0.0.1.2', 'a.b.c.d', '10.0.0.1/24']) {
    assert.throws(() => addressToNumber(text), { code: 'invalid' });
  }
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/2/4', '/24']) {
    assert.throws(() => parseSubnet(text), { code: 'invalid' });
  }
});

test('host bits of a subnet are cut off', () => {
  assert.equal(formatSubnet(parseSubnet('10.0.1.77/24')), '10.0.1.0/24');
  assert.equal(gatewayOf(parseSubnet('10.0.1.0/24')), '10.0.1.1');
  assert.equal(formatSubnet(parseSubnet('255.1.2.3/0')), '0.0.0.0/0');
});

test('every host index has its own tunnel address, MAC and gateway subnet', () => {
  const addresses = new Set<string>();
  const macs = new Set<string>();
  let end = -1;
  const subnets = [];
  for (let index = 1; index <= MAX_HOST_INDEX; index += 1) {
    addresses.add(tunnelAddress(index));
    macs.add(tunnelMac(index));
    subnets.push(gatewaySubnet(index));
  }
  assert.equal(addresses.size, MAX_HOST_INDEX);
  assert.equal(macs.size, MAX_HOST_INDEX);
  for (const subnet of subnets.sort((left, right) => left.base - right.base)) {
    assert.ok(subnet.base > end, formatSubnet(subnet));
    end = subnet.base + 2 ** (32 - subnet.prefixLength) - 1;
  }
});

test('small indexes have readable subnets, large ones wide ones', () => {
  assert.equal(formatSubnet(gatewaySubnet(7)), '10.254.7.0/24');
  assert.equal(formatSubnet(gatewaySubnet(255)), '10.254.255.0/24');
  assert.equal(formatSubnet(gatewaySubnet(256)), '240.16.0.0/20');
  assert.equal(formatSubnet(gatewaySubnet(65_535)), '255.255.240.0/20');
  assert.equal(tunnelAddress(258), '169.254.1.2');
  assert.equal(tunnelMac(258), '02:74:73:00:01:02');
  assert.deepEqual(gatewayRanges([1, 2]), ['10.254.0.0/16']);
  assert.deepEqual(gatewayRanges([1, 300]), ['10.254.0.0/16', '240.0.0.0/4']);
});

test('every gateway subnet lies in its range', () => {
  for (const index of [1, 255, 256, 30_000, 65_535]) {
    const [range] = gatewayRanges([index]);
    assert.ok(subnetContains(parseSubnet(range), gatewaySubnet(index).base));
  }
});

test('a host index out of range ends the process', () => {
  for (const index of [0, 65_536, 1.5, -1]) {
    assert.throws(() => gatewaySubnet(index), { name: 'AssertionError' });
  }
});

test('the lowest free address is given, until there is none', () => {
  const subnet = parseSubnet('10.9.0.0/29');
  const used = new Set<string>();
  for (const expected of ['10.9.0.2', '10.9.0.3', '10.9.0.4', '10.9.0.5', '10.9.0.6']) {
    const address = freeAddress(subnet, used);
    assert.equal(address, expected);
    used.add(address);
  }
  assert.throws(() => freeAddress(subnet, used), { code: 'exhausted' });
  used.delete('10.9.0.4');
  assert.equal(freeAddress(subnet, used), '10.9.0.4');
});

test('a MAC follows from the address', () => {
  assert.equal(endpointMac('10.0.1.255'), '02:42:0a:00:01:ff');
});

test('the default bridge avoids what the host routes already', () => {
  assert.equal(chooseDefaultBridge([]), '172.17.0.0/16');
  const docker = [parseSubnet('172.17.0.0/16'), parseSubnet('172.18.5.0/24')];
  assert.equal(chooseDefaultBridge(docker), '172.19.0.0/16');
  assert.throws(() => chooseDefaultBridge([parseSubnet('172.16.0.0/12')]), { code: 'exhausted' });
  assert.ok(subnetsOverlap(parseSubnet('0.0.0.0/0'), parseSubnet('10.0.0.0/8')));
});
