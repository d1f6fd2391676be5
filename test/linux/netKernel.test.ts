/**
 * The kernel's doors by themselves: netlink, and nftables with and without its library.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const NFTABLES = fileURLToPath(new URL('../support/netNftables.js', import.meta.url));
const LINKS = fileURLToPath(new URL('../support/netLinks.js', import.meta.url));

test('netlink messages by the thousand are done, and the kernel is read back', () => {
  const output = execFileSync('unshare', ['--net', process.execPath, LINKS], { encoding: 'utf8' });
  const found = JSON.parse(output);
  assert.deepEqual(found.link, { mtu: 1400, mac: '02:00:00:00:00:01', alias: 'ours', up: true });
  assert.deepEqual(found.addresses, ['10.0.0.1/24', '10.0.0.2/24']);
  assert.deepEqual([found.routes, found.neighbours], [1000, 1000]);
  assert.deepEqual(found.tabled, [
    {
      destination: '10.2.0.1',
      prefixLength: 32,
      gateway: '10.9.9.9',
      linkIndex: found.index,
      source: '10.0.0.1',
      table: 100_001,
    },
  ]);
  assert.equal(found.failure.errno, 'ENODEV');
  assert.match(found.failure.message, /^set link nowhere up: ENODEV/);
  assert.deepEqual(found.left, []);
});

test('nftables does the same through its library and through its command', () => {
  const output = execFileSync('unshare', ['--net', process.execPath, NFTABLES], {
    encoding: 'utf8',
  });
  const [library, command] = JSON.parse(output) as {
    listing: string;
    error: string;
    grew: boolean;
    inherited: number;
  }[];
  assert.match(library.listing, /numgen random mod 2 map/);
  assert.equal(library.listing, command.listing);
  for (const result of [library, command]) {
    assert.match(result.error, /No such file or directory/);
    assert.ok(result.grew);
    assert.equal(result.inherited, 0, 'a child process would hold the namespace');
  }
});
