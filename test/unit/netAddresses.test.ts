/** Addresses that follow from a host's index: unique, in range, and refused when out of it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalAddress } from '../../base/ipAddress.ts';
import {
  counterpart,
  freeIn,
  parseRange,
  rangesOverlap,
  uniqueLocalSubnet,
} from '../../base/ipRange.ts';
import {
  addressToNumber,
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
import { fillBridge, type Taken } from '../../runtime/net/bridge.ts';
import type { BridgeNetwork } from '../../runtime/net/types.ts';
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

test('subnets of either family overlap when they share an address', () => {
  assert.ok(subnetsOverlap(parseSubnet('0.0.0.0/0'), parseSubnet('10.0.0.0/8')));
  assert.ok(rangesOverlap(parseRange('fd00::/8'), parseRange('fd12:3::/64')));
  assert.ok(!rangesOverlap(parseRange('fd00:1::/64'), parseRange('fd00:2::/64')));
  assert.ok(!rangesOverlap(parseRange('0.0.0.0/0'), parseRange('::/0')));
});

const free: Taken = { networks: [], routes: [] };
const wanted: BridgeNetwork = {
  networkId: 'n',
  name: 'n',
  subnets: [],
  internal: false,
  options: {},
};

function filled(changes: Partial<BridgeNetwork>, taken = free): string[] {
  const { subnets } = fillBridge({ ...wanted, ...changes }, taken, 'fd12:3456::/64');
  return subnets.map((one) => `${one.subnet} ${one.gateway}`);
}

test('a bridge without a subnet takes the first pool that nothing of this host overlaps', () => {
  assert.deepEqual(filled({}), ['172.17.0.0/16 172.17.0.1']);
  const routes = ['172.17.0.0/16', '172.18.5.0/24', '0.0.0.0/2'].map(parseRange);
  assert.deepEqual(filled({}, { networks: [], routes }), ['172.19.0.0/16 172.19.0.1']);
  const all = { networks: [], routes: [parseRange('172.16.0.0/12')] };
  assert.deepEqual(filled({}, all), ['192.168.0.0/20 192.168.0.1']);
  const none = { networks: [], routes: [parseRange('0.0.0.0/0')] };
  assert.throws(() => filled({}, none), { code: 'exhausted' });
});

test('a bridge gets an IPv6 subnet when asked for, of its own choice or as given', () => {
  const none = { subnet: '', gateway: '', range: '' };
  assert.deepEqual(filled({ subnets: [none, none] }), [
    '172.17.0.0/16 172.17.0.1',
    'fd12:3456::/64 fd12:3456::1',
  ]);
  const given = { subnet: 'FD00:0:0:7::/64', gateway: 'fd00:0:0:7::ff', range: '' };
  assert.deepEqual(filled({ subnets: [given] })[1], 'fd00:0:0:7::/64 fd00:0:0:7::ff');
});

test('a subnet that overlaps another network or takes a route away is refused by name', () => {
  const subnets = [{ subnet: '10.9.0.0/16', gateway: '', range: '' }];
  const networks = [{ range: parseRange('10.9.1.0/24'), name: 'network web' }];
  assert.throws(
    () => filled({ subnets }, { networks, routes: [] }),
    /10\.9\.1\.0\/24 of network web/,
  );
  const routes = [parseRange('10.9.8.0/24')];
  assert.throws(() => filled({ subnets }, { networks: [], routes }), /routes elsewhere/);
  assert.deepEqual(filled({ subnets }, { networks: [], routes: [parseRange('10.0.0.0/8')] }), [
    '10.9.0.0/16 10.9.0.1',
  ]);
});

test('gateway, range and options of a bridge are checked', () => {
  const subnet = '10.9.0.0/24';
  const bad = (one: object): void => {
    const subnets = [{ subnet, gateway: '', range: '', ...one }];
    assert.throws(() => filled({ subnets }), { code: 'invalid' });
  };
  bad({ gateway: '10.8.0.1' });
  bad({ gateway: '10.9.0.255' });
  bad({ range: '10.8.0.0/25' });
  bad({ subnet: 'ten' });
  const option = (key: string, value: string) => ({ [`com.docker.network.${key}`]: value });
  assert.throws(() => filled({ options: option('driver.mtu', 'big') }), { code: 'invalid' });
  assert.throws(() => filled({ options: option('bridge.name', 'a/b') }), { code: 'invalid' });
  assert.throws(() => filled({ options: option('bridge.new', '1') }), { code: 'unsupported' });
});

test('the lowest free address of a range is given, never its first, last or a taken one', () => {
  const subnet = parseRange('10.9.0.0/29');
  const used = new Set(['10.9.0.1', '10.9.0.2']);
  assert.equal(freeIn(subnet, subnet, used), '10.9.0.3');
  for (let at = 3; at <= 6; at += 1) used.add(`10.9.0.${at}`);
  assert.throws(() => freeIn(subnet, subnet, used), { code: 'exhausted' });
  assert.equal(
    freeIn(parseRange('fd00::/64'), parseRange('fd00::/64'), new Set(['fd00::1'])),
    'fd00::2',
  );
});

test('an IPv6 address goes with each IPv4 one of the same network', () => {
  assert.equal(counterpart('10.0.1.0/24', '10.0.1.17', 'fd00:9::/64'), 'fd00:9::11');
  assert.equal(counterpart('10.0.1.0/24', '10.0.1.17', ''), '');
  assert.match(uniqueLocalSubnet('a'), /^fd[0-9a-f:]+::\/64$/);
  assert.notEqual(uniqueLocalSubnet('a'), uniqueLocalSubnet('b'));
});

test('an IPv6 address has one text', () => {
  for (const [text, canonical] of [
    ['FE80:0:0:0:0:0:0:1', 'fe80::1'],
    ['::', '::'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:2:3:4:5:6:7:0', '1:2:3:4:5:6:7:0'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
  ]) {
    assert.equal(canonicalAddress(text), canonical);
  }
  assert.throws(() => canonicalAddress('1::2::3'), { code: 'invalid' });
});
