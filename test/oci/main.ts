/**
 * Runs the public OCI suites against a runtime and prints what passed: `test/oci/run [--runtime
 * PATH] [--only NAME] [--verbose] [--without-unified]`, with RUNC_CHECKOUT and CRUN_CHECKOUT naming
 * the checkouts.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  type CaseResult,
  runCrunSuite,
  runRuncSuite,
  type SuiteOptions,
  tableOf,
} from './suites.ts';

const { values } = parseArgs({
  options: {
    runtime: { type: 'string', default: 'dist/tsswarm-oci' },
    only: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    'without-unified': { type: 'boolean', default: false },
  },
});

const SUITES = [
  ['runc', process.env.RUNC_CHECKOUT, runRuncSuite],
  ['crun', process.env.CRUN_CHECKOUT, runCrunSuite],
] as const;

function show(results: readonly CaseResult[]): void {
  for (const { file, name, outcome, output } of results) {
    if (outcome !== 'failed') continue;
    console.log(`FAILED ${file}: ${name}`);
    if (values.verbose) console.log(output.replace(/^/gm, '    '));
  }
}

if (SUITES.every(([, checkout]) => checkout === undefined)) {
  console.error('give the checkouts: RUNC_CHECKOUT=... CRUN_CHECKOUT=... test/oci/run');
  process.exit(1);
}
for (const [name, checkout, run] of SUITES) {
  if (checkout === undefined) continue;
  const work = mkdtempSync(join(tmpdir(), 'oci-suite-'));
  try {
    const options: SuiteOptions = {
      runtime: values.runtime,
      checkout,
      work,
      only: values.only,
      withoutUnified: values['without-unified'],
      onFile: show,
    };
    console.log(`${name}'s suite on ${values.runtime}\n${tableOf(run(options))}\n`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
