/** nftables tables as text: whole, and as the difference of two. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { droppingForwardChains } from '../../runtime/net/gateway.ts';
import {
  balance,
  createTable,
  diffTable,
  type NftTable,
  removeTable,
  replaceTable,
} from '../../runtime/net/table.ts';
import type { OverlayService, OverlayState } from '../../runtime/net/types.ts';
import { overlayTables } from '../../runtime/net/vip.ts';

function table(
  chains: Record<string, string[]>,
  services: Record<string, string>,
  fixed = 'map services { type ipv4_addr : verdict; }',
): NftTable {
  return {
    family: 'ip',
    name: 't',
    fixed,
    chains: new Map(Object.entries(chains)),
    elements: new Map([['services', new Map(Object.entries(services))]]),
  };
}

const one = table({ a: ['accept'] }, { '10.0.0.1': 'jump a' });

test('a table is created whole and replaced in one transaction', () => {
  const text = createTable(one);
  assert.equal(
    text,
    'table ip t {\nchain a {\naccept\n}\nmap services { type ipv4_addr : verdict; }\n}\n' +
      'add element ip t services { 10.0.0.1 : jump a }\n',
  );
  assert.equal(replaceTable(one), `${removeTable('ip', 't')}${text}`);
});

test('equal tables need no text; an unknown or different frame is replaced', () => {
  assert.equal(diffTable(one, table({ a: ['accept'] }, { '10.0.0.1': 'jump a' })), '');
  assert.equal(diffTable(undefined, one), replaceTable(one));
  const reframed = table({}, {}, 'set x { type ipv4_addr; }');
  assert.equal(diffTable(one, reframed), replaceTable(reframed));
});

test('a new chain comes before its element, an old one goes after it', () => {
  const two = table({ b: ['drop'] }, { '10.0.0.2': 'jump b' });
  assert.deepEqual(diffTable(one, two).trim().split('\n'), [
    'add chain ip t b',
    'add rule ip t b drop',
    'delete element ip t services { 10.0.0.1 : jump a }',
    'add element ip t services { 10.0.0.2 : jump b }',
    'delete chain ip t a',
  ]);
});

test('a changed chain is flushed and filled, nothing else is touched', () => {
  const changed = table({ a: ['drop', 'accept'] }, { '10.0.0.1': 'jump a' });
  assert.deepEqual(diffTable(one, changed).trim().split('\n'), [
    'flush chain ip t a',
    'add rule ip t a drop',
    'add rule ip t a accept',
  ]);
});

test('balancing over one target needs no numbers', () => {
  assert.equal(balance(['10.0.0.1']), 'dnat to 10.0.0.1');
  assert.equal(balance(['10.0.0.1 . 80']), 'dnat to 10.0.0.1:80');
  assert.equal(
    balance(['10.0.0.1', '10.0.0.2']),
    'dnat to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }',
  );
});

function overlay(services: OverlayService[]): NftTable {
  return overlayTables({ services } as unknown as OverlayState)[0];
}

test('a service is a chain; without backends it refuses; without address it is nothing', () => {
  const found = overlay([
    { serviceId: 'web', virtualAddress: '10.0.0.100', backends: ['10.0.0.12', '10.0.0.11'] },
    { serviceId: 'idle', virtualAddress: '10.0.0.101', backends: [] },
    { serviceId: 'dnsrr', virtualAddress: '', backends: ['10.0.0.13'] },
  ]);
  assert.deepEqual(
    [...found.chains],
    [['svc_web', ['dnat to numgen random mod 2 map { 0 : 10.0.0.11, 1 : 10.0.0.12 }']]],
  );
  assert.deepEqual([...(found.elements.get('services') ?? [])], [['10.0.0.100', 'jump svc_web']]);
  assert.deepEqual([...(found.elements.get('empty')?.keys() ?? [])], ['10.0.0.101']);
  assert.deepEqual([...(found.elements.get('backends')?.keys() ?? [])].sort(), [
    '10.0.0.11 . 10.0.0.11',
    '10.0.0.12 . 10.0.0.12',
  ]);
});

test('the order in which backends are told changes nothing', () => {
  const service = { serviceId: 'web', virtualAddress: '10.0.0.100' };
  const left = overlay([{ ...service, backends: ['10.0.0.12', '10.0.0.11'] }]);
  const right = overlay([{ ...service, backends: ['10.0.0.11', '10.0.0.12'] }]);
  assert.equal(diffTable(left, right), '');
});

test('a drained backend changes its service chain and leaves the others alone', () => {
  const service = { serviceId: 'web', virtualAddress: '10.0.0.100' };
  const other = { serviceId: 'api', virtualAddress: '10.0.0.101', backends: ['10.0.0.20'] };
  const before = overlay([{ ...service, backends: ['10.0.0.11', '10.0.0.12'] }, other]);
  const after = overlay([{ ...service, backends: ['10.0.0.12'] }, other]);
  assert.deepEqual(diffTable(before, after).trim().split('\n'), [
    'flush chain ip tsswarm svc_web',
    'add rule ip tsswarm svc_web dnat to 10.0.0.12',
    'delete element ip tsswarm backends { 10.0.0.11 . 10.0.0.11 }',
  ]);
});

test('chains that drop forwarded packets are found in a listing', () => {
  const listing = `table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table inet fw {
	chain forward {
		type filter hook forward priority 0; policy accept;
	}
}
`;
  assert.deepEqual(droppingForwardChains(listing), ['ip filter FORWARD']);
});
