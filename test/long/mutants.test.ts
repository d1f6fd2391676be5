/**
 * Every planted bug is caught by the simulation, or by the replays of etcd's conversations where
 * RAFT_CHECKOUT names a checkout of them. The table goes to the standard error.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const COMMAND = fileURLToPath(new URL('../mutants/main.js', import.meta.url));

test('no planted bug survives', async () => {
  const child = spawn(process.execPath, [COMMAND], { stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.pipe(process.stderr);
  const [code] = await once(child, 'close');
  assert.equal(code, 0);
});
