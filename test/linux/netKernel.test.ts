/**
 * The kernel's doors by themselves: nftables with and without its library.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const NFTABLES = fileURLToPath(new URL('../support/netNftables.js', import.meta.url));

test('nftables does the same through its library and through its command', () => {
  const output = execFileSync('unshare', ['--net', process.execPath, NFTABLES], {
    encoding: 'utf8',
  });
  const [library, command] = JSON.parse(output) as {
    listing: string;
    error: string;
    grew: boolean;
  }[];
  assert.match(library.listing, /numgen random mod 2 map/);
  assert.equal(library.listing, command.listing);
  for (const result of [library, command]) {
    assert.match(result.error, /No such file or directory/);
    assert.ok(result.grew);
  }
});
