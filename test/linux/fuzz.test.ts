/**
 * A short run of every fuzz target, once from a fixed seed and once from a random one, which a
 * failure names; and of the shim's own readers in C, with sanitizers. `npm run fuzz` and
 * `npm run fuzz:shim` take longer.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { promisify } from 'node:util';
import { SystemRandom } from '../../base/random.ts';
import { fuzz } from '../fuzz/fuzz.ts';
import { TARGETS } from '../fuzz/targets.ts';
import { TOP } from '../tidy/sources.ts';

const run = promisify(execFile);
const FIXED_SEED = 1;
const RANDOM_SEED = new SystemRandom().below(2 ** 31);
const SECONDS = 1;
const SHIM_SECONDS = 1;
const FIXTURES = join(TOP, 'test', 'fixtures', 'fuzz');
/** The walkers are for `npm run fuzz:shim`: a process for each input comes not far in a second. */
const SHIM_TARGETS = readdirSync(FIXTURES)
  .filter((name) => name.startsWith('shim-') && name !== 'shim-walkers')
  .map((name) => name.slice('shim-'.length));

before(() => {
  execFileSync(join(TOP, 'test', 'fuzz', 'shim', 'build'), ['driver']);
});

for (const target of Object.keys(TARGETS)) {
  test(`${target}: whatever is read is a result or one clear error`, async (context) => {
    for (const seed of [FIXED_SEED, RANDOM_SEED]) {
      const { cases, refused } = await fuzz(target, seed, SECONDS);
      context.diagnostic(`${target}: seed ${seed}, ${cases} cases, ${refused} refused`);
      assert.ok(cases > 0);
    }
  });
}

for (const target of SHIM_TARGETS) {
  test(`the shim's ${target}: nothing read is out of bounds`, async (context) => {
    const kept = mkdtempSync(join(tmpdir(), `fuzz-shim-${target}-`));
    for (const seed of [FIXED_SEED, RANDOM_SEED]) {
      const args = [`-seconds=${SHIM_SECONDS}`, `-seed=${seed}`, `-artifact=${kept}/`];
      const program = join(TOP, 'dist', 'fuzz', 'driver', target);
      const { stderr } = await run(program, [...args, join(FIXTURES, `shim-${target}`)]);
      context.diagnostic(`${target}: ${stderr.trim().replaceAll('\n', ', ')}`);
    }
    rmSync(kept, { recursive: true });
  });
}
