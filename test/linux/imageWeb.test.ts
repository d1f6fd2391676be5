/**
 * The project's own image: built offline with the same bytes each time, loadable, and its program
 * serves, drains, fetches and fails as its help says.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once as happens } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../support/freePort.ts';
import { openStore, scratchDirectory, sha256 } from '../support/images.ts';

/** Builds the archive with this compiled tree's packer, in a directory of its own. */
function build(t: TestContext): string {
  const dist = scratchDirectory(t);
  const compiled = fileURLToPath(new URL('../../', import.meta.url));
  fs.symlinkSync(path.join(compiled, 'deploy'), path.join(dist, 'deploy'));
  execFileSync('deploy/images/build', [dist], { stdio: ['ignore', 'ignore', 'inherit'] });
  return path.join(dist, 'images', 'web.tar');
}

async function unpackedProgram(t: TestContext): Promise<string> {
  const store = await openStore(t, scratchDirectory(t));
  const [image] = await store.load(fs.createReadStream(build(t)));
  assert.deepEqual(image.tags, ['docker.io/tsswarm/web:latest']);
  assert.deepEqual([...image.config.entrypoint, ...image.config.cmd], ['/web', 'serve']);
  assert.deepEqual(image.config.exposedPorts, ['80/tcp']);
  const [layer] = await store.layers(image.id);
  assert.equal(fs.readlinkSync(`${layer}/bin/web`), '../web');
  return `${layer}/web`;
}

test('the web image is built twice with the same bytes', (t) => {
  assert.equal(sha256(fs.readFileSync(build(t))), sha256(fs.readFileSync(build(t))));
});

test('the web program tells who it is, and ends the answers under way on SIGTERM', async (t) => {
  const web = await unpackedProgram(t);
  const port = String(await freePort());
  const env = { TASK_NAME: 'web.1.abc', NODE_HOSTNAME: 'h1' };
  const server = spawn(web, ['serve', port], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => server.kill('SIGKILL'));
  const ended = happens(server, 'exit');
  await happens(server.stdout, 'data');
  const base = `http://127.0.0.1:${port}`;
  const twice = execFileSync(web, ['get', `${base}/`, '2'])
    .toString()
    .trim()
    .split('\n');
  assert.equal(twice.length, 2);
  for (const line of twice) {
    assert.match(line, /^task=web\.1\.abc host=h1 container=\S+ client=127\.0\.0\.1:\d+$/);
  }
  assert.equal(await (await fetch(`${base}/health`)).text(), 'ok\n');
  assert.equal((await fetch(`${base}/none`)).status, 404);
  assert.equal(spawnSync(web, ['get', `${base}/none`]).status, 1);
  assert.equal(spawnSync(web, ['udp', '127.0.0.1', port, 'ping']).stdout.toString(), 'ping\n');
  const slow = spawn(web, ['get', `${base}/slow/600`]);
  const slowEnded = happens(slow, 'exit');
  while ((await inFlight(port)) === 0); // its connection is there
  server.kill('SIGTERM');
  assert.deepEqual(await slowEnded, [0, null]);
  assert.deepEqual(await ended, [0, null]);
  assert.equal(spawnSync(web, ['get', `${base}/`, '--timeout', '500']).status, 1);
});

/** Established connections at the server's port, as the kernel lists them. */
async function inFlight(port: string): Promise<number> {
  const wanted = `:${Number(port).toString(16).toUpperCase().padStart(4, '0')}`;
  const tables = await Promise.all(
    ['tcp', 'tcp6'].map((name) => fs.promises.readFile(`/proc/net/${name}`, 'utf8')),
  );
  const rows = tables
    .join('\n')
    .split('\n')
    .map((row) => row.trim().split(/\s+/));
  return rows.filter((row) => row[1]?.endsWith(wanted) && row[3] === '01').length;
}

test('the small tools of the web program end as told', async (t) => {
  const web = await unpackedProgram(t);
  const status = (...args: string[]): number | null => spawnSync(web, args).status;
  assert.equal(status('fail', '7', '10'), 7);
  assert.equal(status('sleep', '0.01'), 0);
  assert.equal(status('nonsense'), 2);
  assert.equal(status('get'), 2);
  assert.equal(status('dns', 'no.such.name.invalid'), 1);
  assert.equal(spawnSync(web, ['echo', 'a', 'b']).stdout.toString(), 'a b\n');
  assert.equal(spawnSync(web, ['crash']).signal, 'SIGILL');
  const tick = spawn(web, ['tick', '5']);
  await happens(tick.stdout, 'data');
  const ended = happens(tick, 'exit');
  tick.kill('SIGTERM');
  assert.deepEqual(await ended, [143, null]);
});
