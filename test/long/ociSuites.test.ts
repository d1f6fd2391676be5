/**
 * The public suites of runc and crun against tsswarm-oci, where RUNC_CHECKOUT and CRUN_CHECKOUT
 * name checkouts: skipped visibly without. The table and every failure go to the standard error;
 * failures that are known, and their reasons, are in docs/oci.md.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCrunSuite, runRuncSuite, tableOf } from '../oci/suites.ts';

const RUNTIME = 'dist/tsswarm-oci';
const SUITES = [
  { name: 'runc', checkout: process.env.RUNC_CHECKOUT, run: runRuncSuite, least: 135 },
  { name: 'crun', checkout: process.env.CRUN_CHECKOUT, run: runCrunSuite, least: 73 },
] as const;

for (const { name, checkout, run, least } of SUITES) {
  const skip = checkout === undefined && `${name.toUpperCase()}_CHECKOUT names no checkout`;
  test(`at least ${least} of ${name}'s own tests pass`, { skip }, () => {
    const work = mkdtempSync(join(tmpdir(), `oci-${name}-`));
    try {
      const results = run({ runtime: RUNTIME, checkout: checkout ?? '', work });
      process.stderr.write(`${tableOf(results)}\n`);
      for (const { file, name: title, outcome, output } of results) {
        if (outcome === 'failed') process.stderr.write(`${file}: ${title}\n${output}\n`);
      }
      const passed = results.filter(({ outcome }) => outcome === 'passed').length;
      assert.ok(passed >= least, `${passed} of ${results.length} passed`);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}
