/**
 * A daemon's stand-in for tests that kill it: opens a table on the roots given as JSON, starts the
 * containers given there, prints one line when all run, and stays until it is killed.
 */

import { SystemClock } from '../../base/clock.ts';
import { createLog } from '../../base/log.ts';
import { SystemRandom } from '../../base/random.ts';
import { openContainerTable } from '../../runtime/container/table.ts';
import type { ContainerConfig } from '../../runtime/container/types.ts';

export interface TableChildRequest {
  readonly dataRoot: string;
  readonly execRoot: string;
  readonly cgroupParent: string;
  readonly configs: readonly ContainerConfig[];
}

const request = JSON.parse(process.argv[2]) as TableChildRequest;
const clock = new SystemClock();
const table = await openContainerTable({
  dataRoot: request.dataRoot,
  execRoot: request.execRoot,
  cgroupParent: request.cgroupParent,
  clock,
  random: new SystemRandom(),
  log: createLog('error'),
});
for (const config of request.configs) {
  const container = await table.create(config);
  await container.start();
}
process.stdout.write('running\n');
const HOUR_MS = 3_600_000;
await clock.sleep(HOUR_MS);
