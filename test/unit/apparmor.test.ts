/** The compiler of AppArmor's profiles as a program that may fail or hang. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { feed } from '../../runtime/sys/apparmor.ts';

test('a parser of profiles that hangs is killed, whoever holds its output, and one that fails told', async () => {
  const shell = (script: string): readonly string[] => ['-c', script];
  await assert.rejects(
    feed('/bin/sh', shell('sleep 5 & exec sleep 600'), 300),
    /^Error: \/bin\/sh did not end within 300 ms$/,
  );
  await assert.rejects(
    feed('/bin/sh', shell('echo broken >&2; exit 3')),
    /^Error: \/bin\/sh ended with 3: broken$/,
  );
  await assert.rejects(feed('/bin/sh', shell('kill -TERM $$')), /was ended by SIGTERM$/);
  await feed('/bin/sh', shell('grep -q "deny mount"'));
});
