/**
 * Runs in the copy: simulates the seeds FROM..TO for TICKS ticks each, and says of every run in one
 * line of JSON how it ended. Stops at the first that fails.
 */
import { simulate } from '../sim/simulation.ts';

/** What is said of one run. */
export interface RunReport {
  readonly seed: number;
  readonly elections: number;
  readonly failure: {
    readonly kind: string;
    readonly message: string;
    readonly atMs: number;
  } | null;
}

const [from, to, ticks] = process.argv.slice(2).map(Number);
for (let seed = from; seed <= to; seed += 1) {
  const { elections, failure = null } = await simulate({ seed, ticks });
  const report: RunReport = { seed, elections, failure };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  if (failure !== null) break;
}
