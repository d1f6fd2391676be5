/**
 * A short run of every fuzz target, and of the shim's own readers in C, with sanitizers: always the
 * same cases, so that a change is refused for what it does and not by chance. `npm run fuzz` and
 * `npm run fuzz:shim` look for others, from random seeds.
 */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { promisify } from 'node:util';
import { fuzz } from '../fuzz/fuzz.ts';
import { TARGETS } from '../fuzz/targets.ts';
import { TOP } from '../tidy/sources.ts';

const run = promisify(execFile);
const SEEDS = [1, 2];
const SECONDS = 1;
const SHIM_SECONDS = 1;
/** A fast machine gets no further than one where these have all been run. */
const CASES = 3_000;
const SHIM_CASES = 20_000;
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
    for (const seed of SEEDS) {
      const { cases, refused } = await fuzz(target, seed, SECONDS, 0, CASES);
      context.diagnostic(`${target}: seed ${seed}, ${cases} cases, ${refused} refused`);
      assert.ok(cases > 0);
    }
  });
}

for (const target of SHIM_TARGETS) {
  test(`the shim's ${target}: nothing read is out of bounds`, async (context) => {
    const kept = mkdtempSync(join(tmpdir(), `fuzz-shim-${target}-`));
    for (const seed of SEEDS) {
      const args = [
        `-seconds=${SHIM_SECONDS}`,
        `-runs=${SHIM_CASES}`,
        `-seed=${seed}`,
        `-artifact=${kept}/`,
      ];
      const program = join(TOP, 'dist', 'fuzz', 'driver', target);
      const { stderr } = await run(program, [...args, join(FIXTURES, `shim-${target}`)]);
      context.diagnostic(`${target}: ${stderr.trim().replaceAll('\n', ', ')}`);
    }
    rmSync(kept, { recursive: true });
  });
}
