/** Whose subordinate ids containers have: the account files as users write them. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { userRemap as remapOf } from '../../daemon/userRemap.ts';
import type { IdMaps } from '../../runtime/container/specRecords.ts';

function files(t: TestContext, given: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'remap-'));
  t.after(() => rmSync(directory, { recursive: true }));
  for (const [name, text] of Object.entries(given)) writeFileSync(join(directory, name), text);
  return directory;
}

function userRemap(text: string, directory: string): IdMaps {
  return remapOf(text, directory).maps;
}

const ACCOUNTS = {
  passwd: 'root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n',
  group: 'root:x:0:\nann:x:1000:\nstaff:x:50:\n',
};

test('ranges of a user and of a group, by name or number, follow each other inside', (t) => {
  const directory = files(t, {
    ...ACCOUNTS,
    subuid: '# comment\nbob:1:5\nann:100000:10\n1000:300000:20\nann:broken:3\n',
    subgid: 'ann:200000:30\nstaff:400000:40\n',
  });
  const uids = [
    { inside: 0, outside: 100_000, count: 10 },
    { inside: 10, outside: 300_000, count: 20 },
  ];
  const own = [{ inside: 0, outside: 200_000, count: 30 }];
  const staff = [{ inside: 0, outside: 400_000, count: 40 }];
  assert.deepEqual(userRemap('ann', directory), { uids, gids: own });
  assert.deepEqual(userRemap('1000:50', directory), { uids, gids: staff });
  assert.deepEqual(userRemap('ann:staff', directory), { uids, gids: staff });
});

test('default gets ranges behind all others, once', (t) => {
  const directory = files(t, { ...ACCOUNTS, subuid: 'ann:100000:65536\nbob:200000:65536\n' });
  const uids = [{ inside: 0, outside: 265_536, count: 65_536 }];
  const gids = [{ inside: 0, outside: 100_000, count: 65_536 }];
  const chosen = remapOf('default', directory);
  assert.deepEqual(chosen.maps, { uids, gids });
  assert.equal(existsSync(join(directory, 'subgid')), false, 'nothing is written before it counts');
  for (const { maps, reserve } of [chosen, remapOf('default', directory)]) {
    assert.deepEqual(maps, { uids, gids });
    reserve();
    reserve();
  }
  const text = readFileSync(join(directory, 'subuid'), 'utf8');
  assert.equal(text, 'ann:100000:65536\nbob:200000:65536\ndockremap:265536:65536\n');
});

test('what is missing is said', (t) => {
  const directory = files(t, { ...ACCOUNTS, subuid: 'ann:0:65536\n' });
  assert.throws(() => userRemap('eve', directory), /there is no user eve/);
  assert.throws(() => userRemap('ann:nobody', directory), /there is no group nobody/);
  assert.throws(() => userRemap('ann', directory), /ann has no range in .*subuid: add a line/);
  for (const text of [':', 'a:b:c d', '../x', 'a b']) {
    assert.throws(() => userRemap(text, directory), /invalid --userns-remap/, text);
  }
});
